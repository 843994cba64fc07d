/* Arenas are no native memory, as their blocks are traced.  These functions
   stay where they are once they have been installed. */

#include "Python.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_native.h"

static PyObjectArenaAllocator arenas;

static void *
alloc_arena(void *ctx, size_t size)
{
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    void *arena = arenas.alloc(ctx, size);
    _PyTracer_inside = inside;
    return arena;
}

static void
free_arena(void *ctx, void *arena, size_t size)
{
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    arenas.free(ctx, arena, size);
    _PyTracer_inside = inside;
}

void
_PyTracer_HideArenas(void)
{
    PyObjectArenaAllocator found;
    PyObject_GetArenaAllocator(&found);
    if (found.alloc != alloc_arena) {
        arenas = found;
        found.alloc = alloc_arena;
        found.free = free_arena;
        PyObject_SetArenaAllocator(&found);
    }
}
