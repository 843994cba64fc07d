/* Texts, frames and tracebacks of a snapshot as Python objects.

   They are made when they are first asked for, and kept, so that equal
   tracebacks are one tuple.  FrameInfo, the type of a frame, is made once for
   the process.

   All functions are called with the GIL held, or with the Traces locked. */

#include "traces.h"

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

/* Pickles must be readable where FrameInfo does not exist. */
static PyObject *
reduce_frame(PyObject *frame, PyObject *Py_UNUSED(args))
{
    PyObject *plain = PySequence_Tuple(frame);
    return plain == NULL ? NULL
                         : Py_BuildValue("O(N)", &PyTuple_Type, plain);
}

static PyMethodDef reduce_def = {
    "__reduce__", reduce_frame, METH_NOARGS, NULL
};

static PyTypeObject *
make_frame_type(void)
{
    PyTypeObject *type = PyStructSequence_NewType(&frame_desc);
    if (type == NULL) {
        return NULL;
    }
    PyObject *method = PyDescr_NewMethod(type, &reduce_def);
    if (method == NULL
        || PyObject_SetAttrString((PyObject *)type, "__reduce__", method) < 0)
    {
        Py_CLEAR(type);
    }
    Py_XDECREF(method);
    return type;
}

int
_PyTracemalloc_AddFrames(PyObject *module)
{
    if (frame_type == NULL) {
        frame_type = make_frame_type();
    }
    return frame_type == NULL ? -1
        : PyModule_AddObjectRef(module, "FrameInfo", (PyObject *)frame_type);
}

/* --- Of one snapshot */

static PyObject *
cached(PyObject ***cache, uint32_t n, uint32_t i)
{
    assert(i < n);
    if (*cache == NULL) {
        *cache = _PySnapshot_Zeroed((size_t)n + 1, sizeof(PyObject *));
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
    _PySnapshot_Release(cache);
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

/* --- C frames */

static PyObject *
native_frame(TracesObject *self, uint32_t i)
{
    const struct snapshot_native *native = self->data->native;
    assert(i < native->nplaces);
    PyObject *frame = cached(&self->places, native->nplaces, i);
    if (frame != NULL || self->places == NULL) {
        return frame;
    }
    const struct snapshot_code *place = &native->places[i];
    const struct snapshot_module *module = &native->modules[place->module];
    char id[2 * SNAPSHOT_BUILD_ID + 1] = "";
    for (uint32_t j = 0; j < module->id_size; j++) {
        sprintf(id + 2 * j, "%02x", module->id[j]);
    }
    frame = Py_BuildValue(
        "NsKK", PyUnicode_DecodeUTF8(native->text + module->path,
                                     (Py_ssize_t)module->path_size,
                                     "surrogatepass"),
        id, (unsigned long long)place->offset,
        (unsigned long long)module->base);
    self->places[i] = Py_XNewRef(frame);
    return frame;
}

PyObject *
_PyTracemalloc_GetNative(TracesObject *self, uint32_t class_)
{
    const struct tracer_snapshot *s = self->data;
    if (s->classes[class_].domain != SNAPSHOT_NATIVE_DOMAIN) {
        Py_RETURN_NONE;
    }
    struct snapshot_stack stack = {0, 0};
    if (s->classes[class_].stack != 0) {
        stack = s->native->stacks[s->classes[class_].stack];
    }
    PyObject *frames = PyTuple_New((Py_ssize_t)stack.n);
    for (uint32_t i = 0; frames != NULL && i < stack.n; i++) {
        PyObject *frame = native_frame(
            self, s->native->frames[stack.first + i]);
        if (frame == NULL) {
            Py_CLEAR(frames);
            break;
        }
        PyTuple_SET_ITEM(frames, (Py_ssize_t)i, frame);
    }
    return frames;
}

void
_PyTracemalloc_ClearFrames(TracesObject *self)
{
    clear_cache(self->strings, self->data->nstrings);
    clear_cache(self->frames, self->data->nlocations);
    clear_cache(self->tracebacks, self->data->nnodes);
    if (self->data->native != NULL) {
        clear_cache(self->places, self->data->native->nplaces);
    }
}
