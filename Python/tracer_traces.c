/* All traces as stock's list of tuples.

   The blocks are copied under the lock into memory of the tracer's own kind
   (libc's malloc), then the objects are made; equal tuples of frames are one
   object, though their nodes may differ in older frames. */

#include "Python.h"
#include "pycore_hashtable.h"     // _Py_hashtable_t
#include "pycore_tracer_core.h"
#include "pycore_tracer_trace.h"

struct block {
    size_t size;
    uint32_t node;
    uint32_t domain;
};

struct blocks {
    struct block *items;
    size_t used, capacity;
};

static int
add_block(struct blocks *blocks, size_t size, uint32_t node, uint32_t domain)
{
    if (_PyTracer_IsParked(node)) {
        return 0;
    }
    if (blocks->used == blocks->capacity) {
        size_t capacity = blocks->capacity ? blocks->capacity * 2 : 4096;
        void *items = realloc(blocks->items,
                              capacity * sizeof(struct block));
        if (items == NULL) {
            return -1;
        }
        blocks->items = items;
        blocks->capacity = capacity;
    }
    blocks->items[blocks->used++] = (struct block){size, node, domain};
    return 0;
}

static int
add_pool(const struct tracer_pool *pool, void *arg)
{
    for (uint32_t i = 0; pool->entries != NULL && i < pool->nblocks; i++) {
        uint32_t entry = pool->entries[i];
        if (entry != 0
            && add_block(arg, pool->block_size - TRACER_ENTRY_SLACK(entry),
                         TRACER_ENTRY_NODE(entry), 0) < 0)
        {
            return -1;
        }
    }
    return 0;
}

static int
copy_blocks(struct blocks *blocks)
{
    if (_PyTracer_VisitPools(add_pool, blocks) < 0) {
        return -1;
    }
    const struct tracer_map *map = &_PyTracer.map;
    for (size_t i = 0; i <= map->mask; i++) {
        const struct tracer_record *record = &map->records[i];
        if (record->node != TRACER_NODE_NONE
            && add_block(blocks, record->size, record->node,
                         record->domain) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* Borrowed reference; interned in `tuples`. */
static PyObject *
frames_of(_Py_hashtable_t *cache, PyObject *tuples, uint32_t node)
{
    const void *key = (const void *)(uintptr_t)node;
    PyObject *frames = _Py_hashtable_get(cache, key);
    if (frames == NULL) {
        PyObject *fresh = _PyTracer_GetNodeFrames(node);
        if (fresh == NULL) {
            return NULL;
        }
        frames = PyDict_SetDefault(tuples, fresh, fresh);
        Py_DECREF(fresh);
        if (frames != NULL && _Py_hashtable_set(cache, key, frames) < 0) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    return frames;
}

static PyObject *
make_list(const struct blocks *blocks, _Py_hashtable_t *cache,
          PyObject *tuples)
{
    PyObject *list = PyList_New((Py_ssize_t)blocks->used);
    for (size_t i = 0; list != NULL && i < blocks->used; i++) {
        const struct block *block = &blocks->items[i];
        PyObject *frames = frames_of(cache, tuples, block->node);
        uint32_t depth = _PyTracer_Node(block->node)->depth;
        PyObject *trace = frames == NULL ? NULL : Py_BuildValue(
            "(InON)", block->domain, (Py_ssize_t)block->size, frames,
            depth ? PyLong_FromUnsignedLong(depth) : Py_NewRef(Py_None));
        if (trace == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, trace);
    }
    return list;
}

PyObject *
_PyTraceMalloc_GetTraces(void)
{
    struct blocks blocks = {0};
    int result = 0;
    HEAD_LOCK(&_PyRuntime);
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        result = copy_blocks(&blocks);
    }
    _PyTracer_Unlock();
    HEAD_UNLOCK(&_PyRuntime);
    _Py_hashtable_allocator_t allocator = {malloc, free};
    _Py_hashtable_t *cache = _Py_hashtable_new_full(
        _Py_hashtable_hash_ptr, _Py_hashtable_compare_direct, NULL, NULL,
        &allocator);
    PyObject *tuples = PyDict_New();
    PyObject *list = NULL;
    if (result < 0 || cache == NULL) {
        PyErr_NoMemory();
    }
    else if (tuples != NULL) {
        list = make_list(&blocks, cache, tuples);
    }
    Py_XDECREF(tuples);
    if (cache != NULL) {
        _Py_hashtable_destroy(cache);
    }
    free(blocks.items);
    return list;
}
