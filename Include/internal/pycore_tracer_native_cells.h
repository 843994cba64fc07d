/* Blocks of native memory: a table by address, see tracer_native_cells.c.
   Locked. */

#ifndef Py_INTERNAL_TRACER_NATIVE_CELLS_H
#define Py_INTERNAL_TRACER_NATIVE_CELLS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_index.h"  // TRACER_INDEX_BITS
#include "pycore_tracer_map.h"

/* Bytes of a block: of a small one, and of any that can have a cell. */
#define TRACER_CELL_SMALL 512
#define TRACER_CELL_SIZE_BITS 19
#define TRACER_CELL_MAX ((1u << TRACER_CELL_SIZE_BITS) - 1)

/* What of an address says where the cell is: log2 of bytes. */
#define TRACER_CELL_SPAN 5
#define TRACER_LEAF_SPAN 20
#define TRACER_TRUNK_SPAN 34
#define TRACER_TABLE_SPAN 48
#define TRACER_CELLS (1u << (TRACER_LEAF_SPAN - TRACER_CELL_SPAN))
#define TRACER_LEAVES (1u << (TRACER_TRUNK_SPAN - TRACER_LEAF_SPAN))
#define TRACER_TRUNKS (1u << (TRACER_TABLE_SPAN - TRACER_TRUNK_SPAN))

/* A cell: node, C stack, size, and whether the block begins in the upper half
   of the cell's addresses; 0: empty. */
#define TRACER_CELL_UNIT 16u      // bytes: alignment, half a cell's addresses
#define TRACER_CELL_STACK TRACER_NODE_BITS
#define TRACER_CELL_SIZE (TRACER_CELL_STACK + TRACER_INDEX_BITS)
#define TRACER_CELL_UPPER (TRACER_CELL_SIZE + TRACER_CELL_SIZE_BITS)
static_assert(TRACER_CELL_UPPER == 63
              && TRACER_CELL_UNIT * 2 == 1 << TRACER_CELL_SPAN,
              "a cell has 64 bits");

/* Bits of an address that has no cell. */
#define TRACER_NO_CELL (~(uint64_t)0 << TRACER_TABLE_SPAN       \
                        | (TRACER_CELL_UNIT - 1))

#define TRACER_CELL_PARTS 64      // of a leaf: a part is a page, or less
struct tracer_leaf {
    struct tracer_leaf *next;
    uintptr_t begin;              // of its addresses
    uint64_t parts;               // in use, one bit each
    uint64_t cells[TRACER_CELLS];
};

struct tracer_trunk {
    struct tracer_leaf *leaves[TRACER_LEAVES];
};

#define TRACER_HINTS (1u << 16)
#define TRACER_MANY_HINTS UINT8_MAX       // or more: stays

struct tracer_cells {
    size_t used;
    size_t parts;                 // that larger blocks were the first to use
    int touched;                  // else all of this is zero
    struct tracer_leaf *leaves;   // all of them
    struct tracer_trunk *trunks[TRACER_TRUNKS];
    uint8_t hints[TRACER_HINTS];  // native blocks in the map, by address
};
extern struct tracer_cells _PyTracer_cells;

static inline uint8_t *
_PyTracer_HintOf(uintptr_t address)
{
    return &_PyTracer_cells.hints[address / TRACER_CELL_UNIT % TRACER_HINTS];
}

/* May the map have a native block of this address? */
static inline int
_PyTracer_HasHint(uintptr_t address)
{
    return *_PyTracer_HintOf(address) != 0;
}

/* Has it one? */
static inline int
_PyTracer_IsNativeInMap(uintptr_t address)
{
    return _PyTracer_HasHint(address)
           && _PyTracer_MapFind(address, SNAPSHOT_NATIVE_DOMAIN) != NULL;
}

static inline Py_ALWAYS_INLINE struct tracer_leaf *
_PyTracer_FindLeaf(uintptr_t address)
{
    uint64_t a = address;
    if ((a & TRACER_NO_CELL) != 0) {
        return NULL;
    }
    struct tracer_trunk *trunk = _PyTracer_cells.trunks[a
                                                        >> TRACER_TRUNK_SPAN];
    return trunk == NULL ? NULL : trunk->leaves[(a >> TRACER_LEAF_SPAN)
                                                % TRACER_LEAVES];
}

static inline size_t
_PyTracer_CellNumber(uintptr_t address)
{
    return ((uint64_t)address >> TRACER_CELL_SPAN) % TRACER_CELLS;
}

/* Where the block belongs; NULL: it can have no cell, or there is none yet. */
static inline Py_ALWAYS_INLINE uint64_t *
_PyTracer_FindCell(uintptr_t address)
{
    struct tracer_leaf *leaf = _PyTracer_FindLeaf(address);
    return leaf == NULL ? NULL : &leaf->cells[_PyTracer_CellNumber(address)];
}

/* The part of a leaf that the cell is in: is it in use?  It is now. */
static inline uint32_t
_PyTracer_PartOf(uintptr_t address)
{
    return (uint32_t)_PyTracer_CellNumber(address)
           / (TRACER_CELLS / TRACER_CELL_PARTS);
}

static inline int
_PyTracer_HasPart(const struct tracer_leaf *leaf, uintptr_t address)
{
    return leaf->parts >> _PyTracer_PartOf(address) & 1;
}

static inline void
_PyTracer_UsePart(struct tracer_leaf *leaf, uintptr_t address)
{
    leaf->parts |= (uint64_t)1 << _PyTracer_PartOf(address);
}

static inline uint64_t
_PyTracer_CellOf(uintptr_t address, size_t size, uint32_t node,
                 uint32_t stack)
{
    assert(size <= TRACER_CELL_MAX && node != TRACER_NODE_NONE
           && node < TRACER_MAX_NODES && stack < TRACER_INDEX_MAX);
    return node | (uint64_t)stack << TRACER_CELL_STACK
           | (uint64_t)size << TRACER_CELL_SIZE
           | (uint64_t)(address / TRACER_CELL_UNIT % 2) << TRACER_CELL_UPPER;
}

static inline uint32_t
_PyTracer_CellNode(uint64_t cell)
{
    return cell & (TRACER_MAX_NODES - 1);
}

static inline size_t
_PyTracer_CellSize(uint64_t cell)
{
    return cell >> TRACER_CELL_SIZE & TRACER_CELL_MAX;
}

/* Is it the cell of the block that begins there? */
static inline int
_PyTracer_IsCellOf(uint64_t cell, uintptr_t address)
{
    uint64_t half = (uint64_t)address / TRACER_CELL_UNIT << TRACER_CELL_UPPER;
    return cell != 0 && (cell ^ half) >> TRACER_CELL_UPPER == 0;
}

/* The cell for a block, after making a leaf for it if it is small; NULL: there
   is no memory, or the block can have no cell, or a record in the map takes
   less memory. */
extern uint64_t *_PyTracer_MakeCell(uintptr_t address, size_t size);
/* What a record of the map would say. */
extern struct tracer_record _PyTracer_CellRecord(uint64_t cell,
                                                 uintptr_t address);
/* A native block comes into the map, leaves it. */
extern void _PyTracer_AddHint(uintptr_t address);
extern void _PyTracer_RemoveHint(uintptr_t address);
extern void _PyTracer_ForgetCells(void);
extern void _PyTracer_VisitCells(
    void (*visit)(const struct tracer_record *record, void *arg), void *arg);
/* Nodes have other numbers now, by the old ones. */
extern void _PyTracer_RenumberCells(const uint32_t *numbers);
extern const char *_PyTracer_CellsFault(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_CELLS_H */
