/* From one GIL to several and back, see tracer_gils.c. */

#ifndef Py_INTERNAL_TRACER_GILS_H
#define Py_INTERNAL_TRACER_GILS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Is there only one GIL again? GIL, HEAD_LOCK and locked, tracing is off. */
extern void _PyTracer_CountGils(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_GILS_H */
