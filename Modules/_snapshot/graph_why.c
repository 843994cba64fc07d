/* Why objects live: the method of Traces behind Snapshot.why(). */

#include "graph_rows.h"

#define MOST_STEPS 60             // of a path that is shown: its first, and
#define LAST_STEPS 20             //   its last ones

/* What was asked for. */
struct chosen {
    uint8_t *marked;              // by object
    uint64_t count, size;         // of these objects
    uint64_t unreached;           // those that nobody holds
    uint64_t nblocks, bytes;      // blocks of no object that is known
};

/* --- What is asked for */

/* The objects of a line; if there are none, the owners of the blocks that were
   allocated there, such as a list that grows. */
static int
mark_lines(const struct snapshot_heap *heap, const uint8_t *lines,
           int all_frames, struct chosen *chosen)
{
    const struct tracer_snapshot *s = heap->s;
    SNAPSHOT_AUTO uint8_t *nodes = _PySnapshot_Array(s->nnodes, 1);
    if (nodes == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        uint32_t caller = s->nodes[i].parent;
        nodes[i] = lines[s->nodes[i].location]
                   || (all_frames && caller != SNAPSHOT_NONE && nodes[caller]);
    }
    int found = 0;
    for (uint32_t i = 1; i < heap->g->nobjects; i++) {
        uint32_t block = heap->blocks[i];
        chosen->marked[i] = block != SNAPSHOT_NONE
                            && nodes[s->blocks[block].node];
        found |= chosen->marked[i];
    }
    for (uint64_t i = 0; !found && i < heap->g->nbuffers; i++) {
        uint32_t block = heap->buffer_blocks[i];
        if (block != SNAPSHOT_NONE && nodes[s->blocks[block].node]) {
            chosen->marked[heap->g->buffers[i].object] = 1;
        }
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        if (!heap->covered[i] && nodes[s->blocks[i].node]) {
            chosen->nblocks++;
            chosen->bytes += s->blocks[i].size;
        }
    }
    return 0;
}

static int
mark_types(const struct snapshot_heap *heap, const uint32_t *types, size_t n,
           struct chosen *chosen)
{
    SNAPSHOT_AUTO uint8_t *asked = _PySnapshot_Zeroed(heap->g->nobjects, 1);
    if (asked == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (types[i] < heap->g->nobjects) {
            asked[types[i]] = 1;
        }
    }
    asked[0] = 0;
    for (uint32_t i = SNAPSHOT_NFIXED; i < heap->g->nobjects; i++) {
        chosen->marked[i] = asked[heap->g->objects[i].type];
    }
    return 0;
}

static int
is_in(const struct tracer_snapshot *s, uint32_t block, uint64_t address)
{
    return block != SNAPSHOT_NONE
           && address - s->blocks[block].address < s->blocks[block].size;
}

static void
mark_address(const struct snapshot_heap *heap, uint64_t address,
             struct chosen *chosen)
{
    const struct snapshot_graph *g = heap->g;
    for (uint32_t i = SNAPSHOT_NFIXED; i < g->nobjects; i++) {
        chosen->marked[i] = g->objects[i].address == address
                            || is_in(heap->s, heap->blocks[i], address);
    }
    for (uint64_t i = 0; i < g->nbuffers; i++) {
        if (is_in(heap->s, heap->buffer_blocks[i], address)) {
            chosen->marked[g->buffers[i].object] = 1;
        }
    }
}

static void
count(const struct snapshot_heap *heap, struct chosen *chosen)
{
    for (uint32_t i = 1; i < heap->g->nobjects; i++) {
        if (chosen->marked[i]) {
            chosen->count++;
            chosen->size += heap->sizes[i];
            chosen->unreached += heap->dominators[i] == SNAPSHOT_NONE;
        }
    }
}

/* 0, or -1 with an exception. */
static int
choose(TracesObject *self, const struct snapshot_heap *heap, PyObject *what,
       int all_frames, struct chosen *chosen)
{
    int result = 0;
    if (PyLong_Check(what)) {
        unsigned long long address = PyLong_AsUnsignedLongLong(what);
        if (PyErr_Occurred()) {
            return -1;
        }
        mark_address(heap, address, chosen);
    }
    else if (PyBytes_Check(what)) {
        const uint8_t *lines = _PyTracemalloc_GetLines(self, what);
        if (lines == NULL) {
            return -1;
        }
        result = mark_lines(heap, lines, all_frames, chosen);
    }
    else {
        PyObject *types = PySequence_Tuple(what);
        size_t n = types == NULL ? 0 : (size_t)PyTuple_GET_SIZE(types);
        SNAPSHOT_AUTO uint32_t *numbers = _PySnapshot_Array(n, 4);
        for (size_t i = 0; numbers != NULL && i < n; i++) {
            numbers[i] = (uint32_t)PyLong_AsUnsignedLong(
                PyTuple_GET_ITEM(types, i));
        }
        Py_XDECREF(types);
        if (PyErr_Occurred()) {
            return -1;
        }
        result = numbers == NULL ? -1 : mark_types(heap, numbers, n, chosen);
    }
    if (result < 0) {
        PyErr_NoMemory();
        return -1;
    }
    count(heap, chosen);
    return 0;
}

/* --- Rows */

/* (object, count, size), one for each type. */
static PyObject *
type_rows(TracesObject *self, const struct chosen *chosen)
{
    const struct snapshot_heap *heap = self->heap;
    struct snapshot_pairs types = {0};
    SNAPSHOT_AUTO struct snapshot_retained *sums = NULL;
    uint32_t size = 0;
    int result = _PySnapshot_PairsInit(&types);
    for (uint32_t i = 1; result == 0 && i < heap->g->nobjects; i++) {
        if (!chosen->marked[i]) {
            continue;
        }
        uint32_t n = types.used;
        uint32_t number = _PySnapshot_Pair(&types, 0,
                                           heap->g->objects[i].type);
        if (number == SNAPSHOT_NONE
            || _PySnapshot_Reserve(&sums, &size, number + 1,
                                   sizeof(*sums)) < 0)
        {
            result = -1;
            break;
        }
        if (number == n) {
            sums[number] = (struct snapshot_retained){.object = i};
        }
        sums[number].count++;
        sums[number].size += heap->sizes[i];
    }
    uint32_t n = types.used;
    _PySnapshot_PairsFree(&types);
    if (result < 0) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(n);
    for (uint32_t i = 0; list != NULL && i < n; i++) {
        PyObject *row = Py_BuildValue(
            "NKK", _PyTracemalloc_GraphObject(self, sums[i].object),
            (unsigned long long)sums[i].count,
            (unsigned long long)sums[i].size);
        if (row == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, row);
    }
    return list;
}

/* (step, number among the unnamed references, text of its key or None,
   object) */
static PyObject *
step_row(TracesObject *self, const struct snapshot_root_paths *paths,
         uint32_t object)
{
    const struct snapshot_heap *heap = self->heap;
    uint32_t caller = paths->callers[object];
    uint32_t place = paths->places[object];
    uint32_t key = 0;
    uint32_t named = 0;
    if (caller != SNAPSHOT_ROOT) {
        named = _PySnapshot_Shape(heap, caller)->n;
        key = heap->g->has_keys ? _PySnapshot_KeyOf(heap, caller, place) : 0;
    }
    return Py_BuildValue(
        "NlNN",
        _PyTracemalloc_GraphStep(self,
                                 _PySnapshot_Step(heap, caller, place)),
        (long)place - (long)named,
        _PyTracemalloc_TextOrNone(self, key == 0 ? SNAPSHOT_NONE
                                  : heap->g->objects[key].text),
        _PyTracemalloc_GraphObject(self, object));
}

/* From the root to the object, with None in place of steps that are left
   out. */
static PyObject *
step_rows(TracesObject *self, const struct snapshot_root_paths *paths,
          uint32_t object)
{
    uint64_t length = 0;
    for (uint32_t o = object; o != SNAPSHOT_ROOT; o = paths->callers[o]) {
        length++;
    }
    PyObject *list = PyList_New(0);
    uint64_t left = length;
    for (uint32_t o = object; list != NULL && o != SNAPSHOT_ROOT;
         o = paths->callers[o], left--)
    {
        uint64_t shown = length - left;      // from the end
        if (length > MOST_STEPS && shown > LAST_STEPS
            && left > MOST_STEPS - LAST_STEPS)
        {
            continue;
        }
        PyObject *row = length > MOST_STEPS && shown == LAST_STEPS
            ? Py_NewRef(Py_None) : step_row(self, paths, o);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    if (list != NULL && PyList_Reverse(list) < 0) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *
path_rows(TracesObject *self, const struct snapshot_root_paths *paths,
          uint32_t most)
{
    uint32_t n = Py_MIN(paths->n, most);
    PyObject *list = PyList_New(n);
    for (uint32_t i = 0; list != NULL && i < n; i++) {
        const struct snapshot_root_path *path = &paths->paths[i];
        PyObject *row = Py_BuildValue(
            "KKKiN", (unsigned long long)path->count,
            (unsigned long long)path->behind, (unsigned long long)path->size,
            (int)path->repeats, step_rows(self, paths, path->object));
        if (row == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, row);
    }
    return list;
}

static PyObject *
find_paths(TracesObject *self, const struct chosen *chosen, uint32_t most)
{
    const struct snapshot_heap *heap = self->heap;
    struct snapshot_root_paths paths;
    uint64_t retained = 0;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = _PySnapshot_RetainedBySet(heap, chosen->marked, &retained);
    if (result == 0) {
        result = _PySnapshot_RootPaths(heap, chosen->marked, &paths);
    }
    Py_END_ALLOW_THREADS
    if (result < 0) {
        return PyErr_NoMemory();
    }
    PyObject *row = Py_BuildValue(
        "KKKKKKkNN", (unsigned long long)chosen->count,
        (unsigned long long)chosen->size, (unsigned long long)retained,
        (unsigned long long)chosen->unreached,
        (unsigned long long)chosen->nblocks,
        (unsigned long long)chosen->bytes, (unsigned long)paths.n,
        type_rows(self, chosen), path_rows(self, &paths, most));
    _PySnapshot_FreeRootPaths(&paths);
    return row;
}

/* _why(what, all_frames, most): (count, size, retained, unreached, blocks of
   no object, their bytes, number of paths, types, paths).  what: bytes, one
   for each line; numbers of types; or an address. */
PyObject *
_PyTracemalloc_Why(TracesObject *self, PyObject *args)
{
    PyObject *what;
    int all_frames;
    unsigned int most;
    if (!PyArg_ParseTuple(args, "OpI:_why", &what, &all_frames, &most)) {
        return NULL;
    }
    const struct snapshot_heap *heap = _PyTracemalloc_GetHeap(self);
    if (heap == NULL) {
        return NULL;
    }
    SNAPSHOT_AUTO uint8_t *marked = _PySnapshot_Zeroed(heap->g->nobjects, 1);
    struct chosen chosen = {.marked = marked};
    if (marked == NULL) {
        return PyErr_NoMemory();
    }
    if (choose(self, heap, what, all_frames, &chosen) < 0) {
        return NULL;
    }
    return find_paths(self, &chosen, most);
}
