/* Looking at resident memory without making Python objects of it, so that a
   test can see whether the look allocates; where the arenas are. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_rss.h"
#include "_testtracer.h"

static PyObject *
look_at_rss(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct rss_work w;
    struct rss_result result;
    if (_PyTracer_CollectRss(&w, "/proc/self", &result) < 0) {
        return PyErr_NoMemory();
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < result.nrows; i++) {
        sum += result.rows[i].size;
    }
    int equal = sum == result.total;
    _PyTracer_FreeRss(&w);
    return PyBool_FromLong(equal);
}

/* Addresses of the arenas. */
static PyObject *
get_arenas(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct rss_work w;
    struct rss_result result;
    if (_PyTracer_CollectRss(&w, "/proc/self", &result) < 0) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(w.narenas);
    for (uint32_t i = 0; list != NULL && i < w.narenas; i++) {
        PyObject *address = PyLong_FromSize_t(w.arenas[i].address);
        if (address == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, address);
    }
    _PyTracer_FreeRss(&w);
    return list;
}

PyMethodDef _TestTracer_RssFunctions[] = {
    {"get_arenas", get_arenas, METH_NOARGS, NULL},
    {"look_at_rss", look_at_rss, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
