/* Fragmentation of pymalloc's arenas in a snapshot: which blocks keep the
   nearly empty ones. */

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
    if (arenas == NULL || _PySnapshot_Truncate(s) < 0
        || _PySnapshot_Unpack(s) < 0)
    {
        return PyErr_NoMemory();
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
