/* What code, functions, frames and generators refer to.

   A running frame is not an object, but it has a number in the graph, as it
   has the names of the variables.  A generator has a frame of its own.
   References that a frame only borrows do not count. */

#include "Python.h"
#include "pycore_code.h"          // _PyCoCached
#include "pycore_tracer_heap.h"

#include <stdio.h>

/* --- Code and functions */

static const char *const code_names[] = {
    "co_name", "co_qualname", "co_filename", "co_consts", "co_names"};

void
_PyTracer_WalkCode(struct tracer_heap *heap, uint32_t object,
                   PyCodeObject *code)
{
    _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfNames(
        heap, SNAPSHOT_CODE, code_names, Py_ARRAY_LENGTH(code_names)));
    _PyTracer_HeapReference(heap, code->co_name);
    _PyTracer_HeapReference(heap, code->co_qualname);
    _PyTracer_HeapReference(heap, code->co_filename);
    _PyTracer_HeapReference(heap, code->co_consts);
    _PyTracer_HeapReference(heap, code->co_names);
    _PyTracer_HeapReference(heap, code->co_exceptiontable);
    _PyTracer_HeapReference(heap, code->co_localsplusnames);
    _PyTracer_HeapReference(heap, code->co_localspluskinds);
    _PyTracer_HeapReference(heap, code->co_linetable);
    if (code->_co_cached != NULL) {
        _PyTracer_HeapReference(heap, code->_co_cached->_co_code);
        _PyTracer_HeapReference(heap, code->_co_cached->_co_varnames);
        _PyTracer_HeapReference(heap, code->_co_cached->_co_cellvars);
        _PyTracer_HeapReference(heap, code->_co_cached->_co_freevars);
    }
    _PyTracer_WantText(heap, code->co_qualname);
    _PyTracer_WantText(heap, code->co_filename);
}

/* The tuple of its closure has the names of the variables. */
void
_PyTracer_NameClosure(struct tracer_heap *heap, PyFunctionObject *function)
{
    _PyTracer_WantText(heap, function->func_qualname);
    _PyTracer_WantText(heap, function->func_module);
    if (function->func_closure != NULL) {
        uint32_t tuple = _PyTracer_HeapObject(heap, function->func_closure);
        uint32_t shape = _PyTracer_ShapeOfCode(
            heap, (PyCodeObject *)function->func_code, TRACER_HEAP_OF_CLOSURE);
        uint32_t n = heap->failed ? 0 : heap->shapes.list[shape].n;
        if (n == (size_t)PyTuple_GET_SIZE(function->func_closure)) {
            _PyTracer_SetHeapShape(heap, tuple, shape);
        }
    }
}

/* --- Frames */

/* In the order of the names of the shape. */
void
_PyTracer_WalkFrame(struct tracer_heap *heap, _PyInterpreterFrame *frame,
                    PyGenObject *gen)
{
    _PyTracer_HeapReference(heap, _PyTracer_FrameExecutable(frame));
    _PyTracer_HeapReference(heap, _PyTracer_FrameFunction(frame));
    _PyTracer_HeapReference(heap, frame->frame_obj);
    _PyTracer_HeapReference(heap, frame->f_locals);
    if (gen != NULL) {
        _PyTracer_HeapReference(heap, gen->gi_name);
        _PyTracer_HeapReference(heap, gen->gi_qualname);
        _PyTracer_HeapReference(heap, gen->gi_exc_state.exc_value);
    }
    int nvariables = _PyFrame_GetCode(frame)->co_nlocalsplus;
    int n = _PyTracer_FrameSlots(frame);
    for (int i = 0; i < nvariables; i++) {
        _PyTracer_HeapReference(
            heap, i < n ? _PyTracer_FrameSlot(frame, i) : NULL);
    }
    for (int i = nvariables; i < n; i++) {
        (void)_PyTracer_HeapVisit(_PyTracer_FrameSlot(frame, i), heap);
    }
}

/* The line as text: later it cannot be found out. */
static void
note_line(struct tracer_heap *heap, uint32_t object,
          _PyInterpreterFrame *frame)
{
    char line[16];
    int length = snprintf(line, sizeof(line), "%d",
                          PyUnstable_InterpreterFrame_GetLine(frame));
    if (!heap->failed) {
        heap->graph->objects[object].text =
            _PyTracer_AddText(heap, line, (size_t)length);
    }
}

void
_PyTracer_ReferToFrame(struct tracer_heap *heap, _PyInterpreterFrame *frame)
{
    if (frame->owner == FRAME_OWNED_BY_THREAD) {
        uint32_t shape = _PyTracer_ShapeOfCode(heap, _PyFrame_GetCode(frame),
                                               TRACER_HEAP_OF_FRAME);
        note_line(heap, _PyTracer_HeapPseudo(heap, frame, shape), frame);
    }
}

void
_PyTracer_WalkFrameObject(struct tracer_heap *heap, uint32_t object,
                          PyFrameObject *f)
{
    static const char *const names[] = {"f_back"};
    if (f->f_frame->owner == FRAME_OWNED_BY_FRAME_OBJECT) {
        _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfCode(
            heap, _PyFrame_GetCode(f->f_frame), TRACER_HEAP_OF_FRAME));
        _PyTracer_WalkFrame(heap, f->f_frame, NULL);
        note_line(heap, object, f->f_frame);
        (void)_PyTracer_HeapVisit((PyObject *)f->f_back, heap);
    }
    else {
        _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfNames(
            heap, SNAPSHOT_PLAIN, names, Py_ARRAY_LENGTH(names)));
        _PyTracer_HeapReference(heap, f->f_back);
    }
    (void)_PyTracer_HeapVisit(f->f_trace, heap);
    (void)_PyTracer_HeapVisit(f->f_extra_locals, heap);
    (void)_PyTracer_HeapVisit(f->f_locals_cache, heap);
    (void)_PyTracer_HeapVisit(_PyTracer_OverwrittenLocals(f), heap);
}

/* --- Generators */

void
_PyTracer_WalkGenerator(struct tracer_heap *heap, uint32_t object,
                        PyGenObject *gen)
{
    static const char *const names[] = {
        "code", "__name__", "__qualname__", "exception"};
    _PyInterpreterFrame *frame = (_PyInterpreterFrame *)&gen->gi_iframe;
    if (gen->gi_frame_state != FRAME_CLEARED) {
        _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfCode(
            heap, _PyFrame_GetCode(frame), TRACER_HEAP_OF_GENERATOR));
        _PyTracer_WalkFrame(heap, frame, gen);
        note_line(heap, object, frame);
    }
    else {
        _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfNames(
            heap, SNAPSHOT_PLAIN, names, Py_ARRAY_LENGTH(names)));
        _PyTracer_HeapReference(heap, _PyTracer_FrameExecutable(frame));
        _PyTracer_HeapReference(heap, gen->gi_name);
        _PyTracer_HeapReference(heap, gen->gi_qualname);
        _PyTracer_HeapReference(heap, gen->gi_exc_state.exc_value);
    }
    _PyTracer_WantText(heap, gen->gi_qualname);
    if (!PyGen_CheckExact(gen)) {
        (void)_PyTracer_HeapVisit(gen->gi_origin_or_finalizer, heap);
    }
}
