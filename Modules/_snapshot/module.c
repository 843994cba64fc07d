/* The module _tracemalloc_snapshot and its type Traces: a snapshot as a
   sequence of what stock's _get_traces() lists,

       (domain, size, ((filename, lineno), ...), total_nframe)

   frames most recent first.  Tuples are made when an item is asked for.  The
   type is private to the package tracemalloc, but for its sequence face. */

#include "traces.h"
#include "graph.h"

#include <stdlib.h>

PyTypeObject *_PyTracemalloc_Traces_Type;     // made once, as FrameInfo is

/* --- Traces as a sequence */

PyObject *
_PyTracemalloc_NewTraces(struct tracer_snapshot *data)
{
    if (data == NULL) {
        return PyErr_NoMemory();
    }
    TracesObject *self = PyObject_New(TracesObject,
                                      _PyTracemalloc_Traces_Type);
    if (self == NULL) {
        _PySnapshot_Free(data);
        return NULL;
    }
    self->data = data;
    self->info = NULL;
    self->source = NULL;
    self->strings = NULL;
    self->frames = NULL;
    self->tracebacks = NULL;
    self->places = NULL;
    self->heap = NULL;
    return (PyObject *)self;
}

static PyObject *
traces_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *kwargs)
{
    PyObject *traces;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError,
                        "Traces() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:Traces", &traces)) {
        return NULL;
    }
    struct tracer_snapshot *data = _PyTracemalloc_FromSequence(traces);
    return data == NULL ? NULL : _PyTracemalloc_NewTraces(data);
}

static void
traces_dealloc(TracesObject *self)
{
    _PyTracemalloc_ClearFrames(self);
    _PySnapshot_FreeHeap(self->heap);
    _PySnapshot_Free(self->data);
    Py_XDECREF(self->info);
    Py_XDECREF(self->source);
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_ssize_t
traces_length(TracesObject *self)
{
    return (Py_ssize_t)self->data->nblocks;
}

static PyObject *
make_item(TracesObject *self, Py_ssize_t i)
{
    struct tracer_snapshot *s = self->data;
    if (i < 0 || (uint64_t)i >= s->nblocks) {
        PyErr_SetString(PyExc_IndexError, "list index out of range");
        return NULL;
    }
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    const struct snapshot_block *block = &s->blocks[i];
    uint32_t nframe = s->nodes[block->node].nframe;
    int has_stack = s->classes[block->class_].stack != 0;
    return Py_BuildValue(
        has_stack ? "NNNNN" : "NNNN",
        PyLong_FromUnsignedLong(s->classes[block->class_].domain),
        PyLong_FromUnsignedLongLong(block->size),
        _PyTracemalloc_GetFrames(self, block->node),
        nframe == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(nframe),
        has_stack ? _PyTracemalloc_GetNative(self, block->class_) : NULL);
}

static PyObject *
traces_item(TracesObject *self, Py_ssize_t i)
{
    PyObject *item;
    Py_BEGIN_CRITICAL_SECTION(self);
    item = make_item(self, i);
    Py_END_CRITICAL_SECTION();
    return item;
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
             || Py_IS_TYPE(other, _PyTracemalloc_Traces_Type)))
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
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
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

PyDoc_STRVAR(next_peak_doc,
"_next_peak($self, number, compare, /)\n--\n\n"
"The same of one of the next highest moments, from 0.  If it is to be\n"
"compared, the sums at the peak stay what they are.");

static PyObject *
traces_next_peak(TracesObject *self, PyObject *args)
{
    unsigned int moment;
    int compare;
    if (!PyArg_ParseTuple(args, "Ip:_next_peak", &moment, &compare)) {
        return NULL;
    }
    return _PyTracemalloc_NewTraces(
        _PySnapshot_NextPeak(self->data, moment, compare));
}

PyDoc_STRVAR(cut_doc,
"_cut($self, limit, /)\n--\n\n"
"Return a copy with no more than limit frames of each traceback.");

static PyObject *
traces_cut(TracesObject *self, PyObject *number)
{
    unsigned long limit = PyLong_AsUnsignedLong(number);
    if (limit == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (limit == 0) {
        PyErr_SetString(PyExc_ValueError, "the limit must be positive");
        return NULL;
    }
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    return _PyTracemalloc_NewTraces(_PySnapshot_Cut(
        self->data, (uint32_t)Py_MIN(limit, SNAPSHOT_NONE)));
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
traces_get_has_references(TracesObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->data->graph != NULL);
}

static PyObject *
traces_get_info(TracesObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->info == NULL ? Py_None : self->info);
}

static PyGetSetDef traces_getset[] = {
    {"_has_blocks", (getter)traces_get_has_blocks, NULL, NULL, NULL},
    {"_has_references", (getter)traces_get_has_references, NULL, NULL, NULL},
    {"_info", (getter)traces_get_info, NULL, NULL, NULL},
    {NULL}
};

PyDoc_STRVAR(group_doc,
"_group($self, key, cumulative, measure, lines=None, most=-1, /)\n--\n\n"
"Return how many groups have blocks by that measure, and these groups.");

PyDoc_STRVAR(write_doc,
"_write($self, fd, meta, /)\n--\n\n"
"Write a snapshot file to the descriptor.");

/* Without the GIL, a critical section: items are made, and kept, when they are
   first used. */
#define LOCKED(FUNCTION)                                                \
    static PyObject *                                                   \
    locked_##FUNCTION(PyObject *self, PyObject *args)                   \
    {                                                                   \
        PyObject *result;                                               \
        Py_BEGIN_CRITICAL_SECTION(self);                                \
        result = FUNCTION((TracesObject *)self, args);                  \
        Py_END_CRITICAL_SECTION();                                      \
        return result;                                                  \
    }
LOCKED(traces_copy)
LOCKED(traces_peak)
LOCKED(traces_next_peak)
LOCKED(traces_cut)
LOCKED(traces_filenames)
LOCKED(_PyTracemalloc_Group)
LOCKED(_PyTracemalloc_OrderBlocks)
LOCKED(_PyTracemalloc_Block)
LOCKED(_PyTracemalloc_CallTree)
LOCKED(_PyTracemalloc_PinnedArenas)
LOCKED(_PyTracemalloc_ArenaUse)
LOCKED(_PyTracemalloc_Rename)
LOCKED(_PyTracemalloc_Filter)
LOCKED(_PyTracemalloc_FilterLines)
LOCKED(_PyTracemalloc_SelectLines)
LOCKED(_PyTracemalloc_Select)
LOCKED(_PyTracemalloc_Fold)
LOCKED(_PyTracemalloc_Write)
LOCKED(_PyTracemalloc_ReadReferences)
LOCKED(_PyTracemalloc_GraphTypes)
LOCKED(_PyTracemalloc_Dominators)
LOCKED(_PyTracemalloc_Retained)
LOCKED(_PyTracemalloc_Holders)
LOCKED(_PyTracemalloc_Why)
LOCKED(_PyTracemalloc_WriteHeapSnapshot)

#define METHOD(NAME, FUNCTION, FLAGS, DOC) \
    {NAME, (PyCFunction)(void (*)(void))FUNCTION, FLAGS, DOC}

static PyMethodDef traces_methods[] = {
    METHOD("copy", locked_traces_copy, METH_NOARGS, copy_doc),
    METHOD("_peak", locked_traces_peak, METH_NOARGS, peak_doc),
    METHOD("_next_peak", locked_traces_next_peak, METH_VARARGS,
           next_peak_doc),
    METHOD("_cut", locked_traces_cut, METH_O, cut_doc),
    METHOD("_filenames", locked_traces_filenames, METH_NOARGS, filenames_doc),
    METHOD("_group", locked__PyTracemalloc_Group, METH_VARARGS, group_doc),
    METHOD("_order_blocks", locked__PyTracemalloc_OrderBlocks,
           METH_NOARGS, NULL),
    METHOD("_block", locked__PyTracemalloc_Block, METH_O, NULL),
    METHOD("_call_tree", locked__PyTracemalloc_CallTree, METH_NOARGS, NULL),
    METHOD("_pinned_arenas", locked__PyTracemalloc_PinnedArenas, METH_O, NULL),
    METHOD("_arena_use", locked__PyTracemalloc_ArenaUse, METH_NOARGS, NULL),
    METHOD("_rename", locked__PyTracemalloc_Rename, METH_O, NULL),
    METHOD("_filter", locked__PyTracemalloc_Filter, METH_O, NULL),
    METHOD("_filter_lines", locked__PyTracemalloc_FilterLines, METH_O, NULL),
    METHOD("_select_lines", locked__PyTracemalloc_SelectLines, METH_O, NULL),
    METHOD("_select", locked__PyTracemalloc_Select, METH_O, NULL),
    METHOD("_fold", locked__PyTracemalloc_Fold, METH_VARARGS, NULL),
    METHOD("_write", locked__PyTracemalloc_Write, METH_VARARGS, write_doc),
    METHOD("_read_references", locked__PyTracemalloc_ReadReferences,
           METH_NOARGS, NULL),
    METHOD("_graph_types", locked__PyTracemalloc_GraphTypes, METH_NOARGS,
           NULL),
    METHOD("_dominators", locked__PyTracemalloc_Dominators, METH_NOARGS, NULL),
    METHOD("_retained", locked__PyTracemalloc_Retained, METH_VARARGS, NULL),
    METHOD("_holders", locked__PyTracemalloc_Holders, METH_O, NULL),
    METHOD("_why", locked__PyTracemalloc_Why, METH_VARARGS, NULL),
    METHOD("_write_heapsnapshot", locked__PyTracemalloc_WriteHeapSnapshot,
           METH_O, NULL),
    {NULL}
};

PyDoc_STRVAR(traces_doc,
"Traces(traces, /)\n--\n\n"
"Traces of memory blocks as arrays, made from a sequence of tuples\n"
"(domain, size, frames, total_nframe), frames most recent first.");

static PyType_Slot traces_slots[] = {
    {Py_tp_dealloc, traces_dealloc},
    {Py_tp_repr, traces_repr},
    {Py_sq_length, traces_length},
    {Py_sq_item, traces_item},
    {Py_mp_length, traces_length},
    {Py_mp_subscript, traces_subscript},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_doc, (void *)traces_doc},
    {Py_tp_richcompare, traces_richcompare},
    {Py_tp_methods, traces_methods},
    {Py_tp_getset, traces_getset},
    {Py_tp_new, traces_new},
    {0, NULL}
};

static PyType_Spec traces_spec = {
    .name = "_tracemalloc_snapshot.Traces",
    .basicsize = sizeof(TracesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_SEQUENCE
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = traces_slots,
};

/* --- Functions of the module */

PyDoc_STRVAR(adopt_doc,
"_adopt($module, snapshot, info, /)\n--\n\n"
"Make Traces of what _tracemalloc._take_snapshot() returned.");

static PyObject *
adopt(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule, *info;
    if (!PyArg_ParseTuple(args, "OO!:_adopt", &capsule, &PyDict_Type, &info)) {
        return NULL;
    }
    struct tracer_snapshot *data = PyCapsule_GetPointer(capsule,
                                                        SNAPSHOT_CAPSULE);
    /* Now no one else can take it out, and it is not freed with the
       capsule. */
    if (data == NULL || PyCapsule_SetName(capsule, NULL) < 0) {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_NameDomains(data);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        _PySnapshot_Free(data);
        return PyErr_NoMemory();
    }
    PyObject *traces = _PyTracemalloc_NewTraces(data);
    if (traces != NULL) {
        ((TracesObject *)traces)->info = Py_NewRef(info);
    }
    return traces;
}

PyDoc_STRVAR(read_traces_doc,
"_read_traces($module, image, /)\n--\n\n"
"Read the bytes of a native snapshot file: return (traces, metadata: str).\n"
"Raise ValueError with the offset and the reason if they are damaged.");

PyDoc_STRVAR(read_kept_doc,
"_read_kept($module, image, /)\n--\n\n"
"Read the bytes of a kept call tree: return (traces, what is known of its\n"
"process: dict).  ValueError is as that of _read_traces().");

static PyMethodDef functions[] = {
    METHOD("_adopt", adopt, METH_VARARGS, adopt_doc),
    METHOD("_read_traces", _PyTracemalloc_Read, METH_O, read_traces_doc),
    METHOD("_read_kept", _PyTracemalloc_ReadKept, METH_O, read_kept_doc),
    METHOD("_from_lines", _PyTracemalloc_FromLines, METH_O, NULL),
    METHOD("_read_pickle", _PyTracemalloc_ReadPickle, METH_VARARGS, NULL),
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
    if (_PyTracemalloc_Traces_Type == NULL) {
        _PyTracemalloc_Traces_Type =
            (PyTypeObject *)PyType_FromSpec(&traces_spec);
    }
    return _PyTracemalloc_Traces_Type == NULL
           || _PyTracemalloc_AddFrames(module) < 0
           || PyModule_AddType(module, _PyTracemalloc_Traces_Type) < 0
           || _PyTracemalloc_AddBlocks(module) < 0 ? -1 : 0;
}

/* An interpreter with a tracer must hand over snapshots in the form that this
   module knows; one without has only snapshots from files. */
static int
check_interpreter(void)
{
    PyObject *tracer = PyImport_ImportModule("_tracemalloc");
    if (tracer == NULL) {
        return -1;
    }
    PyObject *capsule = PyDict_GetItemString(PyModule_GetDict(tracer),
                                             "_snapshot_capsule");
    int wrong = capsule != NULL
        && (!PyUnicode_Check(capsule)
            || PyUnicode_CompareWithASCIIString(capsule, SNAPSHOT_CAPSULE));
    if (wrong) {
        PyErr_Format(PyExc_ImportError,
                     "_tracemalloc_snapshot is of another build than this "
                     "interpreter (" SNAPSHOT_CAPSULE ", not %S): install "
                     "both from one build", capsule);
    }
    Py_DECREF(tracer);
    return wrong ? -1 : 0;
}

PyMODINIT_FUNC
PyInit__tracemalloc_snapshot(void)
{
    if (check_interpreter() < 0) {
        return NULL;
    }
    /* Both make tables, which must be done before other threads can use
       them. */
    struct snapshot_pairs pairs = {0};
    _PySnapshot_CRC(0, "", 0);
    int result = _PySnapshot_PairsInit(&pairs);
    _PySnapshot_PairsFree(&pairs);
    if (result < 0) {
        return PyErr_NoMemory();
    }
    PyObject *module = PyModule_Create(&module_def);
    if (module == NULL) {
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    if (PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0) {
        Py_DECREF(module);
        return NULL;
    }
#endif
    if (add_types(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
