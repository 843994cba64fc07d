/* The tracer's lock when it is not free, and what a fork does with it.

   fork() may be called in a signal handler: debuggers and crash reporters are
   started that way.  The forking thread may then be anywhere: it may hold the
   lock, or be in the middle of the functions below.  So the lock says which
   thread has it.  Threads that wait for it leave no trace in the memory of the
   process, as only the kernel knows them (futex).

   A fork holds the lock, so that the child finds all tables complete.  If the
   forking thread has the lock already, so has the child, where the interrupted
   function goes on.  Threads that take the lock again and again give way to a
   waiting fork.  If another thread keeps the lock for too long, perhaps
   because it waits for a lock of the interrupted function, the fork goes on
   without it, and the child does not trace. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"

#include <linux/futex.h>          // FUTEX_WAIT_PRIVATE
#include <pthread.h>              // pthread_atfork()
#include <sys/syscall.h>          // SYS_futex
#include <unistd.h>               // syscall()

#define FORK_PATIENCE (2 * TRACER_SECOND)
#define FOR_EVER INT64_MAX
#define RETRY_FORK (TRACER_SECOND / 20000)
#define GIVE_WAY (TRACER_SECOND / 1000)
#define FIRST_PAUSES 64           // some microseconds
#define LAST_PAUSES 1024

uintptr_t _PyTracer_lock;
int _PyTracer_abandoned;

/* The owner of the lock once acquire() is done. */
enum acquired {
    ACQUIRED = 1,                 // this thread, from now on
    HELD = 2,                     // this thread did before
    KEPT = 3,                     // still another one
};

/* The state that each unfinished fork of this thread found, two bits each, the
   latest lowest: a handler may fork in the middle of a fork. */
_Py_thread_local uint64_t _PyTracer_forks = 0;

/* Forks that are waiting for the lock: of all threads, and of this thread. */
static int waiting_forks;         // atomic
static _Py_thread_local int own_waiting_forks;

/* --- Waiting */

static inline void
pause_processor(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile ("yield");
#endif
}

/* The kernel compares only the half of the word with TRACER_LOCK_AWAITED. */
static void
futex(int operation, uint32_t value)
{
    int saved_errno = errno;
    uint32_t *half = (uint32_t *)&_PyTracer_lock + PY_BIG_ENDIAN;
    (void)syscall(SYS_futex, half, operation, value, NULL, NULL, 0);
    errno = saved_errno;
}

static void
sleep_for(long ns)
{
    int saved_errno = errno;
    struct timespec time = {0, ns};
    (void)nanosleep(&time, NULL);
    errno = saved_errno;
}

/* Spin until the lock may be free: most threads hold it for a tenth of a
   microsecond.  Each pause is twice as long as the one before, and reads
   nothing.  So the owner can take the lock many times from its own cache,
   which is faster for all threads than handing it over each time, or calling
   the kernel.  Return whether the lock was seen free. */
static int
spin(void)
{
    for (int pauses = FIRST_PAUSES; pauses <= LAST_PAUSES; pauses *= 2) {
        for (int i = 0; i < pauses; i++) {
            pause_processor();
        }
        if (_Py_atomic_load_uintptr_relaxed(&_PyTracer_lock) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Wait until `holder` may have released the lock.  A fork does not wait to be
   woken, as other threads would get the lock first. */
static void
wait_for(uintptr_t holder, int fork)
{
    uintptr_t awaited = holder | TRACER_LOCK_AWAITED;
    int waits = holder == awaited
                || _Py_atomic_compare_exchange_uintptr(&_PyTracer_lock,
                                                       &holder, awaited);
    if (fork) {
        sleep_for(RETRY_FORK);
    }
    else if (waits) {
        futex(FUTEX_WAIT_PRIVATE, (uint32_t)awaited);
    }
}

/* `end`: of the patience of a fork, or FOR_EVER. */
static enum acquired
acquire(int64_t end)
{
    uintptr_t mine = _PyTracer_ThisThread();
    for (;;) {
        uintptr_t holder = 0;
        if (_Py_atomic_compare_exchange_uintptr(&_PyTracer_lock, &holder,
                                                mine))
        {
            return ACQUIRED;
        }
        if ((holder | TRACER_LOCK_AWAITED) == (mine | TRACER_LOCK_AWAITED)) {
            return HELD;
        }
        if (end != FOR_EVER && _PyTracer_Now(CLOCK_MONOTONIC) >= end) {
            return KEPT;
        }
        if (spin()) {
            continue;
        }
        wait_for(holder, end != FOR_EVER);
        /* From here on it is not known whether others wait as well. */
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
    futex(FUTEX_WAKE_PRIVATE, 1);
    if (_Py_atomic_load_int_relaxed(&waiting_forks) > 0) {
        sleep_for(GIVE_WAY);
    }
}

/* --- The world */

void
_PyTracer_StopWorld(void)
{
    _PyTracer_EnterRank(TRACER_RANK_WORLD);
    _PyEval_StopTheWorldAll(&_PyRuntime);
}

void
_PyTracer_StartWorld(void)
{
    _PyEval_StartTheWorldAll(&_PyRuntime);
    _PyTracer_LeaveRank(TRACER_RANK_WORLD);
}

/* --- Fork.  It does not use _PyTracer_Lock(): the ranks are those of the
   interrupted function. */

static const struct tracer_fork_handlers *handlers;

static void
before_fork(void)
{
    own_waiting_forks++;
    _Py_atomic_add_int(&waiting_forks, 1);
    enum acquired acquired =
        acquire(_PyTracer_Now(CLOCK_MONOTONIC) + FORK_PATIENCE);
    _Py_atomic_add_int(&waiting_forks, -1);
    own_waiting_forks--;
    _PyTracer_forks = (_PyTracer_forks << 2) | acquired;
    if (acquired != KEPT) {
        handlers->before();
    }
}

static enum acquired
end_fork(void)
{
    enum acquired acquired = _PyTracer_forks & 3;
    assert(acquired != 0);
    _PyTracer_forks >>= 2;
    return acquired;
}

static void
after_fork_parent(void)
{
    enum acquired acquired = end_fork();
    if (acquired != KEPT) {
        handlers->in_parent();
    }
    if (acquired == ACQUIRED) {
        _PyTracer_ReleaseLock();
    }
}

/* The tables that the other thread was changing stay as they are: this thread
   may be inside a function that reads them, and nothing is recorded any
   more. */
void
_PyTracer_Abandon(void)
{
    _PyTracer_abandoned = 1;
    _PyTracer_enabled = 0;
    _Py_atomic_store_int_relaxed(&_PyTracer.tracing, 0);
}

/* Nobody waits here. */
static void
after_fork_child(void)
{
    enum acquired acquired = end_fork();
    _Py_atomic_store_int(&waiting_forks, own_waiting_forks);
    _Py_atomic_store_uintptr(&_PyTracer_lock, _PyTracer_ThisThread());
    if (acquired == KEPT) {
        _PyTracer_Abandon();
    }
    if (acquired == HELD) {
        handlers->in_child();
        return;
    }
    _PyTracer_EnterRank(TRACER_RANK_STATE);
    handlers->in_child();
    _PyTracer_LeaveRank(TRACER_RANK_STATE);
    _PyTracer_ReleaseLock();
}

int
_PyTracer_LockInit(const struct tracer_fork_handlers *of_others)
{
    handlers = of_others;
    static int registered = 0;
    if (!registered
        && pthread_atfork(before_fork, after_fork_parent, after_fork_child))
    {
        return -1;
    }
    registered = 1;
    return 0;
}
