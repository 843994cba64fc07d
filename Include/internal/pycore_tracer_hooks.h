/* Allocator functions that are installed while tracing, see tracer_hooks.c. */

#ifndef Py_INTERNAL_TRACER_HOOKS_H
#define Py_INTERNAL_TRACER_HOOKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_state.h"

/* What tracing wraps. */
struct tracer_below {
    PyMemAllocatorEx raw, mem, obj;
};
extern struct tracer_below _PyTracer_below;

/* Nonzero while this thread is inside an allocator that tracing wraps, so that
   memory that the allocator takes from a lower one is not traced twice. */
extern _Py_thread_local int _PyTracer_inside;

/* Nonzero once pymalloc has passed a small request on to the raw domain: from
   then on some small blocks are not in pools. */
extern uint32_t _PyTracer_small_fallback;
#define _PyTracer_FALLBACK(SIZE)                                        \
    do {                                                                \
        if ((size_t)(SIZE) - 1 < TRACER_ENTRY_MAX_SIZE) {               \
            _PyTracer_small_fallback = 1;                               \
            _PyTracer.short_way = 0;                                    \
        }                                                               \
    } while (0)

/* The general functions of a domain, with the context of what they wrap. */
extern PyMemAllocatorEx _PyTracer_General(PyMemAllocatorDomain domain);
/* Are they those of any domain? */
extern int _PyTracer_IsGeneral(const PyMemAllocatorEx *functions);

/* The record of the block that this thread is releasing, for messages of the
   debug hooks; NULL: it is another block.  Locked. */
extern const struct tracer_record *_PyTracer_FindReleased(uintptr_t ptr);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HOOKS_H */
