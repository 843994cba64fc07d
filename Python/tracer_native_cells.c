/* Blocks of native memory: a table by address.

   A library that builds a document takes a great many small blocks.  Their
   records in the address map would be most of what tracing them costs: a
   record has 24 bytes, the map is at least a quarter empty, and a removal
   looks at the neighbours.  Here a block has a cell of 8 bytes, which its
   address alone leads to in three steps.  Blocks that lie side by side have
   cells side by side.

   A cell stands for 32 bytes of addresses, as the blocks of the C library are
   at least that far apart.  Where another allocator puts two blocks into them,
   the second one has a record in the map.  So has a block whose address is no
   multiple of 16.  A leaf has the cells of a mebibyte, and is not given back
   before all is forgotten.  A page of it is touched when a small block comes
   to be in the addresses it stands for, four times as many as it has bytes.
   So cells take a quarter of the memory where small blocks have been, while a
   record of the map takes 32 to 64 bytes for a block of any size.  Therefore,
   a larger block has a cell only in a leaf that small blocks have, and there
   only where that page is touched already, or while the pages that were touched
   for larger blocks take less than 1/64 of native memory or 256 KiB.  That is
   enough for blocks that are taken and given back all the time.

   An address has one block at most, in the cells or in the map.  To look into
   the map each time would cost more than all the rest.  So there is a count of
   the native blocks in the map by the last bits of their addresses: where it
   is zero, the map is not asked.  A count that has reached its maximum stays
   there.  Locked. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_native_cells.h"
#include "pycore_tracer_tree.h"

#define PART_SIZE ((int64_t)(TRACER_CELLS / TRACER_CELL_PARTS \
                             * sizeof(uint64_t)))
#define LARGER_SHARE 64           // of native memory, for cells of larger ones
#define LARGER_LEAST (256 << 10)  // bytes that they may always take

struct tracer_cells _PyTracer_cells;

void
_PyTracer_ForgetCells(void)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_cells *all = &_PyTracer_cells;
    if (!all->touched) {
        return;
    }
    while (all->leaves != NULL) {
        struct tracer_leaf *leaf = all->leaves;
        all->leaves = leaf->next;
        _PyTracer_MemFree(leaf, sizeof(*leaf));
    }
    for (size_t i = 0; i < TRACER_TRUNKS; i++) {
        _PyTracer_MemFree(all->trunks[i], sizeof(*all->trunks[i]));
    }
    memset(all, 0, sizeof(*all));
}

/* NULL: there is no memory, or no block of this address can have a cell. */
static struct tracer_leaf *
make_leaf(uintptr_t address)
{
    uint64_t a = address;
    if ((a & TRACER_NO_CELL) != 0) {
        return NULL;
    }
    _PyTracer_cells.touched = 1;
    struct tracer_trunk **trunk =
        &_PyTracer_cells.trunks[a >> TRACER_TRUNK_SPAN];
    if (*trunk == NULL) {
        *trunk = _PyTracer_MemAlloc(sizeof(**trunk));
        if (*trunk == NULL) {
            return NULL;
        }
    }
    struct tracer_leaf *leaf = _PyTracer_MemAlloc(sizeof(*leaf));
    if (leaf != NULL) {
        leaf->begin = address >> TRACER_LEAF_SPAN << TRACER_LEAF_SPAN;
        leaf->next = _PyTracer_cells.leaves;
        _PyTracer_cells.leaves = leaf;
        (*trunk)->leaves[(a >> TRACER_LEAF_SPAN) % TRACER_LEAVES] = leaf;
    }
    return leaf;
}

/* May larger blocks use one more part? */
static int
has_part(void)
{
    int64_t most = _PyTracer_native.current / LARGER_SHARE;
    return (int64_t)_PyTracer_cells.parts * PART_SIZE
           < Py_MAX(most, LARGER_LEAST);
}

uint64_t *
_PyTracer_MakeCell(uintptr_t address, size_t size)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_leaf *leaf = _PyTracer_FindLeaf(address);
    int is_small = size <= TRACER_CELL_SMALL;
    if (leaf == NULL && is_small) {
        leaf = make_leaf(address);
    }
    if (leaf == NULL || size > TRACER_CELL_MAX) {
        return NULL;
    }
    if (!_PyTracer_HasPart(leaf, address)) {
        if (!is_small && !has_part()) {
            return NULL;
        }
        _PyTracer_UsePart(leaf, address);
        _PyTracer_cells.parts += !is_small;
    }
    return &leaf->cells[_PyTracer_CellNumber(address)];
}

struct tracer_record
_PyTracer_CellRecord(uint64_t cell, uintptr_t address)
{
    assert(_PyTracer_IsCellOf(cell, address));
    return (struct tracer_record){
        .address = address, .size = _PyTracer_CellSize(cell),
        .node = _PyTracer_CellNode(cell), .kind = TRACER_NATIVE,
        .domain = cell >> TRACER_CELL_STACK & (TRACER_INDEX_MAX - 1)};
}

/* --- Native blocks in the map */

void
_PyTracer_AddHint(uintptr_t address)
{
    uint8_t *hint = _PyTracer_HintOf(address);
    _PyTracer_cells.touched = 1;
    *hint += *hint < TRACER_MANY_HINTS;
}

void
_PyTracer_RemoveHint(uintptr_t address)
{
    uint8_t *hint = _PyTracer_HintOf(address);
    assert(*hint > 0);
    *hint -= *hint < TRACER_MANY_HINTS;
}

/* --- All cells */

static uintptr_t
address_of(const struct tracer_leaf *leaf, uint32_t i)
{
    return leaf->begin + ((uintptr_t)i << TRACER_CELL_SPAN)
           + (leaf->cells[i] >> TRACER_CELL_UPPER) * TRACER_CELL_UNIT;
}

void
_PyTracer_VisitCells(void (*visit)(const struct tracer_record *, void *),
                     void *arg)
{
    _PyTracer_ASSERT_LOCKED();
    const struct tracer_leaf *leaf = _PyTracer_cells.leaves;
    for (; leaf != NULL; leaf = leaf->next) {
        for (uint32_t i = 0; i < TRACER_CELLS; i++) {
            if (leaf->cells[i] != 0) {
                struct tracer_record record = _PyTracer_CellRecord(
                    leaf->cells[i], address_of(leaf, i));
                visit(&record, arg);
            }
        }
    }
}

void
_PyTracer_RenumberCells(const uint32_t *numbers)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_leaf *leaf = _PyTracer_cells.leaves;
    for (; leaf != NULL; leaf = leaf->next) {
        for (uint32_t i = 0; i < TRACER_CELLS; i++) {
            uint32_t node = _PyTracer_CellNode(leaf->cells[i]);
            if (node != TRACER_NODE_NONE) {
                assert(numbers[node] != TRACER_NODE_NONE);
                leaf->cells[i] ^= node ^ numbers[node];
            }
        }
    }
}

struct check {
    size_t found;
    const char *fault;            // or NULL
};

static void
check_cell(const struct tracer_record *record, void *arg)
{
    struct check *check = arg;
    check->found++;
    if (record->node == TRACER_NODE_NONE
        || record->node >= _PyTracer_tree.nnodes
        || record->size > TRACER_CELL_MAX)
    {
        check->fault = "a cell has no node, or too large a size";
    }
    else if (_PyTracer_IsNativeInMap(record->address)) {
        check->fault = "a native block has a cell and a record of the map";
    }
}

const char *
_PyTracer_CellsFault(void)
{
    struct check check = {0, NULL};
    _PyTracer_VisitCells(check_cell, &check);
    const struct tracer_map *map = &_PyTracer_map;
    for (size_t i = 0; i <= map->mask; i++) {
        const struct tracer_record *record = &map->records[i];
        if (record->node != TRACER_NODE_NONE && record->kind == TRACER_NATIVE
            && !_PyTracer_HasHint(record->address))
        {
            check.fault = "a native block of the map is not found by free()";
        }
    }
    return check.fault == NULL && check.found != _PyTracer_cells.used
           ? "there are other cells than are counted" : check.fault;
}
