/* Small blocks that have a record in the address map, see tracer_mapped.c.
   GIL held and locked. */

#ifndef Py_INTERNAL_TRACER_MAPPED_H
#define Py_INTERNAL_TRACER_MAPPED_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

/* Forget what the entry of the block at this address refers to; the entry is
   NULL if the pool has no table. */
extern void _PyTracer_DropEntry(uint32_t *entry, uintptr_t address);
/* A pool gives up this entry, but the block was not reported as freed.
   `leaked`: it never will be freed, and its memory stays. */
extern void _PyTracer_MapEntry(uint32_t entry, uintptr_t address, int leaked);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_MAPPED_H */
