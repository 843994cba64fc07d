/* Captures by a thread that does not have the one GIL, see tracer_alone.c. */

#ifndef Py_INTERNAL_TRACER_ALONE_H
#define Py_INTERNAL_TRACER_ALONE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_walk.h"

/* Node of the current stack of the calling thread, whose state may be
   detached; found at once if nothing has changed since it was asked for last.
   NONE: no memory, or the thread is hidden.  Locked. */
extern uint32_t _PyTracer_CaptureAgain(PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ALONE_H */
