/* Dominators: which object would have to let go for another to die.

   A node dominates another if all ways from the root to the other lead through
   it. The closest dominators form a tree. The bytes that a node retains, which
   would be freed with it, are the sum over its subtree.

   The algorithm is semi-NCA: L. Georgiadis, R. Tarjan, R. Werneck, "Finding
   Dominators in Practice", Journal of Graph Algorithms and Applications 10
   (2006).  A depth-first walk numbers the nodes. Then, from the last number to
   the first, the semidominators are computed: that of a node is the smallest
   number from which a way leads to the node such that all nodes in between
   have larger numbers than the node. Then, from the first to the last, the
   closest dominator is found: the first ancestor of the parent whose number is
   not above the semidominator.

   Nearly all the time is spent waiting for memory.  So the arrays that are
   read out of order are small, all others are read in order, and what will be
   needed soon is prefetched.  The kernel clears fresh memory, which takes as
   long as a step of the algorithm: arrays are used again for the next step. */

#include "graph.h"

struct tree {
    uint32_t up;                  // parent, or a node further up
    uint32_t least;               // semidominator of those below `up`
};
static_assert(sizeof(struct tree) == sizeof(uint64_t), "see retained");

struct walk {
    const struct snapshot_heap *heap;
    uint32_t n;                   // objects reached
    uint32_t *objects;            // by number
    uint32_t *parents;            // by number: of the walk
    union {
        uint32_t *numbers;        // by object; NONE: not reached
        uint32_t *path;           // of compress()
        uint32_t *dominators;     // by number
    };
    union {
        uint32_t *starts;         // by object: in references
        uint32_t *places;         // by object: in callers, of the next
        uint32_t *semi;           // by number: semidominators
    };
    union {
        uint32_t *next;           // by number: the reference to look at
        uint32_t *first;          // by number: in callers
    };
    uint32_t *callers;            // by `first`: those that refer to it
    uint8_t *seen;                // by object, a bit
    struct tree *trees;           // by number
};

enum { AHEAD = 8 };               // prefetched: so many references, callers

/* --- The walk */

static inline int
is_new(struct walk *w, uint32_t object)
{
    uint8_t bit = (uint8_t)(1 << object % 8);
    uint8_t seen = w->seen[object / 8];
    w->seen[object / 8] = seen | bit;
    return !(seen & bit);
}

static inline void
prefetch_targets(const struct walk *w, uint32_t object)
{
    uint32_t end = w->starts[object + 1];
    uint32_t i = w->starts[object];
    for (end = end - i > AHEAD ? i + AHEAD : end; i < end; i++) {
        __builtin_prefetch(&w->starts[w->heap->g->references[i]]);
    }
}

static void
enter(struct walk *w, uint32_t object, uint32_t parent)
{
    w->objects[w->n] = object;
    w->parents[w->n] = parent;
    w->next[w->n] = w->starts[object];
    w->numbers[object] = w->n++;
    prefetch_targets(w, object);
}

/* What can be reached from the object that was entered last. */
static void
number_below(struct walk *w)
{
    const uint32_t *references = w->heap->g->references;
    for (uint32_t number = w->n - 1; number != 0; ) {
        uint32_t end = w->starts[w->objects[number] + 1];
        uint32_t i = w->next[number];
        while (i < end && !is_new(w, references[i])) {
            i++;
        }
        w->next[number] = i + 1;
        if (i < end) {
            enter(w, references[i], number);
            number = w->n - 1;
        }
        else {
            number = w->parents[number];
        }
    }
}

static void
number_objects(struct walk *w)
{
    const struct snapshot_graph *g = w->heap->g;
    for (uint64_t i = 0; i < g->nobjects; i++) {
        w->starts[i] = (uint32_t)g->objects[i].first;
        w->numbers[i] = SNAPSHOT_NONE;
    }
    w->starts[g->nobjects] = (uint32_t)g->objects[g->nobjects].first;
    (void)is_new(w, SNAPSHOT_ROOT);   // NULLs have its number
    enter(w, SNAPSHOT_ROOT, 0);
    for (uint32_t i = 0; i < w->heap->nroots; i++) {
        if (is_new(w, w->heap->roots[i])) {
            enter(w, w->heap->roots[i], 0);
            number_below(w);
        }
    }
}

/* --- The references turned around */

/* By object, how many refer to it. */
static void
count_callers(const struct walk *w, uint32_t *counts)
{
    memset(counts, 0, w->heap->g->nobjects * sizeof(*counts));
    for (uint32_t i = 0; i < w->heap->g->nobjects; i++) {
        if (w->numbers[i] == SNAPSHOT_NONE) {
            continue;
        }
        uint32_t n;
        const uint32_t *targets = _PySnapshot_References(w->heap, i, &n);
        for (uint32_t j = 0; j < n; j++) {
            counts[targets[j]]++;
        }
    }
}

static void
place_callers(const struct walk *w)
{
    for (uint32_t i = 0; i < w->heap->g->nobjects; i++) {
        if (w->numbers[i] == SNAPSHOT_NONE) {
            continue;
        }
        uint32_t n;
        const uint32_t *targets = _PySnapshot_References(w->heap, i, &n);
        for (uint32_t j = 0; j < n; j++) {
            if (targets[j] != SNAPSHOT_ROOT) {
                w->callers[w->places[targets[j]]++] = w->numbers[i];
            }
        }
    }
}

static int
list_callers(struct walk *w)
{
    count_callers(w, w->places);
    uint32_t end = 0;
    w->first[0] = 0;              // of NULLs
    for (uint32_t i = 1; i < w->n; i++) {
        uint32_t n = w->places[w->objects[i]];
        w->places[w->objects[i]] = w->first[i] = end;
        end += n;
    }
    w->first[w->n] = end;
    w->callers = _PySnapshot_Array(end, sizeof(*w->callers));
    if (w->callers == NULL) {
        return -1;
    }
    place_callers(w);
    return 0;
}

/* --- Semidominators */

/* Return the least semidominator from v to the top of its tree: nodes from
   `linked` on hang on their parents. */
static uint32_t
compress(struct tree *trees, uint32_t *path, uint32_t v, uint32_t linked)
{
    uint32_t length = 0;
    for (; trees[v].up >= linked; v = trees[v].up) {
        path[length++] = v;
    }
    struct tree top = trees[v];
    while (length-- > 0) {
        struct tree *t = &trees[path[length]];
        if (t->least < top.least) {
            top.least = t->least;
        }
        *t = top;
    }
    return top.least;
}

static void
find_semidominators(struct walk *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        w->trees[i].up = w->parents[i];
    }
    for (uint32_t i = w->n; --i > 0; ) {
        uint32_t semi = w->parents[i];
        for (uint32_t e = w->first[i]; e < w->first[i + 1]; e++) {
            uint32_t soon = e < AHEAD ? 0 : e - AHEAD;
            __builtin_prefetch(&w->trees[w->callers[soon]]);
            uint32_t caller = w->callers[e];
            if (caller > i) {
                caller = compress(w->trees, w->path, caller, i + 1);
            }
            semi = caller < semi ? caller : semi;
        }
        assert(semi < i);
        w->trees[i].least = w->semi[i] = semi;
    }
}

static void
find_dominators(struct walk *w)
{
    w->dominators[0] = 0;
    for (uint32_t i = 1; i < w->n; i++) {
        uint32_t dominator = w->parents[i];
        while (dominator > w->semi[i]) {
            dominator = w->dominators[dominator];
        }
        w->dominators[i] = dominator;
    }
}

/* --- All of it */

static int
make_walk(struct walk *w)
{
    uint64_t n = w->heap->g->nobjects;
    if (w->heap->g->nreferences + w->heap->nroots >= SNAPSHOT_NONE) {
        return -1;
    }
    w->objects = _PySnapshot_Array(n, sizeof(*w->objects));
    w->parents = _PySnapshot_Array(n, sizeof(*w->parents));
    w->numbers = _PySnapshot_Array(n, sizeof(*w->numbers));
    w->starts = _PySnapshot_Array(n + 1, sizeof(*w->starts));
    w->next = _PySnapshot_Array(n + 1, sizeof(*w->next));
    w->seen = _PySnapshot_Zeroed(n / 8 + 1, sizeof(*w->seen));
    return w->objects == NULL || w->parents == NULL || w->numbers == NULL
           || w->starts == NULL || w->next == NULL || w->seen == NULL
           ? -1 : 0;
}

static void
end_walk(struct walk *w)
{
    _PySnapshot_Release(w->numbers);
    _PySnapshot_Release(w->starts);
    _PySnapshot_Release(w->next);
    _PySnapshot_Release(w->callers);
    _PySnapshot_Release(w->seen);
}

/* From numbers to objects. */
static void
name_dominators(struct snapshot_heap *heap, const struct walk *w)
{
    uint64_t n = heap->g->nobjects;
    heap->nreached = w->n;
    memset(heap->dominators, 0xff, n * sizeof(*heap->dominators));
    memcpy(heap->retained, heap->sizes, n * sizeof(*heap->retained));
    for (uint32_t i = 0; i < w->n; i++) {
        heap->dominators[w->objects[i]] = w->objects[w->dominators[i]];
    }
    for (uint32_t i = w->n; --i > 0; ) {
        assert(w->dominators[i] < i);
        heap->retained[w->objects[w->dominators[i]]] +=
            heap->retained[w->objects[i]];
    }
}

int
_PySnapshot_Dominators(struct snapshot_heap *heap)
{
    struct walk w = {.heap = heap};
    int result = make_walk(&w);
    if (result == 0) {
        number_objects(&w);
        result = list_callers(&w);
    }
    heap->retained = _PySnapshot_Array(heap->g->nobjects,
                                       sizeof(*heap->retained));
    if (heap->retained == NULL) {
        result = -1;
    }
    if (result == 0) {
        w.trees = (struct tree *)heap->retained;
        find_semidominators(&w);
        find_dominators(&w);
    }
    heap->order = w.objects;
    heap->dominators = w.parents;
    if (result == 0) {
        name_dominators(heap, &w);
    }
    end_walk(&w);
    return result;
}
