/* The node of the current stack, see tracer_stack.c. */

#ifndef Py_INTERNAL_TRACER_STACK_H
#define Py_INTERNAL_TRACER_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tstate.h"                // _PyThreadStateImpl
#include "pycore_tracer_cache.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_walk.h"

/* Node of the current stack; NONE if the tracer is out of memory, or the tree
   is to be pruned first, or the thread is hidden.  The one GIL held, not
   locked. */
extern uint32_t _PyTracer_CaptureSlow(PyThreadState *tstate);
extern void _PyTracer_ForgetStacks(void);     // GIL, HEAD_LOCK and locked
/* Of one thread; locked. */
extern void _PyTracer_ForgetStack(PyThreadState *tstate);

/* Node of the current stack if it can be found at a glance, else NONE.  The
   one GIL held, not locked.  With a limit of one frame, the instruction alone
   decides.  Otherwise (`whole`), if the top frame is that of the last capture,
   only its instruction can have changed, see tracer_stack.c. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_CaptureFast(PyThreadState *tstate, int whole)
{
    _PyInterpreterFrame *frame = _PyTracer_TopFrame(tstate);
    if (frame == NULL) {
        return TRACER_NODE_NONE;
    }
    uint32_t parent = 0;
    if (whole) {
        const struct _PyTracer_top *top =
            &((_PyThreadStateImpl *)tstate)->tracer;
        if (frame != top->frame || !_PyTracer_RunsMarked(frame)) {
            return TRACER_NODE_NONE;
        }
        parent = top->parent;
    }
    const struct tracer_cache_line *line =
        _PyTracer_CacheLine(frame->instr_ptr, parent);
    assert(whole || line->parent == 0);
    if (line->instr != frame->instr_ptr || (whole && line->parent != parent))
    {
        return TRACER_NODE_NONE;
    }
    assert(_PyTracer_IsPathOf(line->node, tstate));
    return line->node;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_STACK_H */
