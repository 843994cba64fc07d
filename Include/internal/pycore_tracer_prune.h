/* Pruning of the call tree, see tracer_prune.c. */

#ifndef Py_INTERNAL_TRACER_PRUNE_H
#define Py_INTERNAL_TRACER_PRUNE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_stack.h"

/* Node of the current stack, if CaptureFast() has not found it.  The tree is
   pruned first if that is due and nobody holds HEAD_LOCK; that invalidates
   numbers of nodes. NONE: no memory, or the thread is hidden.  The one GIL
   held, not locked. */
extern uint32_t _PyTracer_CaptureOrPrune(PyThreadState *tstate);

/* The same by a walk of the whole stack, see pycore_tracer_walk.h: locked,
   with or without a GIL.  Where there is none, it prunes as well. */
extern uint32_t _PyTracer_CaptureAlone(PyThreadState *tstate);

/* Node of the current stack; NONE as above.  The one GIL held, not locked. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_Capture(PyThreadState *tstate)
{
    uint32_t node = _PyTracer_CaptureFast(tstate, _PyTracer.whole);
    return node != TRACER_NODE_NONE ? node : _PyTracer_CaptureOrPrune(tstate);
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_PRUNE_H */
