/* The hook of the interpreter's start-up for what is written in Python. */

#ifndef Py_INTERNAL_TRACER_SERVICES_H
#define Py_INTERNAL_TRACER_SERVICES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Start the control socket (-X tracemalloc_control=PATH or the variable
   PYTRACEMALLOC_CONTROL) and the recording of `pytracemalloc run` (the
   variable PYTRACEMALLOC_RUN): call pytracemalloc.services.run() if one of
   them is given, else do nothing.  For the main interpreter, after the import
   of site, with the GIL held.  Cannot fail: an error is printed to stderr and
   the program runs without. */
extern void _PyTracer_StartServices(const PyConfig *config);

#ifdef __cplusplus
}
#endif
#endif   /* !Py_INTERNAL_TRACER_SERVICES_H */
