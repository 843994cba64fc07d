/* Copies of the kept tables, see tracer_keep_copy.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_KEEP_COPY_H
#define Py_INTERNAL_TRACER_KEEP_COPY_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_kept.h"

/* What a copy of all tables has, and where; its size.  `peak` is left as it
   is. */
extern size_t _PyTracer_PlanCopy(struct kept_copy *copy);
/* Write it to a file at a whole unit, past which the file is empty; 0, or -1
   with errno. */
extern int _PyTracer_WriteCopy(struct tracer_keep_file *file,
                               uint64_t offset, struct kept_copy *copy);

/* Around a fork: before it, then in the parent, and in the child. */
extern void _PyTracer_CopyForFork(void);
extern void _PyTracer_DropCopy(void);
extern void _PyTracer_TakeCopy(void);

/* Around a change of the numbers of nodes. */
extern void _PyTracer_BeginMoving(void);
extern void _PyTracer_EndMoving(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_KEEP_COPY_H */
