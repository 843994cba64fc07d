/* The law of the heap graph, looked at in a running process: no object has
   fewer references than lead to it. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_heap.h"
#include "pycore_tracer_lock.h"   // _PyTracer_StopWorld()
#include "_testtracer.h"

/* What was seen, while no Python object may be made. */
struct law {
    size_t nmortal, nbroken, nsurplus, nuncounted;
    uint32_t *incoming;           // references that lead to each object
};

static int
look(struct tracer_heap *heap, struct law *law)
{
    const struct snapshot_graph *g = heap->graph;
    law->incoming = PyMem_RawCalloc(g->nobjects, sizeof(*law->incoming));
    if (law->incoming == NULL) {
        return -1;
    }
    for (uint64_t e = 0; e < g->nreferences; e++) {
        law->incoming[g->references[e]]++;
    }
    for (uint32_t i = SNAPSHOT_NFIXED; i < g->nobjects; i++) {
        uint32_t references = g->objects[i].surplus;
        if (references == SNAPSHOT_IMMORTAL) {
            continue;
        }
        law->nmortal++;
        law->nuncounted += references == SNAPSHOT_UNCOUNTED;
        law->nbroken += references < law->incoming[i];
        law->nsurplus += references != SNAPSHOT_UNCOUNTED
                         && references > law->incoming[i];
    }
    return 0;
}

/* The name of the type, counted. */
static int
count_type(PyObject *counts, const struct snapshot_graph *g, uint32_t object)
{
    uint32_t type = g->objects[object].type;
    const char *name = type == 0
        ? "?" : ((PyTypeObject *)g->objects[type].address)->tp_name;
    PyObject *old = PyDict_GetItemString(counts, name);
    PyObject *count = PyLong_FromLong(old == NULL ? 1
                                      : PyLong_AsLong(old) + 1);
    int result = count == NULL
        ? -1 : PyDict_SetItemString(counts, name, count);
    Py_XDECREF(count);
    return result;
}

/* By type: objects with fewer references, if `broken`, or with more. */
static PyObject *
count_types(const struct snapshot_graph *g, const struct law *law, int broken)
{
    PyObject *counts = PyDict_New();
    for (uint32_t i = SNAPSHOT_NFIXED; counts != NULL && i < g->nobjects;
         i++)
    {
        uint32_t references = g->objects[i].surplus;
        if (references < SNAPSHOT_UNCOUNTED
            && (broken ? references < law->incoming[i]
                       : references > law->incoming[i])
            && count_type(counts, g, i) < 0)
        {
            Py_CLEAR(counts);
        }
    }
    return counts;
}

/* heap_law() -> dict: objects, references, mortal; those that break the law,
   and that have references left over, by type; seconds that it took. */
static PyObject *
heap_law(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct tracer_heap heap;
    struct law law = {0};
    PyTime_t start, end;
    int result = _PyTracer_PrepareHeap(&heap, 1 << 20, 1);
    _PyTracer_StopWorld();
    (void)PyTime_MonotonicRaw(&start);
    result = result == 0 ? _PyTracer_CaptureHeap(&heap, 0) : result;
    (void)PyTime_MonotonicRaw(&end);
    if (result == 0) {
        result = look(&heap, &law);
    }
    _PyTracer_StartWorld();
    PyObject *found = NULL;
    if (result < 0) {
        PyErr_NoMemory();
    }
    else {
        found = Py_BuildValue(
            "{sdsIsKsnsnsnsnsNsN}", "seconds", (double)(end - start) * 1e-9,
            "objects", heap.graph->nobjects,
            "references", (unsigned long long)heap.graph->nreferences,
            "mortal", (Py_ssize_t)law.nmortal,
            "uncounted", (Py_ssize_t)law.nuncounted,
            "broken", (Py_ssize_t)law.nbroken,
            "surplus", (Py_ssize_t)law.nsurplus,
            "broken types", count_types(heap.graph, &law, 1),
            "surplus types", count_types(heap.graph, &law, 0));
    }
    PyMem_RawFree(law.incoming);
    _PyTracer_FreeHeap(&heap);
    return found;
}

/* A reference that nobody can see, and one that is missing. */
static PyObject *
leak_reference(PyObject *Py_UNUSED(module), PyObject *op)
{
    Py_INCREF(op);
    Py_RETURN_NONE;
}

static PyObject *
drop_reference(PyObject *Py_UNUSED(module), PyObject *op)
{
    Py_DECREF(op);
    Py_RETURN_NONE;
}

PyMethodDef _TestTracer_HeapFunctions[] = {
    {"leak_reference", leak_reference, METH_O, NULL},
    {"drop_reference", drop_reference, METH_O, NULL},
    {"heap_law", heap_law, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
