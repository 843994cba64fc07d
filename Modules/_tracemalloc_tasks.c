/* The type _tracemalloc._Trigger: a Python callable that the allocator calls,
   once, when the traced memory has moved far enough or enough time has
   passed.  Python/tracer_tasks.c decides when it is due.
   Lib/tracemalloc/task.py defines tasks, their repetition and the valid
   arguments.

   An armed trigger is kept alive by the list of triggers.  All functions are
   called with the GIL of the main interpreter held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "structmember.h"
#include "pycore_interp.h"        // _Py_IsMainInterpreter()
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_limit.h"  // _PyTracer_WatchLimit()
#include "pycore_tracer_tasks.h"  // _PyTracer_ArmTrigger()
#include "_tracemalloc.h"

/* Bounds are small enough that adding one to a time or a size cannot overflow
   64 bits. */
#define TRIGGER_MAX (INT64_MAX / 4)
#define NS_PER_SECOND 1e9

typedef struct {
    PyObject_HEAD
    PyObject *callback;
    struct tracer_trigger trigger;
} TriggerObject;

static TriggerObject *
trigger_owner(struct tracer_trigger *trigger)
{
    return (TriggerObject *)((char *)trigger
                             - offsetof(TriggerObject, trigger));
}

/* An exception of a task is reported and ends there; an interrupt or an exit
   propagates to the main program. */
static int
call_failed(void)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_FormatUnraisable("Exception in a tracemalloc task, which is now "
                           "cancelled");
    return 0;
}

/* The pending call: serves one trigger, and asks for another call if more are
   due, so that a task whose own work makes it due again does not starve
   others. */
static int
call_trigger(void *Py_UNUSED(unused))
{
    struct tracer_trigger *trigger = _PyTracer_BeginCall();
    if (trigger == NULL) {
        return 0;
    }
    TriggerObject *self = trigger_owner(trigger);
    int status = 0;
    PyObject *result = PyObject_CallNoArgs(self->callback);
    if (result == NULL) {
        status = call_failed();
    }
    Py_XDECREF(result);
    Py_DECREF(self);
    _PyTracer_EndCall();
    return status;
}

PyDoc_STRVAR(trigger_doc,
"_Trigger(callback, /)\n"
"--\n\n"
"Call callback() in the main thread when the allocator finds it due.");

static PyObject *
trigger_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *callback;
    if ((kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)
        || !PyArg_ParseTuple(args, "O:_Trigger", &callback))
    {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "_Trigger() takes no keyword arguments");
        }
        return NULL;
    }
    if (!_Py_IsMainInterpreter(_PyInterpreterState_GET())) {
        PyErr_SetString(PyExc_RuntimeError,
                        "tracemalloc tasks run in the main interpreter only; "
                        "schedule them there");
        return NULL;
    }
    TriggerObject *self = (TriggerObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->callback = Py_NewRef(callback);
    }
    return (PyObject *)self;
}

/* Converts seconds or bytes, or None to 0: no bound.  -1 on error. */
static int64_t
bound_from_object(PyObject *object, double factor)
{
    if (object == Py_None) {
        return 0;
    }
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (!(value > 0 && value * factor <= (double)TRIGGER_MAX)) {
        PyErr_Format(PyExc_ValueError, "trigger out of range: %R", object);
        return -1;
    }
    return (int64_t)(value * factor);
}

PyDoc_STRVAR(trigger_arm_doc,
"arm($self, threshold, delay, /)\n"
"--\n\n"
"Be due when the traced memory has moved by more than threshold bytes, or\n"
"after delay seconds; None: not for that reason.");

static PyObject *
trigger_arm(TriggerObject *self, PyObject *args)
{
    PyObject *threshold_arg, *delay_arg;
    if (!PyArg_ParseTuple(args, "OO:arm", &threshold_arg, &delay_arg)) {
        return NULL;
    }
    int64_t threshold = bound_from_object(threshold_arg, 1.0);
    if (threshold < 0) {
        return NULL;
    }
    int64_t delay = bound_from_object(delay_arg, NS_PER_SECOND);
    if (delay < 0) {
        return NULL;
    }
    Py_INCREF(self);
    if (_PyTracer_ArmTrigger(&self->trigger, threshold, delay)) {
        Py_DECREF(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(trigger_disarm_doc,
"disarm($self, /)\n"
"--\n\n"
"Be due no more; nothing happens if the trigger is not armed.");

static PyObject *
trigger_disarm(TriggerObject *self, PyObject *Py_UNUSED(unused))
{
    if (_PyTracer_DisarmTrigger(&self->trigger)) {
        Py_DECREF(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(trigger_watch_limit_doc,
"watch_limit($self, usage, events, pressure, control, bound, /)\n"
"--\n\n"
"From the next start of the history on, be due when a cgroup uses more than\n"
"bound bytes, or is under memory pressure.  The files may be None but for the\n"
"usage; before, there must be no history.  Return why the kernel does not\n"
"report pressure, as a number of errno, or 0.");

static PyObject *
trigger_watch_limit(TriggerObject *self, PyObject *args)
{
    /* The thread may look at it for as long as the process lives. */
    static PyObject *watching = NULL;
    struct tracer_limit_files files;
    long long bound;
    if (!PyArg_ParseTuple(args, "szzzL:watch_limit", &files.usage,
                          &files.events, &files.pressure, &files.control,
                          &bound))
    {
        return NULL;
    }
    int error = files.pressure == NULL ? 0
                : _PyTracer_TryPressure(files.pressure);
    if (_PyTracer_WatchLimit(&files, bound, &self->trigger) < 0) {
        return PyErr_NoMemory();
    }
    Py_XSETREF(watching, Py_NewRef(self));
    return PyLong_FromLong(error);
}

static int
trigger_traverse(TriggerObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->callback);
    return 0;
}

static int
trigger_clear(TriggerObject *self)
{
    Py_CLEAR(self->callback);
    return 0;
}

static void
trigger_dealloc(TriggerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)trigger_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef trigger_methods[] = {
    {"arm", (PyCFunction)trigger_arm, METH_VARARGS, trigger_arm_doc},
    {"disarm", (PyCFunction)trigger_disarm, METH_NOARGS, trigger_disarm_doc},
    {"watch_limit", (PyCFunction)trigger_watch_limit, METH_VARARGS,
     trigger_watch_limit_doc},
    {NULL}
};

static PyType_Slot trigger_slots[] = {
    {Py_tp_doc, (void *)trigger_doc},
    {Py_tp_new, trigger_new},
    {Py_tp_traverse, trigger_traverse},
    {Py_tp_clear, trigger_clear},
    {Py_tp_dealloc, trigger_dealloc},
    {Py_tp_methods, trigger_methods},
    {0, NULL}
};

static PyType_Spec trigger_spec = {
    .name = "_tracemalloc._Trigger",
    .basicsize = sizeof(TriggerObject),
    .flags = (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
              | Py_TPFLAGS_IMMUTABLETYPE),
    .slots = trigger_slots,
};

int
_PyTracemalloc_AddTasks(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &trigger_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int status = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    if (_Py_IsMainInterpreter(_PyInterpreterState_GET())) {
        _PyTracer_SetTriggerCall(call_trigger);
    }
    return status;
}
