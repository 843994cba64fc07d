/* Block tables: the traced side of pymalloc.  Included by obmalloc.c.

   A pool gets, on its first traced use, an array with a 32-bit entry for each
   block; the pool header holds the pointer, NULL while tracing is off.  The
   index of a block is (address - first block) / block size, by a
   multiplication: both are multiples of 16, offset / 16 < 1024 and
   size / 16 <= 32, so floor(x / k) == x * ceil(2**16 / k) >> 16.

   The fused functions do in one go what PyObject_Malloc() and the tracer do.
   They are installed only while pymalloc's own functions serve the object and
   memory domains and one GIL protects everything; what pymalloc passes on to
   the raw domain they ask of the raw allocator below the tracer, so that
   a big block is traced once, in its own domain. */

#include "pycore_tracer_core.h"

static_assert(POOL_SIZE >> ALIGNMENT_SHIFT <= 1024
              && SMALL_REQUEST_THRESHOLD >> ALIGNMENT_SHIFT <= 32,
              "reciprocals are exact in this range");

#define RECIPROCAL(I) ((65536 + (I)) / ((I) + 1))
#define RECIPROCAL4(I) RECIPROCAL(I), RECIPROCAL((I) + 1), \
                       RECIPROCAL((I) + 2), RECIPROCAL((I) + 3)
static const uint32_t tracer_reciprocal[] = {
    RECIPROCAL4(0), RECIPROCAL4(4), RECIPROCAL4(8), RECIPROCAL4(12),
    RECIPROCAL4(16), RECIPROCAL4(20), RECIPROCAL4(24), RECIPROCAL4(28),
};
#undef RECIPROCAL4
#undef RECIPROCAL

static inline uint32_t
tracer_index(poolp pool, const void *block)
{
    size_t offset = (size_t)((const char *)block - (const char *)pool)
                    - POOL_OVERHEAD;
    return ((uint32_t)offset >> ALIGNMENT_SHIFT)
           * tracer_reciprocal[pool->szidx] >> 16;
}

/* --- Tables */

/* Locked. */
static uint32_t *
tracer_make_table(poolp pool)
{
    if (pool->tracer_table == NULL) {
        pool->tracer_table = _PyTracer_MemTable(NUMBLOCKS(pool->szidx));
    }
    return pool->tracer_table;
}

static Py_NO_INLINE uint32_t *
tracer_first_table(poolp pool)
{
    _PyTracer_Lock();
    uint32_t *table = tracer_make_table(pool);
    _PyTracer_Unlock();
    return table;
}

/* The pool is about to serve another size class or to go back to the system:
   all its blocks are free.  Not locked. */
static void
tracer_release_table(poolp pool)
{
    if (pool->tracer_table != NULL) {
        _PyTracer_Lock();
        _PyTracer_MemFreeTable(pool->tracer_table, NUMBLOCKS(pool->szidx));
        _PyTracer_Unlock();
        pool->tracer_table = NULL;
    }
}

/* All pools of an arena that goes back to the system. */
static void
tracer_release_arena(struct arena_object *arena)
{
    if (!_PyTracer_enabled) {
        return;
    }
    uintptr_t base = (uintptr_t)_Py_ALIGN_UP(arena->address, POOL_SIZE);
    for (; base < (uintptr_t)arena->pool_address; base += POOL_SIZE) {
        tracer_release_table((poolp)base);
    }
}

uint32_t *
_PyTracer_Entry(void *block, int create, size_t *size)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate == NULL || tstate->interp->obmalloc == NULL) {
        return NULL;
    }
    OMState *state = tstate->interp->obmalloc;
    poolp pool = POOL_ADDR(block);
    if (!address_in_range(state, block, pool)) {
        return NULL;
    }
    uint32_t *table = create ? tracer_make_table(pool) : pool->tracer_table;
    if (table == NULL) {
        return NULL;
    }
    uint32_t index = tracer_index(pool, block);
    *size = INDEX2SIZE(pool->szidx);
    if ((char *)pool + POOL_OVERHEAD + index * *size != (char *)block) {
        return NULL;              // inside a block: behind a debug header
    }
    return &table[index];
}

/* --- Fused functions */

static inline Py_ALWAYS_INLINE void
tracer_record_small(PyThreadState *tstate, void *block, size_t nbytes,
                    enum tracer_kind kind)
{
    uint32_t node = _PyTracer_Capture(tstate);
    poolp pool = POOL_ADDR(block);
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL)) {
        table = tracer_first_table(pool);
    }
    if (UNLIKELY(table == NULL || node == TRACER_NODE_NONE)) {
        _PyTracer.untraced++;
        return;
    }
    size_t slack = INDEX2SIZE(pool->szidx) - nbytes;
    assert(slack <= TRACER_MAX_SLACK);
    table[tracer_index(pool, block)] = TRACER_ENTRY(node, kind, slack);
    _PyTracer_CountAlloc(node, nbytes);
}

/* Drop the entry of a small block, if it has one, and return it. */
static inline Py_ALWAYS_INLINE uint32_t
tracer_drop_small(poolp pool, void *block)
{
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL)) {
        return 0;
    }
    uint32_t *slot = &table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    size_t size = INDEX2SIZE(pool->szidx) - TRACER_ENTRY_SLACK(entry);
    *slot = 0;
    if (LIKELY(entry >= TRACER_ENTRY_FIRST)) {
        _PyTracer_CountFree(TRACER_ENTRY_NODE(entry), size);
    }
    else if (entry != 0) {
        _PyTracer_CountOut(TRACER_ENTRY_NODE(entry), size);
    }
    return entry;
}

static Py_NO_INLINE void *
tracer_big_malloc(OMState *state, size_t nelem, size_t elsize, int zeroed,
                  enum tracer_kind kind)
{
    const PyMemAllocatorEx *raw = &_PyTracer.raw;
    _PyTracer_FALLBACK(nelem * elsize);
    void *block = zeroed ? raw->calloc(raw->ctx, nelem, elsize)
                         : raw->malloc(raw->ctx, nelem * elsize);
    if (block != NULL) {
        raw_allocated_blocks++;
        _PyTracer_Record(block, nelem * elsize, kind);
    }
    return block;
}

static inline Py_ALWAYS_INLINE void
tracer_tick(int clocked)
{
    if (clocked && UNLIKELY(--_PyTracer.countdown == 0)) {
        _PyTracer_LookAtClock();
    }
}

static inline Py_ALWAYS_INLINE void *
tracer_malloc(void *ctx, size_t nbytes, enum tracer_kind kind, int clocked)
{
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    void *block = pymalloc_alloc(state, ctx, nbytes);
    tracer_tick(clocked);
    if (UNLIKELY(block == NULL)) {
        return tracer_big_malloc(state, 1, nbytes, 0, kind);
    }
    tracer_record_small(tstate, block, nbytes, kind);
    return block;
}

static inline Py_ALWAYS_INLINE void *
tracer_calloc(void *ctx, size_t nelem, size_t elsize, enum tracer_kind kind,
              int clocked)
{
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    size_t nbytes = nelem * elsize;
    void *block = pymalloc_alloc(state, ctx, nbytes);
    tracer_tick(clocked);
    if (UNLIKELY(block == NULL)) {
        return tracer_big_malloc(state, nelem, elsize, 1, kind);
    }
    memset(block, 0, nbytes);
    tracer_record_small(tstate, block, nbytes, kind);
    return block;
}

static Py_NO_INLINE void
tracer_big_free(OMState *state, void *block)
{
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    _PyTracer.raw.free(_PyTracer.raw.ctx, block);
    raw_allocated_blocks--;
}

static void
tracer_free(void *Py_UNUSED(ctx), void *block)
{
    if (block == NULL) {
        return;
    }
    OMState *state = get_state();
    poolp pool = POOL_ADDR(block);
    if (UNLIKELY(!address_in_range(state, block, pool))) {
        tracer_big_free(state, block);
        return;
    }
    (void)tracer_drop_small(pool, block);
    (void)pymalloc_pool_free(state, pool, block);
}

/* A block that grows or shrinks is a new block, made here, now; the old one
   is dropped first, so that the peak does not see both. */

static Py_NO_INLINE void *
tracer_big_realloc(void *block, size_t nbytes, enum tracer_kind kind)
{
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    void *moved = _PyTracer.raw.realloc(_PyTracer.raw.ctx, block, nbytes);
    if (moved == NULL) {
        _PyTracer_Undrop(&dropped);
        return NULL;
    }
    _PyTracer_Record(moved, nbytes, kind);
    return moved;
}

static Py_NO_INLINE void
tracer_undrop_small(poolp pool, void *block, uint32_t entry)
{
    if (entry != 0) {
        pool->tracer_table[tracer_index(pool, block)] = entry;
        _PyTracer_CountBack(TRACER_ENTRY_NODE(entry),
                            INDEX2SIZE(pool->szidx)
                            - TRACER_ENTRY_SLACK(entry));
    }
}

static inline Py_ALWAYS_INLINE void *
tracer_realloc(void *ctx, void *block, size_t nbytes, enum tracer_kind kind,
               int clocked)
{
    if (block == NULL) {
        return tracer_malloc(ctx, nbytes, kind, clocked);
    }
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    poolp pool = POOL_ADDR(block);
    if (!address_in_range(state, block, pool)) {
        return tracer_big_realloc(block, nbytes, kind);
    }
    size_t size = INDEX2SIZE(pool->szidx);
    uint32_t entry = tracer_drop_small(pool, block);
    /* Stay in place as pymalloc does: less than a quarter would be saved. */
    if (nbytes <= size && 4 * nbytes > 3 * size) {
        tracer_record_small(tstate, block, nbytes, kind);
        return block;
    }
    void *moved = tracer_malloc(ctx, nbytes, kind, clocked);
    if (moved == NULL) {
        tracer_undrop_small(pool, block, entry);
        return NULL;
    }
    memcpy(moved, block, Py_MIN(size, nbytes));
    (void)pymalloc_pool_free(state, pool, block);
    return moved;
}

#define FUSED(NAME, KIND, CLOCKED)                                      \
    static void *                                                       \
    tracer_malloc_##NAME(void *ctx, size_t nbytes)                      \
    {                                                                   \
        return tracer_malloc(ctx, nbytes, KIND, CLOCKED);               \
    }                                                                   \
    static void *                                                       \
    tracer_calloc_##NAME(void *ctx, size_t nelem, size_t elsize)        \
    {                                                                   \
        return tracer_calloc(ctx, nelem, elsize, KIND, CLOCKED);        \
    }                                                                   \
    static void *                                                       \
    tracer_realloc_##NAME(void *ctx, void *block, size_t nbytes)        \
    {                                                                   \
        return tracer_realloc(ctx, block, nbytes, KIND, CLOCKED);       \
    }                                                                   \
    static const PyMemAllocatorEx tracer_fused_##NAME = {               \
        NULL, tracer_malloc_##NAME, tracer_calloc_##NAME,               \
        tracer_realloc_##NAME, tracer_free,                             \
    };

FUSED(object, TRACER_OBJECT, 0)
FUSED(memory, TRACER_MEMORY, 0)
FUSED(object_clocked, TRACER_OBJECT, 1)
FUSED(memory_clocked, TRACER_MEMORY, 1)
#undef FUSED

PyMemAllocatorEx
_PyTracer_Fused(enum tracer_kind kind)
{
    if (kind == TRACER_OBJECT) {
        return _PyTracer.clocked ? tracer_fused_object_clocked
                                 : tracer_fused_object;
    }
    assert(kind == TRACER_MEMORY);
    return _PyTracer.clocked ? tracer_fused_memory_clocked
                             : tracer_fused_memory;
}

int
_PyTracer_PymallocInUse(void)
{
    PyMemAllocatorEx pymalloc = PYMALLOC_ALLOC;
    return pymemallocator_eq(&_PyTracer.obj, &pymalloc)
           && pymemallocator_eq(&_PyTracer.mem, &pymalloc);
}

/* --- Free lists: the short way

   While the fused functions are in use and pymalloc has never had to pass a
   small request on for want of an arena, a block of at most 512 bytes of
   these free lists is in a pool: there is nothing to look up.  (The chunks of
   object stacks are raw, but bigger.) */

static_assert(sizeof(void *) == 8, "an object stack chunk is over 512 bytes");

static inline Py_ALWAYS_INLINE int
tracer_is_small(poolp pool, size_t size)
{
    return LIKELY(size <= SMALL_REQUEST_THRESHOLD
                  && _PyTracer.fused > _PyTracer_small_fallback)
           && LIKELY(pool->tracer_table != NULL);
}

void
_PyTracer_Park(enum _PyTracer_freelist kind, void *block, size_t size)
{
    uint32_t node = TRACER_NODE_PARKED + kind;
    poolp pool = POOL_ADDR(block);
    if (UNLIKELY(!tracer_is_small(pool, size))) {
        _PyTracer_Move(block, size, node, 0);
        return;
    }
    uint32_t *slot = &pool->tracer_table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    size_t block_size = INDEX2SIZE(pool->szidx);
    if (LIKELY(entry >= TRACER_ENTRY_FIRST)) {
        size = block_size - TRACER_ENTRY_SLACK(entry);
        _PyTracer_CountFree(TRACER_ENTRY_NODE(entry), size);
        *slot = (entry & 0xff) | node << 8;
    }
    else {
        if (entry != 0) {
            size = block_size - TRACER_ENTRY_SLACK(entry);
            _PyTracer_CountOut(TRACER_ENTRY_NODE(entry), size);
        }
        *slot = TRACER_ENTRY(node, TRACER_ENTRY_DOMAIN(entry),
                             block_size - size);
    }
    struct tracer_node *parked = _PyTracer_Node(node);
    parked->alloc_bytes += size;
    parked->alloc_blocks++;
}

void
_PyTracer_Unpark(enum _PyTracer_freelist kind, void *block, size_t size)
{
    poolp pool = POOL_ADDR(block);
    if (UNLIKELY(!tracer_is_small(pool, size))) {
        _PyTracer_Move(block, size, TRACER_NODE_NONE, 1);
        return;
    }
    uint32_t *slot = &pool->tracer_table[tracer_index(pool, block)];
    uint32_t entry = *slot;
    size_t block_size = INDEX2SIZE(pool->szidx);
    uint32_t node = _PyTracer_Capture(_PyThreadState_GET());
    if (LIKELY(TRACER_ENTRY_NODE(entry) == TRACER_NODE_PARKED + kind)) {
        struct tracer_node *parked =
            _PyTracer_Node(TRACER_NODE_PARKED + kind);
        size = block_size - TRACER_ENTRY_SLACK(entry);
        parked->free_bytes += size;
        parked->free_blocks++;
    }
    else if (entry != 0) {
        size = block_size - TRACER_ENTRY_SLACK(entry);
        _PyTracer_CountOut(TRACER_ENTRY_NODE(entry), size);
    }
    if (UNLIKELY(node == TRACER_NODE_NONE)) {
        *slot = 0;
        _PyTracer.untraced++;
        return;
    }
    *slot = TRACER_ENTRY(node, TRACER_ENTRY_DOMAIN(entry),
                         block_size - size);
    _PyTracer_CountAlloc(node, size);
}

/* --- All pools */

static int
tracer_visit_state(OMState *state,
                   int (*visit)(poolp, uintptr_t arena, void *), void *arg)
{
    for (uint i = 0; i < maxarenas; i++) {
        uintptr_t arena = allarenas[i].address;
        if (arena == 0) {
            continue;
        }
        uintptr_t base = (uintptr_t)_Py_ALIGN_UP(arena, POOL_SIZE);
        for (; base < (uintptr_t)allarenas[i].pool_address;
             base += POOL_SIZE)
        {
            int result = visit((poolp)base, arena, arg);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

static int
tracer_visit_all(int (*visit)(poolp, uintptr_t arena, void *), void *arg)
{
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        if (interp->obmalloc == NULL || !has_own_state(interp)) {
            continue;
        }
        int result = tracer_visit_state(interp->obmalloc, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int
tracer_forget_pool(poolp pool, uintptr_t Py_UNUSED(arena),
                   void *Py_UNUSED(arg))
{
    pool->tracer_table = NULL;
    return 0;
}

void
_PyTracer_ForgetPools(void)
{
    (void)tracer_visit_all(tracer_forget_pool, NULL);
}

struct tracer_visitor {
    int (*visit)(const struct tracer_pool *, void *);
    void *arg;
};

static int
tracer_show_pool(poolp pool, uintptr_t arena, void *arg)
{
    struct tracer_visitor *visitor = arg;
    if (pool->szidx == DUMMY_SIZE_IDX) {
        return 0;
    }
    uint32_t size = INDEX2SIZE(pool->szidx);
    struct tracer_pool view = {
        .blocks = (char *)pool + POOL_OVERHEAD,
        .block_size = size,
        .nblocks = (pool->nextoffset - POOL_OVERHEAD) / size,
        .nused = pool->ref.count,
        .entries = pool->tracer_table,
        .arena = arena,
    };
    return visitor->visit(&view, visitor->arg);
}

int
_PyTracer_VisitPools(int (*visit)(const struct tracer_pool *pool, void *arg),
                     void *arg)
{
    struct tracer_visitor visitor = {visit, arg};
    return tracer_visit_all(tracer_show_pool, &visitor);
}
