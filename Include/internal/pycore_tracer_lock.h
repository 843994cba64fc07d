/* The locks of the tracer, in the order in which they are taken.

   A thread takes a lock only while it holds none of the same or a higher
   rank, and gives back the highest one first.  While TRACER_RANK_STATE is
   held, no code outside the tracer is called except for the handler of alarms,
   which waits for nothing.  A debug build asserts all of this: each thread
   knows what it holds. */

#ifndef Py_INTERNAL_TRACER_LOCK_H
#define Py_INTERNAL_TRACER_LOCK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_pystate.h"       // HEAD_LOCK()
#include "pycore_tracer_compat.h"

#if __has_include(<sys/single_threaded.h>)
#  include <sys/single_threaded.h>        // __libc_single_threaded
#else
#  define __libc_single_threaded 0
#endif

enum tracer_lock_rank {
    TRACER_RANK_ALLOCATORS = 1,   // CPython's: what functions are installed
    TRACER_RANK_WORLD = 2,        // no lock: the world is stopped
    TRACER_RANK_HEAD = 4,         // HEAD_LOCK: interpreters and threads
    TRACER_RANK_STATE = 8,        // the tracer's own
    TRACER_RANK_LEAF = 16,        // CPython's: of the pending calls
};

#ifdef Py_DEBUG
extern _Py_thread_local int _PyTracer_held;     // ranks
#endif

/* May this thread take a lock? */
static inline void
_PyTracer_AssertRank(enum tracer_lock_rank rank)
{
#ifdef Py_DEBUG
    assert(_PyTracer_held < (int)rank);
#else
    (void)rank;
#endif
}

/* It takes or has one, gives or has given it back.  For the tracer's own lock
   only while it has it: a handler of signals that comes before or after may
   take the lock. */
static inline void
_PyTracer_EnterRank(enum tracer_lock_rank rank)
{
    _PyTracer_AssertRank(rank);
#ifdef Py_DEBUG
    _PyTracer_held |= rank;
#endif
}

static inline void
_PyTracer_LeaveRank(enum tracer_lock_rank rank)
{
#ifdef Py_DEBUG
    assert((_PyTracer_held & rank) && _PyTracer_held < 2 * (int)rank);
    _PyTracer_held &= ~rank;
#else
    (void)rank;
#endif
}

/* In a debug build: does this thread hold the tracer's lock?  May it install
   functions?  Does it hold no lock? */
#ifdef Py_DEBUG
#  define _PyTracer_ASSERT_LOCKED()                             \
    assert(_PyTracer_held & TRACER_RANK_STATE)
#  define _PyTracer_ASSERT_MAY_INSTALL()                        \
    assert((_PyTracer_held & TRACER_RANK_ALLOCATORS)            \
           && (_PyTracer_held & TRACER_RANK_STATE))
#  define _PyTracer_ASSERT_UNLOCKED() assert(_PyTracer_held == 0)
#else
#  define _PyTracer_ASSERT_LOCKED() ((void)0)
#  define _PyTracer_ASSERT_MAY_INSTALL() ((void)0)
#  define _PyTracer_ASSERT_UNLOCKED() ((void)0)
#endif

/* The tracer's own lock is a word.  It is zero, or says which thread has it,
   by the address of a thread-local variable, and whether another one waits.
   CPython's mutex does not say which thread has it, but a fork must know, see
   tracer_lock.c. */
#define TRACER_LOCK_AWAITED 1

extern uintptr_t _PyTracer_lock;                      // atomic
extern _Py_thread_local uint64_t _PyTracer_forks;     // see tracer_lock.c

extern void _PyTracer_LockSlow(void);
extern void _PyTracer_WakeWaiter(void);

static inline uintptr_t
_PyTracer_ThisThread(void)
{
    return (uintptr_t)&_PyTracer_forks;
}

/* While the process has one thread, only a signal handler that forks may take
   the lock in between, and it gives the lock back before it returns: no atomic
   exchange is needed, which would take longer than recording a big block.
   0: a thread has the lock, perhaps this one. */
static inline Py_ALWAYS_INLINE int
_PyTracer_TryLock(void)
{
    uintptr_t mine = _PyTracer_ThisThread();
    uintptr_t nobody = 0;
    if (__libc_single_threaded
        && _Py_atomic_load_uintptr_relaxed(&_PyTracer_lock) == 0)
    {
        _Py_atomic_store_uintptr_relaxed(&_PyTracer_lock, mine);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    }
    else if (!_Py_atomic_compare_exchange_uintptr(&_PyTracer_lock, &nobody,
                                                  mine))
    {
        return 0;
    }
    _PyTracer_EnterRank(TRACER_RANK_STATE);
    return 1;
}

static inline void
_PyTracer_Lock(void)
{
    _PyTracer_AssertRank(TRACER_RANK_STATE);
    if (!_PyTracer_TryLock()) {
        _PyTracer_LockSlow();
        _PyTracer_EnterRank(TRACER_RANK_STATE);
    }
}

/* Does this thread have the lock? */
static inline int
_PyTracer_HasLock(void)
{
    return (_Py_atomic_load_uintptr_relaxed(&_PyTracer_lock)
            & ~(uintptr_t)TRACER_LOCK_AWAITED) == _PyTracer_ThisThread();
}

static inline Py_ALWAYS_INLINE void
_PyTracer_ReleaseLock(void)
{
    if (__libc_single_threaded) {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        _Py_atomic_store_uintptr_relaxed(&_PyTracer_lock, 0);
    }
    else if (_Py_atomic_exchange_uintptr(&_PyTracer_lock, 0)
             & TRACER_LOCK_AWAITED)
    {
        _PyTracer_WakeWaiter();
    }
}

static inline void
_PyTracer_Unlock(void)
{
    _PyTracer_LeaveRank(TRACER_RANK_STATE);
    _PyTracer_ReleaseLock();
}

/* A thread that waits for this mutex gives up the GIL, and may get the mutex
   before it gets the GIL back.  So no thread waits for it that holds another
   lock or is inside an allocation. */
static inline void
_PyTracer_LockAllocators(void)
{
    _PyTracer_EnterRank(TRACER_RANK_ALLOCATORS);
    PyMutex_Lock(&_PyRuntime.allocators.mutex);
}

/* 0: somebody has it. */
static inline int
_PyTracer_TryLockAllocators(void)
{
    if (!_PyTracer_TryMutex(&_PyRuntime.allocators.mutex)) {
        return 0;
    }
    _PyTracer_EnterRank(TRACER_RANK_ALLOCATORS);
    return 1;
}

static inline void
_PyTracer_UnlockAllocators(void)
{
    PyMutex_Unlock(&_PyRuntime.allocators.mutex);
    _PyTracer_LeaveRank(TRACER_RANK_ALLOCATORS);
}

/* Let no other thread run Python code, while allocator functions change or
   objects are read.  With a GIL this does nothing, as the GIL does that.
   Stopping the world waits until each thread reaches a point where it may
   stop, so no thread does it that holds the tracer's lock or is inside an
   allocation. */
PyAPI_FUNC(void) _PyTracer_StopWorld(void);
PyAPI_FUNC(void) _PyTracer_StartWorld(void);

static inline void
_PyTracer_LockHead(void)
{
    _PyTracer_EnterRank(TRACER_RANK_HEAD);
    HEAD_LOCK(&_PyRuntime);
}

static inline void
_PyTracer_UnlockHead(void)
{
    HEAD_UNLOCK(&_PyRuntime);
    _PyTracer_LeaveRank(TRACER_RANK_HEAD);
}

/* In a copy of the process, where the thread that may hold it is missing. */
static inline void
_PyTracer_ForgetHead(void)
{
    _PyMutex_at_fork_reinit(&_PyRuntime.interpreters.mutex);
}

/* Both: to look at all interpreters, or all threads. */
static inline void
_PyTracer_LockAll(void)
{
    _PyTracer_LockHead();
    _PyTracer_Lock();
}

/* The same; 0: somebody has HEAD_LOCK, and perhaps waits for this thread. */
static inline int
_PyTracer_TryLockAll(void)
{
    if (!_PyTracer_TryMutex(&_PyRuntime.interpreters.mutex)) {
        return 0;
    }
    _PyTracer_EnterRank(TRACER_RANK_HEAD);
    _PyTracer_Lock();
    return 1;
}

/* HEAD_LOCK against the order, while the lock is held: nobody waits for it
   here.  0: somebody has it, perhaps this thread. */
static inline int
_PyTracer_TryLockHead(void)
{
    _PyTracer_ASSERT_LOCKED();
    return _PyTracer_TryMutex(&_PyRuntime.interpreters.mutex);
}

static inline void
_PyTracer_UnlockTriedHead(void)
{
    HEAD_UNLOCK(&_PyRuntime);
}

static inline void
_PyTracer_UnlockAll(void)
{
    _PyTracer_Unlock();
    _PyTracer_UnlockHead();
}

/* A fork found the tables in the middle of a change: there is no more tracing.
   Locked. */
extern int _PyTracer_abandoned;

/* Functions that other files want called at a fork, locked; if another thread
   keeps the lock, before() and in_parent() are left out. */
struct tracer_fork_handlers {
    void (*before)(void);
    void (*in_parent)(void);
    void (*in_child)(void);
};

/* Once: watch over forks; -1: no memory. */
extern int _PyTracer_LockInit(const struct tracer_fork_handlers *handlers);

/* In the child of a fork, locked: the tables cannot be used. */
extern void _PyTracer_Abandon(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LOCK_H */
