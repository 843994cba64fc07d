/* The free lists that every program uses heavily, for CPython with a hook for
   each list (3.13).  Included by obmalloc.c.  The functions have one argument,
   the object, so that an inlined hook takes little space.  The size of the
   block is determined only when it is needed. */

#include "pycore_dict.h"          // _PyDict_KeysSize()

static inline Py_ALWAYS_INLINE void *
tracer_hot_block(enum _PyTracer_freelist kind, void *op)
{
    int plain = kind == _PyTracer_FLOAT || kind == _PyTracer_DICT_KEYS;
    return plain ? op : (char *)op - _PyTracer_GC_HEADER;
}

static size_t
tracer_hot_size(enum _PyTracer_freelist kind, void *op)
{
    switch (kind) {
    case _PyTracer_FLOAT:
        return sizeof(PyFloatObject);
    case _PyTracer_DICT_KEYS:
        return _PyDict_KeysSize(op);
    case _PyTracer_DICT:
        return sizeof(PyDictObject) + _PyTracer_GC_HEADER;
    case _PyTracer_LIST:
        return sizeof(PyListObject) + _PyTracer_GC_HEADER;
    case _PyTracer_SLICE:
        return sizeof(PySliceObject) + _PyTracer_GC_HEADER;
    case _PyTracer_TUPLE:
        return _PyObject_VAR_SIZE(&PyTuple_Type, Py_SIZE(op))
               + _PyTracer_GC_HEADER;
    default:
        Py_UNREACHABLE();
    }
}

static Py_NO_INLINE void
tracer_move_hot(enum _PyTracer_freelist kind, void *op, uint32_t node,
                int capture)
{
    _PyTracer_Reassign(kind, tracer_hot_block(kind, op),
                   tracer_hot_size(kind, op), node, capture);
}

static Py_NO_INLINE void
tracer_capture_hot(enum _PyTracer_freelist kind, void *op)
{
    uint32_t id = TRACER_NODE_NONE;
    if (LIKELY(_PyTracer.short_way)) {
        id = _PyTracer_CaptureSlow(_PyThreadState_GET());
    }
    if (UNLIKELY(id == TRACER_NODE_NONE)
        || !tracer_unpark(kind, tracer_hot_block(kind, op), id))
    {
        tracer_move_hot(kind, op, TRACER_NODE_NONE, 1);
    }
}

static inline Py_ALWAYS_INLINE void
tracer_park_hot(enum _PyTracer_freelist kind, void *op)
{
    if (UNLIKELY(!tracer_park(kind, tracer_hot_block(kind, op)))) {
        tracer_move_hot(kind, op, TRACER_NODE_PARKED + kind, 0);
    }
}

static inline Py_ALWAYS_INLINE void
tracer_unpark_hot(enum _PyTracer_freelist kind, void *op)
{
    uint32_t id = _PyTracer_CaptureFast(_PyThreadState_GET(),
                                        _PyTracer.whole);
    if (UNLIKELY(id == TRACER_NODE_NONE)) {
        tracer_capture_hot(kind, op);
    }
    else if (UNLIKELY(!tracer_unpark(kind, tracer_hot_block(kind, op), id))) {
        tracer_move_hot(kind, op, TRACER_NODE_NONE, 1);
    }
}

void
_PyTracer_Park_FLOAT(void *op)
{
    tracer_park_hot(_PyTracer_FLOAT, op);
}

void
_PyTracer_Unpark_FLOAT(void *op)
{
    tracer_unpark_hot(_PyTracer_FLOAT, op);
}

void
_PyTracer_Park_TUPLE(void *op)
{
    tracer_park_hot(_PyTracer_TUPLE, op);
}

void
_PyTracer_Unpark_TUPLE(void *op)
{
    tracer_unpark_hot(_PyTracer_TUPLE, op);
}

void
_PyTracer_Park_LIST(void *op)
{
    tracer_park_hot(_PyTracer_LIST, op);
}

void
_PyTracer_Unpark_LIST(void *op)
{
    tracer_unpark_hot(_PyTracer_LIST, op);
}

void
_PyTracer_Park_DICT(void *op)
{
    tracer_park_hot(_PyTracer_DICT, op);
}

void
_PyTracer_Unpark_DICT(void *op)
{
    tracer_unpark_hot(_PyTracer_DICT, op);
}

void
_PyTracer_Park_DICT_KEYS(void *op)
{
    tracer_park_hot(_PyTracer_DICT_KEYS, op);
}

void
_PyTracer_Unpark_DICT_KEYS(void *op)
{
    tracer_unpark_hot(_PyTracer_DICT_KEYS, op);
}

void
_PyTracer_Park_SLICE(void *op)
{
    tracer_park_hot(_PyTracer_SLICE, op);
}

void
_PyTracer_Unpark_SLICE(void *op)
{
    tracer_unpark_hot(_PyTracer_SLICE, op);
}
