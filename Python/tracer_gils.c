/* One GIL, or several, or none.

   While there is one GIL it protects most of the tracer's state, and the fused
   functions, the cache and the shadow stacks rely on it.  An interpreter with
   its own GIL changes that: before it is made, `many_gils` is set and the
   general functions are installed.  From then on the lock protects
   everything.  In a free-threaded build this is always so.

   When the last such interpreter has ended, a pending call of the main
   interpreter switches back.  Its thread is then the only one in the tracer,
   except for threads without the GIL, which rely on the lock in any case.
   Remembered stacks and code are forgotten, as they were not kept up to date;
   blocks, counters and the peak are the same either way. */

#include "Python.h"
#include "pycore_ceval.h"         // _PyEval_AddPendingCall()
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_gils.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_interp.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_valid.h"

static int own_gils;              // interpreters with a GIL of their own, from
                                  //   before they run until they have ended;
                                  //   lock

/* --- Interpreters come and go */

static void
count_interpreter(PyInterpreterState *interp, int change)
{
    _PyTracer_ASSERT_LOCKED();
    own_gils += change;
    assert(own_gils >= 0);
    if (change > 0) {
        interp->tracer_flags |= _PyTracer_INTERP_OWN_GIL;
    }
}

/* Count the interpreter if there are several GILs already. */
static int
is_one_more(PyInterpreterState *interp)
{
    _PyTracer_Lock();
    int many_gils = _PyTracer.many_gils;
    if (many_gils) {
        count_interpreter(interp, 1);
    }
    _PyTracer_Unlock();
    return many_gils;
}

/* The creator of an interpreter may have released the GIL, and another thread
   may then be inside a function that relies on it.  So far there is only one
   GIL. */
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
    _PyTracer.many_gils = 1;
    if (_PyTracer.tracing) {
        _PyTracer_InstallAllocators(1);
    }
    _PyTracer_Unlock();
    _PyTracer_UnlockAllocators();
    if (detached) {
        PyGILState_Release(state);
    }
}

/* --- Back to one GIL */

void
_PyTracer_CountGils(void)
{
    _PyTracer_ASSERT_LOCKED();
    assert(_PyTracer.many_gils || own_gils == 0);
    if (own_gils == 0) {
        _PyTracer.many_gils = !_PyTracer_HAS_GIL;
    }
}

/* Another such interpreter may have been made in the meantime, and a wrapper
   may call our functions when tracing is off. */
static int
go_back(void *Py_UNUSED(arg))
{
    _PyTracer_LockAllocators();
    _PyTracer_LockAll();
    if (_PyTracer.tracing && _PyTracer.many_gils) {
        _PyTracer_CountGils();
        if (!_PyTracer.many_gils) {
            _PyTracer_ForgetStacks();
            _PyTracer_InstallAllocators(1);
        }
    }
    _PyTracer_UnlockAll();
    _PyTracer_UnlockAllocators();
    return 0;
}

/* If there is no room for the call, the next interpreter that ends, or the
   next start(), switches back.  At the end of the process no call is
   requested: a pending call would make the runtime wait for all threads once
   more. */
void
_PyTracer_InterpreterEnd(PyInterpreterState *interp)
{
    PyInterpreterState *main_interp = _PyInterpreterState_Main();
    _PyTracer_Lock();
    _PyTracer_ForgetInterpreter(interp);
    int last = 0;
    if (interp->tracer_flags & _PyTracer_INTERP_OWN_GIL) {
        assert(_PyTracer.many_gils);
        count_interpreter(interp, -1);
        last = own_gils == 0 && _PyTracer.tracing && _PyTracer_HAS_GIL;
    }
    _PyTracer_Unlock();
    if (last && !_Py_atomic_load_int_relaxed(&main_interp->finalizing)) {
        (void)_PyEval_AddPendingCall(main_interp, go_back, NULL, 0);
    }
}

/* --- Threads */

/* Threads need the lock to look at frames of a thread without the GIL.  From
   now on no thread does so: the runtime is finalizing, or this is the child of
   a fork. */
void
_PyTracer_ThreadsEnd(void)
{
    _PyTracer_LockAll();
    _PyTracer_AssertValid("fork, or the end");
    _PyTracer_UnlockAll();
}
