/* Counters: the peak, the alarms, cyclic garbage.

   Who made the peak is known exactly, without a log.  While traced memory
   grows, every allocation is the peak and nothing is to be done: the live
   values of each node are those of the peak.  The first change of a node
   after the peak saves its values and marks them with the epoch.  A new peak
   starts a new epoch, if the old one was used, and with it all saved values
   are void.  A raw block of a thread without the GIL may be counted in an
   epoch that ends at that instant: the peak is then exact but for the calls
   in flight. */

#include "Python.h"
#include "pycore_tracer_alarm.h"
#include "pycore_tracer_core.h"

#include <time.h>                 // clock_gettime()

#define CLOCK_EVERY 1000          // allocations

/* --- Alarms */

static void
set_bounds(void)
{
    _PyTracer.high = Py_MIN(_PyTracer.peak, _PyTracer.alarm_high);
    for (struct tracer_measure *m = _PyTracer.measures; m; m = m->next) {
        _PyTracer.high = Py_MIN(_PyTracer.high, m->peak);
    }
    _PyTracer.low = _PyTracer.garbage_thread != NULL ? INT64_MAX
                                                     : _PyTracer.alarm_low;
}

static void
fire(void)
{
    _PyTracer.alarm_low = INT64_MIN;
    _PyTracer.alarm_high = INT64_MAX;
    set_bounds();
    if (_PyTracer.alarm_handler != NULL) {
        _PyTracer.alarm_handler();
    }
}

void
_PyTracer_SetAlarm(int64_t low, int64_t high)
{
    _PyTracer.alarm_low = low;
    _PyTracer.alarm_high = high;
    set_bounds();
}

void
_PyTracer_SetAlarmHandler(void (*handler)(void))
{
    _PyTracer.alarm_handler = handler;
}

int64_t
_PyTracer_TracedMemory(void)
{
    return _PyTracer_Current();
}

int64_t
_PyTracer_CoarseTime(void)
{
    struct timespec t;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
#else
    clock_gettime(CLOCK_MONOTONIC, &t);
#endif
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void
_PyTracer_SetClock(int64_t deadline)
{
    _PyTracer.deadline = deadline;
    _PyTracer.countdown = CLOCK_EVERY;
    uint32_t clocked = deadline != INT64_MAX;
    if (clocked != _PyTracer.clocked) {
        _PyTracer.clocked = clocked;
        if (_PyTracer.tracing) {
            _PyTracer_Lock();
            _PyTracer_InstallAllocators(1);
            _PyTracer_Unlock();
        }
    }
}

void
_PyTracer_LookAtClock(void)
{
    _PyTracer.countdown = CLOCK_EVERY;
    if (_PyTracer_CoarseTime() >= _PyTracer.deadline) {
        _PyTracer.deadline = INT64_MAX;
        if (_PyTracer.alarm_handler != NULL) {
            _PyTracer.alarm_handler();
        }
    }
}

/* --- Peak */

static void
next_epoch(void)
{
    _PyTracer.epoch_used = 0;
    if (++_PyTracer.epoch != 0) {
        return;
    }
    /* Wrapped: forget the marks of four billion epochs ago. */
    _PyTracer.epoch = 1;
    for (uint32_t id = 0; id < _PyTracer.nnodes; id++) {
        _PyTracer_Node(id)->peak_epoch = 0;
    }
    for (uint32_t number = 0; number < _PyTracer.ntwins; number++) {
        _PyTracer_TwinNumber(number)->peak_epoch = 0;
    }
}

int
_PyTracer_AboveHigh(void)
{
    int64_t current = _PyTracer_Current();
    int is_peak = current > _PyTracer.peak;
    if (is_peak) {
        _PyTracer.peak = current;
        if (_PyTracer.epoch_used) {
            next_epoch();
        }
    }
    for (struct tracer_measure *m = _PyTracer.measures; m; m = m->next) {
        m->peak = Py_MAX(m->peak, current);
    }
    set_bounds();
    if (current > _PyTracer.alarm_high) {
        fire();
    }
    return is_peak;
}

void
_PyTracer_SavePeak(struct tracer_node *node)
{
    node->peak_bytes = node->alloc_bytes - node->free_bytes;
    node->peak_blocks = (uint32_t)(node->alloc_blocks - node->free_blocks);
    node->peak_epoch = _PyTracer.epoch;
    _PyTracer.epoch_used = 1;
}

void
_PyTracer_ResetPeak(void)
{
    _PyTracer.peak = _PyTracer_Current();
    next_epoch();
    set_bounds();
}

void
_PyTracer_ClearCounters(void)
{
    _PyTracer.small_current = 0;
    _Py_atomic_store_int64(&_PyTracer.map_current, 0);
    _PyTracer.folded = 0;
    _PyTracer.untraced = 0;
    _PyTracer_ResetPeak();
}

/* --- Measures: peaks of a stretch of time of one's own */

void
_PyTracer_BeginMeasure(struct tracer_measure *measure)
{
    _PyTracer_Lock();
    measure->peak = _PyTracer_Current();
    measure->next = _PyTracer.measures;
    _PyTracer.measures = measure;
    set_bounds();
    _PyTracer_Unlock();
}

void
_PyTracer_EndMeasure(struct tracer_measure *measure)
{
    _PyTracer_Lock();
    struct tracer_measure **link = &_PyTracer.measures;
    while (*link != measure) {
        link = &(*link)->next;
    }
    *link = measure->next;
    set_bounds();
    _PyTracer_Unlock();
}

void
_PyTracer_SumTotals(uint64_t *size, uint64_t *count)
{
    *size = *count = 0;
    _PyTracer_Lock();
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer.nnodes; id++) {
        if (!_PyTracer_IsParked(id)) {
            const struct tracer_node *node = _PyTracer_Node(id);
            const struct tracer_twin *twin = _PyTracer_Twin(id);
            *size += node->alloc_bytes + twin->alloc_bytes;
            *count += node->alloc_blocks + twin->alloc_blocks;
        }
    }
    _PyTracer_Unlock();
}

/* --- Cyclic garbage: what is freed while the collector deletes */

static void
count_garbage(uint32_t id, size_t size)
{
    if (_PyThreadState_GET() == _PyTracer.garbage_thread
        && !_PyTracer_IsParked(id))
    {
        struct tracer_garbage *garbage = _PyTracer_Garbage(id);
        garbage->bytes += size;
        garbage->blocks++;
    }
}

void
_PyTracer_BelowLow(uint32_t node, size_t size)
{
    if (_PyTracer.garbage_thread != NULL) {
        count_garbage(node, size);
    }
    if (_PyTracer_Current() < _PyTracer.alarm_low) {
        fire();
    }
}

void
_PyTracer_GarbageBegin(PyThreadState *tstate)
{
    if (_PyTracer.tracing && _PyTracer.garbage_thread == NULL) {
        _PyTracer.garbage_thread = tstate;
        set_bounds();
    }
}

void
_PyTracer_GarbageEnd(PyThreadState *tstate)
{
    if (_PyTracer.garbage_thread == tstate) {
        _PyTracer.garbage_thread = NULL;
        set_bounds();
    }
}
