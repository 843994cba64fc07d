/* How the objects of a type are walked, found out when the first one is seen.

   Most objects are of a few types, whose references are known without
   tp_traverse: the fields of CPython's own types, and the slots and values of
   an instance of an ordinary class.  Such a class is one whose tp_traverse,
   like that of all its bases but `object`, is the one that every class
   statement sets. */

#include "Python.h"
#include "pycore_dict.h"          // PyDictKeysObject
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_heap.h"

#define INITIAL_TYPES 4096        // places of the hash table

static uint32_t
slot_of(const struct tracer_heap_type *types, uint32_t mask,
        const PyTypeObject *type)
{
    uint32_t i = _PyTracer_HeapTypeHash(type);
    while (types[i & mask].type != type && types[i & mask].type != NULL) {
        i++;
    }
    return i & mask;
}

static int
grow(struct tracer_heap *heap, uint32_t size)
{
    struct tracer_heap_type *old = heap->types;
    struct tracer_heap_type *types = _PyTracer_HeapArray(size, sizeof(*types));
    if (types == NULL) {
        return -1;
    }
    for (uint32_t i = 0; old != NULL && i <= heap->types_mask; i++) {
        if (old[i].type != NULL) {
            types[slot_of(types, size - 1, old[i].type)] = old[i];
        }
    }
    _PySnapshot_Release(old);
    heap->types = types;
    heap->types_mask = size - 1;
    return 0;
}

int
_PyTracer_InitHeapTypes(struct tracer_heap *heap, int touch)
{
    if (grow(heap, INITIAL_TYPES) < 0) {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(heap->types, INITIAL_TYPES, sizeof(*heap->types));
    }
    return 0;
}

/* --- What a type is like */

/* One class that a class statement, or type(), has made. */
static traverseproc
traverse_of_classes(void)
{
    const PyInterpreterState *interp = _PyInterpreterState_GET();
    PyObject *group = interp->exc_state.PyExc_ExceptionGroup;
    return group == NULL ? NULL : ((PyTypeObject *)group)->tp_traverse;
}

/* All its members are slots, which tp_traverse visits. */
static int
has_only_slots(const PyTypeObject *type)
{
    Py_ssize_t n = 0;
    for (const PyMemberDef *member = type->tp_members;
         member != NULL && member->name != NULL; member++)
    {
        if (member->type != Py_T_OBJECT_EX
            || (member->flags & Py_RELATIVE_OFFSET))
        {
            return 0;
        }
        n++;
    }
    return n == Py_SIZE(type);
}

static int
is_class(const PyTypeObject *type)
{
    traverseproc traverse = traverse_of_classes();
    const PyTypeObject *base = type;
    while (traverse != NULL && base->tp_traverse == traverse
           && has_only_slots(base))
    {
        base = base->tp_base;
    }
    return base == &PyBaseObject_Type && type != base
           && ((type->tp_flags & Py_TPFLAGS_MANAGED_DICT)
               || type->tp_dictoffset == 0);
}

/* It is not tracked, but is walk_untracked() to look at it? */
static int
may_refer(const PyTypeObject *type)
{
    for (const PyTypeObject *base = type; base != NULL; base = base->tp_base) {
        if (base == &PyRange_Type || base == &PyByteArray_Type
            || _PyTracer_IsArrayType(base))
        {
            return 1;
        }
    }
    return type->tp_dictoffset > 0
           || (type->tp_flags & (Py_TPFLAGS_HEAPTYPE
                                 | Py_TPFLAGS_TYPE_SUBCLASS)) != 0;
}

static enum tracer_heap_way
way_of(const PyTypeObject *type)
{
    static const struct {
        const PyTypeObject *type;
        enum tracer_heap_way way;
    } exact[] = {
        {&PyDict_Type, TRACER_HEAP_DICT},
        {&PyList_Type, TRACER_HEAP_LIST},
        {&PyTuple_Type, TRACER_HEAP_TUPLE},
        {&PyCode_Type, TRACER_HEAP_CODE},
        {&PyFrame_Type, TRACER_HEAP_FRAME},
        {&PyGen_Type, TRACER_HEAP_GENERATOR},
        {&PyCoro_Type, TRACER_HEAP_GENERATOR},
        {&PyAsyncGen_Type, TRACER_HEAP_GENERATOR},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(exact); i++) {
        if (exact[i].type == type) {
            return exact[i].way;
        }
    }
    if (!(type->tp_flags & Py_TPFLAGS_HAVE_GC) || type->tp_traverse == NULL) {
        return may_refer(type) ? TRACER_HEAP_UNTRACKED : TRACER_HEAP_LEAF;
    }
    return type->tp_is_gc != NULL ? TRACER_HEAP_SOME_TRACKED
           : _PyTracer_HasKnownFields(type) ? TRACER_HEAP_FIELDS
           : is_class(type) ? TRACER_HEAP_INSTANCE : TRACER_HEAP_TRACKED;
}

/* --- Types that were seen */

/* Names of an instance: of its slots, `__dict__`, then those of its values. */
static void
count_slots(struct tracer_heap *heap, struct tracer_heap_type *known,
            const PyTypeObject *type)
{
    const PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
    uint32_t n = heap->shapes.list[known->shape].n;
    known->nslots = n;
    if (n == TRACER_HEAP_MAX_NAMES) {
        known->way = TRACER_HEAP_TRACKED;         // some may be left out
        return;
    }
    if (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) {
        known->nslots--;
    }
    if ((type->tp_flags & Py_TPFLAGS_INLINE_VALUES) && keys != NULL) {
        known->nslots -= (uint32_t)keys->dk_nentries;
    }
    assert(known->nslots <= n);
}

static const struct tracer_heap_type *
add_type(struct tracer_heap *heap, uint32_t slot, PyTypeObject *type)
{
    struct tracer_heap_type known = {
        .type = type, .number = _PyTracer_HeapObject(heap, type),
        .way = way_of(type)};
    if (known.way >= TRACER_HEAP_FIELDS && known.way != TRACER_HEAP_UNTRACKED)
    {
        known.shape = _PyTracer_ShapeOfType(heap, type);
    }
    if (heap->failed) {
        return NULL;
    }
    if (known.way == TRACER_HEAP_INSTANCE) {
        count_slots(heap, &known, type);
    }
    if (++heap->ntypes * 2 > heap->types_mask) {
        if (grow(heap, (heap->types_mask + 1) * 2) < 0) {
            heap->failed = 1;
            return NULL;
        }
        slot = slot_of(heap->types, heap->types_mask, type);
    }
    assert(heap->types[slot].type == NULL);
    heap->types[slot] = known;
    return &heap->types[slot];
}

const struct tracer_heap_type *
_PyTracer_FindHeapType(struct tracer_heap *heap, PyTypeObject *type)
{
    uint32_t slot = slot_of(heap->types, heap->types_mask, type);
    return heap->types[slot].type != NULL ? &heap->types[slot]
                                          : add_type(heap, slot, type);
}
