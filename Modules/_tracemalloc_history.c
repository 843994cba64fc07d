/* Memory over time: start_history() and stop_history() of the module
   tracemalloc, and the notes as one object, from which
   Lib/tracemalloc/history.py makes a list.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_history.h"
#include "pycore_tracer_limit.h"
#include "_tracemalloc.h"

PyDoc_STRVAR(start_history_doc,
"_start_history($module, interval, /)\n--\n\n"
"Note what the process has, once in so many ns, from now on.");

static PyObject *
start_history(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long long interval = PyLong_AsLongLong(arg);
    if (interval == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int error = _PyTracer_StartHistory(interval);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_history_doc,
"stop_history($module, /)\n--\n\n"
"Note no more of memory over time.  What was noted stays: get_history().");

static PyObject *
stop_history(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTracer_StopHistory();
    Py_RETURN_NONE;
}

PyObject *
_PyTracemalloc_HistoryBytes(const struct snapshot_note *notes, uint32_t n)
{
    return PyBytes_FromStringAndSize((const char *)notes,
                                     (Py_ssize_t)(n * sizeof(*notes)));
}

PyDoc_STRVAR(get_history_doc,
"_get_history($module, /)\n--\n\n"
"Get the notes, the last one of now if there are more to come.");

static PyObject *
get_history(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    uint32_t n;
    _PyTracer_NotePresent();
    struct snapshot_note *notes = _PyTracer_CopyHistory(&n);
    PyObject *bytes = _PyTracemalloc_HistoryBytes(notes, n);
    free(notes);
    return bytes;
}

PyDoc_STRVAR(history_interval_doc,
"_history_interval($module, /)\n--\n\n"
"Get the ns between two notes; 0: none are made.");

static PyObject *
history_interval(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLongLong(_PyTracer_HistoryInterval());
}

PyDoc_STRVAR(limit_passed_doc,
"_limit_passed($module, usage, /)\n--\n\n"
"Get the memory of the cgroup when it passed the bound that is watched, once a\n"
"passing, or less than the bound when the kernel reported memory pressure,\n"
"else 0; usage is what the caller has seen.");

static PyObject *
limit_passed(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long long usage = PyLong_AsLongLong(arg);
    if (usage == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromLongLong(_PyTracer_LimitPassed(usage));
}

static PyMethodDef history_functions[] = {
    {"_start_history", start_history, METH_O, start_history_doc},
    {"stop_history", stop_history, METH_NOARGS, stop_history_doc},
    {"_get_history", get_history, METH_NOARGS, get_history_doc},
    {"_history_interval", history_interval, METH_NOARGS, history_interval_doc},
    {"_limit_passed", limit_passed, METH_O, limit_passed_doc},
    {NULL}
};

int
_PyTracemalloc_AddHistory(PyObject *module)
{
    return PyModule_AddFunctions(module, history_functions);
}
