/* The call tree of a snapshot, see tracer_take_tree.c. */

#ifndef Py_INTERNAL_TRACER_TAKE_TREE_H
#define Py_INTERNAL_TRACER_TAKE_TREE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_rooms.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_tree.h"

/* The tables of the tree as they were at the moment; they lie in rooms. */
struct tracer_tree_copy {
    uint32_t nnodes;
    uint32_t epoch;               // UINT32_MAX: there is none
    const struct tracer_node *nodes;
    const uint32_t *saved;
    const struct tracer_rare *rares;
    const struct tracer_counts *natives;
    const struct tracer_spill *spills; // of some chunks
    uint16_t spills_at[TRACER_MAX_CHUNKS];      // number from 1, 0: none
};

/* First copy the tables, locked.  Then make nodes of the copies; needs no
   GIL.  Both: 0, or -1: no memory. */
extern int _PyTracer_CopyTree(struct tracer_snapshot *s,
                              struct tracer_tree_copy *tree,
                              struct tracer_rooms *rooms);
extern int _PyTracer_WriteTree(struct tracer_snapshot *s,
                               const struct tracer_tree_copy *tree,
                               struct tracer_rooms *rooms);

/* Number of a node in a snapshot: the tracer's numbers start with the unknown
   node and the free lists. */
static inline uint32_t
_PyTracer_NodeNumber(uint32_t id)
{
    return id == TRACER_NODE_UNKNOWN ? 0 : id - TRACER_NODE_FIRST + 1;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TAKE_TREE_H */
