/* Triggers of tasks, on top of the one alarm of the allocator.

   The alarm is set to the nearest bounds and the earliest deadline of all
   armed triggers.  When it goes off, inside the allocator, on_alarm() notes
   the traced memory and asks for a pending call; nothing else is safe there.
   The next function that looks at the triggers, with the GIL, first marks
   those that were passed: a peak that is over by then still counts.  The
   allocations and frees of a call must not make it due again, or a small
   threshold would stop the program for good.  So a trigger that is armed
   during a call measures from the end of the call. */

#include "Python.h"
#include "pycore_tracer_alarm.h"  // _PyTracer_SetAlarm()
#include "pycore_tracer_compat.h"
#include "pycore_tracer_count.h"  // _PyTracer_CoarseTime()
#include "pycore_tracer_lock.h"   // _PyTracer_Lock()
#include "pycore_tracer_tasks.h"

static struct {
    PyMutex mutex;                // rank 0: nobody waits for it who holds a
                                  //   lock; free while there is a GIL
    struct tracer_trigger *first; // oldest first; mutex
    int (*call)(void *);          // GIL
    int calling;                  // from a trigger taken to EndCall(); mutex
    int rung;                     // alarm rang since sort_out(); atomic
    int asked;                    // a pending call is on its way; atomic
    int64_t lowest, highest;      // traced memory when it rang; atomic
} tasks = {
    .lowest = INT64_MAX,
    .highest = INT64_MIN,
};

/* Py_AddPendingCall(), but also -1 if a thread without the GIL has locked the
   queue: waiting for it could give up the GIL in the middle of an
   allocation. */
static int
add_pending_call(void)
{
    PyMutex *mutex = _PyTracer_PendingMutex();
    if (!_PyTracer_TryMutex(mutex)) {
        return -1;
    }
    assert(tasks.call != NULL);
    _PyTracer_EnterRank(TRACER_RANK_LEAF);
    int pushed = _PyTracer_PushPendingCall(tasks.call);
    PyMutex_Unlock(mutex);
    _PyTracer_LeaveRank(TRACER_RANK_LEAF);
    _Py_set_eval_breaker_bit(_PyRuntime.main_tstate, _PY_CALLS_TO_DO_BIT);
    return pushed ? 0 : -1;
}

/* If that fails, an alarm that goes off at once leads to another try at the
   next allocation.  Locked where there are several GILs. */
static void
ask_call(void)
{
    if (_Py_atomic_exchange_int(&tasks.asked, 1)) {
        return;
    }
    if (add_pending_call() < 0) {
        _Py_atomic_store_int(&tasks.asked, 0);
        _PyTracer_RearmAlarm();
    }
}

/* A thread with another GIL may be in sort_out(). */
static void
on_alarm(int64_t traced)
{
    if (traced < _Py_atomic_load_int64_relaxed(&tasks.lowest)) {
        _Py_atomic_store_int64_relaxed(&tasks.lowest, traced);
    }
    if (traced > _Py_atomic_load_int64_relaxed(&tasks.highest)) {
        _Py_atomic_store_int64_relaxed(&tasks.highest, traced);
    }
    _Py_atomic_store_int_release(&tasks.rung, 1);
    ask_call();
}

int
_PyTracer_WantTrigger(struct tracer_trigger *trigger)
{
    _Py_atomic_store_int(&trigger->wanted, 1);
    _Py_atomic_store_int_release(&tasks.rung, 1);
    if (_Py_atomic_exchange_int(&tasks.asked, 1)) {
        return 0;
    }
    if (add_pending_call() < 0) {
        _Py_atomic_store_int(&tasks.asked, 0);
        return -1;
    }
    return 0;
}

/* Mark the triggers that the last alarm, if any, makes due. */
static void
sort_out(void)
{
    if (!_Py_atomic_exchange_int(&tasks.rung, 0)) {
        return;
    }
    int64_t low = _Py_atomic_exchange_int64(&tasks.lowest, INT64_MAX);
    int64_t high = _Py_atomic_exchange_int64(&tasks.highest, INT64_MIN);
    int64_t traced = _PyTracer_TracedMemory();
    low = Py_MIN(low, traced);
    high = Py_MAX(high, traced);
    int64_t now = _PyTracer_CoarseTime();
    struct tracer_trigger *trigger;
    for (trigger = tasks.first; trigger != NULL; trigger = trigger->next) {
        assert(trigger->armed != trigger->due);
        if (trigger->armed && (low < trigger->low || high > trigger->high
                               || now >= trigger->deadline
                               || _Py_atomic_load_int(&trigger->wanted)))
        {
            trigger->armed = trigger->unbounded = 0;
            trigger->due = 1;
        }
    }
}

static void
set_alarm(void)
{
    int64_t low = INT64_MIN, high = INT64_MAX, deadline = INT64_MAX;
    struct tracer_trigger *trigger;
    for (trigger = tasks.first; trigger != NULL; trigger = trigger->next) {
        if (trigger->armed) {
            low = Py_MAX(low, trigger->low);
            high = Py_MIN(high, trigger->high);
            deadline = Py_MIN(deadline, trigger->deadline);
        }
    }
    _PyTracer_SetAlarm(low, high, deadline);
}

/* Was it in the list? */
static int
unlink_trigger(struct tracer_trigger *trigger)
{
    int listed = trigger->armed || trigger->due;
    struct tracer_trigger **link = &tasks.first;
    while (*link != NULL && *link != trigger) {
        link = &(*link)->next;
    }
    assert(listed == (*link != NULL));
    if (listed) {
        *link = trigger->next;
    }
    trigger->next = NULL;
    trigger->armed = trigger->due = trigger->unbounded = 0;
    return listed;
}

void
_PyTracer_SetTriggerCall(int (*call)(void *))
{
    tasks.call = call;
    _PyTracer_SetAlarmHandler(on_alarm);
}

/* Measure from now on, or from the end of the call. */
static void
set_bounds(struct tracer_trigger *trigger)
{
    assert(trigger->armed);
    int64_t traced = _PyTracer_TracedMemory();
    int bounded = trigger->threshold && !tasks.calling;
    trigger->low = bounded ? traced - trigger->threshold : INT64_MIN;
    trigger->high = bounded ? traced + trigger->threshold : INT64_MAX;
    trigger->unbounded = tasks.calling;
}

int
_PyTracer_ArmTrigger(struct tracer_trigger *trigger,
                     int64_t threshold, int64_t delay)
{
    assert(threshold >= 0 && delay >= 0 && (threshold || delay));
    PyMutex_Lock(&tasks.mutex);
    sort_out();
    int listed = unlink_trigger(trigger);
    PyTime_t now;
    (void)PyTime_MonotonicRaw(&now);
    trigger->threshold = threshold;
    trigger->deadline = delay ? now + delay : INT64_MAX;
    trigger->armed = 1;
    if (_Py_atomic_load_int(&trigger->wanted)) {
        _Py_atomic_store_int_release(&tasks.rung, 1);
    }
    set_bounds(trigger);
    struct tracer_trigger **link = &tasks.first;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = trigger;
    set_alarm();
    PyMutex_Unlock(&tasks.mutex);
    return listed;
}

int
_PyTracer_DisarmTrigger(struct tracer_trigger *trigger)
{
    PyMutex_Lock(&tasks.mutex);
    sort_out();
    int listed = unlink_trigger(trigger);
    if (listed) {
        set_alarm();
    }
    PyMutex_Unlock(&tasks.mutex);
    return listed;
}

struct tracer_trigger *
_PyTracer_BeginCall(void)
{
    _Py_atomic_store_int(&tasks.asked, 0);
    PyMutex_Lock(&tasks.mutex);
    sort_out();
    struct tracer_trigger *trigger = tasks.first;
    while (trigger != NULL && !trigger->due) {
        trigger = trigger->next;
    }
    if (trigger != NULL) {
        (void)unlink_trigger(trigger);
        _Py_atomic_store_int(&trigger->wanted, 0);
        assert(!tasks.calling);
        tasks.calling = 1;
    }
    set_alarm();
    PyMutex_Unlock(&tasks.mutex);
    return trigger;
}

void
_PyTracer_EndCall(void)
{
    PyMutex_Lock(&tasks.mutex);
    assert(tasks.calling);
    tasks.calling = 0;
    sort_out();
    int due = 0;
    struct tracer_trigger *trigger;
    for (trigger = tasks.first; trigger != NULL; trigger = trigger->next) {
        if (trigger->unbounded) {
            set_bounds(trigger);
        }
        due |= trigger->due;
    }
    set_alarm();
    if (due) {
        _PyTracer_Lock();
        ask_call();
        _PyTracer_Unlock();
    }
    PyMutex_Unlock(&tasks.mutex);
}
