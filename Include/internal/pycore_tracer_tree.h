/* The call tree, see tracer_tree.c.  Locked.  TRACER_NODE_NONE: no memory.

   A node is (parent, location) and carries the counters of the blocks that
   were allocated there.  Nodes, and what goes with them, lie in reserved
   ranges of addresses, in which chunks come to use one by one.  They move in
   tracer_prune.c alone. */

#ifndef Py_INTERNAL_TRACER_TREE_H
#define Py_INTERNAL_TRACER_TREE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_location.h"
#include "pycore_tracer_state.h"

#define TRACER_NODE_BITS 22       // of the number of a node
#define TRACER_NODE_NONE 0        // not traced
#define TRACER_NODE_UNKNOWN 1     // no Python frame: "<unknown>", line 0
#define TRACER_NODE_PARKED 2      // + enum _PyTracer_freelist
#define TRACER_NODE_MAPPED 31     // of TRACER_ENTRY_MAPPED alone
#define TRACER_NODE_FIRST 32      // first node of the tree proper
static_assert(TRACER_NODE_PARKED + _PyTracer_NFREELISTS
              <= TRACER_NODE_MAPPED, "too many free lists");

#define TRACER_CHUNK_BITS 12
#define TRACER_CHUNK_NODES (1u << TRACER_CHUNK_BITS)
#define TRACER_MAX_NODES (1u << TRACER_NODE_BITS)
#define TRACER_MAX_CHUNKS (TRACER_MAX_NODES / TRACER_CHUNK_NODES)
#define TRACER_PRUNE_AT (1u << 20)      // nodes, see tracer_prune.c

/* `parent` of a node that starts a path at stack depth D > 0 (see
   tracer_stack.c) is TRACER_TRUNCATED | D; of one that starts at the oldest
   frame, 0.  With a limit of one frame, D is that of the first block. */
#define TRACER_TRUNCATED 0x80000000u

/* Counts the small blocks, in half a cache line: a program has tens of
   thousands of nodes, and the hot ones should stay in the cache.  Protected
   by the GIL. */
struct tracer_node {
    uint32_t alloc_bytes;         // allocated and freed since the last spill;
    uint32_t alloc_blocks;        //   as a block has a byte at least, blocks
    uint32_t free_bytes;          //   never wrap before bytes
    uint32_t free_blocks;
    uint32_t saved;               // number of the value saved at the peak, if
                                  //   >= _PyTracer.epoch; else the live
                                  //   values are the peak's
    uint32_t parent;              // node, see TRACER_TRUNCATED
    uint32_t location;            // index of tracer_location; constant
    uint32_t rare;                // index of its tracer_rare, 0: none; lock
};
static_assert(sizeof(struct tracer_node) == 32, "half a cache line");

/* What was ever allocated and freed. */
struct tracer_counts {
    uint64_t alloc_bytes;
    uint64_t alloc_blocks;
    uint64_t free_bytes;
    uint64_t free_blocks;
};

/* A number of bytes and blocks. */
struct tracer_sum {
    uint64_t bytes;
    uint64_t blocks;
};

/* Values of a node that its own numbers are too small for. */
struct tracer_spill {
    struct tracer_counts counts;
    struct tracer_sum saved;
};

/* A value of the peak: blocks << TRACER_SAVED_SHIFT | bytes, or that it was
   spilled. */
#define TRACER_SAVED_SHIFT 19
#define TRACER_SAVED_SPILLED UINT32_MAX

static inline struct tracer_sum
_PyTracer_UnpackSaved(uint32_t packed)
{
    return (struct tracer_sum){
        .bytes = packed & ((1u << TRACER_SAVED_SHIFT) - 1),
        .blocks = packed >> TRACER_SAVED_SHIFT};
}

/* Rare counters, which few nodes have: of blocks in the address map, and of
   blocks that were cyclic garbage.  Number 0 is that of all other nodes,
   always zero.  Protected by the lock, but for the garbage. */
struct tracer_rare {
    struct tracer_counts counts;
    struct tracer_sum peak;       // if peak_epoch == _PyTracer.epoch
    uint32_t peak_epoch;
    struct tracer_sum garbage;    // small blocks and mapped ones; GIL
};

struct tracer_call_tree {
    uint32_t nnodes;              // next node; the nodes are _PyTracer.nodes;
                                  //   lock
    uint32_t max_nodes;           // as many as the reserved range holds
    uint32_t nrares;              // lock
    uint32_t first_saved;         // number of the first one of this epoch
    uint32_t next_saved;          // number of the next value to save; GIL
    uint32_t most_saved;          // values in one of the epochs before; GIL
    uint32_t *saved;              // by number - epoch; GIL
    struct tracer_spill *spills;  // by node; GIL
    struct tracer_rare *rares;    // by number; lock
    uint32_t prune_at;            // nodes; lock
    uint32_t must_prune;          // before the next new node; GIL
    uint64_t folded;              // frames folded by recursion; lock
    uint64_t pruned;              // nodes that were given back; lock
};
extern struct tracer_call_tree _PyTracer_tree;

/* Was `spills` ever written for a node of this chunk?  The others need not be
   read, which would cost a page fault a page.  GIL. */
extern uint8_t _PyTracer_chunk_spilled[TRACER_MAX_CHUNKS];

extern int _PyTracer_TreeInit(void);
extern void _PyTracer_TreeClear(void);
extern uint32_t _PyTracer_Child(uint32_t parent, uint32_t location);
extern size_t _PyTracer_TreeMemory(void);     // bytes touched
/* All nodes have other numbers now. */
extern void _PyTracer_ReindexTree(void);
/* Give the node rare counters, if it has none. */
extern void _PyTracer_MakeRare(uint32_t node);
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

/* Of the small blocks of a node, with those that were spilled, or NULL. */
static inline struct tracer_counts
_PyTracer_AddSpilled(const struct tracer_node *node,
                     const struct tracer_counts *spilled)
{
    struct tracer_counts counts = {node->alloc_bytes, node->alloc_blocks,
                                   node->free_bytes, node->free_blocks};
    if (spilled != NULL) {
        counts.alloc_bytes += spilled->alloc_bytes;
        counts.alloc_blocks += spilled->alloc_blocks;
        counts.free_bytes += spilled->free_bytes;
        counts.free_blocks += spilled->free_blocks;
    }
    return counts;
}

static inline struct tracer_counts
_PyTracer_Counts(uint32_t id)
{
    return _PyTracer_AddSpilled(
        _PyTracer_Node(id), _PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS]
                            ? &_PyTracer_tree.spills[id].counts : NULL);
}

static inline struct tracer_sum
_PyTracer_Live(const struct tracer_counts *counts)
{
    return (struct tracer_sum){counts->alloc_bytes - counts->free_bytes,
                               counts->alloc_blocks - counts->free_blocks};
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TREE_H */
