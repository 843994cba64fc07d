/* The call tree at a request for memory that fails, see tracer_oom.c.  Locked,
   but where it says so. */

#ifndef Py_INTERNAL_TRACER_OOM_H
#define Py_INTERNAL_TRACER_OOM_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_state.h"

struct tracer_oom {
    struct tracer_keep_file file;
    int early;                    // open the file at the start, not when a
                                  //   request fails
    int armed;                    // atomic
    uint64_t failed;              // requests, so far
    int64_t last;                 // when the last one was, monotonic
    const void *failing;          // the thread whose request was the last one,
                                  //   until it raises the exception
    int is_written;               // the file has a tree
    int said;                     // that it cannot be written
};
extern struct tracer_oom _PyTracer_oom;

/* Tables have been made; tracing ends; in the child of a fork. */
extern void _PyTracer_BeginOom(void);
extern void _PyTracer_StopOom(void);
extern void _PyTracer_LeaveOom(void);

/* A request of this thread has failed, and its caller will learn of it.  Not
   locked, with or without the GIL. */
extern void _PyTracer_NoMemory(size_t size, enum tracer_kind kind);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_OOM_H */
