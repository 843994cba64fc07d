/* Captures by a thread that does not have the one GIL, see tracer_alone.c. */

#ifndef Py_INTERNAL_TRACER_ALONE_H
#define Py_INTERNAL_TRACER_ALONE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tstate.h"                // _PyThreadStateImpl
#include "pycore_tracer_shadow.h"
#include "pycore_tracer_walk.h"

/* Node of the current stack of the calling thread, whose state may be
   detached; found at once if nothing has changed since it was asked for last.
   NONE: no memory, or the thread is hidden.  Locked. */
extern uint32_t _PyTracer_CaptureAgain(PyThreadState *tstate);

/* The same at a glance, NONE: it takes more than that.  Not for a handler of a
   signal that has interrupted a capture, nor for a state that may be gone. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_SameNode(const PyThreadState *tstate)
{
    const struct _PyTracer_top *top =
        &((const _PyThreadStateImpl *)tstate)->tracer;
    const _PyInterpreterFrame *frame = _PyTracer_TopFrame(tstate);
    return frame != NULL && frame == top->native.frame
           && frame->instr_ptr == top->native.instr
           && _PyTracer_RunsMarked(frame)
           ? top->native.node : TRACER_NODE_NONE;
}

/* The next time, this is the node at a glance. */
static inline void
_PyTracer_KeepNode(PyThreadState *tstate, uint32_t node)
{
    struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    const _PyInterpreterFrame *frame = _PyTracer_TopFrame(tstate);
    if (frame != NULL) {
        top->native.frame = frame;
        top->native.instr = frame->instr_ptr;
        top->native.node = node;
    }
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ALONE_H */
