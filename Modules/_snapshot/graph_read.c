/* Reading the heap graph of a snapshot, see graph_format.h.

   Most users of a file do not ask about holders, and reading the graph takes
   longer than the rest of the file. So it is kept encoded and read on demand:
   until then only its checksum was checked. Like file_read.c, this trusts
   nothing: a number of records is accepted if the section has a byte for each
   of them, and an index if it is in range. An object that is referred to
   before its record is not accessed before the record was read. */

#include "graph_format.h"
#include "reader.h"

static void
read_shapes(struct reader *r, const struct tracer_snapshot *s,
            struct snapshot_graph *graph)
{
    graph->names = get_array32(r, 1, sizeof(*graph->names), &graph->nnames);
    uint64_t n = get_count(r, 2, sizeof(*graph->shapes));
    graph->shapes = _PySnapshot_Zeroed(n + SNAPSHOT_NFIXED_SHAPES,
                                       sizeof(*graph->shapes));
    if (graph->shapes == NULL || n >= SNAPSHOT_NONE - SNAPSHOT_NFIXED_SHAPES) {
        fail(r, NULL);
        return;
    }
    graph->nshapes = (uint32_t)n + SNAPSHOT_NFIXED_SHAPES;
    for (uint32_t i = 0; i < SNAPSHOT_NFIXED_SHAPES; i++) {
        graph->shapes[i].kind = i;
    }
    uint32_t names = 0;
    uint32_t name = 0;
    for (uint32_t i = SNAPSHOT_NFIXED_SHAPES;
         i < graph->nshapes && !r->failed; i++)
    {
        struct snapshot_shape *shape = &graph->shapes[i];
        shape->kind = get_index(r, SNAPSHOT_NOBJECT_KINDS,
                                "no such kind of object");
        shape->first = names;
        shape->n = get_index(r, graph->nnames - names + 1,
                             "more names than there are");
        for (; names < shape->first + shape->n && !r->failed; names++) {
            name = get_near(r, name, s->nstrings, "no such text");
            graph->names[names] = name;
        }
    }
    if (FUZZING) {
        graph->nnames = names;
    }
    if (names != graph->nnames) {
        fail(r, "names of no shape");
    }
}

static uint32_t
read_reference(struct reader *r, const struct snapshot_graph *graph,
               struct snapshot_coder *c, struct snapshot_place *place)
{
    const uint8_t *start = r->p;
    uint64_t code = get(r);
    if (code == SNAPSHOT_TO_NULL) {
        return 0;
    }
    uint64_t target = code == SNAPSHOT_TO_NEXT
        ? c->next
        : place->target + _PySnapshot_UnZigZag(code - SNAPSHOT_TO_OTHER);
    if (target == 0 || target >= graph->nobjects) {
        fail_at(r, start, "no such object");
        return 0;
    }
    _PySnapshot_Meet(c, place, (uint32_t)target);
    return (uint32_t)target;
}

static uint32_t
read_text(struct reader *r, uint32_t expected, uint32_t nstrings)
{
    const uint8_t *start = r->p;
    uint64_t code = get(r);
    uint64_t text = expected + _PySnapshot_UnZigZag(code - 1);
    if (code != 0 && text >= nstrings) {
        fail_at(r, start, "no such text");
    }
    return code == 0 ? SNAPSHOT_NONE : (uint32_t)text;
}

static void
read_object(struct reader *r, const struct tracer_snapshot *s,
            struct snapshot_graph *graph, uint32_t i,
            struct snapshot_coder *c, unsigned shift)
{
    const uint8_t *start = r->p;
    uint64_t count;
    uint64_t first = graph->objects[i].first;
    struct snapshot_object object = _PySnapshot_ExpectObject(
        c, graph->objects, i, &count);
    unsigned control = get_byte(r);
    unsigned steps = control >> SNAPSHOT_OTHER_STEPS;
    object.first = first;
    object.address += (steps == SNAPSHOT_OBJECT_FAR
                       ? _PySnapshot_UnZigZag(get(r)) : steps) << shift;
    if (control & SNAPSHOT_OTHER_SHAPE) {
        object.shape = get_index(r, graph->nshapes, "no such shape");
        object.type = read_reference(r, graph, c,
                                     _PySnapshot_TypePlace(c, object.shape));
    }
    if (control & SNAPSHOT_OTHER_COUNT) {
        count = get(r);
    }
    if (control & SNAPSHOT_OTHER_SURPLUS) {
        object.surplus = get_word(r, "too many references")
                         - SNAPSHOT_SURPLUS_WORDS;
    }
    if (control & SNAPSHOT_OTHER_TEXT) {
        object.text = read_text(r, c->text, s->nstrings);
    }
    else if (object.text != SNAPSHOT_NONE && object.text >= s->nstrings) {
        fail_at(r, start, "no such text");
    }
    if (object.text != SNAPSHOT_NONE) {
        c->text = object.text + 1;
    }
    if (count > graph->nreferences - first) {
        fail_at(r, start, "more references than there are");
    }
    if (count < graph->shapes[object.shape].n) {
        fail_at(r, start, "fewer references than names");
    }
    if (!r->failed) {
        graph->objects[i] = object;
        graph->objects[i + 1].first = first + count;
    }
}

static void
read_references(struct reader *r, struct snapshot_graph *graph, uint32_t i,
                struct snapshot_coder *c)
{
    uint32_t shape = graph->objects[i].shape;
    uint32_t names = graph->shapes[shape].n;
    uint64_t first = graph->objects[i].first;
    uint64_t count = graph->objects[i + 1].first - first;
    for (uint64_t j = 0; j < count && !r->failed; j++) {
        graph->references[first + j] = read_reference(
            r, graph, c, _PySnapshot_ReferencePlace(c, shape, names, j));
    }
}

static void
read_objects(struct reader *r, const struct tracer_snapshot *s,
             struct snapshot_graph *graph, unsigned shift)
{
    graph->references = get_array(r, 1, sizeof(*graph->references),
                                  &graph->nreferences);
    uint64_t n = get_count(r, 1, sizeof(*graph->objects));
    if (n < SNAPSHOT_NFIXED || n >= SNAPSHOT_NONE) {
        fail(r, "too few or too many objects");
        return;
    }
    struct snapshot_coder c;
    graph->nobjects = (uint32_t)n;
    graph->objects = _PySnapshot_Array(n + 1, sizeof(*graph->objects));
    int result = _PySnapshot_BeginCoder(&c, graph);
    if (graph->objects == NULL || result < 0) {
        fail(r, NULL);
    }
    else {
        graph->objects[0].first = 0;
    }
    for (uint32_t i = 0; i < graph->nobjects && !r->failed; i++) {
        read_object(r, s, graph, i, &c, shift);
        if (!r->failed) {
            read_references(r, graph, i, &c);
        }
    }
    _PySnapshot_EndCoder(&c);
    if (r->failed) {
        return;
    }
    if (FUZZING) {
        graph->nreferences = graph->objects[n].first;
    }
    if (graph->objects[n].first != graph->nreferences) {
        fail(r, "references of no object");
    }
    if (graph->objects[SNAPSHOT_ROOT + 1].first != 0) {
        fail(r, "references of the root");
    }
}

static void
read_buffers(struct reader *r, struct snapshot_graph *graph, unsigned shift)
{
    uint32_t owner = 0;
    graph->buffers = get_array(r, 2, sizeof(*graph->buffers),
                               &graph->nbuffers);
    for (uint64_t i = 0; i < graph->nbuffers && !r->failed; i++) {
        owner = get_near(r, owner, graph->nobjects, "no such object");
        graph->buffers[i] = (struct snapshot_buffer){
            .object = owner,
            .address = graph->objects[owner].address
                       + (_PySnapshot_UnZigZag(get(r)) << shift),
        };
    }
}

/* What follows the first number. */
static void
read_graph(struct reader *r, const struct tracer_snapshot *s,
           struct snapshot_graph *graph)
{
    unsigned shift = get_index(r, SNAPSHOT_MAX_SHIFT + 1,
                               "addresses are shifted too far");
    read_shapes(r, s, graph);
    if (!r->failed) {
        read_objects(r, s, graph, shift);
    }
    if (!r->failed) {
        read_buffers(r, graph, shift);
    }
    if (r->p != r->end) {
        fail(r, "section is longer than its records");
    }
}

int
_PySnapshot_DecodeGraph(const struct tracer_snapshot *s,
                        struct snapshot_error *error)
{
    struct snapshot_graph *coded = s->graph;
    error->reason = NULL;
    if (coded == NULL || coded->coded == NULL
        || __atomic_load_n(&coded->decoded, __ATOMIC_ACQUIRE) != NULL)
    {
        return 0;
    }
    struct reader r = {.image = coded->coded, .p = coded->coded,
                       .end = coded->coded + coded->coded_size,
                       .error = error};
    struct snapshot_graph *graph = _PySnapshot_Zeroed(1, sizeof(*graph));
    struct snapshot_graph *nobody = NULL;
    if (graph == NULL) {
        return -1;
    }
    graph->has_keys = coded->has_keys;
    read_graph(&r, s, graph);
    if (!r.failed
        && __atomic_compare_exchange_n(&coded->decoded, &nobody, graph, 0,
                                       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    {
        return 0;
    }
    _PySnapshot_FreeGraph(graph);         // another thread was faster, or
    error->offset += coded->coded_offset;
    return r.failed ? -1 : 0;
}

void
_PySnapshot_ReadGraph(struct reader *r, struct tracer_snapshot *s)
{
    uint32_t references = get_index(r, SNAPSHOT_NREFERENCES,
                                    "flag is none of 0, 1 and 2");
    if (references == SNAPSHOT_NO_REFERENCES) {
        return;
    }
    if (!s->has_blocks) {
        fail(r, "references without traces");
        return;
    }
    s->graph = _PySnapshot_Zeroed(1, sizeof(*s->graph));
    if (s->graph == NULL) {
        fail(r, NULL);
        return;
    }
    s->graph->has_keys = references == SNAPSHOT_REFERENCES_KEYS;
    s->graph->coded_size = (uint64_t)(r->end - r->p);
    s->graph->coded_offset = (uint64_t)(r->p - r->image);
    s->graph->coded = _PySnapshot_Array(s->graph->coded_size, 1);
    if (s->graph->coded == NULL) {
        fail(r, NULL);
        return;
    }
    memcpy(s->graph->coded, r->p, s->graph->coded_size);
    r->p = r->end;
}
