/* Hidden threads: threads that inspect the traced program.

   The allocations of a hidden thread have no entry and are not counted, so
   that looking at a program does not change its sums and its peak.  If such a
   thread frees a traced block, that is counted.  A thread that it starts is
   hidden, too.  It is not hidden while the collector calls finalizers and
   callbacks, which belong to the program.

   Other threads pay nothing for this: a hidden thread has no shadow stack, so
   its captures get to where one would be made, and find no node.  With a limit
   of one frame the instruction alone tells the node, in any thread; so while
   there is a hidden thread, the functions for more frames are installed. */

#include "Python.h"
#include "pycore_tracer_hide.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"

static int nhidden;               // threads; lock

static void
set_hidden(PyThreadState *tstate, int hidden)
{
    _PyTracer_ASSERT_LOCKED();
    nhidden += hidden - (int)_PyTracer_IS_HIDDEN(tstate);
    assert(nhidden >= 0);
    _PyTracer_IS_HIDDEN(tstate) = (uint32_t)hidden;
}

int
_PyTracer_AnyHidden(void)
{
    return nhidden > 0;
}

int
_PyTracer_HideThread(int hide)
{
    PyThreadState *tstate = _PyThreadState_GET();
    int hidden = (int)_PyTracer_IS_HIDDEN(tstate);
    if (hide == hidden) {
        return hidden;
    }
    _PyTracer_LockAllocators();
    _PyTracer_Lock();
    _PyTracer_ForgetStack(tstate);
    set_hidden(tstate, hide);
    if (_PyTracer.tracing && _PyTracer.limit == 1) {
        _PyTracer_InstallAllocators(1);
    }
    _PyTracer_Unlock();
    _PyTracer_UnlockAllocators();
    return hidden;
}

/* The name that Lib/pytracemalloc/remote.py gives its scripts. */
int
_PyTracer_BeginScript(const char *path, size_t size)
{
    static const char name[] = "/tracemalloc-request.py";
    size_t length = strnlen(path, size), end = sizeof(name) - 1;
    if (length >= end && memcmp(path + length - end, name, end) == 0) {
        return _PyTracer_HideThread(1);
    }
    return (int)_PyTracer_IS_HIDDEN(_PyThreadState_GET());
}

void
_PyTracer_EndScript(int hidden)
{
    (void)_PyTracer_HideThread(hidden);
}

uint32_t
_PyTracer_ShowThread(PyThreadState *tstate)
{
    uint32_t hidden = _PyTracer_IS_HIDDEN(tstate);
    _PyTracer_IS_HIDDEN(tstate) = 0;
    return hidden;
}

/* The thread has counted as hidden until now. */
void
_PyTracer_HideAgain(PyThreadState *tstate, uint32_t hidden)
{
    if (hidden) {
        _PyTracer_Lock();
        assert(nhidden > 0);
        _PyTracer_ForgetStack(tstate);
        _PyTracer_IS_HIDDEN(tstate) = hidden;
        _PyTracer_Unlock();
    }
}

/* --- Threads come and go */

void
_PyTracer_ThreadNew(PyThreadState *tstate)
{
    PyThreadState *creator = _PyThreadState_GET();
    if (creator != NULL && _PyTracer_IS_HIDDEN(creator)) {
        _PyTracer_Lock();
        set_hidden(tstate, 1);
        _PyTracer_Unlock();
    }
}

void
_PyTracer_ThreadDealloc(PyThreadState *tstate)
{
    const struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    if (top->stack != NULL || top->hidden) {
        _PyTracer_Lock();
        _PyTracer_ForgetStack(tstate);
        set_hidden(tstate, 0);
        _PyTracer_Unlock();
    }
}
