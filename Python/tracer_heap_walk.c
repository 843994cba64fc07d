/* What an object refers to.

   tp_traverse visits most references: all that may be part of a cycle. It does
   not visit the string keys of a dictionary, names, code objects, or the state
   of a class beyond its dictionary. It does visit references that a frame only
   borrows and that do not count. These cases are handled here and in
   tracer_heap_code.c. References with names come first, in the order of the
   shape: if the object has a field of that name, it is found among the
   references that tp_traverse visited. */

#include "Python.h"
#include "pycore_dict.h"          // DK_UNICODE_ENTRIES()
#include "pycore_object.h"        // _PyObject_IS_GC(), inline values
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_heap.h"

#define INITIAL_VISITED 16384     // more than comes from malloc()
#define LOOKED_AT 64              // for a name, of what tp_traverse has told

static int
visit(PyObject *op, void *arg)
{
    struct tracer_heap *heap = arg;
    if (heap->nvisited == heap->visited_size) {
        uint64_t size = Py_MAX(heap->visited_size * 2, INITIAL_VISITED);
        void *p = _PySnapshot_Resize(heap->visited, size,
                                     sizeof(*heap->visited));
        if (p == NULL) {
            heap->failed = 1;
            return 0;
        }
        heap->visited = p;
        heap->visited_size = size;
    }
    heap->visited[heap->nvisited++] = op;
    return 0;
}

/* --- Dictionaries, lists, tuples */

/* The keys of a dictionary are names. */
static void
name_keys(struct tracer_heap *heap, PyObject *dict)
{
    if (dict != NULL && PyDict_Check(dict)) {
        uint32_t number = _PyTracer_HeapObject(heap, dict);
        uint32_t *shape = &heap->graph->objects[number].shape;
        if (!heap->failed && (*shape == 0 || *shape == SNAPSHOT_DICT)) {
            if (*shape == 0 || !heap->graph->has_keys) {
                _PyTracer_WantKeys(heap, number);
            }
            *shape = SNAPSHOT_NAMESPACE;
        }
    }
}

static void
walk_unicode_pairs(struct tracer_heap *heap, PyDictKeysObject *keys)
{
    const PyDictUnicodeEntry *entries = DK_UNICODE_ENTRIES(keys);
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        if (entries[i].me_key != NULL) {
            _PyTracer_HeapReference(heap, entries[i].me_key);
            _PyTracer_HeapReference(heap, entries[i].me_value);
        }
    }
}

static void
walk_pairs(struct tracer_heap *heap, PyDictKeysObject *keys)
{
    if (DK_IS_UNICODE(keys)) {
        walk_unicode_pairs(heap, keys);
        return;
    }
    const PyDictKeyEntry *entries = DK_ENTRIES(keys);
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        if (entries[i].me_value != NULL) {
            _PyTracer_HeapReference(heap, entries[i].me_key);
            _PyTracer_HeapReference(heap, entries[i].me_value);
        }
    }
}

/* Shared keys belong to the class. Values inside an instance belong to the
   instance or, from some release on, to the dictionary. */
static void
walk_shared(struct tracer_heap *heap, uint32_t object, PyDictObject *dict)
{
    _PyTracer_SetHeapShape(heap, object,
                           _PyTracer_ShapeOfKeys(heap, dict->ma_keys));
    heap->nvisited = 0;
    (void)PyDict_Type.tp_traverse((PyObject *)dict, visit, heap);
    for (Py_ssize_t i = 0; i < dict->ma_keys->dk_nentries; i++) {
        _PyTracer_HeapReference(heap, heap->nvisited == 0 ? NULL
                                      : dict->ma_values->values[i]);
    }
    if (!dict->ma_values->embedded) {
        _PyTracer_HeapBuffer(heap, dict->ma_values, object);
    }
}

/* Attributes of a threading.local: a dictionary for each thread, keyed by an
   object that stands for the thread. */
static void
mark_locals(struct tracer_heap *heap, PyDictKeysObject *keys)
{
    const PyDictKeyEntry *entries = DK_ENTRIES(keys);
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        const PyDictKeyEntry *entry = &entries[i];
        if (entry->me_value == NULL) {
            continue;
        }
        if (strcmp(Py_TYPE(entry->me_key)->tp_name, "_thread._localdummy")) {
            return;
        }
        name_keys(heap, entry->me_value);
    }
}

static int
is_table_of_interned(const struct tracer_heap *heap, const PyDictObject *dict)
{
    for (uint32_t i = 0; i < heap->interpreters->n; i++) {
        if ((PyObject *)dict == heap->interpreters->list[i]
                                    ->cached_objects.interned_strings)
        {
            return 1;
        }
    }
    return 0;
}

/* It may already be known to be a namespace. */
static void
walk_dict(struct tracer_heap *heap, uint32_t object, PyDictObject *dict)
{
    if (is_table_of_interned(heap, dict)) {
        return;                   // its references do not count
    }
    if (dict->ma_values != NULL) {
        walk_shared(heap, object, dict);
        return;
    }
    if (heap->graph->objects[object].shape == 0) {
        _PyTracer_SetHeapShape(heap, object, SNAPSHOT_DICT);
        if (heap->graph->has_keys) {
            _PyTracer_WantKeys(heap, object);
        }
    }
    walk_pairs(heap, dict->ma_keys);
    if (!DK_IS_UNICODE(dict->ma_keys)) {
        mark_locals(heap, dict->ma_keys);
    }
    _PyTracer_HeapBuffer(heap, dict->ma_keys, object);
}

static void
walk_list(struct tracer_heap *heap, uint32_t object, PyListObject *list)
{
    _PyTracer_SetHeapShape(heap, object, SNAPSHOT_SEQUENCE);
    for (Py_ssize_t i = 0; i < Py_SIZE(list); i++) {
        _PyTracer_HeapReference(heap, list->ob_item[i]);
    }
    _PyTracer_HeapBuffer(heap, _PyTracer_ListItems((PyObject *)list), object);
}

/* The tuple of a closure got its shape from the function. */
static void
walk_tuple(struct tracer_heap *heap, uint32_t object, PyObject *tuple)
{
    if (heap->graph->objects[object].shape == 0) {
        _PyTracer_SetHeapShape(heap, object, SNAPSHOT_SEQUENCE);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        _PyTracer_HeapReference(heap, PyTuple_GET_ITEM(tuple, i));
    }
}

/* --- Objects whose references all have names */

static const struct tracer_heap_name *
names_of(const struct tracer_heap *heap, uint32_t shape)
{
    return &heap->shapes.names[heap->shapes.list[shape].first];
}

static inline PyObject *
field_of(PyObject *op, const struct tracer_heap_name *name)
{
    return *(PyObject **)((char *)op + name->offset);
}

/* The first names of the shape. */
static inline void
add_fields(struct tracer_heap *heap, uint32_t object, PyObject *op,
           uint32_t shape, uint32_t n)
{
    const struct tracer_heap_name *names = names_of(heap, shape);
    _PyTracer_SetHeapShape(heap, object, shape);
    for (uint32_t i = 0; i < n; i++) {
        _PyTracer_HeapReference(heap, field_of(op, &names[i]));
    }
}

static void
walk_fields(struct tracer_heap *heap, uint32_t object, PyObject *op,
            uint32_t shape)
{
    add_fields(heap, object, op, shape, heap->shapes.list[shape].n);
    if (PyFunction_Check(op)) {
        _PyTracer_NameClosure(heap, (PyFunctionObject *)op);
        name_keys(heap, ((PyFunctionObject *)op)->func_dict);
    }
}

/* The dictionary that an instance has, then its values, where they are. */
static void
walk_attributes(struct tracer_heap *heap, PyObject *op, uint32_t nvalues)
{
    PyDictObject *dict = _PyObject_ManagedDictPointer(op)->dict;
    _PyTracer_HeapReference(heap, dict);
    name_keys(heap, (PyObject *)dict);
    if (nvalues != 0) {
        const PyDictValues *values = _PyObject_InlineValues(op);
        int own = values->valid && _PyTracer_OwnsValues(dict);
        for (uint32_t i = 0; i < nvalues; i++) {
            _PyTracer_HeapReference(heap, own ? values->values[i] : NULL);
        }
    }
}

static void
walk_instance(struct tracer_heap *heap, uint32_t object, PyObject *op,
              const struct tracer_heap_type *type)
{
    uint32_t n = heap->shapes.list[type->shape].n;
    add_fields(heap, object, op, type->shape, type->nslots);
    if (n > type->nslots) {
        walk_attributes(heap, op, n - type->nslots - 1);
    }
    _PyTracer_HeapReference(heap, type->type);
}

/* --- The general way */

/* Was that reference visited, and has it no name yet? Fields are mostly
   visited in the order of their names. */
static int
take(struct tracer_heap *heap, const PyObject *op, uint64_t *next)
{
    uint64_t n = Py_MIN(heap->nvisited, *next + LOOKED_AT);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = round ? 0 : *next; i < n; i++) {
            if (heap->visited[i] == op) {
                heap->visited[i] = NULL;
                *next = round ? *next : i + 1;
                return 1;
            }
        }
        n = *next;
    }
    return 0;
}

static void
name_references(struct tracer_heap *heap, PyObject *op, uint32_t shape)
{
    const struct tracer_heap_name *names = names_of(heap, shape);
    uint32_t n = heap->shapes.list[shape].n;
    uint64_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        const PyObject *field = field_of(op, &names[i]);
        int there = field != NULL
                    && (names[i].counted || take(heap, field, &next));
        _PyTracer_HeapReference(heap, there ? field : NULL);
    }
}

static void
other_references(struct tracer_heap *heap)
{
    for (uint64_t i = 0; i < heap->nvisited; i++) {
        if (heap->visited[i] != NULL) {
            _PyTracer_HeapReference(heap, heap->visited[i]);
        }
    }
}

/* The references that a subclass of dict visits end with values, and with keys
   other than str: if so, remove them, to write them as pairs. */
static int
cut_pairs(struct tracer_heap *heap, PyDictObject *dict)
{
    PyDictKeysObject *keys = dict->ma_keys;
    uint64_t n = heap->nvisited;
    if (dict->ma_values != NULL) {
        return 0;
    }
    if (DK_IS_UNICODE(keys)) {
        for (Py_ssize_t i = keys->dk_nentries; i-- > 0; ) {
            const PyObject *value = DK_UNICODE_ENTRIES(keys)[i].me_value;
            if (value != NULL && (n == 0 || heap->visited[--n] != value)) {
                return 0;
            }
        }
    }
    else {
        for (Py_ssize_t i = keys->dk_nentries; i-- > 0; ) {
            const PyDictKeyEntry *entry = &DK_ENTRIES(keys)[i];
            if (entry->me_value != NULL
                && (n < 2 || heap->visited[--n] != entry->me_key
                    || heap->visited[--n] != entry->me_value))
            {
                return 0;
            }
        }
    }
    heap->nvisited = n;
    return 1;
}

/* A dictionary of attributes has keys that are names. */
static void
mark_namespace(struct tracer_heap *heap, PyObject *op, PyTypeObject *type,
               uint32_t kind)
{
    PyObject *dict = NULL;
    if (kind == SNAPSHOT_MODULE) {
        dict = ((PyModuleObject *)op)->md_dict;
    }
    else if (kind == SNAPSHOT_TYPE) {
        dict = ((PyTypeObject *)op)->tp_dict;
    }
    else if (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) {
        dict = (PyObject *)_PyObject_ManagedDictPointer(op)->dict;
    }
    else if (type->tp_dictoffset > 0) {
        dict = *(PyObject **)((char *)op + type->tp_dictoffset);
    }
    name_keys(heap, dict);
}

/* --- References without names that tp_traverse does not visit */

static void
walk_str_keys(struct tracer_heap *heap, PyDictKeysObject *keys)
{
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        (void)_PyTracer_HeapVisit(DK_UNICODE_ENTRIES(keys)[i].me_key, heap);
    }
}

static void
walk_dict_subclass(struct tracer_heap *heap, uint32_t object,
                   PyDictObject *dict, int pairs)
{
    if (pairs) {
        walk_pairs(heap, dict->ma_keys);
    }
    else if (dict->ma_values == NULL && DK_IS_UNICODE(dict->ma_keys)) {
        walk_str_keys(heap, dict->ma_keys);
    }
    if (dict->ma_values == NULL) {
        _PyTracer_HeapBuffer(heap, dict->ma_keys, object);
    }
    if (heap->graph->has_keys) {
        _PyTracer_WantKeys(heap, object);
    }
}

static void
walk_class(struct tracer_heap *heap, uint32_t object, PyHeapTypeObject *type)
{
    if (type->ht_cached_keys != NULL) {
        walk_str_keys(heap, type->ht_cached_keys);
        _PyTracer_HeapBuffer(heap, type->ht_cached_keys, object);
    }
    _PyTracer_WantText(heap, type->ht_name);
    _PyTracer_WantText(heap, type->ht_qualname);
}

/* References, blocks and texts that an object has by its kind. */
static void
walk_kind(struct tracer_heap *heap, uint32_t object, PyObject *op,
          uint32_t kind, int pairs)
{
    switch (kind) {
    case SNAPSHOT_DICT:
        walk_dict_subclass(heap, object, (PyDictObject *)op, pairs);
        break;
    case SNAPSHOT_TYPE:
        walk_class(heap, object, (PyHeapTypeObject *)op);
        break;
    case SNAPSHOT_MODULE:
        _PyTracer_WantText(heap, ((PyModuleObject *)op)->md_name);
        break;
    case SNAPSHOT_FUNCTION:
        _PyTracer_NameClosure(heap, (PyFunctionObject *)op);
        break;
    case SNAPSHOT_SEQUENCE:
        if (PyList_Check(op)) {
            _PyTracer_HeapBuffer(heap, _PyTracer_ListItems(op), object);
        }
        else if (!PyTuple_Check(op)) {
            _PyTracer_WalkItemsOfArray(heap, object, op);
        }
        break;
    case SNAPSHOT_SET:
        _PyTracer_HeapBuffer(heap, _PyTracer_SetTable(op), object);
        break;
    }
}

static void
walk_tracked(struct tracer_heap *heap, uint32_t object, PyObject *op,
             uint32_t shape)
{
    PyTypeObject *type = Py_TYPE(op);
    _PyTracer_SetHeapShape(heap, object, shape);
    uint32_t kind = heap->shapes.list[shape].kind;
    int pairs = 0;
    if (heap->shapes.list[shape].n == 0 && kind != SNAPSHOT_DICT) {
        (void)type->tp_traverse(op, _PyTracer_HeapVisit, heap);
    }
    else {
        heap->nvisited = 0;
        (void)type->tp_traverse(op, visit, heap);
        if (heap->failed) {
            return;
        }
        pairs = kind == SNAPSHOT_DICT && cut_pairs(heap, (PyDictObject *)op);
        name_references(heap, op, shape);
        other_references(heap);
    }
    walk_kind(heap, object, op, kind, pairs);
    if (heap->shapes.list[shape].n != 0) {
        mark_namespace(heap, op, type, kind);
    }
}

/* --- What the collector does not know */

/* Static types of the interpreter have their dictionary and subclasses
   elsewhere. */
static void
walk_static_type(struct tracer_heap *heap, uint32_t object,
                 PyTypeObject *type)
{
    static const char *const names[] = {
        "__bases__", "__mro__", "__base__", "__dict__", "__subclasses__"};
    int builtin = (type->tp_flags & _Py_TPFLAGS_STATIC_BUILTIN) != 0;
    uint32_t shape = _PyTracer_ShapeOfNames(heap, SNAPSHOT_TYPE, names,
                                            Py_ARRAY_LENGTH(names));
    _PyTracer_SetHeapShape(heap, object, shape);
    heap->graph->objects[object].text = _PyTracer_AddText(
        heap, type->tp_name, strlen(type->tp_name));
    _PyTracer_HeapReference(heap, type->tp_bases);
    _PyTracer_HeapReference(heap, type->tp_mro);
    _PyTracer_HeapReference(heap, type->tp_base);
    _PyTracer_HeapReference(heap, builtin ? NULL : type->tp_dict);
    _PyTracer_HeapReference(heap, builtin ? NULL : type->tp_subclasses);
    (void)_PyTracer_HeapVisit(type->tp_cache, heap);
    if (!builtin) {
        mark_namespace(heap, (PyObject *)type, Py_TYPE(type), SNAPSHOT_TYPE);
    }
}

struct range {                    // as in Objects/rangeobject.c
    PyObject_HEAD
    PyObject *start, *stop, *step, *length;
};

static void
walk_range(struct tracer_heap *heap, const struct range *range)
{
    _PyTracer_HeapReference(heap, range->start);
    _PyTracer_HeapReference(heap, range->stop);
    _PyTracer_HeapReference(heap, range->step);
    _PyTracer_HeapReference(heap, range->length);
}

/* The part that is a NumPy array, for an instance of a subclass as well. */
static int
walk_array(struct tracer_heap *heap, uint32_t object, PyObject *op,
           PyTypeObject *type)
{
    const PyTypeObject *base = type;
    while (base != NULL && !_PyTracer_IsArrayType(base)) {
        base = base->tp_base;
    }
    uint32_t shape = base == NULL ? 0 : _PyTracer_ShapeOfType(heap, type);
    if (base == NULL || heap->failed) {
        return 0;
    }
    _PyTracer_SetHeapShape(heap, object, shape);
    heap->nvisited = 0;
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        (void)visit((PyObject *)type, heap);
    }
    name_references(heap, op, shape);
    _PyTracer_WalkItemsOfArray(heap, object, op);
    return 1;
}

static void
walk_untracked(struct tracer_heap *heap, uint32_t object, PyObject *op,
               PyTypeObject *type)
{
    if (PyType_Check(op)) {
        walk_static_type(heap, object, (PyTypeObject *)op);
        return;
    }
    if (walk_array(heap, object, op, type)) {
        return;
    }
    if (type == &PyRange_Type) {
        walk_range(heap, (struct range *)op);
    }
    else if (PyByteArray_Check(op)) {
        if (_PyTracer_BytearrayBufferType() == NULL) {
            _PyTracer_HeapBuffer(heap, _PyTracer_BytearrayBuffer(op), object);
        }
        else {
            (void)_PyTracer_HeapVisit(
                (PyObject *)_PyTracer_BytearrayBuffer(op), heap);
        }
    }
    else if (type->tp_dictoffset > 0) {
        static const char *const names[] = {"__dict__"};
        PyObject *dict = *(PyObject **)((char *)op + type->tp_dictoffset);
        _PyTracer_SetHeapShape(heap, object, _PyTracer_ShapeOfNames(
            heap, SNAPSHOT_PLAIN, names, Py_ARRAY_LENGTH(names)));
        _PyTracer_HeapReference(heap, dict);
        name_keys(heap, dict);
    }
    /* The object holds its class, except for the elements of lru_cache(). */
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        && strcmp(type->tp_name, "functools._lru_list_elem") != 0)
    {
        _PyTracer_HeapReference(heap, type);
    }
}

/* --- All of them */

void
_PyTracer_WalkObject(struct tracer_heap *heap, uint32_t object, PyObject *op,
                     const struct tracer_heap_type *type)
{
    switch (type->way) {
    case TRACER_HEAP_LEAF:
        break;
    case TRACER_HEAP_DICT:
        walk_dict(heap, object, (PyDictObject *)op);
        break;
    case TRACER_HEAP_LIST:
        walk_list(heap, object, (PyListObject *)op);
        break;
    case TRACER_HEAP_TUPLE:
        walk_tuple(heap, object, op);
        break;
    case TRACER_HEAP_CODE:
        _PyTracer_WalkCode(heap, object, (PyCodeObject *)op);
        break;
    case TRACER_HEAP_FRAME:
        _PyTracer_WalkFrameObject(heap, object, (PyFrameObject *)op);
        break;
    case TRACER_HEAP_GENERATOR:
        _PyTracer_WalkGenerator(heap, object, (PyGenObject *)op);
        break;
    case TRACER_HEAP_FIELDS:
        walk_fields(heap, object, op, type->shape);
        break;
    case TRACER_HEAP_INSTANCE:
        walk_instance(heap, object, op, type);
        break;
    case TRACER_HEAP_TRACKED:
        walk_tracked(heap, object, op, type->shape);
        break;
    case TRACER_HEAP_UNTRACKED:
        walk_untracked(heap, object, op, Py_TYPE(op));
        break;
    case TRACER_HEAP_SOME_TRACKED:
        if (_PyObject_IS_GC(op)) {
            walk_tracked(heap, object, op, type->shape);
        }
        else {
            walk_untracked(heap, object, op, Py_TYPE(op));
        }
        break;
    }
}
