/* The memory limit of a cgroup, see tracer_limit.c. */

#ifndef Py_INTERNAL_TRACER_LIMIT_H
#define Py_INTERNAL_TRACER_LIMIT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_tasks.h"

#include <stdint.h>

/* Files of the cgroup; NULL: there is none of these. */
struct tracer_limit_files {
    const char *usage;
    const char *events;           // version 2
    const char *pressure;         // version 2
    const char *control;          // version 1
};

/* From the next start of the history on, fire the trigger when the usage
   passes `bound` bytes; NULL: stop watching.  The trigger must stay alive
   until the next call. -1: no memory.  GIL held, and the thread of the history
   does not run. */
extern int _PyTracer_WatchLimit(const struct tracer_limit_files *files,
                                int64_t bound, struct tracer_trigger *trigger);
extern void _PyTracer_ForgetLimit(void);

/* Does the kernel accept a trigger in this file of memory pressure?  Return 0,
   or the error. */
extern int _PyTracer_TryPressure(const char *path);

/* For the thread: open the files, in its own table of descriptors; look; close
   them.  -1: there is nothing to watch. */
extern int _PyTracer_OpenLimit(void);
extern void _PyTracer_LookAtLimit(void);
extern void _PyTracer_CloseLimit(void);

/* The usage when the bound was passed, reported once for each passing, or 0.
   A usage below the bound: the kernel has reported memory pressure.  `usage`
   is what the caller has seen.  No GIL needed. */
extern int64_t _PyTracer_LimitPassed(int64_t usage);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LIMIT_H */
