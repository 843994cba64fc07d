/* The context manager tracemalloc.measure: memory of a block of code.

   Each measure follows its own peak, so that measures nest and the peak of
   get_traced_memory() and reset_peak() stays as it is. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_modsupport.h"    // _PyArg_NoKeywords()
#include "pycore_tracer_count.h"
#include "pycore_tracer_state.h"
#include "_tracemalloc.h"

#include <stddef.h>               // offsetof()

typedef struct {
    PyObject_HEAD
    struct tracer_measure follow;
    int running;
    int64_t base;                 // traced memory at the start
    uint64_t base_size, base_count;
    /* Results, once it has ended. */
    int64_t current, peak, total_size, total_count;
} MeasureObject;

static void
update(MeasureObject *self)
{
    uint64_t size, count;
    int64_t peak;
    if (!self->running) {
        return;
    }
    int64_t current = _PyTracer_LookAtMeasure(&self->follow, &peak);
    self->current = current - self->base;
    self->peak = peak - self->base;
    _PyTracer_SumTotals(&size, &count);
    /* After clear_traces() or stop() in between, the sums start again. */
    self->total_size = size < self->base_size
        ? (int64_t)size : (int64_t)(size - self->base_size);
    self->total_count = count < self->base_count
        ? (int64_t)count : (int64_t)(count - self->base_count);
}

static void
end(MeasureObject *self)
{
    if (self->running) {
        update(self);
        _PyTracer_EndMeasure(&self->follow);
        self->running = 0;
    }
}

static PyObject *
measure_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (!_PyArg_NoKeywords("measure", kwargs)
        || !PyArg_ParseTuple(args, ":measure"))
    {
        return NULL;
    }
    return type->tp_alloc(type, 0);
}

static void
measure_dealloc(MeasureObject *self)
{
    end(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
begin(MeasureObject *self)
{
    if (!_PyTracer.tracing) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the tracemalloc module must be tracing memory "
                        "allocations to measure them");
        return -1;
    }
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this measure is running already: make another one");
        return -1;
    }
    _PyTracer_SumTotals(&self->base_size, &self->base_count);
    self->base = _PyTracer_BeginMeasure(&self->follow);
    self->running = 1;
    return 0;
}

static PyObject *
measure_enter(MeasureObject *self, PyObject *Py_UNUSED(args))
{
    int result;
    Py_BEGIN_CRITICAL_SECTION(self);
    result = begin(self);
    Py_END_CRITICAL_SECTION();
    return result < 0 ? NULL : Py_NewRef(self);
}

static PyObject *
measure_exit(MeasureObject *self, PyObject *Py_UNUSED(args))
{
    Py_BEGIN_CRITICAL_SECTION(self);
    end(self);
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static PyObject *
measure_get(MeasureObject *self, void *closure)
{
    int64_t value;
    Py_BEGIN_CRITICAL_SECTION(self);
    update(self);
    value = *(int64_t *)((char *)self + (size_t)closure);
    Py_END_CRITICAL_SECTION();
    return PyLong_FromLongLong(value);
}

#define RESULT(NAME, DOC)                                               \
    {#NAME, (getter)measure_get, NULL, PyDoc_STR(DOC),                  \
     (void *)offsetof(MeasureObject, NAME)}

static PyGetSetDef measure_getset[] = {
    RESULT(current, "Traced memory in bytes, less that at the start."),
    RESULT(peak, "Highest traced memory in bytes, less that at the start."),
    RESULT(total_size, "Bytes allocated since the start."),
    RESULT(total_count, "Blocks allocated since the start."),
    {NULL}
};

static PyMethodDef measure_methods[] = {
    {"__enter__", (PyCFunction)measure_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)measure_exit, METH_VARARGS,
     PyDoc_STR("__exit__($self, /, *exc_info)\n--\n\n")},
    {NULL}
};

PyDoc_STRVAR(measure_doc,
"measure()\n--\n\n"
"Context manager: measure the traced memory of a block of code.\n\n"
"current, peak, total_size and total_count may be read inside the block and\n"
"keep their values after it.  Measures may be nested, and run in several\n"
"threads: each sees what the whole process allocates.");

static PyTypeObject measure_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "tracemalloc.measure",
    .tp_basicsize = sizeof(MeasureObject),
    .tp_dealloc = (destructor)measure_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = measure_doc,
    .tp_methods = measure_methods,
    .tp_getset = measure_getset,
    .tp_new = measure_new,
};

int
_PyTracemalloc_AddMeasure(PyObject *module)
{
    return PyModule_AddType(module, &measure_type);
}
