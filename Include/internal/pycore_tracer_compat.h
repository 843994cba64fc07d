/* What differs between the series of CPython.

   The tracer looks into structures of CPython that change from one series to
   the next: frames, code objects, locks, pending calls, objects that own
   buffers.  It does so by the functions below, and this is its only file with
   conditions on the version or on the GIL; `make layers` sees to that.  All of
   them are inline, and want what they are given to be alive. */

#ifndef Py_INTERNAL_TRACER_COMPAT_H
#define Py_INTERNAL_TRACER_COMPAT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_ceval.h"         // _Py_set_eval_breaker_bit()
#include "pycore_code.h"          // _PyCode_CODE()
#include "pycore_frame.h"         // _PyInterpreterFrame
#include "pycore_lock.h"          // PyMutex_LockFast()
#include "pycore_runtime.h"       // _PyRuntime

#if PY_VERSION_HEX < 0x030d0000 || PY_VERSION_HEX >= 0x030e0000
#  error "the tracer knows CPython 3.13"
#endif
#ifdef Py_GIL_DISABLED
#  error "the tracer relies on the GIL"
#endif

/* --- Frames and code objects.  GIL, or the frames of this thread. */

static inline Py_ALWAYS_INLINE _PyInterpreterFrame *
_PyTracer_TopFrame(const PyThreadState *tstate)
{
    return tstate->current_frame;
}

/* Frames that an extension has made with its own copy of CPython's initialiser
   begin with any mark.  Their other fields say that the interpreter does not
   run them: it leaves -1 in stacktop of a frame that runs, and nonzero in
   return_offset of one that waits for a frame which it calls without C code
   between.  (_PyEval_EvalFrameDefault() clears the mark first.) */
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

/* Number of the code unit at which the frame is. */
static inline int
_PyTracer_InstrOffset(_PyInterpreterFrame *frame)
{
    return (int)(frame->instr_ptr - _PyCode_CODE(_PyFrame_GetCode(frame)));
}

/* Where the instructions are: [*low, *high). */
static inline void
_PyTracer_InstrRange(PyCodeObject *code, uintptr_t *low, uintptr_t *high)
{
    *low = (uintptr_t)_PyCode_CODE(code);
    *high = (uintptr_t)(_PyCode_CODE(code) + Py_SIZE(code));
}

/* --- Locks and pending calls */

/* 0: somebody has it. */
static inline int
_PyTracer_TryMutex(PyMutex *mutex)
{
    return PyMutex_LockFast(&mutex->_bits);
}

/* Of the pending calls of the main thread. */
static inline PyMutex *
_PyTracer_PendingMutex(void)
{
    return &_PyRuntime.ceval.pending_mainthread.mutex;
}

/* Py_AddPendingCall(), with that mutex held; 0: there is no room. */
static inline int
_PyTracer_PushPendingCall(int (*function)(void *))
{
    struct _pending_calls *pending = &_PyRuntime.ceval.pending_mainthread;
    if (pending->npending >= pending->max) {
        return 0;
    }
    struct _pending_call *call = &pending->calls[pending->next];
    assert(call->func == NULL);
    call->func = function;
    call->arg = NULL;
    call->flags = _Py_PENDING_MAINTHREADONLY;
    pending->next = (pending->next + 1) % PENDINGCALLSARRAYSIZE;
    _Py_atomic_add_int32(&pending->npending, 1);
    return 1;
}

/* --- Objects, which may be half made, or only look like what they are taken
   for: what they point to is not followed.  GIL. */

/* Does the memory look like that of an object in use? */
static inline int
_PyTracer_HasReferences(const PyObject *op)
{
    return op->ob_refcnt != 0;
}

static inline const void *
_PyTracer_DictKeys(const PyObject *op)
{
    return ((const PyDictObject *)op)->ma_keys;
}

static inline const void *
_PyTracer_DictValues(const PyObject *op)
{
    return ((const PyDictObject *)op)->ma_values;
}

static inline const void *
_PyTracer_ListItems(const PyObject *op)
{
    return ((const PyListObject *)op)->ob_item;
}

/* NULL: it lies in the object. */
static inline const void *
_PyTracer_SetTable(const PyObject *op)
{
    const PySetObject *set = (const PySetObject *)op;
    return set->table == set->smalltable ? NULL : set->table;
}

static inline const void *
_PyTracer_BytearrayBuffer(const PyObject *op)
{
    return ((const PyByteArrayObject *)op)->ob_bytes;
}

/* Keys that new instances of a class share, or NULL. */
static inline const void *
_PyTracer_CachedKeys(const PyObject *op)
{
    return ((const PyTypeObject *)op)->tp_flags & Py_TPFLAGS_HEAPTYPE
           ? ((const PyHeapTypeObject *)op)->ht_cached_keys : NULL;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_COMPAT_H */
