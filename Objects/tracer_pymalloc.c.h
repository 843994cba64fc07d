/* The traced side of pymalloc.  Included by obmalloc.c behind the functions
   of pymalloc itself, see tracer_pymalloc_head.c.h. */

static inline Py_ALWAYS_INLINE void
tracer_free_in_pool(OMState *state, poolp pool, void *block)
{
    assert(pool->ref.count > 0);
    pymem_block *next = pool->freeblock;
    *(pymem_block **)block = next;
    pool->freeblock = block;
    pool->ref.count--;
    if (UNLIKELY(next == NULL)) {
        insert_to_usedpool(state, pool);      // it was full
    }
    else if (UNLIKELY(pool->ref.count == 0)) {
        insert_to_freepool(state, pool);
    }
}

#include "tracer_pymalloc_table.c.h"
#include "tracer_pymalloc_fused.c.h"
#include "tracer_pymalloc_short.c.h"
#include "tracer_pymalloc_freelists.c.h"
#ifdef _PyTracer_LISTS
#  include "tracer_pymalloc_generic.c.h"
#else
#  include "tracer_pymalloc_named.c.h"
#endif
#include "tracer_pymalloc_install.c.h"
