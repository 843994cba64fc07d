/* Alarms of the tracer: a call when traced memory leaves a range or a moment
   has passed, driven by the allocator.

   An alarm that triggers is disarmed, then the handler runs inside the
   allocator: with the GIL held or, for the raw domain, with _PyTracer.lock
   held and perhaps without the GIL.  So it may set a flag or call
   Py_AddPendingCall(), and nothing that allocates. */

#ifndef Py_INTERNAL_TRACER_ALARM_H
#define Py_INTERNAL_TRACER_ALARM_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>               // int64_t

/* Call the handler when the traced memory (bytes) falls below `low` or rises
   above `high`; INT64_MIN and INT64_MAX: never.  GIL held. */
extern void _PyTracer_SetAlarm(int64_t low, int64_t high);

/* Call the handler at some allocation after the monotonic clock has passed
   `deadline` (ns); INT64_MAX: never.  The clock is looked at every thousand
   allocations.  GIL held. */
extern void _PyTracer_SetClock(int64_t deadline);

/* Monotonic time in ns, of a coarse clock (a few ms). */
extern int64_t _PyTracer_CoarseTime(void);

extern void _PyTracer_SetAlarmHandler(void (*handler)(void));

/* Current traced memory in bytes. */
extern int64_t _PyTracer_TracedMemory(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ALARM_H */
