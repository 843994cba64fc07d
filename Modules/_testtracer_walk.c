/* What is on CPython's free lists, and which blocks the allocator has handed
   out, by a walk of the lists and of pymalloc's pools or mimalloc's heaps.

   Not here: the lists of a deque, of a profiler and of the asyncio module,
   which are private to their modules. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_context.h"       // PyContext
#include "pycore_dict.h"          // PyDictKeysObject
#include "pycore_genobject.h"     // PyAsyncGenASend
#include "pycore_interp.h"        // PyInterpreterState
#include "pycore_obmalloc.h"      // struct pool_header
#include "pycore_pystate.h"       // _Py_FOR_EACH_TSTATE_BEGIN()
#include "pycore_tracer_compat.h" // _PyTracer_LISTS()
#include "pycore_tracer_visit.h"
#include "_testtracer.h"

struct walk {
    struct parked_block *blocks;
    size_t room;
    size_t n;
};

static void
found(struct walk *w, const void *block, int kind)
{
    if (w->n < w->room) {
        w->blocks[w->n].address = (uintptr_t)block;
        w->blocks[w->n].kind = kind;
    }
    w->n++;
}

static void
found_gc(struct walk *w, const void *op, int kind)
{
    found(w, (const char *)op - _PyTracer_GC_HEADER, kind);
}

static void
walk_memory_errors(struct walk *w, PyInterpreterState *interp)
{
    for (PyBaseExceptionObject *op = interp->exc_state.memerrors_freelist;
         op != NULL; op = (PyBaseExceptionObject *)op->dict)
    {
        found_gc(w, op, _PyTracer_MEMORY_ERROR);
    }
}

#ifdef _PyTracer_LISTS
static void
walk_list(struct walk *w, const struct _Py_freelist *list,
          enum _PyTracer_freelist kind, size_t header)
{
    for (void *op = list->freelist; op != NULL; op = *(void **)op) {
        found(w, (const char *)op - header, kind);
    }
}

/* All lists, each by the name of its field. */
static void
walk_lists(struct walk *w, const struct _Py_freelists *lists)
{
#define WALK(FIELD, KIND, HEADER)                                       \
    for (size_t i = 0; i < sizeof(lists->FIELD)                         \
                           / sizeof(struct _Py_freelist); i++)          \
    {                                                                   \
        walk_list(w, (const struct _Py_freelist *)&lists->FIELD + i,    \
                  _PyTracer_##KIND, HEADER);                            \
    }
    _PyTracer_LISTS(WALK)
#undef WALK
}

#if _PyTracer_HAS_GIL
static void
walk_all_lists(struct walk *w, PyInterpreterState *interp)
{
    walk_lists(w, &interp->object_state.freelists);
}
#else
static void
walk_all_lists(struct walk *w, PyInterpreterState *interp)
{
    _Py_FOR_EACH_TSTATE_BEGIN(interp, t) {
        walk_lists(w, &((_PyThreadStateImpl *)t)->freelists);
    }
    _Py_FOR_EACH_TSTATE_END(interp);
}
#endif
#elif defined(WITH_FREELISTS)
static void
walk_tuples(struct walk *w, const struct _Py_tuple_freelist *tuples)
{
    for (int i = 0; i < PyTuple_NFREELISTS; i++) {
        for (PyTupleObject *op = tuples->items[i]; op != NULL;
             op = (PyTupleObject *)op->ob_item[0])
        {
            found_gc(w, op, _PyTracer_TUPLE);
        }
    }
}

static void
walk_linked(struct walk *w, const struct _Py_object_freelists *lists)
{
    for (PyFloatObject *op = lists->floats.items; op != NULL;
         op = (PyFloatObject *)Py_TYPE(op))
    {
        found(w, op, _PyTracer_FLOAT);
    }
    for (PyContext *op = lists->contexts.items; op != NULL;
         op = (PyContext *)op->ctx_weakreflist)
    {
        found_gc(w, op, _PyTracer_CONTEXT);
    }
    if (lists->slices.slice_cache != NULL) {
        found_gc(w, lists->slices.slice_cache, _PyTracer_SLICE);
    }
}

static void
walk_arrays(struct walk *w, const struct _Py_object_freelists *lists)
{
    for (int i = 0; i < lists->lists.numfree; i++) {
        found_gc(w, lists->lists.items[i], _PyTracer_LIST);
    }
    for (int i = 0; i < lists->dicts.numfree; i++) {
        found_gc(w, lists->dicts.items[i], _PyTracer_DICT);
    }
    for (int i = 0; i < lists->dictkeys.numfree; i++) {
        found(w, lists->dictkeys.items[i], _PyTracer_DICT_KEYS);
    }
    for (int i = 0; i < lists->async_gens.numfree; i++) {
        found_gc(w, lists->async_gens.items[i], _PyTracer_ASYNC_GEN);
    }
    for (int i = 0; i < lists->async_gen_asends.numfree; i++) {
        found_gc(w, lists->async_gen_asends.items[i],
                 _PyTracer_ASYNC_GEN_ASEND);
    }
}
#endif

size_t
_TestTracer_WalkFreelists(struct parked_block *blocks, size_t n)
{
    struct walk w = {blocks, n, 0};
    PyInterpreterState *interp = PyInterpreterState_Get();
    walk_memory_errors(&w, interp);
#ifdef _PyTracer_LISTS
    walk_all_lists(&w, interp);
#elif defined(WITH_FREELISTS)
    const struct _Py_object_freelists *lists = &interp->object_state.freelists;
    walk_tuples(&w, &lists->tuples);
    walk_linked(&w, lists);
    walk_arrays(&w, lists);
#endif
    return w.n;
}

/* --- Blocks */

static void
walk_pool(const struct pool_header *pool,
          void (*visit)(uintptr_t address, void *arg), void *arg)
{
    char taken[POOL_SIZE / ALIGNMENT];
    uintptr_t base = (uintptr_t)pool;
    uint32_t size = INDEX2SIZE(pool->szidx);
    if (pool->ref.count == 0 || pool->szidx == DUMMY_SIZE_IDX) {
        return;
    }
    memset(taken, 1, sizeof(taken));
    for (pymem_block *p = pool->freeblock; p != NULL; p = *(pymem_block **)p) {
        taken[((uintptr_t)p - base) / ALIGNMENT] = 0;
    }
    for (uint32_t at = POOL_OVERHEAD; at < pool->nextoffset; at += size) {
        if (taken[at / ALIGNMENT]) {
            visit(base + at, arg);
        }
    }
}

static void
walk_pools(void (*visit)(uintptr_t address, void *arg), void *arg)
{
    const struct _obmalloc_state *state = PyInterpreterState_Get()->obmalloc;
    for (size_t i = 0; i < state->mgmt.maxarenas; i++) {
        const struct arena_object *arena = &state->mgmt.arenas[i];
        if (arena->address == 0) {
            continue;
        }
        uintptr_t pool = (uintptr_t)_Py_ALIGN_UP(arena->address, POOL_SIZE);
        for (; pool < (uintptr_t)arena->pool_address; pool += POOL_SIZE) {
            walk_pool((const struct pool_header *)pool, visit, arg);
        }
    }
}

void
_TestTracer_WalkBlocks(void (*visit)(uintptr_t address, void *arg), void *arg)
{
    if (_PyTracer_HAS_GIL) {
        walk_pools(visit, arg);
    }
    else {
        _PyTracer_VisitHeaps(visit, arg);
    }
}
