/* What a NumPy array refers to: its base, its dtype, and the items of an array
   of objects.

   No tp_traverse tells these, as the collector does not track arrays.  The
   type is recognised by its name and by the offset of its weak references.
   The fields before these are part of NumPy's binary interface, through which
   compiled extensions read them, and are the same in all releases of 1.x and
   2.x.  Arrays of another layout are not read, and what they hold counts as
   held by C code.

   Items are recorded for an array that owns its data in one piece; for a view,
   its base holds them.  Objects in structures, an owner whose strides were
   changed, and item types other than NumPy's own are left out. */

#include "Python.h"
#include "pycore_tracer_heap.h"

#define NAME "numpy.ndarray"
#define DTYPE "numpy.dtype"
#define MOST_DIMENSIONS 64
#define IN_ONE_PIECE 3            // C or Fortran order
#define OWNS_DATA 4
#define OBJECTS 17                // number of the type of items

struct array {                    // PyArrayObject_fields
    PyObject_HEAD
    void *data;
    int nd;
    Py_ssize_t *dimensions, *strides;
    PyObject *base, *descr;
    int flags;
    PyObject *weakreflist;
};

struct dtype {                    // PyArray_Descr begins with
    PyObject_HEAD
    PyTypeObject *typeobj;
    char kind, type, byteorder, flags;
    int type_num;
};

const size_t _PyTracer_ArrayBase = offsetof(struct array, base);
const size_t _PyTracer_ArrayDtype = offsetof(struct array, descr);

int
_PyTracer_IsArrayType(const PyTypeObject *type)
{
    return type->tp_weaklistoffset == offsetof(struct array, weakreflist)
           && type->tp_basicsize >= (Py_ssize_t)sizeof(struct array)
           && type->tp_itemsize == 0 && type->tp_traverse == NULL
           && !(type->tp_flags & Py_TPFLAGS_HEAPTYPE)
           && strcmp(type->tp_name, NAME) == 0;
}

static int
is_of_objects(const PyObject *descr)
{
    const PyTypeObject *type = descr == NULL ? NULL : Py_TYPE(descr);
    int known = 0;
    for (; type != NULL && !known; type = type->tp_base) {
        known = type->tp_basicsize >= (Py_ssize_t)sizeof(struct dtype)
                && strcmp(type->tp_name, DTYPE) == 0;
    }
    const struct dtype *dtype = (const struct dtype *)descr;
    return known && dtype->kind == 'O' && dtype->type == 'O'
           && dtype->type_num == OBJECTS;
}

/* How many items; 0: the array is not in the expected form. */
static size_t
count_items(const struct array *array)
{
    size_t n = 1;
    if (array->nd < 0 || array->nd > MOST_DIMENSIONS) {
        return 0;
    }
    for (int i = 0; i < array->nd; i++) {
        if (array->dimensions[i] < 0
            || __builtin_mul_overflow(n, (size_t)array->dimensions[i], &n))
        {
            return 0;
        }
    }
    return n;
}

void
_PyTracer_WalkItemsOfArray(struct tracer_heap *heap, uint32_t object,
                           PyObject *op)
{
    const struct array *array = (const struct array *)op;
    if (array->nd > 0) {
        _PyTracer_HeapBuffer(heap, array->dimensions, object);
    }
    if (!(array->flags & OWNS_DATA) || array->data == NULL) {
        return;
    }
    _PyTracer_HeapBuffer(heap, array->data, object);
    if ((array->flags & IN_ONE_PIECE) && is_of_objects(array->descr)) {
        PyObject *const *items = array->data;
        size_t n = count_items(array);
        for (size_t i = 0; i < n && !heap->failed; i++) {
            _PyTracer_HeapReference(heap, items[i]);
        }
    }
}
