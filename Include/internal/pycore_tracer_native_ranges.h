/* Which addresses mmap() has given, see tracer_native_ranges.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_NATIVE_RANGES_H
#define Py_INTERNAL_TRACER_NATIVE_RANGES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stddef.h>
#include <stdint.h>

#include "pycore_tracer_native_blocks.h"

/* A mapping comes, counted at the site; -1: no memory. */
extern int _PyTracer_AddRange(uintptr_t begin, size_t size,
                              struct tracer_call_site site);
/* Nothing is mapped there any more.  Return whether anything was traced. */
extern int _PyTracer_CutRanges(uintptr_t begin, size_t size);
extern void _PyTracer_ForgetRanges(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_RANGES_H */
