/* Hooks of interpreters: one is made, one ends. */

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
#define _PyTracer_INTERP_OWN_GIL 2        // counted in _PyTracer.own_gils

/* An interpreter is being made, and nothing has run in it yet.  If it is to
   have a GIL of its own, the GIL alone protects nothing from now on.  The same
   for memory of its own: when that goes, its thread has given up the GIL.  The
   creator's GIL is held, if it has one. */
extern void _PyTracer_OwnGil(PyInterpreterState *interp);
#define _PyTracer_NEW_INTERPRETER(INTERP, CONFIG)                       \
    do {                                                                \
        if ((CONFIG)->gil == PyInterpreterConfig_OWN_GIL                \
            || !(CONFIG)->use_main_obmalloc)                            \
        {                                                               \
            _PyTracer_OwnGil(INTERP);                                   \
        }                                                               \
    } while (0)

/* An interpreter ends: nothing runs in it any more, and its memory is about to
   go.  Also one that could not be made. */
extern void _PyTracer_InterpreterEnd(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_INTERP_H */
