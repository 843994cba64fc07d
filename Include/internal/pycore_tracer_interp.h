/* What an interpreter keeps for the tracer. */

#ifndef Py_INTERNAL_TRACER_INTERP_H
#define Py_INTERNAL_TRACER_INTERP_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Flags of an interpreter, in its tracer_flags; lock. */
#define _PyTracer_INTERP_ENDED 1          // nobody looks at its pools
#define _PyTracer_INTERP_OWN_GIL 2        // counted in own_gils

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_INTERP_H */
