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

#include "pycore_tracer_index.h"
#include "pycore_tracer_snapshot.h"

struct tracer_module {
    uint32_t path;                // text
    struct snapshot_module known; // but for the path
};

/* Numbers begin with 1 in the indexes, and are those of the arrays. */
struct tracer_native_stacks {
    struct tracer_module *modules;
    struct snapshot_code *places;
    struct snapshot_stack *stacks;
    uint32_t *frames;
    uint32_t nmodules, max_modules;
    uint32_t nplaces, max_places;
    uint32_t nstacks, max_stacks;
    uint32_t nframes, max_frames;
    struct tracer_index place_index, stack_index;
};

/* Number of the place of a return address, 0: no memory. */
extern uint32_t _PyTracer_NativePlace(uintptr_t pc);
/* Number of the stack of these places, the innermost first; 0: of no place, or
   no memory. */
extern uint32_t _PyTracer_NativeStack(const uint32_t *places, int n);
/* A copy for a snapshot; NULL: no memory. */
extern struct snapshot_native *_PyTracer_CopyNativeStacks(void);
extern void _PyTracer_ForgetNativeStacks(void);

/* See pycore_tracer_valid.h. */
extern const char *_PyTracer_NativeStacksFault(void);
extern struct tracer_native_stacks *_PyTracer_NativeStacks(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_STACKS_H */
