/* Snapshots made by hand, as the interpreter would hand them over: arrays in,
   the capsule of _take_snapshot() out.  Nothing is checked. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_snapshot.h"
#include "_testtracer.h"

#include <stddef.h>

static void
free_snapshot(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, SNAPSHOT_CAPSULE)) {
        _PySnapshot_Free(PyCapsule_GetPointer(capsule, SNAPSHOT_CAPSULE));
    }
}

/* Copy the bytes of `arrays[name]` to *array. */
static int
copy_array(PyObject *arrays, const char *name, size_t item, void *array,
           uint64_t *n)
{
    PyObject *bytes = PyDict_GetItemString(arrays, name);
    char *data;
    Py_ssize_t size = 0;
    if (bytes != NULL && PyBytes_AsStringAndSize(bytes, &data, &size) < 0) {
        return -1;
    }
    *n = (uint64_t)size / item;
    *(void **)array = _PySnapshot_Array(*n, item);
    if (*(void **)array == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (size > 0) {
        memcpy(*(void **)array, data, (size_t)size);
    }
    return 0;
}

static int
fill_graph(PyObject *arrays, struct snapshot_graph *g)
{
    uint64_t nobjects, nshapes, nnames;
    if (copy_array(arrays, "objects", sizeof(*g->objects), &g->objects,
                   &nobjects) < 0
        || copy_array(arrays, "references", 4, &g->references,
                      &g->nreferences) < 0
        || copy_array(arrays, "shapes", sizeof(*g->shapes), &g->shapes,
                      &nshapes) < 0
        || copy_array(arrays, "names", 4, &g->names, &nnames) < 0
        || copy_array(arrays, "buffers", sizeof(*g->buffers), &g->buffers,
                      &g->nbuffers) < 0)
    {
        return -1;
    }
    g->nobjects = (uint32_t)nobjects - 1;     // the last one is the end
    g->nshapes = (uint32_t)nshapes;
    g->nnames = (uint32_t)nnames;
    g->has_keys = PyDict_GetItemString(arrays, "has_keys") != NULL;
    return 0;
}

static int
fill_snapshot(PyObject *arrays, struct tracer_snapshot *s)
{
    uint64_t nstrings, nlocations, nnodes, nmeasures, nclasses;
    if (copy_array(arrays, "text", 1, &s->text, &s->text_size) < 0
        || copy_array(arrays, "strings", sizeof(*s->strings), &s->strings,
                      &nstrings) < 0
        || copy_array(arrays, "locations", sizeof(*s->locations),
                      &s->locations, &nlocations) < 0
        || copy_array(arrays, "nodes", sizeof(*s->nodes), &s->nodes,
                      &nnodes) < 0
        || copy_array(arrays, "measures", sizeof(*s->measures), &s->measures,
                      &nmeasures) < 0
        || copy_array(arrays, "classes", sizeof(*s->classes), &s->classes,
                      &nclasses) < 0
        || copy_array(arrays, "blocks", sizeof(*s->blocks), &s->blocks,
                      &s->nblocks) < 0)
    {
        return -1;
    }
    s->nstrings = (uint32_t)nstrings;
    s->nlocations = (uint32_t)nlocations;
    s->nnodes = (uint32_t)nnodes;
    s->nmeasures = (uint32_t)nmeasures;
    s->nclasses = (uint32_t)nclasses;
    s->limit = UINT32_MAX;
    s->has_blocks = 1;
    s->graph = _PySnapshot_Zeroed(1, sizeof(*s->graph));
    if (s->graph == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return fill_graph(arrays, s->graph);
}

PyDoc_STRVAR(make_snapshot_doc,
"make_snapshot(arrays, /)\n--\n\n"
"Return a capsule as _tracemalloc._take_snapshot() does, with a graph.\n"
"arrays: dict of the bytes of each array of the structures.");

static PyObject *
make_snapshot(PyObject *Py_UNUSED(module), PyObject *arrays)
{
    if (!PyDict_Check(arrays)) {
        PyErr_SetString(PyExc_TypeError, "arrays must be a dict");
        return NULL;
    }
    struct tracer_snapshot *s = _PySnapshot_New();
    if (s == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = fill_snapshot(arrays, s) < 0
        ? NULL : PyCapsule_New(s, SNAPSHOT_CAPSULE, free_snapshot);
    if (capsule == NULL) {
        _PySnapshot_Free(s);
    }
    return capsule;
}

PyMethodDef _TestTracer_MadeFunctions[] = {
    {"make_snapshot", make_snapshot, METH_O, make_snapshot_doc},
    {NULL}
};
