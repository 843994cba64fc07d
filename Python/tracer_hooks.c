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
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_gils.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_trace.h"
#include "pycore_tracer_walk.h"

struct domain {
    const PyMemAllocatorEx *below;
    enum tracer_kind kind;
};

static const struct domain raw_domain = {&_PyTracer.raw, TRACER_RAW};
static const struct domain object_domain = {&_PyTracer.obj, TRACER_OBJECT};
static const struct domain memory_domain = {&_PyTracer.mem, TRACER_MEMORY};

_Py_thread_local int _PyTracer_inside = 0;
_Py_thread_local int _PyTracer_idle = 0;

/* --- Recording */

/* This thread's state without asking for the GIL; NULL if it has none. */
static PyThreadState *
own_thread_state(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    return tstate != NULL ? tstate : PyGILState_GetThisThreadState();
}

static int
map_record(const struct tracer_record *r)
{
    if (r->kind == TRACER_EXTERNAL) {
        _PyTracer.map.in_pools = 1;
    }
    return _PyTracer_MapAdd(r);
}

/* A block of a pool has an entry: its free does not look at the map unless
   that tells it to. */
static int
record(void *block, size_t size, enum tracer_kind kind, uint32_t node)
{
    struct tracer_record r = {.address = (uintptr_t)block, .size = size,
                              .node = node, .kind = kind};
    uint32_t *entry = NULL;
    size_t room = 0;
    if (kind == TRACER_EXTERNAL) {
        entry = _PyTracer_FindEntry(block, 1, &room);
    }
    else if (kind != TRACER_RAW) {
        entry = _PyTracer_Entry(block, 1, &room);
    }
    if (entry == NULL && room == 0) {
        return map_record(&r);
    }
    _PyTracer_DropEntry(entry, r.address);
    if (entry == NULL) {
        return -1;                // a pool without a table
    }
    if (size == 0 || size > room) {
        int result = map_record(&r);
        *entry = result < 0 ? 0 : TRACER_ENTRY_MAPPED;
        return result;
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
    if (tstate != NULL && _PyTracer.shared
        && _Py_atomic_load_int_relaxed(&_PyTracer.own_gils) == 0)
    {
        _PyTracer_OneGil();
    }
    int captured = tstate != NULL && !_PyTracer.shared
                   && _Py_atomic_load_int_relaxed(&_PyTracer.tracing);
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
        if (kind != TRACER_RAW && _PyTracer.watched) {
            _PyTracer_Watch();
        }
    }
    else {
        _PyTracer_idle = 1;
    }
    _PyTracer_Unlock();
}

static void
drop_entry(void *block, struct tracer_dropped *dropped)
{
    size_t size;
    uint32_t *slot = _PyTracer_Entry(block, 0, &size);
    if (slot == NULL || *slot == 0) {
        return;
    }
    uint32_t entry = *slot;
    dropped->slot = slot;
    dropped->entry = entry;
    *slot = 0;
    if (entry != TRACER_ENTRY_MAPPED) {
        dropped->record.node = TRACER_ENTRY_NODE(entry);
        dropped->record.kind = TRACER_ENTRY_DOMAIN(entry);
        dropped->record.size = TRACER_ENTRY_SIZE(entry);
        _PyTracer_CountOut(dropped->record.node, dropped->record.size, 1);
    }
}

Py_NO_INLINE void
_PyTracer_Drop(void *block, struct tracer_dropped *dropped)
{
    struct tracer_record *old = &dropped->record;
    old->node = TRACER_NODE_NONE;
    old->address = (uintptr_t)block;
    dropped->slot = NULL;
    dropped->entry = 0;
    _PyTracer_Lock();
    dropped->clears = _PyTracer.clears;
    if (_PyTracer.tracing
        && (!_PyTracer_MapRemove((uintptr_t)block, 0, old)
            || _PyTracer.map.in_pools))
    {
        drop_entry(block, dropped);
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
    else if (dropped->slot != NULL && dropped->entry != TRACER_ENTRY_MAPPED) {
        *dropped->slot = dropped->entry;
        _PyTracer_CountBack(old->node, old->size);
    }
    else if (_PyTracer_MapRestore(old) < 0) {
        _PyTracer.untraced++;
    }
    else if (dropped->slot != NULL) {
        *dropped->slot = dropped->entry;
    }
    _PyTracer_Unlock();
}

/* --- The functions */

/* What this thread drops while the function below is at work. */
static _Py_thread_local const struct tracer_dropped *releasing;

int
_PyTracer_FindReleased(uintptr_t ptr, struct tracer_trace *trace)
{
    const struct tracer_dropped *dropped = releasing;
    if (dropped == NULL || dropped->record.address != ptr
        || dropped->record.node == TRACER_NODE_NONE
        || dropped->clears != _PyTracer.clears)
    {
        return 0;
    }
    *trace = (struct tracer_trace){
        .size = dropped->record.size, .node = dropped->record.node,
        .nframe = _PyTracer_NFrames(dropped->record.node),
        .kind = dropped->record.kind};
    return 1;
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
    else if (!inside) {
        _PyTracer_Record(moved, size, domain->kind);
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
}

/* Each domain has functions of its own, which do not look at their context,
   and are installed with the context of those below: PyMem_RawMalloc() and the
   others read function and context without a lock.  A thread without the GIL,
   or with another one, may see the one of before start() or stop() with the
   other of after. */
#define FUNCTIONS(NAME)                                                 \
    static void *                                                       \
    traced_##NAME##_malloc(void *Py_UNUSED(ctx), size_t size)           \
    {                                                                   \
        return traced_malloc(&NAME##_domain, size);                     \
    }                                                                   \
    static void *                                                       \
    traced_##NAME##_calloc(void *Py_UNUSED(ctx), size_t nelem,          \
                           size_t elsize)                               \
    {                                                                   \
        return traced_calloc(&NAME##_domain, nelem, elsize);            \
    }                                                                   \
    static void *                                                       \
    traced_##NAME##_realloc(void *Py_UNUSED(ctx), void *block,          \
                            size_t size)                                \
    {                                                                   \
        return traced_realloc(&NAME##_domain, block, size);             \
    }                                                                   \
    static void                                                         \
    traced_##NAME##_free(void *Py_UNUSED(ctx), void *block)             \
    {                                                                   \
        traced_free(&NAME##_domain, block);                             \
    }                                                                   \
    static PyMemAllocatorEx                                             \
    general_##NAME(void)                                                \
    {                                                                   \
        return (PyMemAllocatorEx){                                      \
            NAME##_domain.below->ctx, traced_##NAME##_malloc,           \
            traced_##NAME##_calloc, traced_##NAME##_realloc,            \
            traced_##NAME##_free};                                      \
    }

FUNCTIONS(raw)
FUNCTIONS(object)
FUNCTIONS(memory)
#undef FUNCTIONS

/* --- Installing them */

static int
is_same(const PyMemAllocatorEx *a, const PyMemAllocatorEx *b)
{
    return a->ctx == b->ctx && a->malloc == b->malloc && a->calloc == b->calloc
           && a->realloc == b->realloc && a->free == b->free;
}

static int
is_ours(const PyMemAllocatorEx *functions)
{
    return functions->free == traced_raw_free
           || functions->free == traced_memory_free
           || functions->free == traced_object_free
           || functions->free == _PyTracer_Fused(TRACER_OBJECT).free;
}

/* What tracing wraps, and what was installed last, by domain. */
static PyMemAllocatorEx *const belows[] = {&_PyTracer.raw, &_PyTracer.mem,
                                           &_PyTracer.obj};
static PyMemAllocatorEx installed[3];
static_assert(PYMEM_DOMAIN_RAW == 0 && PYMEM_DOMAIN_MEM == 1
              && PYMEM_DOMAIN_OBJ == 2, "domains are indices");

/* Do these functions, of somebody else, call ours? */
static int
ends_in_ours(const PyMemAllocatorEx *functions)
{
    _PyTracer_idle = 0;
    void *block = functions->malloc(functions->ctx, 1);
    if (block != NULL) {
        functions->free(functions->ctx, block);
    }
    return _PyTracer_idle;
}

/* Somebody who wrapped our functions may have put his back after stop(): if
   ours called his, they would call each other without end.  Ours themselves
   may be there as well, and are no new ones to wrap. */
int
_PyTracer_FindAllocators(PyMemAllocatorEx *found)
{
    static const char *const names[] = {"raw", "mem", "obj"};
    _PyTracer_ASSERT_UNLOCKED();
    for (int domain = 0; domain < 3; domain++) {
        const PyMemAllocatorEx *below = belows[domain];
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &found[domain]);
        if (!is_ours(&found[domain]) && !is_same(&found[domain], below)
            && below->malloc != NULL && ends_in_ours(&found[domain]))
        {
            PyErr_Format(PyExc_RuntimeError,
                         "cannot trace: the allocator of the domain %s is a "
                         "wrapper that was put back after stop() and calls "
                         "the tracer's functions; remove it first",
                         names[domain]);
            return -1;
        }
    }
    return 0;
}

int
_PyTracer_TakeAllocators(const PyMemAllocatorEx *found)
{
    for (int domain = 0; domain < 3; domain++) {
        PyMemAllocatorEx current;
        _PyTracer_GetAllocator((PyMemAllocatorDomain)domain, &current);
        if (!is_same(&current, &found[domain])) {
            return -1;
        }
    }
    for (int domain = 0; domain < 3; domain++) {
        /* A thread without the GIL may still be in our functions, and read
           it. */
        if (!is_ours(&found[domain])
            && !is_same(&found[domain], belows[domain]))
        {
            *belows[domain] = found[domain];
        }
    }
    return 0;
}

/* Somebody may have wrapped our functions in the meantime: then his stay, and
   those that he found.  Are they the ones that they should be? */
static int
install(PyMemAllocatorDomain domain, PyMemAllocatorEx functions, int again)
{
    PyMemAllocatorEx current;
    _PyTracer_GetAllocator(domain, &current);
    if (!again || is_same(&current, &installed[domain])) {
        _PyTracer_SetAllocator(domain, &functions);
        installed[domain] = functions;
    }
    return is_same(&functions, &installed[domain]);
}

void
_PyTracer_InstallAllocators(int again)
{
    assert(_PyTracer.tracing);
    int fused = _PyTracer_PymallocInUse() && !_PyTracer.shared;
    _PyTracer.short_way = fused && !_PyTracer_small_fallback;
    (void)install(PYMEM_DOMAIN_RAW, general_raw(), again);
    int memory = install(PYMEM_DOMAIN_MEM,
                         fused ? _PyTracer_Fused(TRACER_MEMORY)
                               : general_memory(), again);
    int object = install(PYMEM_DOMAIN_OBJ,
                         fused ? _PyTracer_Fused(TRACER_OBJECT)
                               : general_object(), again);
    _PyTracer.blind = _PyTracer.watched && !(memory && object);
}

void
_PyTracer_RemoveAllocators(void)
{
    _PyTracer.blind = 0;
    _PyTracer.short_way = 0;
    _PyTracer_SetAllocator(PYMEM_DOMAIN_RAW, &_PyTracer.raw);
    _PyTracer_SetAllocator(PYMEM_DOMAIN_MEM, &_PyTracer.mem);
    _PyTracer_SetAllocator(PYMEM_DOMAIN_OBJ, &_PyTracer.obj);
}
