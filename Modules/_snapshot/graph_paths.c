/* Why an object is alive: the path from the root to it that a person would
   name.

   Every reference has a price, and the cheapest path is chosen. Attributes and
   variables cost little, items cost more, and unordered items still more.
   Names between double underscores and references of classes and functions are
   expensive, and so are references that only C code can drop. (E. W. Dijkstra,
   "A note on two problems in connexion with graphs", 1959; prices are small
   numbers, so that the queue is a ring of lists.)

   Paths that consist of the same steps and types have one shape. */

#include "graph.h"

#define NLISTS 64                 // more than the highest price

enum price {
    PRICE_PLAIN = 1,              // the interpreter's modules, threads
    PRICE_NAME = 3,               // attribute, variable, content of a cell
    PRICE_PRIVATE,
    PRICE_ITEM,
    PRICE_ELEMENT,
    PRICE_OTHER = 12,
    PRICE_STATE = 20,
    PRICE_STACK = 25,
    PRICE_INTERNAL = 40,
    PRICE_LIBRARY = 58,           // and a step to what it may hold
    PRICE_C_CODE = 60,
};
static_assert(PRICE_C_CODE < NLISTS, "a price leads around the ring");

struct list {
    uint32_t *objects;
    uint32_t n, size;
};

struct search {
    const struct snapshot_heap *heap;
    const uint8_t *marked;
    uint8_t *prices;              // by string: of a name
    uint32_t *distances;          // by object
    uint32_t *callers;
    uint32_t *places;
    uint32_t *order;              // objects, the closest first
    uint32_t n;
    struct list lists[NLISTS];    // by distance, modulo
    uint64_t waiting;
};

/* --- Prices */

static uint8_t
price_of_name(const struct tracer_snapshot *s, uint32_t string)
{
    if (_PySnapshot_HasText(s, string, "__dict__")
        || _PySnapshot_HasText(s, string, "sys.modules"))
    {
        return PRICE_PLAIN;
    }
    if (_PySnapshot_HasText(s, string, "__self__")
        || _PySnapshot_HasText(s, string, "__closure__")
        || _PySnapshot_HasText(s, string, "__wrapped__")
        || _PySnapshot_HasText(s, string, "__func__"))
    {
        return PRICE_NAME;
    }
    if (_PySnapshot_BeginsWith(s, string, "__")
        || _PySnapshot_BeginsWith(s, string, "co_"))
    {
        return PRICE_INTERNAL;
    }
    return _PySnapshot_BeginsWith(s, string, "_")
           || _PySnapshot_BeginsWith(s, string, "._")
           ? PRICE_PRIVATE : PRICE_NAME;
}

static uint8_t
price_in_frame(const struct tracer_snapshot *s, uint32_t string)
{
    return _PySnapshot_BeginsWith(s, string, "local ")
           || _PySnapshot_BeginsWith(s, string, "closure ")
           ? PRICE_NAME : PRICE_INTERNAL;
}

static uint8_t
price_of(const struct search *p, uint32_t kind, uint32_t step)
{
    if (SNAPSHOT_IS_NAME(step)) {
        if (kind == SNAPSHOT_FRAME) {
            return price_in_frame(p->heap->s, step);
        }
        if (kind == SNAPSHOT_TYPE && p->prices[step] != PRICE_PLAIN) {
            return PRICE_INTERNAL;
        }
        if ((kind == SNAPSHOT_STATE || kind == SNAPSHOT_OTHER_INTERPRETER)
            && p->prices[step] != PRICE_PLAIN)
        {
            return PRICE_STATE;
        }
        return p->prices[step];
    }
    if (SNAPSHOT_IS_KEY(step)) {
        return p->prices[step - SNAPSHOT_STEP_KEY];
    }
    switch (step) {
    case SNAPSHOT_STEP_ITEM:
    case SNAPSHOT_STEP_VALUE:
        return PRICE_ITEM;
    case SNAPSHOT_STEP_ELEMENT:
        return PRICE_ELEMENT;
    case SNAPSHOT_STEP_CONTENT:
    case SNAPSHOT_STEP_FIXED:
        return PRICE_PLAIN;
    case SNAPSHOT_STEP_STACK:
        return PRICE_STACK;
    case SNAPSHOT_STEP_TYPE:
        return PRICE_INTERNAL;
    case SNAPSHOT_STEP_IMMORTAL:
    case SNAPSHOT_STEP_SURPLUS:
        return PRICE_C_CODE;
    default:
        return PRICE_OTHER;
    }
}

/* --- The search */

static int
push(struct search *p, uint32_t object, uint32_t distance)
{
    struct list *list = &p->lists[distance % NLISTS];
    if (_PySnapshot_Reserve(&list->objects, &list->size, list->n + 1,
                            sizeof(uint32_t)) < 0)
    {
        return -1;
    }
    list->objects[list->n++] = object;
    p->waiting++;
    return 0;
}

static int
look_from(struct search *p, uint32_t object)
{
    uint32_t n;
    const uint32_t *targets = _PySnapshot_References(p->heap, object, &n);
    uint32_t kind = _PySnapshot_Shape(p->heap, object)->kind;
    uint32_t distance = p->distances[object];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t target = targets[i];
        /* The lowest price of a step. */
        if (target == 0 || distance >= SNAPSHOT_NONE - NLISTS
            || p->distances[target] <= distance + PRICE_PLAIN)
        {
            continue;
        }
        uint32_t step = _PySnapshot_Step(p->heap, object, i);
        uint32_t other = distance + (
            step == SNAPSHOT_STEP_SURPLUS
            && _PySnapshot_IsLibrary(p->heap, target) ? PRICE_LIBRARY
            : _PySnapshot_IsLibrary(p->heap, object) ? PRICE_PLAIN
            : price_of(p, kind, step));
        if (other < p->distances[target]) {
            p->distances[target] = other;
            p->callers[target] = object;
            p->places[target] = i;
            if (push(p, target, other) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int
search(struct search *p)
{
    p->distances[SNAPSHOT_ROOT] = 0;
    if (push(p, SNAPSHOT_ROOT, 0) < 0) {
        return -1;
    }
    for (uint32_t distance = 0; p->waiting > 0; distance++) {
        struct list *list = &p->lists[distance % NLISTS];
        for (uint32_t i = 0; i < list->n; i++) {
            uint32_t object = list->objects[i];
            p->waiting--;
            if (p->distances[object] != distance) {
                continue;         // was found to be closer since
            }
            assert(p->n < p->heap->nreached);
            p->order[p->n++] = object;
            if (look_from(p, object) < 0) {
                return -1;
            }
        }
        list->n = 0;
    }
    return 0;
}

/* --- Shapes */

struct shapes {
    const struct search *p;
    struct snapshot_trie trie;    // its branches are the shapes
    struct snapshot_pairs texts;
    struct snapshot_pairs kinds;  // (type, name)
    struct snapshot_pairs steps;  // (step, kind)
    uint32_t *branches;           // by object, NONE: not known yet
    uint32_t *path;               // back from an object
};

static uint32_t
class_of(struct shapes *h, uint32_t object)
{
    const struct snapshot_heap *heap = h->p->heap;
    uint32_t name = _PySnapshot_NameOf(heap, object);
    uint32_t is = _PySnapshot_Shape(heap, object)->kind;
    if (h->p->marked[object] && is != SNAPSHOT_METHOD) {
        name = SNAPSHOT_NONE;     // classes, functions: one shape
    }
    if (name != SNAPSHOT_NONE) {
        name = _PySnapshot_Text(heap->s, &h->texts, name);
        if (name == SNAPSHOT_NONE) {
            return SNAPSHOT_NONE;
        }
    }
    uint32_t kind = _PySnapshot_Pair(&h->kinds, heap->g->objects[object].type,
                                     name);
    if (object < SNAPSHOT_NFIXED) {
        kind = _PySnapshot_Pair(&h->kinds, 0, NLISTS + object);
    }
    uint32_t step = _PySnapshot_Step(heap, h->p->callers[object],
                                     h->p->places[object]);
    return kind == SNAPSHOT_NONE ? SNAPSHOT_NONE
                                 : _PySnapshot_Pair(&h->steps, step, kind);
}

/* The shape of the path to an object; NONE: no memory. */
static uint32_t
shape_of(struct shapes *h, uint32_t object)
{
    uint32_t n = 0;
    while (h->branches[object] == SNAPSHOT_NONE) {
        h->path[n++] = object;
        object = h->p->callers[object];
    }
    uint32_t branch = h->branches[object];
    while (n > 0) {
        object = h->path[--n];
        uint32_t class_ = class_of(h, object);
        branch = class_ == SNAPSHOT_NONE
            ? SNAPSHOT_NONE : _PySnapshot_Branch(&h->trie, branch, class_);
        if (branch == SNAPSHOT_NONE) {
            return SNAPSHOT_NONE;
        }
        h->branches[object] = branch;
    }
    return branch;
}

/* first[object]: the first marked one on the path to it, or NONE. */
static void
find_first(const struct search *p, uint32_t *first)
{
    first[SNAPSHOT_ROOT] = SNAPSHOT_NONE;
    for (uint32_t i = 1; i < p->n; i++) {
        uint32_t object = p->order[i];
        uint32_t before = first[p->callers[object]];
        first[object] = before != SNAPSHOT_NONE ? before
            : p->marked[object] ? object : SNAPSHOT_NONE;
    }
}

static int
compare_paths(const void *a, const void *b)
{
    const struct snapshot_root_path *x = a;
    const struct snapshot_root_path *y = b;
    uint64_t m = x->count + x->behind;
    uint64_t n = y->count + y->behind;
    if (m != n) {
        return m < n ? 1 : -1;
    }
    return x->size != y->size ? (x->size < y->size ? 1 : -1)
                              : (x->object > y->object) * 2 - 1;
}

static int
count_shapes(struct shapes *h, const uint32_t *first,
             struct snapshot_root_paths *found)
{
    const struct search *p = h->p;
    struct snapshot_pairs numbers = {0};     // (0, shape) -> path
    uint32_t size = 0;
    int result = _PySnapshot_PairsInit(&numbers);
    for (uint32_t i = 1; result == 0 && i < p->n; i++) {
        uint32_t object = p->order[i];
        if (!p->marked[object]) {
            continue;
        }
        uint32_t shape = shape_of(h, first[object]);
        uint32_t number = shape == SNAPSHOT_NONE
            ? SNAPSHOT_NONE : _PySnapshot_Pair(&numbers, 0, shape);
        if (number == SNAPSHOT_NONE
            || _PySnapshot_Reserve(&found->paths, &size, number + 1,
                                   sizeof(*found->paths)) < 0)
        {
            result = -1;
            break;
        }
        struct snapshot_root_path *path = &found->paths[number];
        if (number == found->n) {
            found->n++;
            *path = (struct snapshot_root_path){.object = first[object]};
        }
        *(first[object] == object ? &path->count : &path->behind) += 1;
        path->size += p->heap->sizes[object];
        path->repeats = h->trie.branches[shape].repeats;
    }
    _PySnapshot_PairsFree(&numbers);
    if (result == 0 && found->n > 0) {
        qsort(found->paths, found->n, sizeof(*found->paths), compare_paths);
    }
    return result;
}

static int
find_shapes(const struct search *p, struct snapshot_root_paths *found)
{
    uint64_t n = p->heap->g->nobjects;
    struct shapes h = {.p = p};
    uint32_t *first = p->distances;           // not needed any more
    find_first(p, first);
    SNAPSHOT_AUTO uint32_t *branches = _PySnapshot_Array(n, 4);
    SNAPSHOT_AUTO uint32_t *path = _PySnapshot_Array(n, 4);
    h.branches = branches;
    h.path = path;
    int result = branches == NULL || path == NULL
        || _PySnapshot_TrieInit(&h.trie) < 0
        || _PySnapshot_PairsInit(&h.texts) < 0
        || _PySnapshot_PairsInit(&h.kinds) < 0
        || _PySnapshot_PairsInit(&h.steps) < 0 ? -1 : 0;
    if (result == 0) {
        memset(branches, 0xff, n * sizeof(*branches));
        branches[SNAPSHOT_ROOT] = 0;
        result = count_shapes(&h, first, found);
    }
    _PySnapshot_TrieFree(&h.trie);
    _PySnapshot_PairsFree(&h.texts);
    _PySnapshot_PairsFree(&h.kinds);
    _PySnapshot_PairsFree(&h.steps);
    return result;
}

/* --- All of it */

static int
price_names(struct search *p)
{
    const struct tracer_snapshot *s = p->heap->s;
    for (uint32_t i = 0; i < s->nstrings; i++) {
        p->prices[i] = price_of_name(s, i);
    }
    memset(p->distances, 0xff,
           p->heap->g->nobjects * sizeof(*p->distances));
    return search(p);
}

int
_PySnapshot_RootPaths(const struct snapshot_heap *heap, const uint8_t *marked,
                      struct snapshot_root_paths *found)
{
    uint64_t n = heap->g->nobjects;
    SNAPSHOT_AUTO uint8_t *prices = _PySnapshot_Array(heap->s->nstrings, 1);
    SNAPSHOT_AUTO uint32_t *distances = _PySnapshot_Array(n, 4);
    SNAPSHOT_AUTO uint32_t *order = _PySnapshot_Array(n, 4);
    *found = (struct snapshot_root_paths){
        .callers = _PySnapshot_Array(n, sizeof(uint32_t)),
        .places = _PySnapshot_Array(n, sizeof(uint32_t))};
    struct search p = {
        .heap = heap, .marked = marked, .prices = prices,
        .distances = distances, .order = order, .callers = found->callers,
        .places = found->places};
    int result = prices == NULL || distances == NULL || order == NULL
        || p.callers == NULL || p.places == NULL ? -1 : price_names(&p);
    for (int i = 0; i < NLISTS; i++) {
        _PySnapshot_Release(p.lists[i].objects);
    }
    if (result == 0) {
        result = find_shapes(&p, found);
    }
    if (result < 0) {
        _PySnapshot_FreeRootPaths(found);
    }
    return result;
}

void
_PySnapshot_FreeRootPaths(struct snapshot_root_paths *paths)
{
    _PySnapshot_Release(paths->callers);
    _PySnapshot_Release(paths->places);
    _PySnapshot_Release(paths->paths);
    *paths = (struct snapshot_root_paths){NULL};
}
