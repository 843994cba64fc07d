/* Capture by a thread that does not have the one GIL: it is detached, or there
   are several GILs or none.  Locked.

   While a thread is detached, nobody changes its Python stack.  If its top
   frame is on its shadow stack, everything below is as it was when the frame
   was captured, and the frame's entry knows the node of it: only the frame's
   own instruction may be another one.  Then that becomes the entry's last
   site, as in a capture with the GIL: the thread alone uses its shadow stack,
   but for what is done to all of them under the lock.

   Otherwise the stack is walked, and the frame gets the mark.  To let no other
   capture take this mark for its own, the shadow stack is forgotten.

   A library often allocates many blocks in one call, so the thread keeps the
   frame, the instruction and the node of the last one, with or without the
   GIL.  As long as that frame is the top one, at the same instruction and with
   its mark, the stack is the same: a frame that is pushed in its place, or a
   generator that was suspended, has no mark, and a capture that gives marks
   voids what was kept. */

#include "Python.h"
#include "pycore_tracer_alone.h"
#include "pycore_tracer_code.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_shadow.h"
#include "pycore_tracer_state.h"

/* The frame of an entry is where it is now. */
static uint32_t
move_entry(struct entry *e)
{
    const void *instr = e->frame->instr_ptr;
    if (e->sites[e->last].instr != instr) {
        uint32_t node = _PyTracer_ChildOf(e->parent, e->frame);
        if (node == TRACER_NODE_NONE) {
            return TRACER_NODE_NONE;
        }
        e->last ^= 1;
        e->sites[e->last] = (struct site){instr, node, TRACER_NODE_NONE};
    }
    return e->sites[e->last].node;
}

static uint32_t
node_of_entry(struct tracer_stack *s, const _PyInterpreterFrame *frame)
{
    for (size_t depth = s->depth; depth > 0; depth--) {
        struct entry *e = &s->entries[depth - 1];
        if (e->frame == frame) {
            return move_entry(e);
        }
    }
    return TRACER_NODE_NONE;
}

/* Mark the top frame, if there is memory for that. */
static int
mark_alone(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    if (_PyTracer_MakeStack(tstate) == NULL) {
        return 0;
    }
    _PyTracer_ForgetEntries(&((_PyThreadStateImpl *)tstate)->tracer);
    _PyTracer_Mark(frame, 1);
    return 1;
}

/* Not so if a handler of a signal has interrupted a capture of this thread. */
static int
may_keep(const PyThreadState *tstate, const _PyInterpreterFrame *frame)
{
    return frame != NULL && _PyTracer.limit > 1
           && !_PyTracer_IS_HIDDEN(tstate)
           && (_PyTracer.many_gils || tstate != _PyThreadState_GET()
               || !_PyTracer.capturing);
}

uint32_t
_PyTracer_CaptureAgain(PyThreadState *tstate)
{
    _PyTracer_ASSERT_LOCKED();
    _PyInterpreterFrame *frame = _PyTracer_TopFrame(tstate);
    if (!may_keep(tstate, frame)) {
        return _PyTracer_CaptureAlone(tstate);
    }
    uint32_t node = _PyTracer_SameNode(tstate);
    if (node != TRACER_NODE_NONE) {
        return node;
    }
    struct tracer_stack *s = ((_PyThreadStateImpl *)tstate)->tracer.stack;
    if (s != NULL && _PyTracer_RunsMarked(frame)) {
        node = node_of_entry(s, frame);
        if (node != TRACER_NODE_NONE) {
            _PyTracer_KeepNode(tstate, node);
            return node;
        }
    }
    node = _PyTracer_CaptureAlone(tstate);
    if (node != TRACER_NODE_NONE && !_PyFrame_IsIncomplete(frame)
        && mark_alone(tstate, frame))
    {
        _PyTracer_KeepNode(tstate, node);
    }
    return node;
}
