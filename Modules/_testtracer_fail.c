/* Allocators below the tracer that fail: the raw domain's, below the fused
   functions, and pymalloc's arenas. */

#include "Python.h"
#include "_testtracer.h"

static PyMemAllocatorEx below;
static PyObjectArenaAllocator arenas;
static int installed;
static long calls, fail_from, fail_to;
static PyObject *call_first;      // a built-in function without arguments

static int
must_fail(void)
{
    calls++;
    if (fail_from == 0 || calls < fail_from || calls >= fail_to) {
        return 0;
    }
    if (call_first != NULL) {
        PyCFunction_GET_FUNCTION(call_first)(NULL, NULL);
    }
    return 1;
}

static void *
fail_malloc(void *Py_UNUSED(ctx), size_t size)
{
    return must_fail() ? NULL : below.malloc(below.ctx, size);
}

static void *
fail_calloc(void *Py_UNUSED(ctx), size_t nelem, size_t elsize)
{
    return must_fail() ? NULL : below.calloc(below.ctx, nelem, elsize);
}

static void *
fail_realloc(void *Py_UNUSED(ctx), void *p, size_t size)
{
    return must_fail() ? NULL : below.realloc(below.ctx, p, size);
}

static void
fail_free(void *Py_UNUSED(ctx), void *p)
{
    below.free(below.ctx, p);
}

static void *
no_arena(void *Py_UNUSED(ctx), size_t Py_UNUSED(size))
{
    return NULL;
}

/* wrap_raw(): from now on raw requests can be made to fail.  Not while
   tracing. */
static PyObject *
wrap_raw(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    if (!installed) {
        static const PyMemAllocatorEx functions = {
            NULL, fail_malloc, fail_calloc, fail_realloc, fail_free};
        PyMemAllocatorEx copy = functions;
        PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &below);
        PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &copy);
        installed = 1;
    }
    Py_RETURN_NONE;
}

static PyObject *
unwrap_raw(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    if (installed) {
        PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &below);
        installed = 0;
    }
    Py_RETURN_NONE;
}

/* fail_raw(start=0, stop=0, call=None): requests number start to stop - 1 from
   now on fail, each after a call of _tracemalloc.clear_traces() or the like.
   Returns the number of requests since the last call. */
static PyObject *
fail_raw(PyObject *Py_UNUSED(module), PyObject *args)
{
    long first = 0;
    long last = 0;
    PyObject *call = NULL;
    if (!PyArg_ParseTuple(args, "|llO!:fail_raw", &first, &last,
                          &PyCFunction_Type, &call))
    {
        return NULL;
    }
    long before = calls;
    fail_to = last;
    Py_XSETREF(call_first, Py_XNewRef(call));
    fail_from = first;
    calls = 0;
    return PyLong_FromLong(before);
}

/* fail_arenas(fail): make pymalloc's requests for arenas fail, or succeed
   again. */
static PyObject *
fail_arenas(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int fail = PyObject_IsTrue(arg);
    if (fail < 0) {
        return NULL;
    }
    if (arenas.alloc == NULL) {
        PyObject_GetArenaAllocator(&arenas);
    }
    PyObjectArenaAllocator allocator = arenas;
    if (fail) {
        allocator.alloc = no_arena;
    }
    PyObject_SetArenaAllocator(&allocator);
    Py_RETURN_NONE;
}

PyMethodDef _TestTracer_FailFunctions[] = {
    {"wrap_raw", wrap_raw, METH_NOARGS, NULL},
    {"unwrap_raw", unwrap_raw, METH_NOARGS, NULL},
    {"fail_raw", fail_raw, METH_VARARGS, NULL},
    {"fail_arenas", fail_arenas, METH_O, NULL},
    {NULL, NULL, 0, NULL}
};
