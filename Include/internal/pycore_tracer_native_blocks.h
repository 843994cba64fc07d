/* Blocks of native memory, see tracer_native_blocks.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_NATIVE_BLOCKS_H
#define Py_INTERNAL_TRACER_NATIVE_BLOCKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_native_cells.h"

/* Which code asked for a block. */
struct tracer_call_site {
    uint32_t node;
    uint32_t stack;               // of C, see pycore_tracer_native_stacks.h
};

struct tracer_native {
    int on;                       // native memory is traced, if anything is
    int64_t current;              // live bytes
    int64_t peak;                 // until something was last released
    int frames;                   // of C, at most, that are recorded
};
extern struct tracer_native _PyTracer_native;

/* Locked. */
static inline int
_PyTracer_SeesNative(void)
{
    return _PyTracer_native.on && _PyTracer.tracing;
}

extern void _PyTracer_ClearNative(void);
extern void _PyTracer_ResetNativePeak(void);
extern int64_t _PyTracer_NativePeak(void);

/* The commonest block comes: its node has counters, and its cell is empty; the
   map has none of this address.  0: it is another one, and nothing is done. */
static inline Py_ALWAYS_INLINE int
_PyTracer_AddCell(uintptr_t address, size_t size, struct tracer_call_site site)
{
    struct tracer_leaf *leaf = _PyTracer_FindLeaf(address);
    if (leaf == NULL || !_PyTracer_HasPart(leaf, address)) {
        return 0;
    }
    uint64_t *cell = &leaf->cells[_PyTracer_CellNumber(address)];
    if (*cell != 0 || size > TRACER_CELL_MAX) {
        return 0;
    }
    struct tracer_counts *counts = _PyTracer_NativeCounts(site.node);
    if (counts == &_PyTracer_tree.natives[0]) {
        return 0;
    }
    *cell = _PyTracer_CellOf(address, size, site.node, site.stack);
    _PyTracer_cells.used++;
    counts->alloc_bytes += size;
    counts->alloc_blocks++;
    _PyTracer_native.current += (int64_t)size;
    return 1;
}

/* It goes. */
static inline void
_PyTracer_CountNativeOut(uint32_t node, size_t size)
{
    struct tracer_counts *counts = _PyTracer_NativeCounts(node);
    struct tracer_native *native = &_PyTracer_native;
    assert(_PyTracer_Live(counts).bytes >= size
           && _PyTracer_Live(counts).blocks > 0);
    native->peak = Py_MAX(native->peak, native->current);
    native->current -= (int64_t)size;
    counts->free_bytes += size;
    counts->free_blocks++;
}

/* 0: it has no cell. */
static inline Py_ALWAYS_INLINE int
_PyTracer_RemoveCell(uintptr_t address)
{
    struct tracer_leaf *leaf = _PyTracer_FindLeaf(address);
    if (leaf == NULL) {
        return 0;
    }
    uint64_t *cell = &leaf->cells[_PyTracer_CellNumber(address)];
    uint64_t old = *cell;
    if (!_PyTracer_IsCellOf(old, address)) {
        return 0;
    }
    *cell = 0;
    _PyTracer_cells.used--;
    _PyTracer_CountNativeOut(_PyTracer_CellNode(old),
                             _PyTracer_CellSize(old));
    return 1;
}

/* A block comes, or a mapping, which may shrink; -1: no memory.  It goes, and
   *old is its record; 0: it was not traced.  A block stays after all. */
extern int _PyTracer_AddNative(uintptr_t address, size_t size,
                               struct tracer_call_site site, int may_shrink);
extern int _PyTracer_RemoveNative(uintptr_t address,
                                  struct tracer_record *old);
extern void _PyTracer_RestoreNative(const struct tracer_record *old);
/* What may shrink keeps only some of its bytes. */
extern void _PyTracer_ShrinkNative(struct tracer_record *record, size_t size);
/* Somebody else accounts for the block at this address. */
extern void _PyTracer_ClaimNative(uintptr_t address);
/* What is known of the block at this address; 0: it is not traced. */
extern int _PyTracer_FindNative(uintptr_t address,
                                struct tracer_record *found);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_NATIVE_BLOCKS_H */
