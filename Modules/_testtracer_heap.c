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
    uint32_t nobjects;
    size_t nunnamed;              // have more than libraries may hold
    uint32_t *references;         // of each object: its count, or which none
    uint32_t *incoming;           // that lead to it
};

static int
look(struct tracer_heap *heap, struct law *law)
{
    const struct snapshot_graph *g = heap->graph;
    law->incoming = PyMem_RawCalloc(g->nobjects, sizeof(*law->incoming));
    law->references = PyMem_RawCalloc(g->nobjects, sizeof(*law->references));
    if (law->incoming == NULL || law->references == NULL) {
        return -1;
    }
    law->nobjects = g->nobjects;
    for (uint64_t e = 0; e < g->nreferences; e++) {
        law->incoming[g->references[e]]++;
    }
    for (uint32_t i = SNAPSHOT_NFIXED; i < g->nobjects; i++) {
        uint32_t references = g->objects[i].surplus;
        law->references[i] = references;
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

/* Libraries become objects, and hold no more than is left over. */
static void
scan(struct tracer_heap *heap, const struct tracer_segments *segments,
     struct law *law)
{
    const struct snapshot_graph *g = heap->graph;
    uint32_t nobjects = g->nobjects;
    uint64_t e = g->nreferences;
    _PyTracer_CountSurplus(heap);
    _PyTracer_ScanSegments(heap, segments);
    for (uint32_t i = SNAPSHOT_NFIXED; i < nobjects; i++) {
        uint32_t left = g->objects[i].surplus;
        law->nunnamed += left != 0 && left < SNAPSHOT_UNCOUNTED;
    }
    for (; e < g->nreferences; e++) {
        uint32_t i = g->references[e];
        law->nbroken += law->references[i] < ++law->incoming[i];
    }
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
    for (uint32_t i = SNAPSHOT_NFIXED; counts != NULL && i < law->nobjects;
         i++)
    {
        uint32_t references = law->references[i];
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

/* heap_law(segments: int = 0) -> dict: objects, references, mortal; those
   that break the law, and that have references left over, by type; seconds
   that it took.  With segments, libraries are objects that hold some of what
   is left over: how much they leave, and seconds that it took.  2: one is said
   to have data where there is none. */
static PyObject *
heap_law(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct tracer_heap heap;
    struct tracer_heap_interpreters interpreters;
    struct tracer_segments segments = {NULL};
    struct law law = {0};
    PyTime_t start, middle, end;
    int with_segments = 0;
    if (!PyArg_ParseTuple(args, "|i:heap_law", &with_segments)) {
        return NULL;
    }
    int result = _PyTracer_PrepareHeap(&heap, 1 << 20, 1);
    if (with_segments) {
        _PyTracer_ListSegments(&segments);
    }
    if (with_segments == 2 && segments.n > 0) {
        segments.list[0].begin -= 1 << 24;
        segments.list[0].end += 1 << 24;
    }
    _PyTracer_StopWorld();
    (void)PyTime_MonotonicRaw(&start);
    _PyTracer_ListInterpreters(&interpreters);
    result = result == 0 ? _PyTracer_CaptureHeap(&heap, &interpreters, 0)
                         : result;
    (void)PyTime_MonotonicRaw(&end);
    double seconds = (double)(end - start) * 1e-9;
    if (result == 0) {
        result = look(&heap, &law);
    }
    (void)PyTime_MonotonicRaw(&middle);
    if (result == 0 && with_segments) {
        scan(&heap, &segments, &law);
    }
    (void)PyTime_MonotonicRaw(&end);
    _PyTracer_StartWorld();
    PyObject *found = NULL;
    if (result < 0) {
        PyErr_NoMemory();
    }
    else {
        found = Py_BuildValue(
            "{sdsdsIsKsnsnsnsnsnsNsN}", "seconds", seconds,
            "scan seconds", (double)(end - middle) * 1e-9,
            "objects", law.nobjects,
            "references", (unsigned long long)heap.graph->nreferences,
            "mortal", (Py_ssize_t)law.nmortal,
            "uncounted", (Py_ssize_t)law.nuncounted,
            "broken", (Py_ssize_t)law.nbroken,
            "surplus", (Py_ssize_t)law.nsurplus,
            "unnamed", (Py_ssize_t)law.nunnamed,
            "broken types", count_types(heap.graph, &law, 1),
            "surplus types", count_types(heap.graph, &law, 0));
    }
    PyMem_RawFree(law.references);
    PyMem_RawFree(law.incoming);
    _PyTracer_FreeSegments(&segments);
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

/* In a static variable: with a reference, or without one. */
static PyObject *kept, *borrowed;

static PyObject *
keep_reference(PyObject *Py_UNUSED(module), PyObject *op)
{
    Py_XSETREF(kept, op == Py_None ? NULL : Py_NewRef(op));
    Py_RETURN_NONE;
}

static PyObject *
keep_address(PyObject *Py_UNUSED(module), PyObject *op)
{
    borrowed = op == Py_None ? NULL : op;
    return PyBool_FromLong(borrowed != NULL);
}

PyMethodDef _TestTracer_HeapFunctions[] = {
    {"keep_reference", keep_reference, METH_O, NULL},
    {"keep_address", keep_address, METH_O, NULL},
    {"leak_reference", leak_reference, METH_O, NULL},
    {"drop_reference", drop_reference, METH_O, NULL},
    {"heap_law", heap_law, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}
};
