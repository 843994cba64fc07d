/* Filtering, folding, writing and reading of snapshots: arguments in, objects
   out. */

#include "traces.h"

#include "pycore_tracer_kept.h"

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

/* --- What is made when it is first needed */

static int
make_rest(TracesObject *self, int with_blocks)
{
    struct tracer_snapshot *s = self->data;
    struct tracer_snapshot copy;
    int result = 0;
    if (s->limit == UINT32_MAX && (!with_blocks || s->blocks != NULL)) {
        return 0;
    }
    if (s->source != NULL) {
        Py_BEGIN_CRITICAL_SECTION(self->source);
        result = _PyTracemalloc_NeedBlocks((TracesObject *)self->source);
        Py_END_CRITICAL_SECTION();
        if (result < 0) {
            return -1;
        }
    }
    if (_PySnapshot_Borrow(s, &copy) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_Truncate(&copy);
    if (result == 0 && with_blocks) {
        result = _PySnapshot_Unpack(&copy);
    }
    Py_END_ALLOW_THREADS
    _PySnapshot_Return(&copy);
    if (result < 0) {
        PyErr_NoMemory();
    }
    return result;
}

int
_PyTracemalloc_NeedPaths(TracesObject *self)
{
    return make_rest(self, 0);
}

int
_PyTracemalloc_NeedBlocks(TracesObject *self)
{
    return make_rest(self, 1);
}

/* --- Filters */

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
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    struct tracer_snapshot s = *self->data, *result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_Filter(&s, filters, n);
    Py_END_ALLOW_THREADS
    return with_info(self, result);
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
    if (wanted == NULL || _PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    return with_info(self, _PySnapshot_SelectLines(self->data, wanted));
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
    return _PyTracemalloc_NeedBlocks(self) < 0 ? NULL : with_info(
        self, _PySnapshot_Select(self->data,
                                 (const uint8_t *)PyBytes_AS_STRING(keep)));
}

/* One byte for each text: is it one of those in the tuple? */
static uint8_t *
mark_texts(const struct tracer_snapshot *s, PyObject *texts)
{
    uint8_t *marks = _PySnapshot_Zeroed(s->nstrings, 1);
    if (marks == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(texts, i),
                                                   &length);
        if (text == NULL) {
            _PySnapshot_Release(marks);
            return NULL;
        }
        for (uint32_t k = 0; k < s->nstrings; k++) {
            marks[k] |= s->strings[k].length == (uint64_t)length
                        && memcmp(s->text + s->strings[k].offset, text,
                                  (size_t)length) == 0;
        }
    }
    return marks;
}

/* _fold(kinds, rest: str, origins: bool, runners: tuple of str): one byte for
   each text, what becomes of frames of a file with that name: 0 shown, 1
   hidden, 2 hidden unless it is the outermost.  With the names of functions
   that run tasks, paths have one frame, that of the task. */
PyObject *
_PyTracemalloc_Fold(TracesObject *self, PyObject *args)
{
    const uint8_t *kinds;
    const char *rest;
    Py_ssize_t nkinds, length;
    int origins;
    PyObject *names;
    if (!PyArg_ParseTuple(args, "y#s#pO!:_fold", &kinds, &nkinds, &rest,
                          &length, &origins, &PyTuple_Type, &names))
    {
        return NULL;
    }
    if ((uint64_t)nkinds != self->data->nstrings) {
        PyErr_SetString(PyExc_ValueError, "one byte needed for each text");
        return NULL;
    }
    if (_PyTracemalloc_NeedPaths(self) < 0) {
        return NULL;
    }
    uint8_t *runners = NULL;
    if (PyTuple_GET_SIZE(names) != 0) {
        runners = mark_texts(self->data, names);
        if (runners == NULL) {
            return NULL;
        }
    }
    PyObject *traces = with_info(
        self, _PySnapshot_Fold(self->data, kinds, runners, rest,
                               (size_t)length, origins));
    _PySnapshot_Release(runners);
    if (traces != NULL) {
        ((TracesObject *)traces)->source = Py_NewRef((PyObject *)self);
    }
    return traces;
}

/* Are these notes that a reader accepts? */
static int
check_notes(const struct snapshot_note *notes, size_t n)
{
    int64_t last = 0;
    for (size_t i = 0; i < n; i++) {
        const struct snapshot_note *note = &notes[i];
        if (note->time < last || note->traced < 0 || note->peak < 0
            || note->most_traced < note->traced || note->rss < 0
            || note->most_rss < note->rss || note->blocks < 0)
        {
            return -1;
        }
        last = note->time;
    }
    return n <= SNAPSHOT_NOTES ? 0 : -1;
}

/* _write(fd: int, metadata: str, history: bytes): to a new, empty file. */
PyObject *
_PyTracemalloc_Write(TracesObject *self, PyObject *args)
{
    int fd;
    const char *meta, *notes;
    Py_ssize_t size, notes_size;
    if (!PyArg_ParseTuple(args, "is#y#:_write", &fd, &meta, &size, &notes,
                          &notes_size))
    {
        return NULL;
    }
    struct snapshot_beside beside = {
        .meta = meta, .meta_size = (size_t)size,
        .notes = (const struct snapshot_note *)notes,
        .nnotes = (size_t)notes_size / sizeof(struct snapshot_note)};
    if ((size_t)notes_size % sizeof(struct snapshot_note) != 0
        || check_notes(beside.notes, beside.nnotes) < 0)
    {
        PyErr_SetString(PyExc_ValueError, "these are no notes of a history");
        return NULL;
    }
    /* The file has no limit. */
    if (_PyTracemalloc_NeedGraph(self) < 0
        || _PyTracemalloc_NeedBlocks(self) < 0)
    {
        return NULL;
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_Write(self->data, fd, &beside);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        return errno == ENOMEM ? PyErr_NoMemory()
                               : PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static void
raise_bad_file(const struct snapshot_error *error)
{
    if (error->reason == NULL) {
        PyErr_NoMemory();
    }
    else {
        PyErr_Format(PyExc_ValueError, "%s at offset %llu", error->reason,
                     (unsigned long long)error->offset);
    }
}

int
_PyTracemalloc_NeedGraph(TracesObject *self)
{
    struct snapshot_error error;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_DecodeGraph(self->data, &error);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        raise_bad_file(&error);
    }
    return result;
}

/* _read_references(): ValueError if they are damaged. */
PyObject *
_PyTracemalloc_ReadReferences(TracesObject *self,
                              PyObject *Py_UNUSED(unused))
{
    return _PyTracemalloc_NeedGraph(self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* The notes belong to the caller from here on. */
static PyObject *
take_notes(struct tracer_snapshot *s)
{
    PyObject *bytes = PyBytes_FromStringAndSize(
        (const char *)s->notes, (Py_ssize_t)(s->nnotes * sizeof(*s->notes)));
    _PySnapshot_Release(s->notes);
    s->notes = NULL;
    s->nnotes = 0;
    return bytes;
}

/* _read_traces(image): (traces, metadata: str, history: bytes). */
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
            result = Py_BuildValue("NNN", traces, PyUnicode_DecodeUTF8(
                meta, (Py_ssize_t)meta_size, "surrogatepass"),
                take_notes(data));
        }
    }
    else {
        raise_bad_file(&error);
    }
    PyBuffer_Release(&buffer);
    return result;
}

/* Frames of the stack of the request that failed, the newest first. */
static PyObject *
read_failed_stack(TracesObject *self, uint32_t nframes)
{
    /* The last places of the file; the reader adds two. */
    uint32_t end = self->data->nlocations - 2;
    nframes = nframes < end ? nframes : end;
    PyObject *frames = PyList_New(nframes);
    for (uint32_t i = 0; frames != NULL && i < nframes; i++) {
        PyObject *frame = _PyTracemalloc_GetFrame(self, end - nframes + i);
        if (frame == NULL) {
            Py_CLEAR(frames);
            break;
        }
        PyList_SET_ITEM(frames, i, Py_NewRef(frame));
    }
    return frames;
}

/* None: no request failed. */
static PyObject *
read_failure(TracesObject *self, const struct kept_failure *f)
{
    if (f->number == 0) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsIsIsN}", "number", (unsigned long long)f->number,
        "size", (unsigned long long)f->size,
        "address_limit", (unsigned long long)f->address_limit,
        "address_space", (unsigned long long)f->address_space,
        "data_limit", (unsigned long long)f->data_limit,
        "data", (unsigned long long)f->data,
        "machine", (unsigned long long)f->machine,
        "depth", (unsigned long long)f->depth, "kind", f->kind,
        "reason", f->reason, "stack", read_failed_stack(self, f->nframes));
}

PyObject *
_PyTracemalloc_ReadKept(PyObject *Py_UNUSED(module), PyObject *image)
{
    Py_buffer buffer;
    struct snapshot_error error;
    struct kept_header h;
    uint32_t nnodes = 0;
    if (PyObject_GetBuffer(image, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    struct tracer_snapshot *data;
    Py_BEGIN_ALLOW_THREADS
    data = _PySnapshot_ReadKept(buffer.buf, (size_t)buffer.len, &h, &nnodes,
                                &error);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&buffer);
    if (data == NULL) {
        raise_bad_file(&error);
        return NULL;
    }
    PyObject *traces = _PyTracemalloc_NewTraces(data);
    if (traces == NULL) {
        return NULL;
    }
    return Py_BuildValue(
        "N{sIsIsLsLsNsy#sOsOsIsKsKsKsN}", traces, "pid", h.pid,
        "limit", h.limit, "began", (long long)h.began,
        "ran", (long long)((uint64_t)h.looked - (uint64_t)h.clock_began),
        "python", PyUnicode_DecodeUTF8(h.python, (Py_ssize_t)strlen(h.python),
                                       "replace"),
        "command", h.command, (Py_ssize_t)h.command_size,
        "incomplete", h.incomplete ? Py_True : Py_False,
        "replaced", h.replaced ? Py_True : Py_False,
        "missing", h.nnodes > nnodes && !(h.moves & 1) ? h.nnodes - nnodes
                                                       : 0,
        "untraced", (unsigned long long)h.untraced,
        "folded", (unsigned long long)h.folded,
        "pruned", (unsigned long long)h.pruned,
        "failure", read_failure((TracesObject *)traces, &h.failure));
}
