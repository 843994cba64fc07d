/* What differs between the series of CPython in frames and code objects, see
   pycore_tracer_compat.h.  GIL, or the frames of this thread. */

#ifndef Py_INTERNAL_TRACER_COMPAT_FRAMES_H
#define Py_INTERNAL_TRACER_COMPAT_FRAMES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_code.h"          // _PyCode_CODE()
#include "pycore_frame.h"         // _PyInterpreterFrame

#if PY_VERSION_HEX >= 0x030e0000
#  include "pycore_interpframe.h"         // _PyFrame_GetBytecode()
#  include "pycore_stackref.h"            // PyStackRef_RefcountOnObject()
#endif

static inline Py_ALWAYS_INLINE _PyInterpreterFrame *
_PyTracer_TopFrame(const PyThreadState *tstate)
{
    return tstate->current_frame;
}

/* The frame that an eval loop has of its own, for the innermost Python frame
   and what has called it from Python: it lies in the loop's C frame. NULL:
   there is no loop. */
static inline const void *
_PyTracer_EntryFrame(PyThreadState *tstate)
{
#if PY_VERSION_HEX >= 0x030e0000
    const int owner = FRAME_OWNED_BY_INTERPRETER;
#else
    const int owner = FRAME_OWNED_BY_CSTACK;
#endif
    const _PyInterpreterFrame *frame = tstate->current_frame;
    while (frame != NULL && frame->owner < owner) {
        frame = frame->previous;
    }
    return frame;
}

/* The mark of the tracer.  From 3.14 on it is a field that CPython clears in
   each new frame and never reads.  Extensions with a copy of CPython's
   initialiser clear it, too.  In 3.13 it is a field of ours. */
#if PY_VERSION_HEX >= 0x030e0000

#define _PyTracer_MARK visited
#define _PyTracer_STACKREFS       // what a frame refers to are _PyStackRefs

static inline Py_ALWAYS_INLINE int
_PyTracer_RunsMarked(const _PyInterpreterFrame *frame)
{
    return frame->visited;
}

static inline int
_PyTracer_IsMarked(const _PyInterpreterFrame *frame)
{
    return frame->visited;
}

static inline _Py_CODEUNIT *
_PyTracer_FirstInstr(_PyInterpreterFrame *frame)
{
    return _PyFrame_GetBytecode(frame);
}

#else

#define _PyTracer_MARK tracer_mark

/* If an extension makes a frame with its own copy of CPython's initialiser,
   the mark is not initialised.  But other fields show that the interpreter
   does not run the frame: it leaves -1 in stacktop of a running frame, and
   nonzero in return_offset of a frame that waits for one which it called
   without C code in between. (_PyEval_EvalFrameDefault() clears the mark
   first.) */
static inline Py_ALWAYS_INLINE int
_PyTracer_RunsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark && frame->stacktop < 0;
}

static inline int
_PyTracer_IsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark
           && (frame->stacktop < 0 || frame->return_offset != 0);
}

static inline _Py_CODEUNIT *
_PyTracer_FirstInstr(_PyInterpreterFrame *frame)
{
    return _PyCode_CODE(_PyFrame_GetCode(frame));
}

#endif

static inline Py_ALWAYS_INLINE void
_PyTracer_Mark(_PyInterpreterFrame *frame, int mark)
{
    frame->_PyTracer_MARK = mark;
}

/* The object that a frame refers to, if the reference counts; else NULL. */
#ifdef _PyTracer_STACKREFS
static inline PyObject *
_PyTracer_CountedReference(_PyStackRef ref)
{
    if (PyStackRef_IsNullOrInt(ref)) {
        return NULL;
    }
    PyObject *op = PyStackRef_AsPyObjectBorrow(ref);
#  if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030f0000
    int counted = !PyStackRef_IsDeferred(ref);
#  else
    int counted = PyStackRef_RefcountOnObject(ref);
#  endif
#  ifdef Py_GIL_DISABLED
    /* Objects that do not count such references are still kept alive. */
    counted |= _PyObject_HasDeferredRefcount(op);
#  endif
    return counted ? op : NULL;
}
#else
static inline PyObject *
_PyTracer_CountedReference(PyObject *op)
{
    return op;
}
#endif

static inline PyObject *
_PyTracer_FrameExecutable(const _PyInterpreterFrame *frame)
{
    return _PyTracer_CountedReference(frame->f_executable);
}

static inline PyObject *
_PyTracer_FrameFunction(const _PyInterpreterFrame *frame)
{
    return _PyTracer_CountedReference(frame->f_funcobj);
}

/* The variables and, if its size is known, the evaluation stack; fewer when
   the frame has been cleared. */
static inline int
_PyTracer_FrameSlots(_PyInterpreterFrame *frame)
{
    int nvariables = _PyFrame_GetCode(frame)->co_nlocalsplus;
#ifdef _PyTracer_STACKREFS
    return frame->stackpointer == NULL
           ? nvariables : (int)(frame->stackpointer - frame->localsplus);
#else
    return frame->stacktop < 0 ? nvariables : frame->stacktop;
#endif
}

static inline PyObject *
_PyTracer_FrameSlot(const _PyInterpreterFrame *frame, int i)
{
    return _PyTracer_CountedReference(frame->localsplus[i]);
}

static inline PyObject *
_PyTracer_OverwrittenLocals(const PyFrameObject *f)
{
#ifdef _PyTracer_STACKREFS
    return f->f_overwritten_fast_locals;
#else
    (void)f;
    return NULL;
#endif
}

/* Number of the frame's current code unit. */
static inline int
_PyTracer_InstrOffset(_PyInterpreterFrame *frame)
{
    return (int)(frame->instr_ptr - _PyTracer_FirstInstr(frame));
}

/* Where the instructions are: [*low, *high). */
static inline void
_PyTracer_InstrRange(PyCodeObject *code, uintptr_t *low, uintptr_t *high)
{
    *low = (uintptr_t)_PyCode_CODE(code);
    *high = (uintptr_t)(_PyCode_CODE(code) + Py_SIZE(code));
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_COMPAT_FRAMES_H */
