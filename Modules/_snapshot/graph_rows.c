/* Who holds what, as rows of Python objects: the methods of Traces behind
   Snapshot.retained() and Snapshot.holders(). */

#include "graph_rows.h"

struct snapshot_heap *
_PyTracemalloc_GetHeap(TracesObject *self)
{
    struct tracer_snapshot *s = self->data;
    if (self->heap != NULL) {
        return self->heap;
    }
    if (s->graph == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "the snapshot has no references: take it with "
                        "take_snapshot(references=True)");
        return NULL;
    }
    if (_PyTracemalloc_NeedGraph(self) < 0
        || _PyTracemalloc_NeedBlocks(self) < 0)
    {
        return NULL;
    }
    struct snapshot_heap *heap;
    Py_BEGIN_ALLOW_THREADS
    heap = _PySnapshot_NewHeap(s);
    Py_END_ALLOW_THREADS
    if (heap == NULL) {
        PyErr_NoMemory();
    }
    else if (self->heap != NULL) {
        _PySnapshot_FreeHeap(heap);     // another thread was faster
    }
    else {
        self->heap = heap;
    }
    return self->heap;
}

PyObject *
_PyTracemalloc_TextOrNone(TracesObject *self, uint32_t string)
{
    return string == SNAPSHOT_NONE ? Py_NewRef(Py_None)
                                   : _PyTracemalloc_GetString(self, string);
}

/* --- Types */

/* "module.name", without the module for those of builtins and __main__. */
static PyObject *
type_name(TracesObject *self, uint32_t type)
{
    const struct snapshot_heap *heap = self->heap;
    uint32_t name = type == 0 ? SNAPSHOT_NONE
                              : _PySnapshot_NameOf(heap, type);
    uint32_t module = name == SNAPSHOT_NONE ? SNAPSHOT_NONE
                                            : _PySnapshot_ModuleOf(heap, type);
    PyObject *text = _PyTracemalloc_TextOrNone(self, name);
    if (text == NULL || module == SNAPSHOT_NONE
        || _PySnapshot_HasText(heap->s, module, "builtins")
        || _PySnapshot_HasText(heap->s, module, "__main__"))
    {
        return text;
    }
    PyObject *prefix = _PyTracemalloc_GetString(self, module);
    PyObject *whole = prefix == NULL
        ? NULL : PyUnicode_FromFormat("%U.%U", prefix, text);
    Py_XDECREF(prefix);
    Py_DECREF(text);
    return whole;
}

/* _graph_types(): a list of (number, name) of the types of objects. */
PyObject *
_PyTracemalloc_GraphTypes(TracesObject *self, PyObject *Py_UNUSED(args))
{
    const struct snapshot_heap *heap = _PyTracemalloc_GetHeap(self);
    if (heap == NULL) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (uint32_t i = 1; list != NULL && i < heap->g->nobjects; i++) {
        if (_PySnapshot_Shape(heap, i)->kind != SNAPSHOT_TYPE) {
            continue;
        }
        PyObject *item = Py_BuildValue("kN", (unsigned long)i,
                                       type_name(self, i));
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    return list;
}

/* --- Objects */

static PyObject *
frame_of(TracesObject *self, uint32_t object)
{
    const struct snapshot_heap *heap = self->heap;
    uint32_t block = heap->blocks[object];
    if (block == SNAPSHOT_NONE) {
        Py_RETURN_NONE;
    }
    uint32_t node = heap->s->blocks[block].node;
    return _PyTracemalloc_GetFrame(self, heap->s->nodes[node].location);
}

static PyObject *
where(TracesObject *self, uint32_t object)
{
    const struct snapshot_heap *heap = self->heap;
    uint32_t kind = _PySnapshot_Shape(heap, object)->kind;
    uint32_t code = kind == SNAPSHOT_CODE ? object
        : kind == SNAPSHOT_FRAME ? _PySnapshot_Named(heap, object, "code")
        : kind == SNAPSHOT_FUNCTION
        ? _PySnapshot_Named(heap, object, "__code__") : 0;
    uint32_t filename = code == 0
        ? 0 : _PySnapshot_Named(heap, code, "co_filename");
    uint32_t line = kind == SNAPSHOT_FRAME ? heap->g->objects[object].text
                                           : SNAPSHOT_NONE;
    return Py_BuildValue(
        "NN",
        _PyTracemalloc_TextOrNone(self, filename == 0 ? SNAPSHOT_NONE
                                  : heap->g->objects[filename].text),
        _PyTracemalloc_TextOrNone(self, line));
}

PyObject *
_PyTracemalloc_GraphObject(TracesObject *self, uint32_t object)
{
    const struct snapshot_heap *heap = self->heap;
    const struct snapshot_object *o = &heap->g->objects[object];
    return Py_BuildValue(
        "kNNNKKKkN", (unsigned long)_PySnapshot_Shape(heap, object)->kind,
        type_name(self, o->type),
        _PyTracemalloc_TextOrNone(self, _PySnapshot_NameOf(heap, object)),
        frame_of(self, object),
        (unsigned long long)heap->sizes[object],
        (unsigned long long)heap->retained[object],
        (unsigned long long)o->address, (unsigned long)object,
        where(self, object));
}

PyObject *
_PyTracemalloc_GraphStep(TracesObject *self, uint32_t step)
{
    uint32_t text = SNAPSHOT_IS_NAME(step) ? step
        : SNAPSHOT_IS_KEY(step) ? step - SNAPSHOT_STEP_KEY : SNAPSHOT_NONE;
    uint32_t number = SNAPSHOT_IS_NAME(step) ? 0
        : SNAPSHOT_IS_KEY(step) ? 1 : step - SNAPSHOT_STEP_ITEM + 2;
    return Py_BuildValue("kN", (unsigned long)number,
                         _PyTracemalloc_TextOrNone(self, text));
}

/* --- Dominators, for tests */

/* _dominators(): (numbers by object, bytes by object), as the bytes of
   integers of 32 and 64 bits. */
PyObject *
_PyTracemalloc_Dominators(TracesObject *self, PyObject *Py_UNUSED(args))
{
    const struct snapshot_heap *heap = _PyTracemalloc_GetHeap(self);
    if (heap == NULL) {
        return NULL;
    }
    Py_ssize_t n = heap->g->nobjects;
    return Py_BuildValue("y#y#", heap->dominators, n * 4, heap->retained,
                         n * 8);
}

/* --- Retained */

static const struct { const char *name; enum snapshot_key key; } keys[] = {
    {"filename", SNAPSHOT_BY_FILENAME},
    {"lineno", SNAPSHOT_BY_LINENO},
    {"function", SNAPSHOT_BY_FUNCTION},
    {"type", SNAPSHOT_BY_TYPE},
    {"type+lineno", SNAPSHOT_BY_TYPE_LINENO},
};

/* numbers: of each type, by its name, for all of one name are one. */
static int
number_types(const struct snapshot_heap *heap, struct snapshot_pairs *numbers,
             uint32_t *labels)
{
    struct snapshot_pairs texts = {0};
    int result = _PySnapshot_PairsInit(&texts);
    for (uint32_t i = 1; result == 0 && i < heap->g->nobjects; i++) {
        if (_PySnapshot_Shape(heap, i)->kind != SNAPSHOT_TYPE) {
            continue;
        }
        uint32_t name = _PySnapshot_NameOf(heap, i);
        uint32_t module = _PySnapshot_ModuleOf(heap, i);
        name = name == SNAPSHOT_NONE
            ? i : _PySnapshot_Text(heap->s, &texts, name);
        module = module == SNAPSHOT_NONE
            ? module : _PySnapshot_Text(heap->s, &texts, module);
        labels[i] = _PySnapshot_Pair(numbers, module, name);
        result = labels[i] == SNAPSHOT_NONE ? -1 : 0;
    }
    _PySnapshot_PairsFree(&texts);
    return result;
}

static uint32_t
label_of(const struct snapshot_heap *heap, enum snapshot_key key,
         uint32_t object, const uint32_t *types, const uint32_t *sites,
         struct snapshot_pairs *pairs)
{
    uint32_t block = heap->blocks[object];
    uint32_t type = heap->g->objects[object].type;
    if (object < SNAPSHOT_NFIXED
        || (block == SNAPSHOT_NONE && heap->sizes[object] == 0))
    {
        return SNAPSHOT_NONE;
    }
    uint32_t a = key < SNAPSHOT_BY_TYPE || type == 0 ? 0 : types[type] + 1;
    uint32_t b = key == SNAPSHOT_BY_TYPE || block == SNAPSHOT_NONE
        ? 0 : sites[heap->s->blocks[block].node] + 1;
    return _PySnapshot_Pair(pairs, a, b);
}

/* sites: of each node of the call tree; files: numbers of file names, by
   string, or NULL. */
static int
number_sites(const struct tracer_snapshot *s, enum snapshot_key key,
             const uint32_t *files, uint32_t *sites)
{
    uint32_t nsites;
    if (files == NULL) {
        return _PySnapshot_Label(s, key, sites, &nsites);
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        sites[i] = files[s->locations[s->nodes[i].location].filename];
    }
    return 0;
}

/* The sums by a key, of objects that are traced; NULL: no memory. */
static struct snapshot_retained *
sum_retained(const struct snapshot_heap *heap, enum snapshot_key key,
             const uint32_t *files, uint32_t *n)
{
    const struct tracer_snapshot *s = heap->s;
    SNAPSHOT_AUTO uint32_t *labels =
        _PySnapshot_Array(heap->g->nobjects, sizeof(uint32_t));
    SNAPSHOT_AUTO uint32_t *sites = _PySnapshot_Array(s->nnodes,
                                                      sizeof(uint32_t));
    SNAPSHOT_AUTO uint32_t *types =
        _PySnapshot_Zeroed(heap->g->nobjects, sizeof(uint32_t));
    struct snapshot_pairs numbers = {0}, pairs = {0};
    struct snapshot_retained *sums = NULL;
    enum snapshot_key place = key < SNAPSHOT_BY_TYPE ? key
                                                     : SNAPSHOT_BY_LINENO;
    if (labels == NULL || sites == NULL || types == NULL
        || _PySnapshot_PairsInit(&numbers) < 0
        || _PySnapshot_PairsInit(&pairs) < 0
        || number_types(heap, &numbers, types) < 0
        || number_sites(s, place, files, sites) < 0)
    {
        goto done;
    }
    for (uint32_t i = 0; i < heap->g->nobjects; i++) {
        labels[i] = label_of(heap, key, i, types, sites, &pairs);
    }
    *n = pairs.used;
    sums = _PySnapshot_Array(*n, sizeof(*sums));
    if (sums != NULL && _PySnapshot_Retained(heap, labels, *n, sums) < 0) {
        _PySnapshot_Release(sums);
        sums = NULL;
    }
done:
    _PySnapshot_PairsFree(&numbers);
    _PySnapshot_PairsFree(&pairs);
    return sums;
}

/* _retained(key, files): a list of (object, count, size, retained), of one
   object of each group.  files: None, or for key "filename" bytes of a 32-bit
   number for each text: file names with equal ones are one. */
PyObject *
_PyTracemalloc_Retained(TracesObject *self, PyObject *args)
{
    const char *name;
    PyObject *files;
    if (!PyArg_ParseTuple(args, "sO:_retained", &name, &files)) {
        return NULL;
    }
    size_t k = 0;
    while (k < Py_ARRAY_LENGTH(keys) && strcmp(name, keys[k].name) != 0) {
        k++;
    }
    if (k == Py_ARRAY_LENGTH(keys)
        || (files != Py_None
            && (!PyBytes_Check(files)
                || (uint64_t)PyBytes_GET_SIZE(files)
                   != (uint64_t)self->data->nstrings * 4)))
    {
        PyErr_SetString(PyExc_ValueError, "unknown key, or wrong files");
        return NULL;
    }
    const uint32_t *numbers = files == Py_None
        ? NULL : (const uint32_t *)PyBytes_AS_STRING(files);
    const struct snapshot_heap *heap = _PyTracemalloc_GetHeap(self);
    if (heap == NULL) {
        return NULL;
    }
    uint32_t n = 0;
    struct snapshot_retained *sums;
    Py_BEGIN_ALLOW_THREADS
    sums = sum_retained(heap, keys[k].key, numbers, &n);
    Py_END_ALLOW_THREADS
    if (sums == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < n; i++) {
        if (sums[i].object == SNAPSHOT_NONE) {
            continue;             // nobody holds them
        }
        PyObject *row = Py_BuildValue(
            "NKKK", _PyTracemalloc_GraphObject(self, sums[i].object),
            (unsigned long long)sums[i].count,
            (unsigned long long)sums[i].size,
            (unsigned long long)sums[i].retained);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    _PySnapshot_Release(sums);
    return list;
}

/* --- Holders */

static PyObject *
holder_row(TracesObject *self, const struct snapshot_holder *holder,
           const uint32_t *rows)
{
    return Py_BuildValue(
        "lNNNiKKK",
        holder->parent == SNAPSHOT_NONE ? -1L : (long)rows[holder->parent],
        _PyTracemalloc_GraphStep(self, holder->step),
        _PyTracemalloc_GraphObject(self, holder->object),
        _PyTracemalloc_TextOrNone(self, holder->module),
        (int)holder->repeats, (unsigned long long)holder->count,
        (unsigned long long)holder->size,
        (unsigned long long)holder->retained);
}

static PyObject *
holder_rows(TracesObject *self, const struct snapshot_holders *found,
            uint64_t least)
{
    SNAPSHOT_AUTO uint32_t *rows = _PySnapshot_Array(found->n,
                                                     sizeof(*rows));
    uint32_t n = 0;
    if (rows == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < found->n; i++) {
        if (i > 0 && found->holders[i].retained < least) {
            continue;
        }
        rows[i] = n++;
        PyObject *row = holder_row(self, &found->holders[i], rows);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    return list;
}

/* Traced blocks that are no object's, by line: a list of (FrameInfo, count,
   size). */
static PyObject *
uncovered_rows(TracesObject *self)
{
    const struct snapshot_heap *heap = self->heap;
    const struct tracer_snapshot *s = heap->s;
    SNAPSHOT_AUTO uint32_t *sites = _PySnapshot_Array(s->nnodes,
                                                      sizeof(*sites));
    uint32_t n = 0;
    if (sites == NULL
        || _PySnapshot_Label(s, SNAPSHOT_BY_LINENO, sites, &n) < 0)
    {
        return PyErr_NoMemory();
    }
    SNAPSHOT_AUTO struct snapshot_retained *sums =
        _PySnapshot_Zeroed(n, sizeof(*sums));
    if (sums == NULL) {
        return PyErr_NoMemory();
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        if (!heap->covered[i]) {
            uint32_t node = s->blocks[i].node;
            struct snapshot_retained *sum = &sums[sites[node]];
            sum->object = s->nodes[node].location;
            sum->count++;
            sum->size += s->blocks[i].size;
        }
    }
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < n; i++) {
        if (sums[i].count == 0) {
            continue;
        }
        PyObject *row = Py_BuildValue(
            "NKK", _PyTracemalloc_GetFrame(self, sums[i].object),
            (unsigned long long)sums[i].count,
            (unsigned long long)sums[i].size);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    return list;
}

/* (count, size) of what the root does not reach, and blocks of no object. */
static PyObject *
rest_row(TracesObject *self)
{
    const struct snapshot_heap *heap = self->heap;
    uint64_t count = 0, size = 0;
    for (uint32_t i = 1; i < heap->g->nobjects; i++) {
        if (heap->dominators[i] == SNAPSHOT_NONE && heap->sizes[i] != 0) {
            count++;
            size += heap->sizes[i];
        }
    }
    return Py_BuildValue("KKN", (unsigned long long)count,
                         (unsigned long long)size, uncovered_rows(self));
}

/* _holders(least): (rows, rest).  A row: (row of the parent or -1, step,
   object, module or None, repeats, count, size, retained), of those that
   retain so many bytes; None: a thousandth of all. */
PyObject *
_PyTracemalloc_Holders(TracesObject *self, PyObject *least)
{
    const struct snapshot_heap *heap = _PyTracemalloc_GetHeap(self);
    if (heap == NULL) {
        return NULL;
    }
    unsigned long long bytes = least == Py_None
        ? heap->retained[SNAPSHOT_ROOT] / 1000 + 1
        : PyLong_AsUnsignedLongLong(least);
    if (PyErr_Occurred()) {
        return NULL;
    }
    struct snapshot_holders found;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_Holders(heap, &found);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        return PyErr_NoMemory();
    }
    PyObject *rows = holder_rows(self, &found, bytes);
    _PySnapshot_Release(found.holders);
    return rows == NULL ? NULL : Py_BuildValue("NN", rows, rest_row(self));
}
