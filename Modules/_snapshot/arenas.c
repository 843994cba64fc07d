/* Fragmentation of pymalloc's arenas in a snapshot: which blocks keep the
   nearly empty ones, and which lines keep how much of all.

   A line keeps that part of an arena which its blocks are of all blocks in it:
   where one small block is all that is left, its line keeps the whole. */

#include "traces.h"

static int
compare_addresses(const void *a, const void *b)
{
    uint64_t x = ((const struct snapshot_arena *)a)->address;
    uint64_t y = ((const struct snapshot_arena *)b)->address;
    return (x > y) - (x < y);
}

/* The arena that holds an address, or NULL.  Sorted by address. */
static const struct snapshot_arena *
find_arena(const struct snapshot_arena *arenas, uint32_t n, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (arenas[middle].address <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == 0 || address - arenas[low - 1].address >= arenas[low - 1].size)
    {
        return NULL;
    }
    return &arenas[low - 1];
}

static int
append_block(TracesObject *self, PyObject *lists, Py_ssize_t i,
             const struct snapshot_block *block)
{
    PyObject *row = Py_BuildValue(
        "KNKN", (unsigned long long)block->address,
        _PyTracemalloc_GetString(self,
                                 self->data->classes[block->class_].name),
        (unsigned long long)block->size,
        _PyTracemalloc_GetFrames(self, block->node));
    int result = row == NULL ? -1
                             : PyList_Append(PyList_GET_ITEM(lists, i), row);
    Py_XDECREF(row);
    return result;
}

static int
append_blocks(TracesObject *self, PyObject *lists,
              const struct snapshot_arena *arenas, uint32_t n)
{
    struct tracer_snapshot *s = self->data;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        if (s->classes[block->class_].kind == SNAPSHOT_EXTERNAL) {
            continue;
        }
        const struct snapshot_arena *arena = find_arena(arenas, n,
                                                        block->address);
        if (arena != NULL
            && append_block(self, lists, arena - arenas, block) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* [(address, size, used, blocks, [(address, type, size, frames)])] */
static PyObject *
arena_rows(TracesObject *self, const struct snapshot_arena *arenas,
           uint32_t n)
{
    PyObject *rows = PyList_New(0);
    PyObject *lists = PyList_New(n);
    if (rows == NULL || lists == NULL) {
        goto error;
    }
    for (uint32_t i = 0; i < n; i++) {
        PyObject *list = PyList_New(0);
        if (list == NULL) {
            goto error;
        }
        PyList_SET_ITEM(lists, i, list);
    }
    if (append_blocks(self, lists, arenas, n) < 0) {
        goto error;
    }
    for (uint32_t i = 0; i < n; i++) {
        PyObject *row = Py_BuildValue(
            "KKKKO", (unsigned long long)arenas[i].address,
            (unsigned long long)arenas[i].size,
            (unsigned long long)arenas[i].used,
            (unsigned long long)arenas[i].blocks, PyList_GET_ITEM(lists, i));
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_XDECREF(row);
            goto error;
        }
        Py_DECREF(row);
    }
    Py_DECREF(lists);
    return rows;
error:
    Py_XDECREF(rows);
    Py_XDECREF(lists);
    return NULL;
}

/* _pinned_arenas(max_occupancy: float) */
PyObject *
_PyTracemalloc_PinnedArenas(TracesObject *self, PyObject *occupancy)
{
    struct tracer_snapshot *s = self->data;
    double limit = PyFloat_AsDouble(occupancy);
    if (limit == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    SNAPSHOT_AUTO struct snapshot_arena *arenas =
        _PySnapshot_Array(s->narenas, sizeof(*arenas));
    if (arenas == NULL) {
        return PyErr_NoMemory();
    }
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->narenas; i++) {
        if ((double)s->arenas[i].used <= limit * (double)s->arenas[i].size) {
            arenas[n++] = s->arenas[i];
        }
    }
    qsort(arenas, n, sizeof(*arenas), compare_addresses);
    return arena_rows(self, arenas, n);
}

/* --- By line */

#define BLOCK_UNIT 16             // sizes of blocks are multiples of it

/* What the blocks of a place have in arenas. */
struct kept {
    double bytes;                 // of arenas
    uint64_t size, blocks;        // requested
    uint32_t arenas;              // that have some
    uint32_t last;                // of these, + 1
};

static void
keep_arenas(const struct tracer_snapshot *s,
            const struct snapshot_arena *arenas, struct kept *kept)
{
    const struct snapshot_arena *arena = NULL;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        if (s->classes[block->class_].kind == SNAPSHOT_EXTERNAL) {
            continue;
        }
        /* Mostly that of the block before. */
        if (arena == NULL || block->address - arena->address >= arena->size) {
            arena = find_arena(arenas, s->narenas, block->address);
        }
        if (arena == NULL || arena->used == 0) {
            continue;
        }
        struct kept *k = &kept[s->nodes[block->node].location];
        uint64_t taken = (block->size + BLOCK_UNIT - 1)
                         & ~(uint64_t)(BLOCK_UNIT - 1);
        k->bytes += (double)arena->size * (double)taken
                    / (double)arena->used;
        k->size += block->size;
        k->blocks++;
        uint32_t number = (uint32_t)(arena - arenas) + 1;
        k->arenas += k->last != number;
        k->last = number;
    }
}

static PyObject *
kept_rows(TracesObject *self, const struct kept *kept)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t i = 0; rows != NULL && i < self->data->nlocations; i++) {
        if (kept[i].blocks == 0) {
            continue;
        }
        PyObject *row = Py_BuildValue(
            "NKKId", _PyTracemalloc_GetFrame(self, i),
            (unsigned long long)kept[i].size,
            (unsigned long long)kept[i].blocks, kept[i].arenas,
            kept[i].bytes);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* _arena_lines(): (arenas, bytes, bytes in blocks,
   [(frame, size, count, arenas, bytes of arenas)] by place) */
PyObject *
_PyTracemalloc_ArenaLines(TracesObject *self, PyObject *Py_UNUSED(unused))
{
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    const struct tracer_snapshot *s = self->data;
    SNAPSHOT_AUTO struct snapshot_arena *arenas =
        _PySnapshot_Array(s->narenas, sizeof(*arenas));
    SNAPSHOT_AUTO struct kept *kept = _PySnapshot_Zeroed(s->nlocations,
                                                         sizeof(*kept));
    if (arenas == NULL || kept == NULL) {
        return PyErr_NoMemory();
    }
    unsigned long long bytes = 0, used = 0;
    Py_BEGIN_ALLOW_THREADS
    for (uint32_t i = 0; i < s->narenas; i++) {
        arenas[i] = s->arenas[i];
        bytes += arenas[i].size;
        used += arenas[i].used;
    }
    qsort(arenas, s->narenas, sizeof(*arenas), compare_addresses);
    keep_arenas(s, arenas, kept);
    Py_END_ALLOW_THREADS
    PyObject *rows = kept_rows(self, kept);
    return rows == NULL ? NULL
           : Py_BuildValue("IKKN", s->narenas, bytes, used, rows);
}
