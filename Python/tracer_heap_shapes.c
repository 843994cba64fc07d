/* Shapes: the names of the references of an object. A shape belongs to a type,
   to the keys that dictionaries share, or to a code object, and is made when
   the first object that has it is walked. At that time a name is the address
   of a text; later tracer_heap_texts.c makes strings of these. */

#include "Python.h"
#include "pycore_descrobject.h"   // propertyobject
#include "pycore_dict.h"          // DK_UNICODE_ENTRIES()
#include "pycore_moduleobject.h"  // PyModuleObject
#include "pycore_object.h"        // _PyObject_InlineValues()
#include "pycore_tracer_heap.h"

#define INITIAL_SHAPES 1024
#define INITIAL_NAMES 8192

/* --- Fields of CPython's own objects */

struct field {
    const char *name;
    size_t offset;
    int counted;                  // though tp_traverse does not tell it
};

#define FIELD(NAME, TYPE, MEMBER) {NAME, offsetof(TYPE, MEMBER), 0}
#define COUNTED(NAME, TYPE, MEMBER) {NAME, offsetof(TYPE, MEMBER), 1}

static const struct field function_fields[] = {
    FIELD("__code__", PyFunctionObject, func_code),
    FIELD("__globals__", PyFunctionObject, func_globals),
    FIELD("__builtins__", PyFunctionObject, func_builtins),
    FIELD("__name__", PyFunctionObject, func_name),
    FIELD("__qualname__", PyFunctionObject, func_qualname),
    FIELD("__module__", PyFunctionObject, func_module),
    FIELD("__closure__", PyFunctionObject, func_closure),
    FIELD("__defaults__", PyFunctionObject, func_defaults),
    FIELD("__kwdefaults__", PyFunctionObject, func_kwdefaults),
    FIELD("__doc__", PyFunctionObject, func_doc),
    FIELD("__annotations__", PyFunctionObject, func_annotations),
    _PyTracer_FUNCTION_FIELDS_OF_314(FIELD)
    FIELD("__type_params__", PyFunctionObject, func_typeparams),
    {NULL}
};
static const struct field method_fields[] = {
    FIELD("__func__", PyMethodObject, im_func),
    FIELD("__self__", PyMethodObject, im_self),
    {NULL}
};
static const struct field c_function_fields[] = {
    FIELD("__self__", PyCFunctionObject, m_self),
    FIELD("__module__", PyCFunctionObject, m_module),
    {NULL}
};
static const struct field type_fields[] = {
    COUNTED("__name__", PyHeapTypeObject, ht_name),
    COUNTED("__qualname__", PyHeapTypeObject, ht_qualname),
    FIELD("__dict__", PyHeapTypeObject, ht_type.tp_dict),
    FIELD("__bases__", PyHeapTypeObject, ht_type.tp_bases),
    FIELD("__base__", PyHeapTypeObject, ht_type.tp_base),
    FIELD("__mro__", PyHeapTypeObject, ht_type.tp_mro),
    COUNTED("__subclasses__", PyHeapTypeObject, ht_type.tp_subclasses),
    COUNTED("__slots__", PyHeapTypeObject, ht_slots),
    FIELD("module", PyHeapTypeObject, ht_module),
    {NULL}
};
static const struct field module_fields[] = {
    FIELD("__dict__", PyModuleObject, md_dict),
    COUNTED("__name__", PyModuleObject, md_name),
    {NULL}
};
static const struct field descriptor_fields[] = {
    COUNTED("__name__", PyDescrObject, d_name),
    COUNTED("__qualname__", PyDescrObject, d_qualname),
    FIELD("__objclass__", PyDescrObject, d_type),
    {NULL}
};
static const struct field property_fields[] = {
    FIELD("__name__", propertyobject, prop_name),
    FIELD("fget", propertyobject, prop_get),
    FIELD("fset", propertyobject, prop_set),
    FIELD("fdel", propertyobject, prop_del),
    FIELD("__doc__", propertyobject, prop_doc),
    {NULL}
};
static const struct field exception_fields[] = {
    FIELD("args", PyBaseExceptionObject, args),
    FIELD("__notes__", PyBaseExceptionObject, notes),
    FIELD("__traceback__", PyBaseExceptionObject, traceback),
    FIELD("__context__", PyBaseExceptionObject, context),
    FIELD("__cause__", PyBaseExceptionObject, cause),
    {NULL}
};
static const struct field traceback_fields[] = {
    FIELD("tb_next", PyTracebackObject, tb_next),
    FIELD("tb_frame", PyTracebackObject, tb_frame),
    {NULL}
};
static const struct field no_fields[] = {{NULL}};

static const struct {
    PyTypeObject *type;
    enum snapshot_object_kind kind;
    const struct field *fields;
    int whole;                    // there are no other references
} known_types[] = {
    {&PyFunction_Type, SNAPSHOT_FUNCTION, function_fields, 1},
    {&PyMethod_Type, SNAPSHOT_METHOD, method_fields, 1},
    {&PyCFunction_Type, SNAPSHOT_PLAIN, c_function_fields, 1},
    {&PyType_Type, SNAPSHOT_TYPE, type_fields, 0},
    {&PyModule_Type, SNAPSHOT_MODULE, module_fields, 0},
    {&PyCell_Type, SNAPSHOT_CELL, no_fields, 0},
    {&PyDict_Type, SNAPSHOT_DICT, no_fields, 0},
    {&PyList_Type, SNAPSHOT_SEQUENCE, no_fields, 0},
    {&PyTuple_Type, SNAPSHOT_SEQUENCE, no_fields, 0},
    {&PySet_Type, SNAPSHOT_SET, no_fields, 0},
    {&PyFrozenSet_Type, SNAPSHOT_SET, no_fields, 0},
    {&PyGetSetDescr_Type, SNAPSHOT_PLAIN, descriptor_fields, 1},
    {&PyMemberDescr_Type, SNAPSHOT_PLAIN, descriptor_fields, 1},
    {&PyMethodDescr_Type, SNAPSHOT_PLAIN, descriptor_fields, 1},
    {&PyWrapperDescr_Type, SNAPSHOT_PLAIN, descriptor_fields, 1},
    {&PyClassMethodDescr_Type, SNAPSHOT_PLAIN, descriptor_fields, 1},
    {&PyProperty_Type, SNAPSHOT_PLAIN, property_fields, 1},
    {NULL, SNAPSHOT_PLAIN, exception_fields, 0},  // BaseException
    {&PyTraceBack_Type, SNAPSHOT_PLAIN, traceback_fields, 1},
};

/* --- Making shapes */

static int
rehash(struct tracer_heap_shapes *shapes, uint32_t size)
{
    uint64_t *keys = _PyTracer_HeapArray(size, sizeof(*keys));
    uint32_t *numbers = _PyTracer_HeapArray(size, sizeof(*numbers));
    if (keys == NULL || numbers == NULL) {
        _PySnapshot_Release(keys);
        _PySnapshot_Release(numbers);
        return -1;
    }
    for (uint32_t i = 0; shapes->keys != NULL && i <= shapes->mask; i++) {
        if (shapes->keys[i] != 0) {
            uint64_t hash = shapes->keys[i] * TRACER_GOLDEN_64;
            uint32_t j = (uint32_t)(hash >> 32);
            while (keys[j & (size - 1)] != 0) {
                j++;
            }
            keys[j & (size - 1)] = shapes->keys[i];
            numbers[j & (size - 1)] = shapes->numbers[i];
        }
    }
    _PySnapshot_Release(shapes->keys);
    _PySnapshot_Release(shapes->numbers);
    shapes->keys = keys;
    shapes->numbers = numbers;
    shapes->mask = size - 1;
    return 0;
}

/* The slot of a key that has a shape: an address, with 1 to 7 added. */
static inline uint32_t
slot_of(const struct tracer_heap_shapes *shapes, uint64_t key)
{
    uint32_t i = (uint32_t)((key * TRACER_GOLDEN_64) >> 32) & shapes->mask;
    while (shapes->keys[i] != key && shapes->keys[i] != 0) {
        i = (i + 1) & shapes->mask;
    }
    return i;
}

static int
grow(void *array, uint32_t *size, size_t item)
{
    void **p = array;
    void *grown = *size > UINT32_MAX / 4 ? NULL
        : _PySnapshot_Resize(*p, (uint64_t)*size * 2 + SNAPSHOT_LARGE / item,
                             item);
    if (grown == NULL) {
        return -1;
    }
    *p = grown;
    *size *= 2;
    return 0;
}

static void
begin(struct tracer_heap *heap, enum snapshot_object_kind kind)
{
    struct tracer_heap_shapes *shapes = &heap->shapes;
    if (shapes->n == shapes->size
        && grow(&shapes->list, &shapes->size, sizeof(*shapes->list)) < 0)
    {
        heap->failed = 1;
        return;
    }
    shapes->list[shapes->n] = (struct snapshot_shape){
        .kind = kind, .first = shapes->nnames};
}

static void
add_name(struct tracer_heap *heap, const void *text,
         enum tracer_heap_form form, int64_t offset, int counted)
{
    struct tracer_heap_shapes *shapes = &heap->shapes;
    if (heap->failed || shapes->list[shapes->n].n == TRACER_HEAP_MAX_NAMES) {
        return;
    }
    if (shapes->nnames == shapes->names_size
        && grow(&shapes->names, &shapes->names_size,
                sizeof(*shapes->names)) < 0)
    {
        heap->failed = 1;
        return;
    }
    shapes->names[shapes->nnames++] = (struct tracer_heap_name){
        text, form, (int32_t)offset, counted};
    shapes->list[shapes->n].n++;
}

/* Its number. */
static uint32_t
end(struct tracer_heap *heap)
{
    return heap->failed ? 0 : heap->shapes.n++;
}

/* The shape that was kept for this key. */
static int
find(const struct tracer_heap *heap, uint64_t key, uint32_t *number)
{
    uint32_t slot = slot_of(&heap->shapes, key);
    *number = heap->shapes.numbers[slot];
    return heap->shapes.keys[slot] != 0;
}

static uint32_t
keep(struct tracer_heap *heap, uint64_t key, uint32_t number)
{
    struct tracer_heap_shapes *shapes = &heap->shapes;
    if (heap->failed) {
        return 0;
    }
    uint32_t slot = slot_of(shapes, key);
    shapes->keys[slot] = key;
    shapes->numbers[slot] = number;
    if (shapes->n * (uint64_t)2 > shapes->mask
        && rehash(shapes, (shapes->mask + 1) * 2) < 0)
    {
        heap->failed = 1;
    }
    return number;
}

int
_PyTracer_InitHeapShapes(struct tracer_heap *heap, int touch)
{
    struct tracer_heap_shapes *shapes = &heap->shapes;
    shapes->size = INITIAL_SHAPES;
    shapes->names_size = INITIAL_NAMES;
    shapes->list = _PyTracer_HeapArray(INITIAL_SHAPES, sizeof(*shapes->list));
    shapes->names = _PyTracer_HeapArray(INITIAL_NAMES, sizeof(*shapes->names));
    if (shapes->list == NULL || shapes->names == NULL
        || rehash(shapes, INITIAL_SHAPES * 4) < 0)
    {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(shapes->names, INITIAL_NAMES,
                            sizeof(*shapes->names));
        _PyTracer_TouchHeap(shapes->keys, INITIAL_SHAPES * 4,
                            sizeof(*shapes->keys));
        _PyTracer_TouchHeap(shapes->numbers, INITIAL_SHAPES * 4,
                            sizeof(*shapes->numbers));
    }
    for (int kind = 0; kind < SNAPSHOT_NFIXED_SHAPES; kind++) {
        begin(heap, kind);
        (void)end(heap);
    }
    return 0;
}

/* --- Of a type */

/* Members of the type itself, named by the class or by C code. */
static void
add_members(struct tracer_heap *heap, const PyTypeObject *type)
{
    for (const PyMemberDef *member = type->tp_members;
         member != NULL && member->name != NULL; member++)
    {
        if ((member->type == Py_T_OBJECT_EX || member->type == _Py_T_OBJECT)
            && !(member->flags & Py_RELATIVE_OFFSET))
        {
            add_name(heap, member->name, TRACER_HEAP_MEMBER, member->offset,
                     0);
        }
    }
}

static void
add_keys(struct tracer_heap *heap, PyDictKeysObject *keys, int64_t offset)
{
    assert(DK_IS_UNICODE(keys));
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        add_name(heap, DK_UNICODE_ENTRIES(keys)[i].me_key,
                 TRACER_HEAP_ATTRIBUTE, offset + i * (int)sizeof(PyObject *),
                 0);
    }
}

/* The dictionary of an instance, or the inline values in its place. */
static void
add_dict(struct tracer_heap *heap, PyTypeObject *type)
{
    if (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) {
        add_name(heap, "__dict__", TRACER_HEAP_AS_IS, MANAGED_DICT_OFFSET,
                 0);
    }
    else if (type->tp_dictoffset > 0) {
        add_name(heap, "__dict__", TRACER_HEAP_AS_IS, type->tp_dictoffset, 0);
    }
    if (type->tp_flags & Py_TPFLAGS_INLINE_VALUES) {
        PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
        if (keys != NULL) {
            add_keys(heap, keys, type->tp_basicsize
                                 + offsetof(struct _dictvalues, values));
        }
    }
}

/* An array's: its items follow. */
static void
add_array(struct tracer_heap *heap)
{
    add_name(heap, ".base", TRACER_HEAP_AS_IS, (int64_t)_PyTracer_ArrayBase,
             1);
    add_name(heap, ".dtype", TRACER_HEAP_AS_IS, (int64_t)_PyTracer_ArrayDtype,
             1);
    add_name(heap, "__class__", TRACER_HEAP_AS_IS,
             offsetof(PyObject, ob_type), 0);
    heap->shapes.list[heap->shapes.n].kind = SNAPSHOT_SEQUENCE;
}

static size_t
known_type(const PyTypeObject *type)
{
    const PyTypeObject *wanted =
        (PyObject *)type == PyExc_BaseException ? NULL : type;
    size_t i = 0;
    while (i < Py_ARRAY_LENGTH(known_types) && known_types[i].type != wanted)
    {
        i++;
    }
    return i;
}

int
_PyTracer_HasKnownFields(const PyTypeObject *type)
{
    size_t known = known_type(type);
    return known < Py_ARRAY_LENGTH(known_types) && known_types[known].whole;
}

uint32_t
_PyTracer_ShapeOfType(struct tracer_heap *heap, PyTypeObject *type)
{
    uint64_t key = (uintptr_t)type + 1;
    uint32_t number;
    if (find(heap, key, &number)) {
        return number;
    }
    begin(heap, SNAPSHOT_PLAIN);
    for (PyTypeObject *base = type; base != NULL && !heap->failed;
         base = base->tp_base)
    {
        size_t known = known_type(base);
        if (known < Py_ARRAY_LENGTH(known_types)) {
            for (const struct field *f = known_types[known].fields;
                 f->name != NULL; f++)
            {
                add_name(heap, f->name, TRACER_HEAP_AS_IS, (int64_t)f->offset,
                         f->counted);
            }
            heap->shapes.list[heap->shapes.n].kind = known_types[known].kind;
            break;
        }
        if (_PyTracer_IsArrayType(base)) {
            add_array(heap);
            break;
        }
        add_members(heap, base);
    }
    if (!heap->failed) {
        add_dict(heap, type);
        if (_PyTracer_IsDictType(type)) {
            heap->shapes.list[heap->shapes.n].kind = SNAPSHOT_DICT;
        }
    }
    /* One without names is one of the first. */
    const struct snapshot_shape *shape = &heap->shapes.list[heap->shapes.n];
    int is_first = !heap->failed && shape->n == 0
                   && shape->kind < SNAPSHOT_NFIXED_SHAPES;
    return keep(heap, key, is_first ? shape->kind : end(heap));
}

/* --- Of a dictionary that shares its keys */

uint32_t
_PyTracer_ShapeOfKeys(struct tracer_heap *heap, PyDictKeysObject *keys)
{
    uint64_t key = (uintptr_t)keys + 2;
    uint32_t number;
    if (find(heap, key, &number)) {
        return number;
    }
    begin(heap, SNAPSHOT_PLAIN);
    if (!heap->failed) {
        add_keys(heap, keys, 0);
    }
    return keep(heap, key, end(heap));
}

/* --- Of code */

/* In the order in which tracer_heap_code.c writes the references. */
static const char *const frame_names[] = {
    "code", "function", "frame object", "locals", NULL};
static const char *const generator_names[] = {
    "code", "function", "frame object", "locals", "__name__", "__qualname__",
    "exception", NULL};

static void
add_variables(struct tracer_heap *heap, PyCodeObject *code, int kinds,
              enum tracer_heap_form form)
{
    const char *what = PyBytes_AS_STRING(code->co_localspluskinds);
    for (int i = 0; i < code->co_nlocalsplus; i++) {
        int closure = (what[i] & CO_FAST_FREE) != 0;
        if (what[i] & kinds) {
            add_name(heap, PyTuple_GET_ITEM(code->co_localsplusnames, i),
                     closure ? TRACER_HEAP_CLOSURE : form, 0, 0);
        }
    }
}

uint32_t
_PyTracer_ShapeOfCode(struct tracer_heap *heap, PyCodeObject *code,
                      enum tracer_heap_code what)
{
    uint64_t key = (uintptr_t)code + 3 + what;
    uint32_t number;
    if (find(heap, key, &number)) {
        return number;
    }
    if (what == TRACER_HEAP_OF_CLOSURE) {
        begin(heap, SNAPSHOT_SEQUENCE);
        add_variables(heap, code, CO_FAST_FREE, TRACER_HEAP_CLOSURE);
    }
    else {
        begin(heap, SNAPSHOT_FRAME);
        for (const char *const *name = what == TRACER_HEAP_OF_FRAME
                 ? frame_names : generator_names; *name != NULL; name++)
        {
            add_name(heap, *name, TRACER_HEAP_AS_IS, 0, 0);
        }
        add_variables(heap, code, 0xff, TRACER_HEAP_LOCAL);
    }
    return keep(heap, key, end(heap));
}

uint32_t
_PyTracer_ShapeOfNames(struct tracer_heap *heap, uint32_t kind,
                       const char *const *names, size_t n)
{
    int other = kind == SNAPSHOT_OTHER_INTERPRETER;
    uint64_t key = (uintptr_t)names + 1 + other;
    uint32_t number;
    if (find(heap, key, &number)) {
        return number;
    }
    begin(heap, kind);
    for (size_t i = 0; i < n; i++) {
        add_name(heap, names[i], TRACER_HEAP_AS_IS, 0, 0);
    }
    return keep(heap, key, end(heap));
}
