/* Forward declarations: functions of the tracer that pymalloc calls, and
   functions of pymalloc that the tracer calls.  Included by obmalloc.c before
   its first function of pymalloc; tracer_pymalloc.c.h, at the end, has the
   functions. */

#include "pycore_tracer_hooks.h"  // _PyTracer_inside, _PyTracer_FALLBACK()

/* In stock these are inlined into their callers.  The tracer also calls them,
   and with more callers the compiler would not inline them anywhere. */
#if WITH_PYMALLOC_RADIX_TREE
static inline Py_ALWAYS_INLINE int
arena_map_is_used(OMState *state, pymem_block *p);
#endif
static inline Py_ALWAYS_INLINE void *
pymalloc_alloc(OMState *state, void *ctx, size_t nbytes);
static inline Py_ALWAYS_INLINE int
pymalloc_free(OMState *state, void *ctx, void *p);

/* Free a block whose pool is known: what pymalloc_free() does after it has
   found the pool. */
static inline Py_ALWAYS_INLINE void
tracer_free_in_pool(OMState *state, poolp pool, void *block);

static inline void tracer_init_pool(poolp pool, uint32_t szidx);
static struct arena_object *tracer_grow_arenas(OMState *state, size_t nbytes);
static void tracer_release_arena(struct arena_object *arena);
