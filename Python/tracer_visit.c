/* The tracer's interface for modules: visiting pools and, for tests, every
   block.  The tests compare the blocks, one by one, with what their own
   allocator has seen. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_native_cells.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_visit.h"

struct visitor {
    void (*visit)(const struct tracer_block *, void *);
    void *arg;
};

static int
visit_pool(const struct tracer_pool *pool, void *arg)
{
    const struct visitor *v = arg;
    for (uint32_t i = 0; pool->entries != NULL && i < pool->nblocks; i++) {
        uint32_t entry = pool->entries[i];
        if (entry != 0 && entry != TRACER_ENTRY_MAPPED) {
            assert(TRACER_ENTRY_NODE(entry) < _PyTracer_tree.nnodes);
            struct tracer_block block = {
                .address = (uintptr_t)pool->blocks
                           + (size_t)i * pool->block_size,
                .size = TRACER_ENTRY_SIZE(entry),
                .node = TRACER_ENTRY_NODE(entry),
                .kind = TRACER_ENTRY_DOMAIN(entry),
            };
            v->visit(&block, v->arg);
        }
    }
    return 0;
}

static void
visit_record(const struct tracer_record *r, void *arg)
{
    const struct visitor *v = arg;
    struct tracer_block block = {r->address, r->size, r->node,
                                 Py_MIN(r->kind, TRACER_EXTERNAL),
                                 _PyTracer_DomainOf(r)};
    v->visit(&block, v->arg);
}

int
_PyTracer_VisitBlocks(void (*visit)(const struct tracer_block *, void *),
                      void *arg)
{
    _PyTracer_LockAll();
    int tracing = _PyTracer.tracing;
    if (tracing) {
        struct visitor v = {visit, arg};
        (void)_PyTracer_VisitPools(visit_pool, &v);
        const struct tracer_map *map = &_PyTracer_map;
        for (size_t i = 0; i <= map->mask; i++) {
            if (map->records[i].node != TRACER_NODE_NONE) {
                visit_record(&map->records[i], &v);
            }
        }
        _PyTracer_VisitCells(visit_record, &v);
    }
    _PyTracer_UnlockAll();
    return tracing;
}

uint32_t
_PyTracer_CountNodes(void)
{
    return _PyTracer_tree.nnodes;
}

void
_PyTracer_ShowPools(int (*visit)(const struct tracer_pool *pool, void *arg),
                    void *arg)
{
    _PyTracer_LockAll();
    (void)_PyTracer_VisitPools(visit, arg);
    _PyTracer_UnlockAll();
}

void
_PyTracer_VisitHeaps(void (*visit)(uintptr_t address, void *arg), void *arg)
{
    struct _PyTracer_visitor visitor = {visit, arg};
    _PyTracer_VisitHeapsOf(_PyInterpreterState_GET(), &visitor);
}

void
_PyTracer_GetLive(uint32_t node, uint64_t *blocks, uint64_t *bytes)
{
    assert(node != TRACER_NODE_NONE && node < _PyTracer_tree.nnodes);
    if (_PyTracer_IsParked(node)) {
        _PyTracer_GetParked(node - TRACER_NODE_PARKED, blocks, bytes);
        return;
    }
    struct tracer_counts counts = _PyTracer_Counts(node);
    struct tracer_sum small = _PyTracer_Live(&counts);
    struct tracer_sum map = _PyTracer_Live(&_PyTracer_Rare(node)->counts);
    *blocks = small.blocks + map.blocks;
    *bytes = small.bytes + map.bytes;
}

uint32_t
_PyTracer_GetPath(uint32_t node, struct tracer_place *places, uint32_t n)
{
    uint32_t found = Py_MIN(_PyTracer_NFrames(node), n);
    for (uint32_t i = 0; i < found; i++) {
        const struct tracer_location *loc = _PyTracer_LocationAt(node);
        places[i].filename = _PyTracer_FilenameOf(loc)->utf8;
        places[i].line = _PyTracer_PositionOf(loc).line;
        node = _PyTracer_Node(node)->parent;
    }
    return found;
}
