/* _take_snapshot(): take a snapshot and hand it over to the module that
   analyses it. Nothing is allocated for the call, as the snapshot would show
   that.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_modsupport.h"    // _PyArg_CheckPositional()
#include "pycore_tracer_compat.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_take.h"
#include "_tracemalloc.h"

static_assert((int)SNAPSHOT_OBJECT == (int)TRACER_OBJECT
              && (int)SNAPSHOT_MEMORY == (int)TRACER_MEMORY
              && (int)SNAPSHOT_RAW == (int)TRACER_RAW
              && (int)SNAPSHOT_EXTERNAL == (int)TRACER_EXTERNAL,
              "kinds have the same numbers in snapshots");

PyObject *
_PyTracemalloc_ParkedDict(uint64_t (*parked)[2])
{
    static const char *const names[] = {
#define NAME(UNUSED, TEXT) TEXT,
        _PyTracer_FREELISTS(NAME)
#undef NAME
    };
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < _PyTracer_HAS_FREELISTS; i++) {
        PyObject *value = Py_BuildValue(
            "KK", (unsigned long long)parked[i][0],
            (unsigned long long)parked[i][1]);
        if (value == NULL
            || PyDict_SetItemString(dict, names[i], value) < 0)
        {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}

static const struct snapshot_location *
location_of(const struct tracer_snapshot *s,
            const struct tracer_growth *growth, uint32_t site)
{
    return &s->locations[growth->sites[site].location];
}

static char *
put(char *p, const void *from, size_t size)
{
    memcpy(p, from, size);
    return p + size;
}

static char *
put_text(char *p, const struct tracer_snapshot *s, uint32_t string)
{
    return put(p, s->text + s->strings[string].offset,
               s->strings[string].length);
}

/* All in one object, of which Lib/tracemalloc/growth.py makes lists. */
static PyObject *
build_growth(const struct tracer_snapshot *s,
             const struct tracer_growth *growth)
{
    if (growth == NULL) {
        return Py_NewRef(Py_None);
    }
    const size_t nsizes = growth->nmoments * sizeof(uint64_t);
    size_t size = 2 * sizeof(uint32_t)
                  + growth->nmoments * sizeof(growth->moments[0]);
    for (uint32_t i = 0; i < growth->nsites; i++) {
        const struct snapshot_location *at = location_of(s, growth, i);
        size += 3 * sizeof(uint32_t) + nsizes + s->strings[at->filename].length
                + s->strings[at->function].length;
    }
    PyObject *packed = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (packed == NULL) {
        return NULL;
    }
    const uint32_t head[] = {growth->nmoments, growth->nsites};
    char *p = put(PyBytes_AS_STRING(packed), head, sizeof(head));
    p = put(p, growth->moments,
            growth->nmoments * sizeof(growth->moments[0]));
    for (uint32_t i = 0; i < growth->nsites; i++) {
        const struct snapshot_location *at = location_of(s, growth, i);
        const uint32_t site[] = {(uint32_t)at->line,
                                 s->strings[at->filename].length,
                                 s->strings[at->function].length};
        p = put(p, site, sizeof(site));
        p = put(p, growth->sites[i].sizes, nsizes);
        p = put_text(p, s, at->filename);
        p = put_text(p, s, at->function);
    }
    assert(p == PyBytes_AS_STRING(packed) + size);
    return packed;
}

static PyObject *
build_moments(const struct tracer_moments *moments)
{
    PyObject *list = PyList_New(moments->n);
    for (uint32_t i = 0; list != NULL && i < moments->n; i++) {
        PyObject *moment = Py_BuildValue(
            "dK", moments->list[i].time,
            (unsigned long long)moments->list[i].size);
        if (moment == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, moment);
    }
    return list;
}

static PyObject *
build_info(const struct tracer_snapshot *s, struct tracer_totals *totals)
{
    return Py_BuildValue("{s(KK)s(KK)sKsKsKsNsNsNsN}", "traced_memory",
                         (unsigned long long)totals->current,
                         (unsigned long long)totals->peak,
                         "native_memory",
                         (unsigned long long)totals->native,
                         (unsigned long long)totals->native_peak,
                         "untraced", (unsigned long long)totals->untraced,
                         "folded", (unsigned long long)totals->folded,
                         "pruned", (unsigned long long)totals->pruned,
                         "freelists",
                         _PyTracemalloc_ParkedDict(totals->parked),
                         "growth", build_growth(s, totals->growth),
                         "peaks", build_moments(&totals->moments),
                         "history", _PyTracemalloc_HistoryBytes(
                             totals->notes, totals->nnotes));
}

/* Taking the snapshot out also removes the name. */
static void
free_capsule(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, SNAPSHOT_CAPSULE)) {
        _PySnapshot_Free(PyCapsule_GetPointer(capsule, SNAPSHOT_CAPSULE));
    }
}

static PyObject *
no_snapshot(const struct tracer_totals *totals)
{
    if (totals->signal != 0) {
        return PyErr_Format(PyExc_ChildProcessError,
                            "the child that looks at the references was "
                            "killed by signal %d", totals->signal);
    }
    if (totals->error != 0) {
        return PyErr_Format(PyExc_OSError,
                            "no child can record the references: %s",
                            strerror(totals->error));
    }
    return PyErr_NoMemory();
}

PyDoc_STRVAR(take_snapshot_doc,
"_take_snapshot($module, blocks, references=0, /)\n--\n\n"
"Take a snapshot: return (capsule, info), empty if tracing is off.\n\n"
"Without blocks, only the sums of the call sites are taken.  references, with\n"
"blocks: 1: who refers to whom; and 2: by which keys; and 4: a child looks; or\n"
"8: one looks if the process is small.");

static PyObject *
take_snapshot(PyObject *Py_UNUSED(module), PyObject *const *args,
              Py_ssize_t nargs)
{
    struct tracer_totals totals;
    if (!_PyArg_CheckPositional("_take_snapshot", nargs, 1, 2)) {
        return NULL;
    }
    int with_blocks = PyObject_IsTrue(args[0]);
    int references = nargs < 2 ? 0 : PyLong_AsInt(args[1]);
    if (with_blocks < 0 || PyErr_Occurred()) {
        return NULL;
    }
    struct tracer_snapshot *s = _PyTracer_TakeSnapshot(with_blocks, references,
                                                       &totals);
    if (s == NULL) {
        return no_snapshot(&totals);
    }
    PyObject *capsule = PyCapsule_New(s, SNAPSHOT_CAPSULE, free_capsule);
    if (capsule == NULL) {
        _PySnapshot_Free(s);
    }
    else {
        capsule = Py_BuildValue("NN", capsule, build_info(s, &totals));
    }
    free(totals.growth);
    free(totals.notes);
    return capsule;
}

static PyMethodDef take_functions[] = {
    {"_take_snapshot", _PyCFunction_CAST(take_snapshot), METH_FASTCALL,
     take_snapshot_doc},
    {NULL}
};

int
_PyTracemalloc_AddTake(PyObject *module)
{
    if (PyModule_AddStringConstant(module, "_snapshot_capsule",
                                   SNAPSHOT_CAPSULE) < 0)
    {
        return -1;
    }
    return PyModule_AddFunctions(module, take_functions);
}
