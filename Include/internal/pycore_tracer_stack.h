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
#include "pycore_tracer_walk.h"

/* Node of the current stack; NONE if the tracer is out of memory, or the tree
   is to be pruned first.  The one GIL held, not locked. */
extern uint32_t _PyTracer_CaptureSlow(PyThreadState *tstate);
extern void _PyTracer_ForgetStacks(void);     // GIL, HEAD_LOCK and locked

/* Frames that an extension has made with its own copy of CPython's initialiser
   begin with any mark.  Their other fields say that the interpreter does not
   run them: it leaves -1 in stacktop of a frame that runs, and nonzero in
   return_offset of one that waits for a frame which it calls without C code
   between.  (_PyEval_EvalFrameDefault() clears the mark first.) */
static inline Py_ALWAYS_INLINE int
_PyTracer_RunsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark && frame->stacktop < 0;
}

static inline int
_PyTracer_IsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark
           && (frame->stacktop < 0 || frame->return_offset != 0);
}

/* Node of the current stack if that takes no more than a look, else NONE.
   The one GIL held, not locked.  A limit of one frame needs the
   instruction alone; else (`whole`) only the top frame's instruction can have
   changed if that frame is the one of the last capture, see tracer_stack.c. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_CaptureFast(PyThreadState *tstate, int whole)
{
    _PyInterpreterFrame *frame = tstate->current_frame;
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
