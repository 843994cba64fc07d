/* The call tree, see tracer_tree.c.  Locked.  TRACER_NODE_NONE: no memory.

   A node is (parent, location) and has the counters of the blocks that were
   allocated there.  Nodes, and arrays that go with them, lie in reserved
   ranges of addresses, whose chunks are made usable one by one.  Nodes move
   only in tracer_prune.c. */

#ifndef Py_INTERNAL_TRACER_TREE_H
#define Py_INTERNAL_TRACER_TREE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_kept.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_state.h"

static_assert(TRACER_NODE_PARKED + _PyTracer_NFREELISTS
              <= TRACER_NODE_MAPPED, "too many free lists");

#define TRACER_CHUNK_BITS 12
#define TRACER_CHUNK_NODES (1u << TRACER_CHUNK_BITS)
#define TRACER_MAX_CHUNKS (TRACER_MAX_NODES / TRACER_CHUNK_NODES)

struct tracer_call_tree {
    uint32_t nnodes;              // next node; the nodes are _PyTracer.nodes;
                                  //   lock
    uint32_t max_nodes;           // as many as the reserved range holds
    uint32_t nrares;              // lock
    uint32_t nnatives;            // 0: there are none yet; lock
    uint32_t first_saved;         // number of the first one of this epoch
    uint32_t next_saved;          // number of the next value to save; GIL
    uint32_t most_saved;          // values in one of the epochs before; GIL
    uint32_t *saved;              // by number - epoch; GIL
    struct tracer_spill *spills;  // by node; GIL
    struct tracer_rare *rares;    // by number; lock
    uint32_t prune_least;         // nodes that are never too many
    struct tracer_counts *natives;      // by number, of native memory; lock
    uint32_t prune_at;            // nodes; lock
    uint32_t must_prune;          // before the next new node; GIL
    uint32_t spilling;            // odd while counters are spilled; atomic
    uint64_t folded;              // frames folded by recursion; lock
    uint64_t pruned;              // nodes that were given back; lock
};
extern struct tracer_call_tree _PyTracer_tree;

/* Was `spills` ever written for a node of this chunk?  Other chunks are not
   read, which would cost a page fault for each page.  GIL. */
extern uint8_t _PyTracer_chunk_spilled[TRACER_MAX_CHUNKS];

extern int _PyTracer_TreeInit(void);
extern void _PyTracer_TreeClear(void);
extern uint32_t _PyTracer_Child(uint32_t parent, uint32_t location);
extern size_t _PyTracer_TreeMemory(void);     // bytes touched
/* All nodes have other numbers now. */
extern void _PyTracer_ReindexTree(void);
/* Give the node rare counters, if it has none. */
extern void _PyTracer_MakeRare(uint32_t node);
/* Its counters of native memory, made if it has none; NULL: no memory. */
extern struct tracer_counts *_PyTracer_MakeNative(uint32_t node);
/* Make these bytes of an array usable, in the kept file as far as that goes;
   0, or -1. */
extern int _PyTracer_CommitArray(enum kept_array array, char *base,
                                 size_t from, size_t to);
/* Frames on the path of a node, at most the limit. Locked. */
extern uint32_t _PyTracer_NFrames(uint32_t node);
extern const struct tracer_location *_PyTracer_LocationAt(uint32_t node);
extern const char *_PyTracer_TreeFault(void);

/* `parent` of a node that starts a path at this depth of the stack. */
static inline uint32_t
_PyTracer_BaseParent(size_t depth)
{
    return depth == 0 ? 0 : TRACER_TRUNCATED | (uint32_t)depth;
}

static inline struct tracer_node *
_PyTracer_Node(uint32_t id)
{
    return &_PyTracer.nodes[id];
}

/* To read, or to write if the node has one. */
static inline struct tracer_rare *
_PyTracer_Rare(uint32_t id)
{
    return &_PyTracer_tree.rares[_PyTracer_Node(id)->rare];
}

/* The same for its counters of native memory. */
static inline struct tracer_counts *
_PyTracer_NativeCounts(uint32_t id)
{
    return &_PyTracer_tree.natives[_PyTracer_Rare(id)->native];
}

static inline struct tracer_counts
_PyTracer_Counts(uint32_t id)
{
    return _PyTracer_AddSpilled(
        _PyTracer_Node(id), _PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS]
                            ? &_PyTracer_tree.spills[id].counts : NULL);
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TREE_H */
