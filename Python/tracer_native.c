/* Native memory: what C, C++ and other code takes from the C library.

   The program python defines malloc() and its relatives, which call functions
   through pointers, see Programs/tracer_program.c.  While native memory is
   traced, these are the functions below, in any thread, with and without the
   GIL.  A block has a record in the address map, in a domain of its own, and
   counts at the node of the Python line whose thread asked for it.  Native
   memory is beside traced memory: it has counters of its own, in a node's rare
   ones, and a peak of its own.

   Nothing counts twice.  What the functions of CPython's domains take from
   malloc(), and what an allocator takes from mmap(), is not seen, as this
   thread is inside one of them (_PyTracer_inside, `busy`).  A block that is
   registered by PyTraceMalloc_Track() is no longer native.  The tracer's own
   memory is taken under its lock or in hidden threads.

   A thread that Python does not know counts where it was made: at the Python
   stack that called pthread_create(), or where the thread counts that did.

   Each function must work in any state that a thread may be in: without a
   thread state, while the thread ends, and with the lock, since handlers of
   signals and of forks may allocate.  With the lock it calls what is below and
   does nothing else.  The stack is captured as for traced memory, with the GIL
   before the lock is taken; but not if a handler of a signal has interrupted
   a capture.  A handler may also have interrupted a function that has the
   number of a node: nothing is pruned here while there is a GIL.

   Most blocks are small, and at the node of the thread's last one.  For these,
   nothing is called but the C library; add() and releasing() do the rest.

   A block is dropped before it is released, since another thread may get its
   address at once.  A mapping is given back under the lock instead, as this is
   only a system call, and may fail. */

#include "Python.h"
#include "pycore_runtime.h"       // _PyRuntimeState_GetFinalizing()
#include "pycore_tracer_alone.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_native.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_native_ranges.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_origins.h"
#include "pycore_tracer_program.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_unwind.h"
#include "pycore_tracer_walk.h"

#include <sys/mman.h>             // MAP_ANONYMOUS
#include <unistd.h>               // sysconf()

static const struct tracer_family *below;
static size_t page;               // bytes

/* The frame of the function below that this thread is in, or NULL.  It is read
   before anything else that is thread-local: the dynamic linker may allocate
   what belongs to a thread when it is first used. */
static _Py_thread_local const void *busy
    __attribute__((tls_model("initial-exec")));

static inline int
enter_from(const void *frame)
{
    if (busy != NULL) {
        return 0;
    }
    busy = frame;
    if (_PyTracer_inside) {
        busy = NULL;
        return 0;
    }
    return 1;
}
#define enter() enter_from(__builtin_dwarf_cfa())

static inline void
leave(void)
{
    assert(busy != NULL);
    busy = NULL;
}

/* To take the lock in between. */
static inline int
enter_unlocked_from(const void *frame)
{
    if (!enter_from(frame)) {
        return 0;
    }
    if (_PyTracer_HasLock()) {
        leave();
        return 0;
    }
    return 1;
}
#define enter_unlocked() enter_unlocked_from(__builtin_dwarf_cfa())

static _Py_thread_local struct tracer_origin origin
    __attribute__((tls_model("initial-exec")));

/* Where memory is taken: with the one GIL the node, else the state of the
   thread, or NULL. */
struct taker {
    uint32_t node;
    PyThreadState *tstate;
};

static Py_NO_INLINE uint32_t
capture_slow(PyThreadState *tstate)
{
    int saved_errno = errno;
    uint32_t node = _PyTracer_CaptureSlow(tstate);
    errno = saved_errno;
    return node;
}

static inline Py_ALWAYS_INLINE struct taker
find_taker(void)
{
    struct taker taker = {TRACER_NODE_NONE, _PyThreadState_GET()};
    if (taker.tstate == NULL) {
        taker.tstate = _Py_tss_gilstate;
    }
    else if (!_PyTracer.many_gils && !_PyTracer.capturing
             && _Py_atomic_load_int_relaxed(&_PyTracer.tracing))
    {
        taker.node = _PyTracer_CaptureFast(taker.tstate, _PyTracer.whole);
        if (taker.node == TRACER_NODE_NONE) {
            taker.node = capture_slow(taker.tstate);
        }
    }
    return taker;
}

/* May the state of this thread be gone, or a handler of a signal have
   interrupted a capture? */
static inline int
is_in_doubt(const PyThreadState *tstate)
{
    return tstate != _PyThreadState_GET()
           ? _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL
           : !_PyTracer.many_gils;
}

static uint32_t
capture_origin(void)
{
    uint32_t node = _PyTracer_NodeOfOrigin(&origin);
    return node != TRACER_NODE_NONE ? node : _PyTracer_NativeThread();
}

/* Once the runtime is finalizing, the state of a thread that does not have the
   GIL may be gone. */
static inline Py_ALWAYS_INLINE struct tracer_call_site
capture(const struct taker *taker)
{
    struct tracer_call_site site = {taker->node, 0};
    PyThreadState *tstate = taker->tstate;
    if (tstate != NULL && tstate != _PyThreadState_GET()
        && _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL)
    {
        tstate = NULL;
    }
    if (site.node == TRACER_NODE_NONE) {
        site.node = tstate == NULL ? capture_origin()
                                   : _PyTracer_CaptureAgain(tstate);
    }
    if (_PyTracer_native.frames > 0 && site.node != TRACER_NODE_NONE) {
        site.stack = _PyTracer_CStack(busy, tstate, _PyTracer_native.frames);
    }
    return site;
}

/* --- Blocks; not locked */

static Py_NO_INLINE void
add_slow(void *block, size_t size, const struct taker *taker)
{
    int saved_errno = errno;
    (void)_PyTracer_AddNative((uintptr_t)block, size, capture(taker), 0);
    errno = saved_errno;
}

/* What is found without a walk of the Python stack; NONE: nothing. */
static inline Py_ALWAYS_INLINE uint32_t
known_node(const struct taker *taker)
{
    PyThreadState *tstate = taker->tstate;
    if (taker->node != TRACER_NODE_NONE) {
        _PyTracer_KeepNode(tstate, taker->node);
        return taker->node;
    }
    return tstate == NULL ? _PyTracer_NodeOfOrigin(&origin)
           : is_in_doubt(tstate) ? TRACER_NODE_NONE
           : _PyTracer_SameNode(tstate);
}

/* Only what is slow makes calls that set errno.  Returns the block. */
static Py_NO_INLINE void *
add(void *block, size_t size)
{
    struct tracer_call_site site = {TRACER_NODE_NONE, 0};
    if (block != NULL && !_PyTracer_HasLock()) {
        struct taker taker = find_taker();
        _PyTracer_Lock();
        if (_PyTracer_SeesNative()) {
            site.node = known_node(&taker);
            if (site.node != TRACER_NODE_NONE && _PyTracer_native.frames > 0) {
                site.stack = _PyTracer_CStack(busy, taker.tstate,
                                              _PyTracer_native.frames);
            }
            if (site.node == TRACER_NODE_NONE
                || _PyTracer_IsNativeInMap((uintptr_t)block)
                || !_PyTracer_AddCell((uintptr_t)block, size, site))
            {
                add_slow(block, size, &taker);
            }
        }
        _PyTracer_Unlock();
    }
    leave();
    return block;
}

/* Most blocks are small ones that come to the node of the one before.  0:
   nothing is done, as this is another one. */
static inline Py_ALWAYS_INLINE int
add_again(void *block, size_t size)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate != NULL) {
        if (_PyTracer.capturing) {
            return 0;
        }
    }
    else {
        tstate = _Py_tss_gilstate;
        if (tstate == NULL
            || _PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL)
        {
            return 0;
        }
    }
    if (_PyTracer_native.frames > 0 || !_PyTracer_TryLock()) {
        return 0;
    }
    struct tracer_call_site site = {_PyTracer_SameNode(tstate), 0};
    int is_added = site.node != TRACER_NODE_NONE && _PyTracer_SeesNative()
                   && !_PyTracer_HasHint((uintptr_t)block)
                   && _PyTracer_AddCell((uintptr_t)block, size, site);
    _PyTracer_Unlock();
    return is_added;
}

/* A block was acquired: leave and return it. */
static inline Py_ALWAYS_INLINE void *
acquired(void *block, size_t size)
{
    if (block == NULL || !add_again(block, size)) {
        return add(block, size);
    }
    leave();
    return block;
}

/* What is released, so that it can be undone if realloc() fails; `clears` is
   0 if there is nothing to undo. */
struct released {
    struct tracer_record record;
    uint64_t clears;
};

/* A block that is not traced takes the lock, too.  A look without it might
   miss a record of the map that another removal moves back, or read a map that
   has grown away.  Nothing here makes a call that sets errno. */
static Py_NO_INLINE void
releasing(void *block, struct released *released)
{
    released->clears = 0;
    if (_PyTracer_HasLock()) {
        return;
    }
    _PyTracer_Lock();
    int was_traced = _PyTracer_SeesNative()
                     && _PyTracer_RemoveNative((uintptr_t)block,
                                               &released->record);
    released->clears = was_traced ? _PyTracer.clears + 1 : 0;
    _PyTracer_Unlock();
}

static void
not_released(const struct released *released)
{
    int saved_errno = errno;
    const struct tracer_record *old = &released->record;
    _PyTracer_Lock();
    if (released->clears == _PyTracer.clears + 1 && _PyTracer_SeesNative()) {
        _PyTracer_RestoreNative(old);
    }
    _PyTracer_Unlock();
    errno = saved_errno;
}

/* A block goes; 0: nothing is done, as it takes more than a glance. */
static inline Py_ALWAYS_INLINE int
release_cell(void *block)
{
    if (!_PyTracer_TryLock()) {
        return 0;
    }
    int is_done = !_PyTracer_SeesNative()
                  || _PyTracer_RemoveCell((uintptr_t)block)
                  || !_PyTracer_HasHint((uintptr_t)block);
    _PyTracer_Unlock();
    return is_done;
}

/* --- The functions */

static void *
native_malloc(size_t size)
{
    if (!enter()) {
        return below->malloc(size);
    }
    return acquired(below->malloc(size), size);
}

static void *
native_calloc(size_t nelem, size_t elsize)
{
    if (!enter()) {
        return below->calloc(nelem, elsize);
    }
    return acquired(below->calloc(nelem, elsize), nelem * elsize);
}

/* Without a size, realloc() may release the block and return NULL. */
static void *
native_realloc(void *block, size_t size)
{
    if (!enter()) {
        return below->realloc(block, size);
    }
    struct released released = {.clears = 0};
    if (block != NULL) {
        releasing(block, &released);
    }
    void *moved = below->realloc(block, size);
    if (moved == NULL && size != 0 && released.clears != 0) {
        not_released(&released);
    }
    return acquired(moved, size);
}

static void
native_free(void *block)
{
    if (block == NULL || !enter()) {
        below->free(block);
        return;
    }
    if (!release_cell(block)) {
        struct released released;
        releasing(block, &released);
    }
    below->free(block);
    leave();
}

static void *
native_aligned_alloc(size_t alignment, size_t size)
{
    if (!enter()) {
        return below->aligned_alloc(alignment, size);
    }
    return add(below->aligned_alloc(alignment, size), size);
}

static void *
native_memalign(size_t alignment, size_t size)
{
    if (!enter()) {
        return below->memalign(alignment, size);
    }
    return add(below->memalign(alignment, size), size);
}

static int
native_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (!enter()) {
        return below->posix_memalign(block, alignment, size);
    }
    int error = below->posix_memalign(block, alignment, size);
    (void)add(error == 0 ? *block : NULL, size);
    return error;
}

static void *
native_valloc(size_t size)
{
    if (!enter()) {
        return below->valloc(size);
    }
    return add(below->valloc(size), size);
}

static void *
native_pvalloc(size_t size)
{
    if (!enter()) {
        return below->pvalloc(size);
    }
    return add(below->pvalloc(size), _Py_SIZE_ROUND_UP(size, page));
}

/* --- Mappings.  Files are no memory of the program, and neither are addresses
   that are only reserved. */

static int
is_memory(int prot, int flags)
{
    return (flags & MAP_ANONYMOUS) && (prot & PROT_WRITE)
           && !(flags & MAP_NORESERVE);
}

static void *
native_mmap(void *address, size_t size, int prot, int flags, int fd,
            off_t offset)
{
    if (!enter_unlocked()) {
        return below->mmap(address, size, prot, flags, fd, offset);
    }
    void *p = below->mmap(address, size, prot, flags, fd, offset);
    if (p != MAP_FAILED) {
        int saved_errno = errno;
        struct taker taker = find_taker();
        size = _Py_SIZE_ROUND_UP(size, page);
        _PyTracer_Lock();
        if (_PyTracer_SeesNative()) {
            (void)_PyTracer_CutRanges((uintptr_t)p, size);
            if (is_memory(prot, flags)) {
                (void)_PyTracer_AddRange((uintptr_t)p, size,
                                         capture(&taker));
            }
        }
        _PyTracer_Unlock();
        errno = saved_errno;
    }
    leave();
    return p;
}

static int
native_munmap(void *address, size_t size)
{
    if (!enter_unlocked()) {
        return below->munmap(address, size);
    }
    _PyTracer_Lock();
    int result = below->munmap(address, size);
    int saved_errno = errno;
    if (result == 0 && _PyTracer_SeesNative()) {
        (void)_PyTracer_CutRanges((uintptr_t)address,
                                  _Py_SIZE_ROUND_UP(size, page));
    }
    _PyTracer_Unlock();
    errno = saved_errno;
    leave();
    return result;
}

/* As with realloc(), it counts where it was moved or changed. */
static void *
native_mremap(void *address, size_t size, size_t new_size, int flags,
              void *new_address)
{
    if (!enter_unlocked()) {
        return below->mremap(address, size, new_size, flags, new_address);
    }
    struct taker taker = find_taker();
    _PyTracer_Lock();
    void *p = below->mremap(address, size, new_size, flags, new_address);
    int saved_errno = errno;
    if (p != MAP_FAILED && _PyTracer_SeesNative()) {
        size = _Py_SIZE_ROUND_UP(size, page);
        new_size = _Py_SIZE_ROUND_UP(new_size, page);
        int was_traced = _PyTracer_CutRanges((uintptr_t)address, size);
        (void)_PyTracer_CutRanges((uintptr_t)p, new_size);
        if (was_traced) {
            (void)_PyTracer_AddRange((uintptr_t)p, new_size,
                                     capture(&taker));
        }
    }
    _PyTracer_Unlock();
    errno = saved_errno;
    leave();
    return p;
}

/* --- Threads */

struct birth {
    void *(*function)(void *);
    void *argument;
    struct tracer_origin origin;
};

static void *
begin_thread(void *argument)
{
    struct birth birth = *(struct birth *)argument;
    below->free(argument);
    origin = birth.origin;
    return birth.function(birth.argument);
}

/* What pthread_create() itself takes for the thread is native memory. */
static int
native_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                      void *(*function)(void *), void *argument)
{
    struct birth *birth = NULL;
    if (enter_unlocked()) {
        birth = below->malloc(sizeof(*birth));
        if (birth != NULL) {
            struct taker taker = find_taker();
            *birth = (struct birth){function, argument, {0, 0}};
            _PyTracer_Lock();
            if (_PyTracer_SeesNative()) {
                birth->origin = _PyTracer_OriginAt(capture(&taker).node);
            }
            _PyTracer_Unlock();
        }
        leave();
    }
    if (birth == NULL) {
        return below->pthread_create(thread, attributes, function, argument);
    }
    int error = below->pthread_create(thread, attributes, begin_thread,
                                      birth);
    if (error != 0) {
        below->free(birth);
    }
    return error;
}

static const struct tracer_family functions = {
    native_malloc, native_calloc, native_realloc, native_free,
    native_aligned_alloc, native_memalign, native_posix_memalign,
    native_valloc, native_pvalloc, native_mmap, native_munmap, native_mremap,
    native_pthread_create,
};

/* --- On and off */

/* Other threads call the functions meanwhile: old ones and new ones. */
static void
install(const struct tracer_family *family)
{
    void *const *from = (void *const *)family;
    void **to = (void **)_PyTracer_program.family;
    for (size_t i = 0; i < sizeof(*family) / sizeof(*to); i++) {
        _Py_atomic_store_ptr_relaxed(&to[i], from[i]);
    }
}

int
_PyTracer_StartNative(int frames)
{
    if (_PyTracer_CheckNative(frames) < 0) {
        return -1;
    }
    _PyTracer_HideArenas();
    _PyTracer_Lock();
    if (_PyTracer.tracing && !_PyTracer_native.on) {
        below = _PyTracer_program.below;
        page = (size_t)sysconf(_SC_PAGESIZE);
        _PyTracer_native.on = 1;
        _PyTracer_native.frames = frames;
        _PyTracer_ClearNative();
        install(&functions);
    }
    _PyTracer_Unlock();
    return 0;
}

void
_PyTracer_StopNative(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (_PyTracer_native.on) {
        install(below);
        _PyTracer_native.on = 0;
    }
}
