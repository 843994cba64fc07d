/* Blocks of native memory: their cells, or their records in the address map,
   and what they count.  Native memory is beside traced memory: a node counts
   it in counters of their own, and it has a peak of its own.  The peak is
   brought up to date when something is released: a block that is registered
   by PyTraceMalloc_Track() right after it was allocated leaves no trace.
   Locked. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_native_ranges.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_origins.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_walk.h"

struct tracer_native _PyTracer_native;

void
_PyTracer_ClearNative(void)
{
    _PyTracer_ForgetCells();
    _PyTracer_ForgetRanges();
    _PyTracer_ForgetNativeStacks();
    _PyTracer_ForgetOrigins();
    _PyTracer_native.current = _PyTracer_native.peak = 0;
}

int64_t
_PyTracer_NativePeak(void)
{
    struct tracer_native *native = &_PyTracer_native;
    native->peak = Py_MAX(native->peak, native->current);
    return native->peak;
}

void
_PyTracer_ResetNativePeak(void)
{
    _PyTracer_native.peak = _PyTracer_native.current;
}

/* Of a node, or NULL: no node, or no memory. */
static inline struct tracer_counts *
get_counts(uint32_t node)
{
    if (node == TRACER_NODE_NONE) {
        return NULL;
    }
    struct tracer_counts *counts = _PyTracer_NativeCounts(node);
    return counts != &_PyTracer_tree.natives[0] ? counts
                                                : _PyTracer_MakeNative(node);
}

/* --- Where a block is known */

/* Nothing is known of the address; -1: no memory.  What may shrink has a record
   of the map. */
static int
put(const struct tracer_record *record, int may_shrink)
{
    uint64_t *cell = may_shrink ? NULL
                     : _PyTracer_MakeCell(record->address, record->size);
    if (cell != NULL && *cell == 0) {
        *cell = _PyTracer_CellOf(record->address, record->size, record->node,
                                 record->domain);
        _PyTracer_cells.used++;
        return 0;
    }
    struct tracer_record *place = _PyTracer_MapPlace(record->address,
                                                     SNAPSHOT_NATIVE_DOMAIN);
    if (place == NULL) {
        return -1;
    }
    assert(place->node == TRACER_NODE_NONE);
    *place = *record;
    _PyTracer_AddHint(record->address);
    return 0;
}

static int
take(uintptr_t address, struct tracer_record *old)
{
    uint64_t *cell = _PyTracer_FindCell(address);
    if (cell != NULL && _PyTracer_IsCellOf(*cell, address)) {
        *old = _PyTracer_CellRecord(*cell, address);
        *cell = 0;
        _PyTracer_cells.used--;
        return 1;
    }
    if (!_PyTracer_HasHint(address)
        || !_PyTracer_MapTake(address, SNAPSHOT_NATIVE_DOMAIN, old))
    {
        return 0;
    }
    _PyTracer_RemoveHint(address);
    return 1;
}

int
_PyTracer_FindNative(uintptr_t address, struct tracer_record *found)
{
    uint64_t *cell = _PyTracer_FindCell(address);
    if (cell != NULL && _PyTracer_IsCellOf(*cell, address)) {
        *found = _PyTracer_CellRecord(*cell, address);
        return 1;
    }
    const struct tracer_record *record =
        _PyTracer_MapFind(address, SNAPSHOT_NATIVE_DOMAIN);
    if (record == NULL) {
        return 0;
    }
    *found = *record;
    return 1;
}

/* --- What happens to it */

int
_PyTracer_AddNative(uintptr_t address, size_t size,
                    struct tracer_call_site site, int may_shrink)
{
    struct tracer_record old;
    /* One may be there that was released in a way that we do not see. */
    (void)_PyTracer_RemoveNative(address, &old);
    const struct tracer_record record = {
        .address = address, .size = size, .domain = site.stack,
        .kind = TRACER_NATIVE, .node = site.node};
    struct tracer_counts *counts = get_counts(site.node);
    if (counts == NULL || put(&record, may_shrink) < 0) {
        return _PyTracer_CountUntraced();
    }
    counts->alloc_bytes += size;
    counts->alloc_blocks++;
    _PyTracer_native.current += (int64_t)size;
    return 0;
}

int
_PyTracer_RemoveNative(uintptr_t address, struct tracer_record *old)
{
    if (!take(address, old)) {
        return 0;
    }
    _PyTracer_CountNativeOut(old->node, old->size);
    return 1;
}

void
_PyTracer_ShrinkNative(struct tracer_record *record, size_t size)
{
    assert(size <= record->size);
    const size_t less = record->size - size;
    (void)_PyTracer_NativePeak();
    _PyTracer_NativeCounts(record->node)->free_bytes += less;
    _PyTracer_native.current -= (int64_t)less;
    record->size = size;
}

/* It never was native memory, at the peak neither. */
void
_PyTracer_ClaimNative(uintptr_t address)
{
    struct tracer_record old;
    if (_PyTracer_SeesNative() && take(address, &old)) {
        struct tracer_counts *counts = _PyTracer_NativeCounts(old.node);
        counts->alloc_bytes -= old.size;
        counts->alloc_blocks--;
        _PyTracer_native.current -= (int64_t)old.size;
    }
}

void
_PyTracer_RestoreNative(const struct tracer_record *old)
{
    if (put(old, 0) == 0) {
        struct tracer_counts *counts = _PyTracer_NativeCounts(old->node);
        counts->free_bytes -= old->size;
        counts->free_blocks--;
        _PyTracer_native.current += (int64_t)old->size;
    }
}
