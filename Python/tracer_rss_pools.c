/* Resident memory: what the pages of pymalloc's arenas hold.

   A page has blocks of one size class, live and free ones in any order, so its
   bytes are divided: each block gets those of its size class; the header of
   the pool, and the rest in which no block fits, are overhead; where no block
   ever was is unused.  A pool without a block in use is free.  The parts of
   all pages add up to the pages.

   If all pages of a pool are resident, its blocks need not be looked at.  For
   other pools it matters where the free blocks lie: they are chained, and the
   chain is followed unless it leads through a page that was swapped out. */

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h

#include "pycore_obmalloc.h"      // POOL_SIZE
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_rss.h"

#define MAX_BLOCKS (POOL_SIZE / ALIGNMENT)

struct split {
    struct rss_work *w;
    uint64_t *states;
    uint32_t arena;               // that was seen last
    uintptr_t unknown;            // one that is new
    uint64_t parked;              // blocks that have not been seen yet
};

static int
is_there(const struct split *split, const struct rss_arena *arena,
         uintptr_t address)
{
    uint64_t page = (address - arena->address) / split->w->page;
    return page < 64 * RSS_ARENA_WORDS
           && (arena->all[page / 64] >> page % 64 & 1);
}

static struct rss_arena *
find_arena(struct split *split, uintptr_t address)
{
    if (address == split->unknown) {
        return NULL;
    }
    for (uint32_t i = 0; i < split->w->narenas; i++) {
        struct rss_arena *arena = &split->w->arenas[split->arena];
        if (arena->address == address) {
            return arena;
        }
        split->arena = (split->arena + 1) % split->w->narenas;
    }
    split->unknown = address;
    return NULL;
}

static int
is_parked(const struct tracer_pool *pool, uint32_t i)
{
    return pool->entries != NULL
           && _PyTracer_IsParked(TRACER_ENTRY_NODE(pool->entries[i]));
}

/* There are very many entries: one comparison for each, which the compiler
   vectorizes, and none after all blocks have been found. */
static uint32_t
count_parked(struct split *split, const struct tracer_pool *pool)
{
    const uint32_t *entries = pool->entries;
    const uint32_t first = TRACER_ENTRY(TRACER_NODE_PARKED, 0, 1);
    const uint32_t size = TRACER_ENTRY(_PyTracer_NFREELISTS, 0, 1);
    uint32_t n = 0;
    if (split->parked > 0 && entries != NULL) {
        for (uint32_t i = 0; i < pool->nblocks; i++) {
            n += entries[i] - first < size;
        }
        split->parked -= Py_MIN(n, split->parked);
    }
    return n;
}

/* A pool of which all pages are resident. */
static void
add_whole(struct split *split, const struct tracer_pool *pool)
{
    if (pool->nused == 0) {
        split->states[RSS_FREE] += POOL_SIZE;
        return;
    }
    uint64_t size = pool->block_size;
    uint64_t room = (POOL_SIZE - POOL_OVERHEAD) / size;
    assert(pool->nblocks <= room);
    assert(pool->nused <= pool->nblocks || _PyTracer.many_gils);
    uint64_t parked = count_parked(split, pool);
    parked = Py_MIN(parked, pool->nused);
    split->states[RSS_PARKED] += parked * size;
    split->states[RSS_LIVE] += (pool->nused - parked) * size;
    split->states[RSS_FREE] += (pool->nblocks - pool->nused) * size;
    split->states[RSS_UNUSED] += (room - pool->nblocks) * size;
    split->states[RSS_OVERHEAD] += POOL_SIZE - room * size;
}

/* What each block is; 0: the chain of free blocks cannot be followed. */
static int
find_states(const struct split *split, const struct tracer_pool *pool,
            const struct rss_arena *arena, uint8_t *states)
{
    for (uint32_t i = 0; i < pool->nblocks; i++) {
        states[i] = is_parked(pool, i) ? RSS_PARKED : RSS_LIVE;
    }
    uint32_t nfree = 0;
    const char *block = pool->free;
    while (block != NULL) {
        size_t i = (size_t)(block - pool->blocks) / pool->block_size;
        if (block < pool->blocks || i >= pool->nblocks
            || nfree++ == pool->nblocks
            || !is_there(split, arena, (uintptr_t)block))
        {
            return 0;
        }
        states[i] = RSS_FREE;
        block = *(char *const *)block;
    }
    return 1;
}

/* The bytes [from, to) of the blocks of a pool, by what the blocks are. */
static void
add_blocks(struct split *split, const struct tracer_pool *pool,
           const uint8_t *states, uintptr_t from, uintptr_t to)
{
    uintptr_t begin = (uintptr_t)pool->blocks;
    while (from < to) {
        size_t i = (from - begin) / pool->block_size;
        uintptr_t next = Py_MIN(begin + (i + 1) * pool->block_size, to);
        split->states[states[i]] += next - from;
        from = next;
    }
}

/* The same if it is not known which ones are free. */
static void
add_evenly(struct split *split, const struct tracer_pool *pool,
           uintptr_t from, uintptr_t to)
{
    uint64_t size = to > from ? to - from : 0;
    uint64_t live = pool->nblocks == 0 ? 0
                    : size * pool->nused / pool->nblocks;
    split->states[RSS_LIVE] += live;
    split->states[RSS_FREE] += size - live;
}

/* The part [from, to) of a pool, in one page that is resident. */
static void
add_part(struct split *split, const struct tracer_pool *pool,
         const uint8_t *states, uintptr_t from, uintptr_t to)
{
    if (pool->nused == 0) {
        split->states[RSS_FREE] += to - from;
        return;
    }
    uintptr_t begin = (uintptr_t)pool->blocks;
    uint64_t room = (POOL_SIZE - POOL_OVERHEAD) / pool->block_size;
    uintptr_t carved = begin + pool->nblocks * (uintptr_t)pool->block_size;
    uintptr_t last = begin + room * pool->block_size;
    uintptr_t low = Py_MAX(from, begin);
    uintptr_t middle = Py_MIN(to, carved);
    if (states != NULL) {
        add_blocks(split, pool, states, low, middle);
    }
    else {
        add_evenly(split, pool, low, middle);
    }
    uintptr_t unused_from = Py_MAX(from, carved);
    uintptr_t unused_to = Py_MIN(to, last);
    uint64_t unused = unused_to > unused_from ? unused_to - unused_from : 0;
    uint64_t carved_here = middle > low ? middle - low : 0;
    assert(carved_here + unused <= to - from);
    split->states[RSS_UNUSED] += unused;
    split->states[RSS_OVERHEAD] += to - from - carved_here - unused;
}

static int
add_pool(const struct tracer_pool *pool, void *arg)
{
    struct split *split = arg;
    const struct rss_arena *arena = find_arena(split, pool->arena);
    if (arena == NULL) {
        return 0;
    }
    uintptr_t begin = (uintptr_t)pool->blocks - POOL_OVERHEAD;
    uintptr_t end = begin + POOL_SIZE;
    size_t page = split->w->page;
    int whole = 1;
    for (uintptr_t at = begin; at < end; at += Py_MIN(page, POOL_SIZE)) {
        whole &= is_there(split, arena, at);
    }
    if (whole) {
        add_whole(split, pool);
        return 0;
    }
    uint8_t states[MAX_BLOCKS];
    int known = find_states(split, pool, arena, states);
    for (uintptr_t at = begin; at < end; at += Py_MIN(page, POOL_SIZE)) {
        if (is_there(split, arena, at)) {
            add_part(split, pool, known ? states : NULL, at,
                     Py_MIN(at + page, end));
        }
    }
    return 0;
}

/* Only as many pages as the kernel counts: others may be the zero page. */
static void
leave_out_zero_page(struct rss_arena *arena)
{
    uint64_t n = 0;
    for (int i = 0; i < RSS_ARENA_WORDS; i++) {
        n += (uint64_t)__builtin_popcountll(arena->all[i]);
    }
    if (n > arena->pages) {
        memcpy(arena->all, arena->sure, sizeof(arena->all));
    }
}

void
_PyTracer_RssSplitArenas(struct rss_work *w, uint64_t *states)
{
    struct split split = {.w = w, .states = states};
    uint64_t total = 0;
    for (uint32_t i = 0; i < w->narenas; i++) {
        leave_out_zero_page(&w->arenas[i]);
        total += w->arenas[i].pages * w->page;
    }
    for (int i = 0; i < _PyTracer_NFREELISTS; i++) {
        split.parked += TRACER_PARKED_BLOCKS(_PyTracer.parked[i]);
    }
    _PyTracer_LockAll();
    (void)_PyTracer_VisitPools(add_pool, &split);
    _PyTracer_UnlockAll();
    uint64_t sum = 0;
    for (int i = 0; i < RSS_NSTATES; i++) {
        sum += states[i];
    }
    /* Pages that came or went meanwhile are counted as unused. */
    static const enum rss_state order[] = {RSS_UNUSED, RSS_FREE, RSS_OVERHEAD,
                                           RSS_PARKED, RSS_LIVE};
    for (size_t i = 0; sum > total && i < Py_ARRAY_LENGTH(order); i++) {
        uint64_t less = Py_MIN(sum - total, states[order[i]]);
        states[order[i]] -= less;
        sum -= less;
    }
    assert(sum <= total);
    states[RSS_UNUSED] += total - sum;
}
