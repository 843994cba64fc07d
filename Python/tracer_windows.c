/* The highest moments of the run, with what was live then.

   A program may have been nearly as high as its peak at another time and for
   another reason.  So the run is divided into windows, and everything that
   tracer_count.c does for the peak, it does for the highest moment of the
   present window: allocations do not pay for this.  A window is over when
   traced memory has fallen by an eighth, and by 32 KiB.  This is checked where
   a free leaves the short way: the pool was full or is empty, or the block was
   a big one.  A shorter fall, or one that only makes holes in pools that had
   some, is missed: the moments before and after it belong to one window.

   When a window is over, what was live at its highest moment is kept if that
   is among the four highest moments of different composition.  For a moment
   that is no higher than another, this means that more than an eighth of its
   bytes are at locations that held less at the other.  The highest of all, the
   peak, is always kept.  After that, traced memory is not watched until it has
   risen by as much again, above half of the peak, and above the fourth of four
   moments.  Meanwhile the epoch is zero, so that no node saves a value.

   The additional cost is bounded by a credit: 5 ms and one part in 100 of the
   processor time.  The time to keep moments is taken off it, and the time of
   each value saved below the peak.  While the credit is used up, windows
   neither begin nor end, except for a new peak.  A row takes 3 to 6 bytes for
   most nodes, in memory from the C library.  If there is no memory for the
   highest moment, its window goes on; another moment is forgotten. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_windows.h"

#include <stdlib.h>

#define MOST_CREDIT 5000000       // ns
#define CREDIT_PART 100           // of the time of the processor
#define SAVED_COST 30             // ns for a value saved
#define OTHER_PART 8              // of the bytes, at other places
#define NO_MEMORY_REST 100000000  // ns

struct tracer_windows _PyTracer_windows = {
    .low = INT64_MIN, .rest = INT64_MAX, .credit = MOST_CREDIT,
};

/* --- Rows */

static size_t
number_length(uint64_t value)
{
    size_t n = 1;
    for (; value >= 0x80; value >>= 7) {
        n++;
    }
    return n;
}

static uint8_t *
put_number(uint8_t *p, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *p++ = (uint8_t)(value | 0x80);
    }
    *p++ = (uint8_t)value;
    return p;
}

static uint8_t *
put_held(uint8_t *p, const struct tracer_held *held, uint32_t before)
{
    p = put_number(p, held->node - before);
    p = put_number(p, held->bytes);
    return put_number(p, held->blocks);
}

static int
held_at_peak(uint32_t id, struct tracer_held *held)
{
    const struct tracer_node *node = _PyTracer_Node(id);
    if (_PyTracer_IsParked(id)
        || (node->alloc_blocks == 0 && node->rare == 0
            && !_PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS]))
    {
        return 0;
    }
    struct tracer_sum all = _PyTracer_AllAtPeak(id);
    *held = (struct tracer_held){id, all.bytes, all.blocks};
    return all.blocks != 0;
}

/* Bytes that the rows take; add to the sums of locations. */
static size_t
sum_window(uint64_t *sums, uint32_t nlocations)
{
    struct tracer_held held;
    size_t length = 0;
    uint32_t before = 0;
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer_tree.nnodes; id++) {
        if (held_at_peak(id, &held)) {
            sums[_PyTracer_SumOf(_PyTracer.nodes, id, nlocations)] +=
                held.bytes;
            length += number_length(id - before) + number_length(held.bytes)
                      + number_length(held.blocks);
            before = id;
        }
    }
    return length;
}

static void
write_window(uint8_t *p)
{
    struct tracer_held held;
    uint32_t before = 0;
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer_tree.nnodes; id++) {
        if (held_at_peak(id, &held)) {
            p = put_held(p, &held, before);
            before = id;
        }
    }
}

static void
forget_high(struct tracer_high *high)
{
    _PyTracer_memory.total -= high->length;
    free(high->rows);
}

void
_PyTracer_MarkHighs(uint32_t *marks)
{
    for (uint32_t i = 0; i < _PyTracer_windows.nhighs; i++) {
        struct tracer_held held = {0};
        TRACER_FOR_HELD(held, &_PyTracer_windows.highs[i]) {
            marks[held.node] = 1;
        }
    }
}

/* Nodes keep their order and come closer together: no row gets longer. */
void
_PyTracer_RenumberHighs(const uint32_t *numbers)
{
    for (uint32_t i = 0; i < _PyTracer_windows.nhighs; i++) {
        struct tracer_high *high = &_PyTracer_windows.highs[i];
        struct tracer_held held = {0};
        uint8_t *to = high->rows;
        uint32_t before = 0;
        TRACER_FOR_HELD(held, high) {
            struct tracer_held moved = held;
            moved.node = numbers[held.node];
            assert(moved.node > before);
            to = put_held(to, &moved, before);
            before = moved.node;
        }
        size_t length = (size_t)(to - high->rows);
        _PyTracer_memory.total -= high->length - length;
        high->length = length;
        if (i == 0) {
            _PyTracer_KeepPeak(high->rows, length);
        }
    }
}

/* --- Which moments are kept */

void
_PyTracer_SumHigh(const struct tracer_high *high,
                  const struct tracer_node *nodes, uint32_t nlocations,
                  uint64_t *sums)
{
    struct tracer_held held = {0};
    memset(sums, 0, ((size_t)nlocations + 1) * sizeof(*sums));
    TRACER_FOR_HELD(held, high) {
        sums[_PyTracer_SumOf(nodes, held.node, nlocations)] += held.bytes;
    }
}

static int
is_another(const uint64_t *lower, const uint64_t *higher, uint32_t n)
{
    uint64_t all = 0, alone = 0;
    for (uint32_t i = 0; i < n; i++) {
        all += lower[i];
        alone += lower[i] > higher[i] ? lower[i] - higher[i] : 0;
    }
    return alone > all / OTHER_PART;
}

int
_PyTracer_ChooseHighs(const struct tracer_high *highs, uint32_t nhighs,
                      int64_t size, const uint64_t *sums,
                      const struct tracer_node *nodes, uint32_t nlocations,
                      uint64_t *room, uint8_t *keep)
{
    uint32_t kept = 1;
    if (nhighs > 0 && size < highs[0].size / 2) {
        return 0;
    }
    for (uint32_t i = 0; i < nhighs; i++) {
        _PyTracer_SumHigh(&highs[i], nodes, nlocations, room);
        if (highs[i].size >= size) {
            if (i + 1 == TRACER_HIGHS
                || !is_another(sums, room, nlocations + 1))
            {
                return 0;
            }
            keep[i] = 1;
        }
        else {
            keep[i] = kept < TRACER_HIGHS && highs[i].size >= size / 2
                      && is_another(room, sums, nlocations + 1);
        }
        kept += keep[i];
    }
    return 1;
}

static void
insert_high(struct tracer_high high, const uint8_t *keep)
{
    struct tracer_windows *w = &_PyTracer_windows;
    struct tracer_high highs[TRACER_HIGHS];
    uint32_t n = 0;
    int placed = 0;
    for (uint32_t i = 0; i <= w->nhighs; i++) {
        if (!placed && (i == w->nhighs || w->highs[i].size < high.size)) {
            highs[n++] = high;
            placed = 1;
        }
        if (i < w->nhighs) {
            if (keep[i]) {
                highs[n++] = w->highs[i];
            }
            else {
                forget_high(&w->highs[i]);
            }
        }
    }
    assert(n <= TRACER_HIGHS);
    memcpy(w->highs, highs, n * sizeof(*highs));
    w->nhighs = n;
    _PyTracer_memory.total += high.length;
}

/* 0, or -1: no memory. */
static int
keep_window(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    struct tracer_high high = {.size = _PyTracer_peaks.traced,
                               .time = _PyTracer_peaks.time};
    uint8_t keep[TRACER_HIGHS];
    uint32_t n = _PyTracer_places.nlocations;
    uint64_t *sums = calloc(2 * ((size_t)n + 1), sizeof(*sums));
    if (sums == NULL) {
        return -1;
    }
    int result = 0;
    high.length = sum_window(sums, n);
    if (_PyTracer_ChooseHighs(w->highs, w->nhighs, high.size, sums,
                              _PyTracer.nodes, n, sums + n + 1, keep))
    {
        high.rows = malloc(high.length + 1);
        if (high.rows != NULL) {
            write_window(high.rows);
            insert_high(high, keep);
            if (w->highs[0].rows == high.rows) {
                _PyTracer_KeepPeak(high.rows, high.length);
            }
        }
        result = high.rows == NULL ? -1 : 0;
    }
    free(sums);
    return result;
}

/* In the file of a forked process, which has no rows yet. */
void
_PyTracer_KeepHighest(void)
{
    if (_PyTracer_windows.nhighs > 0) {
        const struct tracer_high *high = &_PyTracer_windows.highs[0];
        _PyTracer_KeepPeak(high->rows, high->length);
    }
}

/* --- A window ends, another one may begin */

static void
earn(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    int64_t cpu = _PyTracer_Now(CLOCK_PROCESS_CPUTIME_ID);
    /* In the child of a fork, the time starts again. */
    int64_t earned = Py_MAX(cpu - w->counted, 0) / CREDIT_PART;
    earned = Py_MIN(earned, MOST_CREDIT - w->credit);
    w->credit += Py_MAX(earned, 0);
    w->counted = cpu;
}

static void
set_rest(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    w->rest = w->credit >= 0 ? INT64_MAX
              : _PyTracer_Now(CLOCK_MONOTONIC) - w->credit * CREDIT_PART;
}

/* The value that a moment must exceed to be among the highest. */
static int64_t
least_high(void)
{
    const struct tracer_windows *w = &_PyTracer_windows;
    int64_t least = w->nhighs > 0 ? w->highs[0].size / 2 : 0;
    if (w->nhighs == TRACER_HIGHS) {
        least = Py_MAX(least, w->highs[TRACER_HIGHS - 1].size);
    }
    return least;
}

/* Traced memory is not watched until it has risen again, or to a new peak. */
static void
wait_for_rise(void)
{
    int64_t lowest = least_high();
    int64_t current = _PyTracer_Current();
    _PyTracer_peaks.traced = Py_MAX(lowest, current + _PyTracer_Step(current));
    if (_PyTracer_windows.rest != INT64_MAX
        || _PyTracer_peaks.traced > _PyTracer_windows.highs[0].size)
    {
        _PyTracer_peaks.traced = _PyTracer_windows.highs[0].size;
    }
    _PyTracer_SetLow();
    if (_PyTracer_peaks.traced == lowest) {
        _Py_atomic_store_int64_relaxed(&_PyTracer_windows.low, INT64_MIN);
    }
    _PyTracer_SetBounds();
}

static void
end_known_window(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    int64_t begin = _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID);
    int64_t size = _PyTracer_peaks.traced;
    int is_peak = w->nhighs == 0 || size > w->highs[0].size;
    if (keep_window() < 0 && is_peak) {
        w->rest = _PyTracer_Now(CLOCK_MONOTONIC) + NO_MEMORY_REST;
        _PyTracer_SetLow();
        return;
    }
    earn();
    if (!is_peak) {
        int32_t saved = (int32_t)(_PyTracer_tree.next_saved - w->began);
        w->credit -= (int64_t)Py_MAX(saved, 0) * SAVED_COST;
    }
    w->credit -= _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID) - begin;
    set_rest();
    _PyTracer_VoidEpoch();
    w->began = _PyTracer_tree.next_saved;
    wait_for_rise();
}

void
_PyTracer_EndWindow(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (!_PyTracer.many_gils && _PyThreadState_GET() == NULL) {
        return;
    }
    _PyTracer_EndRise();
    if (!_PyTracer_HasFallen()) {
        return;
    }
    if (_PyTracer.epoch != 0) {
        end_known_window();
    }
    else {
        wait_for_rise();
    }
}

Py_NO_INLINE void
_PyTracer_LockAndEndWindow(void)
{
    _PyTracer_Lock();
    if (_PyTracer.tracing && _PyTracer_HasFallen()) {
        _PyTracer_EndWindow();
    }
    _PyTracer_Unlock();
}

void
_PyTracer_EndRest(void)
{
    _PyTracer_ASSERT_LOCKED();
    earn();
    set_rest();
    if (_PyTracer_windows.rest != INT64_MAX) {
        return;
    }
    if (_PyTracer.epoch == 0) {
        wait_for_rise();
    }
    else {
        _PyTracer_SetLow();
    }
}

void
_PyTracer_ForgetHighs(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    while (w->nhighs > 0) {
        forget_high(&w->highs[--w->nhighs]);
    }
    TRACER_PUBLISH(peak, 0);
}

void
_PyTracer_ClearWindows(void)
{
    struct tracer_windows *w = &_PyTracer_windows;
    _PyTracer_ForgetHighs();
    w->rest = INT64_MAX;
    w->credit = MOST_CREDIT;
    w->counted = _PyTracer_Now(CLOCK_PROCESS_CPUTIME_ID);
}

/* --- Check everything */

static const char *
high_fault(const struct tracer_high *high)
{
    struct tracer_held held = {0};
    uint32_t before = 0;
    uint64_t bytes = 0;
    TRACER_FOR_HELD(held, high) {
        if (held.node <= before || held.node >= _PyTracer_tree.nnodes
            || _PyTracer_IsParked(held.node) || held.blocks == 0)
        {
            return "a row of one of the highest moments has no node or block";
        }
        bytes += held.bytes;
        before = held.node;
    }
    return high->size <= 0 || bytes > (uint64_t)high->size
           ? "the rows of one of the highest moments are larger than it"
           : NULL;
}

const char *
_PyTracer_WindowsFault(void)
{
    const struct tracer_windows *w = &_PyTracer_windows;
    if (w->nhighs > TRACER_HIGHS) {
        return "there are too many highest moments";
    }
    for (uint32_t i = 0; i < w->nhighs; i++) {
        if (i > 0 && w->highs[i].size > w->highs[i - 1].size) {
            return "the highest moments are not in their order";
        }
        const char *fault = high_fault(&w->highs[i]);
        if (fault != NULL) {
            return fault;
        }
    }
    if (_PyTracer.epoch == 0
        && (w->nhighs == 0 || _PyTracer_peaks.traced > w->highs[0].size))
    {
        return "nobody looks at traced memory, though it may be a new peak";
    }
    return NULL;
}
