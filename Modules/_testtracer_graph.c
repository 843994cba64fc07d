/* The heap graph of a snapshot as Python objects. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "_snapshot/traces.h"     // TracesObject
#include "_testtracer.h"

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
    const struct snapshot_shape *shape = &_PySnapshot_Graph(s)->shapes[i];
    PyObject *names = PyTuple_New(shape->n);
    for (uint32_t j = 0; names != NULL && j < shape->n; j++) {
        PyTuple_SET_ITEM(names, j, get_text(
            s, _PySnapshot_Graph(s)->names[shape->first + j]));
    }
    return Py_BuildValue("IN", shape->kind, names);
}

static PyObject *
get_object(const struct tracer_snapshot *s, uint32_t i)
{
    const struct snapshot_object *object = &_PySnapshot_Graph(s)->objects[i];
    uint64_t n = object[1].first - object->first;
    PyObject *references = PyTuple_New((Py_ssize_t)n);
    for (uint64_t j = 0; references != NULL && j < n; j++) {
        PyTuple_SET_ITEM(references, (Py_ssize_t)j, PyLong_FromUnsignedLong(
            _PySnapshot_Graph(s)->references[object->first + j]));
    }
    return Py_BuildValue("KIIINN", (unsigned long long)object->address,
                         object->type, object->shape, object->surplus,
                         get_text(s, object->text), references);
}

static PyObject *
get_buffer(const struct tracer_snapshot *s, uint32_t i)
{
    const struct snapshot_buffer *buffer = &_PySnapshot_Graph(s)->buffers[i];
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
    if (strcmp(Py_TYPE(traces)->tp_name,
               "_tracemalloc_snapshot.Traces") != 0)
    {
        PyErr_SetString(PyExc_TypeError, "Traces expected");
        return NULL;
    }
    const struct tracer_snapshot *s = ((TracesObject *)traces)->data;
    PyObject *read = PyObject_CallMethod(traces, "_read_references", NULL);
    if (read == NULL) {
        return NULL;
    }
    Py_DECREF(read);
    const struct snapshot_graph *graph = _PySnapshot_Graph(s);
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
    {"get_graph", get_graph, METH_O, NULL},
    {NULL, NULL, 0, NULL}
};
