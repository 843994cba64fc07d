/* The counters of nodes, the peak and measures, see tracer_count.c.  GIL held,
   not locked, except where noted. */

#ifndef Py_INTERNAL_TRACER_COUNT_H
#define Py_INTERNAL_TRACER_COUNT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_tree.h"

/* The peak of traced memory since it was linked in; owned by its user. */
struct tracer_measure {
    int64_t peak;
    struct tracer_measure *next;
};

/* GIL, but `raw`. */
struct tracer_peaks {
    int64_t traced;               // highest of the window, unless rising;
                                  //   without an epoch, one begins above it
    int64_t time;                 // when it was, about; ns, monotonic
    int64_t raw;                  // seen without the GIL; atomic
    uint32_t epoch_used;          // a node has saved a value of this epoch
    struct tracer_measure *measures;    // written with GIL and lock
};
extern struct tracer_peaks _PyTracer_peaks;

/* When somebody wants to be called, see pycore_tracer_alarm.h.  GIL. */
struct tracer_bounds {
    int64_t alarm_low, alarm_high;
    int64_t deadline;             // ns, monotonic; INT64_MAX: none
    void (*alarm_handler)(int64_t traced);
    /* Only while _PyTracer.watched. */
    int32_t countdown;            // allocations until the clock is looked at
    int64_t watch_low;            // an allocation must look outside of
    uint64_t watch_span;          //   watch_low and the span above it
};
extern struct tracer_bounds _PyTracer_bounds;

/* Deletes cyclic garbage now, or NULL. */
extern PyThreadState *_PyTracer_garbage_thread;

/* Traced memory is above `high`: there may be a new peak, or an alarm. */
extern void _PyTracer_RoseAboveHigh(void);
/* A block of the node is about to be freed, and free_bound requires a check:
   the peak is over, or garbage is being deleted. */
extern void _PyTracer_FreeAtBound(uint32_t node, size_t size, int locked);
/* The peak is over, if traced memory was rising. */
extern void _PyTracer_EndRise(void);
/* A thread without the GIL saw this much traced memory; locked. */
extern void _PyTracer_RawPeak(int64_t traced);
/* While `watched`: is traced memory below the alarm?  Asked when a mapped
   block is freed. */
extern void _PyTracer_CheckAlarmLow(void);
/* The clock is read once in so many allocations. */
#define TRACER_CLOCK_EVERY 1000
/* Monotonic time in ns, of a coarse clock (a few ms). */
extern int64_t _PyTracer_CoarseTime(void);
/* Set again when an allocation or a free has to check, after a change of the
   alarm, the peak or the measures.  Locked if there are many GILs. */
extern void _PyTracer_SetBounds(void);
/* While `watched`, once for each allocation; locked if
   there are many GILs. */
extern void _PyTracer_Watch(void);
/* Highest traced memory up to now, and of the present window, bytes. */
extern int64_t _PyTracer_Peak(void);
extern int64_t _PyTracer_PeakOfWindow(void);
/* Follow the peak from now on until EndMeasure().  Begin and look give the
   current traced memory. */
extern int64_t _PyTracer_BeginMeasure(struct tracer_measure *measure);
extern int64_t _PyTracer_LookAtMeasure(const struct tracer_measure *measure,
                                       int64_t *peak);
extern void _PyTracer_EndMeasure(struct tracer_measure *measure);
/* Bytes and blocks ever allocated. */
extern void _PyTracer_SumTotals(uint64_t *size, uint64_t *count);
extern void _PyTracer_ResetPeak(void);            // GIL and locked
extern void _PyTracer_ClearCounters(void);        // GIL and locked
extern void _PyTracer_SavePeak(uint32_t node);
/* Live small blocks of the node at the highest moment of the window, and all
   of them; GIL, and there is an epoch. */
extern struct tracer_sum _PyTracer_AtPeak(uint32_t node);
extern struct tracer_sum _PyTracer_AllAtPeak(uint32_t node);
/* No value is needed until traced memory is above the peak's; GIL. */
extern void _PyTracer_VoidEpoch(void);
/* A sum of bytes of the node would wrap. */
extern void _PyTracer_Spill(uint32_t node);

/* If another thread was deleting garbage, forget it: after a fork it does not
   exist any more.  Locked. */
extern void _PyTracer_ForgetGarbage(void);

static inline int64_t
_PyTracer_Current(void)
{
    return _PyTracer.small_current
           + _Py_atomic_load_int64_relaxed(&_PyTracer.map_current);
}

/* The parked nodes hold memory that is neither live nor freed: it is not part
   of the sum. */
static inline int
_PyTracer_IsParked(uint32_t node)
{
    return node >= TRACER_NODE_PARKED
           && node < TRACER_NODE_PARKED + _PyTracer_NFREELISTS;
}

/* Does this entry or record stand for a live block? */
static inline int
_PyTracer_IsLive(uint32_t node)
{
    return node == TRACER_NODE_UNKNOWN || node >= TRACER_NODE_FIRST;
}

static inline Py_ALWAYS_INLINE int
_PyTracer_Wraps(uint32_t bytes, size_t size)
{
    return bytes + (uint32_t)size < bytes;
}

/* Count a small block in and out, unless it is parked.  GIL held. */

static inline Py_ALWAYS_INLINE void
_PyTracer_CountAlloc(uint32_t id, size_t size)
{
    struct tracer_node *node = _PyTracer_Node(id);
    _PyTracer.small_current += size;
    if (_PyTracer_Current() > _PyTracer.high) {
        _PyTracer_RoseAboveHigh();
    }
    if (node->saved < _PyTracer.epoch && !_PyTracer.rising) {
        _PyTracer_SavePeak(id);
    }
    if (_PyTracer_Wraps(node->alloc_bytes, size)) {
        _PyTracer_Spill(id);
    }
    node->alloc_bytes += (uint32_t)size;
    node->alloc_blocks++;
}

static inline Py_ALWAYS_INLINE void
_PyTracer_CountFree(uint32_t id, size_t size, int locked)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->saved < _PyTracer.free_bound) {
        if (_PyTracer.free_bound == TRACER_EVERY_FREE) {
            _PyTracer_FreeAtBound(id, size, locked);
        }
        if (node->saved < _PyTracer.epoch) {
            _PyTracer_SavePeak(id);
        }
    }
    if (_PyTracer_Wraps(node->free_bytes, size)) {
        _PyTracer_Spill(id);
    }
    _PyTracer.small_current -= size;
    node->free_bytes += (uint32_t)size;
    node->free_blocks++;
}

/* The same for any node. */

static inline void
_PyTracer_CountIn(uint32_t id, size_t size)
{
    if (!_PyTracer_IsParked(id)) {
        _PyTracer_CountAlloc(id, size);
        return;
    }
    _PyTracer.parked[id - TRACER_NODE_PARKED] += TRACER_PARKED(size);
}

static inline void
_PyTracer_CountOut(uint32_t id, size_t size, int locked)
{
    if (!_PyTracer_IsParked(id)) {
        _PyTracer_CountFree(id, size, locked);
        return;
    }
    _PyTracer.parked[id - TRACER_NODE_PARKED] -= TRACER_PARKED(size);
}

/* Take back a CountOut(): the block did not go away after all. */
static inline void
_PyTracer_CountBack(uint32_t id, size_t size)
{
    if (_PyTracer_IsParked(id)) {
        _PyTracer_CountIn(id, size);
        return;
    }
    /* The node's own numbers may be smaller, if it spilled since. */
    struct tracer_counts *spilled = &_PyTracer_tree.spills[id].counts;
    _PyTracer_chunk_spilled[id >> TRACER_CHUNK_BITS] = 1;
    _PyTracer.small_current += size;
    spilled->free_bytes -= size;
    spilled->free_blocks--;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_COUNT_H */
