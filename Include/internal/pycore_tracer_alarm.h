/* Alarm of the tracer: a call when traced memory leaves a range or a moment
   has passed, driven by the allocator.

   Allocations look, and frees of big blocks: what small frees cross rings at
   the next allocation, what happens without the GIL at the next one with it.
   What rang is disarmed, then the handler runs inside the allocator, with the
   one GIL held, or with _PyTracer_lock where there are several, perhaps with
   both.  So it may set a flag, or ask for a pending call if that needs no
   waiting, and does nothing that allocates. */

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

/* For the handler: call it again at the next allocation.  As it is called. */
extern void _PyTracer_RearmAlarm(void);

/* It is given the traced memory. */
extern void _PyTracer_SetAlarmHandler(void (*handler)(int64_t traced));

/* Current traced memory in bytes; not locked. */
extern int64_t _PyTracer_TracedMemory(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ALARM_H */
