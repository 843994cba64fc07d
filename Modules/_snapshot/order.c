/* The order of groups that have a path each: largest first, and groups of
   equal size by their frames, as Python would sort them. Comparing millions of
   paths with each other would be slow. Instead, each path gets its number in
   the order of all paths: callers come before their callees, and calls from
   one place are in the order of file name and line. */

#include "snapshot.h"

/* --- Locations in the order of file name and line */

struct place {
    const char *filename;
    uint32_t length;
    int32_t line;
    uint32_t location;
};

/* UTF-8 sorts as the characters do, lone surrogates too. */
static int
compare_places(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;
    uint32_t shorter = x->length < y->length ? x->length : y->length;
    int result = memcmp(x->filename, y->filename, shorter);
    if (result == 0) {
        result = (x->length > y->length) - (x->length < y->length);
    }
    if (result == 0) {
        result = (x->line > y->line) - (x->line < y->line);
    }
    return result;
}

/* Number of the (file, line) of each location; returns how many there are, or
   NONE: no memory. */
static uint32_t
rank_places(const struct tracer_snapshot *s, uint32_t *ranks)
{
    SNAPSHOT_AUTO struct place *places = _PySnapshot_Array(s->nlocations,
                                                           sizeof(*places));
    if (places == NULL) {
        return SNAPSHOT_NONE;
    }
    for (uint32_t i = 0; i < s->nlocations; i++) {
        const struct snapshot_location *l = &s->locations[i];
        const struct snapshot_string *filename = &s->strings[l->filename];
        places[i] = (struct place){
            .filename = s->text + filename->offset,
            .length = filename->length, .line = l->line, .location = i,
        };
    }
    qsort(places, s->nlocations, sizeof(*places), compare_places);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->nlocations; i++) {
        if (i > 0 && compare_places(&places[i - 1], &places[i]) != 0) {
            n++;
        }
        ranks[places[i].location] = n;
    }
    return n + 1;
}

/* --- Paths */

/* Working memory, an item per path and two more. */
struct ranking {
    uint32_t *labels;             // path of each node
    uint32_t *places;             // number of each location
    uint32_t *caller;             // path + 1, or 0
    uint32_t *place;
    uint32_t *by_place;           // paths, sorted
    uint32_t *sorted;             // by caller, then by place
    uint32_t *start;              // counts of a counting sort
    uint32_t *subtree;            // paths that begin with this one
};

static void
free_ranking(struct ranking *r)
{
    _PySnapshot_Release(r->labels);
    _PySnapshot_Release(r->places);
    _PySnapshot_Release(r->caller);
    _PySnapshot_Release(r->place);
    _PySnapshot_Release(r->by_place);
    _PySnapshot_Release(r->sorted);
    _PySnapshot_Release(r->start);
    _PySnapshot_Release(r->subtree);
}

/* Sort n paths, given in the order `from` (NULL: of their numbers), by
   keys[path] < nkeys; equal ones stay in order.  start[] has an item per
   key, and one more. */
static void
counting_sort(const uint32_t *from, uint32_t n, const uint32_t *keys,
              uint32_t nkeys, uint32_t *start, uint32_t *to)
{
    memset(start, 0, ((size_t)nkeys + 1) * sizeof(*start));
    for (uint32_t i = 0; i < n; i++) {
        assert(keys[i] < nkeys);
        start[keys[i] + 1]++;
    }
    for (uint32_t k = 0; k < nkeys; k++) {
        start[k + 1] += start[k];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t path = from == NULL ? i : from[i];
        to[start[keys[path]]++] = path;
    }
}

/* Fill ranks, one per path. A path comes after its caller, and after the
   paths of the calls from there that sort before its own. */
static void
rank_sorted(const struct ranking *r, uint32_t n, uint32_t *ranks)
{
    for (uint32_t path = 0; path < n; path++) {
        r->subtree[path] = 1;
    }
    for (uint32_t path = n; path-- > 0; ) {
        assert(r->caller[path] <= path);
        if (r->caller[path] != 0) {
            r->subtree[r->caller[path] - 1] += r->subtree[path];
        }
    }
    /* Callers have lower numbers, so their ranks are known. */
    uint32_t next = 0;
    uint32_t last = SNAPSHOT_NONE;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t path = r->sorted[i];
        uint32_t caller = r->caller[path];
        if (caller != last) {
            next = caller == 0 ? 0 : ranks[caller - 1] + 1;
            last = caller;
        }
        ranks[path] = next;
        next += r->subtree[path];
        assert(next <= n);
    }
}

/* Fill ranks[], one per node: the number of its path in order. */
static int
rank_nodes(const struct tracer_snapshot *s, uint32_t *ranks)
{
    struct ranking r = {
        .labels = _PySnapshot_Array(s->nnodes, sizeof(uint32_t)),
        .places = _PySnapshot_Array(s->nlocations, sizeof(uint32_t)),
    };
    uint32_t n = 0;
    uint32_t nplaces = SNAPSHOT_NONE;
    int result = -1;
    if (r.labels != NULL && r.places != NULL
        && _PySnapshot_Label(s, SNAPSHOT_BY_TRACEBACK, r.labels, &n) == 0)
    {
        nplaces = rank_places(s, r.places);
    }
    if (nplaces != SNAPSHOT_NONE) {
        uint64_t keys = (uint64_t)(n > nplaces ? n : nplaces) + 2;
        r.caller = _PySnapshot_Array(n, sizeof(uint32_t));
        r.place = _PySnapshot_Array(n, sizeof(uint32_t));
        r.by_place = _PySnapshot_Array(n, sizeof(uint32_t));
        r.sorted = _PySnapshot_Array(n, sizeof(uint32_t));
        r.start = _PySnapshot_Array(keys, sizeof(uint32_t));
        r.subtree = _PySnapshot_Array(n, sizeof(uint32_t));
    }
    if (r.caller != NULL && r.place != NULL && r.by_place != NULL
        && r.sorted != NULL && r.start != NULL && r.subtree != NULL)
    {
        for (uint32_t i = 0; i < s->nnodes; i++) {
            uint32_t parent = s->nodes[i].parent;
            r.caller[r.labels[i]] = parent == SNAPSHOT_NONE
                ? 0 : r.labels[parent] + 1;
            r.place[r.labels[i]] = r.places[s->nodes[i].location];
        }
        counting_sort(NULL, n, r.place, nplaces, r.start, r.by_place);
        counting_sort(r.by_place, n, r.caller, n + 1, r.start, r.sorted);
        uint32_t *paths = r.by_place;         // not needed any more
        rank_sorted(&r, n, paths);
        for (uint32_t i = 0; i < s->nnodes; i++) {
            ranks[i] = paths[r.labels[i]];
        }
        result = 0;
    }
    free_ranking(&r);
    return result;
}

/* --- Groups */

struct item {
    uint64_t keys[3];
    uint32_t rank;
    uint32_t group;
};

static int
compare_items(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;
    for (int i = 0; i < 3; i++) {
        if (x->keys[i] != y->keys[i]) {
            return x->keys[i] < y->keys[i] ? 1 : -1;
        }
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? 1 : -1;
    }
    return (x->group > y->group) - (x->group < y->group);
}

/* Items with the ranks of nodes still to come; *ranks: one per node. */
static struct item *
new_items(const struct tracer_snapshot *s, uint64_t most, uint32_t **ranks)
{
    struct item *items = most >= SNAPSHOT_NONE
        ? NULL : _PySnapshot_Array(most, sizeof(*items));
    *ranks = _PySnapshot_Array(s->nnodes, sizeof(uint32_t));
    if (items == NULL || *ranks == NULL || rank_nodes(s, *ranks) < 0) {
        _PySnapshot_Release(items);
        _PySnapshot_Release(*ranks);
        return NULL;
    }
    return items;
}

/* Takes over both. */
static uint32_t *
sort_items(struct item *items, uint32_t *ranks, uint32_t n)
{
    _PySnapshot_Release(ranks);
    qsort(items, n, sizeof(*items), compare_items);
    uint32_t *order = _PySnapshot_Array(n, sizeof(*order));
    for (uint32_t i = 0; order != NULL && i < n; i++) {
        order[i] = items[i].group;
    }
    _PySnapshot_Release(items);
    return order;
}

uint32_t *
_PySnapshot_Order(const struct tracer_snapshot *s,
                  const struct snapshot_groups *groups, int measure,
                  uint32_t *n)
{
    uint32_t *ranks;
    struct item *items = new_items(s, groups->ngroups, &ranks);
    *n = 0;
    if (items == NULL) {
        return NULL;
    }
    for (uint64_t i = 0; i < groups->ngroups; i++) {
        const struct snapshot_group *group = &groups->groups[i];
        if (group->measures[measure | 1] != 0) {
            items[(*n)++] = (struct item){
                .keys = {group->measures[measure],
                         group->measures[SNAPSHOT_SIZE],
                         group->measures[SNAPSHOT_COUNT]},
                .rank = ranks[group->node], .group = (uint32_t)i,
            };
        }
    }
    return sort_items(items, ranks, *n);
}

uint32_t *
_PySnapshot_OrderBlocks(struct tracer_snapshot *s)
{
    if (_PySnapshot_Truncate(s) < 0 || _PySnapshot_Unpack(s) < 0) {
        return NULL;
    }
    uint32_t *ranks;
    struct item *items = new_items(s, s->nblocks, &ranks);
    if (items == NULL) {
        return NULL;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        items[i] = (struct item){
            .keys = {s->blocks[i].size},
            .rank = ranks[s->blocks[i].node], .group = (uint32_t)i,
        };
    }
    return sort_items(items, ranks, (uint32_t)s->nblocks);
}
