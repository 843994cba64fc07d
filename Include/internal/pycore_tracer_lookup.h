/* The trace of one block, looked up while the program runs. */

#ifndef Py_INTERNAL_TRACER_LOOKUP_H
#define Py_INTERNAL_TRACER_LOOKUP_H
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

/* New reference to a tuple of (filename, lineno) tuples, most recent first,
   or None.  GIL held, not locked. */
extern PyObject *_PyTracer_GetTraceback(unsigned int domain, uintptr_t ptr);

/* The same, with (filename, lineno, function, end_lineno, colno, end_colno)
   tuples, as (size, total_nframe, frames); None if not traced. */
extern PyObject *_PyTracer_GetTrace(PyObject *obj);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LOOKUP_H */
