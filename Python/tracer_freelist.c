/* Blocks on free lists: parked, neither live nor freed.

   A parked block is charged to a pseudo node of its free list.  So the line
   that made the object has no live block once the object is dead, and a report
   can say how much memory each free list holds.  A block that leaves a free
   list is a new allocation, here and now.  The hook gives its size, so that a
   block that was parked before tracing started is known exactly, too. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_walk.h"

/* What a block of a free list is, if it has no entry: it was parked before
   tracing started, or the tracer was out of memory. */
static enum tracer_kind
kind_of(enum _PyTracer_freelist list)
{
    switch (list) {
    case _PyTracer_DICT_KEYS:
    case _PyTracer_DEQUE_BLOCK:
    case _PyTracer_PROFILER:
    case _PyTracer_UNICODE_WRITER:
    case _PyTracer_BYTES_WRITER:
        return TRACER_MEMORY;
    case _PyTracer_OBJECT_STACK:
        return TRACER_RAW;
    default:
        return TRACER_OBJECT;
    }
}

static void
move_small(enum _PyTracer_freelist list, void *block, uint32_t *entry,
           size_t block_size, size_t size, uint32_t node)
{
    uint32_t domain = kind_of(list) != TRACER_OBJECT;
    if (*entry != 0 && *entry != TRACER_ENTRY_MAPPED) {
        domain = TRACER_ENTRY_DOMAIN(*entry);
        size = TRACER_ENTRY_SIZE(*entry);       // an int may have another
    }
    _PyTracer_DropEntry(entry, (uintptr_t)block);
    if (node == TRACER_NODE_NONE) {
        (void)_PyTracer_CountUntraced();
        return;
    }
    assert(size > 0 && size <= block_size);
    *entry = TRACER_ENTRY(node, domain, size);
    _PyTracer_CountIn(node, size);
}

/* A block that is not in a pool (it is big, or debug hooks or malloc are
   below). */
static void
move_mapped(enum _PyTracer_freelist list, void *block, size_t size,
            uint32_t node)
{
    struct tracer_record record = {
        .address = (uintptr_t)block, .size = size, .node = node,
        .kind = kind_of(list)};
    if (node == TRACER_NODE_NONE) {
        struct tracer_record old;
        (void)_PyTracer_MapRemove(record.address, 0, &old);
    }
    else if (_PyTracer_MapMove(&record) == 0) {
        return;
    }
    (void)_PyTracer_CountUntraced();
}

static void
move_locked(enum _PyTracer_freelist list, void *block, size_t size,
            uint32_t node)
{
    _PyTracer_ASSERT_LOCKED();
    assert(list < _PyTracer_HAS_FREELISTS && block != NULL);
    size_t block_size;
    uint32_t *entry = _PyTracer_Entry(block, 1, &block_size);
    if (entry != NULL) {
        move_small(list, block, entry, block_size, size, node);
    }
    else if (block_size == 0) {
        move_mapped(list, block, size, node);
    }
    else {
        _PyTracer_DropEntry(NULL, (uintptr_t)block);
        _PyTracer.untraced++;     // a pool without a table
    }
}

/* Charge a block to another node, or to the current stack.  This is the
   general way, see Objects/tracer_pymalloc_freelists.c.h for the short one. */
void
_PyTracer_Reassign(enum _PyTracer_freelist list, void *block, size_t size,
               uint32_t node, int capture)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (capture && !_PyTracer.many_gils) {
        node = _PyTracer_Capture(tstate);
    }
    _PyTracer_Lock();
    if (_PyTracer.tracing) {      // stop() may have run in between
        if (capture && _PyTracer.many_gils) {
            node = _PyTracer_CaptureAlone(tstate);
        }
        move_locked(list, block, size, node);
        if (capture && _PyTracer.watched) {
            _PyTracer_Watch();
        }
    }
    _PyTracer_Unlock();
}

void
_PyTracer_GetParked(enum _PyTracer_freelist kind, uint64_t *blocks,
                    uint64_t *bytes)
{
    uint64_t small = _PyTracer.parked[kind];
    struct tracer_sum big =
        _PyTracer_Live(&_PyTracer_Rare(TRACER_NODE_PARKED + kind)->counts);
    *blocks = TRACER_PARKED_BLOCKS(small) + big.blocks;
    *bytes = TRACER_PARKED_BYTES(small) + big.bytes;
}

int
_PyTracer_ShrinkTuple(PyObject **tuple, Py_ssize_t size)
{
    PyObject *old = *tuple;
    PyObject *shrunk = PyTuple_New(size);
    if (shrunk != NULL) {
        PyObject **items = ((PyTupleObject *)old)->ob_item;
        size_t n = (size_t)size * sizeof(PyObject *);
        memcpy(((PyTupleObject *)shrunk)->ob_item, items, n);
        memset(items, 0, n);
    }
    *tuple = shrunk;
    Py_DECREF(old);
    return shrunk == NULL ? -1 : 0;
}
