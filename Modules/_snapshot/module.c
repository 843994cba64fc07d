/* The module _tracemalloc_snapshot and its type Traces: a snapshot as a
   sequence of what stock's _get_traces() lists,

       (domain, size, ((filename, lineno), ...), total_nframe)

   frames most recent first.  Tuples are made when an item is asked for.  The
   type is private to the package tracemalloc, but for its sequence face. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_modsupport.h"   // _PyArg_NoKeywords()
#include "pycore_tracer_traces.h"
#include "pycore_tracer_types.h"

#include <stdlib.h>

static PyTypeObject *frame_type;      // FrameInfo, made once

static PyStructSequence_Field frame_fields[] = {
    {"filename", NULL},
    {"lineno", NULL},
    {"function", "qualified name, or None"},
    {"end_lineno", "int or None"},
    {"colno", "0-based offset in bytes, or None"},
    {"end_colno", "0-based offset in bytes, or None"},
    {"first_lineno", "of the function, or None"},
    {NULL, NULL}
};

static PyStructSequence_Desc frame_desc = {
    .name = "_tracemalloc.FrameInfo",
    .doc = "(filename, lineno) of a frame, and what else is known of it.",
    .fields = frame_fields,
    .n_in_sequence = 2,
};

/* --- Texts, frames, tracebacks */

static PyObject *
cached(PyObject ***cache, uint32_t n, uint32_t i)
{
    if (*cache == NULL) {
        *cache = calloc((size_t)n + 1, sizeof(PyObject *));
        if (*cache == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    return Py_XNewRef((*cache)[i]);
}

static void
clear_cache(PyObject **cache, uint32_t n)
{
    for (uint32_t i = 0; cache != NULL && i < n; i++) {
        Py_XDECREF(cache[i]);
    }
    free(cache);
}

PyObject *
_PyTracemalloc_GetString(TracesObject *self, uint32_t i)
{
    struct tracer_snapshot *s = self->data;
    PyObject *text = cached(&self->strings, s->nstrings, i);
    if (text == NULL && self->strings != NULL) {
        text = PyUnicode_DecodeUTF8(s->text + s->strings[i].offset,
                                    s->strings[i].length, "surrogatepass");
        self->strings[i] = Py_XNewRef(text);
    }
    return text;
}

PyObject *
_PyTracemalloc_NewFrame(PyObject *const *fields, int n)
{
    PyObject *frame = PyStructSequence_New(frame_type);
    if (frame == NULL) {
        return NULL;
    }
    int bad = 0;
    for (int i = 0; i < 7; i++) {
        PyObject *field = i < n ? fields[i] : Py_None;
        bad |= field == NULL;
        PyStructSequence_SetItem(frame, i, Py_NewRef(field ? field : Py_None));
    }
    if (bad) {
        Py_DECREF(frame);
        return NULL;
    }
    return frame;
}

static PyObject *
line_or_none(int32_t line)
{
    return line < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(line);
}

PyObject *
_PyTracemalloc_GetFrame(TracesObject *self, uint32_t location)
{
    PyObject *frame = cached(&self->frames, self->data->nlocations, location);
    if (frame != NULL || self->frames == NULL) {
        return frame;
    }
    const struct snapshot_location *l = &self->data->locations[location];
    PyObject *fields[] = {
        _PyTracemalloc_GetString(self, l->filename),
        PyLong_FromLong(l->line),
        self->data->strings[l->function].length == 0 ? Py_NewRef(Py_None)
            : _PyTracemalloc_GetString(self, l->function),
        line_or_none(l->end_line),
        line_or_none(l->column),
        line_or_none(l->end_column),
        line_or_none(l->first_line),
    };
    frame = _PyTracemalloc_NewFrame(fields, Py_ARRAY_LENGTH(fields));
    for (size_t i = 0; i < Py_ARRAY_LENGTH(fields); i++) {
        Py_XDECREF(fields[i]);
    }
    self->frames[location] = Py_XNewRef(frame);
    return frame;
}

PyObject *
_PyTracemalloc_GetFrames(TracesObject *self, uint32_t node)
{
    struct tracer_snapshot *s = self->data;
    PyObject *frames = cached(&self->tracebacks, s->nnodes, node);
    if (frames != NULL || self->tracebacks == NULL) {
        return frames;
    }
    Py_ssize_t n = 0;
    for (uint32_t i = node; i != SNAPSHOT_NONE; i = s->nodes[i].parent) {
        n++;
    }
    frames = PyTuple_New(n);
    if (frames == NULL) {
        return NULL;
    }
    uint32_t id = node;
    for (Py_ssize_t i = 0; i < n; i++, id = s->nodes[id].parent) {
        PyObject *frame = _PyTracemalloc_GetFrame(self, s->nodes[id].location);
        if (frame == NULL) {
            Py_DECREF(frames);
            return NULL;
        }
        PyTuple_SET_ITEM(frames, i, frame);
    }
    self->tracebacks[node] = Py_NewRef(frames);
    return frames;
}

/* --- Traces as a sequence */

PyObject *
_PyTracemalloc_NewTraces(struct tracer_snapshot *data)
{
    if (data == NULL) {
        return PyErr_NoMemory();
    }
    TracesObject *self = PyObject_New(TracesObject,
                                      &_PyTracemalloc_Traces_Type);
    if (self == NULL) {
        _PySnapshot_Free(data);
        return NULL;
    }
    self->data = data;
    self->info = NULL;
    self->strings = NULL;
    self->frames = NULL;
    self->tracebacks = NULL;
    return (PyObject *)self;
}

static PyObject *
traces_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *traces;
    if (!_PyArg_NoKeywords("Traces", kwargs)
        || !PyArg_ParseTuple(args, "O:Traces", &traces))
    {
        return NULL;
    }
    struct tracer_snapshot *data = _PyTracemalloc_FromSequence(traces);
    return data == NULL ? NULL : _PyTracemalloc_NewTraces(data);
}

static void
traces_dealloc(TracesObject *self)
{
    clear_cache(self->strings, self->data->nstrings);
    clear_cache(self->frames, self->data->nlocations);
    clear_cache(self->tracebacks, self->data->nnodes);
    _PySnapshot_Free(self->data);
    Py_XDECREF(self->info);
    PyObject_Free(self);
}

static Py_ssize_t
traces_length(TracesObject *self)
{
    return (Py_ssize_t)self->data->nblocks;
}

static PyObject *
traces_item(TracesObject *self, Py_ssize_t i)
{
    struct tracer_snapshot *s = self->data;
    if (i < 0 || (uint64_t)i >= s->nblocks) {
        PyErr_SetString(PyExc_IndexError, "list index out of range");
        return NULL;
    }
    if (_PySnapshot_Truncate(s) < 0 || _PySnapshot_Unpack(s) < 0) {
        return PyErr_NoMemory();
    }
    const struct snapshot_block *block = &s->blocks[i];
    uint32_t nframe = s->nodes[block->node].nframe;
    return Py_BuildValue(
        "NNNN",
        PyLong_FromUnsignedLong(s->classes[block->class_].domain),
        PyLong_FromUnsignedLongLong(block->size),
        _PyTracemalloc_GetFrames(self, block->node),
        nframe == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(nframe));
}

static PyObject *
traces_subscript(TracesObject *self, PyObject *key)
{
    if (!PySlice_Check(key)) {
        Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (i == -1 && PyErr_Occurred()) {
            return NULL;
        }
        return traces_item(self, i < 0 ? i + traces_length(self) : i);
    }
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
        return NULL;
    }
    Py_ssize_t n = PySlice_AdjustIndices(traces_length(self), &start, &stop,
                                         step);
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyObject *item = traces_item(self, start + i * step);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *
traces_richcompare(PyObject *self, PyObject *other, int op)
{
    if ((op != Py_EQ && op != Py_NE)
        || !(PyList_Check(other)
             || Py_IS_TYPE(other, &_PyTracemalloc_Traces_Type)))
    {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Py_ssize_t n = traces_length((TracesObject *)self);
    int equal = n == PySequence_Size(other);
    for (Py_ssize_t i = 0; equal == 1 && i < n; i++) {
        PyObject *a = traces_item((TracesObject *)self, i);
        PyObject *b = a == NULL ? NULL : PySequence_GetItem(other, i);
        equal = b == NULL ? -1 : PyObject_RichCompareBool(a, b, Py_EQ);
        Py_XDECREF(a);
        Py_XDECREF(b);
    }
    if (equal < 0) {
        return NULL;
    }
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *
traces_repr(TracesObject *self)
{
    return PyUnicode_FromFormat("<_tracemalloc.Traces len=%zd>",
                                traces_length(self));
}

PyDoc_STRVAR(copy_doc, "copy($self, /)\n--\n\nReturn a copy.");

static PyObject *
traces_copy(TracesObject *self, PyObject *Py_UNUSED(args))
{
    PyObject *copy = _PyTracemalloc_NewTraces(_PySnapshot_Copy(self->data, 1));
    if (copy != NULL) {
        ((TracesObject *)copy)->info = Py_XNewRef(self->info);
    }
    return copy;
}

PyDoc_STRVAR(peak_doc,
"_peak($self, /)\n--\n\n"
"Return the traces at the peak: sums of call sites, no blocks.");

static PyObject *
traces_peak(TracesObject *self, PyObject *Py_UNUSED(args))
{
    return _PyTracemalloc_NewTraces(_PySnapshot_Peak(self->data));
}

PyDoc_STRVAR(filenames_doc,
"_filenames($self, /)\n--\n\n"
"Return a list of file names and None: the texts of the snapshot.");

static PyObject *
traces_filenames(TracesObject *self, PyObject *Py_UNUSED(args))
{
    struct tracer_snapshot *s = self->data;
    PyObject *list = PyList_New(s->nstrings);
    if (list == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < s->nstrings; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(Py_None));
    }
    for (uint32_t i = 0; i < s->nlocations; i++) {
        uint32_t filename = s->locations[i].filename;
        if (Py_IsNone(PyList_GET_ITEM(list, filename))) {
            PyObject *text = _PyTracemalloc_GetString(self, filename);
            if (text == NULL) {
                Py_DECREF(list);
                return NULL;
            }
            PyList_SetItem(list, filename, text);
        }
    }
    return list;
}

static PyObject *
traces_get_has_blocks(TracesObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->data->has_blocks);
}

static PyObject *
traces_get_info(TracesObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->info == NULL ? Py_None : self->info);
}

static PyGetSetDef traces_getset[] = {
    {"_has_blocks", (getter)traces_get_has_blocks, NULL, NULL, NULL},
    {"_info", (getter)traces_get_info, NULL, NULL, NULL},
    {NULL}
};

PyDoc_STRVAR(group_doc,
"_group($self, key, cumulative, measure, /)\n--\n\n"
"Return the groups that have blocks by that measure, or None.");

PyDoc_STRVAR(write_doc,
"_write($self, fd, meta, /)\n--\n\n"
"Write a snapshot file to the descriptor.");

#define METHOD(NAME, FUNCTION, FLAGS, DOC) \
    {NAME, (PyCFunction)(void (*)(void))FUNCTION, FLAGS, DOC}

static PyMethodDef traces_methods[] = {
    METHOD("copy", traces_copy, METH_NOARGS, copy_doc),
    METHOD("_peak", traces_peak, METH_NOARGS, peak_doc),
    METHOD("_filenames", traces_filenames, METH_NOARGS, filenames_doc),
    METHOD("_group", _PyTracemalloc_Group, METH_VARARGS, group_doc),
    METHOD("_order_blocks", _PyTracemalloc_OrderBlocks, METH_NOARGS, NULL),
    METHOD("_block", _PyTracemalloc_Block, METH_O, NULL),
    METHOD("_call_tree", _PyTracemalloc_CallTree, METH_NOARGS, NULL),
    METHOD("_pinned_arenas", _PyTracemalloc_PinnedArenas, METH_O, NULL),
    METHOD("_rename", _PyTracemalloc_Rename, METH_O, NULL),
    METHOD("_filter", _PyTracemalloc_Filter, METH_O, NULL),
    METHOD("_select", _PyTracemalloc_Select, METH_O, NULL),
    METHOD("_write", _PyTracemalloc_Write, METH_VARARGS, write_doc),
    {NULL}
};

static PySequenceMethods traces_as_sequence = {
    .sq_length = (lenfunc)traces_length,
    .sq_item = (ssizeargfunc)traces_item,
};

static PyMappingMethods traces_as_mapping = {
    .mp_length = (lenfunc)traces_length,
    .mp_subscript = (binaryfunc)traces_subscript,
};

PyDoc_STRVAR(traces_doc,
"Traces(traces, /)\n--\n\n"
"Traces of memory blocks as arrays, made from a sequence of tuples\n"
"(domain, size, frames, total_nframe), frames most recent first.");

PyTypeObject _PyTracemalloc_Traces_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "_tracemalloc_snapshot.Traces",
    .tp_basicsize = sizeof(TracesObject),
    .tp_dealloc = (destructor)traces_dealloc,
    .tp_repr = (reprfunc)traces_repr,
    .tp_as_sequence = &traces_as_sequence,
    .tp_as_mapping = &traces_as_mapping,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_SEQUENCE,
    .tp_doc = traces_doc,
    .tp_richcompare = traces_richcompare,
    .tp_methods = traces_methods,
    .tp_getset = traces_getset,
    .tp_new = traces_new,
};

/* --- Functions of the module */

static PyObject *
build_info(const struct tracer_facts *facts)
{
    static const char *const names[] = {
#define NAME(UNUSED, TEXT) TEXT,
        _PyTracer_FREELISTS(NAME)
#undef NAME
    };
    PyObject *freelists = PyDict_New();
    for (int i = 0; freelists != NULL && i < _PyTracer_NFREELISTS; i++) {
        PyObject *value = Py_BuildValue(
            "(KK)", (unsigned long long)facts->parked[i][0],
            (unsigned long long)facts->parked[i][1]);
        if (value == NULL
            || PyDict_SetItemString(freelists, names[i], value) < 0)
        {
            Py_CLEAR(freelists);
        }
        Py_XDECREF(value);
    }
    return Py_BuildValue("{s(KK)sKsKsKsN}", "traced_memory",
                         (unsigned long long)facts->current,
                         (unsigned long long)facts->peak,
                         "untraced", (unsigned long long)facts->untraced,
                         "folded", (unsigned long long)facts->folded,
                         "pruned", (unsigned long long)facts->pruned,
                         "freelists", freelists);
}

PyDoc_STRVAR(get_traces_doc,
"_get_traces($module, blocks=True, /)\n--\n\n"
"Take a snapshot: return a Traces, empty if tracing is off.\n\n"
"Without blocks, only the sums of the call sites are taken.");

static PyObject *
get_traces(PyObject *Py_UNUSED(module), PyObject *args)
{
    int with_blocks = 1;
    struct tracer_facts facts;
    if (!PyArg_ParseTuple(args, "|p:_get_traces", &with_blocks)) {
        return NULL;
    }
    PyObject *traces = _PyTracemalloc_NewTraces(
        _PyTracer_TakeSnapshot(with_blocks, &facts));
    if (traces != NULL) {
        PyObject *info = build_info(&facts);
        ((TracesObject *)traces)->info = info;
        if (info == NULL) {
            Py_CLEAR(traces);
        }
    }
    return traces;
}

PyDoc_STRVAR(read_traces_doc,
"_read_traces($module, image, /)\n--\n\n"
"Read the bytes of a native snapshot file: return (traces, metadata: str).\n"
"Raise ValueError with the offset and the reason if they are damaged.");

PyDoc_STRVAR(get_arena_stats_doc,
"get_arena_stats($module, /)\n--\n\n"
"Get the use of pymalloc's arenas as a dict: see the documentation of\n"
"tracemalloc.get_arena_stats().");

static PyMethodDef functions[] = {
    METHOD("_get_traces", get_traces, METH_VARARGS, get_traces_doc),
    METHOD("_read_traces", _PyTracemalloc_Read, METH_O, read_traces_doc),
    METHOD("_from_lines", _PyTracemalloc_FromLines, METH_O, NULL),
    METHOD("_read_pickle", _PyTracemalloc_ReadPickle, METH_VARARGS, NULL),
    METHOD("get_arena_stats", _PyTracemalloc_GetArenaStats, METH_NOARGS,
           get_arena_stats_doc),
    {NULL}
};

PyDoc_STRVAR(module_doc,
"Snapshots of the traced memory blocks, see the package tracemalloc.");

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_tracemalloc_snapshot",
    .m_doc = module_doc,
    .m_size = 0,
    .m_methods = functions,
};

static int
add_types(PyObject *module)
{
    if (frame_type == NULL) {
        frame_type = PyStructSequence_NewType(&frame_desc);
    }
    if (frame_type == NULL
        || PyModule_AddObjectRef(module, "FrameInfo",
                                 (PyObject *)frame_type) < 0
        || PyModule_AddType(module, &_PyTracemalloc_Traces_Type) < 0)
    {
        return -1;
    }
    return _PyTracemalloc_AddBlocks(module);
}

PyMODINIT_FUNC
PyInit__tracemalloc_snapshot(void)
{
    _PySnapshot_CRC(0, "", 0);    // makes its tables, while nobody competes
    PyObject *module = PyModule_Create(&module_def);
    if (module != NULL && add_types(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
