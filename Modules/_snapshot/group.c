/* Grouping a snapshot.

   Nodes have the sums of their blocks. So grouping by a key of the node (file,
   line, function, traceback) only reads the nodes, however many blocks there
   are. Only keys of single blocks (type, domain, address) need the blocks.

   Cumulative sums are exact under recursion: a block counts once in each group
   that its path meets.  That is, the sum of a subtree goes to the group of its
   root unless a node above is of the same group. */

#include "snapshot.h"

/* Number of the (file, line), or of the function, of each location. */
static int
label_locations(const struct tracer_snapshot *s, enum snapshot_key key,
                uint32_t *labels)
{
    struct snapshot_pairs lines = {0};
    struct snapshot_pairs files = {0};
    int result = -1;
    if (_PySnapshot_PairsInit(&lines) < 0 || _PySnapshot_PairsInit(&files) < 0)
    {
        goto done;
    }
    for (uint32_t i = 0; i < s->nlocations; i++) {
        const struct snapshot_location *l = &s->locations[i];
        if (key == SNAPSHOT_BY_FILENAME) {
            labels[i] = l->filename;
            continue;
        }
        if (key == SNAPSHOT_BY_PATH) {
            labels[i] = i;
            continue;
        }
        if (key == SNAPSHOT_BY_FUNCTION) {
            uint32_t function = _PySnapshot_Pair(&lines, l->function,
                                                 (uint32_t)l->first_line);
            labels[i] = function == SNAPSHOT_NONE ? SNAPSHOT_NONE
                : _PySnapshot_Pair(&files, l->filename, function);
        }
        else {
            labels[i] = _PySnapshot_Pair(&files, l->filename,
                                         (uint32_t)l->line);
        }
        if (labels[i] == SNAPSHOT_NONE) {
            goto done;
        }
    }
    result = 0;
done:
    _PySnapshot_PairsFree(&lines);
    _PySnapshot_PairsFree(&files);
    return result;
}

int
_PySnapshot_Label(const struct tracer_snapshot *s, enum snapshot_key key,
                  uint32_t *labels, uint32_t *nlabels)
{
    int whole_path = key == SNAPSHOT_BY_TRACEBACK || key == SNAPSHOT_BY_PATH;
    struct snapshot_pairs pairs = {0};
    SNAPSHOT_AUTO uint32_t *places = _PySnapshot_Array(s->nlocations,
                                                       sizeof(uint32_t));
    int result = -1;
    if (places == NULL || _PySnapshot_PairsInit(&pairs) < 0
        || label_locations(s, key, places) < 0)
    {
        goto done;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        uint32_t caller = SNAPSHOT_NONE;
        if (whole_path && s->nodes[i].parent != SNAPSHOT_NONE) {
            assert(s->nodes[i].parent < i);
            caller = labels[s->nodes[i].parent];
        }
        labels[i] = _PySnapshot_Pair(&pairs, caller + 1,
                                     places[s->nodes[i].location]);
        if (labels[i] == SNAPSHOT_NONE) {
            goto done;
        }
    }
    *nlabels = pairs.used;
    result = 0;
done:
    _PySnapshot_PairsFree(&pairs);
    return result;
}

static void
add(uint64_t *to, const uint64_t *measures)
{
    for (int m = 0; m < SNAPSHOT_NMEASURES; m++) {
        to[m] += measures[m];
    }
}

/* --- Cumulative: a walk over the tree */

struct walk {
    uint32_t *first_child;
    uint32_t *next;               // sibling
    uint32_t *above;              // nodes of a group on the path, by label
    uint64_t (*sums)[SNAPSHOT_NMEASURES];     // of the subtrees
    const uint8_t *lines;         // of each location: meets its group
};

static int
prepare_walk(const struct tracer_snapshot *s, uint32_t nlabels,
             struct walk *walk)
{
    walk->first_child = _PySnapshot_Array(s->nnodes, sizeof(uint32_t));
    walk->next = _PySnapshot_Array(s->nnodes, sizeof(uint32_t));
    walk->above = _PySnapshot_Zeroed((uint64_t)nlabels + 1, sizeof(uint32_t));
    walk->sums = _PySnapshot_Array(s->nnodes, sizeof(*walk->sums));
    if (walk->first_child == NULL || walk->next == NULL
        || walk->above == NULL || walk->sums == NULL)
    {
        return -1;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        memcpy(walk->sums[i], _PySnapshot_Measures(s, i),
               sizeof(*walk->sums));
        walk->first_child[i] = SNAPSHOT_NONE;
    }
    for (uint32_t i = s->nnodes; i-- > 0; ) {
        uint32_t parent = s->nodes[i].parent;
        if (parent != SNAPSHOT_NONE) {
            walk->next[i] = walk->first_child[parent];
            walk->first_child[parent] = i;
            add(walk->sums[parent], walk->sums[i]);
        }
    }
    return 0;
}

static int
is_counted(const struct tracer_snapshot *s, const struct walk *walk,
           uint32_t node)
{
    return walk->lines == NULL || walk->lines[s->nodes[node].location];
}

static void
walk_from(const struct tracer_snapshot *s, struct walk *walk, uint32_t root,
          const uint32_t *labels, struct snapshot_group *groups)
{
    uint32_t node = root;
    for (;;) {
        if (is_counted(s, walk, node) && walk->above[labels[node]]++ == 0) {
            add(groups[labels[node]].measures, walk->sums[node]);
        }
        if (walk->first_child[node] != SNAPSHOT_NONE) {
            node = walk->first_child[node];
            continue;
        }
        for (;;) {
            if (is_counted(s, walk, node)) {
                assert(walk->above[labels[node]] > 0);
                walk->above[labels[node]]--;
            }
            if (node == root) {
                return;
            }
            if (walk->next[node] != SNAPSHOT_NONE) {
                node = walk->next[node];
                break;
            }
            node = s->nodes[node].parent;
        }
    }
}

static int
sum_subtrees(const struct tracer_snapshot *s, const uint32_t *labels,
             uint32_t nlabels, const uint8_t *lines,
             struct snapshot_group *groups)
{
    struct walk walk = {.lines = lines};
    int result = prepare_walk(s, nlabels, &walk);
    for (uint32_t i = 0; result == 0 && i < s->nnodes; i++) {
        if (s->nodes[i].parent == SNAPSHOT_NONE) {
            walk_from(s, &walk, i, labels, groups);
        }
    }
    _PySnapshot_Release(walk.first_child);
    _PySnapshot_Release(walk.next);
    _PySnapshot_Release(walk.above);
    _PySnapshot_Release(walk.sums);
    return result;
}

/* --- By a key of nodes */

static struct snapshot_group *
new_groups(uint64_t n)
{
    struct snapshot_group *groups = _PySnapshot_Array(n, sizeof(*groups));
    for (uint64_t i = 0; groups != NULL && i < n; i++) {
        memset(&groups[i], 0, sizeof(groups[i]));
        groups[i].node = SNAPSHOT_NONE;
        groups[i].location = SNAPSHOT_NONE;
        groups[i].class_ = SNAPSHOT_NONE;
        groups[i].origin = SNAPSHOT_NONE;
    }
    return groups;
}

/* Several functions may share a line: their group shows the function that
   holds most or, if nothing is live, that allocated most. */
struct share {
    uint64_t live;
    uint64_t total;
};

static int
is_larger(struct share a, struct share b)
{
    return a.live != b.live ? a.live > b.live : a.total > b.total;
}

static int
name_lines(const struct tracer_snapshot *s, const uint32_t *labels,
           struct snapshot_group *groups)
{
    SNAPSHOT_AUTO struct share *shares =
        _PySnapshot_Zeroed((uint64_t)s->nlocations + 1, sizeof(*shares));
    if (shares == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        if (s->nodes[i].measures != 0) {
            const uint64_t *measures = _PySnapshot_Measures(s, i);
            struct share *share = &shares[s->nodes[i].location];
            share->live += measures[SNAPSHOT_SIZE];
            share->total += measures[SNAPSHOT_TOTAL_SIZE];
        }
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        struct snapshot_group *group = &groups[labels[i]];
        uint32_t location = s->nodes[i].location;
        if (is_larger(shares[location], shares[group->location])) {
            group->location = location;
        }
    }
    return 0;
}

static struct share
share_of(const struct tracer_snapshot *s, uint32_t node)
{
    const uint64_t *measures = _PySnapshot_Measures(s, node);
    return (struct share){measures[SNAPSHOT_SIZE],
                          measures[SNAPSHOT_TOTAL_SIZE]};
}

/* The same of paths that have all lines in common. */
static void
name_paths(const struct tracer_snapshot *s, const uint32_t *labels,
           struct snapshot_group *groups)
{
    for (uint32_t i = 0; i < s->nnodes; i++) {
        struct snapshot_group *group = &groups[labels[i]];
        if (is_larger(share_of(s, i), share_of(s, group->node))) {
            group->node = i;
        }
    }
}

/* Where most of a group was allocated, by label and location of the origin. */
struct origin {
    uint32_t label;
    uint32_t location;            // NONE: at a line of the group itself
    struct share share;
};

static int
add_origins(const struct tracer_snapshot *s, const uint32_t *labels,
            struct snapshot_pairs *pairs, struct origin **origins)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < s->nnodes; i++) {
        if (s->nodes[i].measures == 0) {
            continue;
        }
        uint32_t known = pairs->used;
        uint32_t at = _PySnapshot_Pair(pairs, labels[i], s->origins[i] + 1);
        if (at == SNAPSHOT_NONE
            || _PySnapshot_Reserve(origins, &size, at + 1,
                                   sizeof(**origins)) < 0)
        {
            return -1;
        }
        if (at == known) {
            (*origins)[at] = (struct origin){labels[i], s->origins[i],
                                             {0, 0}};
        }
        struct share share = share_of(s, i);
        (*origins)[at].share.live += share.live;
        (*origins)[at].share.total += share.total;
    }
    return 0;
}

static int
name_origins(const struct tracer_snapshot *s, const uint32_t *labels,
             uint32_t nlabels, struct snapshot_group *groups)
{
    struct snapshot_pairs pairs = {0};
    struct origin *origins = NULL;
    SNAPSHOT_AUTO struct share *most =
        _PySnapshot_Zeroed((uint64_t)nlabels + 1, sizeof(*most));
    int result = most == NULL ? -1 : _PySnapshot_PairsInit(&pairs);
    if (result == 0) {
        result = add_origins(s, labels, &pairs, &origins);
    }
    for (uint32_t i = 0; result == 0 && i < pairs.used; i++) {
        const struct origin *origin = &origins[i];
        if (is_larger(origin->share, most[origin->label])) {
            most[origin->label] = origin->share;
            groups[origin->label].origin = origin->location;
        }
    }
    _PySnapshot_PairsFree(&pairs);
    _PySnapshot_Release(origins);
    return result;
}

/* Number the nodes by their label and where their blocks come from. */
static int
divide_labels(const struct tracer_snapshot *s, uint32_t *labels,
              uint32_t *nlabels)
{
    struct snapshot_pairs pairs = {0};
    int result = _PySnapshot_PairsInit(&pairs);
    for (uint32_t i = 0; result == 0 && i < s->nnodes; i++) {
        labels[i] = _PySnapshot_Pair(&pairs, labels[i], s->origins[i] + 1);
        result = labels[i] == SNAPSHOT_NONE ? -1 : 0;
    }
    *nlabels = pairs.used;
    _PySnapshot_PairsFree(&pairs);
    return result;
}

static int
group_nodes(struct tracer_snapshot *s, enum snapshot_key key, int cumulative,
            const uint8_t *lines, int by_origin,
            struct snapshot_groups *result)
{
    int paths = (cumulative || key == SNAPSHOT_BY_TRACEBACK
                 || key == SNAPSHOT_BY_PATH);
    if (paths && _PySnapshot_Truncate(s) < 0) {
        return -1;
    }
    SNAPSHOT_AUTO uint32_t *labels = _PySnapshot_Array(s->nnodes,
                                                       sizeof(uint32_t));
    uint32_t n;
    if (labels == NULL || _PySnapshot_Label(s, key, labels, &n) < 0
        || (by_origin && s->origins != NULL
            && divide_labels(s, labels, &n) < 0))
    {
        return -1;
    }
    struct snapshot_group *groups = new_groups(n);
    int status = groups == NULL ? -1 : 0;
    for (uint32_t i = 0; status == 0 && i < s->nnodes; i++) {
        struct snapshot_group *group = &groups[labels[i]];
        if (group->node == SNAPSHOT_NONE) {
            group->node = i;
            group->location = s->nodes[i].location;
        }
        if (!cumulative && s->nodes[i].measures != 0) {
            add(group->measures, _PySnapshot_Measures(s, i));
        }
    }
    if (status == 0 && cumulative) {
        status = sum_subtrees(s, labels, n, lines, groups);
    }
    if (status == 0 && key == SNAPSHOT_BY_LINENO) {
        status = name_lines(s, labels, groups);
    }
    if (status == 0 && s->origins != NULL && !cumulative) {
        status = name_origins(s, labels, n, groups);
    }
    if (status == 0 && key == SNAPSHOT_BY_TRACEBACK) {
        name_paths(s, labels, groups);
    }
    if (status < 0) {
        _PySnapshot_Release(groups);
        return -1;
    }
    result->groups = groups;
    result->ngroups = n;
    return 0;
}

/* --- By a key of blocks */

/* Groups in the order of first sight, by the pair (a, b). */
struct collector {
    struct snapshot_pairs pairs;
    struct snapshot_group *groups;
    uint32_t size;
};

static struct snapshot_group *
collect(struct collector *c, uint32_t a, uint32_t b)
{
    uint32_t known = c->pairs.used;
    uint32_t label = _PySnapshot_Pair(&c->pairs, a, b);
    if (label == SNAPSHOT_NONE) {
        return NULL;
    }
    if (label == known) {
        if (_PySnapshot_Reserve(&c->groups, &c->size, label + 1,
                                sizeof(*c->groups)) < 0)
        {
            return NULL;
        }
        memset(&c->groups[label], 0, sizeof(*c->groups));
        c->groups[label].node = SNAPSHOT_NONE;
        c->groups[label].location = SNAPSHOT_NONE;
        c->groups[label].class_ = SNAPSHOT_NONE;
        c->groups[label].origin = SNAPSHOT_NONE;
    }
    return &c->groups[label];
}

static int
group_addresses(const struct tracer_snapshot *s,
                struct snapshot_groups *result)
{
    struct snapshot_group *groups = new_groups(s->nblocks);
    if (groups == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        groups[i].node = block->node;
        groups[i].location = s->nodes[block->node].location;
        groups[i].class_ = block->class_;
        groups[i].origin = s->origins == NULL ? SNAPSHOT_NONE
                                              : s->origins[block->node];
        groups[i].address = block->address;
        groups[i].measures[SNAPSHOT_SIZE] = block->size;
        groups[i].measures[SNAPSHOT_COUNT] = 1;
    }
    result->groups = groups;
    result->ngroups = s->nblocks;
    return 0;
}

static int
finish(struct collector *c, int status, struct snapshot_groups *result)
{
    result->groups = c->groups;
    result->ngroups = c->pairs.used;
    _PySnapshot_PairsFree(&c->pairs);
    if (status < 0) {
        _PySnapshot_Release(c->groups);
    }
    return status;
}

static int
group_blocks(const struct tracer_snapshot *s, enum snapshot_key key,
             struct snapshot_groups *result)
{
    struct collector c = {.groups = NULL};
    SNAPSHOT_AUTO uint32_t *lines = _PySnapshot_Array(s->nlocations,
                                                      sizeof(uint32_t));
    int status = -1;
    if (lines == NULL || _PySnapshot_PairsInit(&c.pairs) < 0
        || label_locations(s, SNAPSHOT_BY_LINENO, lines) < 0)
    {
        goto done;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        const struct snapshot_class *class_ = &s->classes[block->class_];
        uint32_t location = s->nodes[block->node].location;
        uint32_t a = class_->name;
        uint32_t b = 0;
        if (key == SNAPSHOT_BY_TYPE_LINENO) {
            b = lines[location];
        }
        else if (key == SNAPSHOT_BY_DOMAIN) {
            a = class_->kind;
            b = class_->domain;
        }
        else if (key == SNAPSHOT_BY_NATIVE) {
            a = class_->domain == SNAPSHOT_NATIVE_DOMAIN;
            b = class_->stack;
        }
        struct snapshot_group *group = collect(&c, a, b);
        if (group == NULL) {
            goto done;
        }
        group->location = location;
        group->class_ = block->class_;
        group->measures[SNAPSHOT_SIZE] += block->size;
        group->measures[SNAPSHOT_COUNT]++;
    }
    status = 0;
done:
    return finish(&c, status, result);
}

int
_PySnapshot_GroupByClass(struct tracer_snapshot *s, const uint32_t *labels,
                         int by_stack, struct snapshot_groups *result)
{
    struct collector c = {.groups = NULL};
    int status = _PySnapshot_Unpack(s);
    if (status == 0) {
        status = _PySnapshot_PairsInit(&c.pairs);
    }
    for (uint64_t i = 0; status == 0 && i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        const struct snapshot_class *class_ = &s->classes[block->class_];
        uint32_t label = labels[block->node];
        if (by_stack && class_->stack == 0) {
            continue;
        }
        struct snapshot_group *group =
            collect(&c, label, by_stack ? class_->stack : class_->name);
        if (group == NULL) {
            status = -1;
            break;
        }
        group->node = label;
        group->class_ = block->class_;
        group->measures[SNAPSHOT_SIZE] += block->size;
        group->measures[SNAPSHOT_COUNT]++;
    }
    return finish(&c, status, result);
}

int
_PySnapshot_Group(struct tracer_snapshot *s, enum snapshot_key key,
                  int cumulative, const uint8_t *lines, int by_origin,
                  struct snapshot_groups *result)
{
    if (key == SNAPSHOT_BY_ADDRESS) {
        /* Rows show whole tracebacks. */
        return _PySnapshot_Truncate(s) < 0 || _PySnapshot_Unpack(s) < 0
            ? -1 : group_addresses(s, result);
    }
    if (key >= SNAPSHOT_BY_TYPE) {
        return _PySnapshot_Unpack(s) < 0 ? -1 : group_blocks(s, key, result);
    }
    return group_nodes(s, key, cumulative, lines, by_origin, result);
}
