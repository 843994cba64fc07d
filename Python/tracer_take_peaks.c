/* Taking a snapshot: the highest moments.

   The values of the present window are in the nodes; the call tree of the
   snapshot shows them as those of the peak.  Windows that have ended have left
   rows.  All moments are judged together as if the present window ended now,
   without changing the tracer.  The highest is the peak, the others follow in
   rows of the snapshot. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_take_peaks.h"

#include <stdlib.h>

/* --- At the moment */

int
_PyTracer_CopyPeaks(struct tracer_peaks_copy *peaks)
{
    _PyTracer_ASSERT_LOCKED();
    const struct tracer_windows *w = &_PyTracer_windows;
    int64_t monotonic = _PyTracer_Now(CLOCK_MONOTONIC);
    peaks->since = _PyTracer_Now(CLOCK_REALTIME) - monotonic;
    peaks->size = _PyTracer_PeakOfWindow();
    peaks->time = _PyTracer.rising ? monotonic : _PyTracer_peaks.time;
    for (uint32_t i = 0; i < w->nhighs; i++) {
        struct tracer_high *copy = &peaks->highs[i];
        *copy = w->highs[i];
        copy->rows = malloc(copy->length + 1);
        if (copy->rows == NULL) {
            return -1;
        }
        memcpy(copy->rows, w->highs[i].rows, copy->length);
        peaks->nhighs++;
    }
    return 0;
}

void
_PyTracer_FreePeaks(struct tracer_peaks_copy *peaks)
{
    while (peaks->nhighs > 0) {
        free(peaks->highs[--peaks->nhighs].rows);
    }
}

/* --- Afterwards */

struct writer {
    struct tracer_snapshot *s;
    const struct tracer_tree_copy *tree;
    const struct tracer_peaks_copy *peaks;
    struct tracer_moments *moments;
};

/* The number of a window that has ended, or this value for the present one. */
#define PRESENT TRACER_HIGHS

/* The highest moments in their order; their number, or -1: no memory. */
static int
choose(const struct writer *w, uint32_t *chosen)
{
    const struct tracer_peaks_copy *peaks = w->peaks;
    uint32_t n = w->s->nlocations - 1;
    uint8_t keep[TRACER_HIGHS] = {1, 1, 1, 1};
    int present = w->tree->epoch != UINT32_MAX;
    if (present && peaks->nhighs > 0) {
        uint64_t *sums = calloc(2 * ((size_t)n + 1), sizeof(*sums));
        if (sums == NULL) {
            return -1;
        }
        for (uint32_t i = 0; i < w->s->nnodes; i++) {
            const struct snapshot_node *node = &w->s->nodes[i];
            sums[node->location] +=
                w->s->measures[node->measures][SNAPSHOT_PEAK_SIZE];
        }
        present = _PyTracer_ChooseHighs(
            peaks->highs, peaks->nhighs, peaks->size, sums, w->tree->nodes, n,
            sums + n + 1, keep);
        free(sums);
    }
    int count = 0;
    for (uint32_t i = 0; i <= peaks->nhighs; i++) {
        if (present && (i == peaks->nhighs
                        || peaks->highs[i].size < peaks->size))
        {
            chosen[count++] = PRESENT;
            present = 0;
        }
        if (i < peaks->nhighs && keep[i]) {
            chosen[count++] = i;
        }
    }
    return count;
}

static void
add_held(struct tracer_snapshot *s, uint32_t node, uint32_t moment,
         uint64_t size, uint64_t count)
{
    s->held[s->nheld++] = (struct snapshot_held){
        .node = node, .moment = moment, .size = size, .count = count};
}

static void
add_present(struct tracer_snapshot *s, uint32_t moment)
{
    for (uint32_t i = 0; i < s->nnodes; i++) {
        const uint64_t *m = s->measures[s->nodes[i].measures];
        if (m[SNAPSHOT_PEAK_COUNT] != 0) {
            add_held(s, i, moment, m[SNAPSHOT_PEAK_SIZE],
                     m[SNAPSHOT_PEAK_COUNT]);
        }
    }
}

static void
add_high(struct tracer_snapshot *s, uint32_t moment,
         const struct tracer_high *high)
{
    struct tracer_held held = {0};
    TRACER_FOR_HELD(held, high) {
        add_held(s, _PyTracer_NodeNumber(held.node), moment, held.bytes,
                 held.blocks);
    }
}

/* The peak was in a window that has ended. */
static void
replace_peak(struct tracer_snapshot *s, const struct tracer_high *high)
{
    for (uint32_t i = 0; i < s->nmeasures; i++) {
        s->measures[i][SNAPSHOT_PEAK_SIZE] = 0;
        s->measures[i][SNAPSHOT_PEAK_COUNT] = 0;
    }
    struct tracer_held held = {0};
    TRACER_FOR_HELD(held, high) {
        uint32_t node = _PyTracer_NodeNumber(held.node);
        assert(node < s->nnodes && s->nodes[node].measures != 0);
        uint64_t *m = s->measures[s->nodes[node].measures];
        m[SNAPSHOT_PEAK_SIZE] = held.bytes;
        m[SNAPSHOT_PEAK_COUNT] = held.blocks;
    }
}

static void
add_moment(const struct writer *w, int64_t size, int64_t time)
{
    uint32_t i = w->moments->n++;
    w->moments->list[i].size = (uint64_t)size;
    w->moments->list[i].time = (double)(w->peaks->since + time) / 1e9;
}

/* Rows first, as those of the present window are taken from the nodes. */
static void
write_moments(const struct writer *w, const uint32_t *chosen, int n)
{
    const struct tracer_peaks_copy *peaks = w->peaks;
    for (int i = 0; i < n; i++) {
        const struct tracer_high *high = &peaks->highs[chosen[i]];
        uint32_t moment = (uint32_t)i - 1;
        if (chosen[i] == PRESENT) {
            add_moment(w, peaks->size, peaks->time);
            if (i > 0) {
                add_present(w->s, moment);
            }
        }
        else {
            add_moment(w, high->size, high->time);
            if (i > 0) {
                add_high(w->s, moment, high);
            }
        }
    }
    if (n > 0 && chosen[0] != PRESENT) {
        replace_peak(w->s, &peaks->highs[chosen[0]]);
    }
}

int
_PyTracer_WritePeaks(struct tracer_snapshot *s,
                     const struct tracer_tree_copy *tree,
                     const struct tracer_peaks_copy *peaks,
                     struct tracer_moments *moments)
{
    struct writer w = {s, tree, peaks, moments};
    uint32_t chosen[TRACER_HIGHS + 1];
    int n = choose(&w, chosen);
    if (n < 0) {
        return -1;
    }
    assert(n > 0 && n <= TRACER_HIGHS);
    uint64_t most = n > 1 ? s->nmeasures : 0;
    for (uint32_t i = 0; n > 1 && i < peaks->nhighs; i++) {
        most += peaks->highs[i].length / 3;
    }
    s->held = _PySnapshot_Room(most, sizeof(*s->held));
    if (s->held == NULL) {
        return -1;
    }
    write_moments(&w, chosen, n);
    void *p = _PySnapshot_Resize(s->held, s->nheld, sizeof(*s->held));
    s->held = p == NULL ? s->held : p;
    return 0;
}
