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
   needed soon is prefetched. */

#include "graph.h"

#include <assert.h>

struct walk {
    const struct snapshot_heap *heap;
    uint32_t n;                   // objects reached
    uint32_t *objects;            // by number
    uint32_t *numbers;            // by object; NONE: not reached
    uint32_t *parents;            // by number: of the walk
    uint32_t *first;              // by number: in callers
    uint32_t *callers;            // numbers of those that refer to it
};

enum { AHEAD = 8 };               // prefetched: so many references, callers

/* --- The walk */

struct stack {
    const uint32_t *references;
    uint32_t *starts;             // by object: in references
    uint32_t *next;               // by number: the reference to look at
    uint8_t *seen;                // by object, a bit
};

static inline int
is_new(struct stack *stack, uint32_t object)
{
    uint8_t bit = (uint8_t)(1 << object % 8);
    uint8_t seen = stack->seen[object / 8];
    stack->seen[object / 8] = seen | bit;
    return !(seen & bit);
}

static inline void
prefetch_targets(const struct stack *stack, uint32_t object)
{
    uint32_t end = stack->starts[object + 1];
    uint32_t i = stack->starts[object];
    for (end = end - i > AHEAD ? i + AHEAD : end; i < end; i++) {
        __builtin_prefetch(&stack->starts[stack->references[i]]);
    }
}

static void
enter(struct walk *w, struct stack *stack, uint32_t object, uint32_t parent)
{
    w->objects[w->n] = object;
    w->parents[w->n] = parent;
    stack->next[w->n] = stack->starts[object];
    w->numbers[object] = w->n++;
    prefetch_targets(stack, object);
}

/* What can be reached from the object that was entered last. */
static void
number_below(struct walk *w, struct stack *stack)
{
    for (uint32_t number = w->n - 1; number != 0; ) {
        uint32_t end = stack->starts[w->objects[number] + 1];
        uint32_t i = stack->next[number];
        while (i < end && !is_new(stack, stack->references[i])) {
            i++;
        }
        stack->next[number] = i + 1;
        if (i < end) {
            enter(w, stack, stack->references[i], number);
            number = w->n - 1;
        }
        else {
            number = w->parents[number];
        }
    }
}

static void
number_objects(struct walk *w, struct stack *stack)
{
    const struct snapshot_graph *g = w->heap->g;
    for (uint64_t i = 0; i < g->nobjects; i++) {
        stack->starts[i] = (uint32_t)g->objects[i].first;
        w->numbers[i] = SNAPSHOT_NONE;
    }
    stack->starts[g->nobjects] = (uint32_t)g->objects[g->nobjects].first;
    (void)is_new(stack, SNAPSHOT_ROOT);        // NULLs have its number
    enter(w, stack, SNAPSHOT_ROOT, 0);
    for (uint32_t i = 0; i < w->heap->nroots; i++) {
        if (is_new(stack, w->heap->roots[i])) {
            enter(w, stack, w->heap->roots[i], 0);
            number_below(w, stack);
        }
    }
}

static int
walk_graph(struct walk *w)
{
    const struct snapshot_graph *g = w->heap->g;
    uint64_t n = g->nobjects;
    if (g->nreferences + w->heap->nroots >= SNAPSHOT_NONE) {
        return -1;
    }
    w->objects = _PySnapshot_Array(n, sizeof(*w->objects));
    w->parents = _PySnapshot_Array(n, sizeof(*w->parents));
    w->numbers = _PySnapshot_Array(n, sizeof(*w->numbers));
    SNAPSHOT_AUTO uint32_t *starts = _PySnapshot_Array(n + 1, sizeof(*starts));
    SNAPSHOT_AUTO uint32_t *next = _PySnapshot_Array(n, sizeof(*next));
    SNAPSHOT_AUTO uint8_t *seen = _PySnapshot_Zeroed(n / 8 + 1, 1);
    if (w->objects == NULL || w->parents == NULL || w->numbers == NULL
        || starts == NULL || next == NULL || seen == NULL)
    {
        return -1;
    }
    struct stack stack = {g->references, starts, next, seen};
    number_objects(w, &stack);
    return 0;
}

/* --- The references turned around */

/* By object, how many refer to it. */
static void
count_callers(const struct walk *w, uint32_t *counts)
{
    for (uint32_t i = 0; i < w->heap->g->nobjects; i++) {
        uint32_t n;
        const uint32_t *targets = _PySnapshot_References(w->heap, i, &n);
        for (uint32_t j = 0; w->numbers[i] != SNAPSHOT_NONE && j < n; j++) {
            counts[targets[j]]++;
        }
    }
}

/* places: by object, where the next goes. */
static void
place_callers(const struct walk *w, uint32_t *places)
{
    for (uint32_t i = 0; i < w->heap->g->nobjects; i++) {
        uint32_t n;
        const uint32_t *targets = _PySnapshot_References(w->heap, i, &n);
        for (uint32_t j = 0; w->numbers[i] != SNAPSHOT_NONE && j < n; j++) {
            if (targets[j] != SNAPSHOT_ROOT) {
                w->callers[places[targets[j]]++] = w->numbers[i];
            }
        }
    }
}

static int
list_callers(struct walk *w)
{
    SNAPSHOT_AUTO uint32_t *places =
        _PySnapshot_Zeroed(w->heap->g->nobjects, sizeof(*places));
    w->first = _PySnapshot_Array((uint64_t)w->n + 1, sizeof(*w->first));
    if (places == NULL || w->first == NULL) {
        return -1;
    }
    count_callers(w, places);
    uint32_t end = 0;
    w->first[0] = 0;              // of NULLs
    for (uint32_t i = 1; i < w->n; i++) {
        uint32_t n = places[w->objects[i]];
        places[w->objects[i]] = w->first[i] = end;
        end += n;
    }
    w->first[w->n] = end;
    w->callers = _PySnapshot_Array(end, sizeof(*w->callers));
    if (w->callers == NULL) {
        return -1;
    }
    place_callers(w, places);
    return 0;
}

/* --- Semidominators */

struct forest {
    struct tree {
        uint32_t up;              // parent, or a node further up
        uint32_t least;           // semidominator of those below `up`
    } *trees;
    uint32_t *semi;
    uint32_t *path;               // of compress()
};

/* Return the least semidominator from v to the top of its tree: nodes from
   `linked` on hang on their parents. */
static uint32_t
compress(struct forest *f, uint32_t v, uint32_t linked)
{
    uint32_t length = 0;
    for (; f->trees[v].up >= linked; v = f->trees[v].up) {
        f->path[length++] = v;
    }
    struct tree top = f->trees[v];
    while (length-- > 0) {
        struct tree *t = &f->trees[f->path[length]];
        if (t->least < top.least) {
            top.least = t->least;
        }
        *t = top;
    }
    return top.least;
}

static void
find_semidominators(const struct walk *w, struct forest *f)
{
    for (uint32_t i = 0; i < w->n; i++) {
        f->trees[i].up = w->parents[i];
    }
    for (uint32_t i = w->n; --i > 0; ) {
        uint32_t semi = w->parents[i];
        for (uint32_t e = w->first[i]; e < w->first[i + 1]; e++) {
            uint32_t soon = e < AHEAD ? 0 : e - AHEAD;
            __builtin_prefetch(&f->trees[w->callers[soon]]);
            uint32_t caller = w->callers[e];
            if (caller > i) {
                caller = compress(f, caller, i + 1);
            }
            semi = caller < semi ? caller : semi;
        }
        f->trees[i].least = f->semi[i] = semi;
    }
}

static int
find_dominators(const struct walk *w, uint32_t *dominators)
{
    SNAPSHOT_AUTO struct tree *trees = _PySnapshot_Array(w->n, sizeof(*trees));
    SNAPSHOT_AUTO uint32_t *semi = _PySnapshot_Array(w->n, sizeof(*semi));
    /* The path of compress() is needed before the dominators. */
    struct forest f = {trees, semi, dominators};
    if (trees == NULL || semi == NULL) {
        return -1;
    }
    find_semidominators(w, &f);
    dominators[0] = 0;
    for (uint32_t i = 1; i < w->n; i++) {
        uint32_t dominator = w->parents[i];
        while (dominator > semi[i]) {
            dominator = dominators[dominator];
        }
        dominators[i] = dominator;
    }
    return 0;
}

/* --- All of it */

static void
end_walk(struct walk *w)
{
    _PySnapshot_Release(w->numbers);
    _PySnapshot_Release(w->parents);
    _PySnapshot_Release(w->first);
    _PySnapshot_Release(w->callers);
    w->numbers = w->parents = w->first = w->callers = NULL;
}

/* From numbers to objects: `dominators` are by number. */
static int
name_dominators(struct snapshot_heap *heap, const uint32_t *dominators)
{
    uint64_t n = heap->g->nobjects;
    heap->dominators = _PySnapshot_Array(n, sizeof(*heap->dominators));
    heap->retained = _PySnapshot_Array(n, sizeof(*heap->retained));
    if (heap->dominators == NULL || heap->retained == NULL) {
        return -1;
    }
    memset(heap->dominators, 0xff, n * sizeof(*heap->dominators));
    memcpy(heap->retained, heap->sizes, n * sizeof(*heap->retained));
    for (uint32_t i = 0; i < heap->nreached; i++) {
        heap->dominators[heap->order[i]] = heap->order[dominators[i]];
    }
    for (uint32_t i = heap->nreached; --i > 0; ) {
        assert(dominators[i] < i);
        heap->retained[heap->order[dominators[i]]] +=
            heap->retained[heap->order[i]];
    }
    return 0;
}

int
_PySnapshot_Dominators(struct snapshot_heap *heap)
{
    struct walk w = {.heap = heap};
    int result = walk_graph(&w);
    if (result == 0) {
        result = list_callers(&w);
    }
    heap->order = w.objects;
    heap->nreached = w.n;
    _PySnapshot_Release(w.numbers);
    w.numbers = NULL;
    SNAPSHOT_AUTO uint32_t *dominators = result < 0
        ? NULL : _PySnapshot_Array(w.n, sizeof(*dominators));
    result = dominators == NULL ? -1 : find_dominators(&w, dominators);
    end_walk(&w);
    return result < 0 ? -1 : name_dominators(heap, dominators);
}
