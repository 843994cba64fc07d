/* Nodes are given back, see tracer_prune.c. */

#ifndef Py_INTERNAL_TRACER_PRUNE_H
#define Py_INTERNAL_TRACER_PRUNE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_stack.h"

/* Node of the current stack, where CaptureSlow() found none: after the tree is
   pruned, if that is due and nobody holds HEAD_LOCK; numbers of nodes are void
   then.  NONE: no memory.  The one GIL held, not locked. */
extern uint32_t _PyTracer_CapturePruned(PyThreadState *tstate);

/* Node of the current stack, or NONE if the tracer is out of memory.  The one
   GIL held, not locked. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_Capture(PyThreadState *tstate)
{
    uint32_t node = _PyTracer_CaptureFast(tstate, _PyTracer.whole);
    if (node == TRACER_NODE_NONE) {
        node = _PyTracer_CaptureSlow(tstate);
    }
    return node != TRACER_NODE_NONE ? node : _PyTracer_CapturePruned(tstate);
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_PRUNE_H */
