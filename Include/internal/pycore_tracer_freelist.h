/* Blocks on free lists, see tracer_freelist.c.  Not locked. */

#ifndef Py_INTERNAL_TRACER_FREELIST_H
#define Py_INTERNAL_TRACER_FREELIST_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

extern void _PyTracer_Reassign(enum _PyTracer_freelist list, void *block,
                           size_t size, uint32_t node, int capture);
extern void _PyTracer_GetParked(enum _PyTracer_freelist kind,
                                uint64_t *blocks, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_FREELIST_H */
