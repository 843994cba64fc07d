/* Finding out what a block is.  An object is recognised by the word where its
   type would be: that must be the address of a live type whose instances have
   a pre-header of exactly that size.  The live types are those reachable from
   `object` by __subclasses__(), in each interpreter that shares this GIL.
   Only _PyTracer_NameTypes() allocates through Python. */

#include "Python.h"
#include "pycore_interp.h"        // PyInterpreterState
#include "pycore_object.h"        // _PyType_PreHeaderSize()
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_compat.h" // _PyTracer_IsDictType()
#include "pycore_tracer_lock.h"   // _PyTracer_LockHead()
#include "pycore_typeobject.h"    // _PyStaticType_GetState()
#include "pycore_tracer_types.h"

#include <stdlib.h>

#define INITIAL_TYPES 4096

static int
grow(struct tracer_types *types)
{
    uint32_t size = types->size == 0 ? INITIAL_TYPES : types->size * 2;
    struct tracer_type *list = realloc(types->list, size * sizeof(*list));
    if (list == NULL) {
        return -1;
    }
    types->list = list;
    uint32_t *index = calloc((size_t)size * 2, sizeof(*index));
    if (index == NULL) {
        return -1;
    }
    free(types->index);
    types->index = index;
    types->size = size;
    types->mask = size * 2 - 1;
    assert((types->mask & size * 2) == 0 && types->n < size);
    for (uint32_t i = 0; i < types->n; i++) {
        index[_PyTracer_TypeSlot(types, list[i].type)] = i + 1;
    }
    return 0;
}

enum tracer_owner
_PyTracer_OwnerOfType(PyTypeObject *type)
{
    if (_PyTracer_IsDictType(type)) {
        return TRACER_OWNS_AS_DICT;
    }
    if (type->tp_flags & Py_TPFLAGS_LIST_SUBCLASS) {
        return TRACER_OWNS_AS_LIST;
    }
    if (type->tp_flags & Py_TPFLAGS_TYPE_SUBCLASS) {
        return TRACER_OWNS_AS_TYPE;
    }
    if (PyType_IsSubtype(type, &PySet_Type)
        || PyType_IsSubtype(type, &PyFrozenSet_Type))
    {
        return TRACER_OWNS_AS_SET;
    }
    if (PyType_IsSubtype(type, &PyByteArray_Type)) {
        return TRACER_OWNS_AS_BYTEARRAY;
    }
    return TRACER_OWNS_NOTHING;
}

static int
add_type(struct tracer_types *types, PyTypeObject *type)
{
    if (types->n == types->size && grow(types) < 0) {
        return -1;
    }
    assert(PyType_Check(type));
    uint32_t slot = _PyTracer_TypeSlot(types, type);
    if (types->index[slot] != 0) {
        return 0;
    }
    assert(types->n < types->size && types->n <= types->mask);
    struct tracer_type *added = &types->list[types->n++];
    types->index[slot] = types->n;
    uint64_t bit = _PyTracer_TypeHash(type) >> (64 - TRACER_TYPE_FILTER_BITS);
    types->filter[bit / 64] |= (uint64_t)1 << (bit % 64);
    added->type = type;
    added->presize = (uint32_t)_PyType_PreHeaderSize(type);
    assert(added->presize % 16 == 0 && added->presize <= 32);
    added->class_ = SNAPSHOT_NONE;
    return 0;
}

/* A dict of weak references, or NULL. */
static int
add_subclasses(struct tracer_types *types, PyObject *subclasses)
{
    Py_ssize_t pos = 0;
    PyObject *ref;
    while (subclasses != NULL && PyDict_Next(subclasses, &pos, NULL, &ref)) {
        PyObject *type = ((PyWeakReference *)ref)->wr_object;
        if (type != Py_None && Py_REFCNT(type) > 0
            && add_type(types, (PyTypeObject *)type) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* A static type has subclasses in each interpreter.  An interpreter with its
   own GIL may change them meanwhile, so it is left out.  Before the type is
   ready there, and after its end, _PyStaticType_GetState() finds the state of
   another type, or reads behind its array. */
static int
add_subclasses_of(struct tracer_types *types, PyTypeObject *type)
{
    if (!(type->tp_flags & _Py_TPFLAGS_STATIC_BUILTIN)) {
        return add_subclasses(types, (PyObject *)type->tp_subclasses);
    }
    struct _gil_runtime_state *gil = _PyInterpreterState_GET()->ceval.gil;
    int result = 0;
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL && result == 0; interp = interp->next)
    {
        if (interp->ceval.gil == gil) {
            managed_static_type_state *state = _PyStaticType_GetState(interp,
                                                                      type);
            if (state != NULL && state->type == type) {
                result = add_subclasses(types, state->tp_subclasses);
            }
        }
    }
    return result;
}

int
_PyTracer_CollectTypes(struct tracer_types *types)
{
    memset(types, 0, sizeof(*types));
    types->filter = calloc(1, (1 << TRACER_TYPE_FILTER_BITS) / 8);
    if (types->filter == NULL || add_type(types, &PyBaseObject_Type) < 0) {
        return -1;
    }
    int result = 0;
    _PyTracer_LockHead();
    for (uint32_t i = 0; i < types->n && result == 0; i++) {
        result = add_subclasses_of(types, types->list[i].type);
    }
    _PyTracer_UnlockHead();
    return result;
}

static int
is_kept(const struct tracer_types *types, uint32_t i)
{
    return types->kept == TRACER_TYPES_ALL
           || (types->kept == TRACER_TYPES_SEEN
               && types->list[i].class_ != SNAPSHOT_NONE);
}

void
_PyTracer_KeepTypes(struct tracer_types *types, int all)
{
    types->kept = all ? TRACER_TYPES_ALL : TRACER_TYPES_SEEN;
    for (uint32_t i = 0; i < types->n; i++) {
        if (is_kept(types, i)) {
            Py_INCREF(types->list[i].type);
        }
    }
}

void
_PyTracer_DropTypes(struct tracer_types *types)
{
    for (uint32_t i = 0; i < types->n; i++) {
        if (is_kept(types, i)) {
            assert(Py_REFCNT(types->list[i].type) > 0);
            Py_DECREF(types->list[i].type);
        }
    }
    types->kept = TRACER_TYPES_NONE;
}

void
_PyTracer_FreeTypes(struct tracer_types *types)
{
    _PyTracer_DropTypes(types);
    free(types->list);
    free(types->index);
    free(types->filter);
}

/* "module.qualname", without the module for builtins. */
static uint32_t
name_type(struct tracer_snapshot *s, PyTypeObject *type, PyObject *known)
{
    PyObject *name = PyType_GetFullyQualifiedName(type);
    PyObject *utf8 = NULL;
    PyObject *number = NULL;
    unsigned long index = SNAPSHOT_NONE;
    if (name == NULL || !PyUnicode_Check(name)) {
        goto done;
    }
    number = Py_XNewRef(PyDict_GetItemWithError(known, name));
    if (number == NULL && !PyErr_Occurred()) {
        utf8 = PyUnicode_AsEncodedString(name, "utf-8", "surrogatepass");
        if (utf8 == NULL) {
            goto done;
        }
        number = PyLong_FromUnsignedLong(
            _PySnapshot_AddString(s, PyBytes_AS_STRING(utf8),
                                  (uint32_t)PyBytes_GET_SIZE(utf8)));
        if (number == NULL || PyDict_SetItem(known, name, number) < 0) {
            goto done;
        }
    }
    if (number != NULL) {
        index = PyLong_AsUnsignedLong(number);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(utf8);
    Py_XDECREF(number);
    PyErr_Clear();
    return (uint32_t)index;
}

int
_PyTracer_NameTypes(const struct tracer_types *types,
                    struct tracer_snapshot *s)
{
    PyObject *known = PyDict_New();
    int result = known == NULL ? -1 : 0;
    for (uint32_t i = 0; result == 0 && i < types->n; i++) {
        uint32_t class_ = types->list[i].class_;
        if (class_ != SNAPSHOT_NONE) {
            s->classes[class_].name = name_type(s, types->list[i].type, known);
            if (s->classes[class_].name == SNAPSHOT_NONE) {
                result = -1;
            }
        }
    }
    PyErr_Clear();
    Py_XDECREF(known);
    return result;
}
