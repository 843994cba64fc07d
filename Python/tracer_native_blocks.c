/* Blocks of native memory: their records in the address map, and what they
   count.  Native memory is beside traced memory: a node counts it in counters
   of their own, and it has a peak of its own.  The peak is
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

static void
count_in(struct tracer_counts *counts, size_t size)
{
    assert(counts != &_PyTracer_tree.natives[0]);
    counts->alloc_bytes += size;
    counts->alloc_blocks++;
    _PyTracer_native.current += (int64_t)size;
}

static void
count_out(uint32_t node, size_t size, int blocks)
{
    struct tracer_counts *counts = _PyTracer_NativeCounts(node);
    assert(_PyTracer_Live(counts).bytes >= size);
    (void)_PyTracer_NativePeak();
    counts->free_bytes += size;
    counts->free_blocks += blocks;
    _PyTracer_native.current -= (int64_t)size;
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

int
_PyTracer_AddNative(uintptr_t address, size_t size,
                    struct tracer_call_site site)
{
    struct tracer_counts *counts = get_counts(site.node);
    struct tracer_record *record =
        counts == NULL ? NULL
                       : _PyTracer_MapPlace(address, SNAPSHOT_NATIVE_DOMAIN);
    if (record == NULL) {
        struct tracer_record old;
        (void)_PyTracer_RemoveNative(address, &old);
        return _PyTracer_CountUntraced();
    }
    if (record->node != TRACER_NODE_NONE) {
        /* It was released in a way that we do not see. */
        count_out(record->node, record->size, 1);
    }
    *record = (struct tracer_record){
        .address = address, .size = size, .domain = site.stack,
        .kind = TRACER_NATIVE, .node = site.node};
    count_in(counts, size);
    return 0;
}

int
_PyTracer_RemoveNative(uintptr_t address, struct tracer_record *old)
{
    if (!_PyTracer_MapTake(address, SNAPSHOT_NATIVE_DOMAIN, old)) {
        return 0;
    }
    count_out(old->node, old->size, 1);
    return 1;
}

void
_PyTracer_ShrinkNative(struct tracer_record *record, size_t size)
{
    assert(size <= record->size);
    count_out(record->node, record->size - size, 0);
    record->size = size;
}

/* It never was native memory, at the peak neither. */
void
_PyTracer_ClaimNative(uintptr_t address)
{
    struct tracer_record old;
    if (_PyTracer_SeesNative()
        && _PyTracer_MapTake(address, SNAPSHOT_NATIVE_DOMAIN, &old))
    {
        struct tracer_counts *counts = _PyTracer_NativeCounts(old.node);
        counts->alloc_bytes -= old.size;
        counts->alloc_blocks--;
        _PyTracer_native.current -= (int64_t)old.size;
    }
}

void
_PyTracer_RestoreNative(const struct tracer_record *old)
{
    struct tracer_record *record = _PyTracer_MapPlace(
        old->address, SNAPSHOT_NATIVE_DOMAIN);
    if (record != NULL) {
        assert(record->node == TRACER_NODE_NONE);
        *record = *old;
        struct tracer_counts *counts = _PyTracer_NativeCounts(old->node);
        counts->free_bytes -= old->size;
        counts->free_blocks--;
        _PyTracer_native.current += (int64_t)old->size;
    }
}
