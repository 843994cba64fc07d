/* Hidden threads, see tracer_hide.c. */

#ifndef Py_INTERNAL_TRACER_HIDE_H
#define Py_INTERNAL_TRACER_HIDE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Hide this thread, or show it again; was it hidden?  GIL held, which may be
   given up; not locked, not inside an allocator. */
extern int _PyTracer_HideThread(int hide);
extern int _PyTracer_AnyHidden(void);             // locked

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HIDE_H */
