/* The tree of holders: what would be freed if an object were let go.

   It is the dominator tree, made small and readable. Children that are held in
   the same way, and have the same type and line, become one. Objects that
   belong to another one are charged to it: the dictionary of a module, of a
   class or of an instance, the code of a function, its closure and cells. The
   dominator tree of real programs is flat at the top, since modules, classes
   and functions refer to each other in circles. So a class or function that
   only the root dominates is put below its module. */

#include "graph.h"

enum fold {
    FOLD_NOT,
    FOLD_ITSELF,                  // what it holds is held by its owner
    FOLD_ALL,                     // with all that it holds
};

#define NAMED 0x80000000u         // a number of a text, not an object

struct tree {
    const struct snapshot_heap *heap;
    uint32_t *steps;              // by object: from its dominator
    uint32_t *groups;             // by object
    uint8_t *folds;               // by object
    uint32_t *sites;              // by node of the call tree
    struct snapshot_trie trie;    // its branches are the groups
    struct snapshot_pairs kinds;  // (step, type)
    struct snapshot_pairs classes;    // (kind, site)
    struct snapshot_pairs texts;
    struct snapshot_pairs dicts;  // of modules: (0, dict)
    uint32_t *dict_modules;       // their modules
    uint32_t modules;             // sys.modules
    uint32_t dict_modules_size;
    struct snapshot_holder *holders;
    uint32_t nholders, holders_size;
};

static uint32_t
kind_of(const struct tree *t, uint32_t object)
{
    return _PySnapshot_Shape(t->heap, object)->kind;
}

/* --- Steps from dominators */

static void
find_steps(struct tree *t)
{
    const struct snapshot_heap *heap = t->heap;
    for (uint32_t i = 0; i < heap->g->nobjects; i++) {
        t->steps[i] = SNAPSHOT_STEP_SHARED;
    }
    for (uint32_t i = 0; i < heap->nreached; i++) {
        uint32_t n, object = heap->order[i];
        const uint32_t *targets = _PySnapshot_References(heap, object, &n);
        for (uint32_t j = 0; j < n; j++) {
            uint32_t target = targets[j];
            if (target != 0 && heap->dominators[target] == object
                && t->steps[target] == SNAPSHOT_STEP_SHARED)
            {
                t->steps[target] = _PySnapshot_Step(heap, object, j);
            }
        }
    }
}

/* --- What belongs to its holder */

static enum fold
fold_name(const struct tree *t, uint32_t holder, uint32_t step)
{
    const struct tracer_snapshot *s = t->heap->s;
    if (_PySnapshot_HasText(s, step, "__dict__")
        || _PySnapshot_HasText(s, step, "__closure__"))
    {
        return FOLD_ITSELF;
    }
    switch (kind_of(t, holder)) {
    case SNAPSHOT_FUNCTION:
        return _PySnapshot_HasText(s, step, "__defaults__")
               || _PySnapshot_HasText(s, step, "__kwdefaults__")
               || !_PySnapshot_BeginsWith(s, step, "__")
               ? FOLD_NOT : FOLD_ALL;
    case SNAPSHOT_TYPE:
    case SNAPSHOT_MODULE:
        return _PySnapshot_BeginsWith(s, step, "__") ? FOLD_ALL : FOLD_NOT;
    case SNAPSHOT_CODE:
        return FOLD_ALL;
    case SNAPSHOT_METHOD:
        return _PySnapshot_HasText(s, step, "__func__")
               ? FOLD_ITSELF : FOLD_NOT;
    case SNAPSHOT_FRAME:
        return _PySnapshot_BeginsWith(s, step, "local ")
               || _PySnapshot_BeginsWith(s, step, "closure ")
               ? FOLD_NOT : FOLD_ITSELF;
    default:
        return FOLD_NOT;
    }
}

static enum fold
fold_of(const struct tree *t, uint32_t object)
{
    uint32_t holder = t->heap->dominators[object];
    uint32_t step = t->steps[object];
    if (t->folds[holder] == FOLD_ALL) {
        return FOLD_ALL;
    }
    if (holder == SNAPSHOT_ROOT) {
        return FOLD_NOT;
    }
    if (SNAPSHOT_IS_NAME(step)) {
        enum fold fold = fold_name(t, holder, step);
        if (fold != FOLD_NOT) {
            return fold;
        }
    }
    if (kind_of(t, holder) == SNAPSHOT_CODE) {
        return FOLD_ALL;
    }
    if (step == SNAPSHOT_STEP_KEY_ITSELF
        && kind_of(t, holder) == SNAPSHOT_NAMESPACE)
    {
        return FOLD_ALL;
    }
    return kind_of(t, object) == SNAPSHOT_CELL && SNAPSHOT_IS_NAME(step)
           ? FOLD_ITSELF : FOLD_NOT;
}

/* --- Groups */

static uint32_t
site_of(const struct tree *t, uint32_t object)
{
    uint32_t block = t->heap->blocks[object];
    switch (kind_of(t, object)) {
    case SNAPSHOT_MODULE:
    case SNAPSHOT_FRAME:
    case SNAPSHOT_THREAD:
    case SNAPSHOT_STATE:
    case SNAPSHOT_OTHER_INTERPRETER:
        return SNAPSHOT_NONE;
    default:
        return block == SNAPSHOT_NONE
            ? SNAPSHOT_NONE : t->sites[t->heap->s->blocks[block].node];
    }
}

/* What distinguishes objects besides the way and the line: the type; the
   object itself for the first ones; the function of a frame; the name of a
   module. */
static uint32_t
type_of(struct tree *t, uint32_t object)
{
    uint32_t type = t->heap->g->objects[object].type;
    if (object < SNAPSHOT_NFIXED) {
        return object;
    }
    if (type == 0 || kind_of(t, object) == SNAPSHOT_MODULE) {
        uint32_t name = _PySnapshot_NameOf(t->heap, object);
        type = name == SNAPSHOT_NONE
            ? type : _PySnapshot_Text(t->heap->s, &t->texts, name) | NAMED;
    }
    return type;
}

/* The group of objects that a group holds in one way; NONE: no memory. */
static uint32_t
group_of(struct tree *t, uint32_t parent, uint32_t step, uint32_t type,
         uint32_t site, uint32_t object)
{
    uint32_t kind = _PySnapshot_Pair(&t->kinds, step, type);
    uint32_t class_ = kind == SNAPSHOT_NONE
        ? SNAPSHOT_NONE : _PySnapshot_Pair(&t->classes, kind, site);
    uint32_t group = class_ == SNAPSHOT_NONE
        ? SNAPSHOT_NONE : _PySnapshot_Branch(&t->trie, parent, class_);
    if (group == SNAPSHOT_NONE
        || _PySnapshot_Reserve(&t->holders, &t->holders_size, group + 1,
                               sizeof(*t->holders)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    assert(group <= t->nholders);
    if (group == t->nholders) {
        t->nholders++;
        t->holders[group] = (struct snapshot_holder){
            .parent = parent, .step = step, .object = object,
            .module = SNAPSHOT_NONE};
    }
    return group;
}

static uint32_t
group_of_module(struct tree *t, uint32_t name, uint32_t object)
{
    uint32_t text = _PySnapshot_Text(t->heap->s, &t->texts, name);
    uint32_t group = text == SNAPSHOT_NONE ? SNAPSHOT_NONE
        : group_of(t, 0, SNAPSHOT_STEP_FIXED, text | NAMED, SNAPSHOT_NONE,
                   object);
    if (group != SNAPSHOT_NONE) {
        t->holders[group].module = name;
    }
    return group;
}

/* The module whose dictionary is this object, which the root dominates; or
   0. */
static uint32_t
module_with(struct tree *t, uint32_t dict)
{
    uint32_t n = t->dicts.used;
    uint32_t number = _PySnapshot_Pair(&t->dicts, 0, dict);
    return number < n ? t->dict_modules[number] : 0;
}

/* The object that holds all modules belongs to none of them. */
static int
is_top(const struct tree *t, uint32_t object)
{
    return object < SNAPSHOT_NFIXED || object == t->modules
           || _PySnapshot_IsLibrary(t->heap, object);
}

static int
is_module(const struct tree *t, uint32_t object)
{
    return kind_of(t, object) == SNAPSHOT_MODULE
           && is_top(t, t->heap->dominators[object]);
}

static uint32_t
place(struct tree *t, uint32_t object)
{
    const struct snapshot_heap *heap = t->heap;
    uint32_t holder = heap->dominators[object];
    uint32_t parent = t->groups[holder];
    uint32_t step = t->steps[object];
    uint32_t name = SNAPSHOT_NONE;
    if (is_module(t, object)) {
        name = _PySnapshot_NameOf(heap, object);
        if (name != SNAPSHOT_NONE) {
            return group_of_module(t, name, object);
        }
    }
    if (is_top(t, holder)) {
        uint32_t module = module_with(t, object);
        if (module != 0) {
            t->folds[object] = FOLD_ITSELF;
            return t->groups[module];
        }
        name = _PySnapshot_ModuleOf(heap, object);
        parent = step == SNAPSHOT_STEP_SHARED ? 0 : parent;
    }
    if (name != SNAPSHOT_NONE) {
        /* A class or a function. */
        uint32_t own = _PySnapshot_NameOf(heap, object);
        parent = group_of_module(t, name, object);
        step = own == SNAPSHOT_NONE ? step : SNAPSHOT_STEP_KEY + own;
    }
    else if (kind_of(t, holder) == SNAPSHOT_CELL
             && t->folds[holder] == FOLD_ITSELF)
    {
        step = t->steps[holder];
    }
    if (parent == SNAPSHOT_NONE) {
        return SNAPSHOT_NONE;
    }
    return group_of(t, parent, step, type_of(t, object), site_of(t, object),
                    object);
}

/* Modules come first: an object that the root dominates may be the dictionary
   of a module with a larger number. */
static int
find_module_dicts(struct tree *t)
{
    const struct snapshot_heap *heap = t->heap;
    for (uint32_t i = 1; i < heap->nreached; i++) {
        uint32_t object = heap->order[i];
        if (!is_module(t, object)) {
            continue;
        }
        uint32_t dict = _PySnapshot_Named(heap, object, "__dict__");
        uint32_t name = _PySnapshot_NameOf(heap, object);
        if (name == SNAPSHOT_NONE || dict == 0
            || !is_top(t, heap->dominators[dict]))
        {
            continue;
        }
        t->groups[object] = group_of_module(t, name, object);
        uint32_t number = _PySnapshot_Pair(&t->dicts, 0, dict);
        if (number == SNAPSHOT_NONE || t->groups[object] == SNAPSHOT_NONE
            || _PySnapshot_Reserve(&t->dict_modules, &t->dict_modules_size,
                                   number + 1, sizeof(uint32_t)) < 0)
        {
            return -1;
        }
        t->dict_modules[number] = object;
    }
    return 0;
}

static int
make_groups(struct tree *t)
{
    const struct snapshot_heap *heap = t->heap;
    t->groups[SNAPSHOT_ROOT] = 0;
    t->modules = _PySnapshot_Named(heap, SNAPSHOT_INTERPRETER, "sys.modules");
    t->holders[t->nholders++] = (struct snapshot_holder){
        .parent = SNAPSHOT_NONE, .step = SNAPSHOT_STEP_FIXED,
        .module = SNAPSHOT_NONE};
    if (find_module_dicts(t) < 0) {
        return -1;
    }
    for (uint32_t i = 1; i < heap->nreached; i++) {
        uint32_t object = heap->order[i];
        t->folds[object] = (uint8_t)fold_of(t, object);
        uint32_t group = t->folds[object] == FOLD_NOT
            ? place(t, object) : t->groups[heap->dominators[object]];
        if (group == SNAPSHOT_NONE) {
            return -1;
        }
        t->groups[object] = group;
        t->holders[group].size += heap->sizes[object];
        t->holders[group].count += t->folds[object] == FOLD_NOT;
    }
    for (uint32_t i = t->nholders; i-- > 0; ) {
        struct snapshot_holder *holder = &t->holders[i];
        holder->retained += holder->size;
        holder->repeats = t->trie.branches[i].repeats;
        if (i > 0) {
            assert(holder->parent < i);
            t->holders[holder->parent].retained += holder->retained;
        }
    }
    /* All that can be reached is held by something, once. */
    assert(t->holders[0].retained
           == heap->retained[SNAPSHOT_ROOT] - heap->sizes[SNAPSHOT_ROOT]);
    return 0;
}

/* --- All of it */

static int
prepare(struct tree *t)
{
    const struct tracer_snapshot *s = t->heap->s;
    uint64_t n = t->heap->g->nobjects;
    uint32_t nsites;
    t->steps = _PySnapshot_Array(n, sizeof(*t->steps));
    t->groups = _PySnapshot_Array(n, sizeof(*t->groups));
    t->folds = _PySnapshot_Zeroed(n, sizeof(*t->folds));
    t->sites = _PySnapshot_Array(s->nnodes, sizeof(*t->sites));
    if (t->steps == NULL || t->groups == NULL || t->folds == NULL
        || t->sites == NULL || _PySnapshot_TrieInit(&t->trie) < 0
        || _PySnapshot_PairsInit(&t->kinds) < 0
        || _PySnapshot_PairsInit(&t->classes) < 0
        || _PySnapshot_PairsInit(&t->texts) < 0
        || _PySnapshot_PairsInit(&t->dicts) < 0
        || _PySnapshot_Reserve(&t->holders, &t->holders_size, 1,
                               sizeof(*t->holders)) < 0)
    {
        return -1;
    }
    return _PySnapshot_Label(s, SNAPSHOT_BY_LINENO, t->sites, &nsites);
}

int
_PySnapshot_Holders(const struct snapshot_heap *heap,
                    struct snapshot_holders *found)
{
    struct tree t = {.heap = heap};
    int result = prepare(&t);
    if (result == 0) {
        find_steps(&t);
        result = make_groups(&t);
    }
    *found = (struct snapshot_holders){t.holders, t.nholders};
    _PySnapshot_Release(t.steps);
    _PySnapshot_Release(t.groups);
    _PySnapshot_Release(t.folds);
    _PySnapshot_Release(t.sites);
    _PySnapshot_Release(t.dict_modules);
    _PySnapshot_TrieFree(&t.trie);
    _PySnapshot_PairsFree(&t.kinds);
    _PySnapshot_PairsFree(&t.classes);
    _PySnapshot_PairsFree(&t.texts);
    _PySnapshot_PairsFree(&t.dicts);
    if (result < 0) {
        _PySnapshot_Release(t.holders);
        *found = (struct snapshot_holders){NULL, 0};
    }
    return result;
}
