/* Hooks of interpreters: one is made, one ends. */

#ifndef Py_INTERNAL_TRACER_INTERP_H
#define Py_INTERNAL_TRACER_INTERP_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* An interpreter is about to be made.  If it is to have a GIL of its own, the
   GIL alone protects nothing from now on.  Called with the creator's GIL held,
   so that no other thread is within the tracer. */
extern void _PyTracer_OwnGil(void);
#define _PyTracer_NEW_INTERPRETER(CONFIG)                               \
    do {                                                                \
        if ((CONFIG)->gil == PyInterpreterConfig_OWN_GIL) {             \
            _PyTracer_OwnGil();                                         \
        }                                                               \
    } while (0)

/* Flags of an interpreter, in its tracer_flags. */
#define _PyTracer_INTERP_ENDED 1  // nobody looks at its pools; lock

/* An interpreter ends: nothing runs in it any more, and its memory is about to
   go. */
extern void _PyTracer_InterpreterEnd(PyInterpreterState *interp);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_INTERP_H */
