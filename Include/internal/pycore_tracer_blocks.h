/* The block interface: what the tracer knows about small blocks, independent
   of the allocator.

   An allocator that serves small blocks from pools keeps a table of entries
   for each pool, and defines the functions below: find an entry, visit all,
   forget all, install the functions that record while they allocate.
   pymalloc's are Objects/tracer_pymalloc_*.c.h, compiled into obmalloc.c. */

#ifndef Py_INTERNAL_TRACER_BLOCKS_H
#define Py_INTERNAL_TRACER_BLOCKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_tree.h"

/* Entry of a small block, one that pymalloc serves: node, memory domain or
   object domain, requested size - 1.  Zero: the block is not traced.
   TRACER_ENTRY_MAPPED: it has a record in the address map, see
   tracer_mapped.c. */
#define TRACER_SIZE_BITS 9
#define TRACER_ENTRY_MAX_SIZE (1u << TRACER_SIZE_BITS)
#define TRACER_ENTRY_BITS (TRACER_SIZE_BITS + 1)
static_assert(TRACER_ENTRY_BITS + TRACER_NODE_BITS == 32, "an entry");
#define TRACER_ENTRY(NODE, DOMAIN, SIZE)                                \
    (((uint32_t)(NODE) << TRACER_ENTRY_BITS)                            \
     | ((uint32_t)(DOMAIN) << TRACER_SIZE_BITS)                         \
     | (uint32_t)((SIZE) - 1))
#define TRACER_ENTRY_NODE(E) ((E) >> TRACER_ENTRY_BITS)
#define TRACER_ENTRY_DOMAIN(E) (((E) >> TRACER_SIZE_BITS) & 1)
#define TRACER_ENTRY_SIZE(E) (((E) & (TRACER_ENTRY_MAX_SIZE - 1)) + 1)
/* The entry with another node. */
#define TRACER_ENTRY_MOVE(E, NODE)                                      \
    (((E) & ((1u << TRACER_ENTRY_BITS) - 1))                            \
     | ((uint32_t)(NODE) << TRACER_ENTRY_BITS))

#define TRACER_ENTRY_MAPPED TRACER_ENTRY(TRACER_NODE_MAPPED, 0, 1)
#define TRACER_ENTRY_FIRST TRACER_ENTRY(TRACER_NODE_FIRST, 0, 1)

/* --- Find */

/* Entry of the block that starts at p; NULL: there is no table.  With
   `create`, a pool without a table gets one.  *size is the size of the block,
   or 0 if no block of a pool of this interpreter starts at p. */
extern uint32_t *_PyTracer_Entry(void *p, int create, size_t *size);
/* The same for any address, and for pools of other interpreters, which get no
   table.  *room is the greatest size that the entry may hold, 0 if the pool
   has not carved out the block yet.  Locked. */
extern uint32_t *_PyTracer_FindEntry(void *p, int create, size_t *room);

/* --- Visit */

/* A pool of small blocks, as _PyTracer_VisitPools() shows it. */
struct tracer_pool {
    char *blocks;                 // address of block 0
    uint32_t block_size;          // bytes, of the size class
    uint32_t nblocks;             // blocks ever carved out of the pool
    uint32_t nused;               // allocated now, traced or not
    uint32_t *entries;            // entry of each block, or NULL
    uintptr_t arena;              // address of its arena
    void *free;                   // a free block, or NULL; it begins with
};                                //   the address of the next one

struct tracer_arena {
    uintptr_t address;
    size_t size;
};

/* Call visit() for each pool in use of every interpreter, arena by arena.
   GIL (and lock if many) held.  Stops and returns what visit() returns if
   that is not 0.  visit() must not allocate from pymalloc. */
extern int _PyTracer_VisitPools(int (*visit)(const struct tracer_pool *pool,
                                             void *arg),
                                void *arg);
/* The same for each arena, including those that no pool was cut from yet. */
extern int _PyTracer_VisitArenas(int (*visit)(const struct tracer_arena *,
                                              void *arg),
                                 void *arg);

/* --- Forget */

extern void _PyTracer_ForgetPools(void);          // GIL and locked
/* Those of an interpreter that ends.  Locked; with many GILs if the pools are
   its own. */
extern void _PyTracer_ForgetInterpreter(PyInterpreterState *interp);

/* --- Install */

/* May the fused functions replace the functions that tracing wraps?  They may
   if these are the allocator's own. */
extern int _PyTracer_CanFuse(void);
extern PyMemAllocatorEx _PyTracer_Fused(enum tracer_kind kind);
/* PyMem_GetAllocator(), PyMem_SetAllocator(); the mutex of the allocators is
   held. */
extern void _PyTracer_GetAllocator(PyMemAllocatorDomain domain,
                                   PyMemAllocatorEx *functions);
extern void _PyTracer_SetAllocator(PyMemAllocatorDomain domain,
                                   PyMemAllocatorEx *functions);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_BLOCKS_H */
