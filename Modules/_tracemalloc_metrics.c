/* Figures of the interpreter that reports show besides the traced memory, and
   that Python code cannot get without allocating while it counts.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_global_objects.h"  // _Py_INTERP_CACHED_OBJECT()
#include "pycore_interp.h"          // PyInterpreterState
#include "pycore_obmalloc.h"        // struct _obmalloc_state
#include "pycore_pystate.h"         // _PyInterpreterState_GET()
#include "pycore_sysmodule.h"       // _PySys_GetSizeOf()
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "_tracemalloc.h"

PyDoc_STRVAR(get_unicode_interned_doc,
"get_unicode_interned($module, /)\n"
"--\n\n"
"Get the table of interned strings as (size, length).\n\n"
"size is in bytes and leaves out the strings themselves, length is their\n"
"number.");

static PyObject *
get_unicode_interned(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    PyObject *table = _Py_INTERP_CACHED_OBJECT(interp, interned_strings);
    size_t size = _PySys_GetSizeOf(table);
    if (size == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue("nn", (Py_ssize_t)size, PyDict_GET_SIZE(table));
}

static int
count_object(PyObject *Py_UNUSED(object), void *arg)
{
    ++*(Py_ssize_t *)arg;
    return 1;
}

PyDoc_STRVAR(get_gc_object_count_doc,
"_get_gc_object_count($module, /)\n"
"--\n\n"
"Get the number of objects that the cyclic garbage collector tracks.");

static PyObject *
get_gc_object_count(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    Py_ssize_t count = 0;
    PyUnstable_GC_VisitObjects(count_object, &count);
    return PyLong_FromSsize_t(count);
}

PyDoc_STRVAR(get_arena_peak_doc,
"_get_arena_peak($module, /)\n"
"--\n\n"
"Get the most bytes that the allocator's arenas ever took.");

static PyObject *
get_arena_peak(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct _obmalloc_state *state = _PyInterpreterState_GET()->obmalloc;
    return PyLong_FromSize_t(state->mgmt.narenas_highwater
                             * (size_t)ARENA_SIZE);
}

PyDoc_STRVAR(get_tracer_free_memory_doc,
"_get_tracer_free_memory($module, /)\n"
"--\n\n"
"Get the bytes of get_tracemalloc_memory() that hold nothing at the moment.");

static PyObject *
get_tracer_free_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTracer_Lock();
    size_t size = _PyTracer_MemUnused();
    _PyTracer_Unlock();
    return PyLong_FromSize_t(size);
}

static PyMethodDef metrics_functions[] = {
    {"get_unicode_interned", get_unicode_interned, METH_NOARGS,
     get_unicode_interned_doc},
    {"_get_arena_peak", get_arena_peak, METH_NOARGS, get_arena_peak_doc},
    {"_get_tracer_free_memory", get_tracer_free_memory, METH_NOARGS,
     get_tracer_free_memory_doc},
    {"_get_gc_object_count", get_gc_object_count, METH_NOARGS,
     get_gc_object_count_doc},
    {NULL}
};

int
_PyTracemalloc_AddMetrics(PyObject *module)
{
    return PyModule_AddFunctions(module, metrics_functions);
}
