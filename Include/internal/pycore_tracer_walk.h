/* Captures by a walk of the whole stack, see tracer_walk.c. */

#ifndef Py_INTERNAL_TRACER_WALK_H
#define Py_INTERNAL_TRACER_WALK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"

/* What PyGILState_GetThisThreadState() returns: the state of this thread, also
   while it is detached.  From 3.15 on CPython has this, before a patch does. */
extern _Py_thread_local PyThreadState *_Py_tss_gilstate;
/* This thread's state without asking for the GIL, and its top frame; NULL if
   it has none. */
extern PyThreadState *_PyTracer_OwnThreadState(void);
extern _PyInterpreterFrame *_PyTracer_OwnTopFrame(PyThreadState *tstate);
/* Node of the current stack by a walk of the whole stack of the calling
   thread, whose state may be NULL or detached. */
extern uint32_t _PyTracer_CaptureLocked(PyThreadState *tstate);
/* Node for native memory of a thread that Python does not know. */
extern uint32_t _PyTracer_NativeThread(void);
/* A block of this thread is not traced.  -1, and counted: there was no memory;
   0: the thread is hidden. */
extern int _PyTracer_CountUntraced(void);
extern void _PyTracer_ForgetWalk(void);
/* Node for allocations of the thread without a Python frame.  Not locked. */
extern uint32_t _PyTracer_NoFrame(PyThreadState *tstate);
/* Of the whole stack; needs no lock. */
extern uint32_t _PyTracer_CountFrames(_PyInterpreterFrame *frame);
#ifndef NDEBUG
/* Does a walk find the same path as a capture?  This checks some frames, and
   now and then all of them.  Not locked. */
extern int _PyTracer_IsPathOf(uint32_t node, PyThreadState *tstate);
#endif

/* With a limit of one frame, only the depth of the stack at the first
   allocation at the location is known. */
static inline void
_PyTracer_NoteDepth(uint32_t id, _PyInterpreterFrame *frame)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->parent == 0) {
        node->parent =
            _PyTracer_BaseParent(_PyTracer_CountFrames(frame) - 1);
    }
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_WALK_H */
