/* Writing the heap graph of a snapshot, see graph_format.h.  What is asserted
   is what graph_read.c demands of a file. */

#include "graph_format.h"
#include "writer.h"

#include <errno.h>

static void
write_shapes(struct writer *w, const struct snapshot_graph *graph)
{
    uint64_t nnames = 0;
    uint32_t last = 0;
    for (uint32_t i = SNAPSHOT_NFIXED_SHAPES; i < graph->nshapes; i++) {
        nnames += graph->shapes[i].n;
    }
    put(w, nnames);
    put(w, graph->nshapes - SNAPSHOT_NFIXED_SHAPES);
    for (uint32_t i = SNAPSHOT_NFIXED_SHAPES; i < graph->nshapes; i++) {
        const struct snapshot_shape *shape = &graph->shapes[i];
        room(w);
        put(w, shape->kind);
        put(w, shape->n);
        for (uint32_t j = 0; j < shape->n; j++) {
            uint32_t name = graph->names[shape->first + j];
            assert(shape->first + j < graph->nnames);
            room(w);
            put_difference(w, name, last);
            last = name;
        }
    }
}

static void
write_reference(struct writer *w, struct snapshot_coder *c,
                struct snapshot_place *place, uint32_t target)
{
    if (target == 0) {
        put(w, SNAPSHOT_TO_NULL);
        return;
    }
    put(w, target == c->next
        ? SNAPSHOT_TO_NEXT
        : SNAPSHOT_TO_OTHER + _PySnapshot_ZigZag((uint64_t)target
                                                 - place->target));
    _PySnapshot_Meet(c, place, target);
}

static void
write_object(struct writer *w, const struct snapshot_graph *graph, uint32_t i,
             struct snapshot_coder *c, unsigned shift)
{
    const struct snapshot_object *object = &graph->objects[i];
    assert(object->shape < graph->nshapes && object->type < graph->nobjects);
    uint64_t count = object[1].first - object->first;
    assert(count >= graph->shapes[object->shape].n);
    uint64_t expected_count;
    struct snapshot_object expected = _PySnapshot_ExpectObject(
        c, graph->objects, i, &expected_count);
    uint64_t step = (object->address - expected.address) >> shift;
    int other = object->shape != expected.shape
                || object->type != expected.type;
    unsigned control = (other ? SNAPSHOT_OTHER_SHAPE : 0)
        | (count != expected_count ? SNAPSHOT_OTHER_COUNT : 0)
        | (object->surplus != expected.surplus ? SNAPSHOT_OTHER_SURPLUS : 0)
        | (object->text != expected.text ? SNAPSHOT_OTHER_TEXT : 0);
    unsigned steps = step < SNAPSHOT_OBJECT_FAR ? (unsigned)step
                                                : SNAPSHOT_OBJECT_FAR;
    room(w);
    put_byte(w, control | steps << SNAPSHOT_OTHER_STEPS);
    if (steps == SNAPSHOT_OBJECT_FAR) {
        put_difference(w, object->address >> shift,
                       expected.address >> shift);
    }
    if (other) {
        put(w, object->shape);
        write_reference(w, c, _PySnapshot_TypePlace(c, object->shape),
                        object->type);
    }
    if (control & SNAPSHOT_OTHER_COUNT) {
        put(w, count);
    }
    if (control & SNAPSHOT_OTHER_SURPLUS) {
        put(w, object->surplus + SNAPSHOT_SURPLUS_WORDS);
    }
    if (control & SNAPSHOT_OTHER_TEXT) {
        put(w, object->text == SNAPSHOT_NONE
            ? 0 : 1 + _PySnapshot_ZigZag((uint64_t)object->text - c->text));
    }
    if (object->text != SNAPSHOT_NONE) {
        c->text = object->text + 1;
    }
}

static void
write_references(struct writer *w, const struct snapshot_graph *graph,
                 uint32_t i, struct snapshot_coder *c)
{
    uint32_t shape = graph->objects[i].shape;
    uint32_t names = graph->shapes[shape].n;
    uint64_t first = graph->objects[i].first;
    uint64_t count = graph->objects[i + 1].first - first;
    assert(first + count <= graph->nreferences);
    for (uint64_t j = 0; j < count; j++) {
        room(w);
        assert(graph->references[first + j] < graph->nobjects);
        write_reference(w, c, _PySnapshot_ReferencePlace(c, shape, names, j),
                        graph->references[first + j]);
    }
}

/* How far all addresses can be shifted. */
static unsigned
common_shift(const struct snapshot_graph *graph)
{
    uint64_t bits = UINT64_C(1) << SNAPSHOT_MAX_SHIFT;
    for (uint32_t i = 0; i < graph->nobjects; i++) {
        bits |= graph->objects[i].address;
    }
    for (uint64_t i = 0; i < graph->nbuffers; i++) {
        bits |= graph->buffers[i].address;
    }
    return (unsigned)__builtin_ctzll(bits);
}

static void
write_objects(struct writer *w, const struct snapshot_graph *graph,
              unsigned shift)
{
    struct snapshot_coder c;
    if (_PySnapshot_BeginCoder(&c, graph) < 0) {
        errno = ENOMEM;
        w->failed = 1;
    }
    put(w, graph->nreferences);
    put(w, graph->nobjects);
    for (uint32_t i = 0; i < graph->nobjects && !w->failed; i++) {
        write_object(w, graph, i, &c, shift);
        write_references(w, graph, i, &c);
    }
    _PySnapshot_EndCoder(&c);
}

static void
write_buffers(struct writer *w, const struct snapshot_graph *graph,
              unsigned shift)
{
    uint32_t last = 0;
    put(w, graph->nbuffers);
    for (uint64_t i = 0; i < graph->nbuffers; i++) {
        const struct snapshot_buffer *buffer = &graph->buffers[i];
        assert(buffer->object < graph->nobjects);
        room(w);
        put_difference(w, buffer->object, last);
        put_difference(w, buffer->address >> shift,
                       graph->objects[buffer->object].address >> shift);
        last = buffer->object;
    }
}

void
_PySnapshot_WriteGraph(struct writer *w, const struct tracer_snapshot *s)
{
    const struct snapshot_graph *graph = _PySnapshot_Graph(s);
    if (graph == NULL) {
        put(w, SNAPSHOT_NO_REFERENCES);
        return;
    }
    unsigned shift = common_shift(graph);
    put(w, graph->has_keys ? SNAPSHOT_REFERENCES_KEYS : SNAPSHOT_REFERENCES);
    put(w, shift);
    write_shapes(w, graph);
    write_objects(w, graph, shift);
    room(w);
    write_buffers(w, graph, shift);
}
