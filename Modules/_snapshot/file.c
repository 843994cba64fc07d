/* Filtering, folding, writing and reading of snapshots: arguments in, objects
   out. */

#include "traces.h"

#include <errno.h>

static PyObject *
with_info(TracesObject *self, struct tracer_snapshot *data)
{
    PyObject *traces = _PyTracemalloc_NewTraces(data);
    if (traces != NULL) {
        ((TracesObject *)traces)->info = Py_XNewRef(self->info);
    }
    return traces;
}

/* One filter: (inclusive, filenames: bytes or None, line: int or -1,
   all_frames, domain: int or None).  Borrows the bytes. */
static int
parse_filter(TracesObject *self, PyObject *args,
             struct snapshot_filter *filter)
{
    PyObject *filenames, *domain;
    int line;
    memset(filter, 0, sizeof(*filter));
    if (!PyTuple_Check(args)
        || !PyArg_ParseTuple(args, "pOipO:_filter", &filter->inclusive,
                             &filenames, &line, &filter->all_frames, &domain))
    {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "filter must be a tuple");
        }
        return -1;
    }
    if (filenames != Py_None) {
        if (!PyBytes_Check(filenames)
            || (uint64_t)PyBytes_GET_SIZE(filenames) != self->data->nstrings)
        {
            PyErr_SetString(PyExc_ValueError,
                            "filter needs one byte for each text");
            return -1;
        }
        filter->filenames = (const uint8_t *)PyBytes_AS_STRING(filenames);
    }
    filter->line = line;
    if (domain != Py_None) {
        filter->by_domain = 1;
        filter->domain = PyLong_AsUnsignedLongLong(domain);
        if (PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
                return -1;
            }
            PyErr_Clear();        // and the number is one that is too large
        }
    }
    return 0;
}

/* Call `use` with the filters of a sequence. */
static PyObject *
with_filters(TracesObject *self, PyObject *filters,
             PyObject *(*use)(TracesObject *, const struct snapshot_filter *,
                              size_t))
{
    PyObject *items = PySequence_Tuple(filters);
    if (items == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    struct snapshot_filter *parsed = PyMem_New(struct snapshot_filter, n);
    PyObject *result = NULL;
    if (parsed == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (parse_filter(self, PyTuple_GET_ITEM(items, i), &parsed[i]) < 0) {
            goto done;
        }
    }
    result = use(self, parsed, (size_t)n);
done:
    PyMem_Free(parsed);
    Py_DECREF(items);
    return result;
}

static PyObject *
filter_blocks(TracesObject *self, const struct snapshot_filter *filters,
              size_t n)
{
    return with_info(self, _PySnapshot_Filter(self->data, filters, n));
}

PyObject *
_PyTracemalloc_Filter(TracesObject *self, PyObject *filters)
{
    return with_filters(self, filters, filter_blocks);
}

static PyObject *
filter_lines(TracesObject *self, const struct snapshot_filter *filters,
             size_t n)
{
    PyObject *lines = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)self->data->nlocations);
    if (lines != NULL
        && _PySnapshot_FilterLines(self->data, filters, n,
                                   (uint8_t *)PyBytes_AS_STRING(lines)) < 0)
    {
        Py_CLEAR(lines);
        PyErr_NoMemory();
    }
    return lines;
}

/* _filter_lines(filters): one byte for each location: does it pass? */
PyObject *
_PyTracemalloc_FilterLines(TracesObject *self, PyObject *filters)
{
    return with_filters(self, filters, filter_lines);
}

/* _select_lines(lines): the blocks that have one of them in their path. */
PyObject *
_PyTracemalloc_SelectLines(TracesObject *self, PyObject *lines)
{
    const uint8_t *wanted = _PyTracemalloc_GetLines(self, lines);
    return wanted == NULL ? NULL : with_info(
        self, _PySnapshot_SelectLines(self->data, wanted));
}

PyObject *
_PyTracemalloc_Select(TracesObject *self, PyObject *keep)
{
    if (!PyBytes_Check(keep)
        || (uint64_t)PyBytes_GET_SIZE(keep) != self->data->nblocks)
    {
        PyErr_SetString(PyExc_ValueError, "one byte needed for each block");
        return NULL;
    }
    return with_info(self, _PySnapshot_Select(
        self->data, (const uint8_t *)PyBytes_AS_STRING(keep)));
}

/* _fold(kinds, rest: str, origins: bool): one byte for each text, what becomes
   of frames of a file with that name: 0 shown, 1 hidden, 2 hidden unless it is
   the outermost. */
PyObject *
_PyTracemalloc_Fold(TracesObject *self, PyObject *args)
{
    const uint8_t *kinds;
    const char *rest;
    Py_ssize_t nkinds, length;
    int origins;
    if (!PyArg_ParseTuple(args, "y#s#p:_fold", &kinds, &nkinds, &rest,
                          &length, &origins))
    {
        return NULL;
    }
    if ((uint64_t)nkinds != self->data->nstrings) {
        PyErr_SetString(PyExc_ValueError, "one byte needed for each text");
        return NULL;
    }
    PyObject *traces = with_info(
        self, _PySnapshot_Fold(self->data, kinds, rest, (size_t)length,
                               origins));
    if (traces != NULL) {
        ((TracesObject *)traces)->source = Py_NewRef(self);
    }
    return traces;
}

/* _write(fd: int, metadata: str): to a new, empty file. */
PyObject *
_PyTracemalloc_Write(TracesObject *self, PyObject *args)
{
    int fd;
    const char *meta;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "is#:_write", &fd, &meta, &size)) {
        return NULL;
    }
    /* The file has no limit: paths are cut before they are written. */
    if (_PySnapshot_Truncate(self->data) < 0
        || _PySnapshot_Unpack(self->data) < 0)
    {
        return PyErr_NoMemory();
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_Write(self->data, fd, meta, (size_t)size);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        return errno == ENOMEM ? PyErr_NoMemory()
                               : PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyObject *
_PyTracemalloc_Read(PyObject *Py_UNUSED(module), PyObject *image)
{
    Py_buffer buffer;
    struct snapshot_error error;
    const char *meta = NULL;
    size_t meta_size = 0;
    if (PyObject_GetBuffer(image, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    struct tracer_snapshot *data;
    Py_BEGIN_ALLOW_THREADS
    data = _PySnapshot_Read(buffer.buf, (size_t)buffer.len, &meta, &meta_size,
                            &error);
    Py_END_ALLOW_THREADS
    PyObject *result = NULL;
    if (data != NULL) {
        PyObject *traces = _PyTracemalloc_NewTraces(data);
        if (traces != NULL) {
            result = Py_BuildValue("NN", traces, PyUnicode_DecodeUTF8(
                meta, (Py_ssize_t)meta_size, "surrogatepass"));
        }
    }
    else if (error.reason == NULL) {
        PyErr_NoMemory();
    }
    else {
        PyErr_Format(PyExc_ValueError, "%s at offset %llu", error.reason,
                     (unsigned long long)error.offset);
    }
    PyBuffer_Release(&buffer);
    return result;
}
