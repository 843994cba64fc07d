/* Capture under the lock: a walk of the whole stack.  While no GIL protects
   the tracer (raw domain without the GIL, several GILs), no shadow stack is
   used, but a thread can always read its own frames.  Where there is no Python
   frame, the node says which part of the interpreter it was.  Locked. */

#include "Python.h"
#include "pycore_runtime.h"       // _PyRuntimeState_GetFinalizing()
#include "pycore_tracer_code.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_walk.h"

#define INITIAL_FRAMES 128

/* --- No Python frame */

enum reason {
    UNKNOWN,                      // a thread that Python does not know
    START_UP,
    SHUT_DOWN,
    MAIN_PROGRAM,                 // main() compiles the program, for one
    SUBINTERPRETER,
    THREAD_START,                 // of _thread, or its end
    C_THREAD,                     // PyGILState_Ensure()
    NATIVE_THREAD,                // as UNKNOWN, of native memory
    NREASONS
};

static const char *const reasons[NREASONS] = {
    TRACER_UNKNOWN, "<start-up>", "<shut-down>", "<main program>",
    "<subinterpreter>", "<thread start>", "<thread of C code>",
    "<native thread>",
};

static uint32_t no_frame[NREASONS];           // nodes, 0: none yet; lock

/* The state may be gone once the runtime is finalizing. */
static enum reason
find_reason(const PyThreadState *tstate)
{
    if (_PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL) {
        return SHUT_DOWN;
    }
    if (!_PyRuntime.initialized) {
        return START_UP;
    }
    if (tstate == NULL) {
        return UNKNOWN;
    }
    if (_PyTracer_IsPythonThread(tstate)) {
        return THREAD_START;
    }
    if (_PyTracer_IsCThread(tstate)) {
        return C_THREAD;
    }
    return _Py_IsMainInterpreter(tstate->interp) ? MAIN_PROGRAM
                                                 : SUBINTERPRETER;
}

static uint32_t
node_of_reason(enum reason reason)
{
    _PyTracer_ASSERT_LOCKED();
    assert(reason < NREASONS);
    if (reason == UNKNOWN) {
        return TRACER_NODE_UNKNOWN;
    }
    uint32_t node = no_frame[reason];
    if (node == TRACER_NODE_NONE) {
        uint32_t location = _PyTracer_InternNoFrame(reasons[reason]);
        if (location != UINT32_MAX) {
            node = _PyTracer_Child(0, location);
        }
        no_frame[reason] = node;
    }
    return node != TRACER_NODE_NONE ? node : TRACER_NODE_UNKNOWN;
}

static uint32_t
node_without_frame(const PyThreadState *tstate)
{
    return node_of_reason(find_reason(tstate));
}

uint32_t
_PyTracer_NativeThread(void)
{
    enum reason reason = find_reason(NULL);
    return node_of_reason(reason == UNKNOWN ? NATIVE_THREAD : reason);
}

uint32_t
_PyTracer_NoFrame(PyThreadState *tstate)
{
    _PyTracer_Lock();
    uint32_t node = _PyTracer.tracing ? node_without_frame(tstate)
                                      : TRACER_NODE_NONE;
    _PyTracer_Unlock();
    return node;
}

/* --- Walk */

static _PyInterpreterFrame **walk;
static size_t walk_capacity;

void
_PyTracer_ForgetWalk(void)
{
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_MemFree(walk, walk_capacity * sizeof(*walk));
    walk = NULL;
    walk_capacity = 0;
    memset(no_frame, 0, sizeof(no_frame));
}

PyThreadState *
_PyTracer_OwnThreadState(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    return tstate != NULL ? tstate : _Py_tss_gilstate;
}

/* If the thread does not have the GIL, its state may be gone once the runtime
   is finalizing. */
_PyInterpreterFrame *
_PyTracer_OwnTopFrame(PyThreadState *tstate)
{
    if (tstate == NULL
        || (tstate != _PyThreadState_GET()
            && _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL))
    {
        return NULL;
    }
    return _PyThreadState_GetFrame(tstate);
}

uint32_t
_PyTracer_CountFrames(_PyInterpreterFrame *frame)
{
    uint32_t n = 0;
    while (frame != NULL) {
        n++;
        frame = _PyFrame_GetFirstComplete(frame->previous);
    }
    return n;
}

static int
grow_walk(void)
{
    size_t n = walk_capacity ? walk_capacity * 2 : INITIAL_FRAMES;
    void *p = _PyTracer_MemGrow(walk, walk_capacity * sizeof(*walk),
                                n * sizeof(*walk));
    if (p == NULL) {
        return -1;
    }
    walk = p;
    walk_capacity = n;
    return 0;
}

static int
is_same_place(_PyInterpreterFrame *a, _PyInterpreterFrame *b)
{
    return a->instr_ptr == b->instr_ptr
           && _PyFrame_GetCode(a) == _PyFrame_GetCode(b);
}

int
_PyTracer_CountUntraced(void)
{
    PyThreadState *tstate = _PyTracer_OwnThreadState();
    if (tstate != NULL && _PyTracer_IS_HIDDEN(tstate)) {
        return 0;
    }
    _PyTracer.untraced++;
    return -1;
}

/* With a limit of one frame. */
static uint32_t
capture_one(_PyInterpreterFrame *frame)
{
    uint32_t id = _PyTracer_ChildOf(0, frame);
    if (id != TRACER_NODE_NONE) {
        _PyTracer_NoteDepth(id, frame);
    }
    return id;
}

uint32_t
_PyTracer_CaptureLocked(PyThreadState *tstate)
{
    _PyTracer_ASSERT_LOCKED();
    if (tstate != NULL && _PyTracer_IS_HIDDEN(tstate)) {
        return TRACER_NODE_NONE;
    }
    size_t n = 0;
    size_t total = 0;
    size_t keep = _PyTracer.limit;
    _PyInterpreterFrame *frame = _PyTracer_OwnTopFrame(tstate);
    if (frame == NULL) {
        return node_without_frame(tstate);
    }
    if (keep == 1) {
        return capture_one(frame);
    }
    for (; frame != NULL; frame = _PyFrame_GetFirstComplete(frame->previous))
    {
        total++;
        if (n < keep) {
            if (n == walk_capacity && grow_walk() < 0) {
                return TRACER_NODE_NONE;
            }
            walk[n++] = frame;
        }
    }
    assert(n > 0 && n <= keep && n <= total && n <= walk_capacity);
    uint32_t node = _PyTracer_BaseParent(total - n);
    while (n > 0) {
        uint32_t parent = node;
        node = _PyTracer_ChildOf(parent, walk[--n]);
        if (node == TRACER_NODE_NONE) {
            return TRACER_NODE_NONE;
        }
        /* A folded recursion: the same calls add nothing. */
        while (node == parent && n > 0
               && is_same_place(walk[n - 1], walk[n]))
        {
            n--;
        }
    }
    return node;
}

#ifndef NDEBUG

#define SOME_FRAMES 8
#define ALL_FRAMES_EACH 64        // captures

static int
is_without_frame(uint32_t node)
{
    int found = node == TRACER_NODE_UNKNOWN;
    for (int i = 0; i < NREASONS; i++) {
        found |= node == no_frame[i];
    }
    return found;
}

/* Are the frames from this one on at the places of the path? */
static int
stands_on(_PyInterpreterFrame *frame, uint32_t node, uint32_t n)
{
    for (; n > 0; n--) {
        if (node == 0 || (node & TRACER_TRUNCATED)) {
            return node == 0 ? frame == NULL
                             : (node & ~TRACER_TRUNCATED)
                               == _PyTracer_CountFrames(frame);
        }
        if (frame == NULL) {
            return 0;
        }
        uint32_t location = _PyTracer_LocationOf(frame);
        if (location != UINT32_MAX
            && location != _PyTracer_Node(node)->location)
        {
            return 0;
        }
        node = _PyTracer_Node(node)->parent;
        frame = _PyFrame_GetFirstComplete(frame->previous);
    }
    return 1;
}

int
_PyTracer_IsPathOf(uint32_t node, PyThreadState *tstate)
{
    static uint32_t captures;
    _PyInterpreterFrame *frame = _PyThreadState_GetFrame(tstate);
    _PyTracer_Lock();
    uint32_t n = ++captures % ALL_FRAMES_EACH == 0 ? UINT32_MAX : SOME_FRAMES;
    int result = 1;
    if (!_PyTracer.tracing || node == TRACER_NODE_NONE || _PyTracer_tree.folded
        || _PyTracer.many_gils)
    {
        /* Nothing to compare.  Where there are several GILs, the short way
           from a free list still looks, but does not use what it finds. */
    }
    else if (frame == NULL) {
        result = is_without_frame(node);
    }
    else {
        result = stands_on(frame, node, Py_MIN(n, _PyTracer.limit));
    }
    _PyTracer_Unlock();
    return result;
}

#endif
