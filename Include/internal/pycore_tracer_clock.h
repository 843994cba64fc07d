/* The time of a clock, in nanoseconds. */

#ifndef Py_INTERNAL_TRACER_CLOCK_H
#define Py_INTERNAL_TRACER_CLOCK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <time.h>                 // clock_gettime()

#define TRACER_SECOND INT64_C(1000000000)     // ns

static inline int64_t
_PyTracer_Now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * TRACER_SECOND + t.tv_nsec;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_CLOCK_H */
