/* A wrapper over the functions of a domain, as other tools install one: it
   counts, and calls what it has found when it was installed.  And threads that
   ask what is installed, without the GIL, over and over. */

#include "Python.h"
#include "_testtracer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static const char *const names[] = {"raw", "mem", "obj"};
static PyMemAllocatorEx next[3];
static atomic_long calls;

static void *
wrap_malloc(void *ctx, size_t size)
{
    const PyMemAllocatorEx *functions = ctx;
    atomic_fetch_add(&calls, 1);
    return functions->malloc(functions->ctx, size);
}

static void *
wrap_calloc(void *ctx, size_t nelem, size_t elsize)
{
    const PyMemAllocatorEx *functions = ctx;
    atomic_fetch_add(&calls, 1);
    return functions->calloc(functions->ctx, nelem, elsize);
}

static void *
wrap_realloc(void *ctx, void *p, size_t size)
{
    const PyMemAllocatorEx *functions = ctx;
    atomic_fetch_add(&calls, 1);
    return functions->realloc(functions->ctx, p, size);
}

static void
wrap_free(void *ctx, void *p)
{
    const PyMemAllocatorEx *functions = ctx;
    functions->free(functions->ctx, p);
}

static int
domain_number(PyObject *arg)
{
    const char *name = PyUnicode_AsUTF8(arg);
    for (int i = 0; name != NULL && i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "%R is neither raw, mem nor obj", arg);
    }
    return -1;
}

/* put_back(domain): the wrapper once more, over what it has found. */
static PyObject *
put_back(PyObject *Py_UNUSED(module), PyObject *arg)
{
    static_assert(PYMEM_DOMAIN_RAW == 0 && PYMEM_DOMAIN_OBJ == 2, "an index");
    int i = domain_number(arg);
    if (i < 0) {
        return NULL;
    }
    PyMemAllocatorEx wrapper = {&next[i], wrap_malloc, wrap_calloc,
                                wrap_realloc, wrap_free};
    PyMem_SetAllocator((PyMemAllocatorDomain)i, &wrapper);
    Py_RETURN_NONE;
}

/* wrap(domain): over the functions that are installed now. */
static PyObject *
wrap(PyObject *module, PyObject *arg)
{
    int i = domain_number(arg);
    if (i < 0) {
        return NULL;
    }
    PyMem_GetAllocator((PyMemAllocatorDomain)i, &next[i]);
    return put_back(module, arg);
}

/* unwrap(domain): install what the wrapper has found. */
static PyObject *
unwrap(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int i = domain_number(arg);
    if (i < 0) {
        return NULL;
    }
    PyMem_SetAllocator((PyMemAllocatorDomain)i, &next[i]);
    Py_RETURN_NONE;
}

static PyObject *
count_wrapped(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(atomic_load(&calls));
}

/* --- Threads that ask */

#define ASKING 2

static atomic_int asking;
static pthread_t threads[ASKING];

static void *
ask(void *Py_UNUSED(arg))
{
    while (atomic_load(&asking)) {
        PyMemAllocatorEx functions;
        for (int i = 0; i < 3; i++) {
            PyMem_GetAllocator((PyMemAllocatorDomain)i, &functions);
        }
    }
    return NULL;
}

static PyObject *
start_asking(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    atomic_store(&asking, 1);
    for (int i = 0; i < ASKING; i++) {
        if (pthread_create(&threads[i], NULL, ask, NULL)) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
stop_asking(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    atomic_store(&asking, 0);
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < ASKING; i++) {
        pthread_join(threads[i], NULL);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyMethodDef _TestTracer_WrapFunctions[] = {
    {"wrap", wrap, METH_O, NULL},
    {"put_back", put_back, METH_O, NULL},
    {"unwrap", unwrap, METH_O, NULL},
    {"count_wrapped", count_wrapped, METH_NOARGS, NULL},
    {"start_asking", start_asking, METH_NOARGS, NULL},
    {"stop_asking", stop_asking, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
