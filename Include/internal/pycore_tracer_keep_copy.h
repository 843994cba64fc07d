/* Copies of the kept tables, see tracer_keep_copy.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_KEEP_COPY_H
#define Py_INTERNAL_TRACER_KEEP_COPY_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

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
