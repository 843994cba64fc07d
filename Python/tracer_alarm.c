/* Alarms: handlers that the allocator calls when traced memory leaves a range
   or a deadline has passed.

   An allocation or a free that finds traced memory outside of the bounds calls
   the handler, see tracer_count.c. Allocator functions that watch a lower
   bound or the clock are installed only while an alarm needs them. */

#include "Python.h"
#include "pycore_tracer_alarm.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"

void
_PyTracer_SetAlarm(int64_t low, int64_t high, int64_t deadline)
{
    assert(_PyTracer_inside == 0);
    int may_install = _PyTracer_TryLockAllocators();
    _PyTracer_Lock();
    _PyTracer_bounds.alarm_low = low;
    _PyTracer_bounds.alarm_high = high;
    _PyTracer_bounds.deadline = deadline;
    uint32_t watched = low != INT64_MIN || deadline != INT64_MAX;
    /* Below a wrapper there may still be functions that count down. */
    _PyTracer_bounds.countdown = watched ? TRACER_CLOCK_EVERY : INT32_MAX;
    if (watched != _PyTracer.watched || _PyTracer.blind) {
        _PyTracer.watched = watched;
        if (!_PyTracer.tracing) {
            _PyTracer.blind = 0;
        }
        else if (may_install) {
            _PyTracer_InstallAllocators(1);
        }
        else {
            _PyTracer.blind = watched;
        }
    }
    _PyTracer_SetBounds();
    _PyTracer_Unlock();
    if (may_install) {
        _PyTracer_UnlockAllocators();
    }
}

void
_PyTracer_RearmAlarm(void)
{
    assert(_PyTracer_bounds.alarm_handler != NULL);
    _PyTracer_bounds.alarm_high = INT64_MIN;
    _PyTracer_SetBounds();
}

void
_PyTracer_SetAlarmHandler(void (*handler)(int64_t))
{
    _PyTracer_bounds.alarm_handler = handler;
}

int64_t
_PyTracer_TracedMemory(void)
{
    _PyTracer_Lock();
    int64_t traced = _PyTracer_Current();
    _PyTracer_Unlock();
    return traced;
}
