/* get_arena_stats(): how full pymalloc's arenas are.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h

#include "pycore_obmalloc.h"      // ARENA_SIZE, POOL_SIZE
#include "pycore_tracer_blocks.h" // struct tracer_pool
#include "pycore_tracer_visit.h"
#include "_tracemalloc.h"

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

PyDoc_STRVAR(get_arena_stats_doc,
"get_arena_stats($module, /)\n--\n\n"
"Get the use of pymalloc's arenas as a dict: see the documentation of\n"
"tracemalloc.get_arena_stats().");

static PyObject *
get_arena_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
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

static PyMethodDef arenas_functions[] = {
    {"get_arena_stats", get_arena_stats, METH_NOARGS, get_arena_stats_doc},
    {NULL}
};

int
_PyTracemalloc_AddArenas(PyObject *module)
{
    return PyModule_AddFunctions(module, arenas_functions);
}
