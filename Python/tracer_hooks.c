/* Allocator functions that are installed while tracing, except for the fused
   ones of the object and memory domains, see tracer_pymalloc_fused.c.h.  Any
   thread may use the raw domain, with or without the GIL. The general
   functions serve the object and memory domains when something else than
   pymalloc stands below (debug hooks, malloc, a wrapper), or when there are
   several GILs. */

#include "Python.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_record.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_windows.h"

struct tracer_below _PyTracer_below;

struct domain {
    const PyMemAllocatorEx *below;
    enum tracer_kind kind;
};

static const struct domain raw_domain = {&_PyTracer_below.raw, TRACER_RAW};
static const struct domain object_domain = {&_PyTracer_below.obj,
                                            TRACER_OBJECT};
static const struct domain memory_domain = {&_PyTracer_below.mem,
                                            TRACER_MEMORY};

_Py_thread_local int _PyTracer_inside = 0;
uint32_t _PyTracer_small_fallback = 0;

/* What this thread has dropped while the wrapped function runs. */
static _Py_thread_local const struct tracer_dropped *releasing;

const struct tracer_record *
_PyTracer_FindReleased(uintptr_t ptr)
{
    const struct tracer_dropped *dropped = releasing;
    if (dropped == NULL || dropped->record.address != ptr
        || dropped->record.node == TRACER_NODE_NONE
        || dropped->clears != _PyTracer.clears)
    {
        return NULL;
    }
    return &dropped->record;
}

static inline void *
traced_malloc(const struct domain *domain, size_t size)
{
    const PyMemAllocatorEx *below = domain->below;
    if (_PyTracer_inside) {
        return below->malloc(below->ctx, size);
    }
    _PyTracer_inside = 1;
    void *block = below->malloc(below->ctx, size);
    _PyTracer_inside = 0;
    if (block != NULL) {
        _PyTracer_Record(block, size, domain->kind);
    }
    else {
        _PyTracer_NoMemory(size, domain->kind);
    }
    return block;
}

static inline void *
traced_calloc(const struct domain *domain, size_t nelem, size_t elsize)
{
    const PyMemAllocatorEx *below = domain->below;
    if (_PyTracer_inside) {
        return below->calloc(below->ctx, nelem, elsize);
    }
    _PyTracer_inside = 1;
    void *block = below->calloc(below->ctx, nelem, elsize);
    _PyTracer_inside = 0;
    if (block != NULL) {
        _PyTracer_Record(block, nelem * elsize, domain->kind);
    }
    else {
        _PyTracer_NoMemory(nelem * elsize, domain->kind);
    }
    return block;
}

static inline void *
traced_realloc(const struct domain *domain, void *block, size_t size)
{
    const PyMemAllocatorEx *below = domain->below;
    if (block == NULL) {
        return traced_malloc(domain, size);
    }
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    releasing = &dropped;
    void *moved = below->realloc(below->ctx, block, size);
    releasing = NULL;
    _PyTracer_inside = inside;
    if (moved == NULL) {
        _PyTracer_Undrop(&dropped);
    }
    if (inside) {
        return moved;
    }
    if (moved != NULL) {
        _PyTracer_Record(moved, size, domain->kind);
    }
    else {
        _PyTracer_NoMemory(size, domain->kind);
    }
    return moved;
}

static inline void
traced_free(const struct domain *domain, void *block)
{
    const PyMemAllocatorEx *below = domain->below;
    if (block == NULL) {
        return;
    }
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    releasing = &dropped;
    below->free(below->ctx, block);
    releasing = NULL;
    _PyTracer_inside = inside;
    if (dropped.fallen) {
        _PyTracer_LockAndEndWindow();
    }
}

/* Each domain has functions of its own, which do not look at their context,
   and are installed with the context of those below: PyMem_RawMalloc() and the
   others read function and context without a lock.  During start() or stop(),
   a thread without the GIL, or with another one, may see the new function with
   the old context, or the reverse. */

static void *
traced_raw_malloc(void *Py_UNUSED(ctx), size_t size)
{
    return traced_malloc(&raw_domain, size);
}

static void *
traced_raw_calloc(void *Py_UNUSED(ctx), size_t nelem, size_t elsize)
{
    return traced_calloc(&raw_domain, nelem, elsize);
}

static void *
traced_raw_realloc(void *Py_UNUSED(ctx), void *block, size_t size)
{
    return traced_realloc(&raw_domain, block, size);
}

static void
traced_raw_free(void *Py_UNUSED(ctx), void *block)
{
    traced_free(&raw_domain, block);
}

static void *
traced_memory_malloc(void *Py_UNUSED(ctx), size_t size)
{
    return traced_malloc(&memory_domain, size);
}

static void *
traced_memory_calloc(void *Py_UNUSED(ctx), size_t nelem, size_t elsize)
{
    return traced_calloc(&memory_domain, nelem, elsize);
}

static void *
traced_memory_realloc(void *Py_UNUSED(ctx), void *block, size_t size)
{
    return traced_realloc(&memory_domain, block, size);
}

static void
traced_memory_free(void *Py_UNUSED(ctx), void *block)
{
    traced_free(&memory_domain, block);
}

static void *
traced_object_malloc(void *Py_UNUSED(ctx), size_t size)
{
    return traced_malloc(&object_domain, size);
}

static void *
traced_object_calloc(void *Py_UNUSED(ctx), size_t nelem, size_t elsize)
{
    return traced_calloc(&object_domain, nelem, elsize);
}

static void *
traced_object_realloc(void *Py_UNUSED(ctx), void *block, size_t size)
{
    return traced_realloc(&object_domain, block, size);
}

static void
traced_object_free(void *Py_UNUSED(ctx), void *block)
{
    traced_free(&object_domain, block);
}

PyMemAllocatorEx
_PyTracer_General(PyMemAllocatorDomain domain)
{
    const struct tracer_below *below = &_PyTracer_below;
    switch (domain) {
    case PYMEM_DOMAIN_RAW:
        return (PyMemAllocatorEx){
            below->raw.ctx, traced_raw_malloc, traced_raw_calloc,
            traced_raw_realloc, traced_raw_free};
    case PYMEM_DOMAIN_MEM:
        return (PyMemAllocatorEx){
            below->mem.ctx, traced_memory_malloc, traced_memory_calloc,
            traced_memory_realloc, traced_memory_free};
    case PYMEM_DOMAIN_OBJ:
        return (PyMemAllocatorEx){
            below->obj.ctx, traced_object_malloc, traced_object_calloc,
            traced_object_realloc, traced_object_free};
    }
    Py_UNREACHABLE();
}

int
_PyTracer_IsGeneral(const PyMemAllocatorEx *functions)
{
    return functions->free == traced_raw_free
           || functions->free == traced_memory_free
           || functions->free == traced_object_free;
}
