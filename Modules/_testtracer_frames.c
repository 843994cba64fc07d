/* Frames that an extension makes with its own copy of CPython's initialiser,
   as it was compiled before the tracer had a byte in a frame: in 3.13 that
   byte stays what it was.  There are two kinds: a function that evaluates
   frames (PEP 523) gives the interpreter another frame than it got, and
   compiled code links frames in by hand, which the interpreter never runs. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_compat.h"
#include "pycore_interp.h"        // _PyEval_EvalFrameDefault()
#include "pycore_pystate.h"       // _PyThreadState_GET()
#include "_testtracer.h"

/* What CPython's initialiser sets, with new references.  From 3.14 on, it
   clears the mark. */
#ifdef _PyTracer_STACKREFS

#define COUNTED_NULL PyStackRef_NULL

static void
initialize(_PyInterpreterFrame *frame, PyObject *func, PyObject *locals)
{
    PyCodeObject *code = (PyCodeObject *)((PyFunctionObject *)func)->func_code;
    _PyFrame_Initialize(_PyThreadState_GET(), frame,
                        PyStackRef_FromPyObjectNew(func), locals, code,
                        code->co_nlocalsplus, NULL);
}

static PyObject *
function_of(_PyInterpreterFrame *frame)
{
    return PyStackRef_AsPyObjectBorrow(frame->f_funcobj);
}

static void
clear(_PyInterpreterFrame *frame)
{
    Py_XDECREF(frame->f_locals);
    PyStackRef_CLOSE(frame->f_funcobj);
    PyStackRef_CLOSE(frame->f_executable);
}

#else

#define COUNTED_NULL NULL

static void
initialize(_PyInterpreterFrame *frame, PyObject *func, PyObject *locals)
{
    PyFunctionObject *function = (PyFunctionObject *)func;
    PyCodeObject *code = (PyCodeObject *)function->func_code;
    frame->f_funcobj = Py_NewRef(func);
    frame->f_executable = Py_NewRef(code);
    frame->f_builtins = function->func_builtins;
    frame->f_globals = function->func_globals;
    frame->f_locals = locals;
    frame->stacktop = code->co_nlocalsplus;
    frame->frame_obj = NULL;
    frame->instr_ptr = _PyCode_CODE(code);
    frame->return_offset = 0;
    frame->owner = FRAME_OWNED_BY_THREAD;
}

static PyObject *
function_of(_PyInterpreterFrame *frame)
{
    return frame->f_funcobj;
}

static void
clear(_PyInterpreterFrame *frame)
{
    Py_XDECREF(frame->f_locals);
    Py_DECREF(frame->f_funcobj);
    Py_DECREF(frame->f_executable);
}

#endif

/* NULL: there is no room in this piece of the stack. */
static _PyInterpreterFrame *
push(PyThreadState *tstate, int size)
{
    if (!_PyThreadState_HasStackSpace(tstate, size)) {
        return NULL;
    }
    void *frame = tstate->datastack_top;
    tstate->datastack_top += size;
    return frame;
}

/* End a frame that nobody has run. */
static void
pop(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    assert(frame->frame_obj == NULL);
    clear(frame);
    _PyThreadState_PopFrame(tstate, frame);
}

/* --- A function for evaluating frames */

static long evaluated;            // frames of ours

static PyObject *
evaluate(PyThreadState *tstate, _PyInterpreterFrame *frame, int throwflag)
{
    _PyInterpreterFrame *ours = NULL;
    if (frame->owner == FRAME_OWNED_BY_THREAD && !throwflag) {
        ours = push(tstate, _PyFrame_GetCode(frame)->co_framesize);
    }
    if (ours == NULL) {
        return _PyEval_EvalFrameDefault(tstate, frame, throwflag);
    }
    evaluated++;
    initialize(ours, function_of(frame), frame->f_locals);
    frame->f_locals = NULL;
    for (int i = 0; i < _PyFrame_GetCode(frame)->co_nlocalsplus; i++) {
        ours->localsplus[i] = frame->localsplus[i];
        frame->localsplus[i] = COUNTED_NULL;
    }
    PyObject *result = _PyEval_EvalFrameDefault(tstate, ours, 0);
    pop(tstate, frame);
    return result;
}

static PyObject *
evaluate_frames(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int on = PyObject_IsTrue(arg);
    if (on < 0) {
        return NULL;
    }
    _PyInterpreterState_SetEvalFrameFunc(
        PyInterpreterState_Get(), on ? evaluate : _PyEval_EvalFrameDefault);
    long count = evaluated;
    evaluated = 0;
    return PyLong_FromLong(count);
}

/* --- Frames linked in by hand */

/* Allocates nothing itself. */
static PyObject *
call_below(PyObject *Py_UNUSED(module), PyObject *const *args,
           Py_ssize_t nargs)
{
    if (nargs != 2 || !PyFunction_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "call_below() needs a function and a callable");
        return NULL;
    }
    PyObject *function = args[0];
    PyObject *callable = args[1];
    PyThreadState *tstate = _PyThreadState_GET();
    PyCodeObject *code = (PyCodeObject *)((PyFunctionObject *)function)
                         ->func_code;
    _PyInterpreterFrame *frame = push(tstate, code->co_framesize);
    if (frame == NULL) {
        return PyObject_CallNoArgs(callable);
    }
    initialize(frame, function, NULL);
    for (int i = 0; i < code->co_nlocalsplus; i++) {
        frame->localsplus[i] = COUNTED_NULL;
    }
    frame->instr_ptr += code->_co_firsttraceable;
    frame->previous = tstate->current_frame;
    tstate->current_frame = frame;
    PyObject *result = PyObject_CallNoArgs(callable);
    tstate->current_frame = frame->previous;
    pop(tstate, frame);
    return result;
}

PyMethodDef _TestTracer_FrameFunctions[] = {
    {"evaluate_frames", evaluate_frames, METH_O,
     PyDoc_STR("evaluate_frames(on): number of frames made since last time")},
    {"call_below", _PyCFunction_CAST(call_below), METH_FASTCALL,
     PyDoc_STR("call_below(function, callable): result of callable(), called\n"
               "by a frame of the function, which nobody may look at")},
    {NULL}
};
