/* A random program of nothing but blocks, and what its peak must be.

   play() calls the given functions at random; each of them calls step(), from
   a line of its own, which asks an allocator for a block, gives one back or
   resizes one.  The model beside it adds up, site by site, and copies all sums
   whenever their total is higher than ever before: slow, and plainly right.
   No step makes an object.

   With a log, the sums of all sites are kept after each change, so that any
   moment can be looked up. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#undef NDEBUG
#include "Python.h"
#include "_testtracer.h"

#include "pycore_tracer_valid.h"
#include "pycore_tracer_windows.h"

#include <assert.h>
#include <sys/mman.h>             // mmap()

#define MAX_SITES 64
#define MAX_BLOCKS 2000

struct family {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
};

static const struct family families[] = {
    {PyObject_Malloc, PyObject_Calloc, PyObject_Realloc, PyObject_Free},
    {PyMem_Malloc, PyMem_Calloc, PyMem_Realloc, PyMem_Free},
    {PyMem_RawMalloc, PyMem_RawCalloc, PyMem_RawRealloc, PyMem_RawFree},
};

struct played {
    void *address;
    size_t size;
    int site;
    int family;
};

struct sums {
    long long bytes;
    long long blocks;
};

static struct played played[MAX_BLOCKS];
static int nplayed;
static int site;                  // of the next step
static int nsites;
static uint32_t seed, nsteps;
static struct sums live[MAX_SITES], at_peak[MAX_SITES];
static long long total, highest;
static int first_site, some_sites;        // of a phase; 0: there is none
static int rising;                // steps of the phase that make more blocks

#define MAX_LOGGED 60000
struct logged {
    long long traced;             // with what is not played
    struct sums live[MAX_SITES];
};
static struct logged *logged;     // NULL: no log
static int nlogged;
static long long base;            // traced memory besides the blocks played

static uint32_t
draw(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void
count(int where, long long bytes, long long count)
{
    live[where].bytes += bytes;
    live[where].blocks += count;
    total += bytes;
    if (logged != NULL) {
        assert(nlogged < MAX_LOGGED);
        logged[nlogged].traced = base + total;
        memcpy(logged[nlogged++].live, live, sizeof(live));
    }
    if (total > highest) {
        highest = total;
        memcpy(at_peak, live, sizeof(live));
    }
}

static void
make_one(void)
{
    struct played *block = &played[nplayed++];
    block->family = (int)draw(3);
    block->site = site;
    block->size = draw(4) ? draw(513) : draw(5000);
    const struct family *family = &families[block->family];
    block->address = draw(3) ? family->malloc(block->size)
                             : family->calloc(1, block->size);
    assert(block->address != NULL);
    count(site, (long long)block->size, 1);
}

static void
resize_one(struct played *block)
{
    size_t size = draw(2) ? draw(800) : block->size + draw(9);
    count(block->site, -(long long)block->size, -1);
    block->address = families[block->family].realloc(block->address, size);
    assert(block->address != NULL);
    block->size = size;
    block->site = site;
    count(site, (long long)size, 1);
}

static void
free_one(struct played *block)
{
    families[block->family].free(block->address);
    count(block->site, -(long long)block->size, -1);
    *block = played[--nplayed];
}

static PyObject *
step(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    /* More and less, in waves. */
    uint32_t wanted = nsteps++ / 1000 % 2 ? 2 : 5;
    int falling = 0;
    if (some_sites != 0) {
        falling = rising-- <= 0;
        wanted = falling ? 0 : 8;
    }
    if (nplayed == 0 || (nplayed < MAX_BLOCKS && draw(9) < wanted)) {
        make_one();
    }
    else if (!falling && draw(3) == 0) {
        resize_one(&played[draw((uint32_t)nplayed)]);
    }
    else {
        free_one(&played[draw((uint32_t)nplayed)]);
    }
    Py_RETURN_NONE;
}

static long long
traced_memory(PyObject *get_traced_memory)
{
    long long traced = -1;
    long long unused;
    PyObject *pair = PyObject_CallNoArgs(get_traced_memory);
    if (pair != NULL) {
        (void)PyArg_ParseTuple(pair, "LL", &traced, &unused);
        Py_DECREF(pair);
    }
    return traced;
}

/* play(functions, steps, seed, get_traced_memory, reset_peak) -> traced memory
   besides the blocks played.  Begins, or goes on if seed is 0, with the peak
   reset. */
static PyObject *
play(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *functions, *get_traced_memory, *reset_peak;
    int steps;
    unsigned int begin;
    if (!PyArg_ParseTuple(args, "O!iIOO:play", &PyTuple_Type, &functions,
                          &steps, &begin, &get_traced_memory, &reset_peak))
    {
        return NULL;
    }
    if (begin != 0) {
        seed = begin;
        nsteps = 0;
    }
    nsites = (int)Py_MIN(PyTuple_GET_SIZE(functions), MAX_SITES);
    base = traced_memory(get_traced_memory) - total;
    Py_XDECREF(PyObject_CallNoArgs(reset_peak));
    highest = total;
    memcpy(at_peak, live, sizeof(live));
    for (int i = 0; i < steps && !PyErr_Occurred(); i++) {
        site = some_sites == 0 ? (int)draw((uint32_t)nsites)
               : first_site + (int)draw((uint32_t)some_sites);
        Py_XDECREF(PyObject_CallNoArgs(PyTuple_GET_ITEM(functions, site)));
    }
    return PyErr_Occurred() ? NULL : PyLong_FromLongLong(base);
}

static PyObject *
sums_object(const struct sums *sums)
{
    PyObject *list = PyList_New(nsites);
    for (int i = 0; list != NULL && i < nsites; i++) {
        PyList_SET_ITEM(list, i, Py_BuildValue("LL", sums[i].bytes,
                                               sums[i].blocks));
    }
    return list;
}

/* get_played() -> (total bytes, highest total, live of each site as (bytes,
   blocks), the same at the peak). */
static PyObject *
get_played(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return Py_BuildValue("LLNN", total, highest, sums_object(live),
                         sums_object(at_peak));
}

/* set_phase(first, n, rising): the next steps come from n sites; so many of
   them mostly make a block, then all give one back.  n == 0: from all sites,
   in waves. */
static PyObject *
set_phase(PyObject *Py_UNUSED(module), PyObject *args)
{
    if (!PyArg_ParseTuple(args, "iii:set_phase", &first_site, &some_sites,
                          &rising))
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* log_play(on): begin a log, or forget it. */
static PyObject *
log_play(PyObject *Py_UNUSED(module), PyObject *on)
{
    const size_t size = MAX_LOGGED * sizeof(*logged);
    if (logged != NULL) {
        munmap(logged, size);
        logged = NULL;
    }
    nlogged = 0;
    if (PyObject_IsTrue(on)) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) {
            return PyErr_NoMemory();
        }
        logged = p;
    }
    Py_RETURN_NONE;
}

/* get_log() -> how many moments are in the log. */
static PyObject *
get_log(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(nlogged);
}

/* get_highest(begin, end) -> (traced memory, sums of the sites) of the first
   of the highest moments in this part of the log. */
static PyObject *
get_highest(PyObject *Py_UNUSED(module), PyObject *args)
{
    int begin, end;
    if (!PyArg_ParseTuple(args, "ii:get_highest", &begin, &end)) {
        return NULL;
    }
    assert(logged != NULL && 0 <= begin && begin < end && end <= nlogged);
    int found = begin;
    for (int i = begin; i < end; i++) {
        found = logged[i].traced > logged[found].traced ? i : found;
    }
    return Py_BuildValue("LN", logged[found].traced,
                         sums_object(logged[found].live));
}

/* set_window_credit(ns): what the highest moments may cost; what it was. */
static PyObject *
set_window_credit(PyObject *Py_UNUSED(module), PyObject *credit)
{
    int64_t ns = PyLong_AsLongLong(credit);
    int64_t before = _PyTracer_Parts().windows->credit;
    if (PyErr_Occurred()) {
        return NULL;
    }
    _PyTracer_Parts().windows->credit = ns;
    return PyLong_FromLongLong(before);
}

/* end_play(): give all blocks back. */
static PyObject *
end_play(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    while (nplayed > 0) {
        free_one(&played[0]);
    }
    Py_RETURN_NONE;
}

PyMethodDef _TestTracer_PlayFunctions[] = {
    {"step", step, METH_NOARGS, NULL},
    {"play", play, METH_VARARGS, NULL},
    {"get_played", get_played, METH_NOARGS, NULL},
    {"set_phase", set_phase, METH_VARARGS, NULL},
    {"log_play", log_play, METH_O, NULL},
    {"get_log", get_log, METH_NOARGS, NULL},
    {"get_highest", get_highest, METH_VARARGS, NULL},
    {"set_window_credit", set_window_credit, METH_O, NULL},
    {"end_play", end_play, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
