/* Pruning of the call tree.

   In a long run, the tree gets nodes for old stacks whose blocks are all
   dead.  When the tree has grown to prune_at nodes, nodes are given back that
   hold no live block, held none at the peak or at another of the highest
   moments, and have no node below them that did.  The totals of what was
   allocated there, and of garbage, stay with the line: they are added to a
   stump, a node of the same location without callers.  The number of pruned
   nodes is reported.

   The nodes that are left move together, in their order, so that a parent
   still has a smaller number than its children.  All references to nodes by
   number are updated: entries of small blocks, records of the map, cells of
   native blocks, saved values of the peak, rare counters, the index of
   children.  Caches and shadow stacks are emptied.  When pruning is due, a
   capture with the GIL that finds no node prunes before it looks again;
   without a GIL, a capture that has taken the lock prunes before it looks.
   All steps that may fail come first: without memory, nothing is changed. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_keep_copy.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native_cells.h"
#include "pycore_tracer_origins.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_valid.h"
#include "pycore_tracer_windows.h"

#define USUAL_SIZE 64             // bytes of a small block
#define BLOCKS_PER_NODE 16        // are walked in the time of a new node

struct pruning {
    uint32_t *numbers;            // by old number: the new one, 0: it goes
    uint32_t *rares;              // the same of rare counters
    uint32_t *natives;            // the same of those of native memory
    uint32_t *stumps;             // by location, 0: none
    uint32_t *saved;              // values of the peak, in their new order
    uint32_t nnodes, nrares, nnatives, nsaved, nlocations;    // before
};

static void
free_pruning(struct pruning *p)
{
    _PyTracer_MemFree(p->numbers, p->nnodes * sizeof(*p->numbers));
    _PyTracer_MemFree(p->rares, p->nrares * sizeof(*p->rares));
    _PyTracer_MemFree(p->natives, (p->nnatives + 1) * sizeof(*p->natives));
    _PyTracer_MemFree(p->stumps, p->nlocations * sizeof(*p->stumps));
    _PyTracer_MemFree(p->saved, (p->nsaved + 1) * sizeof(*p->saved));
}

static int
begin_pruning(struct pruning *p)
{
    _PyTracer_ASSERT_LOCKED();
    assert(_PyTracer.tracing);
    assert(!_PyTracer.many_gils || !_PyTracer_HAS_GIL);
    p->nnodes = _PyTracer_tree.nnodes;
    p->nrares = _PyTracer_tree.nrares;
    p->nnatives = _PyTracer_tree.nnatives;
    p->nsaved = _PyTracer_tree.next_saved - _PyTracer_tree.first_saved;
    p->nlocations = _PyTracer_places.nlocations;
    p->numbers = _PyTracer_MemAlloc(p->nnodes * sizeof(*p->numbers));
    p->rares = _PyTracer_MemAlloc(p->nrares * sizeof(*p->rares));
    p->natives = _PyTracer_MemAlloc((p->nnatives + 1) * sizeof(*p->natives));
    p->stumps = _PyTracer_MemAlloc(p->nlocations * sizeof(*p->stumps));
    p->saved = _PyTracer_MemAlloc((p->nsaved + 1) * sizeof(*p->saved));
    if (p->numbers == NULL || p->rares == NULL || p->natives == NULL
        || p->stumps == NULL || p->saved == NULL)
    {
        free_pruning(p);
        return -1;
    }
    return 0;
}

/* --- Which nodes go */

static int
has_parent(const struct tracer_node *node)
{
    return node->parent != 0 && !(node->parent & TRACER_TRUNCATED);
}

static int
is_needed(uint32_t id)
{
    struct tracer_counts counts = _PyTracer_Counts(id);
    const struct tracer_rare *rare = _PyTracer_Rare(id);
    return !has_parent(_PyTracer_Node(id))
           || _PyTracer_Live(&counts).blocks != 0
           || _PyTracer_Live(&rare->counts).blocks != 0
           || _PyTracer_Live(_PyTracer_NativeCounts(id)).blocks != 0
           || (_PyTracer.epoch != 0 && _PyTracer_AllAtPeak(id).blocks != 0);
}

static void
add_counts(struct tracer_counts *to, const struct tracer_counts *from)
{
    to->alloc_bytes += from->alloc_bytes;
    to->alloc_blocks += from->alloc_blocks;
    to->free_bytes += from->free_bytes;
    to->free_blocks += from->free_blocks;
}

/* A stump without such counters takes over the node's. */

static void
add_native(struct tracer_rare *to, struct tracer_rare *from)
{
    struct tracer_counts *natives = _PyTracer_tree.natives;
    if (from->native == 0) {
        return;
    }
    assert(from->native < _PyTracer_tree.nnatives);
    if (to->native == 0) {
        to->native = from->native;
        from->native = 0;
        return;
    }
    add_counts(&natives[to->native], &natives[from->native]);
}

static void
add_rare(struct tracer_node *stump, struct tracer_node *node)
{
    if (node->rare == 0) {
        return;
    }
    assert(node->rare < _PyTracer_tree.nrares && node->rare != stump->rare);
    if (stump->rare == 0) {
        stump->rare = node->rare;
        node->rare = 0;
        return;
    }
    struct tracer_rare *to = &_PyTracer_tree.rares[stump->rare];
    struct tracer_rare *from = &_PyTracer_tree.rares[node->rare];
    add_counts(&to->counts, &from->counts);
    add_native(to, from);
    to->garbage.bytes += from->garbage.bytes;
    to->garbage.blocks += from->garbage.blocks;
}

/* The node has no live blocks: the stump's live values do not change, nor its
   values at the peak. */
static void
add_to_stump(uint32_t stump, uint32_t id)
{
    struct tracer_node *node = _PyTracer_Node(stump);
    struct tracer_counts counts = _PyTracer_Counts(id);
    assert(stump != id && node->location == _PyTracer_Node(id)->location);
    assert(counts.alloc_bytes == counts.free_bytes);
    assert(counts.alloc_blocks == counts.free_blocks);
    if (counts.alloc_bytes > UINT32_MAX - Py_MAX(node->alloc_bytes,
                                                 node->free_bytes))
    {
        _PyTracer_Spill(stump);
        add_counts(&_PyTracer_tree.spills[stump].counts, &counts);
    }
    else {
        node->alloc_bytes += (uint32_t)counts.alloc_bytes;
        node->alloc_blocks += (uint32_t)counts.alloc_blocks;
        node->free_bytes += (uint32_t)counts.free_bytes;
        node->free_blocks += (uint32_t)counts.free_blocks;
    }
    add_rare(node, _PyTracer_Node(id));
}

static int
has_totals(uint32_t id)
{
    return _PyTracer_Counts(id).alloc_blocks != 0
           || _PyTracer_Node(id)->rare != 0;
}

/* How many frames of the stack are below the node's. */
static uint32_t
depth_of(uint32_t id)
{
    uint32_t parent = _PyTracer_Node(id)->parent;
    uint32_t depth = 0;
    for (; parent != 0 && !(parent & TRACER_TRUNCATED); depth++) {
        parent = _PyTracer_Node(parent)->parent;
    }
    return depth + (parent & ~TRACER_TRUNCATED);
}

/* Nodes that begin a path in the middle of the stack are stumps. */
static void
find_stumps(struct pruning *p)
{
    for (uint32_t id = TRACER_NODE_FIRST; id < p->nnodes; id++) {
        const struct tracer_node *node = _PyTracer_Node(id);
        if (node->parent & TRACER_TRUNCATED) {
            p->stumps[node->location] = id;
        }
    }
}

/* May the node go?  The first of its location becomes its stump. */
static int
give_back(struct pruning *p, uint32_t id)
{
    if (is_needed(id)) {
        return 0;
    }
    if (has_totals(id)) {
        struct tracer_node *node = _PyTracer_Node(id);
        uint32_t *stump = &p->stumps[node->location];
        if (*stump == 0) {
            *stump = id;
            node->parent = TRACER_TRUNCATED | depth_of(id);
            return 0;
        }
        add_to_stump(*stump, id);
    }
    return 1;
}

/* Children have greater numbers than their parents: one pass from the last
   node to the first. */
static void
choose_nodes(struct pruning *p)
{
    find_stumps(p);
    for (uint32_t id = p->nnodes - 1; id >= TRACER_NODE_FIRST; id--) {
        const struct tracer_node *node = _PyTracer_Node(id);
        assert(!has_parent(node) || node->parent < id);
        if (p->numbers[id] || !give_back(p, id)) {
            p->numbers[id] = 1;
            if (has_parent(node)) {
                p->numbers[node->parent] = 1;
            }
        }
    }
}

/* --- Moving those that stay */

static void
move_spill(uint32_t to, uint32_t from)
{
    uint8_t *spilled = _PyTracer_chunk_spilled;
    if (spilled[from >> TRACER_CHUNK_BITS]) {
        _PyTracer_tree.spills[to] = _PyTracer_tree.spills[from];
        spilled[to >> TRACER_CHUNK_BITS] = 1;
    }
    else if (spilled[to >> TRACER_CHUNK_BITS]) {
        _PyTracer_tree.spills[to] = (struct tracer_spill){0};
    }
}

/* The part behind the last node is as if it had never been used. */
static void
clear_tail(uint32_t nnodes, uint32_t end)
{
    memset(_PyTracer_Node(nnodes), 0,
           (end - nnodes) * sizeof(struct tracer_node));
    uint32_t id = nnodes;
    while (id < end) {
        uint32_t chunk = id >> TRACER_CHUNK_BITS;
        uint32_t next = (chunk + 1) << TRACER_CHUNK_BITS;
        if (_PyTracer_chunk_spilled[chunk]) {
            memset(&_PyTracer_tree.spills[id], 0,
                   (next - id) * sizeof(struct tracer_spill));
            _PyTracer_chunk_spilled[chunk] = (id & (TRACER_CHUNK_NODES - 1))
                                             != 0;
        }
        id = next;
    }
}

static void
move_nodes(struct pruning *p)
{
    uint32_t next = TRACER_NODE_FIRST;
    for (uint32_t id = 0; id < TRACER_NODE_FIRST; id++) {
        p->numbers[id] = id;
    }
    for (uint32_t id = next; id < p->nnodes; id++) {
        if (!p->numbers[id]) {
            continue;
        }
        assert(next <= id);
        if (id != next) {
            move_spill(next, id);
            *_PyTracer_Node(next) = *_PyTracer_Node(id);
        }
        struct tracer_node *node = _PyTracer_Node(next);
        if (has_parent(node)) {
            node->parent = p->numbers[node->parent];
            assert(node->parent >= TRACER_NODE_FIRST && node->parent < next);
        }
        p->numbers[id] = next++;
    }
    clear_tail(next, p->nnodes);
    _PyTracer_tree.nnodes = next;
    _PyTracer_tree.pruned += p->nnodes - next;
}

/* There is room for as many saved values as nodes, so the numbers of pruned
   nodes' values are used again. */
static void
move_saved(struct pruning *p)
{
    if (_PyTracer.epoch == 0) {
        return;
    }
    uint32_t n = 0;
    for (uint32_t id = 0; id < _PyTracer_tree.nnodes; id++) {
        struct tracer_node *node = _PyTracer_Node(id);
        if (node->saved >= _PyTracer.epoch) {
            assert(n < p->nsaved);
            p->saved[n] = _PyTracer_tree.saved[node->saved - _PyTracer.epoch];
            node->saved = _PyTracer.epoch + n++;
        }
    }
    assert(n <= _PyTracer_tree.nnodes);
    memcpy(_PyTracer_tree.saved, p->saved, n * sizeof(*p->saved));
    _PyTracer_tree.most_saved = Py_MAX(_PyTracer_tree.most_saved, p->nsaved);
    _PyTracer_tree.next_saved = _PyTracer.epoch + n;
}

static void
move_rares(struct pruning *p)
{
    for (uint32_t id = 0; id < _PyTracer_tree.nnodes; id++) {
        p->rares[_PyTracer_Node(id)->rare] = 1;
    }
    uint32_t next = 1;
    for (uint32_t number = 1; number < p->nrares; number++) {
        if (p->rares[number]) {
            _PyTracer_tree.rares[next] = _PyTracer_tree.rares[number];
            p->rares[number] = next++;
        }
    }
    assert(next <= p->nrares);
    p->rares[0] = 0;
    memset(&_PyTracer_tree.rares[next], 0,
           (p->nrares - next) * sizeof(struct tracer_rare));
    _PyTracer_tree.nrares = next;
    for (uint32_t id = 0; id < _PyTracer_tree.nnodes; id++) {
        struct tracer_node *node = _PyTracer_Node(id);
        node->rare = p->rares[node->rare];
    }
}

/* Only the rare counters that are left refer to these. */
static void
move_natives(struct pruning *p)
{
    struct tracer_call_tree *tree = &_PyTracer_tree;
    if (p->nnatives == 0) {
        return;
    }
    for (uint32_t i = 1; i < tree->nrares; i++) {
        p->natives[tree->rares[i].native] = 1;
    }
    uint32_t next = 1;
    for (uint32_t number = 1; number < p->nnatives; number++) {
        if (p->natives[number]) {
            tree->natives[next] = tree->natives[number];
            p->natives[number] = next++;
        }
    }
    p->natives[0] = 0;
    memset(&tree->natives[next], 0,
           (p->nnatives - next) * sizeof(*tree->natives));
    tree->nnatives = next;
    for (uint32_t i = 1; i < tree->nrares; i++) {
        tree->rares[i].native = p->natives[tree->rares[i].native];
    }
}

/* --- References to nodes by number */

static int
renumber_pool(const struct tracer_pool *pool, void *arg)
{
    const struct pruning *p = arg;
    for (uint32_t i = 0; pool->entries != NULL && i < pool->nblocks; i++) {
        uint32_t entry = pool->entries[i];
        if (entry != 0) {
            uint32_t node = p->numbers[TRACER_ENTRY_NODE(entry)];
            assert(node != TRACER_NODE_NONE);
            pool->entries[i] = TRACER_ENTRY_MOVE(entry, node);
        }
    }
    return 0;
}

static void
renumber_map(const struct pruning *p)
{
    const struct tracer_map *map = &_PyTracer_map;
    for (size_t i = 0; i <= map->mask; i++) {
        uint32_t node = p->numbers[map->records[i].node];
        assert((node == TRACER_NODE_NONE)
               == (map->records[i].node == TRACER_NODE_NONE));
        map->records[i].node = node;
    }
}

/* As many new nodes as are worth a walk over all blocks. */
static uint32_t
worth_a_walk(void)
{
    uint64_t small = (uint64_t)Py_MAX(_PyTracer.small_current, 0);
    uint64_t blocks = small / USUAL_SIZE + _PyTracer_map.mask
                      + _PyTracer_cells.used;
    return (uint32_t)Py_MIN(blocks / BLOCKS_PER_NODE,
                            _PyTracer_tree.max_nodes / 4);
}

/* Prune again when the tree has doubled.  If nearly all of it is alive and it
   cannot double, pruning is not worth the walk. */
static void
set_next_time(void)
{
    struct tracer_call_tree *tree = &_PyTracer_tree;
    uint32_t more = Py_MAX(tree->nnodes, worth_a_walk());
    tree->prune_at = Py_MAX(tree->prune_least, tree->nnodes + more);
    if (tree->prune_at >= tree->max_nodes) {
        tree->prune_at = tree->nnodes < tree->max_nodes / 4 * 3
                         ? tree->max_nodes - 1 : UINT32_MAX;
    }
}

static void
prune_locked(void)
{
    struct pruning p = {0};
    if (begin_pruning(&p) < 0) {
        _PyTracer_tree.prune_at = _PyTracer_tree.nnodes + TRACER_CHUNK_NODES;
        return;
    }
    _PyTracer_AssertValid("prune");
    _PyTracer_ForgetStacks();
    assert(_PyTracer.limit > 1);
    _PyTracer_MarkHighs(p.numbers);
    _PyTracer_MarkOrigins(p.numbers);
    _PyTracer_BeginMoving();
    choose_nodes(&p);
    move_nodes(&p);
    _PyTracer_RenumberHighs(p.numbers);
    _PyTracer_RenumberOrigins(p.numbers);
    move_saved(&p);
    move_rares(&p);
    move_natives(&p);
    _PyTracer_EndMoving();
    (void)_PyTracer_VisitPools(renumber_pool, &p);
    renumber_map(&p);
    _PyTracer_RenumberCells(p.numbers);
    _PyTracer_ReindexTree();
    _PyTracer.clears++;
    free_pruning(&p);
    set_next_time();
    _PyTracer_AssertValid("prune, after");
}

/* This thread may hold HEAD_LOCK, or another one may hold it and wait for the
   GIL: then pruning waits for another capture. */
static void
prune(void)
{
    _PyTracer_tree.must_prune = 0;
    if (_PyTracer_TryLockAll()) {
        if (_PyTracer.tracing) {
            prune_locked();
        }
        _PyTracer_UnlockAll();
    }
}

uint32_t
_PyTracer_CaptureOrPrune(PyThreadState *tstate)
{
    uint32_t node = _PyTracer_CaptureSlow(tstate);
    if (node == TRACER_NODE_NONE && _PyTracer_tree.must_prune) {
        prune();
        node = _PyTracer_CaptureSlow(tstate);
    }
    return node;
}

/* No other thread is using a number of a node: without a GIL, everything is
   done under the lock. */
uint32_t
_PyTracer_CaptureAlone(PyThreadState *tstate)
{
    if (!_PyTracer_HAS_GIL
        && _PyTracer_tree.nnodes >= _PyTracer_tree.prune_at
        && _PyTracer_TryLockHead())
    {
        prune_locked();
        _PyTracer_UnlockTriedHead();
    }
    return _PyTracer_CaptureLocked(tstate);
}
