/* The oracle: an allocator that keeps its own books of every live block.  The
   tracer is compared with them in _testtracer_compare.c.

   It wraps the functions of all three domains.  Installed before tracing
   starts it is below the tracer, which then uses its general functions;
   installed while tracing it is above, and calls those of pymalloc and tracer
   in one unchanged.  What a domain asks of a lower one is not a block of the
   program: neither the oracle nor the tracer counts it.

   A block has the frames that CPython itself names at its allocation.  An
   object that comes from a free list is not allocated; there, CPython's
   tracer of references tells of the new object.

   Small blocks from before the oracle are in the books, too, by a walk of
   pymalloc's pools: old, their size known if the tracer knows it.  Without the
   GIL so are big ones, by a walk of mimalloc's heaps. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#undef NDEBUG
#include "Python.h"
#include "pycore_tracer_compat.h"
#include "pycore_object.h"        // _PyType_PreHeaderSize()
#include "pycore_tracer_lock.h"   // _PyTracer_StopWorld()
#include "pycore_tracer_state.h"
#include "pycore_tracer_visit.h"
#include "_testtracer.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct domain {
    PyMemAllocatorEx below;
    enum tracer_kind kind;
};

static struct domain domains[3];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t used;
struct books _TestTracer_Books;
static struct books *const books = &_TestTracer_Books;
static _Thread_local int depth;

/* --- The books; locked by log_lock */

static size_t
home(uintptr_t address)
{
    return (address >> 4) * 0x9e3779b97f4a7c15u >> 44;
}

struct block *
_TestTracer_Find(uintptr_t address)
{
    size_t i = home(address);
    while (books->blocks[i].address != 0
           && books->blocks[i].address != address)
    {
        i = (i + 1) % BOOKS_SIZE;
    }
    return &books->blocks[i];
}

static void
add(struct block block)
{
    struct block *slot = _TestTracer_Find(block.address);
    assert(slot->address == 0);
    *slot = block;
    used++;
    assert(used < BOOKS_SIZE / 2);
}

static struct block
take(uintptr_t address)
{
    struct block *slot = _TestTracer_Find(address);
    struct block taken = *slot;
    if (taken.address == 0) {
        return taken;
    }
    used--;
    size_t hole = (size_t)(slot - books->blocks);
    for (size_t i = (hole + 1) % BOOKS_SIZE; books->blocks[i].address != 0;
         i = (i + 1) % BOOKS_SIZE)
    {
        size_t distance = (i - home(books->blocks[i].address)) % BOOKS_SIZE;
        if (distance >= (i - hole) % BOOKS_SIZE) {
            books->blocks[hole] = books->blocks[i];
            hole = i;
        }
    }
    books->blocks[hole].address = 0;
    return taken;
}

/* --- Frames */

static uint64_t
hash_place(uint64_t hash, const char *filename, int line)
{
    for (; *filename; filename++) {
        hash = (hash ^ (unsigned char)*filename) * 0x100000001b3u;
    }
    return (hash ^ (uint64_t)line) * 0x100000001b3u;
}

static PyThreadState *
current_thread(void)
{
    PyThreadState *tstate = PyThreadState_GetUnchecked();
    return tstate != NULL ? tstate : PyGILState_GetThisThreadState();
}

/* The frames of the calling thread, as sys._getframe() would show them.
   Places need ASCII file names. */
static uint32_t
current_path(struct tracer_place *places, uint32_t n)
{
    PyThreadState *tstate = current_thread();
    uint32_t found = 0;
    _PyInterpreterFrame *frame = tstate ? tstate->current_frame : NULL;
    for (; frame != NULL && found < n; frame = frame->previous) {
        if (_PyFrame_IsIncomplete(frame)) {
            continue;
        }
        PyObject *filename = _PyFrame_GetCode(frame)->co_filename;
        assert(PyUnicode_IS_COMPACT_ASCII(filename));
        int line = PyUnstable_InterpreterFrame_GetLine(frame);
        places[found].filename = PyUnicode_DATA(filename);
        places[found++].line = Py_MAX(line, 0);
    }
    if (found == 0) {
        places[found++] = (struct tracer_place){"<unknown>", 0};
    }
    return found;
}

uint64_t
_TestTracer_HashPath(const struct tracer_place *places, uint32_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < n; i++) {
        hash = hash_place(hash, places[i].filename, places[i].line);
    }
    return hash | 1;
}

static void
set_path(struct block *block, const struct tracer_place *places, uint32_t n)
{
    block->path = _TestTracer_HashPath(places, n);
    block->place = _TestTracer_HashPath(places, 1);
}

/* What a hidden thread makes is not traced.  Locked. */
static void
mark_hidden(struct block *block)
{
    PyThreadState *tstate = current_thread();
    if (tstate != NULL && _PyTracer_IS_HIDDEN(tstate)) {
        block->size = UNKNOWN_SIZE;
        block->path = 0;
        block->old = 1;
        books->hidden = 1;
    }
}

/* --- The allocator */

static void
log_alloc(void *p, size_t size, enum tracer_kind kind)
{
    struct tracer_place places[MAX_FRAMES];
    struct block block = {.address = (uintptr_t)p, .size = size,
                          .kind = (uint8_t)kind};
    set_path(&block, places, current_path(places, books->limit));
    pthread_mutex_lock(&log_lock);
    mark_hidden(&block);
    add(block);
    pthread_mutex_unlock(&log_lock);
}

static struct block
log_free(void *p, enum tracer_kind kind)
{
    pthread_mutex_lock(&log_lock);
    struct block taken = take((uintptr_t)p);
    books->unknown_freed += taken.address == 0 && kind != TRACER_RAW;
    pthread_mutex_unlock(&log_lock);
    return taken;
}

static void *
log_malloc(void *ctx, size_t size)
{
    const struct domain *domain = ctx;
    depth++;
    void *p = domain->below.malloc(domain->below.ctx, size);
    depth--;
    if (p != NULL && depth == 0) {
        log_alloc(p, size, domain->kind);
    }
    return p;
}

static void *
log_calloc(void *ctx, size_t nelem, size_t elsize)
{
    const struct domain *domain = ctx;
    depth++;
    void *p = domain->below.calloc(domain->below.ctx, nelem, elsize);
    depth--;
    if (p != NULL && depth == 0) {
        log_alloc(p, nelem * elsize, domain->kind);
    }
    return p;
}

static void
log_dealloc(void *ctx, void *p)
{
    const struct domain *domain = ctx;
    if (p != NULL && depth == 0) {
        (void)log_free(p, domain->kind);
    }
    depth++;
    domain->below.free(domain->below.ctx, p);
    depth--;
}

static void *
log_realloc(void *ctx, void *p, size_t size)
{
    const struct domain *domain = ctx;
    struct block before = {0};
    if (p != NULL && depth == 0) {
        before = log_free(p, domain->kind);
    }
    depth++;
    void *q = domain->below.realloc(domain->below.ctx, p, size);
    depth--;
    if (depth == 0 && q != NULL) {
        log_alloc(q, size, domain->kind);
    }
    else if (depth == 0 && p != NULL) {
        pthread_mutex_lock(&log_lock);
        if (before.address != 0) {
            add(before);
        }
        else {
            books->unknown_freed -= domain->kind != TRACER_RAW;
        }
        pthread_mutex_unlock(&log_lock);
    }
    return q;
}

/* An object that is born on a block that lives: from a free list. */
static int
log_object(PyObject *op, PyRefTracerEvent event, void *Py_UNUSED(data))
{
    if (event == PyRefTracer_CREATE) {
        struct tracer_place places[MAX_FRAMES];
        uint32_t n = current_path(places, books->limit);
        pthread_mutex_lock(&log_lock);
        struct block *block = _TestTracer_Find(
            (uintptr_t)op - _PyType_PreHeaderSize(Py_TYPE(op)));
        if (block->address != 0) {
            set_path(block, places, n);
            mark_hidden(block);
        }
        pthread_mutex_unlock(&log_lock);
    }
    return 0;
}

/* --- Installing it */

static void
add_old(uintptr_t address, size_t size, int kind)
{
    if (_TestTracer_Find(address)->address == 0) {
        add((struct block){.address = address, .size = size,
                           .kind = (uint8_t)kind, .old = 1});
    }
}

static void
visit_old(const struct tracer_block *block, void *Py_UNUSED(arg))
{
    if (block->domain == 0) {
        add_old(block->address, block->size, (int)block->kind);
    }
}

static void
visit_small(uintptr_t address, void *Py_UNUSED(arg))
{
    add_old(address, UNKNOWN_SIZE, TRACER_OBJECT);
}

/* Blocks of the raw domain may be on a free list: chunks of object stacks. */
static void
add_parked(void)
{
    size_t n = _TestTracer_WalkFreelists(NULL, 0);
    struct parked_block *parked = malloc(n * sizeof(*parked) + 1);
    assert(parked != NULL);
    (void)_TestTracer_WalkFreelists(parked, n);
    for (size_t i = 0; i < n; i++) {
        add_old(parked[i].address, UNKNOWN_SIZE, TRACER_RAW);
    }
    free(parked);
}

static void
begin_books(void)
{
    _PyTracer_StopWorld();
    memset(books->blocks, 0, BOOKS_SIZE * sizeof(struct block));
    used = 0;
    (void)_PyTracer_VisitBlocks(visit_old, NULL);
    _TestTracer_WalkBlocks(visit_small, NULL);
    add_parked();
    books->unknown_freed = 0;
    books->hidden = 0;
    _PyTracer_StartWorld();
}

/* install(nframe): from now on keep books, of nframe frames. */
static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int nframe = PyLong_AsInt(arg);
    if (nframe == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (books->blocks != NULL || nframe < 1 || nframe > MAX_FRAMES) {
        PyErr_Format(PyExc_ValueError, "1 to %d frames, once", MAX_FRAMES);
        return NULL;
    }
    books->limit = (uint32_t)nframe;
    books->blocks = malloc(BOOKS_SIZE * sizeof(struct block));
    if (books->blocks == NULL) {
        return PyErr_NoMemory();
    }
    begin_books();
    static const PyMemAllocatorDomain ids[] = {
        PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_RAW};
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(ids[i], &domains[i].below);
        domains[i].kind = (enum tracer_kind)i;
        PyMemAllocatorEx oracle = {&domains[i], log_malloc, log_calloc,
                                   log_realloc, log_dealloc};
        PyMem_SetAllocator(ids[i], &oracle);
    }
    if (PyRefTracer_SetTracer(log_object, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* start_above(start, nframe): start(nframe), above the oracle, whose books
   start again. */
static PyObject *
start_above(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *start, *nframe;
    if (!PyArg_ParseTuple(args, "OO:start_above", &start, &nframe)) {
        return NULL;
    }
    PyObject *result = PyObject_CallOneArg(start, nframe);
    begin_books();
    return result;
}

PyMethodDef _TestTracer_LogFunctions[] = {
    {"install", install, METH_O, NULL},
    {"start_above", start_above, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}
};
