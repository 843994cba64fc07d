/* Native memory: what C code takes from malloc() and mmap(), see
   tracer_native.c. */

#ifndef Py_INTERNAL_TRACER_NATIVE_H
#define Py_INTERNAL_TRACER_NATIVE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Why native memory cannot be seen in this process, with so many C frames of
   each block at most, or NULL. */
extern const char *_PyTracer_NativeFault(int frames);
/* The same as an exception, also for a wrong number: 0, or -1. */
extern int _PyTracer_CheckNative(int frames);
/* Trace native memory, too; 0, or -1 with an exception.  GIL held, not locked,
   and tracing is on. */
extern int _PyTracer_StartNative(int frames);
extern void _PyTracer_StopNative(void);           // locked
/* pymalloc's arenas are not seen from now on. */
extern void _PyTracer_HideArenas(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_H */
