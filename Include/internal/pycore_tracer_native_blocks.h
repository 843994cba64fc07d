/* Blocks of native memory, see tracer_native_blocks.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_NATIVE_BLOCKS_H
#define Py_INTERNAL_TRACER_NATIVE_BLOCKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_map.h"

/* Which code asked for a block. */
struct tracer_call_site {
    uint32_t node;
    uint32_t stack;               // of C, see pycore_tracer_native_stacks.h
};

struct tracer_native {
    int on;                       // native memory is traced, if anything is
    int64_t current;              // live bytes
    int64_t peak;                 // until something was last released
    int frames;                   // of C, at most, that are recorded
};
extern struct tracer_native _PyTracer_native;

/* Locked. */
static inline int
_PyTracer_SeesNative(void)
{
    return _PyTracer_native.on && _PyTracer.tracing;
}

extern void _PyTracer_ClearNative(void);
extern void _PyTracer_ResetNativePeak(void);
extern int64_t _PyTracer_NativePeak(void);

/* A block comes; -1: no memory.  It goes, and *old is its record; 0: it was
   not traced.  It stays after all. */
extern int _PyTracer_AddNative(uintptr_t address, size_t size,
                               struct tracer_call_site site);
extern int _PyTracer_RemoveNative(uintptr_t address,
                                  struct tracer_record *old);
extern void _PyTracer_RestoreNative(const struct tracer_record *old);
/* A block keeps only some of its bytes. */
extern void _PyTracer_ShrinkNative(struct tracer_record *record, size_t size);
/* Somebody else accounts for the block at this address. */
extern void _PyTracer_ClaimNative(uintptr_t address);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_BLOCKS_H */
