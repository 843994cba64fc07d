/* The short way through malloc and free.  Included by obmalloc.c.

   Nearly every call is a common case: a pool with free blocks, a table, a
   known frame, no new peak, no first change since the peak.  The functions
   here first check all of that without changing anything, and then do the
   whole work in a straight line.  In any other case they leave everything
   unchanged and call the complete function as their last step, so that the
   compiler need not save any register for it. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_windows.h"

/* Bytes of the map, which threads without the GIL change.  An atomic read
   could not be an operand of an addition instruction. */
static inline Py_ALWAYS_INLINE int64_t
tracer_map_current(void)
{
#ifdef _Py_THREAD_SANITIZER
    return _Py_atomic_load_int64_relaxed(&_PyTracer.map_current);
#else
    return _PyTracer.map_current;
#endif
}

/* True if the count of a node that is about to grow need not be saved: it is
   not that of the peak, or it is saved already. */
static inline Py_ALWAYS_INLINE int
tracer_may_grow(const struct tracer_node *node)
{
    return LIKELY(node->saved >= _PyTracer.epoch) || _PyTracer.rising;
}

/* While watched: is it time to read the clock, or has traced memory left the
   range of the alarm?  One comparison checks both ends of the range. */
static inline Py_ALWAYS_INLINE int
tracer_must_watch(int64_t current)
{
    return UNLIKELY(--_PyTracer_bounds.countdown <= 0)
           || UNLIKELY((uint64_t)current - (uint64_t)_PyTracer_bounds.watch_low
                       > _PyTracer_bounds.watch_span);
}

/* The block was the last free one of its pool. */
static Py_NO_INLINE void *
tracer_pool_extend(poolp pool, uint szidx, void *block)
{
    pymalloc_pool_extend(pool, szidx);
    return block;
}

/* The pool was full, or is empty now. */
static Py_NO_INLINE void
tracer_pool_free(OMState *state, poolp pool, void *block)
{
    tracer_free_in_pool(state, pool, block);
    if (UNLIKELY(_PyTracer_HasFallen())) {
        _PyTracer_LockAndEndWindow();
    }
}

/* malloc() of at most 512 bytes, at the node. */
static inline Py_ALWAYS_INLINE void *
tracer_malloc_at(uint32_t id, OMState *state, void *ctx, size_t nbytes,
                 enum tracer_kind kind, int watched)
{
    uint szidx = (uint)(nbytes - 1) >> ALIGNMENT_SHIFT;
    poolp pool = usedpools[szidx + szidx];
    if (UNLIKELY(pool == pool->nextpool)) {
        return tracer_malloc(ctx, nbytes, kind);
    }
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL)) {
        return tracer_malloc(ctx, nbytes, kind);
    }
    pymem_block *block = pool->freeblock;
    assert(_PyTracer_IsLive(id) && nbytes <= INDEX2SIZE(pool->szidx));
    uint32_t *slot = &table[tracer_index(pool, block)];
    struct tracer_node *node = _PyTracer_Node(id);
    int64_t small_current = _PyTracer.small_current + (int64_t)nbytes;
    int64_t current = small_current + tracer_map_current();
    if ((watched ? tracer_must_watch(current)
                 : UNLIKELY(current > _PyTracer.high))
        || UNLIKELY(*slot != 0) || !tracer_may_grow(node)
        || UNLIKELY(_PyTracer_Wraps(node->alloc_bytes, nbytes)))
    {
        return tracer_malloc(ctx, nbytes, kind);
    }
    *slot = TRACER_ENTRY(id, kind, nbytes);
    _PyTracer.small_current = small_current;
    node->alloc_bytes += (uint32_t)nbytes;
    node->alloc_blocks++;
    pool->ref.count++;
    pool->freeblock = *(pymem_block **)block;
    if (UNLIKELY(pool->freeblock == NULL)) {
        return tracer_pool_extend(pool, szidx, block);
    }
    return block;
}

/* The frame or its instruction has changed since the last time. */
static Py_NO_INLINE void *
tracer_capture_malloc(void *ctx, size_t nbytes, enum tracer_kind kind)
{
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    uint32_t id = _PyTracer_CaptureSlow(tstate);
    if (UNLIKELY(id == TRACER_NODE_NONE)) {
        return tracer_malloc(ctx, nbytes, kind);
    }
    return tracer_malloc_at(id, state, ctx, nbytes, kind,
                            _PyTracer.watched);
}

static inline Py_ALWAYS_INLINE void *
tracer_short_malloc(void *ctx, size_t nbytes, enum tracer_kind kind,
                    int whole, int watched)
{
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    if (UNLIKELY(nbytes - 1 >= SMALL_REQUEST_THRESHOLD)) {
        return tracer_big_malloc(state, 1, nbytes, 0, kind);
    }
    uint32_t id = _PyTracer_CaptureFast(tstate, whole);
    if (UNLIKELY(id == TRACER_NODE_NONE)) {
        return tracer_capture_malloc(ctx, nbytes, kind);
    }
    return tracer_malloc_at(id, state, ctx, nbytes, kind, watched);
}

static inline Py_ALWAYS_INLINE void *
tracer_short_calloc(void *ctx, size_t nelem, size_t elsize,
                    enum tracer_kind kind, int whole, int watched)
{
    size_t nbytes = nelem * elsize;
    if (UNLIKELY(nbytes - 1 >= SMALL_REQUEST_THRESHOLD)) {
        return tracer_big_malloc(get_state(), nelem, elsize, 1, kind);
    }
    void *block = tracer_short_malloc(ctx, nbytes, kind, whole, watched);
    return block == NULL ? NULL : memset(block, 0, nbytes);
}

static void
tracer_short_free(void *ctx, void *block)
{
    if (UNLIKELY(block == NULL)) {
        return;
    }
    OMState *state = get_state();
    poolp pool = POOL_ADDR(block);
    if (UNLIKELY(!address_in_range(state, block, pool))) {
        tracer_big_free(state, block);
        return;
    }
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL)) {
        tracer_free(ctx, block);
        return;
    }
    uint32_t *slot = &table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    size_t size = TRACER_ENTRY_SIZE(entry);
    struct tracer_node *node = _PyTracer_Node(TRACER_ENTRY_NODE(entry));
    if (UNLIKELY(entry < TRACER_ENTRY_FIRST)
        || UNLIKELY(node->saved < _PyTracer.free_bound)
        || UNLIKELY(_PyTracer_Wraps(node->free_bytes, size)))
    {
        tracer_free(ctx, block);
        return;
    }
    assert(size <= INDEX2SIZE(pool->szidx));
    *slot = 0;
    _PyTracer.small_current -= size;
    assert(_PyTracer.small_current >= 0);
    node->free_bytes += (uint32_t)size;
    node->free_blocks++;
    pymem_block *next = pool->freeblock;
    uint count = pool->ref.count - 1;
    if (UNLIKELY(next == NULL) || UNLIKELY(count == 0)) {
        tracer_pool_free(state, pool, block);
        return;
    }
    assert(block != next);
    *(pymem_block **)block = next;
    pool->freeblock = block;
    pool->ref.count = count;
}
