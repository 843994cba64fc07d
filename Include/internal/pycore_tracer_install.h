/* Which allocator functions are installed, see tracer_install.c. */

#ifndef Py_INTERNAL_TRACER_INSTALL_H
#define Py_INTERNAL_TRACER_INSTALL_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

/* Read what is installed in each domain, while tracing is off; -1 and an
   exception: it calls the tracer's functions.  GIL, which may be given up; not
   locked. */
extern int _PyTracer_FindAllocators(PyMemAllocatorEx *found);
/* The functions below need the GIL and the mutex of the allocators, and are
   locked.  Tracing will wrap the functions that were read; -1: they are not
   installed any more. */
extern int _PyTracer_TakeAllocators(const PyMemAllocatorEx *found);
/* `again`: tracing is on, what the functions must do has changed. */
extern void _PyTracer_InstallAllocators(int again);
extern void _PyTracer_RemoveAllocators(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_INSTALL_H */
