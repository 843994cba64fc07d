/* Whether all tables agree, see tracer_valid.c. */

#ifndef Py_INTERNAL_TRACER_VALID_H
#define Py_INTERNAL_TRACER_VALID_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_map.h"
#include "pycore_tracer_state.h"

/* Where it all is. */
struct tracer_parts {
    struct tracer_state *state;
    struct tracer_call_tree *tree;
    struct tracer_map *map;
    struct tracer_texts *texts;
    struct tracer_places *places;
    struct tracer_windows *windows;
    struct tracer_cells *cells;
    struct tracer_native_stacks *native_stacks;
};

/* Return what does not agree, a line of static text; NULL: everything agrees.
   Each part has its own function with the same result.  GIL, HEAD_LOCK and
   locked; no memory is requested from an allocator. */
extern const char *_PyTracer_Fault(void);
/* The same; GIL held, not locked.  Both of these are exported for the
   extension _testtracer. */
PyAPI_FUNC(const char *) _PyTracer_Validate(void);
PyAPI_FUNC(struct tracer_parts) _PyTracer_Parts(void);

/* In a debug build, end the process if _PyTracer_Fault() finds a fault.
   `when` names the operation. */
#ifdef Py_DEBUG
extern void _PyTracer_AssertValid(const char *when);
#else
#  define _PyTracer_AssertValid(WHEN) ((void)0)
#endif

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_VALID_H */
