/* Fragmentation of pymalloc's arenas: how full they are now, and in a snapshot
   which blocks keep the nearly empty ones. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h
#include <stdlib.h>

#include "pycore_obmalloc.h"      // ARENA_SIZE, POOL_SIZE
#include "pycore_tracer_blocks.h" // struct tracer_pool
#include "pycore_tracer_traces.h"
#include "pycore_tracer_types.h"  // _PyTracer_ShowPools()

/* --- Now */

struct use {
    uint64_t narenas, npools;
    uintptr_t arena;              // the last one seen
    struct {
        uint64_t pools, used;
    } classes[NB_SMALL_SIZE_CLASSES];
};

static int
count_pool(const struct tracer_pool *pool, void *arg)
{
    struct use *use = arg;
    if (use->narenas == 0 || use->arena != pool->arena) {
        use->arena = pool->arena;
        use->narenas++;
    }
    uint32_t i = pool->block_size / ALIGNMENT - 1;
    use->npools++;
    use->classes[i].pools++;
    use->classes[i].used += pool->nused;
    return 0;
}

static PyObject *
size_class_row(const struct use *use, int i)
{
    unsigned long long size = ((unsigned long long)i + 1) * ALIGNMENT;
    unsigned long long pools = use->classes[i].pools;
    unsigned long long used = use->classes[i].used;
    unsigned long long room = pools * ((POOL_SIZE - POOL_OVERHEAD) / size);
    return Py_BuildValue("{sKsKsKsK}", "block_size", size, "pools", pools,
                         "used_blocks", used, "free_blocks", room - used);
}

PyObject *
_PyTracemalloc_GetArenaStats(PyObject *Py_UNUSED(module),
                             PyObject *Py_UNUSED(args))
{
    struct use use = {0};
    _PyTracer_ShowPools(count_pool, &use);
    PyObject *classes = PyList_New(0);
    if (classes == NULL) {
        return NULL;
    }
    unsigned long long used = 0;
    unsigned long long free_in_pools = 0;
    for (int i = 0; i < NB_SMALL_SIZE_CLASSES; i++) {
        unsigned long long size = ((unsigned long long)i + 1) * ALIGNMENT;
        unsigned long long bytes = use.classes[i].used * size;
        unsigned long long per_pool = (POOL_SIZE - POOL_OVERHEAD) / size;
        if (use.classes[i].pools == 0) {
            continue;
        }
        used += bytes;
        free_in_pools += use.classes[i].pools * per_pool * size - bytes;
        PyObject *row = size_class_row(&use, i);
        if (row == NULL || PyList_Append(classes, row) < 0) {
            Py_XDECREF(row);
            Py_DECREF(classes);
            return NULL;
        }
        Py_DECREF(row);
    }
    unsigned long long bytes = use.narenas * (unsigned long long)ARENA_SIZE;
    unsigned long long pools = use.npools * (unsigned long long)POOL_SIZE;
    return Py_BuildValue(
        "{sKsKsKsKsKsKsN}",
        "arenas", (unsigned long long)use.narenas, "bytes", bytes,
        "used", used, "fragmented", free_in_pools,
        "overhead", pools - used - free_in_pools,
        "free", bytes - pools, "size_classes", classes);
}

/* --- In a snapshot */

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
        if (s->classes[block->class_].kind == TRACER_EXTERNAL) {
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
    struct snapshot_arena *arenas = _PySnapshot_Array(s->narenas,
                                                      sizeof(*arenas));
    if (arenas == NULL || _PySnapshot_Truncate(s) < 0
        || _PySnapshot_Unpack(s) < 0)
    {
        free(arenas);
        return PyErr_NoMemory();
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->narenas; i++) {
        if ((double)s->arenas[i].used <= limit * (double)s->arenas[i].size) {
            arenas[n++] = s->arenas[i];
        }
    }
    qsort(arenas, n, sizeof(*arenas), compare_addresses);
    PyObject *rows = arena_rows(self, arenas, n);
    free(arenas);
    return rows;
}
