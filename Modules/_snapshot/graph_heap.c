/* Preparing the graph: references of the root, sizes, dominators. */

#include "graph.h"

/* Without the GIL some counts are unknown: then it must be enough to know
   whether another object refers to this one. */
static uint8_t *
find_referred(const struct snapshot_graph *g)
{
    uint8_t *referred = _PySnapshot_Zeroed(g->nobjects, 1);
    for (uint64_t i = 0; referred != NULL && i < g->nreferences; i++) {
        assert(g->references[i] < g->nobjects);
        referred[g->references[i]] = 1;
    }
    return referred;
}

static int
is_held(const struct snapshot_object *object, uint8_t referred)
{
    return object->surplus != 0
           && !(object->surplus == SNAPSHOT_UNCOUNTED && referred);
}

static int
find_roots(struct snapshot_heap *heap)
{
    const struct snapshot_graph *g = heap->g;
    SNAPSHOT_AUTO uint8_t *referred = find_referred(g);
    uint64_t n = 0;
    if (referred == NULL) {
        return -1;
    }
    for (uint32_t i = 1; i < g->nobjects; i++) {
        n += i < SNAPSHOT_NFIXED || is_held(&g->objects[i], referred[i]);
    }
    heap->roots = _PySnapshot_Array(n, sizeof(*heap->roots));
    if (heap->roots == NULL) {
        return -1;
    }
    for (uint32_t i = 1; i < g->nobjects; i++) {
        if (i < SNAPSHOT_NFIXED || is_held(&g->objects[i], referred[i])) {
            heap->roots[heap->nroots++] = i;
        }
    }
    assert(heap->nroots == n);
    return 0;
}

struct snapshot_heap *
_PySnapshot_NewHeap(struct tracer_snapshot *s)
{
    struct snapshot_heap *heap = _PySnapshot_Zeroed(1, sizeof(*heap));
    if (heap == NULL) {
        return NULL;
    }
    heap->s = s;
    heap->g = _PySnapshot_Graph(s);
    if (find_roots(heap) < 0 || _PySnapshot_Join(heap) < 0
        || _PySnapshot_Dominators(heap) < 0)
    {
        _PySnapshot_FreeHeap(heap);
        return NULL;
    }
    return heap;
}

void
_PySnapshot_FreeHeap(struct snapshot_heap *heap)
{
    if (heap == NULL) {
        return;
    }
    _PySnapshot_Release(heap->roots);
    _PySnapshot_Release(heap->sizes);
    _PySnapshot_Release(heap->blocks);
    _PySnapshot_Release(heap->buffer_blocks);
    _PySnapshot_Release(heap->covered);
    _PySnapshot_Release(heap->order);
    _PySnapshot_Release(heap->dominators);
    _PySnapshot_Release(heap->retained);
    _PySnapshot_Release(heap);
}
