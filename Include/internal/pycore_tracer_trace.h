/* The trace of one block, looked up while the program runs. */

#ifndef Py_INTERNAL_TRACER_TRACE_H
#define Py_INTERNAL_TRACER_TRACE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

struct tracer_trace {
    size_t size;                  // requested bytes
    uint32_t node;
    uint32_t nframe;              // frames that a traceback shows, >= 1
    uint32_t kind;                // enum tracer_kind
};

/* Find a live block; 0 if it is not traced (or parked).  Locked; GIL held,
   or the block may only be found in the address map. */
extern int _PyTracer_FindBlock(unsigned int domain, uintptr_t ptr,
                               struct tracer_trace *trace);

/* Frames on the path of a node, at most the limit. Locked. */
extern uint32_t _PyTracer_NFrames(uint32_t node);

extern const struct tracer_location *_PyTracer_LocationAt(uint32_t node);
extern const struct tracer_string *_PyTracer_FilenameOf(
    const struct tracer_location *location);

/* New reference to a tuple of (filename, lineno) tuples, most recent first,
   or None.  GIL held, not locked. */
extern PyObject *_PyTracer_GetTraceback(unsigned int domain, uintptr_t ptr);

/* The same, with (filename, lineno, function, end_lineno, colno, end_colno)
   tuples, as (size, total_nframe, frames); None if not traced. */
extern PyObject *_PyTracer_GetTrace(PyObject *obj);

/* --- tracer_visit.c.  Exported for the shared extension _testtracer. */

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

/* What the counters of a node say of its blocks.  GIL held. */
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

/* Start with the whole stack; 0, or -1 with an exception. GIL held. */
extern int _PyTracer_StartFull(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TRACE_H */
