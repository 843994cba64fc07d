/* Callables that hide the thread while they run, or show it again: functions
   that inspect the traced memory are hidden, and functions of the program that
   these call are shown.  The thread is hidden before anything is allocated for
   the call, so that sums and peak do not change by a byte. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_hide.h"
#include "_tracemalloc.h"

#include <stddef.h>               // offsetof()

typedef struct {
    PyObject_HEAD
    PyObject *function;
    PyObject *dict;
    vectorcallfunc vectorcall;
    int hide;
} CallableObject;

static PyObject *
callable_call(PyObject *op, PyObject *const *args, size_t nargsf,
              PyObject *kwnames)
{
    CallableObject *self = (CallableObject *)op;
    int hidden = _PyTracer_HideThread(self->hide);
    PyObject *result = PyObject_Vectorcall(self->function, args, nargsf,
                                           kwnames);
    (void)_PyTracer_HideThread(hidden);
    return result;
}

static PyObject *
callable_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL || object == Py_None ? Py_NewRef(self)
                                               : PyMethod_New(self, object);
}

static int
callable_traverse(PyObject *op, visitproc visit, void *arg)
{
    CallableObject *self = (CallableObject *)op;
    Py_VISIT(self->function);
    Py_VISIT(self->dict);
    return 0;
}

static int
callable_clear(PyObject *op)
{
    CallableObject *self = (CallableObject *)op;
    Py_CLEAR(self->function);
    Py_CLEAR(self->dict);
    return 0;
}

static void
callable_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    (void)callable_clear(op);
    Py_TYPE(op)->tp_free(op);
}

static PyObject *
callable_repr(PyObject *op)
{
    return PyObject_Repr(((CallableObject *)op)->function);
}

/* Pickled by its name, as a function is. */
static PyObject *
callable_reduce(PyObject *self, PyObject *Py_UNUSED(args))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

static PyMethodDef callable_methods[] = {
    {"__reduce__", callable_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};

static PyGetSetDef callable_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}
};

static PyTypeObject callable_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "_tracemalloc._Callable",
    .tp_basicsize = sizeof(CallableObject),
    .tp_dealloc = callable_dealloc,
    .tp_vectorcall_offset = offsetof(CallableObject, vectorcall),
    .tp_repr = callable_repr,
    .tp_call = PyVectorcall_Call,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_traverse = callable_traverse,
    .tp_clear = callable_clear,
    .tp_methods = callable_methods,
    .tp_getset = callable_getset,
    .tp_descr_get = callable_get,
    .tp_dictoffset = offsetof(CallableObject, dict),
};

/* What functools.update_wrapper() copies.  Not all callables have all. */
static int
describe(PyObject *self, PyObject *function)
{
    static const char *const names[] = {"__module__", "__name__",
                                        "__qualname__", "__doc__"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value;
        if (PyObject_GetOptionalAttrString(function, names[i], &value) < 0) {
            return -1;
        }
        int error = value != NULL
                    && PyObject_SetAttrString(self, names[i], value) < 0;
        Py_XDECREF(value);
        if (error) {
            return -1;
        }
    }
    return PyObject_SetAttrString(self, "__wrapped__", function);
}

static PyObject *
new_callable(PyObject *function, int hide)
{
    CallableObject *self = PyObject_GC_New(CallableObject, &callable_type);
    if (self == NULL) {
        return NULL;
    }
    self->function = Py_NewRef(function);
    self->dict = NULL;
    self->vectorcall = callable_call;
    self->hide = hide;
    PyObject_GC_Track(self);
    if (describe((PyObject *)self, function) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(hidden_doc,
"_hidden($module, function, /)\n--\n\n"
"Decorate a function that looks at what is traced: the thread is hidden, see\n"
"_hide_thread(), while it runs.");

static PyObject *
hidden(PyObject *Py_UNUSED(module), PyObject *function)
{
    return new_callable(function, 1);
}

PyDoc_STRVAR(shown_doc,
"_shown($module, function, /)\n--\n\n"
"Decorate a function of the program that a hidden one calls: the thread is\n"
"not hidden while it runs.");

static PyObject *
shown(PyObject *Py_UNUSED(module), PyObject *function)
{
    return new_callable(function, 0);
}

PyDoc_STRVAR(hide_thread_doc,
"_hide_thread($module, hide, /)\n--\n\n"
"Leave what this thread allocates from now on out of the traces, with all\n"
"threads that it starts, or stop doing so.  True if it was left out before.\n"
"Nothing is allocated for the call.");

static PyObject *
hide_thread(PyObject *Py_UNUSED(module), PyObject *hide)
{
    return PyBool_FromLong(_PyTracer_HideThread(hide == Py_True));
}

static PyMethodDef functions[] = {
    {"_hidden", hidden, METH_O, hidden_doc},
    {"_shown", shown, METH_O, shown_doc},
    {"_hide_thread", hide_thread, METH_O, hide_thread_doc},
    {NULL, NULL, 0, NULL}
};

int
_PyTracemalloc_AddHide(PyObject *module)
{
    if (PyType_Ready(&callable_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
