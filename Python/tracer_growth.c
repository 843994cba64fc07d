/* How the call sites have grown since tracing started.

   A leak grows with the work that the program does, and does not stop.  One
   snapshot cannot show that.  So the live bytes of each location are noted at
   some moments of the run: 32 at most, spread evenly over the work.  The work
   is measured by the blocks ever allocated and by their bytes, each as a part
   of the total so far; time in which a service waits does not count.

   This slows down no allocation.  Memory cannot grow without new pools or big
   blocks.  An allocation that takes one is on a slow way already, and counts
   it here.  After each new pool, or 32 KiB of big blocks, the clock is read.
   A moment is noted when the run has become longer by 1/64, or traced memory
   has moved by 1/32.  But the next moment waits for at least 500 times as long
   as the last one took, or 100 times in the first seconds, which must be
   enough for short programs.  So all moments together take at most one part in
   500 of the time.  When there is no room for one more, the moment that is
   closest to its neighbours, in work, is dropped.  Only locations that hold at
   least one part in 2048 of traced memory are noted: the moments together take
   512 KiB at most, usually less than a tenth of that, in memory from the C
   library. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_windows.h"

#include <math.h>                 // INFINITY
#include <stdlib.h>

#define LEAST_INTERVAL 250000     // ns
#define LEAST_STEP TRACER_GROWTH_EVERY
#define LEAST_SIZE 512            // bytes of a site
#define LEAST_GROWTH 4096         // bytes of one that a snapshot is told of
#define UNIT 16                   // bytes, of a row

struct tracer_growth_row {
    uint32_t location;
    uint32_t size;                // in units
};

struct tracer_growths _PyTracer_growths;

/* --- Noting a moment */

static size_t
rows_size(const struct tracer_moment *moment)
{
    return moment->nrows * sizeof(*moment->rows);
}

static void
forget_moment(struct tracer_moment *moment)
{
    assert(_PyTracer_memory.total >= rows_size(moment));
    _PyTracer_memory.total -= rows_size(moment);
    free(moment->rows);
}

/* What each location holds. */
static void
sum_locations(struct tracer_moment *moment, uint64_t *sums)
{
    for (uint32_t id = TRACER_NODE_FIRST; id < _PyTracer_tree.nnodes; id++) {
        const struct tracer_node *node = _PyTracer_Node(id);
        if (node->alloc_blocks == 0 && node->rare == 0
            && !_PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS])
        {
            continue;             // it stands for calls alone
        }
        assert(node->location < _PyTracer_places.nlocations);
        struct tracer_counts counts = _PyTracer_Counts(id);
        moment->blocks += counts.alloc_blocks;
        moment->bytes += counts.alloc_bytes;
        sums[node->location] += _PyTracer_Live(&counts).bytes;
        if (node->rare != 0) {
            const struct tracer_rare *rare = _PyTracer_Rare(id);
            moment->blocks += rare->counts.alloc_blocks;
            moment->bytes += rare->counts.alloc_bytes;
            sums[node->location] += _PyTracer_Live(&rare->counts).bytes;
        }
    }
}

static int
write_rows(struct tracer_moment *moment, const uint64_t *sums, uint32_t n)
{
    uint32_t nrows = 0;
    for (uint32_t i = 0; i < n; i++) {
        nrows += sums[i] >= moment->floor;
    }
    moment->rows = malloc((nrows + 1) * sizeof(*moment->rows));
    if (moment->rows == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (sums[i] >= moment->floor) {
            moment->rows[moment->nrows++] = (struct tracer_growth_row){
                i, (uint32_t)Py_MIN(sums[i] / UNIT, UINT32_MAX)};
        }
    }
    assert(moment->nrows == nrows);
    _PyTracer_memory.total += rows_size(moment);
    return 0;
}

static int
note_moment(struct tracer_moment *moment)
{
    _PyTracer_ASSERT_LOCKED();
    uint32_t n = _PyTracer_places.nlocations;
    uint64_t *sums = calloc((size_t)n + 1, sizeof(*sums));
    if (sums == NULL) {
        return -1;
    }
    int64_t traced = _PyTracer_Current();
    *moment = (struct tracer_moment){
        .time = _PyTracer_Now(CLOCK_MONOTONIC), .traced = traced,
        .floor = Py_MAX((uint64_t)Py_MAX(traced, 0) / 2048, LEAST_SIZE),
    };
    sum_locations(moment, sums);
    int result = write_rows(moment, sums, n);
    free(sums);
    return result;
}

/* The work between two moments, as a part of all work until `last`,
   doubled. */
static double
work_between(const struct tracer_moment *from, const struct tracer_moment *to,
             const struct tracer_moment *last)
{
    assert(from->blocks <= to->blocks && to->blocks <= last->blocks);
    assert(from->bytes <= to->bytes && to->bytes <= last->bytes);
    return (double)(to->blocks - from->blocks) / (double)(last->blocks + 1)
           + (double)(to->bytes - from->bytes) / (double)(last->bytes + 1);
}

/* Forget the moment that is closest to its neighbours; the first and the last
   one stay. */
static void
make_room(struct tracer_growths *g)
{
    const struct tracer_moment *m = g->moments;
    uint32_t closest = 1;
    double least = INFINITY;
    for (uint32_t i = 1; i + 1 < g->nmoments; i++) {
        double gap = work_between(&m[i - 1], &m[i + 1],
                                  &m[g->nmoments - 1]);
        if (gap < least) {
            least = gap;
            closest = i;
        }
    }
    assert(closest + 1 < g->nmoments);
    forget_moment(&g->moments[closest]);
    g->nmoments--;
    memmove(&g->moments[closest], &g->moments[closest + 1],
            (g->nmoments - closest) * sizeof(*g->moments));
}

static void
set_next_time(struct tracer_growths *g, int64_t cost)
{
    int64_t end = _PyTracer_Now(CLOCK_MONOTONIC);
    int64_t age = g->nmoments == 0 ? 0 : end - g->moments[0].time;
    assert(cost >= 0 && age >= 0);
    int64_t pause = Py_MIN(500 * cost, Py_MAX(100 * cost, age / 32));
    g->earliest = end + Py_MAX(pause, LEAST_INTERVAL);
    g->next = Py_MAX(g->earliest, end + age / 64);
}

static int
has_moved(const struct tracer_growths *g)
{
    if (g->nmoments == 0) {
        return 1;
    }
    int64_t before = g->moments[g->nmoments - 1].traced;
    int64_t moved = _PyTracer_Current() - before;
    return Py_ABS(moved) > Py_MAX(before / 32, LEAST_STEP);
}

Py_NO_INLINE void
_PyTracer_LookAtGrowth(void)
{
    struct tracer_growths *g = &_PyTracer_growths;
    _PyTracer_ASSERT_LOCKED();
    assert(g->nmoments <= TRACER_MOMENTS);
    g->ticks = TRACER_GROWTH_EVERY;
    int64_t time = _PyTracer_Now(CLOCK_MONOTONIC);
    g->looked = time;
    TRACER_PUBLISH(looked, time);
    TRACER_PUBLISH(folded, _PyTracer_tree.folded);
    TRACER_PUBLISH(pruned, _PyTracer_tree.pruned);
    TRACER_PUBLISH(untraced, _PyTracer.untraced);
    if (time >= _PyTracer_windows.rest) {
        _PyTracer_EndRest();
    }
    if (time < g->next && (time < g->earliest || !has_moved(g))) {
        return;
    }
    /* The time of this thread: others may run meanwhile. */
    int64_t begin = _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID);
    if (g->nmoments == TRACER_MOMENTS) {
        make_room(g);
    }
    if (note_moment(&g->moments[g->nmoments]) == 0) {
        g->nmoments++;
    }
    set_next_time(g, _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID) - begin);
}

void
_PyTracer_ClearGrowth(void)
{
    struct tracer_growths *g = &_PyTracer_growths;
    while (g->nmoments > 0) {
        forget_moment(&g->moments[--g->nmoments]);
    }
    g->ticks = 0;
    g->next = g->earliest = 0;
}

/* --- For a snapshot */

/* Sizes by site and moment, of all sites that any moment has noted. */
struct table {
    uint32_t nsites, nmoments;
    uint32_t first;               // moment that growth is counted from
    const struct tracer_moment *moments[TRACER_MOMENTS + 1];
    uint32_t *sites;              // by location, from 1; 0: none
    uint64_t (*sizes)[TRACER_MOMENTS + 1];
};

static int
number_sites(struct table *t)
{
    t->sites = calloc((size_t)_PyTracer_places.nlocations + 1,
                      sizeof(*t->sites));
    if (t->sites == NULL) {
        return -1;
    }
    for (uint32_t i = t->first; i < t->nmoments; i++) {
        for (uint32_t row = 0; row < t->moments[i]->nrows; row++) {
            uint32_t location = t->moments[i]->rows[row].location;
            assert(location < _PyTracer_places.nlocations);
            uint32_t *site = &t->sites[location];
            if (*site == 0) {
                *site = ++t->nsites;
            }
        }
    }
    t->sizes = calloc((size_t)t->nsites + 1, sizeof(*t->sizes));
    return t->sizes == NULL ? -1 : 0;
}

/* A site without a row has less than the floor: it is taken to have as much as
   before. */
static void
fill_sizes(struct table *t)
{
    for (uint32_t i = 0; i < t->nmoments; i++) {
        const struct tracer_moment *moment = t->moments[i];
        for (uint32_t site = 1; i > 0 && site <= t->nsites; site++) {
            t->sizes[site][i] = Py_MIN(t->sizes[site][i - 1], moment->floor);
        }
        for (uint32_t row = 0; row < moment->nrows; row++) {
            uint32_t site = t->sites[moment->rows[row].location];
            assert(site <= t->nsites);
            t->sizes[site][i] = (uint64_t)moment->rows[row].size * UNIT;
        }
    }
}

static uint64_t
grown(const struct table *t, uint32_t site)
{
    assert(t->first < t->nmoments && site <= t->nsites);
    const uint64_t *sizes = t->sizes[site];
    uint64_t most = 0;
    for (uint32_t i = t->first; i < t->nmoments; i++) {
        most = Py_MAX(most, sizes[i]);
    }
    return most - sizes[t->first];
}

/* The sites that grew most, in no order. */
static void
choose_sites(struct tracer_growth *growth, const struct table *t)
{
    uint64_t of_chosen[TRACER_GROWN_SITES];
    for (uint32_t loc = 0; loc < _PyTracer_places.nlocations; loc++) {
        uint32_t site = t->sites[loc];
        uint64_t size = site == 0 ? 0 : grown(t, site);
        if (size < LEAST_GROWTH) {
            continue;
        }
        uint32_t place = growth->nsites;
        if (place == TRACER_GROWN_SITES) {
            place = 0;
            for (uint32_t i = 1; i < TRACER_GROWN_SITES; i++) {
                if (of_chosen[i] < of_chosen[place]) {
                    place = i;
                }
            }
            if (of_chosen[place] >= size) {
                continue;
            }
        }
        else {
            growth->nsites++;
        }
        assert(place < growth->nsites);
        of_chosen[place] = size;
        growth->sites[place].location = loc;
        memcpy(growth->sites[place].sizes, t->sizes[site],
               sizeof(t->sizes[site]));
    }
}

static struct tracer_growth *
copy_table(const struct table *t)
{
    struct tracer_growth *growth = calloc(1, sizeof(*growth));
    if (growth == NULL) {
        return NULL;
    }
    double since = (double)(_PyTracer_Now(CLOCK_REALTIME)
                            - _PyTracer_Now(CLOCK_MONOTONIC));
    growth->nmoments = t->nmoments;
    for (uint32_t i = 0; i < t->nmoments; i++) {
        const struct tracer_moment *moment = t->moments[i];
        growth->moments[i].time =
            (since + (double)moment->time) / TRACER_SECOND;
        growth->moments[i].traced = moment->traced;
        growth->moments[i].blocks = moment->blocks;
        growth->moments[i].bytes = moment->bytes;
    }
    choose_sites(growth, t);
    return growth;
}

struct tracer_growth *
_PyTracer_CopyGrowth(void)
{
    const struct tracer_growths *g = &_PyTracer_growths;
    struct table t = {.nmoments = g->nmoments + 1, .first = g->nmoments / 3};
    struct tracer_moment last;
    struct tracer_growth *growth = NULL;
    if (note_moment(&last) < 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < g->nmoments; i++) {
        t.moments[i] = &g->moments[i];
    }
    t.moments[g->nmoments] = &last;
    if (number_sites(&t) == 0) {
        fill_sizes(&t);
        growth = copy_table(&t);
    }
    free(t.sites);
    free(t.sizes);
    forget_moment(&last);
    return growth;
}
