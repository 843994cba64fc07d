/* The module _tracemalloc: arguments in, objects out.  The tracer itself is
   in Python/tracemalloc.c and Python/tracer_*.c. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_modsupport.h"    // _PyArg_CheckPositional()
#include "pycore_tracemalloc.h"   // _PyTraceMalloc_IsTracing()
#include "pycore_tracer.h"
#include "pycore_tracer_compat.h" // _PyTracer_LeaveGilOff()
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_lookup.h"
#include "pycore_tracer_start.h"
#include "pycore_unicodeobject.h" // _PyUnicode_EqualToASCIIString()
#include "_tracemalloc.h"

PyDoc_STRVAR(is_tracing_doc,
"is_tracing($module, /)\n--\n\n"
"Return True if the tracemalloc module is tracing memory allocations.");

static PyObject *
is_tracing(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyBool_FromLong(_PyTraceMalloc_IsTracing());
}

PyDoc_STRVAR(clear_traces_doc,
"clear_traces($module, /)\n--\n\n"
"Clear traces of memory blocks allocated by Python.");

static PyObject *
clear_traces(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTraceMalloc_ClearTraces();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_object_traceback_doc,
"_get_object_traceback($module, obj, /)\n--\n\n"
"Get the traceback where the Python object obj was allocated.\n\n"
"Return a tuple of (filename: str, lineno: int) tuples, most recent first,\n"
"or None if the allocation of the object was not traced.");

static PyObject *
get_object_traceback(PyObject *Py_UNUSED(module), PyObject *obj)
{
    return _PyTraceMalloc_GetObjectTraceback(obj);
}

PyDoc_STRVAR(get_object_trace_doc,
"_get_object_trace($module, obj, /)\n--\n\n"
"Get the trace of the memory block of the Python object obj.\n\n"
"Return (size in bytes, total number of frames, frames), frames a\n"
"tuple of (filename, lineno, function, end_lineno, colno, end_colno) tuples,\n"
"most recent first; or None if the allocation was not traced.");

static PyObject *
get_object_trace(PyObject *Py_UNUSED(module), PyObject *obj)
{
    return _PyTracer_GetTrace(obj);
}

PyDoc_STRVAR(start_doc,
"start($module, nframe=1, /, *, native=False)\n--\n\n"
"Start tracing Python memory allocations.\n\n"
"Also set the maximum number of frames stored in the traceback of a trace\n"
"to nframe: an integer from 1 to 65535, or 'full' for the whole stack.\n"
"With native, also trace what C code takes from malloc() and mmap(), from\n"
"now on; RuntimeError if it cannot be seen.  A number is that of the C\n"
"frames stored of a block, above the innermost Python frame.");

/* Look at `native` first: nothing starts if it cannot be.  For other keywords
   the message is that of stock.  *frames is that of C, if it is a number. */
static int
read_native(PyObject *const *args, Py_ssize_t nargs, PyObject *names,
            int *frames)
{
    *frames = 0;
    if (names == NULL || PyTuple_GET_SIZE(names) == 0) {
        return 0;
    }
    PyObject *name = PyTuple_GET_ITEM(names, 0);
    if (PyTuple_GET_SIZE(names) > 1
        || !_PyUnicode_EqualToASCIIString(name, "native"))
    {
        PyErr_SetString(PyExc_TypeError,
                        "_tracemalloc.start() takes no keyword arguments");
        return -1;
    }
    int native = PyObject_IsTrue(args[nargs]);
    if (native > 0 && PyLong_Check(args[nargs]) && !PyBool_Check(args[nargs]))
    {
        *frames = PyLong_AsInt(args[nargs]);
        if (*frames == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return native > 0 && _PyTracer_CheckNative(*frames) < 0 ? -1 : native;
}

static int
start_tracing(PyObject *const *args, Py_ssize_t nargs)
{
    int nframe = 1;
    if (nargs == 1 && PyUnicode_Check(args[0])) {
        if (!_PyUnicode_EqualToASCIIString(args[0], "full")) {
            PyErr_Format(PyExc_ValueError,
                         "the number of frames must be in range [1; 65535] "
                         "or 'full', not %R", args[0]);
            return -1;
        }
        return _PyTracer_StartFull();
    }
    if (nargs == 1) {
        nframe = PyLong_AsInt(args[0]);
        if (nframe == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return _PyTraceMalloc_Start(nframe);
}

static PyObject *
start(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs,
      PyObject *names)
{
    if (!_PyArg_CheckPositional("start", nargs, 0, 1)) {
        return NULL;
    }
    int frames;
    int native = read_native(args, nargs, names, &frames);
    if (native < 0 || start_tracing(args, nargs) < 0
        || (native && _PyTracer_StartNative(frames) < 0))
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_doc,
"stop($module, /)\n--\n\n"
"Stop tracing Python memory allocations.\n\n"
"Also clear traces of memory blocks allocated by Python.");

static PyObject *
stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTraceMalloc_Stop();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_traceback_limit_doc,
"get_traceback_limit($module, /)\n--\n\n"
"Get the maximum number of frames stored in the traceback of a trace.\n\n"
"By default, a trace of an allocated memory block only stores\n"
"the most recent frame: the limit is 1.  'full' reads as 65535.");

static PyObject *
get_traceback_limit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(_PyTraceMalloc_GetTracebackLimit());
}

PyDoc_STRVAR(get_tracemalloc_memory_doc,
"get_tracemalloc_memory($module, /)\n--\n\n"
"Get the memory usage in bytes of the tracemalloc module.\n\n"
"This memory is used internally to trace memory allocations.");

static PyObject *
get_tracemalloc_memory(PyObject *Py_UNUSED(module),
                       PyObject *Py_UNUSED(args))
{
    return PyLong_FromSize_t(_PyTraceMalloc_GetMemory());
}

PyDoc_STRVAR(get_traced_memory_doc,
"get_traced_memory($module, /)\n--\n\n"
"Get the current size and peak size of memory blocks traced by tracemalloc.\n"
"\n"
"Returns a tuple: (current: int, peak: int).");

static PyObject *
get_traced_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return _PyTraceMalloc_GetTracedMemory();
}

PyDoc_STRVAR(get_native_memory_doc,
"get_native_memory($module, /)\n--\n\n"
"Get the current size and peak size of native memory: what C code has taken\n"
"from malloc() and mmap() since start(native=True).\n\n"
"Returns a tuple: (current: int, peak: int), zeros if it is not traced.");

static PyObject *
get_native_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    long long current = 0, peak = 0;
    _PyTracer_Lock();
    if (_PyTracer_SeesNative()) {
        current = _PyTracer_native.current;
        peak = _PyTracer_NativePeak();
    }
    _PyTracer_Unlock();
    return Py_BuildValue("LL", current, peak);
}

PyDoc_STRVAR(reset_peak_doc,
"reset_peak($module, /)\n--\n\n"
"Set the peak size of memory blocks traced by tracemalloc to the current\n"
"size, and that of native memory.\n\n"
"Do nothing if the tracemalloc module is not tracing memory allocations.");

static PyObject *
reset_peak(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTraceMalloc_ResetPeak();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_freelist_stats_doc,
"get_freelist_stats($module, /)\n--\n\n"
"Get the memory parked on free lists: neither live nor freed.\n\n"
"Return a dict: name of the free list -> (blocks: int, bytes: int).\n"
"Counted while tracing; all zero if it is off.");

static PyObject *
get_freelist_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    uint64_t stats[_PyTracer_NFREELISTS][2] = {{0}};
    _PyTracer_Lock();
    for (int i = 0; _PyTracer.tracing && i < _PyTracer_HAS_FREELISTS; i++) {
        _PyTracer_GetParked(i, &stats[i][0], &stats[i][1]);
    }
    _PyTracer_Unlock();
    return _PyTracemalloc_ParkedDict(stats);
}

PyDoc_STRVAR(get_tracer_stats_doc,
"get_tracer_stats($module, /)\n--\n\n"
"Get figures of the tracer itself, a dict of integers:\n\n"
"nodes, locations, texts: of the call tree; mapped: blocks in the address\n"
"map; memory: bytes; untraced: blocks not traced as the tracer was out of\n"
"memory; folded: recursive frames folded into one; pruned: nodes without\n"
"live blocks that were given back.");

static PyObject *
get_tracer_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTracer_Lock();
    unsigned long long nodes = _PyTracer_tree.nnodes;
    unsigned long long locations = _PyTracer_places.nlocations;
    unsigned long long texts = _PyTracer_texts.nstrings;
    unsigned long long mapped = _PyTracer_map.used;
    unsigned long long memory = _PyTraceMalloc_GetMemory();
    unsigned long long untraced = _PyTracer.untraced;
    unsigned long long folded = _PyTracer_tree.folded;
    unsigned long long pruned = _PyTracer_tree.pruned;
    _PyTracer_Unlock();
    return Py_BuildValue("{sKsKsKsKsKsKsKsK}", "nodes", nodes,
                         "locations", locations, "texts", texts,
                         "mapped", mapped, "memory", memory,
                         "untraced", untraced, "folded", folded,
                         "pruned", pruned);
}

PyDoc_STRVAR(set_nomemory_doc,
"_set_nomemory($module, start=0, stop=0, /)\n--\n\n"
"For tests: make the tracer's own requests for memory number start to\n"
"stop - 1 from now on fail (stop 0: all from start); 0: none fails.\n"
"Return the number of requests since the last call.");

static PyObject *
set_nomemory(PyObject *Py_UNUSED(module), PyObject *args)
{
    long first = 0;
    long last = 0;
    if (!PyArg_ParseTuple(args, "|ll:_set_nomemory", &first, &last)) {
        return NULL;
    }
    _PyTracer_Lock();
    long calls = _PyTracer_memory.calls;
    _PyTracer_memory.calls = 0;
    _PyTracer_memory.fail_from = first;
    _PyTracer_memory.fail_to = last;
    _PyTracer_Unlock();
    return PyLong_FromLong(calls);
}

PyDoc_STRVAR(prune_soon_doc,
"_prune_soon($module, /)\n--\n\n"
"For tests: prune the call tree, whatever its size, once a node is made.");

static PyObject *
prune_soon(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTracer_Lock();
    if (_PyTracer.limit > 1) {
        _PyTracer_tree.prune_at = 0;
    }
    _PyTracer_Unlock();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(keep_doc,
"_keep($module, path, /)\n--\n\n"
"Keep the call tree of the next start in this file; None: in no file.");

static PyObject *
want_file(struct tracer_keep_file *file, PyObject *arg)
{
    PyObject *path = NULL;
    if (_PyTracer_ReadFileOptions() < 0
        || (arg != Py_None && !PyUnicode_FSConverter(arg, &path)))
    {
        return NULL;
    }
    _PyTracer_Lock();
    _PyTracer_WantFile(file, path == NULL ? "" : PyBytes_AS_STRING(path));
    _PyTracer_oom.early &= file != &_PyTracer_oom.file;
    _PyTracer_Unlock();
    Py_XDECREF(path);
    Py_RETURN_NONE;
}

static PyObject *
keep(PyObject *Py_UNUSED(module), PyObject *arg)
{
    return want_file(&_PyTracer_keep_file, arg);
}

PyDoc_STRVAR(keep_oom_doc,
"_keep_oom($module, path, /)\n--\n\n"
"Write the call tree to this file when a request for memory fails, from the\n"
"next start on.  The file is made then.  None: to no file.");

static PyObject *
keep_oom(PyObject *Py_UNUSED(module), PyObject *arg)
{
    return want_file(&_PyTracer_oom.file, arg);
}

PyDoc_STRVAR(kept_doc,
"_kept($module, /)\n--\n\n"
"The file in which the call tree is kept, None if there is none.");

/* The file's name, None if there is none, or nothing in it. */
static PyObject *
name_file(const struct tracer_keep_file *file, const int *is_written)
{
    char name[sizeof(file->name)];
    _PyTracer_Lock();
    strcpy(name, is_written == NULL || *is_written ? file->name : "");
    _PyTracer_Unlock();
    if (name[0] == '\0') {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeFSDefault(name);
}

static PyObject *
kept(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return name_file(&_PyTracer_keep_file, NULL);
}

PyDoc_STRVAR(kept_oom_doc,
"_kept_oom($module, /)\n--\n\n"
"The file with what the call tree was when a request for memory failed, None\n"
"if none has.");

static PyObject *
kept_oom(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return name_file(&_PyTracer_oom.file, &_PyTracer_oom.is_written);
}

PyDoc_STRVAR(set_page_size_doc,
"_set_page_size($module, size, /)\n--\n\n"
"For tests, before start(): memory comes in pages of that many bytes, a\n"
"multiple of the system's; 0: in the system's.");

static PyObject *
set_page_size(PyObject *Py_UNUSED(module), PyObject *arg)
{
    size_t size = PyLong_AsSize_t(arg);
    if (size == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    _PyTracer_Lock();
    _PyTracer_memory.page_size = size;
    _PyTracer_Unlock();
    Py_RETURN_NONE;
}

#define METHOD(NAME, FLAGS) {#NAME, (PyCFunction)NAME, FLAGS, NAME##_doc}

static PyMethodDef methods[] = {
    METHOD(is_tracing, METH_NOARGS),
    METHOD(clear_traces, METH_NOARGS),
    {"_get_object_traceback", get_object_traceback, METH_O,
     get_object_traceback_doc},
    {"_get_object_trace", get_object_trace, METH_O, get_object_trace_doc},
    {"start", (PyCFunction)(void (*)(void))start,
     METH_FASTCALL | METH_KEYWORDS, start_doc},
    METHOD(stop, METH_NOARGS),
    METHOD(get_traceback_limit, METH_NOARGS),
    METHOD(get_tracemalloc_memory, METH_NOARGS),
    METHOD(get_traced_memory, METH_NOARGS),
    METHOD(get_native_memory, METH_NOARGS),
    METHOD(reset_peak, METH_NOARGS),
    METHOD(get_freelist_stats, METH_NOARGS),
    METHOD(get_tracer_stats, METH_NOARGS),
    {"_set_nomemory", set_nomemory, METH_VARARGS, set_nomemory_doc},
    {"_set_page_size", set_page_size, METH_O, set_page_size_doc},
    {"_keep", keep, METH_O, keep_doc},
    {"_kept", kept, METH_NOARGS, kept_doc},
    {"_keep_oom", keep_oom, METH_O, keep_oom_doc},
    {"_kept_oom", kept_oom, METH_NOARGS, kept_oom_doc},
    {"_prune_soon", prune_soon, METH_NOARGS, prune_soon_doc},
    {NULL, NULL, 0, NULL}
};

PyDoc_STRVAR(module_doc,
"Debug module to trace memory blocks allocated by Python.");

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_tracemalloc",
    .m_doc = module_doc,
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__tracemalloc(void)
{
    PyObject *module = PyModule_Create(&module_def);
    if (module != NULL
        && (_PyTracer_LeaveGilOff(module) < 0
            || _PyTracemalloc_AddTasks(module) < 0
            || _PyTracemalloc_AddMeasure(module) < 0
            || _PyTracemalloc_AddMetrics(module) < 0
            || _PyTracemalloc_AddArenas(module) < 0
            || _PyTracemalloc_AddTake(module) < 0
            || _PyTracemalloc_AddHide(module) < 0
            || _PyTracemalloc_AddApart(module) < 0
            || _PyTracemalloc_AddHistory(module) < 0
            || _PyTracemalloc_AddImport(module) < 0
            || _PyTracemalloc_AddRss(module) < 0
            || _PyTracemalloc_AddLibraries(module) < 0
            || PyModule_AddIntConstant(module, "NATIVE_DOMAIN",
                                       SNAPSHOT_NATIVE_DOMAIN) < 0
            || PyModule_AddStringConstant(module, "__version__",
                                          PYTRACEMALLOC_VERSION) < 0))
    {
        Py_CLEAR(module);
    }
    return module;
}
