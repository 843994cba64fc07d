/* Support of the tracer's tests: an oracle underneath the tracer, and threads
   that allocate without the GIL.

   The oracle wraps the allocator of all three domains before tracing starts
   and keeps every live block by itself.  What a domain asks of a lower one is
   not a block of the program: neither the oracle nor the tracer counts it. */

#undef NDEBUG
#include "Python.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

extern PyObject *_PyTraceMalloc_GetTraceback(unsigned int, uintptr_t);

/* --- Oracle */

struct block {
    void *address;                // NULL: empty slot
    size_t size;                  // requested bytes
    int old;                      // acquired before tracing started
};

#define CAPACITY (1u << 20)       // slots; open addressing, linear probing

static PyMemAllocatorEx below[3];
static pthread_mutex_t oracle_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static size_t used;
static _Thread_local int depth;

static size_t
home(const void *address)
{
    return ((uintptr_t)address >> 4) * 0x9e3779b97f4a7c15u >> 44;
}

static void
add(void *address, size_t size)
{
    pthread_mutex_lock(&oracle_lock);
    size_t i = home(address);
    while (blocks[i].address != NULL) {
        assert(blocks[i].address != address);
        i = (i + 1) % CAPACITY;
    }
    blocks[i] = (struct block){address, size, 0};
    used++;
    assert(used < CAPACITY / 2);
    pthread_mutex_unlock(&oracle_lock);
}

static struct block
take(void *address)
{
    pthread_mutex_lock(&oracle_lock);
    size_t i = home(address);
    while (blocks[i].address != NULL && blocks[i].address != address) {
        i = (i + 1) % CAPACITY;
    }
    struct block found = blocks[i];
    if (found.address != NULL) {
        used--;
        size_t hole = i;
        for (i = (i + 1) % CAPACITY; blocks[i].address != NULL;
             i = (i + 1) % CAPACITY)
        {
            size_t distance = (i - home(blocks[i].address)) % CAPACITY;
            if (distance >= (i - hole) % CAPACITY) {
                blocks[hole] = blocks[i];
                hole = i;
            }
        }
        blocks[hole].address = NULL;
    }
    pthread_mutex_unlock(&oracle_lock);
    return found;
}

static void *
oracle_malloc(void *ctx, size_t size)
{
    const PyMemAllocatorEx *a = ctx;
    depth++;
    void *p = a->malloc(a->ctx, size);
    depth--;
    if (p != NULL && depth == 0) {
        add(p, size);
    }
    return p;
}

static void *
oracle_calloc(void *ctx, size_t nelem, size_t elsize)
{
    const PyMemAllocatorEx *a = ctx;
    depth++;
    void *p = a->calloc(a->ctx, nelem, elsize);
    depth--;
    if (p != NULL && depth == 0) {
        add(p, nelem * elsize);
    }
    return p;
}

static void
oracle_free(void *ctx, void *p)
{
    const PyMemAllocatorEx *a = ctx;
    if (p != NULL && depth == 0) {
        (void)take(p);
    }
    depth++;
    a->free(a->ctx, p);
    depth--;
}

static void *
oracle_realloc(void *ctx, void *p, size_t size)
{
    const PyMemAllocatorEx *a = ctx;
    struct block before = {0};
    if (p != NULL && depth == 0) {
        before = take(p);
    }
    depth++;
    void *q = a->realloc(a->ctx, p, size);
    depth--;
    if (depth == 0 && q != NULL) {
        add(q, size);
    }
    else if (before.address != NULL) {
        add(before.address, before.size);
    }
    return q;
}

static PyObject *
install_oracle(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    if (blocks != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the oracle is installed");
        return NULL;
    }
    blocks = calloc(CAPACITY, sizeof(struct block));
    if (blocks == NULL) {
        return PyErr_NoMemory();
    }
    static const PyMemAllocatorDomain domains[] = {
        PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(domains[i], &below[i]);
        PyMemAllocatorEx oracle = {&below[i], oracle_malloc, oracle_calloc,
                                   oracle_realloc, oracle_free};
        PyMem_SetAllocator(domains[i], &oracle);
    }
    Py_RETURN_NONE;
}

/* start_under(start, nframe): call start(nframe); what lives now is old. */
static PyObject *
start_under(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *start, *nframe;
    if (!PyArg_ParseTuple(args, "OO:start_under", &start, &nframe)) {
        return NULL;
    }
    PyObject *result = PyObject_CallOneArg(start, nframe);
    for (size_t i = 0; i < CAPACITY; i++) {
        blocks[i].old = 1;
    }
    return result;
}

static Py_ssize_t
count_parked(PyObject *get_freelist_stats)
{
    PyObject *stats = PyObject_CallNoArgs(get_freelist_stats);
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    Py_ssize_t sum = 0;
    while (stats != NULL && PyDict_Next(stats, &pos, &key, &value)) {
        sum += PyLong_AsSsize_t(PyTuple_GET_ITEM(value, 0));
    }
    Py_XDECREF(stats);
    return sum;
}

/* compare(get_traced_memory, get_freelist_stats) -> (traced memory, bytes of
   the oracle's blocks that are traced, new blocks of the oracle that are not,
   blocks parked on free lists). */
static PyObject *
compare(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *get_traced_memory, *get_freelist_stats;
    if (!PyArg_ParseTuple(args, "OO:compare", &get_traced_memory,
                          &get_freelist_stats))
    {
        return NULL;
    }
    struct block *copy = malloc(CAPACITY * sizeof(struct block));
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(copy, blocks, CAPACITY * sizeof(struct block));
    Py_ssize_t current = 0;
    Py_ssize_t traced = 0;
    Py_ssize_t missing = 0;
    /* The tuple is gone when blocks are looked up: it may be one of them. */
    PyObject *memory = PyObject_CallNoArgs(get_traced_memory);
    Py_ssize_t peak;
    int ok = memory != NULL
             && PyArg_ParseTuple(memory, "nn", &current, &peak);
    Py_XDECREF(memory);
    Py_ssize_t parked = count_parked(get_freelist_stats);
    ok = ok && !PyErr_Occurred();
    for (size_t i = 0; ok && i < CAPACITY; i++) {
        if (copy[i].address == NULL) {
            continue;
        }
        PyObject *frames = _PyTraceMalloc_GetTraceback(
            0, (uintptr_t)copy[i].address);
        if (frames == NULL) {
            ok = 0;
        }
        else if (frames != Py_None) {
            traced += (Py_ssize_t)copy[i].size;
        }
        else {
            missing += !copy[i].old;
        }
        Py_XDECREF(frames);
    }
    free(copy);
    return ok ? Py_BuildValue("(nnnn)", current, traced, missing, parked)
              : NULL;
}

/* --- Raw threads: each exchanges blocks with all others. */

#define SLOTS 4096
#define MAX_THREADS 64

static _Atomic(void *) slots[SLOTS];
static atomic_int running;
static pthread_t threads[MAX_THREADS];
static int nthreads;
static const unsigned int track_domain = 77;

static uint32_t
next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *
hammer(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    while (atomic_load(&running)) {
        size_t size = 1 + next_random(&seed) % 2000;
        void *p = size % 3 ? PyMem_RawMalloc(size) : PyMem_RawCalloc(1, size);
        if (p != NULL && size % 5 == 0) {
            void *q = PyMem_RawRealloc(p, size * 2);
            p = q != NULL ? q : p;
        }
        uintptr_t key = next_random(&seed) % SLOTS;
        (void)PyTraceMalloc_Track(track_domain, key, size);
        PyMem_RawFree(atomic_exchange(&slots[key], p));
        (void)PyTraceMalloc_Untrack(track_domain, next_random(&seed) % SLOTS);
    }
    return NULL;
}

static PyObject *
start_threads(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int n = PyLong_AsInt(arg);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (n < 1 || n > MAX_THREADS || nthreads != 0) {
        PyErr_Format(PyExc_ValueError, "1 to %d threads, once", MAX_THREADS);
        return NULL;
    }
    atomic_store(&running, 1);
    for (; nthreads < n; nthreads++) {
        if (pthread_create(&threads[nthreads], NULL, hammer,
                           (void *)(uintptr_t)(nthreads + 1)))
        {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    Py_RETURN_NONE;
}

/* Join the threads and free all they left. */
static PyObject *
stop_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    atomic_store(&running, 0);
    Py_BEGIN_ALLOW_THREADS
    while (nthreads > 0) {
        pthread_join(threads[--nthreads], NULL);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        PyMem_RawFree(atomic_exchange(&slots[i], NULL));
        (void)PyTraceMalloc_Untrack(track_domain, i);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install_oracle", install_oracle, METH_NOARGS, NULL},
    {"start_under", start_under, METH_VARARGS, NULL},
    {"compare", compare, METH_VARARGS, NULL},
    {"start_threads", start_threads, METH_O, NULL},
    {"stop_threads", stop_threads, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_testtracer",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__testtracer(void)
{
    return PyModule_Create(&module_def);
}
