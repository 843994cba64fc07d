/* One GIL, or several.

   While there is one GIL it protects most of the tracer's state, and the fused
   functions, the cache and the shadow stacks rely on it.  An interpreter with
   a GIL of its own ends that: before it is made, `shared` is set, the general
   functions are installed, and from then on the lock protects all.

   When the last one has ended, the next allocation with the GIL goes back.
   Its thread is then the only one in the tracer, but for threads without the
   GIL, which rely on the lock in any case.  What was remembered of stacks and
   of code is forgotten, as nobody kept it up to date; blocks, counters and the
   peak are the same either way. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_gils.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_interp.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_valid.h"

/* --- Interpreters come and go */

static void
count_interpreter(PyInterpreterState *interp, int change)
{
    _PyTracer_ASSERT_LOCKED();
    int n = _Py_atomic_load_int_relaxed(&_PyTracer.own_gils) + change;
    assert(n >= 0);
    _Py_atomic_store_int_relaxed(&_PyTracer.own_gils, n);
    if (change > 0) {
        interp->tracer_flags |= _PyTracer_INTERP_OWN_GIL;
    }
}

/* Count the interpreter if there are several GILs already. */
static int
is_one_more(PyInterpreterState *interp)
{
    _PyTracer_Lock();
    int shared = _PyTracer.shared;
    if (shared) {
        count_interpreter(interp, 1);
    }
    _PyTracer_Unlock();
    return shared;
}

/* The creator of an interpreter may have released the GIL; another thread may
   then be amid a function that relies on it.  So far there is but one GIL. */
void
_PyTracer_OwnGil(PyInterpreterState *interp)
{
    if (is_one_more(interp)) {
        return;
    }
    int detached = _PyThreadState_GET() == NULL;
    PyGILState_STATE state = PyGILState_UNLOCKED;
    if (detached) {
        state = PyGILState_Ensure();
    }
    _PyTracer_LockAllocators();
    _PyTracer_Lock();
    count_interpreter(interp, 1);
    _PyTracer.shared = 1;
    if (_PyTracer.tracing) {
        _PyTracer_InstallAllocators(1);
    }
    _PyTracer_Unlock();
    _PyTracer_UnlockAllocators();
    if (detached) {
        PyGILState_Release(state);
    }
}

void
_PyTracer_InterpreterEnd(PyInterpreterState *interp)
{
    _PyTracer_Lock();
    _PyTracer_ForgetInterpreter(interp);
    if (interp->tracer_flags & _PyTracer_INTERP_OWN_GIL) {
        assert(_PyTracer.shared);
        count_interpreter(interp, -1);
    }
    _PyTracer_Unlock();
}

/* --- Back to one GIL */

void
_PyTracer_CountGils(void)
{
    _PyTracer_ASSERT_LOCKED();
    assert(_PyTracer.shared
           || _Py_atomic_load_int_relaxed(&_PyTracer.own_gils) == 0);
    if (_Py_atomic_load_int_relaxed(&_PyTracer.own_gils) == 0) {
        _PyTracer.shared = 0;
    }
}

static void
go_back(void)
{
    /* A wrapper may call our functions when tracing is off. */
    if (_PyTracer.tracing) {
        _PyTracer_CountGils();
        if (!_PyTracer.shared) {
            _PyTracer_ForgetStacks();
            _PyTracer_InstallAllocators(1);
        }
    }
}

/* This thread may hold HEAD_LOCK, or another one may hold it and wait for the
   GIL, and the same for the mutex of the allocators: then another allocation
   goes back. */
void
_PyTracer_OneGil(void)
{
    if (!_PyTracer_TryLockAllocators()) {
        return;
    }
    if (_PyTracer_TryLockAll()) {
        go_back();
        _PyTracer_UnlockAll();
    }
    _PyTracer_UnlockAllocators();
}

/* --- Threads */

/* Who looks at frames of a thread without the GIL has the lock.  From now on
   nobody does: the runtime is finalizing, or this is the child of a fork. */
void
_PyTracer_ThreadsEnd(void)
{
    _PyTracer_LockAll();
    _PyTracer_AssertValid("fork, or the end");
    _PyTracer_UnlockAll();
}
