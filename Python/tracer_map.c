/* The address map: blocks that are not in pools.  These are blocks over 512
   bytes, the raw domain (used without the GIL), and blocks that
   PyTraceMalloc_Track() registers.  Open addressing with linear probing;
   removal shifts the cluster back, so there are no tombstones. The map counts
   its blocks in the rare counters of their nodes.  Locked. */

#include "Python.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"

#define INITIAL_RECORDS 1024
#define NEIGHBOURS 9              // log2 of the bytes that have such blocks
#define RECORD_SIZE sizeof(struct tracer_record)

int
_PyTracer_MapInit(void)
{
    struct tracer_map *map = &_PyTracer_map;
    map->mask = INITIAL_RECORDS - 1;
    map->used = 0;
    map->records = _PyTracer_MemAlloc(INITIAL_RECORDS * RECORD_SIZE);
    return map->records == NULL ? -1 : 0;
}

void
_PyTracer_MapClear(void)
{
    struct tracer_map *map = &_PyTracer_map;
    _PyTracer_MemFree(map->records, (map->mask + 1) * RECORD_SIZE);
    *map = (struct tracer_map){0};
}

struct tracer_map _PyTracer_map;

/* Small blocks that lie side by side have records side by side: a program
   mostly allocates and frees neighbours in turn. */
static inline size_t
home(const struct tracer_map *map, uintptr_t address, uint32_t domain)
{
    uint64_t x = ((address >> NEIGHBOURS) ^ ((uint64_t)domain << 40))
                 * TRACER_GOLDEN_64;
    return (size_t)((x >> 24) + (address >> 4) % (1 << (NEIGHBOURS - 4)))
           & map->mask;
}

/* Record of the block, or the empty slot where it belongs.  Address 0 is valid
   in some domains, so an empty slot is one without a node. */
static inline struct tracer_record *
find_slot(uintptr_t address, uint32_t domain)
{
    struct tracer_map *map = &_PyTracer_map;
    assert(map->used <= map->mask && (map->mask & (map->mask + 1)) == 0);
    size_t i = home(map, address, domain);
    while (map->records[i].node != TRACER_NODE_NONE
           && (map->records[i].address != address
               || _PyTracer_DomainOf(&map->records[i]) != domain))
    {
        i = (i + 1) & map->mask;
    }
    return &map->records[i];
}

struct tracer_record *
_PyTracer_MapFind(uintptr_t address, uint32_t domain)
{
    struct tracer_record *record = find_slot(address, domain);
    return record->node == TRACER_NODE_NONE ? NULL : record;
}

static int
grow(void)
{
    struct tracer_map *map = &_PyTracer_map;
    _PyTracer_ASSERT_LOCKED();
    struct tracer_map old = *map;
    size_t capacity = (old.mask + 1) * 2;
    struct tracer_record *records = _PyTracer_MemAlloc(capacity
                                                       * RECORD_SIZE);
    if (records == NULL) {
        return -1;
    }
    map->records = records;
    map->mask = capacity - 1;
    for (size_t i = 0; i <= old.mask; i++) {
        struct tracer_record *record = &old.records[i];
        if (record->node != TRACER_NODE_NONE) {
            *find_slot(record->address, _PyTracer_DomainOf(record)) = *record;
        }
    }
    _PyTracer_MemFree(old.records, (old.mask + 1) * RECORD_SIZE);
    return 0;
}

/* Threads with the GIL maintain the peak, and do not lock. */
static int
is_rising(void)
{
    return _Py_atomic_load_uint32_relaxed(&_PyTracer.rising) != 0;
}

static void
save_rare_peak(struct tracer_rare *rare)
{
    uint32_t epoch = _Py_atomic_load_uint32_relaxed(&_PyTracer.epoch);
    if (rare->peak_epoch != epoch) {
        rare->peak = _PyTracer_Live(&rare->counts);
        rare->peak_epoch = epoch;
        _Py_atomic_store_uint32_relaxed(&_PyTracer_peaks.epoch_used, 1);
    }
}

/* May this thread change the peak?  It has the GIL, or the lock that stands
   for it. */
static int
has_gil(void)
{
    return _PyTracer.many_gils || _PyThreadState_GET() != NULL;
}

/* Threads with the GIL read it without the lock; only its owner writes. */
static void
add_to_current(int64_t size)
{
    _PyTracer_ASSERT_LOCKED();
    _Py_atomic_store_int64_relaxed(
        &_PyTracer.map_current,
        _Py_atomic_load_int64_relaxed(&_PyTracer.map_current) + size);
}

static inline Py_ALWAYS_INLINE void
count_in(uint32_t node, size_t size)
{
    struct tracer_rare *rare = _PyTracer_Rare(node);
    assert(rare != &_PyTracer_tree.rares[0]);
    if (!_PyTracer_IsParked(node)) {
        add_to_current((int64_t)size);
        int64_t current = _PyTracer_Current();
        if (current > _Py_atomic_load_int64_relaxed(&_PyTracer.high)) {
            if (has_gil()) {
                _PyTracer_RoseAboveHigh();
            }
            else {
                _PyTracer_RawPeak(current);
            }
        }
        else if (size == 0 && is_rising() && has_gil()) {
            /* The sum is the same as before, but not its parts. */
            _PyTracer_EndRise();
        }
        if (!is_rising()) {
            save_rare_peak(rare);
        }
    }
    rare->counts.alloc_bytes += size;
    rare->counts.alloc_blocks++;
}

static inline Py_ALWAYS_INLINE void
count_out(uint32_t node, size_t size)
{
    struct tracer_rare *rare = _PyTracer_Rare(node);
    assert(rare != &_PyTracer_tree.rares[0]);
    assert(_PyTracer_Live(&rare->counts).bytes >= size
           && _PyTracer_Live(&rare->counts).blocks > 0);
    if (!_PyTracer_IsParked(node)) {
        if (_Py_atomic_load_uint32_relaxed(&_PyTracer.free_bound)
            == TRACER_EVERY_FREE)
        {
            if (has_gil()) {
                _PyTracer_FreeAtBound(node, size, 1);
            }
            else if (is_rising()) {
                _PyTracer_RawPeak(_PyTracer_Current());
            }
        }
        save_rare_peak(rare);
        add_to_current(-(int64_t)size);
        if (_PyTracer.watched && has_gil()) {
            _PyTracer_CheckAlarmLow();
        }
    }
    rare->counts.free_bytes += size;
    rare->counts.free_blocks++;
}

/* The slot of a block, or if it is empty, where the block belongs when there
   is room for it; NULL: no memory. */
static inline Py_ALWAYS_INLINE struct tracer_record *
use_slot(struct tracer_record *slot, uintptr_t address, uint32_t domain)
{
    struct tracer_map *map = &_PyTracer_map;
    if (slot->node == TRACER_NODE_NONE) {
        if (map->used >= map->mask - map->mask / 4) {
            if (grow() == 0) {
                slot = find_slot(address, domain);
            }
            else if (map->used >= map->mask - map->mask / 16) {
                return NULL;
            }
        }
        map->used++;
    }
    return slot;
}

/* Store the record in its slot, or where it belongs if that is empty. */
static inline Py_ALWAYS_INLINE int
put(const struct tracer_record *record, struct tracer_record *slot)
{
    assert(record->node != TRACER_NODE_NONE
           && record->node < _PyTracer_tree.nnodes);
    assert(record->kind < TRACER_NATIVE);
    slot = use_slot(slot, record->address, record->domain);
    if (slot == NULL) {
        return -1;
    }
    *slot = *record;
    _PyTracer_MakeRare(record->node);
    return 0;
}

/* Store the record in the slot of its address, in place of what is there; 0, or
   -1. */
static inline Py_ALWAYS_INLINE int
replace(const struct tracer_record *record, struct tracer_record *slot)
{
    if (slot->node != TRACER_NODE_NONE) {
        count_out(slot->node, slot->size);
    }
    return put(record, slot);
}

static inline Py_ALWAYS_INLINE int
place(const struct tracer_record *record)
{
    return replace(record, find_slot(record->address, record->domain));
}

struct tracer_record *
_PyTracer_MapPlace(uintptr_t address, uint32_t domain)
{
    return use_slot(find_slot(address, domain), address, domain);
}

int
_PyTracer_MapAdd(const struct tracer_record *record)
{
    if (place(record) < 0) {
        return -1;
    }
    count_in(record->node, record->size);
    return 0;
}

int
_PyTracer_MapMove(const struct tracer_record *record)
{
    assert(record->domain == 0);
    struct tracer_record *slot = find_slot(record->address, 0);
    struct tracer_record moved = *record;
    if (slot->node != TRACER_NODE_NONE && slot->kind != TRACER_EXTERNAL) {
        moved.size = slot->size;
        moved.kind = slot->kind;
    }
    if (replace(&moved, slot) < 0) {
        return -1;
    }
    count_in(moved.node, moved.size);
    return 0;
}

static inline void
remove_slot(struct tracer_record *slot)
{
    struct tracer_map *map = &_PyTracer_map;
    size_t hole = (size_t)(slot - map->records);
    assert(map->used > 0 && hole <= map->mask);
    size_t i = hole;
    for (;;) {
        i = (i + 1) & map->mask;
        struct tracer_record *record = &map->records[i];
        if (record->node == TRACER_NODE_NONE) {
            break;
        }
        size_t wanted = home(map, record->address,
                             _PyTracer_DomainOf(record));
        /* Move it back unless its home is behind the hole. */
        if (((i - wanted) & map->mask) >= ((i - hole) & map->mask)) {
            map->records[hole] = *record;
            hole = i;
        }
    }
    map->records[hole] = (struct tracer_record){0};
    map->used--;
}

int
_PyTracer_MapRemove(uintptr_t address, uint32_t domain,
                    struct tracer_record *old)
{
    struct tracer_record *slot = find_slot(address, domain);
    if (slot->node == TRACER_NODE_NONE) {
        return 0;
    }
    *old = *slot;
    count_out(old->node, old->size);
    remove_slot(slot);
    assert(_PyTracer_MapFind(address, domain) == NULL);
    return 1;
}

int
_PyTracer_MapTake(uintptr_t address, uint32_t domain,
                  struct tracer_record *old)
{
    struct tracer_record *slot = find_slot(address, domain);
    if (slot->node == TRACER_NODE_NONE) {
        return 0;
    }
    *old = *slot;
    remove_slot(slot);
    return 1;
}

/* Count that a block of the node has another size now, if no allocation or
   free would have to look at anything: the peak stays where it is, or goes on
   rising.  0: nothing is done. */
static int
recount(uint32_t node, size_t old, size_t size)
{
    struct tracer_rare *rare = _PyTracer_Rare(node);
    int64_t current = _PyTracer_Current() + (int64_t)(size - old);
    if (current > _Py_atomic_load_int64_relaxed(&_PyTracer.high)
        || (is_rising() && size < old)
        || _PyTracer.watched || _PyTracer_garbage_thread != NULL)
    {
        return 0;
    }
    if (!is_rising()) {
        save_rare_peak(rare);
    }
    add_to_current((int64_t)(size - old));
    rare->counts.free_bytes += old;
    rare->counts.free_blocks++;
    rare->counts.alloc_bytes += size;
    rare->counts.alloc_blocks++;
    return 1;
}

int
_PyTracer_MapResize(uintptr_t old, const struct tracer_record *record)
{
    struct tracer_record *slot = find_slot(old, 0);
    if (slot->node != TRACER_NODE_NONE && slot->kind <= TRACER_MEMORY) {
        if (old == record->address && slot->node == record->node
            && recount(slot->node, slot->size, record->size))
        {
            *slot = *record;
            return 0;
        }
        count_out(slot->node, slot->size);
        remove_slot(slot);
    }
    return record->node == TRACER_NODE_NONE ? -1 : _PyTracer_MapAdd(record);
}

const char *
_PyTracer_MapFault(void)
{
    const struct tracer_map *map = &_PyTracer_map;
    size_t used = 0;
    for (size_t i = 0; i <= map->mask; i++) {
        struct tracer_record *record = &map->records[i];
        if (record->node == TRACER_NODE_NONE) {
            continue;
        }
        used++;
        if (record->node >= _PyTracer_tree.nnodes) {
            return "a record of the map has no node";
        }
        if (record->kind > TRACER_NATIVE
            || (record->domain != 0 && record->kind < TRACER_EXTERNAL))
        {
            return "a record of the map has the domain of another kind";
        }
        if (find_slot(record->address, _PyTracer_DomainOf(record))
            != record)
        {
            return "a record of the map is not found, or there are two";
        }
    }
    if (used != map->used || used > map->mask - map->mask / 16) {
        return "the map has other records than it counts";
    }
    return NULL;
}

int
_PyTracer_MapRestore(const struct tracer_record *old)
{
    if (place(old) < 0) {
        return -1;
    }
    struct tracer_rare *rare = _PyTracer_Rare(old->node);
    assert(rare != &_PyTracer_tree.rares[0]);
    if (!_PyTracer_IsParked(old->node)) {
        if (!is_rising()) {
            save_rare_peak(rare);
        }
        add_to_current((int64_t)old->size);
    }
    rare->counts.free_bytes -= old->size;
    rare->counts.free_blocks--;
    return 0;
}
