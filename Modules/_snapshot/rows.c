/* The results of grouping as rows of Python objects: the methods of Traces
   behind Snapshot.statistics(), call_tree() and pinned_arenas(). */

#include "traces.h"

#define ROW_SIZE (2 + SNAPSHOT_NMEASURES + 1)
#define TREE_HEAD 5

static const struct { const char *name; enum snapshot_key key; } keys[] = {
    {"filename", SNAPSHOT_BY_FILENAME},
    {"lineno", SNAPSHOT_BY_LINENO},
    {"function", SNAPSHOT_BY_FUNCTION},
    {"traceback", SNAPSHOT_BY_TRACEBACK},
    {"type", SNAPSHOT_BY_TYPE},
    {"type+lineno", SNAPSHOT_BY_TYPE_LINENO},
    {"domain", SNAPSHOT_BY_DOMAIN},
    {"native", SNAPSHOT_BY_NATIVE},
    {"address", SNAPSHOT_BY_ADDRESS},
};

/* Fill a tuple from item i on; 0, or -1 with an exception. */
static int
set_measures(PyObject *row, Py_ssize_t i, const uint64_t *measures, int n)
{
    for (int m = 0; m < SNAPSHOT_NMEASURES; m++) {
        PyObject *value = m < n ? PyLong_FromUnsignedLongLong(measures[m])
                                : Py_NewRef(Py_None);
        if (value == NULL) {
            return -1;
        }
        PyTuple_SET_ITEM(row, i + m, value);
    }
    return 0;
}

static PyObject *
domain_name(const struct snapshot_class *class_)
{
    switch (class_->kind) {
    case SNAPSHOT_OBJECT:
        return PyUnicode_FromString("object");
    case SNAPSHOT_MEMORY:
        return PyUnicode_FromString("memory");
    case SNAPSHOT_RAW:
        return PyUnicode_FromString("raw");
    default:
        return class_->domain == SNAPSHOT_NATIVE_DOMAIN
               ? PyUnicode_FromString("native")
               : PyUnicode_FromFormat("domain %u",
                                      (unsigned int)class_->domain);
    }
}

/* ((text, 0),): how a text stands where a traceback is expected.  Steals. */
static PyObject *
frames_of_text(PyObject *text)
{
    return text == NULL ? NULL : Py_BuildValue("((Ni))", text, 0);
}

static PyObject *
frames_of_frame(PyObject *frame)
{
    return frame == NULL ? NULL : Py_BuildValue("(N)", frame);
}

static PyObject *
function_frame(TracesObject *self, uint32_t location)
{
    const struct snapshot_location *l = &self->data->locations[location];
    int unknown = self->data->strings[l->function].length == 0;
    PyObject *line = PyLong_FromLong(l->first_line < 0 ? 0 : l->first_line);
    PyObject *filename = _PyTracemalloc_GetString(self, l->filename);
    PyObject *function = unknown ? Py_NewRef(Py_None)
        : _PyTracemalloc_GetString(self, l->function);
    PyObject *fields[] = {filename, line, function};
    PyObject *frame = _PyTracemalloc_NewFrame(fields, 3);
    Py_XDECREF(line);
    Py_XDECREF(filename);
    Py_XDECREF(function);
    return frame;
}

/* The key of a group and the frames of its Statistic.traceback. */
static int
describe(TracesObject *self, enum snapshot_key by,
         const struct snapshot_group *group, PyObject **key, PyObject **frames)
{
    struct tracer_snapshot *s = self->data;
    *key = NULL;
    *frames = NULL;
    switch (by) {
    case SNAPSHOT_BY_FILENAME:
        *key = _PyTracemalloc_GetString(
            self, s->locations[group->location].filename);
        *frames = frames_of_text(Py_XNewRef(*key));
        break;
    case SNAPSHOT_BY_LINENO:
        *key = _PyTracemalloc_GetFrame(self, group->location);
        *frames = frames_of_frame(Py_XNewRef(*key));
        break;
    case SNAPSHOT_BY_FUNCTION: {
        PyObject *frame = function_frame(self, group->location);
        if (frame != NULL) {
            *key = PyTuple_Pack(3, PyStructSequence_GetItem(frame, 0),
                                PyStructSequence_GetItem(frame, 2),
                                PyStructSequence_GetItem(frame, 1));
        }
        *frames = frames_of_frame(frame);
        break;
    }
    case SNAPSHOT_BY_TRACEBACK:
    case SNAPSHOT_BY_PATH:
        *frames = _PyTracemalloc_GetFrames(self, group->node);
        *key = Py_XNewRef(*frames);
        break;
    case SNAPSHOT_BY_TYPE:
        *key = _PyTracemalloc_GetString(self, s->classes[group->class_].name);
        *frames = frames_of_text(Py_XNewRef(*key));
        break;
    case SNAPSHOT_BY_TYPE_LINENO:
        *frames = frames_of_frame(
            _PyTracemalloc_GetFrame(self, group->location));
        if (*frames != NULL) {
            PyObject *frame = PyTuple_GET_ITEM(*frames, 0);
            *key = Py_BuildValue("NOO",
                _PyTracemalloc_GetString(self,
                                         s->classes[group->class_].name),
                PyStructSequence_GetItem(frame, 0),
                PyStructSequence_GetItem(frame, 1));
        }
        break;
    case SNAPSHOT_BY_DOMAIN:
        *key = domain_name(&s->classes[group->class_]);
        *frames = frames_of_text(Py_XNewRef(*key));
        break;
    case SNAPSHOT_BY_NATIVE:
        *key = _PyTracemalloc_GetNative(self, group->class_);
        *frames = Py_NewRef(Py_None);
        break;
    case SNAPSHOT_BY_ADDRESS:
        *key = PyLong_FromUnsignedLongLong(group->address);
        *frames = _PyTracemalloc_GetFrames(self, group->node);
        break;
    }
    if (*key == NULL || *frames == NULL) {
        Py_CLEAR(*key);
        Py_CLEAR(*frames);
        return -1;
    }
    return 0;
}

static PyObject *
frame_or_none(TracesObject *self, uint32_t location)
{
    return location == SNAPSHOT_NONE ? Py_NewRef(Py_None)
                                     : _PyTracemalloc_GetFrame(self, location);
}

static PyObject *
make_row(TracesObject *self, enum snapshot_key by,
         const struct snapshot_group *group)
{
    PyObject *key, *frames;
    if (describe(self, by, group, &key, &frames) < 0) {
        return NULL;
    }
    PyObject *row = PyTuple_New(ROW_SIZE);
    if (row == NULL) {
        Py_DECREF(key);
        Py_DECREF(frames);
        return NULL;
    }
    PyTuple_SET_ITEM(row, 0, key);
    PyTuple_SET_ITEM(row, 1, frames);
    PyObject *origin = frame_or_none(self, group->origin);
    PyTuple_SET_ITEM(row, ROW_SIZE - 1, origin);
    int known = by >= SNAPSHOT_BY_TYPE ? 2 : SNAPSHOT_NMEASURES;
    if (origin == NULL || set_measures(row, 2, group->measures, known) < 0) {
        Py_CLEAR(row);
    }
    return row;
}

static PyObject *
rows_in_order(TracesObject *self, const struct snapshot_groups *groups,
              int measure, uint64_t most, uint64_t *n)
{
    uint32_t found;
    SNAPSHOT_AUTO uint32_t *order =
        _PySnapshot_Order(self->data, groups, measure, &found);
    if (order == NULL) {
        return PyErr_NoMemory();
    }
    *n = found;
    Py_ssize_t shown = (Py_ssize_t)Py_MIN(found, most);
    PyObject *rows = PyList_New(shown);
    for (Py_ssize_t i = 0; rows != NULL && i < shown; i++) {
        PyObject *row = make_row(self, SNAPSHOT_BY_TRACEBACK,
                                 &groups->groups[order[i]]);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, i, row);
    }
    return rows;
}

/* What groups are sorted by, before their names. */
struct rank {
    uint64_t by[3];
    uint64_t group;
};

static int
compare_ranks(const void *a, const void *b)
{
    const struct rank *x = a;
    const struct rank *y = b;
    int result = 0;
    for (int i = 0; i < 3 && result == 0; i++) {
        result = (x->by[i] < y->by[i]) - (x->by[i] > y->by[i]);
    }
    return result;
}

/* With `most`, the largest ones, and all that are as large as the last, so
   that the caller can sort these by name: C stacks have none. */
static PyObject *
rows_unordered(TracesObject *self, enum snapshot_key key,
               const struct snapshot_groups *groups, int measure,
               uint64_t most, uint64_t *n)
{
    SNAPSHOT_AUTO struct rank *ranks =
        _PySnapshot_Array(groups->ngroups, sizeof(*ranks));
    if (ranks == NULL) {
        return PyErr_NoMemory();
    }
    *n = 0;
    Py_BEGIN_ALLOW_THREADS
    for (uint64_t i = 0; i < groups->ngroups; i++) {
        const uint64_t *m = groups->groups[i].measures;
        if (m[measure | 1] != 0) {
            ranks[(*n)++] = (struct rank){
                {m[measure], m[SNAPSHOT_SIZE], m[SNAPSHOT_COUNT]}, i};
        }
    }
    if (most < *n) {
        qsort(ranks, *n, sizeof(*ranks), compare_ranks);
    }
    Py_END_ALLOW_THREADS
    PyObject *rows = PyList_New(0);
    for (uint64_t i = 0; rows != NULL && i < *n; i++) {
        if (i >= most
            && (i == 0 || key == SNAPSHOT_BY_NATIVE
                || compare_ranks(&ranks[i - 1], &ranks[i]) != 0))
        {
            break;
        }
        PyObject *row = make_row(self, key, &groups->groups[ranks[i].group]);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* One byte for each location, or NULL with an exception.  Borrows the
   bytes. */
const uint8_t *
_PyTracemalloc_GetLines(TracesObject *self, PyObject *lines)
{
    if (!PyBytes_Check(lines)
        || (uint64_t)PyBytes_GET_SIZE(lines) != self->data->nlocations)
    {
        PyErr_SetString(PyExc_ValueError, "one byte needed for each line");
        return NULL;
    }
    return (const uint8_t *)PyBytes_AS_STRING(lines);
}

/* 0, or -1 with an exception. */
static int
find_groups(TracesObject *self, enum snapshot_key key, int cumulative,
            const uint8_t *lines, int by_origin,
            struct snapshot_groups *groups)
{
    int result = 0;
    if (key >= SNAPSHOT_BY_TYPE) {
        result = _PyTracemalloc_NeedBlocks(self);
    }
    else if (cumulative || key == SNAPSHOT_BY_TRACEBACK) {
        result = _PyTracemalloc_NeedPaths(self);
    }
    if (result < 0) {
        return -1;
    }
    if (key < SNAPSHOT_BY_TYPE) {
        result = _PySnapshot_Group(self->data, key, cumulative, lines,
                                   by_origin, groups);
    }
    else {
        struct tracer_snapshot s = *self->data;
        Py_BEGIN_ALLOW_THREADS
        result = _PySnapshot_Group(&s, key, cumulative, lines, by_origin,
                                   groups);
        Py_END_ALLOW_THREADS
    }
    if (result < 0) {
        PyErr_NoMemory();
    }
    return result;
}

/* _group(key: str, cumulative: bool, measure: int, lines: bytes or None, most:
   int): how many groups have blocks by that measure, and a list of (key,
   frames, size, count, total_size, ..., origin) for them; None: not known by
   block.  Those by traceback are sorted, largest first.  lines: of
   _filter_lines(), for cumulative.  origin: the frame that allocated most,
   None: one of the group.  most: only for so many of the largest, and those
   that are as large as the last, except for C stacks.  by_origin: a row for
   each frame that allocated. */
PyObject *
_PyTracemalloc_Group(TracesObject *self, PyObject *args)
{
    const char *name;
    int cumulative, measure;
    PyObject *given = Py_None;
    const uint8_t *lines = NULL;
    unsigned long long most = UINT64_MAX;
    int by_origin = 0;
    if (!PyArg_ParseTuple(args, "spi|OKp:_group", &name, &cumulative, &measure,
                          &given, &most, &by_origin))
    {
        return NULL;
    }
    if (given != Py_None) {
        lines = _PyTracemalloc_GetLines(self, given);
        if (lines == NULL) {
            return NULL;
        }
    }
    size_t k = 0;
    while (k < Py_ARRAY_LENGTH(keys) && strcmp(keys[k].name, name) != 0) {
        k++;
    }
    if (k == Py_ARRAY_LENGTH(keys) || measure < 0
        || measure >= SNAPSHOT_NMEASURES)
    {
        PyErr_SetString(PyExc_ValueError, "unknown key or measure");
        return NULL;
    }
    struct snapshot_groups groups;
    if (find_groups(self, keys[k].key, cumulative, lines, by_origin,
                    &groups) < 0)
    {
        return NULL;
    }
    uint64_t n = 0;
    PyObject *rows = keys[k].key == SNAPSHOT_BY_TRACEBACK
        ? rows_in_order(self, &groups, measure, most, &n)
        : rows_unordered(self, keys[k].key, &groups, measure, most, &n);
    _PySnapshot_Release(groups.groups);
    return rows == NULL ? NULL
        : Py_BuildValue("KN", (unsigned long long)n, rows);
}

/* _order_blocks(): numbers of all blocks, the largest first, as the bytes of
   32-bit integers. */
PyObject *
_PyTracemalloc_OrderBlocks(TracesObject *self, PyObject *Py_UNUSED(args))
{
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    SNAPSHOT_AUTO uint32_t *order = _PySnapshot_OrderBlocks(self->data);
    if (order == NULL) {
        return PyErr_NoMemory();
    }
    return PyBytes_FromStringAndSize(
        (const char *)order,
        (Py_ssize_t)(self->data->nblocks * sizeof(*order)));
}

/* _block(i): (address, frames, size, origin) */
PyObject *
_PyTracemalloc_Block(TracesObject *self, PyObject *number)
{
    size_t i = PyLong_AsSize_t(number);
    struct tracer_snapshot *s = self->data;
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (i >= s->nblocks) {
        PyErr_SetString(PyExc_IndexError, "block number out of range");
        return NULL;
    }
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    const struct snapshot_block *block = &s->blocks[i];
    uint32_t origin = s->origins == NULL ? SNAPSHOT_NONE
                                         : s->origins[block->node];
    return Py_BuildValue("KNKN", (unsigned long long)block->address,
                         _PyTracemalloc_GetFrames(self, block->node),
                         (unsigned long long)block->size,
                         frame_or_none(self, origin));
}

/* --- Call tree */

static PyObject *
tree_row(TracesObject *self, const struct snapshot_group *group,
         const uint32_t *labels)
{
    const struct snapshot_location *l =
        &self->data->locations[group->location];
    uint32_t parent = self->data->nodes[group->node].parent;
    PyObject *row = PyTuple_New(TREE_HEAD + SNAPSHOT_NMEASURES);
    PyObject *frame = _PyTracemalloc_GetFrame(self, group->location);
    if (row == NULL || frame == NULL) {
        goto error;
    }
    PyObject *head[TREE_HEAD] = {
        PyLong_FromLong(parent == SNAPSHOT_NONE ? -1 : (long)labels[parent]),
        Py_NewRef(PyStructSequence_GetItem(frame, 0)),
        Py_NewRef(PyStructSequence_GetItem(frame, 1)),
        Py_NewRef(PyStructSequence_GetItem(frame, 2)),
        PyLong_FromLong(l->first_line),
    };
    for (int i = 0; i < TREE_HEAD; i++) {
        PyTuple_SET_ITEM(row, i, head[i]);
    }
    if (head[0] == NULL || head[4] == NULL
        || set_measures(row, TREE_HEAD, group->measures,
                        SNAPSHOT_NMEASURES) < 0)
    {
        goto error;
    }
    Py_DECREF(frame);
    return row;
error:
    Py_XDECREF(row);
    Py_XDECREF(frame);
    return NULL;
}

static PyObject *
tree_rows(TracesObject *self, const struct snapshot_groups *groups,
          const uint32_t *labels)
{
    PyObject *rows = PyList_New((Py_ssize_t)groups->ngroups);
    for (uint64_t i = 0; rows != NULL && i < groups->ngroups; i++) {
        PyObject *row = tree_row(self, &groups->groups[i], labels);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
    }
    return rows;
}

static PyObject *
class_rows(TracesObject *self, const uint32_t *labels, int by_stack)
{
    struct tracer_snapshot *s = self->data;
    struct snapshot_groups classes;
    if (_PySnapshot_GroupByClass(s, labels, by_stack, &classes) < 0) {
        return PyErr_NoMemory();
    }
    PyObject *rows = PyList_New((Py_ssize_t)classes.ngroups);
    for (uint64_t i = 0; rows != NULL && i < classes.ngroups; i++) {
        const struct snapshot_group *group = &classes.groups[i];
        PyObject *row = Py_BuildValue(
            "kNKK", (unsigned long)group->node,
            by_stack ? _PyTracemalloc_GetNative(self, group->class_)
            : _PyTracemalloc_GetString(self, s->classes[group->class_].name),
            (unsigned long long)group->measures[SNAPSHOT_SIZE],
            (unsigned long long)group->measures[SNAPSHOT_COUNT]);
        if (row == NULL) {
            Py_CLEAR(rows);
            break;
        }
        PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
    }
    _PySnapshot_Release(classes.groups);
    return rows;
}

/* _call_tree(): (nodes, rows by type, rows by C stack), see
   tracemalloc.CallTree. */
PyObject *
_PyTracemalloc_CallTree(TracesObject *self, PyObject *Py_UNUSED(args))
{
    struct tracer_snapshot *s = self->data;
    struct snapshot_groups groups;
    uint32_t n;
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    if (_PySnapshot_Group(s, SNAPSHOT_BY_PATH, 0, NULL, 0, &groups) < 0) {
        return PyErr_NoMemory();
    }
    PyObject *result = NULL;
    SNAPSHOT_AUTO uint32_t *labels = _PySnapshot_Array(s->nnodes,
                                                       sizeof(uint32_t));
    if (labels == NULL
        || _PySnapshot_Label(s, SNAPSHOT_BY_PATH, labels, &n) < 0)
    {
        PyErr_NoMemory();
    }
    else {
        PyObject *nodes = tree_rows(self, &groups, labels);
        PyObject *types = nodes == NULL ? NULL : class_rows(self, labels, 0);
        PyObject *stacks = types == NULL ? NULL : class_rows(self, labels, 1);
        result = Py_BuildValue("NNN", nodes, types, stacks);
    }
    _PySnapshot_Release(groups.groups);
    return result;
}
