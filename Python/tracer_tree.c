/* The call tree.

   A node is (parent, location).  The entry of a live block names it by its
   number, which changes in tracer_prune.c alone.  Children are found in
   one hash table over all nodes.

   With the whole stack ("full"), recursion would make the tree as large as
   the number of different stacks.  When a location would stand on a path more
   often than fold_limit() allows, which shrinks as the tree grows, the
   nearest ancestor at the same location takes its place: the recursion is
   folded, the block keeps its line, and the number of folds is reported.
   With a limit of k frames paths are cut, see tracer_stack.c.

   Locked, but for reading the counters. */

#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"

#define INITIAL_BUCKETS 2048

static struct tracer_index children;

static_assert(TRACER_MAX_NODES == TRACER_INDEX_MAX, "nodes have numbers");

/* Nodes and what goes with them: arrays of max_nodes items each, one behind
   the other in a reserved range.  What is not touched costs nothing. */
enum {NODES, SAVED, WIDE, TWINS, NARRAYS};
static const size_t item_sizes[NARRAYS] = {
    [NODES] = sizeof(struct tracer_node),
    [SAVED] = sizeof(uint32_t),
    [WIDE] = sizeof(struct tracer_wide),
    [TWINS] = sizeof(struct tracer_twin),
};
static char *range;
static size_t offsets[NARRAYS];   // of the arrays in the range
static uint32_t ncommitted;       // chunks of arrays in use, array by array

static size_t
items_size(void)
{
    size_t size = 0;
    for (int i = 0; i < NARRAYS; i++) {
        size += item_sizes[i];
    }
    return size;
}

/* Where address space is limited (ulimit -v), fewer nodes have to do. */
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
    _PyTracer.max_nodes = n;
    _PyTracer.nodes = (struct tracer_node *)(range + offsets[NODES]);
    _PyTracer.saved = (uint32_t *)(range + offsets[SAVED]);
    _PyTracer.wide = (struct tracer_wide *)(range + offsets[WIDE]);
    _PyTracer.twins = (struct tracer_twin *)(range + offsets[TWINS]);
    return 0;
}

/* A node has at most one saved value and one twin: for these there is room,
   once there is for the node. */
static int
make_chunk(void)
{
    uint32_t chunk = ncommitted / NARRAYS;
    while (ncommitted < (chunk + 1) * NARRAYS) {
        uint32_t i = ncommitted % NARRAYS;
        size_t size = TRACER_CHUNK_NODES * item_sizes[i];
        size_t from = offsets[i] + chunk * size;
        if (_PyTracer_MemCommit(range, from, from + size) < 0) {
            return -1;
        }
        ncommitted++;
    }
    return 0;
}

static void
release_arrays(void)
{
    _PyTracer_MemRelease(range, _PyTracer.max_nodes * items_size());
    range = NULL;
    memset(_PyTracer_chunk_wide, 0, sizeof(_PyTracer_chunk_wide));
    ncommitted = 0;
    _PyTracer.max_nodes = 0;
}

size_t
_PyTracer_TreeMemory(void)
{
    uint32_t saved = _PyTracer.next_saved - _PyTracer.epoch;
    size_t size = _PyTracer.nnodes * item_sizes[NODES]
                  + _PyTracer.ntwins * item_sizes[TWINS]
                  + Py_MAX(saved, _PyTracer.most_saved) * item_sizes[SAVED];
    for (uint32_t i = 0; i < ncommitted / NARRAYS; i++) {
        if (_PyTracer_chunk_wide[i]) {
            size += TRACER_CHUNK_NODES * item_sizes[WIDE];
        }
    }
    return size;
}

void
_PyTracer_MakeTwin(uint32_t id)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->twin == 0) {
        node->twin = _PyTracer.ntwins++;
        assert(_PyTracer.ntwins <= _PyTracer.nnodes);
    }
}

int
_PyTracer_TreeInit(void)
{
    if (_PyTracer_IndexInit(&children, INITIAL_BUCKETS) < 0
        || reserve_arrays() < 0 || make_chunk() < 0)
    {
        return -1;
    }
    _PyTracer.ntwins = 1;
    _PyTracer.nnodes = TRACER_NODE_FIRST;
    _PyTracer.most_saved = 0;
    _PyTracer.prune_at = _PyTracer.limit == 1 ? UINT32_MAX
                         : Py_MIN(TRACER_PRUNE_AT, _PyTracer.max_nodes / 2);
    return 0;
}

void
_PyTracer_TreeClear(void)
{
    release_arrays();
    _PyTracer_IndexClear(&children);
    _PyTracer.nnodes = 0;
    _PyTracer.ntwins = 0;
    _PyTracer.most_saved = 0;
}

static uint32_t
hash_child(uint32_t parent, uint32_t location)
{
    uint64_t x = ((uint64_t)parent << 32 | location) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
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
    for (uint32_t id = TRACER_NODE_FIRST; id < _PyTracer.nnodes; id++) {
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

/* How often a location may stand on a path of the whole stack. */
static uint32_t
fold_limit(void)
{
    if (_PyTracer.nnodes < 1 << 15) {
        return 1000;
    }
    return _PyTracer.nnodes < 1 << 17 ? 8 : 1;
}

/* The nearest ancestor-or-self at the location, if it stands too often on the
   path already; else NONE. */
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

static uint32_t
append_node(uint32_t parent, uint32_t location)
{
    uint32_t id = _PyTracer.nnodes;
    assert(id < _PyTracer.max_nodes);
    if (id == ncommitted / NARRAYS * TRACER_CHUNK_NODES && make_chunk() < 0) {
        return TRACER_NODE_NONE;
    }
    struct tracer_node *node = _PyTracer_Node(id);
    node->parent = parent;
    node->location = location;
    _PyTracer.nnodes++;
    return id;
}

/* With a limit of one frame, the nodes are the locations, in their order;
   number 0 of these is no place in a program. */
static uint32_t
node_of_location(uint32_t location)
{
    uint32_t id = TRACER_NODE_FIRST + location - 1;
    if (id >= _PyTracer.max_nodes) {
        _PyTracer.folded++;
        return TRACER_NODE_UNKNOWN;
    }
    while (_PyTracer.nnodes <= id) {
        uint32_t next = _PyTracer.nnodes - TRACER_NODE_FIRST + 1;
        if (append_node(0, next) == TRACER_NODE_NONE) {
            return TRACER_NODE_NONE;
        }
    }
    return id;
}

static uint32_t
make_node(uint32_t parent, uint32_t location, uint32_t hash)
{
    if (_PyTracer.nnodes == _PyTracer.max_nodes) {
        _PyTracer.folded++;
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
           || parent < _PyTracer.nnodes);
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
        uint32_t target = fold_target(parent, location);
        if (target != TRACER_NODE_NONE) {
            _PyTracer.folded++;
            return target;
        }
    }
    return make_node(parent, location, hash);
}

/* --- Is all of it right? */

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
    if (node->location == 0 || node->location >= _PyTracer.nlocations) {
        return "a node has no location";
    }
    if (node->twin >= _PyTracer.ntwins) {
        return "a node has a twin that was never made";
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
    if (_PyTracer.nnodes < TRACER_NODE_FIRST
        || _PyTracer.nnodes > _PyTracer.max_nodes
        || _PyTracer.nnodes > ncommitted / NARRAYS * TRACER_CHUNK_NODES)
    {
        return "there are more nodes than memory for them";
    }
    uint32_t ntwins = 1;
    for (uint32_t id = 0; id < TRACER_NODE_FIRST; id++) {
        ntwins += _PyTracer_Node(id)->twin != 0;
    }
    for (uint32_t id = TRACER_NODE_FIRST; id < _PyTracer.nnodes; id++) {
        const char *fault = node_fault(id);
        if (fault != NULL) {
            return fault;
        }
        ntwins += _PyTracer_Node(id)->twin != 0;
    }
    if (ntwins != _PyTracer.ntwins) {
        return "a twin has no node";
    }
    if (_PyTracer.limit > 1
        && children.used != _PyTracer.nnodes - TRACER_NODE_FIRST)
    {
        return "the index of children has other nodes than the tree";
    }
    static const struct tracer_twin none = {0};
    if (memcmp(&_PyTracer.twins[0], &none, sizeof(none)) != 0) {
        return "the twin of nodes without one counts";
    }
    return NULL;
}
