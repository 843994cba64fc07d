/* Programs of malloc, free and PyTraceMalloc_Track(): what is traced after
   each step, without an allocation of anybody else in between.

   With TESTTRACER_STOCK this is a module of its own, for a stock interpreter:
   it uses public functions alone. */

#include "Python.h"

#include <stdlib.h>

#define POOL_SIZE 16384
#define POOL_HEADER 48
#define BALLAST 5000

enum {
    STEP_MALLOC,                  // of `size` bytes, by the current functions
    STEP_MALLOC_PAST,             // by those that save() has seen
    STEP_FREE,
    STEP_FREE_PAST,
    STEP_REALLOC,
    STEP_TRACK,                   // `size` bytes, `offset` behind the block
    STEP_UNTRACK,
    STEP_TRACK_LAST,              // the same, of the last block of the pool
    STEP_UNTRACK_LAST,            //   in which all are `offset` bytes
};

struct step {
    long what;
    long name;                    // of the block
    long offset;
    long size;
    /* Results */
    uintptr_t before, after;      // address of the block
    int result;
    long long traced;             // memory
    long long wrong;              // what the counters differ by
};

struct functions {
    void *(*malloc)(size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
};

static const struct functions functions[3] = {
    [PYMEM_DOMAIN_RAW] = {PyMem_RawMalloc, PyMem_RawRealloc, PyMem_RawFree},
    [PYMEM_DOMAIN_MEM] = {PyMem_Malloc, PyMem_Realloc, PyMem_Free},
    [PYMEM_DOMAIN_OBJ] = {PyObject_Malloc, PyObject_Realloc, PyObject_Free},
};

static PyMemAllocatorEx saved[3];

/* save(): from now on, these functions are those of the past. */
static PyObject *
save(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator((PyMemAllocatorDomain)i, &saved[i]);
    }
    Py_RETURN_NONE;
}

static uintptr_t
last_block(uintptr_t address, long size)
{
    uintptr_t n = (POOL_SIZE - POOL_HEADER) / (uintptr_t)size;
    return address / POOL_SIZE * POOL_SIZE + POOL_HEADER
           + (n - 1) * (uintptr_t)size;
}

static void
take_step(struct step *step, int domain, void **block)
{
    const struct functions *now = &functions[domain];
    const PyMemAllocatorEx *past = &saved[domain];
    uintptr_t address = (uintptr_t)*block + (uintptr_t)step->offset;
    if (step->what == STEP_TRACK_LAST || step->what == STEP_UNTRACK_LAST) {
        address = last_block((uintptr_t)*block, step->offset);
    }
    step->before = (uintptr_t)*block;
    switch (step->what) {
    case STEP_MALLOC:
        *block = now->malloc((size_t)step->size);
        break;
    case STEP_MALLOC_PAST:
        *block = past->malloc(past->ctx, (size_t)step->size);
        break;
    case STEP_FREE:
        now->free(*block);
        break;
    case STEP_FREE_PAST:
        past->free(past->ctx, *block);
        break;
    case STEP_REALLOC:
        *block = now->realloc(*block, (size_t)step->size);
        break;
    case STEP_TRACK:
    case STEP_TRACK_LAST:
        step->result = PyTraceMalloc_Track(0, address, (size_t)step->size);
        break;
    case STEP_UNTRACK:
    case STEP_UNTRACK_LAST:
        step->result = PyTraceMalloc_Untrack(0, address);
        break;
    }
    step->after = (uintptr_t)*block;
}

/* What get_traced_memory() says; -1: an exception. */
static long long
traced_memory(PyObject *get_traced_memory)
{
    long long current, peak;
    PyObject *memory = PyObject_CallNoArgs(get_traced_memory);
    if (memory == NULL) {
        return -1;
    }
    int result = PyArg_ParseTuple(memory, "LL", &current, &peak);
    Py_DECREF(memory);
    return result ? current : -1;
}

/* What check_counters(get_traced_memory) finds; -1: an exception. */
static long long
wrong_counters(PyObject *check, PyObject *get_traced_memory)
{
    long long nodes, live, current;
    if (check == Py_None) {
        return 0;
    }
    PyObject *found = PyObject_CallOneArg(check, get_traced_memory);
    if (found == NULL) {
        return -1;
    }
    int result = PyArg_ParseTuple(found, "LLL", &nodes, &live, &current);
    Py_DECREF(found);
    return result ? nodes + llabs(live - current) : -1;
}

static int
take_steps(struct step *steps, Py_ssize_t n, int domain, void **blocks,
           PyObject *get_traced_memory, PyObject *check)
{
    /* The first calls fill free lists, with ints as well. */
    for (int i = 0; i < 3; i++) {
        steps[0].traced = traced_memory(get_traced_memory);
        steps[0].wrong = wrong_counters(check, get_traced_memory);
    }
    for (Py_ssize_t i = 1; i <= n; i++) {
        take_step(&steps[i], domain, &blocks[steps[i].name]);
        steps[i].traced = traced_memory(get_traced_memory);
        steps[i].wrong = wrong_counters(check, get_traced_memory);
        if (steps[i].traced < 0 || steps[i].wrong < 0) {
            return -1;
        }
    }
    return 0;
}

static int
parse_steps(PyObject *list, struct step *steps)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        struct step *step = &steps[i + 1];
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "llll", &step->what,
                              &step->name, &step->offset, &step->size))
        {
            return -1;
        }
    }
    return 0;
}

static PyObject *
results_object(const struct step *steps, Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        const struct step *step = &steps[i + 1];
        PyObject *item = Py_BuildValue(
            "KKiLL", (unsigned long long)step->before,
            (unsigned long long)step->after, step->result,
            step->traced - steps[0].traced, step->wrong);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* run_orders(steps, domain, nblocks, get_traced_memory, check_counters) ->
   list of the address before and after, result of Track() or Untrack(), how
   much more is traced than before the first step, and what is wrong with the
   counters, 0 if check_counters is None.  A step is (what, number of the
   block, offset, size). */
static PyObject *
run_orders(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *list, *get_traced_memory, *check;
    int domain;
    Py_ssize_t nblocks;
    if (!PyArg_ParseTuple(args, "O!inOO:run_orders", &PyList_Type, &list,
                          &domain, &nblocks, &get_traced_memory, &check))
    {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(list);
    struct step *steps = calloc((size_t)n + 1, sizeof(*steps));
    void **blocks = calloc((size_t)nblocks, sizeof(*blocks));
    /* So that traced memory is never a small int, which needs no block. */
    void *ballast = PyMem_RawMalloc(BALLAST);
    PyObject *results = NULL;
    if (steps == NULL || blocks == NULL || ballast == NULL) {
        PyErr_NoMemory();
    }
    else if (parse_steps(list, steps) == 0
             && take_steps(steps, n, domain, blocks, get_traced_memory,
                           check) == 0)
    {
        results = results_object(steps, n);
    }
    PyMem_RawFree(ballast);
    free(blocks);
    free(steps);
    return results;
}

#define ORDER_FUNCTIONS                                 \
    {                                                   \
        {"save_allocators", save, METH_NOARGS, NULL},   \
        {"run_orders", run_orders, METH_VARARGS, NULL}, \
        {NULL, NULL, 0, NULL}                           \
    }

#ifdef TESTTRACER_STOCK

static PyMethodDef order_functions[] = ORDER_FUNCTIONS;
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_testorders",
    .m_size = -1,
    .m_methods = order_functions,
};

PyMODINIT_FUNC
PyInit__testorders(void)
{
    return PyModule_Create(&module_def);
}

#else

#include "_testtracer.h"

PyMethodDef _TestTracer_OrderFunctions[] = ORDER_FUNCTIONS;

#endif
