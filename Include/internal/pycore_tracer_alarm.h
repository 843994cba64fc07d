/* Alarm of the tracer: the allocator calls a handler when traced memory leaves
   a range, or a deadline has passed.

   Allocations check this, and frees of big blocks.  A bound that is crossed by
   small frees is noticed at the next allocation, and one that is crossed
   without the GIL at the next allocation with it.  The alarm is disarmed, then
   the handler runs inside the allocator, with the one GIL held, or with
   _PyTracer_lock where there are several GILs, perhaps with both.  So it may
   set a flag, or ask for a pending call if that needs no waiting, and must not
   allocate. */

#ifndef Py_INTERNAL_TRACER_ALARM_H
#define Py_INTERNAL_TRACER_ALARM_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>               // int64_t

/* Call the handler when the traced memory (bytes) is below `low` or above
   `high`, or the monotonic clock has passed `deadline` (ns); INT64_MIN,
   INT64_MAX, INT64_MAX: never.  The clock is looked at every thousand
   allocations.  GIL held, not locked, not inside an allocator. */
extern void _PyTracer_SetAlarm(int64_t low, int64_t high, int64_t deadline);

/* For the handler: call it again at the next allocation.  Same locks as the
   handler. */
extern void _PyTracer_RearmAlarm(void);

/* It is given the traced memory. */
extern void _PyTracer_SetAlarmHandler(void (*handler)(int64_t traced));

/* Current traced memory in bytes; not locked. */
extern int64_t _PyTracer_TracedMemory(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ALARM_H */
