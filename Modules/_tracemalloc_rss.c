/* _rss(): who owns the resident memory of this process, see tracer_rss.c.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_rss.h"
#include "_tracemalloc.h"

static const char *const kinds[RSS_NKINDS] = {
    [RSS_CODE] = "code",
    [RSS_DATA] = "data",
    [RSS_STACK] = "stack",
    [RSS_PYMALLOC] = "pymalloc",
    [RSS_MIMALLOC] = "mimalloc",
    [RSS_MALLOC] = "malloc",
    [RSS_MAPPING] = "mapping",
    [RSS_FILE] = "file",
    [RSS_SHARED] = "shared",
    [RSS_TRACER] = "tracer",
    [RSS_KERNEL] = "kernel",
    [RSS_UNEXPLAINED] = "unexplained",
};
static const char *const states[RSS_NSTATES] = {
    [RSS_NONE] = "",
    [RSS_LIVE] = "live",
    [RSS_PARKED] = "parked",
    [RSS_FREE] = "free",
    [RSS_UNUSED] = "never used",
    [RSS_OVERHEAD] = "overhead",
    [RSS_SLACK] = "slack",
};

static PyObject *
build_row(const struct rss_result *result, const struct rss_row *row)
{
    PyObject *name = PyUnicode_DecodeFSDefault(result->texts + row->name);
    return name == NULL ? NULL
           : Py_BuildValue("(sNsIK)", kinds[row->kind], name,
                           states[row->state], row->count,
                           (unsigned long long)row->size);
}

static PyObject *
build_rows(const struct rss_result *result)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t i = 0; rows != NULL && i < result->nrows; i++) {
        if (result->rows[i].size == 0) {
            continue;
        }
        PyObject *row = build_row(result, &result->rows[i]);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

PyDoc_STRVAR(rss_doc,
"_rss($module, proc='/proc/self', /)\n--\n\n"
"Get (rows, total, bytes of the look itself, what was missing, traced), or\n"
"None if there is no address space for the look.");

static PyObject *
rss(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *proc = "/proc/self";
    if (!PyArg_ParseTuple(args, "|s:_rss", &proc)) {
        return NULL;
    }
    struct rss_work w;
    struct rss_result result;
    if (_PyTracer_CollectRss(&w, proc, &result) < 0) {
        Py_RETURN_NONE;
    }
    PyObject *rows = build_rows(&result);
    _PyTracer_FreeRss(&w);
    return rows == NULL ? NULL
           : Py_BuildValue("(NKKIO)", rows, (unsigned long long)result.total,
                           (unsigned long long)result.own, result.lacks,
                           result.traced ? Py_True : Py_False);
}

static PyMethodDef rss_functions[] = {
    {"_rss", rss, METH_VARARGS, rss_doc},
    {NULL}
};

int
_PyTracemalloc_AddRss(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } lacks[] = {
        {"_RSS_NO_SMAPS", RSS_NO_SMAPS},
        {"_RSS_NO_PAGEMAP", RSS_NO_PAGEMAP},
        {"_RSS_NO_MEMORY_FILE", RSS_NO_MEMORY_FILE},
        {"_RSS_TOO_MANY", RSS_TOO_MANY},
        {"_RSS_NOTHING", RSS_NOTHING},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lacks); i++) {
        if (PyModule_AddIntConstant(module, lacks[i].name, lacks[i].value)
            < 0)
        {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, rss_functions);
}
