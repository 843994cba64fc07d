/* Single blocks of a snapshot, for reports that show a few of a million: the
   biggest ones, or the one at an address.  Python objects are made only for
   blocks that are shown.

   All functions are called with the GIL held. */

#include "traces.h" // TracesObject

#include <glib.h>                 // MIN()

/* The snapshot of an argument, whose blocks can be read and whose paths are
   cut to the limit; NULL with an exception. */
static struct tracer_snapshot *
get_blocks(PyObject *traces)
{
    if (!Py_IS_TYPE(traces, _PyTracemalloc_Traces_Type)) {
        PyErr_SetString(PyExc_TypeError, "Traces expected");
        return NULL;
    }
    struct tracer_snapshot *s = ((TracesObject *)traces)->data;
    if (!s->has_blocks) {
        PyErr_SetString(PyExc_ValueError,
                        "the snapshot has no traces of single blocks: take "
                        "it with traces=True");
        return NULL;
    }
    return _PyTracemalloc_NeedBlocks((TracesObject *)traces) < 0 ? NULL : s;
}

/* --- The biggest: a heap of the best so far, the worst of them on top */

static int
is_bigger(const struct snapshot_block *a, const struct snapshot_block *b)
{
    return a->size > b->size || (a->size == b->size
                                 && a->address > b->address);
}

static int
compare_blocks(const void *a, const void *b)
{
    const struct snapshot_block *x = *(const struct snapshot_block **)a;
    const struct snapshot_block *y = *(const struct snapshot_block **)b;
    return is_bigger(y, x) - is_bigger(x, y);
}

static void
sift_down(const struct snapshot_block **heap, size_t n,
          const struct snapshot_block *block)
{
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < n && is_bigger(heap[child], heap[child + 1])) {
            child++;
        }
        if (child >= n || is_bigger(heap[child], block)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = block;
}

/* Fill `heap` with pointers to the n biggest blocks, biggest first. */
static void
select_biggest(const struct tracer_snapshot *s,
               const struct snapshot_block **heap, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        heap[i] = &s->blocks[i];
    }
    /* A list that is sorted upwards is a heap. */
    qsort(heap, n, sizeof(*heap), compare_blocks);
    for (size_t i = 0; i < n / 2; i++) {
        const struct snapshot_block *other = heap[i];
        heap[i] = heap[n - 1 - i];
        heap[n - 1 - i] = other;
    }
    for (uint64_t i = n; n > 0 && i < s->nblocks; i++) {
        if (is_bigger(&s->blocks[i], heap[0])) {
            sift_down(heap, n, &s->blocks[i]);
        }
    }
    qsort(heap, n, sizeof(*heap), compare_blocks);
}

static PyObject *
block_row(PyObject *traces, const struct snapshot_block *block)
{
    return Py_BuildValue(
        "KKN", (unsigned long long)block->address,
        (unsigned long long)block->size,
        _PyTracemalloc_GetFrames((TracesObject *)traces, block->node));
}

PyDoc_STRVAR(get_biggest_blocks_doc,
"_get_biggest_blocks($module, traces, count, /)\n"
"--\n\n"
"Get (number of blocks, bytes of all, rows of the count biggest).\n\n"
"A row is (address, size, frames, most recent first).");

static PyObject *
biggest_blocks(PyObject *traces, Py_ssize_t count)
{
    struct tracer_snapshot *s = get_blocks(traces);
    if (s == NULL) {
        return NULL;
    }
    size_t n = count < 0 ? 0 : MIN((uint64_t)count, s->nblocks);
    SNAPSHOT_AUTO const struct snapshot_block **heap =
        _PySnapshot_Array(n + 1, sizeof(*heap));
    if (heap == NULL) {
        return PyErr_NoMemory();
    }
    select_biggest(s, heap, n);
    unsigned long long total = 0;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        total += s->blocks[i].size;
    }
    PyObject *rows = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; rows != NULL && i < n; i++) {
        PyObject *row = block_row(traces, heap[i]);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
    }
    if (rows == NULL) {
        return NULL;
    }
    return Py_BuildValue("KKN", (unsigned long long)s->nblocks, total, rows);
}

static PyObject *
get_biggest_blocks(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *traces, *result;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "On:_get_biggest_blocks", &traces, &count)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(traces);
    result = biggest_blocks(traces, count);
    Py_END_CRITICAL_SECTION();
    return result;
}

/* --- By address */

PyDoc_STRVAR(find_block_doc,
"_find_block($module, traces, address, /)\n"
"--\n\n"
"Get (address, size, frames, most recent first) of the block at an address,\n"
"or None.");

static PyObject *
block_at(PyObject *traces, unsigned long long address)
{
    struct tracer_snapshot *s = get_blocks(traces);
    if (s == NULL) {
        return NULL;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        if (s->blocks[i].address == address) {
            return block_row(traces, &s->blocks[i]);
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
find_block(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *traces, *result;
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "OK:_find_block", &traces, &address)) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(traces);
    result = block_at(traces, address);
    Py_END_CRITICAL_SECTION();
    return result;
}

PyDoc_STRVAR(get_block_sizes_doc,
"_get_block_sizes($module, traces, /)\n"
"--\n\n"
"Get all blocks as a dictionary {address: (size, 1)}.");

static PyObject *
block_sizes(PyObject *traces)
{
    struct tracer_snapshot *s = get_blocks(traces);
    if (s == NULL) {
        return NULL;
    }
    PyObject *sizes = PyDict_New();
    for (uint64_t i = 0; sizes != NULL && i < s->nblocks; i++) {
        PyObject *key = PyLong_FromUnsignedLongLong(s->blocks[i].address);
        PyObject *value = Py_BuildValue(
            "Ki", (unsigned long long)s->blocks[i].size, 1);
        if (key == NULL || value == NULL
            || PyDict_SetItem(sizes, key, value) < 0)
        {
            Py_CLEAR(sizes);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return sizes;
}

static PyObject *
get_block_sizes(PyObject *Py_UNUSED(module), PyObject *traces)
{
    PyObject *result;
    Py_BEGIN_CRITICAL_SECTION(traces);
    result = block_sizes(traces);
    Py_END_CRITICAL_SECTION();
    return result;
}

static PyMethodDef blocks_functions[] = {
    {"_get_biggest_blocks", get_biggest_blocks, METH_VARARGS,
     get_biggest_blocks_doc},
    {"_find_block", find_block, METH_VARARGS, find_block_doc},
    {"_get_block_sizes", get_block_sizes, METH_O, get_block_sizes_doc},
    {NULL}
};

int
_PyTracemalloc_AddBlocks(PyObject *module)
{
    return PyModule_AddFunctions(module, blocks_functions);
}
