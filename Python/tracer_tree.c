/* The call tree.

   A node is (parent, location) and never moves or changes its identity while
   tracing runs: the entry of a live block names it.  Children are found in
   one hash table over all nodes.

   With the whole stack ("full"), recursion would make the tree as large as
   the number of different stacks.  When a location would stand on a path more
   often than fold_limit() allows, which shrinks as the tree grows, the
   nearest ancestor at the same location takes its place: the recursion is
   folded, the block keeps its line, and the number of folds is reported.
   With a limit of k frames paths are cut, see tracer_stack.c.

   Locked, but for reading the counters. */

#include "Python.h"
#include "pycore_tracer_core.h"

#define INITIAL_BUCKETS 2048
#define CHUNK_SIZE (TRACER_CHUNK_NODES * sizeof(struct tracer_node))
#define TWINS_SIZE (TRACER_CHUNK_NODES * sizeof(struct tracer_twin))
#define GARBAGE_SIZE (TRACER_CHUNK_NODES * sizeof(struct tracer_garbage))

static uint32_t *buckets;         // node id, open addressing; 0: empty
static uint32_t mask;
static uint32_t nchunks;          // of nodes, in use

/* Where address space is limited (ulimit -v), fewer nodes have to do. */
static int
reserve_nodes(void)
{
    uint32_t n = TRACER_MAX_NODES;
    for (; n >= TRACER_CHUNK_NODES * 4; n /= 4) {
        _PyTracer.nodes = _PyTracer_MemReserve(n * sizeof(struct tracer_node));
        if (_PyTracer.nodes != NULL) {
            _PyTracer.max_nodes = n;
            return 0;
        }
    }
    return -1;
}

/* Nodes come with their garbage counters; what is not touched costs
   nothing. */
static int
make_chunk(void)
{
    uint32_t i = nchunks;
    if (_PyTracer.garbage[i] == NULL) {
        _PyTracer.garbage[i] = _PyTracer_MemAlloc(GARBAGE_SIZE);
    }
    if (_PyTracer.garbage[i] == NULL
        || _PyTracer_MemCommit(_PyTracer.nodes, i * CHUNK_SIZE,
                               (i + 1) * CHUNK_SIZE) < 0)
    {
        return -1;
    }
    nchunks++;
    return 0;
}

static int
make_twin_chunk(uint32_t number)
{
    struct tracer_twin **chunk = &_PyTracer.twins[number
                                                  >> TRACER_CHUNK_BITS];
    if (*chunk == NULL) {
        *chunk = _PyTracer_MemAlloc(TWINS_SIZE);
    }
    return *chunk == NULL ? -1 : 0;
}

int
_PyTracer_MakeTwin(uint32_t id)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->twin == 0) {
        if (make_twin_chunk(_PyTracer.ntwins) < 0) {
            return -1;
        }
        node->twin = _PyTracer.ntwins++;
    }
    return 0;
}

int
_PyTracer_TreeInit(void)
{
    mask = INITIAL_BUCKETS - 1;
    buckets = _PyTracer_MemAlloc((mask + 1) * sizeof(uint32_t));
    if (buckets == NULL || reserve_nodes() < 0 || make_chunk() < 0
        || make_twin_chunk(0) < 0)
    {
        return -1;
    }
    _PyTracer.ntwins = 1;
    _PyTracer.nnodes = TRACER_NODE_FIRST;
    _PyTracer_Node(TRACER_NODE_UNKNOWN)->depth = 1;
    return 0;
}

void
_PyTracer_TreeClear(void)
{
    _PyTracer_MemRelease(_PyTracer.nodes,
                         _PyTracer.max_nodes * sizeof(struct tracer_node),
                         nchunks * CHUNK_SIZE);
    _PyTracer.nodes = NULL;
    nchunks = 0;
    for (uint32_t i = 0; i < TRACER_MAX_CHUNKS; i++) {
        _PyTracer_MemFree(_PyTracer.garbage[i], GARBAGE_SIZE);
        _PyTracer.garbage[i] = NULL;
        _PyTracer.has_garbage[i] = 0;
        _PyTracer_MemFree(_PyTracer.twins[i], TWINS_SIZE);
        _PyTracer.twins[i] = NULL;
    }
    _PyTracer_MemFree(buckets, (mask + 1) * sizeof(uint32_t));
    buckets = NULL;
    _PyTracer.nnodes = 0;
}

static uint32_t
hash_child(uint32_t parent, uint32_t location)
{
    uint64_t x = ((uint64_t)parent << 32 | location) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

static uint32_t *
find_bucket(uint32_t parent, uint32_t location)
{
    uint32_t i = hash_child(parent, location) & mask;
    for (; buckets[i] != 0; i = (i + 1) & mask) {
        struct tracer_node *node = _PyTracer_Node(buckets[i]);
        if (node->parent == parent && node->location == location) {
            break;
        }
    }
    return &buckets[i];
}

static int
grow_buckets(void)
{
    uint32_t new_mask = mask * 2 + 1;
    uint32_t *grown = _PyTracer_MemAlloc((new_mask + 1) * sizeof(uint32_t));
    if (grown == NULL) {
        return -1;
    }
    _PyTracer_MemFree(buckets, (mask + 1) * sizeof(uint32_t));
    buckets = grown;
    mask = new_mask;
    for (uint32_t id = TRACER_NODE_FIRST; id < _PyTracer.nnodes; id++) {
        struct tracer_node *node = _PyTracer_Node(id);
        *find_bucket(node->parent, node->location) = id;
    }
    return 0;
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
make_node(uint32_t parent, uint32_t location, uint32_t *bucket)
{
    uint32_t id = _PyTracer.nnodes;
    if (id == _PyTracer.max_nodes) {
        _PyTracer.folded++;
        return has_parent(parent) ? parent : TRACER_NODE_UNKNOWN;
    }
    if (id > mask / 2) {
        if (grow_buckets() == 0) {
            bucket = find_bucket(parent, location);
        }
        else if (id > mask - mask / 8) {
            return TRACER_NODE_NONE;
        }
    }
    if (id == nchunks * TRACER_CHUNK_NODES && make_chunk() < 0) {
        return TRACER_NODE_NONE;
    }
    struct tracer_node *node = _PyTracer_Node(id);
    node->parent = parent;
    node->location = location;
    node->twin = 0;
    if (_PyTracer.limit > 1) {
        node->depth = 1 + (has_parent(parent) ? _PyTracer_Node(parent)->depth
                                              : parent & ~TRACER_TRUNCATED);
    }
    node->peak_epoch = 0;
    *bucket = id;
    _PyTracer.nnodes++;
    return id;
}

uint32_t
_PyTracer_Child(uint32_t parent, uint32_t location)
{
    assert(parent == 0 || (parent & TRACER_TRUNCATED)
           || parent < _PyTracer.nnodes);
    uint32_t *bucket = find_bucket(parent, location);
    if (*bucket != 0) {
        return *bucket;
    }
    if (_PyTracer.limit == UINT32_MAX) {
        uint32_t target = fold_target(parent, location);
        if (target != TRACER_NODE_NONE) {
            _PyTracer.folded++;
            return target;
        }
    }
    return make_node(parent, location, bucket);
}
