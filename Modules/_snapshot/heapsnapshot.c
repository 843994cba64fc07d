/* A heap snapshot as V8 writes it, for Chrome's DevTools, memlab and others.

   One object of JSON with flat arrays of numbers: nodes; edges, those of the
   first node first; functions and the tree of calls, in which each node has
   the place that allocated it; and texts.  The root and four nodes of our own
   come first, then the objects of the graph by their numbers, then blocks that
   belong to no object, by place and class: the sizes of all add up to the
   traced memory. */

#include "heapsnapshot.h"

enum { ROOT, IMMORTAL, BY_C_CODE, BY_NOBODY, OF_NO_OBJECT, NFIRST };
#define NODE_FIELDS 7
#define OBJECTS (NFIRST - 1)      // node of an object - its number

struct rest {                     // blocks of no object
    uint32_t node, class_;
    uint64_t size;
};

struct heap_file {
    const struct snapshot_heap *heap;
    struct heap_names names;
    struct heap_out *out;
    struct snapshot_pairs ids;
    struct rest *rests;
    uint32_t nrests, rests_size;
    uint32_t nunreached, nimmortal;
    uint64_t nedges;
};

static const char META[] =
    "{\"snapshot\":{\"meta\":{"
    "\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\",\"edge_count\","
    "\"trace_node_id\",\"detachedness\"],"
    "\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\",\"code\","
    "\"closure\",\"regexp\",\"number\",\"native\",\"synthetic\","
    "\"concatenated string\",\"sliced string\",\"symbol\",\"bigint\","
    "\"object shape\"],"
    "\"string\",\"number\",\"number\",\"number\",\"number\",\"number\"],"
    "\"edge_fields\":[\"type\",\"name_or_index\",\"to_node\"],"
    "\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\","
    "\"hidden\",\"shortcut\",\"weak\"],\"string_or_number\",\"node\"],"
    "\"trace_function_info_fields\":[\"function_id\",\"name\","
    "\"script_name\",\"script_id\",\"line\",\"column\"],"
    "\"trace_node_fields\":[\"id\",\"function_info_index\",\"count\","
    "\"size\",\"children\"],"
    "\"sample_fields\":[\"timestamp_us\",\"last_assigned_id\"],"
    "\"location_fields\":[\"object_index\",\"script_id\",\"line\","
    "\"column\"]},";

/* --- What there is */

static int
find_rests(struct heap_file *f)
{
    const struct tracer_snapshot *s = f->heap->s;
    struct snapshot_pairs pairs = {0};
    int result = _PySnapshot_PairsInit(&pairs);
    for (uint64_t i = 0; result == 0 && i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        if (f->heap->covered[i]) {
            continue;
        }
        uint32_t number = _PySnapshot_Pair(&pairs, block->node,
                                           block->class_);
        if (number == SNAPSHOT_NONE
            || _PySnapshot_Reserve(&f->rests, &f->rests_size, number + 1,
                                   sizeof(*f->rests)) < 0)
        {
            result = -1;
        }
        else if (number == f->nrests) {
            f->rests[f->nrests++] = (struct rest){block->node, block->class_,
                                                  block->size};
        }
        else {
            f->rests[number].size += block->size;
        }
    }
    _PySnapshot_PairsFree(&pairs);
    return result;
}

static uint32_t
count_references(const struct snapshot_heap *heap, uint32_t object)
{
    uint32_t n, found = 0;
    const uint32_t *targets = _PySnapshot_References(heap, object, &n);
    for (uint32_t i = 0; i < n; i++) {
        found += targets[i] != 0;
    }
    return found;
}

static int
is_immortal(const struct snapshot_heap *heap, uint32_t object)
{
    return heap->g->objects[object].surplus == SNAPSHOT_IMMORTAL;
}

/* Edges of the first nodes. */
static uint32_t
count_first(const struct heap_file *f, int node)
{
    switch (node) {
    case ROOT:
        return NFIRST - 1 + SNAPSHOT_NFIXED - 1;
    case IMMORTAL:
        return f->nimmortal;
    case BY_C_CODE:
        return f->heap->nroots - (SNAPSHOT_NFIXED - 1) - f->nimmortal;
    case BY_NOBODY:
        return f->nunreached;
    default:
        return f->nrests;
    }
}

static void
count(struct heap_file *f)
{
    const struct snapshot_heap *heap = f->heap;
    for (uint32_t i = 0; i < heap->nroots; i++) {
        f->nimmortal += heap->roots[i] >= SNAPSHOT_NFIXED
                        && is_immortal(heap, heap->roots[i]);
    }
    for (uint32_t i = 1; i < heap->g->nobjects; i++) {
        f->nunreached += heap->dominators[i] == SNAPSHOT_NONE;
        f->nedges += count_references(heap, i);
    }
    for (int i = 0; i < NFIRST; i++) {
        f->nedges += count_first(f, i);
    }
}

/* --- Nodes */

static void
put_fields(struct heap_out *out, const uint64_t *fields, int n, int is_first)
{
    for (int i = 0; i < n; i++) {
        if (!is_first || i > 0) {
            _PyHeapFile_Put(out, ',');
        }
        _PyHeapFile_PutNumber(out, fields[i]);
    }
    _PyHeapFile_Put(out, '\n');
}

/* An odd number of 32 bits, the same for the same object in other
   snapshots. */
static uint32_t
new_id(struct heap_file *f, uint64_t address)
{
    uint32_t id = (uint32_t)(address * 0x9e3779b97f4a7c15 >> 32) | 1;
    for (;;) {
        uint32_t n = f->ids.used;
        uint32_t number = _PySnapshot_Pair(&f->ids, 0, id);
        if (number == SNAPSHOT_NONE) {
            f->names.failed = 1;
            return id;
        }
        if (number == n) {
            return id;
        }
        id += 2;
    }
}

static uint64_t
trace_of(const struct snapshot_heap *heap, uint32_t object)
{
    uint32_t block = heap->blocks[object];
    return block == SNAPSHOT_NONE ? 0 : heap->s->blocks[block].node + 2ull;
}

static void
put_first_nodes(struct heap_file *f)
{
    static const char *const names[] = {
        "", "(immortal)", "(held by C code)", "(held by nobody)",
        "(blocks of no known object)"};
    for (int i = 0; i < NFIRST; i++) {
        put_fields(f->out, (uint64_t[]){
            i == ROOT ? HEAP_SYNTHETIC : HEAP_NATIVE,
            _PyHeapFile_Name(&f->names, names[i]),
            new_id(f, (uint64_t)i), 0, count_first(f, i), 0, 0},
            NODE_FIELDS, i == 0);
    }
}

static void
put_nodes(struct heap_file *f)
{
    const struct snapshot_heap *heap = f->heap;
    put_first_nodes(f);
    for (uint32_t i = 1; i < heap->g->nobjects && !f->out->failed; i++) {
        int type;
        uint32_t name = _PyHeapFile_NameOf(&f->names, i, &type);
        uint64_t address = heap->g->objects[i].address;
        put_fields(f->out, (uint64_t[]){
            (uint64_t)type, name,
            new_id(f, address == 0 ? NFIRST + i : address),
            heap->sizes[i], count_references(heap, i), trace_of(heap, i), 0},
            NODE_FIELDS, 0);
    }
    for (uint32_t i = 0; i < f->nrests; i++) {
        const struct rest *rest = &f->rests[i];
        put_fields(f->out, (uint64_t[]){
            HEAP_NATIVE,
            _PyHeapFile_String(&f->names, heap->s->classes[rest->class_].name),
            2 * (i + 1ull), rest->size, 0, rest->node + 2ull, 0},
            NODE_FIELDS, 0);
    }
}

/* --- Edges */

static void
put_edge(struct heap_file *f, int type, uint32_t name, uint64_t node,
         int is_first)
{
    put_fields(f->out, (uint64_t[]){(uint64_t)type, name, node * NODE_FIELDS},
               3, is_first);
}

/* An edge to an object that the root holds, immortal or not. */
static void
put_root_edges(struct heap_file *f, int immortal)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->heap->nroots; i++) {
        uint32_t object = f->heap->roots[i];
        if (object >= SNAPSHOT_NFIXED
            && is_immortal(f->heap, object) == immortal)
        {
            put_edge(f, HEAP_ELEMENT, n++, object + OBJECTS, 0);
        }
    }
}

static void
put_first_edges(struct heap_file *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count_first(f, ROOT); i++) {
        put_edge(f, HEAP_ELEMENT, i, i + 1, i == 0);
    }
    put_root_edges(f, 1);
    put_root_edges(f, 0);
    for (uint32_t i = 1; i < f->heap->g->nobjects; i++) {
        if (f->heap->dominators[i] == SNAPSHOT_NONE) {
            put_edge(f, HEAP_ELEMENT, n++, i + OBJECTS, 0);
        }
    }
    for (uint32_t i = 0; i < f->nrests; i++) {
        put_edge(f, HEAP_ELEMENT, i,
                 (uint64_t)f->heap->g->nobjects + OBJECTS + i, 0);
    }
}

static void
put_edges(struct heap_file *f)
{
    put_first_edges(f);
    for (uint32_t i = 1; i < f->heap->g->nobjects && !f->out->failed; i++) {
        uint32_t n;
        const uint32_t *targets = _PySnapshot_References(f->heap, i, &n);
        for (uint32_t j = 0; j < n; j++) {
            if (targets[j] != 0) {
                uint32_t name;
                int type = _PyHeapFile_Edge(&f->names, i, j, &name);
                put_edge(f, type, name, targets[j] + OBJECTS, 0);
            }
        }
    }
}

/* --- Where it was allocated */

/* The first stands for the root of the tree. */
static void
put_functions(struct heap_file *f)
{
    const struct tracer_snapshot *s = f->heap->s;
    uint32_t none = _PyHeapFile_Name(&f->names, "");
    put_fields(f->out, (uint64_t[]){
        0, _PyHeapFile_Name(&f->names, "(root)"), none, 0, 0, 0}, 6, 1);
    for (uint32_t i = 0; i < s->nlocations; i++) {
        const struct snapshot_location *l = &s->locations[i];
        put_fields(f->out, (uint64_t[]){
            i + 1ull, _PyHeapFile_String(&f->names, l->function),
            _PyHeapFile_String(&f->names, l->filename), l->filename + 1ull,
            l->line < 0 ? 0 : (uint64_t)l->line,
            l->column < 0 ? 0 : (uint64_t)l->column + 1}, 6, 0);
    }
}

static void
put_call(struct heap_file *f, uint32_t node)
{
    const struct tracer_snapshot *s = f->heap->s;
    const uint64_t *measures = _PySnapshot_Measures(s, node);
    put_fields(f->out, (uint64_t[]){
        node + 2ull, s->nodes[node].location + 1ull,
        measures[SNAPSHOT_TOTAL_COUNT], measures[SNAPSHOT_TOTAL_SIZE]}, 4, 1);
    _PyHeapFile_PutText(f->out, ",[");
}

static int
put_calls(struct heap_file *f)
{
    const struct tracer_snapshot *s = f->heap->s;
    SNAPSHOT_AUTO uint32_t *order = _PySnapshot_Array(s->nnodes,
                                                      sizeof(*order));
    if (order == NULL || _PySnapshot_Preorder(s, order) < 0) {
        return -1;
    }
    uint32_t last = SNAPSHOT_NONE;    // that which is open
    _PyHeapFile_PutText(f->out, "1,0,0,0,[");
    for (uint32_t i = 0; i < s->nnodes; i++) {
        uint32_t parent = s->nodes[order[i]].parent;
        int is_first = i == 0 || last == parent;
        while (last != parent) {
            _PyHeapFile_Put(f->out, ']');
            last = s->nodes[last].parent;
        }
        if (!is_first) {
            _PyHeapFile_Put(f->out, ',');
        }
        put_call(f, order[i]);
        last = order[i];
    }
    for (; last != SNAPSHOT_NONE; last = s->nodes[last].parent) {
        _PyHeapFile_Put(f->out, ']');
    }
    _PyHeapFile_Put(f->out, ']');
    return 0;
}

/* --- All of it */

static void
put_count(struct heap_out *out, const char *name, uint64_t number)
{
    _PyHeapFile_PutText(out, name);
    _PyHeapFile_PutNumber(out, number);
}

static void
put_strings(struct heap_file *f)
{
    const struct heap_names *names = &f->names;
    for (uint32_t i = 0; i < names->n && !f->out->failed; i++) {
        if (i > 0) {
            _PyHeapFile_PutText(f->out, ",\n");
        }
        _PyHeapFile_PutQuoted(f->out, names->text + names->names[i].start,
                              names->names[i].length);
    }
}

/* 0, or -1: no memory. */
static int
write_file(struct heap_file *f)
{
    struct heap_out *out = f->out;
    if (find_rests(f) < 0) {
        return -1;
    }
    count(f);
    _PyHeapFile_PutText(out, META);
    put_count(out, "\"node_count\":",
              (uint64_t)f->heap->g->nobjects + OBJECTS + f->nrests);
    put_count(out, ",\"edge_count\":", f->nedges);
    put_count(out, ",\"trace_function_count\":",
              f->heap->s->nlocations + 1ull);
    _PyHeapFile_PutText(out, "},\n\"nodes\":[");
    put_nodes(f);
    _PyHeapFile_PutText(out, "],\n\"edges\":[");
    put_edges(f);
    _PyHeapFile_PutText(out, "],\n\"trace_function_infos\":[");
    put_functions(f);
    _PyHeapFile_PutText(out, "],\n\"trace_tree\":[");
    if (put_calls(f) < 0) {
        return -1;
    }
    _PyHeapFile_PutText(out, "],\n\"samples\":[],\n\"locations\":[],\n"
                             "\"strings\":[");
    put_strings(f);
    _PyHeapFile_PutText(out, "]}\n");
    _PyHeapFile_Flush(out);
    return f->names.failed ? -1 : 0;
}

/* _write_heapsnapshot(write): call it with bytes. */
PyObject *
_PyTracemalloc_WriteHeapSnapshot(TracesObject *self, PyObject *write)
{
    struct heap_file f = {.heap = _PyTracemalloc_GetHeap(self)};
    if (f.heap == NULL) {
        return NULL;
    }
    f.out = PyMem_Malloc(sizeof(*f.out));
    int result = -1;
    if (f.out != NULL && _PyHeapFile_NamesInit(&f.names, f.heap) == 0
        && _PySnapshot_PairsInit(&f.ids) == 0)
    {
        f.out->write = write;
        f.out->failed = 0;
        f.out->used = 0;
        result = write_file(&f);
        if (f.out->failed) {
            result = 1;
        }
    }
    PyMem_Free(f.out);
    _PyHeapFile_NamesFree(&f.names);
    _PySnapshot_PairsFree(&f.ids);
    _PySnapshot_Release(f.rests);
    if (result < 0) {
        return PyErr_NoMemory();
    }
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}
