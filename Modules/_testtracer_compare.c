/* The tracer compared with the oracle, block by block, and with the number of
   blocks that CPython has counted. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#undef NDEBUG
#include "Python.h"
#include "pycore_dict.h"          // PyDictKeysObject
#include "pycore_tracer_compat.h" // _PyTracer_LISTS()
#include "pycore_tracer_count.h"
#include "pycore_tracer_lock.h"   // _PyTracer_StopWorld()
#include "pycore_tracer_state.h"
#include "pycore_tracer_visit.h"
#include "_testtracer.h"

#include <assert.h>
#include <stdlib.h>

static struct books *const books = &_TestTracer_Books;

/* Differences between oracle and tracer. */
struct differences {
    Py_ssize_t live;              // blocks that both have
    Py_ssize_t bytes;
    Py_ssize_t untraced;          // small blocks from before tracing
    Py_ssize_t paths;             // frames compared
    Py_ssize_t keys;              // frames not compared, see is_keys()
    Py_ssize_t unknown;           // blocks that only the tracer has
    Py_ssize_t size;              // other size
    Py_ssize_t kind;              // other domain
    Py_ssize_t path;              // other frames
    Py_ssize_t place;             // other most recent frame
    Py_ssize_t missing;           // live, but not for the tracer
    Py_ssize_t parked;            // parked for one, not for the other
    Py_ssize_t counted;           // nodes whose counters are not their blocks
    char example[400];            // of a wrong path
};

static struct parked_block *
walk_freelists(size_t *n)
{
    *n = _TestTracer_WalkFreelists(NULL, 0);
    struct parked_block *parked = malloc(*n * sizeof(*parked) + 1);
    assert(parked != NULL);
    (void)_TestTracer_WalkFreelists(parked, *n);
    return parked;
}

struct comparison {
    struct differences *d;
    const struct parked_block *parked;
    size_t nparked;
    char *matched;                // parked blocks that the tracer has, too
    uint32_t nnodes;
    int64_t *blocks_of, *bytes_of;      // by node
};

static size_t
find_parked(const struct comparison *c, uintptr_t address)
{
    size_t i = 0;
    while (i < c->nparked && c->parked[i].address != address) {
        i++;
    }
    return i;
}

static void
compare_path(struct differences *d, const struct tracer_block *seen,
             const struct block *block)
{
    struct tracer_place places[MAX_FRAMES];
    uint32_t n = _PyTracer_GetPath(seen->node, places, books->limit);
    d->paths++;
    d->place += _TestTracer_HashPath(places, 1) != block->place;
    if (_TestTracer_HashPath(places, n) != block->path && d->path++ == 0) {
        int length = snprintf(d->example, sizeof(d->example),
                              "kind %u, size %zu:", seen->kind, seen->size);
        for (uint32_t i = 0; i < n && length < 300; i++) {
            length += snprintf(d->example + length,
                               sizeof(d->example) - (size_t)length, " %s:%d",
                               places[i].filename, places[i].line);
        }
    }
}

#ifdef _PyTracer_LISTS
static int
is_writer(const struct block *block, enum _PyTracer_freelist kind)
{
    return kind < _PyTracer_HAS_FREELISTS && block->kind == TRACER_MEMORY
           && block->size == _PyTracer_WriterSize(kind);
}

/* Stacks of the collector, and what makes strings. */
static int
is_other_memory(const struct block *block)
{
    return (block->kind == TRACER_RAW
            && block->size == sizeof(_PyObjectStackChunk))
           || is_writer(block, _PyTracer_UNICODE_WRITER)
           || is_writer(block, _PyTracer_BYTES_WRITER);
}
#else
static int
is_other_memory(const struct block *Py_UNUSED(block))
{
    return 0;
}
#endif

/* The keys of a small dictionary are no object, and there are others: nobody
   but the tracer sees where they come from their free list. */
static int
is_keys(const struct block *block)
{
    return is_other_memory(block)
           || (block->kind == TRACER_MEMORY
               && block->size == sizeof(PyDictKeysObject) + 8
                                 + 5 * sizeof(PyDictUnicodeEntry));
}

/* A hidden thread may have taken keys from their free list, and what it makes
   is not traced. */
static int
may_be_hidden(const struct block *block)
{
    return books->hidden && is_keys(block);
}

/* Lists that a walk does not see. */
static int
is_private(uint32_t kind)
{
#ifndef _PyTracer_LISTS
    if (kind == _PyTracer_FUTURE_ITER) {
        return 1;
    }
#endif
    return kind == _PyTracer_DEQUE_BLOCK || kind == _PyTracer_PROFILER;
}

static void
compare_parked(struct comparison *c, const struct tracer_block *seen)
{
    uint32_t kind = seen->node - TRACER_NODE_PARKED;
    if (is_private(kind)) {
        return;
    }
    size_t i = find_parked(c, seen->address);
    if (i == c->nparked || c->parked[i].kind != (int)kind) {
        c->d->parked++;
        return;
    }
    c->matched[i] = 1;
}

static void
compare_block(const struct tracer_block *seen, void *arg)
{
    struct comparison *c = arg;
    c->blocks_of[seen->node]++;
    c->bytes_of[seen->node] += (int64_t)seen->size;
    if (seen->domain != 0) {
        return;
    }
    struct differences *d = c->d;
    struct block *block = _TestTracer_Find(seen->address);
    if (block->address == 0) {
        d->unknown++;
        return;
    }
    block->seen = 1;
    if (block->size != seen->size && block->size != UNKNOWN_SIZE) {
        d->size++;
    }
    if (_PyTracer_IsParked(seen->node)) {
        compare_parked(c, seen);
        return;
    }
    if (find_parked(c, seen->address) < c->nparked) {
        d->parked++;
    }
    d->live++;
    d->bytes += (Py_ssize_t)seen->size;
    d->kind += seen->kind != block->kind && !block->old;
    if (is_keys(block)) {
        d->keys++;
    }
    else if (block->path != 0) {
        compare_path(d, seen, block);
    }
}

static void
compare_counters(const struct comparison *c)
{
    for (uint32_t id = 1; id < c->nnodes; id++) {
        if (id >= TRACER_NODE_PARKED + _PyTracer_NFREELISTS
            && id < TRACER_NODE_FIRST)
        {
            continue;             // there is none
        }
        uint64_t live, bytes;
        _PyTracer_GetLive(id, &live, &bytes);
        c->d->counted += (int64_t)live != c->blocks_of[id]
                         || (int64_t)bytes != c->bytes_of[id];
    }
}

/* Blocks of the oracle that the tracer does not have. */
static void
compare_rest(const struct comparison *c)
{
    for (size_t i = 0; i < BOOKS_SIZE; i++) {
        struct block *block = &books->blocks[i];
        if (block->address != 0 && !block->seen) {
            if (block->size != UNKNOWN_SIZE && !may_be_hidden(block)) {
                c->d->missing++;
            }
            else {
                c->d->untraced++;
            }
        }
        block->seen = 0;
    }
    for (size_t i = 0; i < c->nparked; i++) {
        struct block *block = _TestTracer_Find(c->parked[i].address);
        if (!c->matched[i] && !(block->address != 0 && block->old)) {
            c->d->parked++;
        }
    }
}

static PyObject *
differences_object(const struct differences *d)
{
    return Py_BuildValue(
        "{snsnsnsnsnsnsnsnsnsnsnsnsnss}", "live", d->live, "bytes", d->bytes,
        "untraced", d->untraced, "paths", d->paths, "keys", d->keys,
        "unknown", d->unknown, "size", d->size, "kind", d->kind, "path",
        d->path, "place", d->place, "missing", d->missing, "parked",
        d->parked, "counted", d->counted, "example", d->example);
}

/* compare() -> dict of what the two have and where they differ, at one
   instant: nothing is allocated in between. */
static PyObject *
compare(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    _PyTracer_StopWorld();
    struct differences d = {0};
    struct comparison c = {.d = &d, .nnodes = _PyTracer_CountNodes()};
    struct parked_block *parked = walk_freelists(&c.nparked);
    c.parked = parked;
    c.matched = calloc(c.nparked + 1, 1);
    c.blocks_of = calloc(c.nnodes + 1, sizeof(*c.blocks_of));
    c.bytes_of = calloc(c.nnodes + 1, sizeof(*c.bytes_of));
    assert(c.matched != NULL && c.blocks_of != NULL && c.bytes_of != NULL);
    int tracing = _PyTracer_VisitBlocks(compare_block, &c);
    compare_counters(&c);
    compare_rest(&c);
    free(c.bytes_of);
    free(c.blocks_of);
    free(c.matched);
    free(parked);
    _PyTracer_StartWorld();
    if (!tracing) {
        PyErr_SetString(PyExc_RuntimeError, "tracing is off");
        return NULL;
    }
    return differences_object(&d);
}

/* --- The counters alone, without an oracle */

struct tally {
    int64_t *blocks_of, *bytes_of;      // by node
    long long live;               // bytes
};

static void
tally_block(const struct tracer_block *block, void *arg)
{
    struct tally *t = arg;
    t->blocks_of[block->node]++;
    t->bytes_of[block->node] += (int64_t)block->size;
    if (!_PyTracer_IsParked(block->node)) {
        t->live += (long long)block->size;
    }
}

/* check_counters(get_traced_memory) -> (nodes whose counters are not the sum
   of their blocks, be these none; bytes of all live blocks; traced memory).
   No thread may allocate meanwhile. */
static PyObject *
check_counters(PyObject *Py_UNUSED(module), PyObject *get_traced_memory)
{
    _PyTracer_StopWorld();
    struct differences d = {0};
    uint32_t nnodes = _PyTracer_CountNodes();
    struct tally t = {calloc(nnodes + 1, sizeof(int64_t)),
                      calloc(nnodes + 1, sizeof(int64_t)), 0};
    assert(t.blocks_of != NULL && t.bytes_of != NULL);
    (void)_PyTracer_VisitBlocks(tally_block, &t);
    struct comparison c = {.d = &d, .nnodes = nnodes,
                           .blocks_of = t.blocks_of, .bytes_of = t.bytes_of};
    compare_counters(&c);
    free(t.blocks_of);
    free(t.bytes_of);
    long long current, peak;
    PyObject *memory = PyObject_CallNoArgs(get_traced_memory);
    _PyTracer_StartWorld();
    if (memory == NULL || !PyArg_ParseTuple(memory, "LL", &current, &peak)) {
        Py_XDECREF(memory);
        return NULL;
    }
    Py_DECREF(memory);
    return Py_BuildValue("nLL", d.counted, t.live, current);
}

/* --- The accounting identity */

struct count {
    Py_ssize_t live;
    Py_ssize_t parked;
    Py_ssize_t untraced;
};

static void
count_block(const struct tracer_block *block, void *arg)
{
    struct count *count = arg;
    if (block->kind == TRACER_OBJECT || block->kind == TRACER_MEMORY) {
        if (_PyTracer_IsParked(block->node)) {
            count->parked++;
        }
        else {
            count->live++;
        }
    }
    _TestTracer_Find(block->address)->seen = 1;
}

static void
count_untraced(struct count *count)
{
    for (size_t i = 0; i < BOOKS_SIZE; i++) {
        struct block *b = &books->blocks[i];
        count->untraced += b->address != 0 && !b->seen
                           && b->kind != TRACER_RAW
                           && (b->old || may_be_hidden(b));
        b->seen = 0;
    }
}

/* count_blocks(getallocatedblocks) -> (what it returns; traced live blocks of
   the object and memory domains; parked ones; small blocks from before the
   oracle that are not traced; big ones of these that were freed since). */
static PyObject *
count_blocks(PyObject *Py_UNUSED(module), PyObject *getallocatedblocks)
{
    /* The number is not counted in itself; or it is, if ints have a free list,
       which this leaves one on. */
    Py_XDECREF(PyLong_FromLong(1000000));
    PyObject *number = PyObject_CallNoArgs(getallocatedblocks);
    if (number == NULL) {
        return NULL;
    }
    Py_ssize_t all = PyLong_AsSsize_t(number);
    Py_DECREF(number);
    struct count count = {0};
    _PyTracer_StopWorld();
    (void)_PyTracer_VisitBlocks(count_block, &count);
    count_untraced(&count);
    _PyTracer_StartWorld();
    return Py_BuildValue("nnnnn", all, count.live, count.parked,
                         count.untraced, books->unknown_freed);
}

PyMethodDef _TestTracer_CompareFunctions[] = {
    {"compare", compare, METH_NOARGS, NULL},
    {"check_counters", check_counters, METH_O, NULL},
    {"count_blocks", count_blocks, METH_O, NULL},
    {NULL, NULL, 0, NULL}
};
