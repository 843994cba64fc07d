/* On and off free lists: the short way.  Included by obmalloc.c.

   The short way is open while the fused functions are installed, unless
   pymalloc was out of arenas and had to pass a small request on.  While it is
   open, each block of at most 512 bytes is in a pool: there is nothing to look
   up. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_state.h"

/* Pool of a small block, if it certainly has a pool with a table. */
static inline Py_ALWAYS_INLINE poolp
tracer_sure_pool(void *block)
{
    poolp pool = POOL_ADDR(block);
    return LIKELY(_PyTracer.short_way) && LIKELY(pool->tracer_table != NULL)
           ? pool : NULL;
}

/* 0: nothing is done. */
static inline Py_ALWAYS_INLINE int
tracer_park(enum _PyTracer_freelist kind, void *block)
{
    poolp pool = tracer_sure_pool(block);
    if (UNLIKELY(pool == NULL)) {
        return 0;
    }
    uint32_t *slot = &pool->tracer_table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    size_t size = TRACER_ENTRY_SIZE(entry);
    struct tracer_node *node = _PyTracer_Node(TRACER_ENTRY_NODE(entry));
    if (UNLIKELY(entry < TRACER_ENTRY_FIRST)
        || UNLIKELY(node->saved < _PyTracer.free_bound)
        || UNLIKELY(_PyTracer_Wraps(node->free_bytes, size)))
    {
        return 0;
    }
    *slot = TRACER_ENTRY_MOVE(entry, TRACER_NODE_PARKED + kind);
    _PyTracer.small_current -= size;
    _PyTracer.parked[kind] += TRACER_PARKED(size);
    node->free_bytes += (uint32_t)size;
    node->free_blocks++;
    return 1;
}

/* 0: nothing is done. */
static inline Py_ALWAYS_INLINE int
tracer_unpark(enum _PyTracer_freelist kind, void *block, uint32_t id)
{
    poolp pool = tracer_sure_pool(block);
    if (UNLIKELY(pool == NULL)) {
        return 0;
    }
    uint32_t *slot = &pool->tracer_table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    struct tracer_node *node = _PyTracer_Node(id);
    size_t size = TRACER_ENTRY_SIZE(entry);
    int64_t small_current = _PyTracer.small_current + (int64_t)size;
    int64_t current = small_current + tracer_map_current();
    if (UNLIKELY(TRACER_ENTRY_NODE(entry) != TRACER_NODE_PARKED + kind)
        || UNLIKELY(current > _PyTracer.high) || !tracer_may_grow(node)
        || UNLIKELY(_PyTracer_Wraps(node->alloc_bytes, size))
        || (UNLIKELY(_PyTracer.watched) && tracer_must_watch(current)))
    {
        return 0;
    }
    *slot = TRACER_ENTRY_MOVE(entry, id);
    _PyTracer.small_current = small_current;
    _PyTracer.parked[kind] -= TRACER_PARKED(size);
    node->alloc_bytes += (uint32_t)size;
    node->alloc_blocks++;
    return 1;
}

void
_PyTracer_Park(enum _PyTracer_freelist kind, void *block, size_t size)
{
    if (UNLIKELY(size > SMALL_REQUEST_THRESHOLD)
        || UNLIKELY(!tracer_park(kind, block)))
    {
        _PyTracer_Reassign(kind, block, size, TRACER_NODE_PARKED + kind, 0);
    }
}

void
_PyTracer_Unpark(enum _PyTracer_freelist kind, void *block, size_t size)
{
    uint32_t id = TRACER_NODE_NONE;
    if (LIKELY(size <= SMALL_REQUEST_THRESHOLD)
        && LIKELY(_PyTracer.short_way))
    {
        id = _PyTracer_Capture(_PyThreadState_GET());
    }
    if (UNLIKELY(id == TRACER_NODE_NONE) || !tracer_unpark(kind, block, id)) {
        _PyTracer_Reassign(kind, block, size, TRACER_NODE_NONE, 1);
    }
}
