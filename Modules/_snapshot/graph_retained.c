/* What groups of objects retain. */

#include "graph.h"

/* --- By label: a walk over the dominator tree

   The bytes that an object retains are charged to its group, unless another
   object of the group holds the object: a list of lists retains what the
   outermost list retains. */

struct walk {
    const struct snapshot_heap *heap;
    const uint32_t *labels;
    uint32_t *first_child;        // by object
    uint32_t *next;               // sibling
    uint32_t *above;              // by label: how many hold where the walk is
    struct snapshot_retained *sums;
};

static void
enter(struct walk *w, uint32_t object)
{
    uint32_t label = w->labels[object];
    if (label == SNAPSHOT_NONE) {
        return;
    }
    struct snapshot_retained *sum = &w->sums[label];
    if (sum->object == SNAPSHOT_NONE) {
        sum->object = object;
    }
    sum->count++;
    sum->size += w->heap->sizes[object];
    if (w->above[label]++ == 0) {
        sum->retained += w->heap->retained[object];
    }
}

static void
leave(struct walk *w, uint32_t object)
{
    if (w->labels[object] != SNAPSHOT_NONE) {
        assert(w->above[w->labels[object]] > 0);
        w->above[w->labels[object]]--;
    }
}

static void
walk_tree(struct walk *w)
{
    uint32_t object = SNAPSHOT_ROOT;
    for (;;) {
        enter(w, object);
        if (w->first_child[object] != SNAPSHOT_NONE) {
            object = w->first_child[object];
            continue;
        }
        for (;;) {
            leave(w, object);
            if (object == SNAPSHOT_ROOT) {
                return;
            }
            if (w->next[object] != SNAPSHOT_NONE) {
                object = w->next[object];
                break;
            }
            object = w->heap->dominators[object];
        }
    }
}

int
_PySnapshot_Retained(const struct snapshot_heap *heap,
                     const uint32_t *labels, uint32_t nlabels,
                     struct snapshot_retained *sums)
{
    uint64_t n = heap->g->nobjects;
    SNAPSHOT_AUTO uint32_t *first_child = _PySnapshot_Array(n, 4);
    SNAPSHOT_AUTO uint32_t *next = _PySnapshot_Array(n, 4);
    SNAPSHOT_AUTO uint32_t *above = _PySnapshot_Zeroed(nlabels, 4);
    if (first_child == NULL || next == NULL || above == NULL) {
        return -1;
    }
    memset(first_child, 0xff, n * sizeof(*first_child));
    for (uint32_t i = heap->nreached; --i > 0; ) {
        uint32_t object = heap->order[i];
        uint32_t holder = heap->dominators[object];
        assert(holder != SNAPSHOT_NONE);
        next[object] = first_child[holder];
        first_child[holder] = object;
    }
    for (uint32_t i = 0; i < nlabels; i++) {
        sums[i] = (struct snapshot_retained){.object = SNAPSHOT_NONE};
    }
    struct walk w = {heap, labels, first_child, next, above, sums};
    walk_tree(&w);
    return 0;
}

/* --- By a set: the objects that cannot be reached without it */

int
_PySnapshot_RetainedBySet(const struct snapshot_heap *heap,
                          const uint8_t *marked, uint64_t *bytes)
{
    uint64_t n = heap->g->nobjects;
    SNAPSHOT_AUTO uint8_t *seen = _PySnapshot_Zeroed(n, 1);
    SNAPSHOT_AUTO uint32_t *queue = _PySnapshot_Array(n, sizeof(*queue));
    if (seen == NULL || queue == NULL) {
        return -1;
    }
    uint32_t end = 0;
    uint64_t others = 0;
    seen[SNAPSHOT_ROOT] = 1;
    queue[end++] = SNAPSHOT_ROOT;
    for (uint32_t i = 0; i < end; i++) {
        uint32_t m;
        const uint32_t *targets =
            _PySnapshot_References(heap, queue[i], &m);
        others += heap->sizes[queue[i]];
        for (uint32_t j = 0; j < m; j++) {
            uint32_t target = targets[j];
            if (!seen[target] && !marked[target]) {
                seen[target] = 1;
                queue[end++] = target;
            }
        }
    }
    *bytes = heap->retained[SNAPSHOT_ROOT] - others;
    return 0;
}
