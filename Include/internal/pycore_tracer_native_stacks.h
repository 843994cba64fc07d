/* Modules, places in their code, and C stacks, see tracer_native_stacks.c.
   Locked. */

#ifndef Py_INTERNAL_TRACER_NATIVE_STACKS_H
#define Py_INTERNAL_TRACER_NATIVE_STACKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_snapshot.h"

/* Number of the place of a return address, 0: no memory. */
extern uint32_t _PyTracer_NativePlace(uintptr_t pc);
/* Number of the stack of these places, the innermost first; 0: of no place, or
   no memory. */
extern uint32_t _PyTracer_NativeStack(const uint32_t *places, int n);
/* A copy for a snapshot; NULL: no memory. */
extern struct snapshot_native *_PyTracer_CopyNativeStacks(void);
extern void _PyTracer_ForgetNativeStacks(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_STACKS_H */
