/* Fused functions: they do the work of PyObject_Malloc() and of the tracer in
   one step. Included by obmalloc.c.

   They are installed only while pymalloc's own functions serve the object and
   memory domains and one GIL protects everything. Requests that pymalloc
   passes on to the raw domain go directly to the raw allocator below the
   tracer, so that a big block is traced once, in its own domain.

   These are the complete functions; tracer_pymalloc_short.c.h has the short
   way through malloc and free, for the common case. */

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_record.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_walk.h"
#include "pycore_tracer_windows.h"

/* The block that was traced at the address was freed without the tracer, or
   never was a block. */
static Py_NO_INLINE void
tracer_replace_entry(uint32_t *slot, void *block)
{
    _PyTracer_Lock();
    _PyTracer_DropEntry(slot, (uintptr_t)block);
    _PyTracer_Unlock();
}

static Py_NO_INLINE void
tracer_record_small(PyThreadState *tstate, void *block, size_t nbytes,
                    enum tracer_kind kind)
{
    assert(nbytes - 1 < SMALL_REQUEST_THRESHOLD);
    if (UNLIKELY(!_PyTracer.tracing)) {
        _PyTracer_idle = 1;       // called by a wrapper, after stop()
        return;
    }
    uint32_t node = _PyTracer_Capture(tstate);
    poolp pool = POOL_ADDR(block);
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL)) {
        table = tracer_first_table(pool);
    }
    uint32_t *slot = table == NULL ? NULL
                                   : &table[tracer_index(pool, block)];
    if (UNLIKELY(slot == NULL || *slot != 0)) {
        tracer_replace_entry(slot, block);
    }
    if (UNLIKELY(slot == NULL || node == TRACER_NODE_NONE)) {
        (void)_PyTracer_CountUntraced();
        return;
    }
    *slot = TRACER_ENTRY(node, kind, nbytes);
    _PyTracer_CountAlloc(node, nbytes);
    if (UNLIKELY(_PyTracer.watched)) {
        _PyTracer_Watch();
    }
}

/* Drop the entry of a small block, if it has one, and return it; a record in
   the map goes to *dropped. */
static Py_NO_INLINE uint32_t
tracer_drop_small(poolp pool, void *block, struct tracer_dropped *dropped)
{
    uint32_t *table = pool->tracer_table;
    if (UNLIKELY(table == NULL) && !_PyTracer_map.in_pools) {
        return 0;
    }
    uint32_t *slot = table == NULL ? NULL
                                   : &table[tracer_index(pool, block)];
    uint32_t entry = slot == NULL ? TRACER_ENTRY_MAPPED : *slot;
    if (UNLIKELY(entry == TRACER_ENTRY_MAPPED)) {
        _PyTracer_Drop(block, dropped);
        return entry;
    }
    *slot = 0;
    if (entry != 0) {
        _PyTracer_CountOut(TRACER_ENTRY_NODE(entry),
                           TRACER_ENTRY_SIZE(entry), 0);
    }
    return entry;
}

/* A wrapper may have kept these functions, and call them after stop() or with
   several GILs. */
static inline int
tracer_is_kept(void)
{
    return UNLIKELY(!_PyTracer.tracing) || UNLIKELY(_PyTracer.many_gils);
}

static inline void
tracer_record_big(void *block, size_t nbytes, enum tracer_kind kind,
                  const void *old)
{
    if (tracer_is_kept()) {
        _PyTracer_Record(block, nbytes, kind);
    }
    else {
        _PyTracer_RecordBig(block, nbytes, kind, old);
    }
}

static Py_NO_INLINE void *
tracer_big_malloc(OMState *state, size_t nelem, size_t elsize, int zeroed,
                  enum tracer_kind kind)
{
    const PyMemAllocatorEx *raw = &_PyTracer_below.raw;
    _PyTracer_FALLBACK(nelem * elsize);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    void *block = zeroed ? raw->calloc(raw->ctx, nelem, elsize)
                         : raw->malloc(raw->ctx, nelem * elsize);
    _PyTracer_inside = inside;
    if (block != NULL) {
        raw_allocated_blocks++;
        tracer_record_big(block, nelem * elsize, kind, NULL);
    }
    else {
        _PyTracer_NoMemory(nelem * elsize, kind);
    }
    return block;
}

static Py_NO_INLINE void *
tracer_malloc(void *ctx, size_t nbytes, enum tracer_kind kind)
{
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    void *block = pymalloc_alloc(state, ctx, nbytes);
    if (UNLIKELY(block == NULL)) {
        return tracer_big_malloc(state, 1, nbytes, 0, kind);
    }
    tracer_record_small(tstate, block, nbytes, kind);
    return block;
}

static Py_NO_INLINE void
tracer_big_free(OMState *state, void *block)
{
    int fallen = _PyTracer_DropBig(block);
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    _PyTracer_below.raw.free(_PyTracer_below.raw.ctx, block);
    _PyTracer_inside = inside;
    raw_allocated_blocks--;
    if (fallen) {
        _PyTracer_LockAndEndWindow();
    }
}

static Py_NO_INLINE void
tracer_free(void *Py_UNUSED(ctx), void *block)
{
    if (block == NULL) {
        return;
    }
    OMState *state = get_state();
    poolp pool = POOL_ADDR(block);
    if (UNLIKELY(!address_in_range(state, block, pool))) {
        tracer_big_free(state, block);
        return;
    }
    struct tracer_dropped dropped;
    (void)tracer_drop_small(pool, block, &dropped);
    tracer_free_in_pool(state, pool, block);
    if (UNLIKELY(_PyTracer_HasFallen())) {
        _PyTracer_LockAndEndWindow();
    }
}

/* A block that grows or shrinks counts as a new block, allocated here and now.
   The old one is dropped first, so that the peak does not include both. */

/* A record at the old address may then be that of another thread, which has
   got the address since.  It is told apart by its kind, unless blocks of
   pymalloc were given to PyTraceMalloc_Track(): then the old one is dropped
   before it is released. */
static Py_NO_INLINE void *
tracer_big_realloc(void *block, size_t nbytes, enum tracer_kind kind)
{
    struct tracer_dropped dropped = {.record.node = TRACER_NODE_NONE};
    const void *old = block;
    if (UNLIKELY(_PyTracer_map.in_pools) || tracer_is_kept()) {
        _PyTracer_Drop(block, &dropped);
        old = NULL;
    }
    const PyMemAllocatorEx *raw = &_PyTracer_below.raw;
    int inside = _PyTracer_inside;
    _PyTracer_inside = 1;
    void *moved = raw->realloc(raw->ctx, block, nbytes);
    _PyTracer_inside = inside;
    if (moved == NULL) {
        _PyTracer_Undrop(&dropped);
        _PyTracer_NoMemory(nbytes, kind);
        return NULL;
    }
    tracer_record_big(moved, nbytes, kind, old);
    return moved;
}

static Py_NO_INLINE void
tracer_undrop_small(poolp pool, void *block, uint32_t entry,
                    const struct tracer_dropped *dropped)
{
    if (entry == TRACER_ENTRY_MAPPED) {
        _PyTracer_Undrop(dropped);
    }
    else if (entry != 0) {
        pool->tracer_table[tracer_index(pool, block)] = entry;
        _PyTracer_CountBack(TRACER_ENTRY_NODE(entry),
                            TRACER_ENTRY_SIZE(entry));
    }
}

/* The block stays where it is and belongs to the same node: only its size
   changes, if no allocation or free would have to look at anything.  0:
   nothing is done. */
static inline int
tracer_resize(PyThreadState *tstate, poolp pool, void *block, size_t nbytes,
              enum tracer_kind kind)
{
    if (pool->tracer_table == NULL) {
        return 0;
    }
    uint32_t *slot = &pool->tracer_table[tracer_index(pool, block)];
    uint32_t id = TRACER_ENTRY_NODE(*slot);
    if (id < TRACER_NODE_FIRST
        || _PyTracer_CaptureFast(tstate, _PyTracer.whole) != id)
    {
        return 0;
    }
    size_t old = TRACER_ENTRY_SIZE(*slot);
    int64_t change = (int64_t)nbytes - (int64_t)old;
    struct tracer_node *node = _PyTracer_Node(id);
    int rises = _PyTracer.rising && change >= 0
                && _PyTracer_garbage_thread == NULL;
    if ((node->saved < _PyTracer.free_bound && !rises)
        || _PyTracer_Current() + change > _PyTracer.high || _PyTracer.watched
        || _PyTracer_Wraps(node->alloc_bytes, nbytes)
        || _PyTracer_Wraps(node->free_bytes, old))
    {
        return 0;
    }
    *slot = TRACER_ENTRY(id, kind, nbytes);
    _PyTracer.small_current += change;
    node->alloc_bytes += (uint32_t)nbytes;
    node->alloc_blocks++;
    node->free_bytes += (uint32_t)old;
    node->free_blocks++;
    return 1;
}

static void *
tracer_realloc(void *ctx, void *block, size_t nbytes, enum tracer_kind kind)
{
    if (block == NULL) {
        return tracer_malloc(ctx, nbytes, kind);
    }
    PyThreadState *tstate = _PyThreadState_GET();
    OMState *state = tstate->interp->obmalloc;
    poolp pool = POOL_ADDR(block);
    if (!address_in_range(state, block, pool)) {
        return tracer_big_realloc(block, nbytes, kind);
    }
    size_t size = INDEX2SIZE(pool->szidx);
    /* Stay in place as pymalloc does: less than a quarter would be saved. */
    int stays = nbytes <= size && 4 * nbytes > 3 * size;
    if (stays && tracer_resize(tstate, pool, block, nbytes, kind)) {
        return block;
    }
    struct tracer_dropped dropped;
    uint32_t entry = tracer_drop_small(pool, block, &dropped);
    if (stays) {
        tracer_record_small(tstate, block, nbytes, kind);
        return block;
    }
    void *moved = tracer_malloc(ctx, nbytes, kind);
    if (moved == NULL) {
        tracer_undrop_small(pool, block, entry, &dropped);
        return NULL;
    }
    memcpy(moved, block, Py_MIN(size, nbytes));
    tracer_free_in_pool(state, pool, block);
    return moved;
}
