/* A snapshot from Python tuples: (domain, size, frames[, total_nframe]).

   They may come from a hostile pickle, so messages do not show them: the text
   of a small object can be very long. */

#include "traces.h"

#include <stdlib.h>

struct builder {
    struct tracer_snapshot *s;
    struct snapshot_paths paths;
    struct snapshot_pairs tuples;     // address of a tuple of frames
    uint32_t *tuple_paths;            // its path
    uint32_t tuples_size;
    struct snapshot_pairs domains;
    PyObject *filenames;              // str -> string
    PyObject *frames;                 // (filename, lineno) -> location
    uint32_t locations_size;
    uint32_t memory, no_text;         // strings
};

/* Make room for one item more; *size counts items. */
static int
make_room(void *array, uint32_t *size, uint32_t used, size_t item)
{
    int result = _PySnapshot_Reserve(array, size, used + 1, item);
    if (result < 0) {
        PyErr_NoMemory();
    }
    return result;
}

/* Number of a key seen before, else NONE; a new key is not an exception. */
static uint32_t
known(PyObject *dict, PyObject *key)
{
    PyObject *number = PyDict_GetItemWithError(dict, key);
    return number == NULL ? SNAPSHOT_NONE
                          : (uint32_t)PyLong_AsUnsignedLong(number);
}

static int
remember(PyObject *dict, PyObject *key, uint32_t number)
{
    PyObject *value = PyLong_FromUnsignedLong(number);
    int result = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
    Py_XDECREF(value);
    return result;
}

static uint32_t
string_number(struct builder *b, PyObject *text)
{
    uint32_t number = known(b->filenames, text);
    if (number != SNAPSHOT_NONE || PyErr_Occurred()) {
        return number;
    }
    PyObject *utf8 = PyUnicode_AsEncodedString(text, "utf-8",
                                               "surrogatepass");
    if (utf8 == NULL) {
        return SNAPSHOT_NONE;
    }
    if ((uint64_t)PyBytes_GET_SIZE(utf8) < UINT32_MAX) {
        number = _PySnapshot_AddString(b->s, PyBytes_AS_STRING(utf8),
                                       (uint32_t)PyBytes_GET_SIZE(utf8));
    }
    Py_DECREF(utf8);
    if (number == SNAPSHOT_NONE) {
        PyErr_NoMemory();
        return number;
    }
    return remember(b->filenames, text, number) < 0 ? SNAPSHOT_NONE : number;
}

static uint32_t
location_number(struct builder *b, PyObject *frame)
{
    if (!PyTuple_Check(frame) || PyTuple_GET_SIZE(frame) != 2
        || !PyUnicode_CheckExact(PyTuple_GET_ITEM(frame, 0))
        || !PyLong_CheckExact(PyTuple_GET_ITEM(frame, 1)))
    {
        PyErr_SetString(PyExc_TypeError,
                        "frame must be a (filename: str, lineno: int) tuple");
        return SNAPSHOT_NONE;
    }
    uint32_t number = known(b->frames, frame);
    if (number != SNAPSHOT_NONE || PyErr_Occurred()) {
        return number;
    }
    int overflow;
    long line = PyLong_AsLongAndOverflow(PyTuple_GET_ITEM(frame, 1),
                                         &overflow);
    if (line < 0 || line > INT32_MAX || overflow) {
        PyErr_SetString(PyExc_ValueError,
                        "lineno must be in range [0; 2147483647]");
        return SNAPSHOT_NONE;
    }
    uint32_t filename = string_number(b, PyTuple_GET_ITEM(frame, 0));
    number = b->s->nlocations;
    if (filename == SNAPSHOT_NONE
        || make_room(&b->s->locations, &b->locations_size, number,
                     sizeof(*b->s->locations)) < 0
        || remember(b->frames, frame, number) < 0)
    {
        return SNAPSHOT_NONE;
    }
    b->s->locations[b->s->nlocations++] = (struct snapshot_location){
        .filename = filename, .function = b->no_text,
        .line = (int32_t)line,
        .end_line = -1, .column = -1, .end_column = -1, .first_line = -1,
    };
    return number;
}

/* Path of a tuple of frames.  Tracebacks are shared: looked up by address. */
static uint32_t
path_number(struct builder *b, PyObject *frames)
{
    if (!PyTuple_Check(frames) || PyTuple_GET_SIZE(frames) == 0) {
        PyErr_SetString(PyExc_TypeError,
                        "traceback must be a tuple of at least one frame");
        return SNAPSHOT_NONE;
    }
    uintptr_t address = (uintptr_t)frames;
    uint32_t seen = b->tuples.used;
    uint32_t number = _PySnapshot_Pair(
        &b->tuples, (uint32_t)((uint64_t)address >> 32), (uint32_t)address);
    if (number != SNAPSHOT_NONE && number != seen) {
        return b->tuple_paths[number];
    }
    uint32_t path = SNAPSHOT_NONE;
    for (Py_ssize_t i = PyTuple_GET_SIZE(frames); i-- > 0; ) {
        uint32_t location = location_number(b, PyTuple_GET_ITEM(frames, i));
        if (location == SNAPSHOT_NONE) {
            return SNAPSHOT_NONE;
        }
        path = _PySnapshot_Path(&b->paths, path, location);
        if (path == SNAPSHOT_NONE) {
            PyErr_NoMemory();
            return SNAPSHOT_NONE;
        }
    }
    if (number == SNAPSHOT_NONE) {
        PyErr_NoMemory();
        return SNAPSHOT_NONE;
    }
    if (make_room(&b->tuple_paths, &b->tuples_size, number,
                  sizeof(uint32_t)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    b->tuple_paths[number] = path;
    return path;
}

static uint32_t
class_number(struct builder *b, uint32_t domain)
{
    struct tracer_snapshot *s = b->s;
    uint32_t number = _PySnapshot_Pair(&b->domains, 0, domain);
    if (number == s->nclasses) {
        struct snapshot_class *classes =
            _PySnapshot_Resize(s->classes, (uint64_t)number + 1,
                               sizeof(*classes));
        if (classes == NULL) {
            number = SNAPSHOT_NONE;
        }
        else {
            s->classes = classes;
            classes[number] = (struct snapshot_class){
                .name = b->memory, .kind = SNAPSHOT_EXTERNAL,
                .domain = domain};
            s->nclasses++;
        }
    }
    if (number == SNAPSHOT_NONE) {
        PyErr_NoMemory();
    }
    return number;
}

/* Count `count` blocks at the end of a path; return the node, SNAPSHOT_NONE
   with an exception set. */
static uint32_t
count_at(struct builder *b, uint32_t path, uint32_t nframe, uint64_t size,
         uint64_t count)
{
    uint32_t node = path == SNAPSHOT_NONE
        ? SNAPSHOT_NONE : _PySnapshot_PathEnd(&b->paths, path, nframe);
    if (node == SNAPSHOT_NONE) {
        PyErr_NoMemory();
        return node;
    }
    uint64_t *m = b->paths.measures[b->paths.nodes[node].measures];
    for (int i = 0; i < SNAPSHOT_GARBAGE_SIZE; i += 2) {
        m[i] += size;
        m[i + 1] += count;
    }
    return node;
}

static int
add_trace(struct builder *b, PyObject *trace)
{
    unsigned long domain;
    unsigned long long size;
    PyObject *frames;
    PyObject *total = Py_None;
    unsigned long nframe = 0;
    if (!PyTuple_Check(trace)) {
        PyObject *name = PyType_GetName(Py_TYPE(trace));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "trace must be a tuple, not %U",
                         name);
            Py_DECREF(name);
        }
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(trace);
    /* C frames, behind these, are of another run. */
    if (n < 3 || n > 5 || !PyLong_CheckExact(PyTuple_GET_ITEM(trace, 0))
        || !PyLong_CheckExact(PyTuple_GET_ITEM(trace, 1)))
    {
        PyErr_SetString(PyExc_TypeError,
                        "trace must be a (domain: int, size: int, "
                        "frames: tuple, total_nframe: int or None) tuple");
        return -1;
    }
    domain = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(trace, 0));
    size = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(trace, 1));
    frames = PyTuple_GET_ITEM(trace, 2);
    if (n > 3) {
        total = PyTuple_GET_ITEM(trace, 3);
    }
    if (!PyErr_Occurred() && total != Py_None) {
        nframe = PyLong_AsUnsignedLong(total);
    }
    if (PyErr_Occurred() || domain > UINT32_MAX || nframe >= SNAPSHOT_NONE) {
        if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError,
                            "number out of range in trace");
        }
        return -1;
    }
    uint32_t class_ = class_number(b, (uint32_t)domain);
    uint32_t path = class_ == SNAPSHOT_NONE ? SNAPSHOT_NONE
                                            : path_number(b, frames);
    if (path == SNAPSHOT_NONE) {
        return -1;
    }
    uint32_t node = count_at(b, path, (uint32_t)nframe, size, 1);
    if (node == SNAPSHOT_NONE) {
        return -1;
    }
    b->s->blocks[b->s->nblocks++] = (struct snapshot_block){
        .size = size, .node = node, .class_ = class_,
    };
    return 0;
}

static int
prepare(struct builder *b, Py_ssize_t n)
{
    b->s = _PySnapshot_New();
    if (b->s == NULL || _PySnapshot_PathsInit(&b->paths) < 0
        || _PySnapshot_PairsInit(&b->tuples) < 0
        || _PySnapshot_PairsInit(&b->domains) < 0)
    {
        PyErr_NoMemory();
        return -1;
    }
    b->s->limit = UINT32_MAX;
    b->s->has_blocks = 1;
    b->s->blocks = _PySnapshot_Array((uint64_t)n, sizeof(*b->s->blocks));
    b->memory = _PySnapshot_AddString(b->s, "<memory>", 8);
    b->no_text = _PySnapshot_AddString(b->s, "", 0);
    if (b->s->blocks == NULL || b->memory == SNAPSHOT_NONE
        || b->no_text == SNAPSHOT_NONE)
    {
        PyErr_NoMemory();
        return -1;
    }
    b->filenames = PyDict_New();
    b->frames = PyDict_New();
    return b->filenames == NULL || b->frames == NULL ? -1 : 0;
}

/* The snapshot, or NULL if `result` is -1. */
static struct tracer_snapshot *
finish(struct builder *b, int result)
{
    if (result == 0) {
        _PySnapshot_PathsMove(&b->paths, b->s);
    }
    else {
        _PySnapshot_Free(b->s);
        b->s = NULL;
    }
    _PySnapshot_PathsFree(&b->paths);
    _PySnapshot_PairsFree(&b->tuples);
    _PySnapshot_PairsFree(&b->domains);
    _PySnapshot_Release(b->tuple_paths);
    Py_XDECREF(b->filenames);
    Py_XDECREF(b->frames);
    return b->s;
}

struct tracer_snapshot *
_PyTracemalloc_FromSequence(PyObject *traces)
{
    /* A copy: tuples that are known by their address must stay alive. */
    PyObject *items = PySequence_Tuple(traces);
    if (items == NULL) {
        return NULL;
    }
    struct builder b = {NULL};
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    int result = prepare(&b, n);
    for (Py_ssize_t i = 0; result == 0 && i < n; i++) {
        result = add_trace(&b, PyTuple_GET_ITEM(items, i));
    }
    Py_DECREF(items);
    return finish(&b, result);
}

static int
add_line(struct builder *b, PyObject *line)
{
    PyObject *filename, *lineno;
    unsigned long long size, count;
    if (!PyTuple_Check(line)
        || !PyArg_ParseTuple(line, "OOKK:_from_lines", &filename, &lineno,
                             &size, &count))
    {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "line must be a tuple");
        }
        return -1;
    }
    PyObject *frame = PyTuple_Pack(2, filename, lineno);
    uint32_t location = frame == NULL ? SNAPSHOT_NONE
                                      : location_number(b, frame);
    Py_XDECREF(frame);
    if (location == SNAPSHOT_NONE) {
        return -1;
    }
    uint32_t path = _PySnapshot_Path(&b->paths, SNAPSHOT_NONE, location);
    return count_at(b, path, 0, size, count) == SNAPSHOT_NONE ? -1 : 0;
}

/* _from_lines([(filename, lineno, size, count), ...]): sums without blocks. */
PyObject *
_PyTracemalloc_FromLines(PyObject *Py_UNUSED(module), PyObject *lines)
{
    PyObject *items = PySequence_Tuple(lines);
    if (items == NULL) {
        return NULL;
    }
    struct builder b = {NULL};
    int result = prepare(&b, 0);
    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(items); i++) {
        result = add_line(&b, PyTuple_GET_ITEM(items, i));
    }
    Py_DECREF(items);
    struct tracer_snapshot *data = finish(&b, result);
    if (data == NULL) {
        return NULL;
    }
    data->has_blocks = 0;
    return _PyTracemalloc_NewTraces(data);
}

/* _rename(names): sums with other file names, one for each text or None. */
PyObject *
_PyTracemalloc_Rename(TracesObject *self, PyObject *names)
{
    struct tracer_snapshot *from = self->data;
    if (!PyList_Check(names)
        || (uint64_t)PyList_GET_SIZE(names) != from->nstrings)
    {
        PyErr_SetString(PyExc_ValueError, "one name needed for each text");
        return NULL;
    }
    /* Paths are not cut again afterwards: names are not locations. */
    if (_PyTracemalloc_NeedPaths(self) < 0) {
        return NULL;
    }
    struct builder b = {_PySnapshot_Copy(from, 0)};
    b.filenames = PyDict_New();
    int result = b.s == NULL || b.filenames == NULL ? -1 : 0;
    if (b.s == NULL) {
        PyErr_NoMemory();
    }
    for (uint32_t i = 0; result == 0 && i < from->nlocations; i++) {
        PyObject *name = PyList_GET_ITEM(names, from->locations[i].filename);
        if (!PyUnicode_CheckExact(name)) {
            PyErr_SetString(PyExc_TypeError, "a name must be a string");
            result = -1;
            break;
        }
        b.s->locations[i].filename = string_number(&b, name);
        result = b.s->locations[i].filename == SNAPSHOT_NONE ? -1 : 0;
    }
    Py_XDECREF(b.filenames);
    if (result < 0) {
        _PySnapshot_Free(b.s);
        return NULL;
    }
    return _PyTracemalloc_NewTraces(b.s);
}
