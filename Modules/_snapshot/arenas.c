/* Fragmentation of pymalloc's arenas in a snapshot: which blocks keep the
   nearly empty ones, which lines keep how much of all, and how full pools are.

   An arena is divided among the lines that have blocks in it, by the size of
   these blocks: if only one small block is left, its line keeps the whole
   arena.  The same goes for pools. */

#include "traces.h"

/* Arenas and pools begin with their address. */
static int
compare_addresses(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The last of n sorted ones that does not lie behind an address, or NULL. */
static const void *
find_last(const void *items, uint32_t n, size_t size, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_addresses((const char *)items + middle * size, &address)
            <= 0)
        {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low == 0 ? NULL : (const char *)items + (low - 1) * size;
}

/* The arena that holds an address, or NULL.  Sorted by address. */
static const struct snapshot_arena *
find_arena(const struct snapshot_arena *arenas, uint32_t n, uint64_t address)
{
    const struct snapshot_arena *arena = find_last(arenas, n, sizeof(*arenas),
                                                   address);
    return arena != NULL && address - arena->address < arena->size ? arena
                                                                   : NULL;
}

static int
append_block(TracesObject *self, PyObject *lists, Py_ssize_t i,
             const struct snapshot_block *block)
{
    PyObject *row = Py_BuildValue(
        "KNKN", (unsigned long long)block->address,
        _PyTracemalloc_GetString(self,
                                 self->data->classes[block->class_].name),
        (unsigned long long)block->size,
        _PyTracemalloc_GetFrames(self, block->node));
    int result = row == NULL ? -1
                             : PyList_Append(PyList_GET_ITEM(lists, i), row);
    Py_XDECREF(row);
    return result;
}

static int
append_blocks(TracesObject *self, PyObject *lists,
              const struct snapshot_arena *arenas, uint32_t n)
{
    struct tracer_snapshot *s = self->data;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        if (s->classes[block->class_].kind == SNAPSHOT_EXTERNAL) {
            continue;
        }
        const struct snapshot_arena *arena = find_arena(arenas, n,
                                                        block->address);
        if (arena != NULL
            && append_block(self, lists, arena - arenas, block) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* [(address, size, used, blocks, [(address, type, size, frames)])] */
static PyObject *
arena_rows(TracesObject *self, const struct snapshot_arena *arenas,
           uint32_t n)
{
    PyObject *rows = PyList_New(0);
    PyObject *lists = PyList_New(n);
    if (rows == NULL || lists == NULL) {
        goto error;
    }
    for (uint32_t i = 0; i < n; i++) {
        PyObject *list = PyList_New(0);
        if (list == NULL) {
            goto error;
        }
        PyList_SET_ITEM(lists, i, list);
    }
    if (append_blocks(self, lists, arenas, n) < 0) {
        goto error;
    }
    for (uint32_t i = 0; i < n; i++) {
        PyObject *row = Py_BuildValue(
            "KKKKO", (unsigned long long)arenas[i].address,
            (unsigned long long)arenas[i].size,
            (unsigned long long)arenas[i].used,
            (unsigned long long)arenas[i].blocks, PyList_GET_ITEM(lists, i));
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_XDECREF(row);
            goto error;
        }
        Py_DECREF(row);
    }
    Py_DECREF(lists);
    return rows;
error:
    Py_XDECREF(rows);
    Py_XDECREF(lists);
    return NULL;
}

/* _pinned_arenas(max_occupancy: float) */
PyObject *
_PyTracemalloc_PinnedArenas(TracesObject *self, PyObject *occupancy)
{
    struct tracer_snapshot *s = self->data;
    double limit = PyFloat_AsDouble(occupancy);
    if (limit == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    SNAPSHOT_AUTO struct snapshot_arena *arenas =
        _PySnapshot_Array(s->narenas, sizeof(*arenas));
    if (arenas == NULL) {
        return PyErr_NoMemory();
    }
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->narenas; i++) {
        if ((double)s->arenas[i].used <= limit * (double)s->arenas[i].size) {
            arenas[n++] = s->arenas[i];
        }
    }
    qsort(arenas, n, sizeof(*arenas), compare_addresses);
    return arena_rows(self, arenas, n);
}

/* --- By line */

#define BLOCK_UNIT 16             // sizes of blocks are multiples of it

/* Arenas and pools, by their addresses. */
struct heap_parts {
    struct snapshot_arena *arenas;
    struct snapshot_pool *pools;
};

/* What the blocks of a line have. */
struct kept {
    uint64_t size, blocks;        // requested
    double bytes;                 // of arenas
    double sparse_bytes;          // of sparse pools
    uint32_t arenas, sparse_pools;    // that have some
    uint32_t last_arena, last_pool;   // of these, + 1
    uint32_t location;            // of one of the blocks
};

/* A pool that is less than a quarter full. */
static int
is_sparse(const struct snapshot_pool *pool)
{
    return 4u * pool->used < pool->room;
}

static void
keep_part_of_arena(struct kept *k, const struct snapshot_arena *arena,
                   uint32_t number, uint64_t size)
{
    uint64_t taken = (size + BLOCK_UNIT - 1) & ~(uint64_t)(BLOCK_UNIT - 1);
    k->bytes += (double)arena->size * (double)taken / (double)arena->used;
    k->arenas += k->last_arena != number;
    k->last_arena = number;
}

static void
keep_part_of_pool(struct kept *k, const struct snapshot_pool *pool,
                  uint32_t number, uint32_t pool_size)
{
    k->sparse_bytes += (double)pool_size / pool->used;
    k->sparse_pools += k->last_pool != number;
    k->last_pool = number;
}

/* Find what each line keeps; `lines` has the line of each node. */
static void
keep_parts(const struct tracer_snapshot *s, const struct heap_parts *parts,
           const uint32_t *lines, struct kept *kept)
{
    const struct snapshot_arena *arena = NULL;
    const struct snapshot_pool *pool = NULL;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        if (s->classes[block->class_].kind == SNAPSHOT_EXTERNAL) {
            continue;
        }
        /* Mostly they are those of the previous block. */
        if (arena == NULL || block->address - arena->address >= arena->size) {
            arena = find_arena(parts->arenas, s->narenas, block->address);
        }
        if (arena == NULL || arena->used == 0) {
            continue;
        }
        if (pool == NULL || block->address - pool->address >= s->pool_size) {
            pool = find_last(parts->pools, s->npools, sizeof(*pool),
                             block->address);
        }
        struct kept *k = &kept[lines[block->node]];
        k->location = s->nodes[block->node].location;
        k->size += block->size;
        k->blocks++;
        keep_part_of_arena(k, arena, (uint32_t)(arena - parts->arenas) + 1,
                           block->size);
        if (pool != NULL && block->address - pool->address < s->pool_size
            && is_sparse(pool))
        {
            keep_part_of_pool(k, pool, (uint32_t)(pool - parts->pools) + 1,
                              s->pool_size);
        }
    }
}

/* [(frame, size, count, arenas, bytes of arenas, sparse pools, bytes of
   these)] by line */
static PyObject *
kept_rows(TracesObject *self, const struct kept *kept, uint32_t nlines)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t i = 0; rows != NULL && i < nlines; i++) {
        const struct kept *k = &kept[i];
        if (k->blocks == 0) {
            continue;
        }
        PyObject *row = Py_BuildValue(
            "NKKIdId", _PyTracemalloc_GetFrame(self, k->location),
            (unsigned long long)k->size, (unsigned long long)k->blocks,
            k->arenas, k->bytes, k->sparse_pools, k->sparse_bytes);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* --- By size of the blocks */

#define FILLS 5                   // quarters, and full ones

static int
compare_sizes(const void *a, const void *b)
{
    const struct snapshot_pool *x = a;
    const struct snapshot_pool *y = b;
    return x->block_size != y->block_size ? x->block_size - y->block_size
                                          : x->room - y->room;
}

/* The pools of a size class, by how full they are. */
static PyObject *
class_row(const struct snapshot_pool *pools, uint32_t n)
{
    unsigned long long count[FILLS] = {0};
    unsigned long long used[FILLS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t fill = (FILLS - 1) * pools[i].used / pools[i].room;
        count[fill]++;
        used[fill] += pools[i].used;
    }
    return Py_BuildValue(
        "ii((KK)(KK)(KK)(KK)(KK))", pools->block_size, pools->room,
        count[0], used[0], count[1], used[1], count[2], used[2],
        count[3], used[3], count[4], used[4]);
}

/* [(block size, room of a pool, ((pools, used blocks) by how full))]; the
   pools are sorted by these. */
static PyObject *
class_rows(const struct snapshot_pool *pools, uint32_t n)
{
    PyObject *rows = PyList_New(0);
    for (uint32_t i = 0, next; rows != NULL && i < n; i = next) {
        next = i + 1;
        while (next < n && compare_sizes(&pools[i], &pools[next]) == 0) {
            next++;
        }
        PyObject *row = class_row(&pools[i], next - i);
        if (row == NULL || PyList_Append(rows, row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

/* Without the GIL: what is found of the lines, and the pools by size; NULL: no
   memory. */
static struct kept *
find_kept(const struct tracer_snapshot *s, struct heap_parts *parts,
          uint32_t *nlines)
{
    SNAPSHOT_AUTO uint32_t *lines = _PySnapshot_Array(s->nnodes,
                                                      sizeof(*lines));
    if (lines == NULL
        || _PySnapshot_Label(s, SNAPSHOT_BY_LINENO, lines, nlines) < 0)
    {
        return NULL;
    }
    struct kept *kept = _PySnapshot_Zeroed(*nlines, sizeof(*kept));
    if (kept != NULL) {
        qsort(parts->arenas, s->narenas, sizeof(*parts->arenas),
              compare_addresses);
        qsort(parts->pools, s->npools, sizeof(*parts->pools),
              compare_addresses);
        keep_parts(s, parts, lines, kept);
        qsort(parts->pools, s->npools, sizeof(*parts->pools), compare_sizes);
    }
    return kept;
}

/* _arena_use(): (arenas, bytes, bytes in blocks, size of a pool, rows by line,
   rows by size of the blocks) */
PyObject *
_PyTracemalloc_ArenaUse(TracesObject *self, PyObject *Py_UNUSED(unused))
{
    if (_PyTracemalloc_NeedBlocks(self) < 0) {
        return NULL;
    }
    const struct tracer_snapshot *s = self->data;
    SNAPSHOT_AUTO struct snapshot_arena *arenas =
        _PySnapshot_Array(s->narenas, sizeof(*arenas));
    SNAPSHOT_AUTO struct snapshot_pool *pools =
        _PySnapshot_Array(s->npools, sizeof(*pools));
    if (arenas == NULL || pools == NULL) {
        return PyErr_NoMemory();
    }
    unsigned long long bytes = 0, used = 0;
    for (uint32_t i = 0; i < s->narenas; i++) {
        arenas[i] = s->arenas[i];
        bytes += arenas[i].size;
        used += arenas[i].used;
    }
    for (uint32_t i = 0; i < s->npools; i++) {
        pools[i] = s->pools[i];
    }
    SNAPSHOT_AUTO struct kept *kept = NULL;
    uint32_t nlines = 0;
    Py_BEGIN_ALLOW_THREADS
    kept = find_kept(s, &(struct heap_parts){arenas, pools}, &nlines);
    Py_END_ALLOW_THREADS
    if (kept == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *rows = kept_rows(self, kept, nlines);
    PyObject *classes = rows == NULL ? NULL : class_rows(pools, s->npools);
    if (classes == NULL) {
        Py_XDECREF(rows);
        return NULL;
    }
    return Py_BuildValue("IKKINN", s->narenas, bytes, used, s->pool_size,
                         rows, classes);
}
