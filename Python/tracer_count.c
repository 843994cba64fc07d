/* Counters: the peak, cyclic garbage, and when an alarm goes off.

   The nodes that made up the peak are known exactly, without a log.  While
   traced memory is higher than ever before and rising (`rising`), each
   allocation is the peak, and nothing needs to be done: the live values of
   each node are its values at the peak.  The first free ends the rise.  From
   then on the first change of a node saves its values.  Saved values are
   numbered.  An epoch is the number of the first value that was saved in it,
   and values with smaller numbers are void.  The next rise starts a new epoch,
   if the old one was used, and its values replace the old ones.  So memory is
   needed only for nodes that changed since a peak.  The peak here is the
   highest moment of the present window, see tracer_windows.c.

   Counters of small blocks have 32 bits.  Before the sum of bytes would wrap,
   all counters of the node are spilled to larger ones.

   Two bounds stand for all of this, so that the common allocation and free
   need one comparison each: an allocation calls these functions if traced
   memory passes `high`, a free if free_bound is TRACER_EVERY_FREE.

   A thread without the GIL changes neither peak nor epoch.  It leaves a word
   in raw_peak, and sets both bounds such that the next thread with the GIL
   checks.  The peak is then exact, except for what other threads did in that
   instant. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_windows.h"

struct tracer_peaks _PyTracer_peaks = {.raw = INT64_MIN};
struct tracer_bounds _PyTracer_bounds = {
    .alarm_low = INT64_MIN,
    .alarm_high = INT64_MAX,
    .deadline = INT64_MAX,
};
PyThreadState *_PyTracer_garbage_thread;

/* All functions here need the one GIL, or the lock where there are several,
   unless they say otherwise.  Nobody else may walk the list of measures. */
static inline void
assert_protected(void)
{
    assert(!_PyTracer.many_gils || _PyTracer_HasLock());
}

/* --- Alarms */

void
_PyTracer_SetBounds(void)
{
    assert_protected();
    int64_t high = _PyTracer_bounds.alarm_high;
    if (!_PyTracer.rising) {
        high = Py_MIN(high, _PyTracer_peaks.traced);
        struct tracer_measure *m = _PyTracer_peaks.measures;
        for (; m != NULL; m = m->next) {
            high = Py_MIN(high, m->peak);
        }
    }
    _Py_atomic_store_int64_relaxed(&_PyTracer.high,
                                   _PyTracer.blind ? INT64_MIN : high);
    int64_t low = Py_MAX(_PyTracer_bounds.alarm_low, 0);
    int empty = low > high;
    _PyTracer_bounds.watch_low = empty ? INT64_MAX : low;
    _PyTracer_bounds.watch_span = empty ? 0 : (uint64_t)(high - low);
    int look = _PyTracer.rising || _PyTracer_garbage_thread != NULL;
    _Py_atomic_store_uint32_relaxed(
        &_PyTracer.free_bound, look ? TRACER_EVERY_FREE : _PyTracer.epoch);
}

/* Threads without the GIL look at these. */
static inline void
set_rising(uint32_t rising)
{
    _Py_atomic_store_uint32_relaxed(&_PyTracer.rising, rising);
}

static inline void
set_epoch(uint32_t epoch)
{
    _PyTracer_tree.first_saved = epoch;
    TRACER_PUBLISH(epoch, epoch);
    _Py_atomic_store_uint32_relaxed(&_PyTracer.epoch, epoch);
}

static void
call_handler(void)
{
    if (_PyTracer_bounds.alarm_handler != NULL) {
        _PyTracer_bounds.alarm_handler(_PyTracer_Current());
    }
}

static void
fire(void)
{
    _PyTracer_bounds.alarm_low = INT64_MIN;
    _PyTracer_bounds.alarm_high = INT64_MAX;
    _PyTracer_SetBounds();
    call_handler();
}

int64_t
_PyTracer_CoarseTime(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return _PyTracer_Now(CLOCK_MONOTONIC_COARSE);
#else
    return _PyTracer_Now(CLOCK_MONOTONIC);
#endif
}

void
_PyTracer_CheckAlarmLow(void)
{
    if (_PyTracer_Current() < _PyTracer_bounds.alarm_low) {
        fire();
    }
}

void
_PyTracer_Watch(void)
{
    assert_protected();
    _PyTracer_CheckAlarmLow();
    /* The short way itself counts down, and calls this at zero. */
    if (_PyTracer_bounds.countdown > 1) {
        _PyTracer_bounds.countdown--;
        return;
    }
    _PyTracer_bounds.countdown = TRACER_CLOCK_EVERY;
    if (_PyTracer_CoarseTime() >= _PyTracer_bounds.deadline) {
        _PyTracer_bounds.deadline = INT64_MAX;
        call_handler();
    }
}

/* --- Peak */

/* Only rare counters may have used the epoch: it ends nevertheless. */
static void
next_epoch(void)
{
    assert_protected();
    assert(_PyTracer_tree.next_saved >= _PyTracer_tree.first_saved);
    _Py_atomic_store_uint32_relaxed(&_PyTracer_peaks.epoch_used, 0);
    _PyTracer_tree.most_saved = Py_MAX(
        _PyTracer_tree.most_saved,
        _PyTracer_tree.next_saved - _PyTracer_tree.first_saved);
    set_epoch(++_PyTracer_tree.next_saved);
    if (_PyTracer.epoch < TRACER_EVERY_FREE - TRACER_MAX_NODES) {
        return;
    }
    /* The number is about to wrap: forget the four billion numbers before. */
    set_epoch(_PyTracer_tree.next_saved = 1);
    for (uint32_t id = 0; id < _PyTracer_tree.nnodes; id++) {
        _PyTracer_Node(id)->saved = 0;
    }
    for (uint32_t number = 0; number < _PyTracer_tree.nrares; number++) {
        _PyTracer_tree.rares[number].peak_epoch = 0;
    }
}

void
_PyTracer_VoidEpoch(void)
{
    assert(!_PyTracer.rising);
    next_epoch();
    _Py_atomic_store_uint32_relaxed(&_PyTracer.epoch, 0);
    TRACER_PUBLISH(epoch, 0);
}

/* The window is as high as that. */
static void
set_traced(int64_t traced)
{
    _PyTracer_peaks.traced = traced;
    _PyTracer_peaks.time = _PyTracer_growths.looked;
    _PyTracer_SetLow();
}

static void
raise_measures(int64_t traced)
{
    assert_protected();
    for (struct tracer_measure *m = _PyTracer_peaks.measures; m; m = m->next) {
        m->peak = Py_MAX(m->peak, traced);
    }
}

/* Take over the peak that threads without the GIL saw.  They may have changed
   rare counters since, so all saved values are void. */
static void
take_raw_peak(void)
{
    if (_Py_atomic_load_int64_relaxed(&_PyTracer_peaks.raw) == INT64_MIN) {
        return;
    }
    int64_t traced = _Py_atomic_exchange_int64(&_PyTracer_peaks.raw,
                                               INT64_MIN);
    raise_measures(traced);
    if (traced > _PyTracer_peaks.traced) {
        set_traced(traced);
        set_rising(0);
        next_epoch();
    }
}

/* The peak is over, or was not yet. */
static void
end_rise(void)
{
    assert_protected();
    take_raw_peak();
    if (_PyTracer.rising) {
        int64_t current = _PyTracer_Current();
        set_traced(Py_MAX(_PyTracer_peaks.traced, current));
        raise_measures(current);
        set_rising(0);
    }
}

void
_PyTracer_RoseAboveHigh(void)
{
    take_raw_peak();
    int64_t current = _PyTracer_Current();
    if (current > _PyTracer_peaks.traced && !_PyTracer.rising) {
        if (_PyTracer.epoch == 0
            || _Py_atomic_load_uint32_relaxed(&_PyTracer_peaks.epoch_used))
        {
            next_epoch();
        }
        set_rising(1);
    }
    raise_measures(current);
    _PyTracer_SetBounds();
    if (current > _PyTracer_bounds.alarm_high) {
        fire();
    }
}

/* Cyclic garbage is what a thread frees while it deletes objects for the
   collector. */
static void
count_garbage(uint32_t id, size_t size, int locked)
{
    if (_PyThreadState_GET() != _PyTracer_garbage_thread
        || _PyTracer_IsParked(id))
    {
        return;
    }
    if (_PyTracer_Node(id)->rare == 0) {
        if (!locked) {
            _PyTracer_Lock();
        }
        _PyTracer_MakeRare(id);
        if (!locked) {
            _PyTracer_Unlock();
        }
    }
    struct tracer_sum *garbage = &_PyTracer_Rare(id)->garbage;
    garbage->bytes += size;
    garbage->blocks++;
}

void
_PyTracer_EndRise(void)
{
    end_rise();
    _PyTracer_SetBounds();
}

void
_PyTracer_FreeAtBound(uint32_t node, size_t size, int locked)
{
    _PyTracer_EndRise();
    if (_PyTracer_garbage_thread != NULL) {
        count_garbage(node, size, locked);
    }
}

void
_PyTracer_RawPeak(int64_t traced)
{
    _PyTracer_ASSERT_LOCKED();
    if (traced > _Py_atomic_load_int64_relaxed(&_PyTracer_peaks.raw)) {
        _Py_atomic_store_int64(&_PyTracer_peaks.raw, traced);
    }
    _PyTracer.high = INT64_MIN;
    _PyTracer_bounds.watch_low = INT64_MAX;
    _PyTracer.free_bound = TRACER_EVERY_FREE;
}

int64_t
_PyTracer_PeakOfWindow(void)
{
    int64_t peak = Py_MAX(_PyTracer_peaks.traced,
                          _Py_atomic_load_int64_relaxed(&_PyTracer_peaks.raw));
    return _PyTracer.rising ? Py_MAX(peak, _PyTracer_Current()) : peak;
}

int64_t
_PyTracer_Peak(void)
{
    const struct tracer_windows *w = &_PyTracer_windows;
    int64_t peak = _PyTracer_PeakOfWindow();
    return w->nhighs == 0 ? peak : Py_MAX(peak, w->highs[0].size);
}

void
_PyTracer_SavePeak(uint32_t id)
{
    assert_protected();
    assert(id < _PyTracer_tree.nnodes && !_PyTracer_IsParked(id));
    struct tracer_counts counts = _PyTracer_Counts(id);
    struct tracer_sum live = _PyTracer_Live(&counts);
    assert(_PyTracer_Node(id)->saved < _PyTracer.epoch);
    uint32_t packed = (uint32_t)((live.blocks << TRACER_SAVED_SHIFT)
                                 | live.bytes);
    if (live.bytes >> TRACER_SAVED_SHIFT
        || live.blocks >> (32 - TRACER_SAVED_SHIFT)
        || packed == TRACER_SAVED_SPILLED)
    {
        _PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS] = 1;
        _PyTracer_tree.spills[id].saved = live;
        packed = TRACER_SAVED_SPILLED;
    }
    uint32_t number = _PyTracer_tree.next_saved++;
    assert(number - _PyTracer.epoch < _PyTracer_tree.nnodes);
    _PyTracer_tree.saved[number - _PyTracer.epoch] = packed;
    _PyTracer_Node(id)->saved = number;
    _Py_atomic_store_uint32_relaxed(&_PyTracer_peaks.epoch_used, 1);
}

struct tracer_sum
_PyTracer_AtPeak(uint32_t id)
{
    assert(id < _PyTracer_tree.nnodes);
    uint32_t number = _PyTracer_Node(id)->saved;
    if (number < _PyTracer.epoch) {
        struct tracer_counts counts = _PyTracer_Counts(id);
        return _PyTracer_Live(&counts);
    }
    assert(number < _PyTracer_tree.next_saved);
    uint32_t packed = _PyTracer_tree.saved[number - _PyTracer.epoch];
    if (packed == TRACER_SAVED_SPILLED) {
        return _PyTracer_tree.spills[id].saved;
    }
    return _PyTracer_UnpackSaved(packed);
}

struct tracer_sum
_PyTracer_AllAtPeak(uint32_t id)
{
    assert(_PyTracer.epoch != 0);
    struct tracer_sum all = _PyTracer_AtPeak(id);
    const struct tracer_rare *rare = _PyTracer_Rare(id);
    struct tracer_sum mapped = rare->peak_epoch == _PyTracer.epoch
                               ? rare->peak : _PyTracer_Live(&rare->counts);
    return (struct tracer_sum){all.bytes + mapped.bytes,
                               all.blocks + mapped.blocks};
}

void
_PyTracer_Spill(uint32_t id)
{
    assert_protected();
    assert(id < _PyTracer_tree.nnodes);
    struct tracer_node *node = _PyTracer_Node(id);
    /* A thread that counts without the GIL must not see half of the change. */
    _Py_atomic_add_uint32(&_PyTracer_tree.spilling, 1);
    _PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS] = 1;
    struct tracer_counts counts = _PyTracer_Counts(id);
    _PyTracer_kept->spill.counts = counts;
    TRACER_PUBLISH(spill.node, id);
    _PyTracer_tree.spills[id].counts = counts;
    node->alloc_bytes = node->alloc_blocks = 0;
    node->free_bytes = node->free_blocks = 0;
    TRACER_PUBLISH(spill.node, TRACER_NODE_NONE);
    _Py_atomic_add_uint32(&_PyTracer_tree.spilling, 1);
}

void
_PyTracer_ResetPeak(void)
{
    _PyTracer_ASSERT_LOCKED();
    end_rise();
    _PyTracer_ForgetHighs();
    set_traced(_PyTracer_Current());
    _PyTracer_peaks.time = _PyTracer_CoarseTime();
    next_epoch();
    _PyTracer_windows.began = _PyTracer_tree.next_saved;
    _PyTracer_SetBounds();
}

void
_PyTracer_ClearCounters(void)
{
    _PyTracer.small_current = 0;
    memset(_PyTracer.parked, 0, sizeof(_PyTracer.parked));
    _Py_atomic_store_int64(&_PyTracer.map_current, 0);
    _PyTracer_tree.folded = 0;
    _PyTracer_tree.pruned = 0;
    _PyTracer.untraced = 0;
    _PyTracer_ResetPeak();
}

/* --- Measures: the peak of a period that the program chooses */

int64_t
_PyTracer_BeginMeasure(struct tracer_measure *measure)
{
    _PyTracer_Lock();
    end_rise();
    int64_t current = _PyTracer_Current();
    measure->peak = current;
    measure->next = _PyTracer_peaks.measures;
    _PyTracer_peaks.measures = measure;
    _PyTracer_SetBounds();
    _PyTracer_Unlock();
    return current;
}

/* While memory rises, the recorded peak lags behind. */
int64_t
_PyTracer_LookAtMeasure(const struct tracer_measure *measure, int64_t *peak)
{
    _PyTracer_Lock();
    int64_t current = _PyTracer_Current();
    *peak = Py_MAX(measure->peak, current);
    _PyTracer_Unlock();
    return current;
}

void
_PyTracer_EndMeasure(struct tracer_measure *measure)
{
    _PyTracer_Lock();
    end_rise();
    struct tracer_measure **link = &_PyTracer_peaks.measures;
    while (*link != measure) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = measure->next;
    _PyTracer_SetBounds();
    _PyTracer_Unlock();
}

void
_PyTracer_SumTotals(uint64_t *size, uint64_t *count)
{
    *size = *count = 0;
    _PyTracer_Lock();
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer_tree.nnodes; id++) {
        if (!_PyTracer_IsParked(id)) {
            struct tracer_counts small = _PyTracer_Counts(id);
            const struct tracer_counts *map = &_PyTracer_Rare(id)->counts;
            *size += small.alloc_bytes + map->alloc_bytes;
            *count += small.alloc_blocks + map->alloc_blocks;
        }
    }
    _PyTracer_Unlock();
}

/* --- The collector starts and stops deleting */

static void
set_garbage_thread(PyThreadState *tstate)
{
    _Py_atomic_store_ptr_relaxed(&_PyTracer_garbage_thread, tstate);
    _PyTracer_SetBounds();
}

void
_PyTracer_GarbageBegin(PyThreadState *tstate)
{
    if (!_Py_atomic_load_int_relaxed(&_PyTracer.tracing)) {
        return;
    }
    _PyTracer_Lock();
    if (_PyTracer.tracing && _PyTracer_garbage_thread == NULL) {
        set_garbage_thread(tstate);
    }
    _PyTracer_Unlock();
}

void
_PyTracer_GarbageEnd(PyThreadState *tstate)
{
    /* No other thread sets it to this thread, or resets it. */
    if (tstate == NULL
        || _Py_atomic_load_ptr_relaxed(&_PyTracer_garbage_thread) != tstate)
    {
        return;
    }
    _PyTracer_Lock();
    set_garbage_thread(NULL);
    _PyTracer_Unlock();
}

void
_PyTracer_ForgetGarbage(void)
{
    PyThreadState *deleting = _PyTracer_garbage_thread;
    if (deleting != NULL && deleting != _PyThreadState_GET()) {
        set_garbage_thread(NULL);
    }
}
