/* Allocator functions that are installed while tracing, but for the fused
   ones of the object and memory domains, see Objects/tracer_fused.c.h.

   The raw domain comes from any thread, with or without the GIL.  The general
   functions serve the object and memory domains when something else than
   pymalloc stands below (debug hooks, malloc, a wrapper), or when there are
   several GILs.

   Order: a block is recorded after it is acquired and dropped before it is
   released, so that its address cannot be somebody else's in between.  The
   stack is captured before the lock is taken where that is safe.  A block
   that cannot be recorded stays allocated, and is counted as untraced. */

#include "Python.h"
#include "pycore_tracer_core.h"

/* Domain of an allocator function, as its context. */
struct domain {
    const PyMemAllocatorEx *below;
    enum tracer_kind kind;
};

static struct domain raw_domain = {&_PyTracer.raw, TRACER_RAW};
static struct domain object_domain = {&_PyTracer.obj, TRACER_OBJECT};
static struct domain memory_domain = {&_PyTracer.mem, TRACER_MEMORY};

_Py_thread_local int _PyTracer_inside = 0;

/* --- Recording */

/* This thread's state without asking for the GIL; NULL if it has none. */
static PyThreadState *
own_thread_state(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    return tstate != NULL ? tstate : PyGILState_GetThisThreadState();
}

/* A block of a pool is never in the map: its free does not look there. */
static int
record(void *block, size_t size, enum tracer_kind kind, uint32_t node)
{
    uint32_t *entry = NULL;
    size_t block_size = 0;
    if (kind != TRACER_RAW) {
        entry = _PyTracer_Entry(block, 1, &block_size);
    }
    if (block_size == 0) {
        struct tracer_record r = {.address = (uintptr_t)block, .size = size,
                                  .node = node, .kind = kind};
        return _PyTracer_MapAdd(&r);
    }
    /* Whatever size PyTraceMalloc_Track() is told. */
    if (entry == NULL || size == 0 || size > block_size) {
        return -1;
    }
    *entry = TRACER_ENTRY(node, kind != TRACER_OBJECT, size);
    _PyTracer_CountAlloc(node, size);
    return 0;
}

int
_PyTracer_RecordNode(void *block, size_t size, enum tracer_kind kind,
                     uint32_t node)
{
    if (node != TRACER_NODE_NONE && record(block, size, kind, node) == 0) {
        return 0;
    }
    _PyTracer.untraced++;
    return -1;
}

Py_NO_INLINE void
_PyTracer_Record(void *block, size_t size, enum tracer_kind kind)
{
    PyThreadState *tstate = _PyThreadState_GET();
    uint32_t node = TRACER_NODE_NONE;
    int captured = tstate != NULL && !_PyTracer.shared;
    if (captured) {
        node = _PyTracer_Capture(tstate);
    }
    else {
        tstate = own_thread_state();
    }
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        if (!captured) {
            node = _PyTracer_CaptureLocked(tstate);
        }
        (void)_PyTracer_RecordNode(block, size, kind, node);
    }
    _PyTracer_Unlock();
    if (kind != TRACER_RAW && _PyTracer.watched) {
        _PyTracer_Watch();
    }
}

Py_NO_INLINE void
_PyTracer_Drop(void *block, struct tracer_dropped *dropped)
{
    struct tracer_record *old = &dropped->record;
    old->node = TRACER_NODE_NONE;
    _PyTracer_Lock();
    dropped->clears = _PyTracer.clears;
    if (_PyTracer.tracing
        && !_PyTracer_MapRemove((uintptr_t)block, 0, old))
    {
        size_t size;
        uint32_t *entry = _PyTracer_Entry(block, 0, &size);
        dropped->entry = entry;
        if (entry != NULL && *entry != 0) {
            old->node = TRACER_ENTRY_NODE(*entry);
            old->kind = TRACER_ENTRY_DOMAIN(*entry);
            old->size = TRACER_ENTRY_SIZE(*entry);
            old->domain = *entry;
            *entry = 0;
            _PyTracer_CountOut(old->node, old->size, 1);
        }
    }
    else {
        dropped->entry = NULL;
    }
    _PyTracer_Unlock();
}

void
_PyTracer_Undrop(const struct tracer_dropped *dropped)
{
    const struct tracer_record *old = &dropped->record;
    if (old->node == TRACER_NODE_NONE) {
        return;
    }
    _PyTracer_Lock();
    if (dropped->clears != _PyTracer.clears) {
        /* stop() or clear_traces() ran in between */
    }
    else if (dropped->entry == NULL) {
        _PyTracer_MapRestore(old);
    }
    else {
        *dropped->entry = old->domain;
        _PyTracer_CountBack(old->node, old->size);
    }
    _PyTracer_Unlock();
}

/* --- The functions */

static void *
traced_malloc(void *ctx, size_t size)
{
    struct domain *domain = ctx;
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
    return block;
}

static void *
traced_calloc(void *ctx, size_t nelem, size_t elsize)
{
    struct domain *domain = ctx;
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
    return block;
}

static void *
traced_realloc(void *ctx, void *block, size_t size)
{
    struct domain *domain = ctx;
    const PyMemAllocatorEx *below = domain->below;
    if (block == NULL) {
        return traced_malloc(ctx, size);
    }
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    void *moved = below->realloc(below->ctx, block, size);
    _PyTracer_inside = inside;
    if (moved == NULL) {
        _PyTracer_Undrop(&dropped);
    }
    else if (!inside) {
        _PyTracer_Record(moved, size, domain->kind);
    }
    return moved;
}

static void
traced_free(void *ctx, void *block)
{
    struct domain *domain = ctx;
    const PyMemAllocatorEx *below = domain->below;
    if (block == NULL) {
        return;
    }
    struct tracer_dropped dropped;
    _PyTracer_Drop(block, &dropped);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    below->free(below->ctx, block);
    _PyTracer_inside = inside;
}

/* The raw domain's do not look at their context: PyMem_RawMalloc() and the
   others read function and context without a lock, and a thread without the
   GIL may see the one of before start() or stop() with the other of after. */

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

static const PyMemAllocatorEx raw_functions = {
    NULL, traced_raw_malloc, traced_raw_calloc, traced_raw_realloc,
    traced_raw_free};

/* --- Installing them */

static PyMemAllocatorEx
general(struct domain *domain)
{
    return (PyMemAllocatorEx){domain, traced_malloc, traced_calloc,
                              traced_realloc, traced_free};
}

/* What was installed last, by domain. */
static PyMemAllocatorEx installed[3];

/* Somebody may have wrapped our functions in the meantime: then his stay. */
static void
install(PyMemAllocatorDomain domain, PyMemAllocatorEx functions, int again)
{
    PyMemAllocatorEx current;
    PyMem_GetAllocator(domain, &current);
    if (!again || (current.ctx == installed[domain].ctx
                   && current.malloc == installed[domain].malloc))
    {
        PyMem_SetAllocator(domain, &functions);
        installed[domain] = functions;
    }
}

void
_PyTracer_InstallAllocators(int again)
{
    int fused = _PyTracer_PymallocInUse() && !_PyTracer.shared;
    _PyTracer.short_way = fused && !_PyTracer_small_fallback;
    install(PYMEM_DOMAIN_RAW, raw_functions, again);
    install(PYMEM_DOMAIN_MEM, fused ? _PyTracer_Fused(TRACER_MEMORY)
                                    : general(&memory_domain), again);
    install(PYMEM_DOMAIN_OBJ, fused ? _PyTracer_Fused(TRACER_OBJECT)
                                    : general(&object_domain), again);
}

void
_PyTracer_RemoveAllocators(void)
{
    _PyTracer.short_way = 0;
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &_PyTracer.raw);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &_PyTracer.mem);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &_PyTracer.obj);
}
