/* Mappings of C code, as blocks of native memory.

   A library may give back a part of a mapping, or several at once: many
   allocators map more than they need, to cut it to an aligned address.  So the
   mappings stand in an array in the order of their addresses.  There are at
   most some ten thousand, as the kernel allows no more.  Each one has a record
   in the address map, at its first address.  What is cut out of the middle
   leaves two.  Locked. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_native_ranges.h"
#include "pycore_tracer_snapshot.h"

#define FIRST_RANGES 256

struct range {
    uintptr_t begin, end;
};

static struct range *ranges;
static size_t nranges, max_ranges;

void
_PyTracer_ForgetRanges(void)
{
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_MemFree(ranges, max_ranges * sizeof(*ranges));
    ranges = NULL;
    nranges = max_ranges = 0;
}

/* The first one that ends behind the address. */
static size_t
find(uintptr_t address)
{
    size_t low = 0, high = nranges;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].end <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static int
insert(size_t i, uintptr_t begin, uintptr_t end)
{
    if (nranges == max_ranges) {
        size_t n = max_ranges == 0 ? FIRST_RANGES : max_ranges * 2;
        void *grown = _PyTracer_MemGrow(ranges, max_ranges * sizeof(*ranges),
                                        n * sizeof(*ranges));
        if (grown == NULL) {
            return -1;
        }
        ranges = grown;
        max_ranges = n;
    }
    memmove(&ranges[i + 1], &ranges[i], (nranges - i) * sizeof(*ranges));
    ranges[i] = (struct range){begin, end};
    nranges++;
    return 0;
}

static void
delete(size_t i)
{
    nranges--;
    memmove(&ranges[i], &ranges[i + 1], (nranges - i) * sizeof(*ranges));
}

/* What is left of a range behind the hole is a block of its own. */
static void
add_rest(size_t i, uintptr_t begin, uintptr_t end,
         struct tracer_call_site site)
{
    if (insert(i, begin, end) < 0) {
        return;
    }
    if (_PyTracer_AddNative(begin, end - begin, site, 1) < 0) {
        delete(i);
    }
}

/* Cut [begin, end) out of range i, which it meets; return the index of the
   first range behind the hole. */
static size_t
cut(size_t i, uintptr_t begin, uintptr_t end)
{
    const struct range range = ranges[i];
    struct tracer_record *record =
        _PyTracer_MapFind(range.begin, SNAPSHOT_NATIVE_DOMAIN);
    if (record == NULL) {
        delete(i);                // the address was taken by another block
        return i;
    }
    const struct tracer_call_site site = {record->node, record->domain};
    if (range.begin < begin) {
        _PyTracer_ShrinkNative(record, begin - range.begin);
        ranges[i++].end = begin;
    }
    else {
        struct tracer_record old;
        (void)_PyTracer_RemoveNative(range.begin, &old);
        delete(i);
    }
    if (end < range.end) {
        add_rest(i, end, range.end, site);
    }
    return i;
}

int
_PyTracer_CutRanges(uintptr_t begin, size_t size)
{
    _PyTracer_ASSERT_LOCKED();
    uintptr_t end = size < UINTPTR_MAX - begin ? begin + size : UINTPTR_MAX;
    size_t i = find(begin);
    int any = 0;
    while (i < nranges && ranges[i].begin < end) {
        any = 1;
        if (ranges[i].end > end) {
            (void)cut(i, begin, end);
            break;
        }
        i = cut(i, begin, end);
    }
    return any;
}

int
_PyTracer_AddRange(uintptr_t begin, size_t size,
                   struct tracer_call_site site)
{
    _PyTracer_ASSERT_LOCKED();
    size_t i = find(begin);
    assert(i == nranges || ranges[i].begin >= begin + size);
    if (insert(i, begin, begin + size) < 0) {
        return -1;
    }
    if (_PyTracer_AddNative(begin, size, site, 1) < 0) {
        delete(i);
        return -1;
    }
    return 0;
}
