/* The section HEAP, see Doc/library/tracemalloc_file.rst: what a reader
   predicts about an object and a reference before reading it.

   The same place in similar objects has similar values: the attribute `price`
   of one basket and of the next.  Each named reference of a shape is a place.
   The references without names have two places, as for keys and values, and
   the type has one.  Each place has the last object that was referred to
   there, and the last object that was first seen there: the next object is
   predicted to be like that. */

#ifndef TRACER_SNAPSHOT_GRAPH_FORMAT_H
#define TRACER_SNAPSHOT_GRAPH_FORMAT_H

#include "format.h"

/* The first number. */
enum snapshot_references {
    SNAPSHOT_NO_REFERENCES,
    SNAPSHOT_REFERENCES,
    SNAPSHOT_REFERENCES_KEYS,     // with texts of all keys
    SNAPSHOT_NREFERENCES
};

#define SNAPSHOT_MAX_SHIFT 16     // addresses are multiples of 2 ** shift

/* The byte before an object: which values differ from the prediction and
   therefore follow; the higher bits have the step of the address. */
#define SNAPSHOT_OTHER_SHAPE 1u   // and type
#define SNAPSHOT_OTHER_COUNT 2u   // of its references
#define SNAPSHOT_OTHER_SURPLUS 4u
#define SNAPSHOT_OTHER_TEXT 8u
#define SNAPSHOT_OTHER_STEPS 4    // << this
#define SNAPSHOT_OBJECT_FAR 15u   // a number follows instead

/* The number of surplus references is stored with this added, modulo 2 ** 32:
   so 0 and 1 have special meanings. */
#define SNAPSHOT_SURPLUS_WORDS 2u

/* A reference is one of these, or their number plus the difference from the
   last one at its place. */
enum snapshot_reference {
    SNAPSHOT_TO_NEXT,             // the first object that was not met
    SNAPSHOT_TO_NULL,
    SNAPSHOT_TO_OTHER
};

struct snapshot_place {
    uint32_t target;
    uint32_t met;
};
#define SNAPSHOT_MORE_PLACES 3    // of a shape, than it has names

struct snapshot_coder {
    struct snapshot_place *places;
    uint64_t *first;              // place of each shape
    uint32_t *like;               // by object: what it is likely to be as
    uint32_t object;              // that is coded
    uint32_t next;                // the first one that was not met
    uint32_t text;                // next one
};

static inline void
_PySnapshot_EndCoder(struct snapshot_coder *c)
{
    _PySnapshot_Release(c->places);
    _PySnapshot_Release(c->first);
    _PySnapshot_Release(c->like);
}

/* Once the shapes are known, and how many objects there are. */
static inline int
_PySnapshot_BeginCoder(struct snapshot_coder *c,
                       const struct snapshot_graph *graph)
{
    uint64_t n = 0;
    c->first = _PySnapshot_Array(graph->nshapes, sizeof(*c->first));
    for (uint32_t i = 0; c->first != NULL && i < graph->nshapes; i++) {
        c->first[i] = n;
        n += graph->shapes[i].n + SNAPSHOT_MORE_PLACES;
    }
    c->places = _PySnapshot_Zeroed(n, sizeof(*c->places));
    c->like = _PySnapshot_Zeroed(graph->nobjects, sizeof(*c->like));
    c->object = c->next = c->text = 0;
    return c->first == NULL || c->places == NULL || c->like == NULL ? -1 : 0;
}

/* Where the type of an object of a shape is found, and its references. */
static inline struct snapshot_place *
_PySnapshot_TypePlace(struct snapshot_coder *c, uint32_t shape)
{
    return &c->places[c->first[shape]];
}

static inline struct snapshot_place *
_PySnapshot_ReferencePlace(struct snapshot_coder *c, uint32_t shape,
                           uint32_t names, uint64_t number)
{
    uint64_t i = number < names ? number : names + ((number - names) & 1);
    return &c->places[c->first[shape] + 1 + i];
}

/* An object is referred to, other than 0. */
static inline void
_PySnapshot_Meet(struct snapshot_coder *c, struct snapshot_place *place,
                 uint32_t target)
{
    place->target = target;
    if (target > c->object && c->like[target] == 0) {
        c->like[target] = place->met == 0 ? target : place->met;
        place->met = target;
        c->next = target < c->next ? c->next : target + 1;
    }
}

/* Go on to an object: predict which object it is like, its address, and *count
   references. */
static inline struct snapshot_object
_PySnapshot_ExpectObject(struct snapshot_coder *c,
                         const struct snapshot_object *objects, uint32_t i,
                         uint64_t *count)
{
    static const struct snapshot_object none = {.text = SNAPSHOT_NONE};
    c->object = i;
    c->next = i < c->next ? c->next : i + 1;
    *count = 0;
    if (i == 0) {
        return none;
    }
    uint32_t like = c->like[i] == 0 || c->like[i] >= i ? i - 1 : c->like[i];
    struct snapshot_object expected = objects[like];
    *count = objects[like + 1].first - expected.first;
    if (expected.text != SNAPSHOT_NONE) {
        expected.text = c->text;
    }
    return expected;
}

#endif /* !TRACER_SNAPSHOT_GRAPH_FORMAT_H */
