/* The free lists that are fields of one structure (3.14 and later): the list
   says what its blocks are.  Included by obmalloc.c. */

#include "pycore_dict.h"          // _PyDict_KeysSize()

struct tracer_list {
    uint8_t kind;
    uint8_t header;               // bytes in front of what the hook is given
};

#define TRACER_NLISTS                                                   \
    (sizeof(struct _Py_freelists) / sizeof(struct _Py_freelist))

static const struct tracer_list tracer_lists[TRACER_NLISTS] = {
#define TRACER_LIST(FIELD, KIND, HEADER)                                \
    [_PyTracer_LIST_NUMBER(FIELD)                                       \
     ... _PyTracer_LIST_NUMBER(FIELD) + _PyTracer_LIST_COUNT(FIELD) - 1] = \
        {_PyTracer_##KIND, HEADER},
    _PyTracer_LISTS(TRACER_LIST)
#undef TRACER_LIST
};

#define TRACER_LIST(FIELD, KIND, HEADER) + _PyTracer_LIST_COUNT(FIELD)
static_assert(0 _PyTracer_LISTS(TRACER_LIST) == TRACER_NLISTS,
              "CPython has a free list that _PyTracer_LISTS() does not name");
#undef TRACER_LIST

/* These blocks need not be in a pool: an int that once had more digits can
   have any size, and the chunks of object stacks are in the raw domain. */
static inline Py_ALWAYS_INLINE int
tracer_list_in_pools(OMState *state, enum _PyTracer_freelist kind, void *block)
{
    return LIKELY(kind != _PyTracer_INT && kind != _PyTracer_OBJECT_STACK)
           || address_in_range(state, block, POOL_ADDR(block));
}

/* The size that would be requested from the allocator.  The first word of an
   object on a free list is the link; its type, and the size of a tuple, are
   still there. */
static size_t
tracer_listed_size(struct tracer_list list, void *op)
{
    switch ((enum _PyTracer_freelist)list.kind) {
    case _PyTracer_DICT_KEYS:
        return _PyDict_KeysSize(op);
    case _PyTracer_OBJECT_STACK:
        return sizeof(_PyObjectStackChunk);
    case _PyTracer_INT:
        return sizeof(PyLongObject);
    case _PyTracer_UNICODE_WRITER:
    case _PyTracer_BYTES_WRITER:
        return _PyTracer_WriterSize(list.kind);
    case _PyTracer_TUPLE:
        return _PyObject_VAR_SIZE(&PyTuple_Type, Py_SIZE(op)) + list.header;
    default:
        return (size_t)Py_TYPE(op)->tp_basicsize + list.header;
    }
}

static Py_NO_INLINE void
tracer_move_listed(struct tracer_list list, void *op, uint32_t node,
                   int capture)
{
    _PyTracer_Reassign(list.kind, (char *)op - list.header,
                       tracer_listed_size(list, op), node, capture);
}

/* Without the GIL the block is not in a pool. */
static inline Py_ALWAYS_INLINE void
tracer_park_listed(struct tracer_list list, void *op)
{
    void *block = (char *)op - list.header;
    if (!_PyTracer_HAS_GIL
        || !tracer_list_in_pools(get_state(), list.kind, block)
        || UNLIKELY(!tracer_park(list.kind, block)))
    {
        tracer_move_listed(list, op, TRACER_NODE_PARKED + list.kind, 0);
    }
}

static Py_NO_INLINE void
tracer_capture_listed(struct tracer_list list, void *op)
{
    PyThreadState *tstate = _PyThreadState_GET();
    void *block = (char *)op - list.header;
    uint32_t id = TRACER_NODE_NONE;
    if (LIKELY(_PyTracer.short_way)
        && tracer_list_in_pools(tstate->interp->obmalloc, list.kind, block))
    {
        id = _PyTracer_CaptureSlow(tstate);
    }
    if (UNLIKELY(id == TRACER_NODE_NONE)
        || !tracer_unpark(list.kind, block, id))
    {
        tracer_move_listed(list, op, TRACER_NODE_NONE, 1);
    }
}

static inline Py_ALWAYS_INLINE void
tracer_unpark_listed(struct tracer_list list, void *op)
{
    PyThreadState *tstate = _PyThreadState_GET();
    void *block = (char *)op - list.header;
    if (!_PyTracer_HAS_GIL) {
        tracer_move_listed(list, op, TRACER_NODE_NONE, 1);
        return;
    }
    uint32_t id = _PyTracer_CaptureFast(tstate, _PyTracer.whole);
    if (UNLIKELY(id == TRACER_NODE_NONE)
        || !tracer_list_in_pools(tstate->interp->obmalloc, list.kind, block))
    {
        tracer_capture_listed(list, op);
    }
    else if (UNLIKELY(!tracer_unpark(list.kind, block, id))) {
        tracer_move_listed(list, op, TRACER_NODE_NONE, 1);
    }
}

void
_PyTracer_ParkListed(size_t number, void *op)
{
    assert(number < TRACER_NLISTS);
    tracer_park_listed(tracer_lists[number], op);
}

void
_PyTracer_UnparkListed(size_t number, void *op)
{
    assert(number < TRACER_NLISTS);
    tracer_unpark_listed(tracer_lists[number], op);
}

/* The same for lists that every program uses heavily: they are known at
   compile time, and address_in_range() is inlined. */
#define TRACER_HOT_LIST(FIELD, KIND, ...)                               \
    __attribute__((flatten)) void                                       \
    _PyTracer_Park_##KIND(void *op)                                     \
    {                                                                   \
        tracer_park_listed(tracer_lists[_PyTracer_LIST_NUMBER(FIELD)], op); \
    }                                                                   \
    __attribute__((flatten)) void                                       \
    _PyTracer_Unpark_##KIND(void *op)                                   \
    {                                                                   \
        tracer_unpark_listed(tracer_lists[_PyTracer_LIST_NUMBER(FIELD)], op); \
    }
_PyTracer_HOT_LISTS(TRACER_HOT_LIST, _)
#undef TRACER_HOT_LIST
