/* The call tree.  A node is (parent, location).  The entry of a live block
   refers to its node by number, which changes only in tracer_prune.c.
   Children are found in one hash table over all nodes.

   With the whole stack ("full"), recursion would make the tree as large as the
   number of different stacks.  So the number of times that a location may
   occur on a path is limited by fold_limit(), which shrinks as the tree
   grows.  Beyond that, the nearest ancestor at the same location is used
   instead of a new node: the recursion is folded, the block keeps its line,
   and the number of folds is reported.  With a limit of k frames paths are
   cut, see tracer_stack.c.  Locked, except for reading the counters. */

#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"

#define FOLD_NODES (1u << 15)
#define FOLD_REPEATS 1000
#define FOLD_MORE_NODES (1u << 17)
#define FOLD_MORE_REPEATS 8
#define NFOLDS 64                     // remembered
#define INITIAL_BUCKETS 2048
#define PRUNE_LEAST (1u << 15)        // nodes, with a limit
#define PRUNE_LEAST_FULL (1u << 20)

static struct tracer_counts no_counts;
struct tracer_call_tree _PyTracer_tree = {.next_saved = 1,
                                          .natives = &no_counts};
uint8_t _PyTracer_chunk_spilled[TRACER_MAX_CHUNKS];

static struct tracer_index children;

/* What was folded.  Without the GIL each capture walks the whole stack, and
   looks up all of its frames again. */
static struct fold {
    uint32_t parent;
    uint32_t location;            // 0: none
    uint32_t target;
} folds[NFOLDS];

static_assert(TRACER_MAX_NODES == TRACER_INDEX_MAX, "nodes have numbers");

/* Nodes and the arrays that go with them, with max_nodes items each, one
   behind the other in a reserved range.  Memory that is not touched costs
   nothing. */
#define NARRAYS (KEPT_RARES + 1)
static const size_t item_sizes[NARRAYS] = {
    [KEPT_NODES] = sizeof(struct tracer_node),
    [KEPT_SAVED] = sizeof(uint32_t),
    [KEPT_SPILLS] = sizeof(struct tracer_spill),
    [KEPT_RARES] = sizeof(struct tracer_rare),
};
static char *range;
static size_t offsets[NARRAYS];   // of the arrays in the range
static uint32_t ncommitted;       // chunks of arrays in use, array by array
static char *native_range;
static uint32_t native_room;      // counters of native memory in use

static size_t
items_size(void)
{
    size_t size = 0;
    for (int i = 0; i < NARRAYS; i++) {
        size += item_sizes[i];
    }
    return size;
}

/* If address space is limited (ulimit -v), fewer nodes must be enough. */
static uint32_t
reserve_range(void)
{
    uint32_t least = TRACER_CHUNK_NODES * 4;
    for (uint32_t n = TRACER_MAX_NODES; n >= least; n /= 4) {
        range = _PyTracer_MemReserve(n * items_size(), n == least);
        if (range != NULL) {
            return n;
        }
    }
    return 0;
}

static int
reserve_arrays(void)
{
    uint32_t n = reserve_range();
    if (n == 0) {
        return -1;
    }
    size_t offset = 0;
    for (int i = 0; i < NARRAYS; i++) {
        offsets[i] = offset;
        offset += n * item_sizes[i];
    }
    _PyTracer_tree.max_nodes = n;
    _PyTracer.nodes = (struct tracer_node *)(range + offsets[KEPT_NODES]);
    _PyTracer_tree.saved = (uint32_t *)(range + offsets[KEPT_SAVED]);
    _PyTracer_tree.spills =
        (struct tracer_spill *)(range + offsets[KEPT_SPILLS]);
    _PyTracer_tree.rares =
        (struct tracer_rare *)(range + offsets[KEPT_RARES]);
    return 0;
}

int
_PyTracer_CommitArray(enum kept_array array, char *base, size_t from,
                      size_t to)
{
    size_t kept = _PyTracer_KeepArray(array, base, to);
    return kept >= to ? 0
                      : _PyTracer_MemCommit(base, Py_MAX(from, kept), to);
}

/* A node has at most one saved value and one set of rare counters: if there is
   room for the node, there is room for these. */
static int
make_chunk(void)
{
    uint32_t chunk = ncommitted / NARRAYS;
    while (ncommitted < (chunk + 1) * NARRAYS) {
        uint32_t i = ncommitted % NARRAYS;
        size_t size = TRACER_CHUNK_NODES * item_sizes[i];
        if (_PyTracer_CommitArray(i, range + offsets[i], chunk * size,
                                  (chunk + 1) * size) < 0)
        {
            return -1;
        }
        ncommitted++;
    }
    return 0;
}

/* Few programs trace native memory.  So its counters have a range of their
   own, which is reserved when it is needed first. */
static int
make_native_room(void)
{
    struct tracer_call_tree *tree = &_PyTracer_tree;
    const size_t item = sizeof(*tree->natives);
    if (native_range == NULL) {
        native_range = _PyTracer_MemReserve(tree->max_nodes * item, 1);
    }
    if (native_range == NULL
        || _PyTracer_CommitArray(
               KEPT_NATIVES, native_range, native_room * item,
               (native_room + TRACER_CHUNK_NODES) * item) < 0)
    {
        return -1;
    }
    if (native_room == 0) {
        tree->natives = (struct tracer_counts *)native_range;
        tree->nnatives = 1;
    }
    native_room += TRACER_CHUNK_NODES;
    return 0;
}

static void
release_natives(void)
{
    _PyTracer_MemRelease(native_range, _PyTracer_tree.max_nodes
                                       * sizeof(*_PyTracer_tree.natives));
    native_range = NULL;
    native_room = 0;
    _PyTracer_tree.natives = &no_counts;
    _PyTracer_tree.nnatives = 0;
}

static void
release_arrays(void)
{
    release_natives();
    _PyTracer_MemRelease(range, _PyTracer_tree.max_nodes * items_size());
    range = NULL;
    memset(_PyTracer_chunk_spilled, 0, sizeof(_PyTracer_chunk_spilled));
    ncommitted = 0;
    _PyTracer_tree.max_nodes = 0;
}

size_t
_PyTracer_TreeMemory(void)
{
    const struct tracer_call_tree *tree = &_PyTracer_tree;
    uint32_t saved = tree->next_saved - tree->first_saved;
    size_t size = tree->nnodes * item_sizes[KEPT_NODES]
                  + tree->nrares * item_sizes[KEPT_RARES]
                  + tree->nnatives * sizeof(*tree->natives)
                  + Py_MAX(saved, tree->most_saved) * item_sizes[KEPT_SAVED];
    for (uint32_t i = 0; i < ncommitted / NARRAYS; i++) {
        if (_PyTracer_chunk_spilled[i]) {
            size += TRACER_CHUNK_NODES * item_sizes[KEPT_SPILLS];
        }
    }
    return size;
}

void
_PyTracer_MakeRare(uint32_t id)
{
    _PyTracer_ASSERT_LOCKED();
    assert(id != TRACER_NODE_NONE && id < _PyTracer_tree.nnodes);
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->rare == 0) {
        TRACER_PUBLISH(nrares, _PyTracer_tree.nrares + 1);
        node->rare = _PyTracer_tree.nrares++;
        assert(_PyTracer_tree.nrares <= _PyTracer_tree.nnodes);
    }
}

/* With a limit nothing is folded, and many different stacks may leave a large
   tree behind in which nothing is alive. */
static void
set_prune(void)
{
    struct tracer_call_tree *tree = &_PyTracer_tree;
    uint32_t least = _PyTracer.limit == UINT32_MAX ? PRUNE_LEAST_FULL
                                                   : PRUNE_LEAST;
    tree->prune_least = Py_MIN(least, tree->max_nodes / 2);
    tree->prune_at = _PyTracer.limit == 1 ? UINT32_MAX : tree->prune_least;
}

struct tracer_counts *
_PyTracer_MakeNative(uint32_t id)
{
    _PyTracer_MakeRare(id);
    struct tracer_call_tree *tree = &_PyTracer_tree;
    struct tracer_rare *rare = _PyTracer_Rare(id);
    if (rare->native == 0) {
        if (tree->nnatives == native_room && make_native_room() < 0) {
            return NULL;
        }
        TRACER_PUBLISH(nnatives, tree->nnatives + 1);
        rare->native = tree->nnatives++;
        assert(tree->nnatives <= tree->nnodes);
    }
    return &tree->natives[rare->native];
}

int
_PyTracer_TreeInit(void)
{
    assert(range == NULL && _PyTracer_tree.nnodes == 0);
    if (_PyTracer_IndexInit(&children, INITIAL_BUCKETS) < 0
        || reserve_arrays() < 0 || make_chunk() < 0)
    {
        return -1;
    }
    _PyTracer_tree.nrares = 1;
    _PyTracer_tree.nnodes = TRACER_NODE_FIRST;
    TRACER_PUBLISH(nrares, 1);
    TRACER_PUBLISH(nnodes, TRACER_NODE_FIRST);
    _PyTracer_tree.most_saved = 0;
    set_prune();
    return 0;
}

void
_PyTracer_TreeClear(void)
{
    release_arrays();
    _PyTracer_IndexClear(&children);
    memset(folds, 0, sizeof(folds));
    _PyTracer_tree.nnodes = 0;
    _PyTracer_tree.nrares = 0;
    _PyTracer_tree.most_saved = 0;
}

static uint32_t
hash_child(uint32_t parent, uint32_t location)
{
    return _PyTracer_Hash(((uint64_t)parent << 32) | location);
}

static uint32_t
hash_node(uint32_t id)
{
    const struct tracer_node *node = _PyTracer_Node(id);
    return hash_child(node->parent, node->location);
}

void
_PyTracer_ReindexTree(void)
{
    _PyTracer_IndexEmpty(&children);
    memset(folds, 0, sizeof(folds));
    for (uint32_t id = TRACER_NODE_FIRST; id < _PyTracer_tree.nnodes; id++) {
        _PyTracer_IndexAdd(&children, hash_node(id), id);
    }
}

struct child {
    uint32_t parent, location;
};

static int
equal_child(uint32_t id, const void *key)
{
    const struct tracer_node *node = _PyTracer_Node(id);
    const struct child *wanted = key;
    return node->location == wanted->location
           && node->parent == wanted->parent;
}

static int
has_parent(uint32_t parent)
{
    return parent != 0 && !(parent & TRACER_TRUNCATED);
}

/* How often a location may occur on a path of the whole stack: CPython's own
   recursion limit while the tree is small, less when mutual recursion has made
   it large. */
static uint32_t
fold_limit(void)
{
    if (_PyTracer_tree.nnodes < FOLD_NODES) {
        return FOLD_REPEATS;
    }
    return _PyTracer_tree.nnodes < FOLD_MORE_NODES ? FOLD_MORE_REPEATS : 1;
}

/* The nearest ancestor-or-self at the location, if the location already occurs
   too often on the path; else NONE. */
static uint32_t
fold_target(uint32_t node, uint32_t location)
{
    uint32_t nearest = TRACER_NODE_NONE;
    uint32_t repeats = 0;
    for (; has_parent(node); node = _PyTracer_Node(node)->parent) {
        if (_PyTracer_Node(node)->location == location) {
            if (repeats++ == 0) {
                nearest = node;
            }
        }
    }
    return repeats >= fold_limit() ? nearest : TRACER_NODE_NONE;
}

/* The same, remembered: what was folded once stays folded as the tree
   grows. */
static uint32_t
find_fold(uint32_t node, uint32_t location, uint32_t hash)
{
    struct fold *fold = &folds[hash % NFOLDS];
    if (fold->parent == node && fold->location == location) {
        return fold->target;
    }
    uint32_t target = fold_target(node, location);
    if (target != TRACER_NODE_NONE) {
        *fold = (struct fold){node, location, target};
    }
    return target;
}

static uint32_t
append_node(uint32_t parent, uint32_t location)
{
    _PyTracer_ASSERT_LOCKED();
    assert(location < _PyTracer_places.nlocations);
    uint32_t id = _PyTracer_tree.nnodes;
    assert(id < _PyTracer_tree.max_nodes);
    if (id == ncommitted / NARRAYS * TRACER_CHUNK_NODES && make_chunk() < 0) {
        return TRACER_NODE_NONE;
    }
    struct tracer_node *node = _PyTracer_Node(id);
    node->parent = parent;
    node->location = location;
    _PyTracer_tree.nnodes++;
    TRACER_PUBLISH(nnodes, id + 1);
    return id;
}

/* With a limit of one frame, the nodes are the locations, in their order;
   number 0 of these is no place in a program. */
static uint32_t
node_of_location(uint32_t location)
{
    uint32_t id = TRACER_NODE_FIRST + location - 1;
    if (id >= _PyTracer_tree.max_nodes) {
        _PyTracer_tree.folded++;
        return TRACER_NODE_UNKNOWN;
    }
    while (_PyTracer_tree.nnodes <= id) {
        uint32_t next = _PyTracer_tree.nnodes - TRACER_NODE_FIRST + 1;
        if (append_node(0, next) == TRACER_NODE_NONE) {
            return TRACER_NODE_NONE;
        }
    }
    return id;
}

static uint32_t
make_node(uint32_t parent, uint32_t location, uint32_t hash)
{
    if (_PyTracer_tree.nnodes == _PyTracer_tree.max_nodes) {
        _PyTracer_tree.folded++;
        return has_parent(parent) ? parent : TRACER_NODE_UNKNOWN;
    }
    if (_PyTracer_IndexReserve(&children, hash_node) < 0) {
        return TRACER_NODE_NONE;
    }
    uint32_t id = append_node(parent, location);
    if (id != TRACER_NODE_NONE) {
        _PyTracer_IndexAdd(&children, hash, id);
    }
    return id;
}

uint32_t
_PyTracer_Child(uint32_t parent, uint32_t location)
{
    assert(parent == 0 || (parent & TRACER_TRUNCATED)
           || parent < _PyTracer_tree.nnodes);
    if (_PyTracer.limit == 1) {
        return node_of_location(location);
    }
    struct child key = {parent, location};
    uint32_t hash = hash_child(parent, location);
    uint32_t id = _PyTracer_IndexFind(&children, hash, equal_child, &key);
    if (id != 0) {
        return id;
    }
    if (_PyTracer.limit == UINT32_MAX) {
        uint32_t target = find_fold(parent, location, hash);
        if (target != TRACER_NODE_NONE) {
            _PyTracer_tree.folded++;
            return target;
        }
    }
    return make_node(parent, location, hash);
}

uint32_t
_PyTracer_NFrames(uint32_t node)
{
    uint32_t n = 1;
    assert(node != TRACER_NODE_NONE && node < _PyTracer_tree.nnodes);
    while (n < _PyTracer.limit) {
        node = _PyTracer_Node(node)->parent;
        if (node == 0 || (node & TRACER_TRUNCATED)) {
            break;
        }
        n++;
    }
    return n;
}

const struct tracer_location *
_PyTracer_LocationAt(uint32_t node)
{
    uint32_t location = _PyTracer_Node(node)->location;
    assert(node < _PyTracer_tree.nnodes);
    assert(location < _PyTracer_places.nlocations);
    return &_PyTracer_places.locations[location];
}

/* --- Check everything */

static const char *
node_fault(uint32_t id)
{
    const struct tracer_node *node = _PyTracer_Node(id);
    if (has_parent(node->parent) && node->parent >= id) {
        return "a node is older than its parent";
    }
    if (has_parent(node->parent) && node->parent < TRACER_NODE_FIRST) {
        return "a node hangs below one that is no place";
    }
    if (node->location == 0 || node->location >= _PyTracer_places.nlocations) {
        return "a node has no location";
    }
    if (node->rare >= _PyTracer_tree.nrares
        || (_PyTracer_Rare(id)->native != 0
            && _PyTracer_Rare(id)->native >= _PyTracer_tree.nnatives))
    {
        return "a node has rare counters that were never made";
    }
    if (_PyTracer.limit == 1) {
        return node->location == id - TRACER_NODE_FIRST + 1
               ? NULL : "with one frame, a node is not its location";
    }
    struct child key = {node->parent, node->location};
    if (_PyTracer_IndexFind(&children, hash_node(id), equal_child, &key)
        == 0)
    {
        return "a node is not in the index of children";
    }
    return NULL;
}

const char *
_PyTracer_TreeFault(void)
{
    if (_PyTracer_tree.nnodes < TRACER_NODE_FIRST
        || _PyTracer_tree.nnodes > _PyTracer_tree.max_nodes
        || _PyTracer_tree.nnodes > ncommitted / NARRAYS * TRACER_CHUNK_NODES)
    {
        return "there are more nodes than memory for them";
    }
    uint32_t nrares = 1;
    uint32_t nnatives = _PyTracer_tree.nnatives != 0;
    for (uint32_t id = 0; id < _PyTracer_tree.nnodes; id++) {
        const char *fault = id < TRACER_NODE_FIRST ? NULL : node_fault(id);
        if (fault != NULL) {
            return fault;
        }
        nrares += _PyTracer_Node(id)->rare != 0;
        nnatives += _PyTracer_Rare(id)->native != 0;
    }
    if (nrares != _PyTracer_tree.nrares) {
        return "rare counters have no node";
    }
    if (nnatives != _PyTracer_tree.nnatives) {
        return "counters of native memory have no node";
    }
    if (_PyTracer.limit > 1
        && children.used != _PyTracer_tree.nnodes - TRACER_NODE_FIRST)
    {
        return "the index of children has other nodes than the tree";
    }
    static const struct tracer_rare none = {0};
    if (memcmp(&_PyTracer_tree.rares[0], &none, sizeof(none)) != 0) {
        return "the rare counters of nodes without any are not zero";
    }
    return NULL;
}
