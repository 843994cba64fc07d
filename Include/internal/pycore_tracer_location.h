/* Functions and places in the source, see tracer_location.c.  Locked.
   UINT32_MAX: no memory. */

#ifndef Py_INTERNAL_TRACER_LOCATION_H
#define Py_INTERNAL_TRACER_LOCATION_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

struct tracer_position;
extern int _PyTracer_LocationInit(void);
extern void _PyTracer_LocationClear(void);
extern uint32_t _PyTracer_InternFunction(PyCodeObject *code);
extern uint32_t _PyTracer_InternLocation(uint32_t function,
                                         const struct tracer_position *pos);
/* Of what no Python frame allocates: the file and line that the standard
   library gives it, and a reason in place of the function. */
extern uint32_t _PyTracer_InternNoFrame(const char *reason);
extern struct tracer_position _PyTracer_PositionOf(
    const struct tracer_location *location);
extern const char *_PyTracer_LocationFault(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LOCATION_H */
