/* The tracer's lock where it is not free, and what a fork does with it.

   fork() may be called in a handler of signals: debuggers and reporters of
   crashes are started so.  The thread that forks may then be anywhere: it may
   hold the lock, or be in the middle of the functions below.  So the lock says
   whose it is, and threads that wait for it leave nothing behind in the
   process, as only the kernel knows of them (futex).

   A fork holds the lock, so that the child finds all tables whole.  If the
   thread has it already, so has the child: what was interrupted goes on there.
   If another thread keeps it for too long, perhaps because that one waits for
   what this one was interrupted in, the fork goes on without it, and the child
   does not trace. */

#include "Python.h"
#include "pycore_tracer_core.h"

#include <linux/futex.h>          // FUTEX_WAIT_PRIVATE
#include <pthread.h>              // pthread_atfork()
#include <sys/syscall.h>          // SYS_futex
#include <time.h>                 // clock_gettime()
#include <unistd.h>               // syscall()

#define SECOND INT64_C(1000000000)
#define FORK_PATIENCE (2 * SECOND)
#define FOR_EVER INT64_MAX

/* Who has the lock once acquire() is done. */
enum acquired {
    ACQUIRED = 1,                 // this thread, from now on
    HELD = 2,                     // this thread did before
    KEPT = 3,                     // still another one
};

/* What each fork of this thread found that is under way, two bits, the latest
   one lowest: a handler may fork in the middle of a fork. */
_Py_thread_local uint64_t _PyTracer_forks = 0;

/* --- Waiting */

/* The kernel compares the half of the word that has TRACER_LOCK_AWAITED. */
static void
futex(int operation, uint32_t value, const struct timespec *timeout)
{
    int saved_errno = errno;
    uint32_t *half = (uint32_t *)&_PyTracer.lock + PY_BIG_ENDIAN;
    (void)syscall(SYS_futex, half, operation, value, timeout, NULL, 0);
    errno = saved_errno;
}

static int64_t
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* Wait until `holder` may have given the lock back. */
static void
wait_for(uintptr_t holder, const struct timespec *timeout)
{
    uintptr_t awaited = holder | TRACER_LOCK_AWAITED;
    if (holder == awaited
        || _Py_atomic_compare_exchange_uintptr(&_PyTracer.lock, &holder,
                                               awaited))
    {
        futex(FUTEX_WAIT_PRIVATE, (uint32_t)awaited, timeout);
    }
}

/* `patience`: nanoseconds, or FOR_EVER. */
static enum acquired
acquire(int64_t patience)
{
    uintptr_t mine = _PyTracer_ThisThread();
    int64_t end = patience == FOR_EVER ? FOR_EVER : now() + patience;
    for (;;) {
        uintptr_t holder = 0;
        if (_Py_atomic_compare_exchange_uintptr(&_PyTracer.lock, &holder,
                                                mine))
        {
            return ACQUIRED;
        }
        if ((holder | TRACER_LOCK_AWAITED) == (mine | TRACER_LOCK_AWAITED)) {
            return HELD;
        }
        int64_t left = end - now();
        if (left <= 0) {
            return KEPT;
        }
        struct timespec timeout = {left / SECOND, left % SECOND};
        wait_for(holder, &timeout);
        /* Whether others wait as well is not known from here on. */
        mine |= TRACER_LOCK_AWAITED;
    }
}

void
_PyTracer_LockSlow(void)
{
    enum acquired acquired = acquire(FOR_EVER);
    assert(acquired == ACQUIRED);
    (void)acquired;
}

void
_PyTracer_WakeWaiter(void)
{
    futex(FUTEX_WAKE_PRIVATE, 1, NULL);
}

/* --- Fork.  Not by _PyTracer_Lock(): the ranks are those of what was
   interrupted. */

static void
before_fork(void)
{
    enum acquired acquired = acquire(FORK_PATIENCE);
    _PyTracer_forks = _PyTracer_forks << 2 | acquired;
}

static enum acquired
end_fork(void)
{
    enum acquired acquired = _PyTracer_forks & 3;
    _PyTracer_forks >>= 2;
    return acquired;
}

static void
after_fork_parent(void)
{
    if (end_fork() == ACQUIRED) {
        _PyTracer_ReleaseLock();
    }
}

/* What the other thread was changing stays as it is: this one may be amid a
   function that reads it, and nothing is recorded any more. */
static void
abandon(void)
{
    _PyTracer.abandoned = 1;
    _PyTracer_enabled = 0;
    _Py_atomic_store_int_relaxed(&_PyTracer.tracing, 0);
}

/* Nobody waits here. */
static void
after_fork_child(void)
{
    enum acquired acquired = end_fork();
    _Py_atomic_store_uintptr(&_PyTracer.lock, _PyTracer_ThisThread());
    if (acquired == KEPT) {
        abandon();
    }
    _PyTracer_ForgetGarbage();
    if (acquired != HELD) {
        _PyTracer_ReleaseLock();
    }
}

int
_PyTracer_LockInit(void)
{
    static int registered = 0;
    if (!registered
        && pthread_atfork(before_fork, after_fork_parent, after_fork_child))
    {
        return -1;
    }
    registered = 1;
    return 0;
}
