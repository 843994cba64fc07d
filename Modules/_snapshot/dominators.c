/* Dominators: who would have to let go for an object to die.

   A node dominates another if all ways from the root to that one lead through
   it.  The closest dominators form a tree, and what a node retains, the bytes
   that would be freed with it, is the sum over its subtree.

   The algorithm is semi-NCA: L. Georgiadis, R. Tarjan, R. Werneck, "Finding
   Dominators in Practice", Journal of Graph Algorithms and Applications 10
   (2006).  A depth-first walk numbers the nodes.  From the last number to the
   first, the semidominator of a node is the smallest number from which a way
   leads to it whose inner nodes all have larger numbers than it has.  Then,
   from the first to the last, the closest dominator is the first ancestor of
   the parent whose number is not above the semidominator. */

#include "Python.h"
#include "graph.h"

struct walk {
    const struct snapshot_links *links;
    uint32_t n;                   // nodes reached
    uint32_t *nodes;              // by number
    uint32_t *numbers;            // by node, + 1; 0: not reached
    uint32_t *parents;            // by number: of the walk
    uint64_t *first;              // by number: in callers
    uint32_t *callers;            // numbers of those that refer to it
};

/* --- The walk */

static void
enter(struct walk *w, uint32_t node, uint32_t parent)
{
    w->nodes[w->n] = node;
    w->parents[w->n] = parent;
    w->numbers[node] = ++w->n;
}

/* `next` has the next edge to look at of each node that is entered. */
static void
number_nodes(struct walk *w, uint64_t *next)
{
    const struct snapshot_links *g = w->links;
    uint32_t number = 0;
    enter(w, 0, 0);
    next[0] = g->first[0];
    for (;;) {
        uint32_t node = w->nodes[number];
        uint64_t edge = next[number];
        while (edge < g->first[node + 1] && w->numbers[g->targets[edge]]) {
            edge++;
        }
        next[number] = edge + 1;
        if (edge < g->first[node + 1]) {
            uint32_t target = g->targets[edge];
            enter(w, target, number);
            number = w->n - 1;
            next[number] = g->first[target];
        }
        else if (number == 0) {
            break;
        }
        else {
            number = w->parents[number];
        }
    }
}

/* Turn the edges around. */
static int
list_callers(struct walk *w)
{
    const struct snapshot_links *g = w->links;
    w->first = _PySnapshot_Array((uint64_t)w->n + 2, sizeof(*w->first));
    if (w->first == NULL) {
        return -1;
    }
    memset(w->first, 0, ((size_t)w->n + 2) * sizeof(*w->first));
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t node = w->nodes[i];
        for (uint64_t e = g->first[node]; e < g->first[node + 1]; e++) {
            w->first[w->numbers[g->targets[e]] + 1]++;
        }
    }
    for (uint32_t i = 2; i < w->n + 2; i++) {
        w->first[i] += w->first[i - 1];
    }
    w->callers = _PySnapshot_Array(w->first[w->n + 1] + 1,
                                   sizeof(*w->callers));
    if (w->callers == NULL) {
        return -1;
    }
    /* first[i + 1] goes from the start of i to its end. */
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t node = w->nodes[i];
        for (uint64_t e = g->first[node]; e < g->first[node + 1]; e++) {
            w->callers[w->first[w->numbers[g->targets[e]]]++] = i;
        }
    }
    return 0;
}

static int
walk_graph(struct walk *w)
{
    uint64_t n = w->links->nnodes;
    w->nodes = _PySnapshot_Array(n, sizeof(*w->nodes));
    w->parents = _PySnapshot_Array(n, sizeof(*w->parents));
    w->numbers = _PySnapshot_Array(n, sizeof(*w->numbers));
    SNAPSHOT_AUTO uint64_t *next = _PySnapshot_Array(n, sizeof(*next));
    if (w->nodes == NULL || w->parents == NULL || w->numbers == NULL
        || next == NULL)
    {
        return -1;
    }
    memset(w->numbers, 0, n * sizeof(*w->numbers));
    number_nodes(w, next);
    return list_callers(w);
}

static void
end_walk(struct walk *w)
{
    _PySnapshot_Release(w->numbers);
    _PySnapshot_Release(w->parents);
    _PySnapshot_Release(w->first);
    _PySnapshot_Release(w->callers);
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
        for (uint64_t e = w->first[i]; e < w->first[i + 1]; e++) {
            uint32_t caller = w->callers[e];
            if (caller > i) {
                compress(f, caller, i + 1);
                caller = f->semi[f->labels[caller]];
            }
            semi = Py_MIN(semi, caller);
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
    /* The path of compress() is needed before any dominator is. */
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
sum_retained(const struct snapshot_links *links,
             struct snapshot_dominators *found)
{
    for (uint32_t i = 0; i < found->nreached; i++) {
        found->retained[i] = links->sizes[found->nodes[i]];
    }
    for (uint32_t i = found->nreached; --i > 0; ) {
        assert(found->dominators[i] < i);
        found->retained[found->dominators[i]] += found->retained[i];
    }
}

int
_PySnapshot_Dominators(const struct snapshot_links *links,
                       struct snapshot_dominators *found)
{
    struct walk w = {.links = links};
    *found = (struct snapshot_dominators){0};
    assert(links->nnodes > 0);
    int result = walk_graph(&w);
    found->nodes = w.nodes;
    found->nreached = w.n;
    if (result == 0) {
        found->dominators = _PySnapshot_Array(w.n, 4);
        found->retained = _PySnapshot_Array(w.n, sizeof(*found->retained));
        result = found->dominators == NULL || found->retained == NULL
                 ? -1 : find_dominators(&w, found->dominators);
    }
    end_walk(&w);
    if (result < 0) {
        _PySnapshot_FreeDominators(found);
        return -1;
    }
    sum_retained(links, found);
    return 0;
}

void
_PySnapshot_FreeDominators(struct snapshot_dominators *found)
{
    _PySnapshot_Release(found->nodes);
    _PySnapshot_Release(found->dominators);
    _PySnapshot_Release(found->retained);
    *found = (struct snapshot_dominators){0};
}
