/* Which fused functions are installed, and what they replace.  Included by
   obmalloc.c.  Each domain has four sets: for one frame and for the whole
   stack, each with and without a watch on the clock and on a lower bound. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"

/* --- Objects */

static void *
tracer_object_realloc(void *ctx, void *block, size_t nbytes)
{
    return tracer_realloc(ctx, block, nbytes, TRACER_OBJECT);
}

static void *
tracer_object_malloc_one(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_OBJECT, 0, 0);
}

static void *
tracer_object_calloc_one(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_OBJECT, 0, 0);
}

static void *
tracer_object_malloc_one_watched(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_OBJECT, 0, 1);
}

static void *
tracer_object_calloc_one_watched(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_OBJECT, 0, 1);
}

static void *
tracer_object_malloc_whole(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_OBJECT, 1, 0);
}

static void *
tracer_object_calloc_whole(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_OBJECT, 1, 0);
}

static void *
tracer_object_malloc_whole_watched(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_OBJECT, 1, 1);
}

static void *
tracer_object_calloc_whole_watched(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_OBJECT, 1, 1);
}

/* --- Memory */

static void *
tracer_memory_realloc(void *ctx, void *block, size_t nbytes)
{
    return tracer_realloc(ctx, block, nbytes, TRACER_MEMORY);
}

static void *
tracer_memory_malloc_one(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_MEMORY, 0, 0);
}

static void *
tracer_memory_calloc_one(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_MEMORY, 0, 0);
}

static void *
tracer_memory_malloc_one_watched(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_MEMORY, 0, 1);
}

static void *
tracer_memory_calloc_one_watched(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_MEMORY, 0, 1);
}

static void *
tracer_memory_malloc_whole(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_MEMORY, 1, 0);
}

static void *
tracer_memory_calloc_whole(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_MEMORY, 1, 0);
}

static void *
tracer_memory_malloc_whole_watched(void *ctx, size_t nbytes)
{
    return tracer_short_malloc(ctx, nbytes, TRACER_MEMORY, 1, 1);
}

static void *
tracer_memory_calloc_whole_watched(void *ctx, size_t nelem, size_t elsize)
{
    return tracer_short_calloc(ctx, nelem, elsize, TRACER_MEMORY, 1, 1);
}

/* --- By kind, whole, watched */

static const PyMemAllocatorEx tracer_fused[2][2][2] = {
    {
        {
            {NULL, tracer_object_malloc_one,
             tracer_object_calloc_one, tracer_object_realloc,
             tracer_short_free},
            {NULL, tracer_object_malloc_one_watched,
             tracer_object_calloc_one_watched, tracer_object_realloc,
             tracer_short_free},
        },
        {
            {NULL, tracer_object_malloc_whole,
             tracer_object_calloc_whole, tracer_object_realloc,
             tracer_short_free},
            {NULL, tracer_object_malloc_whole_watched,
             tracer_object_calloc_whole_watched, tracer_object_realloc,
             tracer_short_free},
        },
    },
    {
        {
            {NULL, tracer_memory_malloc_one,
             tracer_memory_calloc_one, tracer_memory_realloc,
             tracer_short_free},
            {NULL, tracer_memory_malloc_one_watched,
             tracer_memory_calloc_one_watched, tracer_memory_realloc,
             tracer_short_free},
        },
        {
            {NULL, tracer_memory_malloc_whole,
             tracer_memory_calloc_whole, tracer_memory_realloc,
             tracer_short_free},
            {NULL, tracer_memory_malloc_whole_watched,
             tracer_memory_calloc_whole_watched, tracer_memory_realloc,
             tracer_short_free},
        },
    },
};

PyMemAllocatorEx
_PyTracer_Fused(enum tracer_kind kind)
{
    static_assert(TRACER_OBJECT == 0 && TRACER_MEMORY == 1, "an index");
    assert(kind <= TRACER_MEMORY);
    return tracer_fused[kind][_PyTracer.whole][_PyTracer.watched];
}

void
_PyTracer_GetAllocator(PyMemAllocatorDomain domain,
                       PyMemAllocatorEx *functions)
{
    get_allocator_unlocked(domain, functions);
}

void
_PyTracer_SetAllocator(PyMemAllocatorDomain domain,
                       PyMemAllocatorEx *functions)
{
    _PyTracer_ASSERT_MAY_INSTALL();
    set_allocator_unlocked(domain, functions);
}

int
_PyTracer_CanFuse(void)
{
    PyMemAllocatorEx pymalloc = PYMALLOC_ALLOC;
    return pymemallocator_eq(&_PyTracer_below.obj, &pymalloc)
           && pymemallocator_eq(&_PyTracer_below.mem, &pymalloc);
}
