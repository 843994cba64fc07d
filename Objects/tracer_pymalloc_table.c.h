/* Block tables: find, visit and forget of pymalloc's blocks.  Included by
   obmalloc.c.

   A pool gets, on its first traced use, an array with a 32-bit entry for each
   block; the pool header holds the pointer, NULL while tracing is off.  The
   index of a block's entry is the block's offset in the pool divided by the
   block size, rounded down.  As block 0 lies behind the header, the first
   entries of the smallest sizes are not used. The division is a
   multiplication: both are multiples of 16, offset / 16 < 1024 and size / 16
   <= 32, therefore floor(x / k) == x * ceil(2**15 / k) >> 15. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_interp.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"

static_assert(POOL_SIZE >> ALIGNMENT_SHIFT <= 1024
              && SMALL_REQUEST_THRESHOLD >> ALIGNMENT_SHIFT <= 32,
              "reciprocals are exact in this range");
static_assert(SMALL_REQUEST_THRESHOLD == TRACER_ENTRY_MAX_SIZE,
              "an entry holds the size of any small block");

static inline Py_ALWAYS_INLINE uint32_t
tracer_index(poolp pool, const void *block)
{
    uint32_t offset = (uint32_t)((uintptr_t)block & POOL_SIZE_MASK);
    assert(pool->tracer_reciprocal
           == ((1 << 15) + pool->szidx) / (pool->szidx + 1));
    return offset * pool->tracer_reciprocal >> (15 + ALIGNMENT_SHIFT);
}

/* Entry of block 0. */
static inline uint32_t
tracer_first_index(uint32_t szidx)
{
    return POOL_OVERHEAD / INDEX2SIZE(szidx);
}

static inline uint32_t
tracer_table_size(uint32_t szidx)
{
    return tracer_first_index(szidx) + NUMBLOCKS(szidx);
}

/* --- Tables */

/* Address of the block with this number. */
static inline uintptr_t
tracer_address(poolp pool, uint32_t number)
{
    assert(number < NUMBLOCKS(pool->szidx));
    return (uintptr_t)pool + POOL_OVERHEAD
           + (size_t)number * INDEX2SIZE(pool->szidx);
}

/* Mark the blocks that have a record in the map. */
static Py_NO_INLINE void
tracer_mark_mapped(poolp pool)
{
    uint32_t *entries = pool->tracer_table + tracer_first_index(pool->szidx);
    for (uint32_t i = 0; i < NUMBLOCKS(pool->szidx); i++) {
        if (_PyTracer_MapFind(tracer_address(pool, i), 0) != NULL) {
            entries[i] = TRACER_ENTRY_MAPPED;
        }
    }
}

/* Locked. */
static uint32_t *
tracer_make_table(poolp pool)
{
    _PyTracer_ASSERT_LOCKED();
    assert(pool->szidx < NB_SMALL_SIZE_CLASSES);
    if (pool->tracer_table == NULL) {
        pool->tracer_table = _PyTracer_MemTable(
            tracer_table_size(pool->szidx));
        if (pool->tracer_table != NULL && _PyTracer_map.in_pools) {
            tracer_mark_mapped(pool);
        }
    }
    return pool->tracer_table;
}

static Py_NO_INLINE uint32_t *
tracer_first_table(poolp pool)
{
    _PyTracer_Lock();
    uint32_t *table = tracer_make_table(pool);
    _PyTracer_TickGrowth(TRACER_GROWTH_EVERY);
    _PyTracer_Unlock();
    return table;
}

/* These entries belong to blocks that were freed without the tracer, or that
   nobody can free any more. */
static Py_NO_INLINE void
tracer_move_entries(poolp pool, const uint32_t *entries, uint32_t n,
                    int leaked)
{
    for (uint32_t i = 0; i < n; i++) {
        _PyTracer_MapEntry(entries[i], tracer_address(pool, i), leaked);
    }
}

/* Usually all blocks of the pool are free and no entry is left, so check all
   entries that were ever used in one pass.  Locked. */
static void
tracer_empty_table(poolp pool, int leaked)
{
    const uint32_t *entries = pool->tracer_table
                              + tracer_first_index(pool->szidx);
    uint32_t n = (pool->nextoffset - POOL_OVERHEAD) / INDEX2SIZE(pool->szidx);
    assert(n <= NUMBLOCKS(pool->szidx));
    uint32_t any = 0;
    for (uint32_t i = 0; i < n; i++) {
        any |= entries[i];
    }
    if (UNLIKELY(any != 0)) {
        tracer_move_entries(pool, entries, n, leaked);
    }
}

/* `leaked`: some blocks may remain for ever; otherwise all are free.
   Locked. */
static void
tracer_drop_table(poolp pool, int leaked)
{
    _PyTracer_ASSERT_LOCKED();
    if (pool->tracer_table != NULL) {
        tracer_empty_table(pool, leaked);
        _PyTracer_MemFreeTable(pool->tracer_table,
                               tracer_table_size(pool->szidx));
        pool->tracer_table = NULL;
    }
}

/* Until the lock is taken, a thread with another GIL may stop tracing or visit
   all pools. */
static void
tracer_release_table(poolp pool)
{
    if (pool->tracer_table != NULL) {
        _PyTracer_Lock();
        tracer_drop_table(pool, 0);
        _PyTracer_Unlock();
    }
}

/* The pool is about to serve a size class, perhaps a new one. */
static inline void
tracer_init_pool(poolp pool, uint32_t szidx)
{
    tracer_release_table(pool);
    pool->tracer_reciprocal = (uint16_t)(((1 << 15) + szidx) / (szidx + 1));
}

/* Locked. */
static void
tracer_drop_tables(struct arena_object *arena, int leaked)
{
    uintptr_t base = (uintptr_t)_Py_ALIGN_UP(arena->address, POOL_SIZE);
    for (; base < (uintptr_t)arena->pool_address; base += POOL_SIZE) {
        tracer_drop_table((poolp)base, leaked);
    }
}

/* The arena goes back to the system: from here on, visits of all pools do not
   find its pools. */
static void
tracer_release_arena(struct arena_object *arena)
{
    _PyTracer_Lock();
    tracer_drop_tables(arena, 0);
    arena->pool_address = NULL;
    _PyTracer_Unlock();
}

/* The same for all arenas.  If a block is left in one of them, they stay, see
   _PyInterpreterState_FinalizeAllocatedBlocks(); nobody can free such a block
   any more. */
void
_PyTracer_ForgetInterpreter(PyInterpreterState *interp)
{
    if (!_PyMem_obmalloc_state_on_heap(interp)) {
        return;                   // the pools are the main interpreter's
    }
    assert(_PyTracer.many_gils);
    OMState *state = interp->obmalloc;
    int leaked = maxarenas != 0
                 && _PyInterpreterState_GetAllocatedBlocks(interp) != 0;
    for (uint i = 0; _PyTracer.tracing && i < maxarenas; i++) {
        if (allarenas[i].address != 0) {
            tracer_drop_tables(&allarenas[i], leaked);
        }
    }
    interp->tracer_flags |= _PyTracer_INTERP_ENDED;
}

/* Does a block start there?  The address may also be in the middle of a block,
   as behind a debug header, or in the unused end of the pool, which has no
   entry. */
static inline int
tracer_is_start(poolp pool, uint32_t index, const void *block)
{
    uint32_t number = index - tracer_first_index(pool->szidx);
    return number < NUMBLOCKS(pool->szidx)
           && tracer_address(pool, number) == (uintptr_t)block;
}

uint32_t *
_PyTracer_Entry(void *block, int create, size_t *size)
{
    *size = 0;
    PyThreadState *tstate = _PyThreadState_GET();
    if (!_PyTracer_HAS_GIL || tstate == NULL
        || tstate->interp->obmalloc == NULL)
    {
        return NULL;
    }
    OMState *state = tstate->interp->obmalloc;
    poolp pool = POOL_ADDR(block);
    if (!address_in_range(state, block, pool)) {
        return NULL;
    }
    uint32_t index = tracer_index(pool, block);
    if (!tracer_is_start(pool, index, block)) {
        return NULL;
    }
    *size = INDEX2SIZE(pool->szidx);
    uint32_t *table = create ? tracer_make_table(pool) : pool->tracer_table;
    return table == NULL ? NULL : &table[index];
}

/* Pool of any address, or NULL.  The ends of an arena are not in pools.
   Neither is memory that was not carved into pools yet: it must not be
   read. */
static poolp
tracer_find_pool(OMState *state, void *p)
{
    poolp pool = POOL_ADDR(p);
    if (!address_in_range(state, p, pool)
        || !address_in_range(state, pool, pool))
    {
        return NULL;
    }
    uint i = pool->arenaindex;
    if (i >= maxarenas || allarenas[i].address > (uintptr_t)pool
        || (pymem_block *)pool >= allarenas[i].pool_address
        || pool->szidx == DUMMY_SIZE_IDX)
    {
        return NULL;
    }
    return pool;
}

/* Pool of another interpreter; NULL while another thread holds HEAD_LOCK. */
static poolp
tracer_find_foreign_pool(OMState *own, void *p)
{
    if (!_PyTracer_TryLockHead()) {
        return NULL;
    }
    poolp pool = NULL;
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL && pool == NULL; interp = interp->next)
    {
        if (interp->obmalloc != NULL && interp->obmalloc != own
            && !(interp->tracer_flags & _PyTracer_INTERP_ENDED))
        {
            pool = tracer_find_pool(interp->obmalloc, p);
        }
    }
    _PyTracer_UnlockTriedHead();
    return pool;
}

uint32_t *
_PyTracer_FindEntry(void *p, int create, size_t *room)
{
    *room = 0;
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate == NULL) {
        return NULL;
    }
    OMState *own = tstate->interp->obmalloc;
    poolp pool = own == NULL ? NULL : tracer_find_pool(own, p);
    if (pool == NULL) {
        create = 0;
        pool = tracer_find_foreign_pool(own, p);
    }
    uint32_t index = pool == NULL ? 0 : tracer_index(pool, p);
    if (pool == NULL || !tracer_is_start(pool, index, p)) {
        return NULL;
    }
    uint32_t *table = create ? tracer_make_table(pool) : pool->tracer_table;
    if (table == NULL) {
        return NULL;
    }
    if ((char *)p < (char *)pool + pool->nextoffset) {
        *room = INDEX2SIZE(pool->szidx);
    }
    return &table[index];
}

/* Called by new_arena(): more room for arena objects.  Those in use keep their
   place.  A thread with another GIL may be visiting all pools. */
static struct arena_object *
tracer_grow_arenas(OMState *state, size_t nbytes)
{
    struct arena_object *old = allarenas;
    struct arena_object *grown = PyMem_RawCalloc(1, nbytes);
    if (grown == NULL) {
        return NULL;
    }
    if (old != NULL) {
        memcpy(grown, old, maxarenas * sizeof(*old));
    }
    _PyTracer_Lock();
    allarenas = grown;
    _PyTracer_Unlock();
    PyMem_RawFree(old);
    return grown;
}

/* --- All pools.  HEAD_LOCK held, as it protects the list of interpreters; and
   locked, as interpreters that end free their pools. */

static int
tracer_show_arenas(OMState *state,
                   int (*visit)(const struct tracer_arena *, void *),
                   void *arg)
{
    int result = 0;
    for (uint i = 0; result == 0 && i < maxarenas; i++) {
        struct tracer_arena view = {allarenas[i].address, ARENA_SIZE};
        if (view.address != 0) {
            result = visit(&view, arg);
        }
    }
    return result;
}

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
            __builtin_prefetch((const void *)(base + 4 * POOL_SIZE));
            int result = visit((poolp)base, arena, arg);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

/* Does the interpreter have arenas that it does not share with an earlier
   one? */
static int
tracer_has_arenas(PyInterpreterState *interp)
{
    return interp->obmalloc != NULL && has_own_state(interp)
           && !(interp->tracer_flags & _PyTracer_INTERP_ENDED);
}

static int
tracer_visit_all(int (*visit)(poolp, uintptr_t arena, void *), void *arg)
{
    int result = 0;
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         result == 0 && interp != NULL; interp = interp->next)
    {
        if (tracer_has_arenas(interp)) {
            result = tracer_visit_state(interp->obmalloc, visit, arg);
        }
    }
    return result;
}

int
_PyTracer_VisitArenas(int (*visit)(const struct tracer_arena *, void *),
                      void *arg)
{
    int result = 0;
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         result == 0 && interp != NULL; interp = interp->next)
    {
        if (tracer_has_arenas(interp)) {
            result = tracer_show_arenas(interp->obmalloc, visit, arg);
        }
    }
    return result;
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
    assert(pool->szidx < NB_SMALL_SIZE_CLASSES);
    assert(pool->nextoffset >= POOL_OVERHEAD);
    assert(pool->ref.count <= NUMBLOCKS(pool->szidx));
    uint32_t size = INDEX2SIZE(pool->szidx);
    struct tracer_pool view = {
        .blocks = (char *)pool + POOL_OVERHEAD,
        .block_size = size,
        .nblocks = (pool->nextoffset - POOL_OVERHEAD) / size,
        .nused = pool->ref.count,
        .entries = pool->tracer_table == NULL ? NULL
                   : pool->tracer_table + tracer_first_index(pool->szidx),
        .arena = arena,
        .free = pool->freeblock,
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
