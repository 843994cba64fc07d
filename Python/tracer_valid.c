/* Do all tables of the tracer agree? Map, tree, texts and memory are each
   checked by the file that they belong to. Here their sums are compared: the
   blocks of pools and map with the counters of their nodes, these with the
   traced memory, and the values of the peak with the peak. A debug build does
   so at start, stop, clear, snapshot and fork, and ends the process if
   something is wrong; tests can do it in any build. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_valid.h"
#include "pycore_tracer_windows.h"

#include <sys/mman.h>             // mmap()

#ifdef Py_DEBUG
_Py_thread_local int _PyTracer_held = 0;
#endif

/* --- Blocks against counters */

/* Live blocks by node, as pools and map have them. */
struct ledger {
    struct tracer_sum *small, *mapped, *native;
    char *has_node;               // by number of rare counters
};

static size_t
ledger_size(void)
{
    return 3 * _PyTracer_tree.nnodes * sizeof(struct tracer_sum)
           + _PyTracer_tree.nrares;
}

/* Not from the tracer's own memory, which a test may make fail. */
static int
open_ledger(struct ledger *ledger)
{
    void *p = mmap(NULL, ledger_size(), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return -1;
    }
    ledger->small = p;
    ledger->mapped = ledger->small + _PyTracer_tree.nnodes;
    ledger->native = ledger->mapped + _PyTracer_tree.nnodes;
    ledger->has_node = (char *)(ledger->native + _PyTracer_tree.nnodes);
    return 0;
}

static void
close_ledger(struct ledger *ledger)
{
    munmap(ledger->small, ledger_size());
}

/* With several GILs, one interpreter may untrack a block of another while some
   thread has HEAD_LOCK: then the entry stays, which does no harm. */
static int
has_record(const struct tracer_pool *pool, uint32_t i)
{
    uintptr_t address = (uintptr_t)pool->blocks
                        + (size_t)i * pool->block_size;
    return _PyTracer.many_gils || _PyTracer_MapFind(address, 0) != NULL;
}

/* Nonzero: the entries of a pool cannot be. */
static int
add_pool(const struct tracer_pool *pool, void *arg)
{
    const struct ledger *ledger = arg;
    for (uint32_t i = 0; pool->entries != NULL && i < pool->nblocks; i++) {
        uint32_t entry = pool->entries[i];
        if (entry == TRACER_ENTRY_MAPPED && !has_record(pool, i)) {
            return 1;
        }
        if (entry == 0 || entry == TRACER_ENTRY_MAPPED) {
            continue;
        }
        uint32_t id = TRACER_ENTRY_NODE(entry);
        size_t size = TRACER_ENTRY_SIZE(entry);
        if (id == TRACER_NODE_NONE || id >= _PyTracer_tree.nnodes
            || size > pool->block_size)
        {
            return 1;
        }
        ledger->small[id].bytes += size;
        ledger->small[id].blocks++;
    }
    return 0;
}

static int
is_native(const struct tracer_record *record)
{
    return record->kind == TRACER_NATIVE;
}

static void
add_record(const struct tracer_record *record, void *arg)
{
    const struct ledger *ledger = arg;
    struct tracer_sum *sums = is_native(record) ? ledger->native
                                                : ledger->mapped;
    sums[record->node].bytes += record->size;
    sums[record->node].blocks++;
}

static void
add_map(struct ledger *ledger)
{
    const struct tracer_map *map = &_PyTracer_map;
    for (size_t i = 0; i <= map->mask; i++) {
        if (map->records[i].node != TRACER_NODE_NONE) {
            add_record(&map->records[i], ledger);
        }
    }
    _PyTracer_VisitCells(add_record, ledger);
}

static int
equal(struct tracer_sum a, struct tracer_sum b)
{
    return a.bytes == b.bytes && a.blocks == b.blocks;
}

/* What the counters say of the live small blocks of a node. */
static struct tracer_sum
small_of(uint32_t id)
{
    if (_PyTracer_IsParked(id)) {
        int list = (int)(id - TRACER_NODE_PARKED);
        uint64_t parked = list < _PyTracer_NFREELISTS
                          ? _PyTracer.parked[list] : 0;
        return (struct tracer_sum){TRACER_PARKED_BYTES(parked),
                                   TRACER_PARKED_BLOCKS(parked)};
    }
    struct tracer_counts counts = _PyTracer_Counts(id);
    return _PyTracer_Live(&counts);
}

static const char *
compare_nodes(const struct ledger *ledger)
{
    struct tracer_sum small = {0}, mapped = {0}, native = {0};
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer_tree.nnodes; id++) {
        uint32_t number = _PyTracer_Node(id)->rare;
        if (number != 0 && ledger->has_node[number]++) {
            return "two nodes share rare counters";
        }
        struct tracer_sum rare = _PyTracer_Live(&_PyTracer_Rare(id)->counts);
        if (!equal(ledger->small[id], small_of(id))) {
            return "a node counts other small blocks than pools have";
        }
        if (!equal(ledger->mapped[id], rare)) {
            return "rare counters count other blocks than the map has";
        }
        struct tracer_sum own = _PyTracer_Live(_PyTracer_NativeCounts(id));
        if (!equal(ledger->native[id], own)) {
            return "a node counts other native blocks than there are";
        }
        native.bytes += own.bytes;
        if (!_PyTracer_IsParked(id)) {
            small.bytes += ledger->small[id].bytes;
            mapped.bytes += rare.bytes;
        }
    }
    if (small.bytes != (uint64_t)_PyTracer.small_current) {
        return "small_current is not the sum of the small blocks";
    }
    if (mapped.bytes
        != (uint64_t)_Py_atomic_load_int64_relaxed(&_PyTracer.map_current))
    {
        return "map_current is not the sum of the map's blocks";
    }
    if (native.bytes != (uint64_t)_PyTracer_native.current) {
        return "the sum of native memory is not that of its blocks";
    }
    return NULL;
}

static const char *
ledger_fault(void)
{
    struct ledger ledger;
    if (open_ledger(&ledger) < 0) {
        return NULL;              // there is no telling
    }
    const char *fault =
        "the entry of a small block has no node, size or record";
    if (_PyTracer_VisitPools(add_pool, &ledger) == 0) {
        add_map(&ledger);
        fault = compare_nodes(&ledger);
    }
    close_ledger(&ledger);
    return fault;
}

/* --- The peak */

/* At the peak the sum of the sites was at most the peak, and equal to it
   except for threads without the GIL. */
static const char *
peak_fault(void)
{
    uint64_t bytes = 0;
    uint32_t nsaved = 0;
    for (uint32_t id = TRACER_NODE_UNKNOWN; id < _PyTracer_tree.nnodes; id++) {
        uint32_t saved = _PyTracer_Node(id)->saved;
        if (saved > _PyTracer_tree.next_saved) {
            return "a node has a value of the peak that was never saved";
        }
        if (_PyTracer.epoch == 0 || _PyTracer_IsParked(id)) {
            continue;             // without an epoch, no value counts
        }
        nsaved += saved >= _PyTracer.epoch;
        bytes += _PyTracer_AllAtPeak(id).bytes;
    }
    if (nsaved > _PyTracer_tree.next_saved - _PyTracer.epoch) {
        return "two nodes share a value of the peak";
    }
    if (bytes > (uint64_t)_PyTracer_PeakOfWindow()) {
        return "the sites of the peak are larger than the peak";
    }
    return NULL;
}

/* --- All of it */

const char *
_PyTracer_Fault(void)
{
    if (!_PyTracer.tracing) {
        return NULL;
    }
    const char *(*const faults[])(void) = {
        _PyTracer_MemFault, _PyTracer_TextFault, _PyTracer_LocationFault,
        _PyTracer_TreeFault, _PyTracer_MapFault, _PyTracer_CellsFault,
        ledger_fault, peak_fault, _PyTracer_WindowsFault,
        _PyTracer_NativeStacksFault,
    };
    const char *fault = NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(faults) && fault == NULL; i++) {
        fault = faults[i]();
    }
    return fault;
}

const char *
_PyTracer_Validate(void)
{
    _PyTracer_LockAll();
    const char *fault = _PyTracer_Fault();
    _PyTracer_UnlockAll();
    return fault;
}

struct tracer_parts
_PyTracer_Parts(void)
{
    return (struct tracer_parts){&_PyTracer, &_PyTracer_tree, &_PyTracer_map,
                                 &_PyTracer_texts, &_PyTracer_places,
                                 &_PyTracer_windows, &_PyTracer_cells,
                                 _PyTracer_NativeStacks()};
}

#ifdef Py_DEBUG
void
_PyTracer_AssertValid(const char *when)
{
    const char *fault = _PyTracer_Fault();
    if (fault != NULL) {
        _Py_FatalErrorFormat(when, "the tracer is broken: %s", fault);
    }
}
#endif
