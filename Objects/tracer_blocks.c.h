/* Block tables: the traced side of pymalloc.  Included by obmalloc.c.

   A pool gets, on its first traced use, an array with a 32-bit entry for each
   block; the pool header holds the pointer, NULL while tracing is off.  The
   entry of a block is the one at its offset in the pool divided by the block
   size, rounded down; as block 0 lies behind the header, the first entries of
   the smallest sizes are not used.  The division is a multiplication: both
   are multiples of 16, offset / 16 < 1024 and size / 16 <= 32, therefore
   floor(x / k) == x * ceil(2**15 / k) >> 15. */

#include "pycore_dict.h"          // _PyDict_KeysSize()
#include "pycore_tracer_core.h"
#include "pycore_tracer_interp.h" // _PyTracer_INTERP_ENDED

static_assert(POOL_SIZE >> ALIGNMENT_SHIFT <= 1024
              && SMALL_REQUEST_THRESHOLD >> ALIGNMENT_SHIFT <= 32,
              "reciprocals are exact in this range");
static_assert(SMALL_REQUEST_THRESHOLD == TRACER_ENTRY_MAX_SIZE,
              "an entry holds the size of any small block");

static inline Py_ALWAYS_INLINE uint32_t
tracer_index(poolp pool, const void *block)
{
    uint32_t offset = (uint32_t)((uintptr_t)block & POOL_SIZE_MASK);
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

/* Locked. */
static uint32_t *
tracer_make_table(poolp pool)
{
    if (pool->tracer_table == NULL) {
        pool->tracer_table = _PyTracer_MemTable(
            tracer_table_size(pool->szidx));
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

/* All blocks of the pool are free.  Locked. */
static void
tracer_drop_table(poolp pool)
{
    if (pool->tracer_table != NULL) {
        _PyTracer_MemFreeTable(pool->tracer_table,
                               tracer_table_size(pool->szidx));
        pool->tracer_table = NULL;
    }
}

/* Another GIL may stop tracing, or look at all pools, up to the lock. */
static void
tracer_release_table(poolp pool)
{
    if (pool->tracer_table != NULL) {
        _PyTracer_Lock();
        tracer_drop_table(pool);
        _PyTracer_Unlock();
    }
}

/* The pool is about to serve a size class, perhaps not for the first time. */
static inline void
tracer_init_pool(poolp pool, uint32_t szidx)
{
    tracer_release_table(pool);
    pool->tracer_reciprocal = (uint16_t)(((1 << 15) + szidx) / (szidx + 1));
}

/* Locked. */
static void
tracer_drop_tables(struct arena_object *arena)
{
    uintptr_t base = (uintptr_t)_Py_ALIGN_UP(arena->address, POOL_SIZE);
    for (; base < (uintptr_t)arena->pool_address; base += POOL_SIZE) {
        tracer_drop_table((poolp)base);
    }
}

/* The arena goes back to the system: from here on, nobody who looks at all
   pools finds its own. */
static void
tracer_release_arena(struct arena_object *arena)
{
    _PyTracer_Lock();
    tracer_drop_tables(arena);
    arena->pool_address = NULL;
    _PyTracer_Unlock();
}

/* The same for all arenas.  They stay where they are if there is a block left
   in one of them, yet nobody can free it. */
void
_PyTracer_ForgetInterpreter(PyInterpreterState *interp)
{
    if (!_PyMem_obmalloc_state_on_heap(interp)) {
        return;                   // the pools are the main interpreter's
    }
    OMState *state = interp->obmalloc;
    for (uint i = 0; _PyTracer.tracing && i < maxarenas; i++) {
        if (allarenas[i].address != 0) {
            tracer_drop_tables(&allarenas[i]);
        }
    }
    interp->tracer_flags |= _PyTracer_INTERP_ENDED;
}

uint32_t *
_PyTracer_Entry(void *block, int create, size_t *size)
{
    *size = 0;
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate == NULL || tstate->interp->obmalloc == NULL) {
        return NULL;
    }
    OMState *state = tstate->interp->obmalloc;
    poolp pool = POOL_ADDR(block);
    if (!address_in_range(state, block, pool)) {
        return NULL;
    }
    uint32_t index = tracer_index(pool, block);
    uint32_t number = index - tracer_first_index(pool->szidx);
    size_t block_size = INDEX2SIZE(pool->szidx);
    if ((char *)pool + POOL_OVERHEAD + number * block_size != (char *)block) {
        return NULL;              // inside a block: behind a debug header
    }
    *size = block_size;
    uint32_t *table = create ? tracer_make_table(pool) : pool->tracer_table;
    return table == NULL ? NULL : &table[index];
}

/* What new_arena() asks for: more room for arena objects, of which those in
   use keep their place.  Another GIL may be looking at all pools. */
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

/* --- All pools.  HEAD_LOCK held, as it protects the list of interpreters, and
   locked: those that end take their pools along. */

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
        if (interp->obmalloc == NULL || !has_own_state(interp)
            || (interp->tracer_flags & _PyTracer_INTERP_ENDED))
        {
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
        .entries = pool->tracer_table == NULL ? NULL
                   : pool->tracer_table + tracer_first_index(pool->szidx),
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
