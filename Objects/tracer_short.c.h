/* The short way through malloc and free, and on and off free lists.  Included
   by obmalloc.c.

   Nearly every call finds nothing special: a pool with free blocks, a table, a
   frame that is known, no new peak, no first change since the peak.  The
   functions here look at all that first and change nothing; then they do the
   whole work in one straight line.  Whatever else there is, they leave, still
   unchanged, to the whole functions, as their last call: so the compiler needs
   to save no register for it. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"

/* --- malloc() and free() */

/* Bytes of the map, which threads without the GIL change.  An atomic read
   could be no operand of an addition. */
static inline Py_ALWAYS_INLINE int64_t
tracer_map_current(void)
{
#ifdef _Py_THREAD_SANITIZER
    return _Py_atomic_load_int64_relaxed(&_PyTracer.map_current);
#else
    return _PyTracer.map_current;
#endif
}

/* Is the count of a node that is about to grow not that of the peak, or saved
   already? */
static inline Py_ALWAYS_INLINE int
tracer_may_grow(const struct tracer_node *node)
{
    return LIKELY(node->saved >= _PyTracer.epoch) || _PyTracer.rising;
}

/* While watched, is it time to look at the clock, or has traced memory left
   the range of the alarm?  One comparison for both ends. */
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

/* The frame or its instruction is another one than last time. */
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
        return tracer_malloc(ctx, nbytes, kind);
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
        return tracer_calloc(ctx, nelem, elsize, kind);
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
        tracer_free(ctx, block);
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
    *slot = 0;
    _PyTracer.small_current -= size;
    node->free_bytes += (uint32_t)size;
    node->free_blocks++;
    pymem_block *next = pool->freeblock;
    uint count = pool->ref.count - 1;
    if (UNLIKELY(next == NULL) || UNLIKELY(count == 0)) {
        tracer_pool_free(state, pool, block);
        return;
    }
    *(pymem_block **)block = next;
    pool->freeblock = block;
    pool->ref.count = count;
}

/* --- On and off free lists

   While the short way is open, which it is with the fused functions unless
   pymalloc had to pass a small request on for want of an arena, a block of at
   most 512 bytes is in a pool: there is nothing to look up. */

/* Pool of a small block, if there is no doubt that it has one with a table. */
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

/* The same for the lists that every program lives on, with one argument, so
   that the hook takes little room where it is inlined; what the block's size
   is, is asked only when it must be. */

static inline Py_ALWAYS_INLINE void *
tracer_hot_block(enum _PyTracer_freelist kind, void *op)
{
    int plain = kind == _PyTracer_FLOAT || kind == _PyTracer_DICT_KEYS;
    return plain ? op : (char *)op - _PyTracer_GC_HEADER;
}

static size_t
tracer_hot_size(enum _PyTracer_freelist kind, void *op)
{
    switch (kind) {
    case _PyTracer_FLOAT:
        return sizeof(PyFloatObject);
    case _PyTracer_DICT_KEYS:
        return _PyDict_KeysSize(op);
    case _PyTracer_DICT:
        return sizeof(PyDictObject) + _PyTracer_GC_HEADER;
    case _PyTracer_LIST:
        return sizeof(PyListObject) + _PyTracer_GC_HEADER;
    case _PyTracer_SLICE:
        return sizeof(PySliceObject) + _PyTracer_GC_HEADER;
    case _PyTracer_TUPLE:
        return _PyObject_VAR_SIZE(&PyTuple_Type, Py_SIZE(op))
               + _PyTracer_GC_HEADER;
    default:
        Py_UNREACHABLE();
    }
}

static Py_NO_INLINE void
tracer_move_hot(enum _PyTracer_freelist kind, void *op, uint32_t node,
                int capture)
{
    _PyTracer_Reassign(kind, tracer_hot_block(kind, op),
                   tracer_hot_size(kind, op), node, capture);
}

static Py_NO_INLINE void
tracer_capture_hot(enum _PyTracer_freelist kind, void *op)
{
    uint32_t id = TRACER_NODE_NONE;
    if (LIKELY(_PyTracer.short_way)) {
        id = _PyTracer_CaptureSlow(_PyThreadState_GET());
    }
    if (UNLIKELY(id == TRACER_NODE_NONE)
        || !tracer_unpark(kind, tracer_hot_block(kind, op), id))
    {
        tracer_move_hot(kind, op, TRACER_NODE_NONE, 1);
    }
}

#define HOT(KIND)                                                       \
    void                                                                \
    _PyTracer_Park_##KIND(void *op)                                     \
    {                                                                   \
        const enum _PyTracer_freelist kind = _PyTracer_##KIND;          \
        if (UNLIKELY(!tracer_park(kind, tracer_hot_block(kind, op)))) { \
            tracer_move_hot(kind, op, TRACER_NODE_PARKED + kind, 0);    \
        }                                                               \
    }                                                                   \
    void                                                                \
    _PyTracer_Unpark_##KIND(void *op)                                   \
    {                                                                   \
        const enum _PyTracer_freelist kind = _PyTracer_##KIND;          \
        uint32_t id = _PyTracer_CaptureFast(_PyThreadState_GET(),       \
                                            _PyTracer.limit > 1);       \
        if (UNLIKELY(id == TRACER_NODE_NONE)) {                         \
            tracer_capture_hot(kind, op);                               \
        }                                                               \
        else if (UNLIKELY(!tracer_unpark(                               \
                     kind, tracer_hot_block(kind, op), id)))            \
        {                                                               \
            tracer_move_hot(kind, op, TRACER_NODE_NONE, 1);             \
        }                                                               \
    }
_PyTracer_HOT_FREELISTS(HOT)
#undef HOT

/* --- Which functions are installed */

/* For one frame and for the whole stack, each with and without a watch. */
#define SHORT(NAME, KIND, REALLOC, WHOLE, WATCHED)                      \
    static void *                                                       \
    tracer_malloc_##NAME(void *ctx, size_t nbytes)                      \
    {                                                                   \
        return tracer_short_malloc(ctx, nbytes, KIND, WHOLE, WATCHED);  \
    }                                                                   \
    static void *                                                       \
    tracer_calloc_##NAME(void *ctx, size_t nelem, size_t elsize)        \
    {                                                                   \
        return tracer_short_calloc(ctx, nelem, elsize, KIND, WHOLE,     \
                                   WATCHED);                            \
    }                                                                   \
    static const PyMemAllocatorEx tracer_fused_##NAME = {               \
        NULL, tracer_malloc_##NAME, tracer_calloc_##NAME,               \
        REALLOC, tracer_short_free,                                     \
    };
#define SHORT_4(NAME, KIND)                                             \
    static void *                                                       \
    tracer_realloc_##NAME(void *ctx, void *block, size_t nbytes)        \
    {                                                                   \
        return tracer_realloc(ctx, block, nbytes, KIND);                \
    }                                                                   \
    SHORT(NAME##_one, KIND, tracer_realloc_##NAME, 0, 0)                \
    SHORT(NAME##_one_watched, KIND, tracer_realloc_##NAME, 0, 1)        \
    SHORT(NAME##_whole, KIND, tracer_realloc_##NAME, 1, 0)              \
    SHORT(NAME##_whole_watched, KIND, tracer_realloc_##NAME, 1, 1)

SHORT_4(object, TRACER_OBJECT)
SHORT_4(memory, TRACER_MEMORY)
#undef SHORT_4
#undef SHORT

/* By kind, whole, watched. */
static const PyMemAllocatorEx *const tracer_fused[2][2][2] = {
    {{&tracer_fused_object_one, &tracer_fused_object_one_watched},
     {&tracer_fused_object_whole, &tracer_fused_object_whole_watched}},
    {{&tracer_fused_memory_one, &tracer_fused_memory_one_watched},
     {&tracer_fused_memory_whole, &tracer_fused_memory_whole_watched}},
};

PyMemAllocatorEx
_PyTracer_Fused(enum tracer_kind kind)
{
    static_assert(TRACER_OBJECT == 0 && TRACER_MEMORY == 1, "an index");
    assert(kind <= TRACER_MEMORY);
    return *tracer_fused[kind][_PyTracer.limit > 1][_PyTracer.watched];
}
