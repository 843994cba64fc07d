/* Start from C, see tracemalloc.c. */

#ifndef Py_INTERNAL_TRACER_START_H
#define Py_INTERNAL_TRACER_START_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Start with the whole stack; 0, or -1 with an exception. GIL held. */
extern int _PyTracer_StartFull(void);
/* Once a process: which file keeps the call tree, if any; the same. */
extern int _PyTracer_ReadFileOptions(void);
/* Tracing has started: trace native memory, too, if an option says so. */
extern void _PyTracer_StartWantedNative(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_START_H */
