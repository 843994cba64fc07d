/* What is worked out of a graph: who holds what.

   Node 0 is the root of all: it refers to what lives without being referred to
   by a node.  Nothing here needs a Python object or the GIL.  Functions that
   run out of memory return -1. */

#ifndef TRACER_GRAPH_H
#define TRACER_GRAPH_H

#include "snapshot.h"

struct snapshot_links {
    uint32_t nnodes;
    uint64_t *first;              // in targets, of each node and of the end
    uint32_t *targets;            // nodes that it refers to
    uint64_t *sizes;              // bytes of each node
};

/* --- dominators.c */
/* Of the nodes that can be reached from the root, in the order of a depth-first
   walk; numbers are positions in that order, the root's is 0. */
struct snapshot_dominators {
    uint32_t nreached;
    uint32_t *nodes;              // by number
    uint32_t *dominators;         // by number: the number of the closest node
                                  // through which all ways to it lead
    uint64_t *retained;           // by number: bytes that would go with it
};
extern int _PySnapshot_Dominators(const struct snapshot_links *links,
                                  struct snapshot_dominators *found);
extern void _PySnapshot_FreeDominators(struct snapshot_dominators *found);

#endif /* !TRACER_GRAPH_H */
