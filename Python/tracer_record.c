/* Recording that a block comes or goes, the general way.

   A block is recorded after it is acquired and dropped before it is released,
   so that its address cannot belong to another block in between.  The stack is
   captured before the lock is taken, where that is safe.  A block that cannot
   be recorded stays allocated, and is counted as untraced. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_record.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_walk.h"
#include "pycore_tracer_windows.h"

_Py_thread_local int _PyTracer_idle = 0;

static int
map_record(const struct tracer_record *r)
{
    if (r->kind == TRACER_EXTERNAL) {
        _PyTracer_map.in_pools = 1;
    }
    return _PyTracer_MapAdd(r);
}

/* A block of a pool has an entry: its free does not look at the map unless the
   entry says so. */
static int
record(void *block, size_t size, enum tracer_kind kind, uint32_t node)
{
    struct tracer_record r = {.address = (uintptr_t)block, .size = size,
                              .node = node, .kind = kind};
    _PyTracer_ASSERT_LOCKED();
    assert(node != TRACER_NODE_NONE && node < _PyTracer_tree.nnodes);
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
    return _PyTracer_CountUntraced();
}

/* A block of the object or memory domain was recorded, with so many bytes
   more than before. */
static inline void
end_record(int64_t more)
{
    if (_PyTracer.watched) {
        _PyTracer_Watch();
    }
    _PyTracer_TickGrowth(Py_MAX(more, 0));
}

Py_NO_INLINE void
_PyTracer_Record(void *block, size_t size, enum tracer_kind kind)
{
    PyThreadState *tstate = _PyThreadState_GET();
    uint32_t node = TRACER_NODE_NONE;
    int captured = tstate != NULL && !_PyTracer.many_gils
                   && _Py_atomic_load_int_relaxed(&_PyTracer.tracing);
    if (captured) {
        node = _PyTracer_Capture(tstate);
    }
    else {
        tstate = _PyTracer_OwnThreadState();
    }
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        if (!captured) {
            node = _PyTracer_CaptureAlone(tstate);
        }
        (void)_PyTracer_RecordNode(block, size, kind, node);
        if (kind != TRACER_RAW) {
            end_record((int64_t)size);
        }
    }
    else {
        _PyTracer_idle = 1;
    }
    _PyTracer_Unlock();
}

void
_PyTracer_RecordBig(void *block, size_t size, enum tracer_kind kind,
                    const void *old)
{
    assert(kind <= TRACER_MEMORY && !_PyTracer.many_gils);
    struct tracer_record r = {
        .address = (uintptr_t)block, .size = size, .kind = kind,
        .node = _PyTracer_Capture(_PyThreadState_GET())};
    _PyTracer_Lock();
    int64_t before = _PyTracer.map_current;
    int result = -1;
    if (old != NULL) {
        result = _PyTracer_MapResize((uintptr_t)old, &r);
    }
    else if (r.node != TRACER_NODE_NONE) {
        result = _PyTracer_MapAdd(&r);
    }
    if (result < 0) {
        (void)_PyTracer_CountUntraced();
    }
    end_record(_PyTracer.map_current - before);
    _PyTracer_Unlock();
}

int
_PyTracer_DropBig(const void *block)
{
    struct tracer_record old;
    int fallen = 0;
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        (void)_PyTracer_MapRemove((uintptr_t)block, 0, &old);
        fallen = _PyTracer_HasFallen();
    }
    _PyTracer_Unlock();
    return fallen;
}

static void
drop_entry(void *block, struct tracer_dropped *dropped)
{
    _PyTracer_ASSERT_LOCKED();
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
            || _PyTracer_map.in_pools))
    {
        drop_entry(block, dropped);
    }
    dropped->fallen = _PyTracer.tracing && _PyTracer_HasFallen();
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
