/* What a block leaves behind when it comes and goes, and the allocator
   functions that tracing installs, see tracer_hooks.c. */

#ifndef Py_INTERNAL_TRACER_HOOKS_H
#define Py_INTERNAL_TRACER_HOOKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

/* Nonzero while this thread is inside an allocator that tracing wraps, so
   that what the allocator asks of a lower one is not traced twice. */
extern _Py_thread_local int _PyTracer_inside;
/* Set by each of our allocator functions that is called while tracing is
   off. */
extern _Py_thread_local int _PyTracer_idle;

/* Nonzero once pymalloc has passed a small request on to the raw domain: not
   each small block is in a pool then. */
extern uint32_t _PyTracer_small_fallback;
#define _PyTracer_FALLBACK(SIZE)                                        \
    do {                                                                \
        if ((size_t)(SIZE) - 1 < TRACER_ENTRY_MAX_SIZE) {               \
            _PyTracer_small_fallback = 1;                               \
            _PyTracer.short_way = 0;                                    \
        }                                                               \
    } while (0)

/* Record a block just acquired, in place of what was traced at its address;
   drop one about to be released.  Not locked; GIL held if kind is not
   TRACER_RAW.  A drop tells what it dropped, so that a failed realloc can be
   undone. */
struct tracer_dropped {
    struct tracer_record record;  // node NONE: was not traced
    uint32_t *slot;               // of the entry of a small block, else NULL
    uint32_t entry;               // that was there
    uint64_t clears;              // _PyTracer.clears, then
};
extern void _PyTracer_Record(void *block, size_t size, enum tracer_kind kind);
/* The same for a known node; locked. 0, or -1 and counted as untraced.  Of
   TRACER_EXTERNAL, the address may be any, and the size. */
extern int _PyTracer_RecordNode(void *block, size_t size,
                                enum tracer_kind kind, uint32_t node);
extern void _PyTracer_Drop(void *block, struct tracer_dropped *dropped);
extern void _PyTracer_Undrop(const struct tracer_dropped *dropped);

/* A block that this thread is releasing, for what the debug hooks say of it;
   0: it is not that one.  Locked. */
struct tracer_trace;
extern int _PyTracer_FindReleased(uintptr_t ptr, struct tracer_trace *trace);

/* What is installed, by domain, while tracing is off; -1 and an exception:
   something that calls the tracer's functions.  GIL, which may be given up;
   not locked. */
extern int _PyTracer_FindAllocators(PyMemAllocatorEx *found);
/* Those below with the GIL, the mutex of the allocators, and locked.
   That is what tracing is to wrap; -1: it is not installed any more. */
extern int _PyTracer_TakeAllocators(const PyMemAllocatorEx *found);
/* `again`: tracing is on, what the functions must do has changed. */
extern void _PyTracer_InstallAllocators(int again);
extern void _PyTracer_RemoveAllocators(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HOOKS_H */
