/* Heap graphs that a test makes up: into a snapshot, and out of it. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "_snapshot/traces.h"     // TracesObject
#include "_testtracer.h"

/* Store the number of the text; -1 with an exception. */
static int
add_text(struct tracer_snapshot *s, PyObject *text, uint32_t *number)
{
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &length);
    if (utf8 == NULL) {
        return -1;
    }
    *number = _PySnapshot_AddString(s, utf8, (uint32_t)length);
    if (*number == SNAPSHOT_NONE) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Numbers of a sequence, at the end of an array of 32-bit ones. */
static int
append(uint32_t **array, uint64_t *used, PyObject *numbers)
{
    Py_ssize_t n = PySequence_Size(numbers);
    void *p = n < 0 ? NULL : _PySnapshot_Resize(*array, *used + (uint64_t)n,
                                                sizeof(**array));
    if (p == NULL) {
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    }
    *array = p;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *number = PySequence_GetItem(numbers, i);
        (*array)[(*used)++] = (uint32_t)PyLong_AsUnsignedLong(number);
        Py_XDECREF(number);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* (kind, names) */
static int
set_shape(struct tracer_snapshot *s, struct snapshot_shape *shape,
          PyObject *item)
{
    struct snapshot_graph *graph = s->graph;
    PyObject *names;
    if (!PyArg_ParseTuple(item, "IO!", &shape->kind, &PyTuple_Type, &names)) {
        return -1;
    }
    shape->first = graph->nnames;
    shape->n = (uint32_t)PyTuple_GET_SIZE(names);
    void *p = _PySnapshot_Resize(graph->names,
                                 (uint64_t)graph->nnames + shape->n,
                                 sizeof(*graph->names));
    if (p == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    graph->names = p;
    for (uint32_t i = 0; i < shape->n; i++) {
        if (add_text(s, PyTuple_GET_ITEM(names, i),
                     &graph->names[graph->nnames++]) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* (address, type, shape, surplus, text or None, references) */
static int
set_object(struct tracer_snapshot *s, struct snapshot_object *object,
           PyObject *item)
{
    unsigned long long address;
    PyObject *text, *references;
    object->text = SNAPSHOT_NONE;
    object->first = s->graph->nreferences;
    if (!PyArg_ParseTuple(item, "KIIIOO", &address, &object->type,
                          &object->shape, &object->surplus, &text,
                          &references)
        || (text != Py_None && add_text(s, text, &object->text) < 0))
    {
        return -1;
    }
    object->address = address;
    return append(&s->graph->references, &s->graph->nreferences, references);
}

static int
fill_graph(struct tracer_snapshot *s, PyObject *objects, PyObject *shapes,
           PyObject *buffers)
{
    struct snapshot_graph *graph = s->graph;
    graph->nobjects = (uint32_t)PyList_GET_SIZE(objects);
    graph->nshapes = SNAPSHOT_NFIXED_SHAPES
                     + (uint32_t)PyList_GET_SIZE(shapes);
    graph->nbuffers = (uint64_t)PyList_GET_SIZE(buffers);
    graph->objects = _PySnapshot_Zeroed((uint64_t)graph->nobjects + 1,
                                        sizeof(*graph->objects));
    graph->shapes = _PySnapshot_Zeroed(graph->nshapes,
                                       sizeof(*graph->shapes));
    graph->buffers = _PySnapshot_Zeroed(graph->nbuffers,
                                        sizeof(*graph->buffers));
    if (graph->objects == NULL || graph->shapes == NULL
        || graph->buffers == NULL)
    {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < graph->nshapes; i++) {
        struct snapshot_shape *shape = &graph->shapes[i];
        shape->kind = i;
        if (i >= SNAPSHOT_NFIXED_SHAPES
            && set_shape(s, shape, PyList_GET_ITEM(
                   shapes, i - SNAPSHOT_NFIXED_SHAPES)) < 0)
        {
            return -1;
        }
    }
    for (uint32_t i = 0; i < graph->nobjects; i++) {
        if (set_object(s, &graph->objects[i], PyList_GET_ITEM(objects, i)) < 0)
        {
            return -1;
        }
    }
    graph->objects[graph->nobjects].first = graph->nreferences;
    for (uint64_t i = 0; i < graph->nbuffers; i++) {
        unsigned long long address;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(buffers, (Py_ssize_t)i), "KI",
                              &address, &graph->buffers[i].object))
        {
            return -1;
        }
        graph->buffers[i].address = address;
    }
    return 0;
}

/* set_graph(capsule of a snapshot, objects, shapes, buffers, keys): lists as
   get_graph() returns them; nothing is checked. */
static PyObject *
set_graph(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule, *objects, *shapes, *buffers;
    int keys;
    if (!PyArg_ParseTuple(args, "OO!O!O!p", &capsule, &PyList_Type, &objects,
                          &PyList_Type, &shapes, &PyList_Type, &buffers,
                          &keys))
    {
        return NULL;
    }
    struct tracer_snapshot *s = PyCapsule_GetPointer(capsule,
                                                     SNAPSHOT_CAPSULE);
    if (s == NULL) {
        return NULL;
    }
    _PySnapshot_FreeGraph(s->graph);
    s->graph = _PySnapshot_Zeroed(1, sizeof(*s->graph));
    if (s->graph == NULL) {
        return PyErr_NoMemory();
    }
    s->graph->has_keys = (uint32_t)keys;
    if (fill_graph(s, objects, shapes, buffers) < 0) {
        _PySnapshot_FreeGraph(s->graph);
        s->graph = NULL;
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
get_text(const struct tracer_snapshot *s, uint32_t number)
{
    return number == SNAPSHOT_NONE ? Py_NewRef(Py_None)
        : PyUnicode_FromStringAndSize(s->text + s->strings[number].offset,
                                      s->strings[number].length);
}

static PyObject *
get_shape(const struct tracer_snapshot *s, uint32_t i)
{
    const struct snapshot_shape *shape = &s->graph->shapes[i];
    PyObject *names = PyTuple_New(shape->n);
    for (uint32_t j = 0; names != NULL && j < shape->n; j++) {
        PyTuple_SET_ITEM(names, j, get_text(
            s, s->graph->names[shape->first + j]));
    }
    return Py_BuildValue("IN", shape->kind, names);
}

static PyObject *
get_object(const struct tracer_snapshot *s, uint32_t i)
{
    const struct snapshot_object *object = &s->graph->objects[i];
    uint64_t n = object[1].first - object->first;
    PyObject *references = PyTuple_New((Py_ssize_t)n);
    for (uint64_t j = 0; references != NULL && j < n; j++) {
        PyTuple_SET_ITEM(references, (Py_ssize_t)j, PyLong_FromUnsignedLong(
            s->graph->references[object->first + j]));
    }
    return Py_BuildValue("KIIINN", (unsigned long long)object->address,
                         object->type, object->shape, object->surplus,
                         get_text(s, object->text), references);
}

static PyObject *
get_buffer(const struct tracer_snapshot *s, uint32_t i)
{
    const struct snapshot_buffer *buffer = &s->graph->buffers[i];
    return Py_BuildValue("KI", (unsigned long long)buffer->address,
                         buffer->object);
}

static PyObject *
get_list(const struct tracer_snapshot *s, uint64_t start, uint64_t n,
         PyObject *(*get)(const struct tracer_snapshot *, uint32_t))
{
    PyObject *list = PyList_New((Py_ssize_t)(n - start));
    for (uint64_t i = start; list != NULL && i < n; i++) {
        PyObject *item = get(s, (uint32_t)i);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)(i - start), item);
    }
    return list;
}

/* get_graph(traces) -> (objects, shapes, buffers, keys), or None; the first
   shapes, which are always the same, are not among them. */
static PyObject *
get_graph(PyObject *Py_UNUSED(module), PyObject *traces)
{
    if (strcmp(Py_TYPE(traces)->tp_name, "_tracemalloc_snapshot.Traces") != 0) {
        PyErr_SetString(PyExc_TypeError, "Traces expected");
        return NULL;
    }
    const struct tracer_snapshot *s = ((TracesObject *)traces)->data;
    const struct snapshot_graph *graph = s->graph;
    if (graph == NULL) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue(
        "NNNN", get_list(s, 0, graph->nobjects, get_object),
        get_list(s, SNAPSHOT_NFIXED_SHAPES, graph->nshapes, get_shape),
        get_list(s, 0, graph->nbuffers, get_buffer),
        PyBool_FromLong(graph->has_keys != 0));
}

PyMethodDef _TestTracer_GraphFunctions[] = {
    {"set_graph", set_graph, METH_VARARGS, NULL},
    {"get_graph", get_graph, METH_O, NULL},
    {NULL, NULL, 0, NULL}
};
