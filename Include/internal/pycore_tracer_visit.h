/* All blocks, and all pools, see tracer_visit.c.  Functions are exported for
   the extension _testtracer. */

#ifndef Py_INTERNAL_TRACER_VISIT_H
#define Py_INTERNAL_TRACER_VISIT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

struct tracer_block {
    uintptr_t address;
    size_t size;                  // requested bytes
    uint32_t node;                // of a free list too, if it is parked there
    uint32_t kind;                // enum tracer_kind
    uint32_t domain;              // of PyTraceMalloc_Track()
};

/* Call visit() for each block; 0: tracing is off.  GIL held, not locked;
   visit() must not allocate. */
PyAPI_FUNC(int) _PyTracer_VisitBlocks(
    void (*visit)(const struct tracer_block *, void *arg), void *arg);

/* Nodes have numbers from 1 to below this; 0: tracing is off.  GIL held. */
PyAPI_FUNC(uint32_t) _PyTracer_CountNodes(void);

/* Read the counters of a node.  GIL held. */
PyAPI_FUNC(void) _PyTracer_GetLive(uint32_t node, uint64_t *blocks,
                                   uint64_t *bytes);

struct tracer_place {
    const char *filename;         // UTF-8
    int line;
};

/* The first n frames of a node that has blocks, most recent first; how many
   there are of them.  GIL held; valid until the next allocation. */
PyAPI_FUNC(uint32_t) _PyTracer_GetPath(uint32_t node,
                                       struct tracer_place *places,
                                       uint32_t n);

/* _PyTracer_VisitPools() for callers that do not hold the lock; GIL held. */
struct tracer_pool;
extern void _PyTracer_ShowPools(
    int (*visit)(const struct tracer_pool *pool, void *arg), void *arg);

/* Call visit() for each block of the object and memory domains of this
   interpreter, where that can be told.  The world is stopped. */
PyAPI_FUNC(void) _PyTracer_VisitHeaps(
    void (*visit)(uintptr_t address, void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_VISIT_H */
