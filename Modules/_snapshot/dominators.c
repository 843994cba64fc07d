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
   not above the semidominator. */

#include "graph.h"

#include <assert.h>

struct walk {
    const struct snapshot_heap *heap;
    uint32_t n;                   // objects reached
    uint32_t *objects;            // by number
    uint32_t *numbers;            // by object, + 1; 0: not reached
    uint32_t *parents;            // by number: of the walk
    uint32_t *first;              // by number: in callers
    uint32_t *callers;            // numbers of those that refer to it
};

/* --- The walk */

static void
enter(struct walk *w, uint32_t object, uint32_t parent)
{
    w->objects[w->n] = object;
    w->parents[w->n] = parent;
    w->numbers[object] = ++w->n;
}

/* `next` has the next reference to look at of each object that is entered.
   A NULL is the root's number, which is taken. */
static void
number_objects(struct walk *w, uint32_t *next)
{
    uint32_t number = 0;
    enter(w, SNAPSHOT_ROOT, 0);
    next[0] = 0;
    for (;;) {
        uint32_t n;
        const uint32_t *targets =
            _PySnapshot_References(w->heap, w->objects[number], &n);
        uint32_t i = next[number];
        while (i < n && w->numbers[targets[i]]) {
            i++;
        }
        next[number] = i + 1;
        if (i < n) {
            enter(w, targets[i], number);
            number = w->n - 1;
            next[number] = 0;
        }
        else if (number == 0) {
            break;
        }
        else {
            number = w->parents[number];
        }
    }
}

/* Nearly all the time is spent waiting for memory, so prefetch the references
   of an object with a larger number. */
static inline void
prefetch(const struct walk *w, uint32_t number)
{
    const struct snapshot_graph *g = w->heap->g;
    if (number + 12 >= w->n) {
        return;
    }
    __builtin_prefetch(&g->objects[w->objects[number + 12]]);
    __builtin_prefetch(
        &g->references[g->objects[w->objects[number + 8]].first]);
    uint32_t n;
    const uint32_t *targets =
        _PySnapshot_References(w->heap, w->objects[number + 4], &n);
    for (uint32_t i = 0; i < n && i < 8; i++) {
        __builtin_prefetch(&w->numbers[targets[i]]);
    }
}

/* Turn the references around. */
static int
list_callers(struct walk *w)
{
    w->first = _PySnapshot_Zeroed((uint64_t)w->n + 2, sizeof(*w->first));
    if (w->first == NULL) {
        return -1;
    }
    uint32_t n;
    uint64_t all = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        prefetch(w, i);
        const uint32_t *targets =
            _PySnapshot_References(w->heap, w->objects[i], &n);
        for (uint32_t j = 0; j < n; j++) {
            w->first[w->numbers[targets[j]] + 1]++;
        }
        all += n;
    }
    if (all >= SNAPSHOT_NONE) {
        return -1;
    }
    w->first[2] = 0;              // of NULLs
    for (uint32_t i = 2; i < w->n + 2; i++) {
        w->first[i] += w->first[i - 1];
    }
    w->callers = _PySnapshot_Array((uint64_t)w->first[w->n + 1] + 1,
                                   sizeof(*w->callers));
    if (w->callers == NULL) {
        return -1;
    }
    /* first[i + 1] goes from the start of i to its end. */
    for (uint32_t i = 0; i < w->n; i++) {
        prefetch(w, i);
        const uint32_t *targets =
            _PySnapshot_References(w->heap, w->objects[i], &n);
        for (uint32_t j = 0; j < n; j++) {
            if (targets[j] != SNAPSHOT_ROOT) {
                w->callers[w->first[w->numbers[targets[j]]]++] = i;
            }
        }
    }
    return 0;
}

static int
walk_graph(struct walk *w)
{
    uint64_t n = w->heap->g->nobjects;
    w->objects = _PySnapshot_Array(n, sizeof(*w->objects));
    w->parents = _PySnapshot_Array(n, sizeof(*w->parents));
    w->numbers = _PySnapshot_Zeroed(n, sizeof(*w->numbers));
    SNAPSHOT_AUTO uint32_t *next = _PySnapshot_Array(n, sizeof(*next));
    if (w->objects == NULL || w->parents == NULL || w->numbers == NULL
        || next == NULL)
    {
        return -1;
    }
    number_objects(w, next);
    return 0;
}

/* --- Semidominators */

struct forest {
    uint32_t *ancestors;          // parent, or a node further up
    uint32_t *labels;             // least semidominator up to there, exclusive
    uint32_t *semi;
    uint32_t *path;               // of compress()
};

/* Nodes from `linked` on hang on their parents. */
static void
compress(struct forest *f, uint32_t v, uint32_t linked)
{
    uint32_t length = 0;
    for (; f->ancestors[v] >= linked; v = f->ancestors[v]) {
        f->path[length++] = v;
    }
    while (length-- > 0) {
        uint32_t u = f->path[length];
        uint32_t up = f->ancestors[u];
        if (f->semi[f->labels[up]] < f->semi[f->labels[u]]) {
            f->labels[u] = f->labels[up];
        }
        f->ancestors[u] = f->ancestors[up];
    }
}

static void
find_semidominators(const struct walk *w, struct forest *f)
{
    for (uint32_t i = 0; i < w->n; i++) {
        f->ancestors[i] = w->parents[i];
        f->labels[i] = f->semi[i] = i;
    }
    for (uint32_t i = w->n; --i > 0; ) {
        uint32_t semi = w->parents[i];
        for (uint32_t e = w->first[i]; e < w->first[i + 1]; e++) {
            uint32_t caller = w->callers[e];
            if (caller > i) {
                compress(f, caller, i + 1);
                caller = f->semi[f->labels[caller]];
            }
            semi = caller < semi ? caller : semi;
        }
        f->semi[i] = semi;
    }
}

static int
find_dominators(const struct walk *w, uint32_t *dominators)
{
    SNAPSHOT_AUTO uint32_t *ancestors = _PySnapshot_Array(w->n, 4);
    SNAPSHOT_AUTO uint32_t *labels = _PySnapshot_Array(w->n, 4);
    SNAPSHOT_AUTO uint32_t *semi = _PySnapshot_Array(w->n, 4);
    /* The path of compress() is needed before the dominators. */
    struct forest f = {ancestors, labels, semi, dominators};
    if (ancestors == NULL || labels == NULL || semi == NULL) {
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
