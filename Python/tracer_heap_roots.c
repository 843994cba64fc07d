/* What interpreters themselves refer to: their state, static types, threads.
   The one that takes the snapshot has three numbers of its own for these.
   Another one, which shares its GIL, is one object that refers to all of
   them. */

#include "Python.h"
#include "pycore_interp.h"        // PyInterpreterState
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_heap.h"
#include "pycore_tracer_lock.h"   // _PyTracer_LockHead()

#include <stdio.h>

static inline void
add(struct tracer_heap *heap, const void *op)
{
    (void)_PyTracer_HeapVisit((PyObject *)op, heap);
}

static void
walk_roots(struct tracer_heap *heap, uint32_t object, uint32_t kind,
           const void *state, const char *const *names, const size_t *offsets,
           size_t n)
{
    _PyTracer_SetHeapShape(heap, object,
                           _PyTracer_ShapeOfNames(heap, kind, names, n));
    for (size_t i = 0; i < n; i++) {
        _PyTracer_HeapReference(
            heap, *(PyObject **)((char *)state + offsets[i]));
    }
}

/* --- The interpreter */

#define INTERPRETER(X)                                          \
    X("sys.modules", imports.modules)                           \
    X("sys", sysdict)                                           \
    X("builtins", builtins)                                     \
    X("extension modules", imports.modules_by_index)            \
    X("importlib", imports.importlib)                           \
    X("builtins.__import__", imports.import_func)               \
    X("codecs, search functions", codecs.search_path)           \
    X("codecs, cache", codecs.search_cache)                     \
    X("codecs, error handlers", codecs.error_registry)          \
    X("state of extension modules", dict)                       \
    X("first sys", sysdict_copy)                                \
    X("first builtins", builtins_copy)                          \
    X("os.register_at_fork, before", before_forkers)            \
    X("os.register_at_fork, parent", after_forkers_parent)      \
    X("os.register_at_fork, child", after_forkers_child)        \
    X("warnings.filters", warnings.filters)                     \
    X("warnings, seen", warnings.once_registry)                 \
    X("warnings, default", warnings.default_action)             \
    X("sys.addaudithook", audit_hooks)                          \
    X("gc.garbage", gc.garbage)                                 \
    X("gc.callbacks", gc.callbacks)                             \
    X("errno", exc_state.errnomap)                              \
    X("generic type", cached_objects.generic_type)              \
    X("TypeVar", cached_objects.typevar_type)                   \
    X("TypeVarTuple", cached_objects.typevartuple_type)         \
    X("ParamSpec", cached_objects.paramspec_type)               \
    X("ParamSpecArgs", cached_objects.paramspecargs_type)       \
    X("ParamSpecKwargs", cached_objects.paramspeckwargs_type)   \
    _PyTracer_ROOTS_OF_314(X)                                   \
    _PyTracer_ROOTS_OF_315(X)

static const char *const interpreter_names[] = {
#define NAME(TEXT, FIELD) TEXT,
    INTERPRETER(NAME)
#undef NAME
};
static const size_t interpreter_offsets[] = {
#define OFFSET(TEXT, FIELD) offsetof(PyInterpreterState, FIELD),
    INTERPRETER(OFFSET)
#undef OFFSET
};

static void
walk_interpreter(struct tracer_heap *heap, uint32_t object, uint32_t kind,
                 PyInterpreterState *interp)
{
    walk_roots(heap, object, kind, interp, interpreter_names,
               interpreter_offsets, Py_ARRAY_LENGTH(interpreter_names));
    const struct type_cache *cache = &interp->types.type_cache;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(cache->hashtable); i++) {
        add(heap, cache->hashtable[i].name);
    }
    _PyTracer_VisitExitFunctions(interp, _PyTracer_HeapVisit, heap);
    for (int tool = 0; tool < PY_MONITORING_TOOL_IDS; tool++) {
        add(heap, interp->monitoring_tool_names[tool]);
        for (int event = 0; event < _PY_MONITORING_EVENTS; event++) {
            add(heap, interp->monitoring_callables[tool][event]);
        }
    }
    /* All types of syntax trees, and the names of their fields. */
    PyObject **end = (PyObject **)(&interp->ast + 1);
    for (PyObject **p = &interp->ast.AST_type; p < end; p++) {
        add(heap, *p);
    }
}

/* --- Static types */

static void
walk_types_of(struct tracer_heap *heap,
              const managed_static_type_state *states, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add(heap, states[i].type);
        add(heap, states[i].tp_dict);
        add(heap, states[i].tp_subclasses);
    }
}

static void
walk_types(struct tracer_heap *heap, PyInterpreterState *interp)
{
    const struct types_state *types = &interp->types;
    walk_types_of(heap, types->builtins.initialized,
                  Py_ARRAY_LENGTH(types->builtins.initialized));
    walk_types_of(heap, types->for_extensions.initialized,
                  Py_ARRAY_LENGTH(types->for_extensions.initialized));
}

/* --- Threads */

#define THREAD(X)                                               \
    X("threading.local", dict)                                  \
    X("context variables", context)                             \
    X("exception", current_exception)                           \
    X("handled exception", exc_state.exc_value)                 \
    X("sys.setprofile", c_profileobj)                           \
    X("sys.settrace", c_traceobj)                               \
    X("exception to raise", async_exc)                          \
    X("sys.set_asyncgen_hooks, first", async_gen_firstiter)     \
    X("sys.set_asyncgen_hooks, last", async_gen_finalizer)      \
    X("key of threading.local", threading_local_key)            \
    X("sentinel of threading.local", threading_local_sentinel)

static const char *const thread_names[] = {
#define NAME(TEXT, FIELD) TEXT,
    THREAD(NAME)
#undef NAME
};
static const size_t thread_offsets[] = {
#define OFFSET(TEXT, FIELD) offsetof(PyThreadState, FIELD),
    THREAD(OFFSET)
#undef OFFSET
};

void
_PyTracer_WalkThread(struct tracer_heap *heap, uint32_t object)
{
    const PyThreadState *tstate =
        (PyThreadState *)heap->graph->objects[object].address;
    walk_roots(heap, object, SNAPSHOT_THREAD, tstate, thread_names,
               thread_offsets, Py_ARRAY_LENGTH(thread_names));
    for (_PyInterpreterFrame *frame = tstate->current_frame; frame != NULL;
         frame = frame->previous)
    {
        _PyTracer_ReferToFrame(heap, frame);
    }
}

static void
walk_threads(struct tracer_heap *heap, PyInterpreterState *interp)
{
    uint32_t shape = _PyTracer_ShapeOfNames(heap, SNAPSHOT_THREAD,
                                            thread_names,
                                            Py_ARRAY_LENGTH(thread_names));
    for (PyThreadState *tstate = interp->threads.head;
         tstate != NULL && !heap->failed; tstate = tstate->next)
    {
        (void)_PyTracer_HeapPseudo(heap, tstate, shape);
    }
}

void
_PyTracer_WalkFixed(struct tracer_heap *heap, uint32_t object)
{
    PyInterpreterState *interp = heap->interpreters->list[0];
    switch (object) {
    case SNAPSHOT_INTERPRETER:
        walk_interpreter(heap, object, SNAPSHOT_STATE, interp);
        break;
    case SNAPSHOT_STATIC_TYPES:
        walk_types(heap, interp);
        break;
    case SNAPSHOT_THREADS:
        walk_threads(heap, interp);
        break;
    default:
        break;
    }
}

/* --- Other interpreters */

/* One that ends gives its GIL back before it is taken off the list. */
static int
is_readable(PyInterpreterState *interp, const PyInterpreterState *current)
{
    return (!_PyTracer_HAS_GIL || interp->ceval.gil == current->ceval.gil)
           && _PyInterpreterState_GetFinalizing(interp) == NULL;
}

void
_PyTracer_ListInterpreters(struct tracer_heap_interpreters *interpreters)
{
    PyInterpreterState *current = _PyInterpreterState_GET();
    interpreters->list[0] = current;
    interpreters->n = 1;
    interpreters->nleft_out = 0;
    _PyTracer_LockHead();
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        if (interp == current) {
            continue;
        }
        if (interpreters->n < TRACER_HEAP_INTERPRETERS
            && is_readable(interp, current))
        {
            interpreters->list[interpreters->n++] = interp;
        }
        else {
            interpreters->nleft_out++;
        }
    }
    _PyTracer_UnlockHead();
}

/* Its surplus reference is the root's. */
void
_PyTracer_AddInterpreter(struct tracer_heap *heap,
                         const PyInterpreterState *interp)
{
    char id[24];
    int length = snprintf(id, sizeof(id), "%lld", (long long)interp->id);
    uint32_t number = _PyTracer_HeapObject(heap, interp);
    uint32_t shape = _PyTracer_ShapeOfNames(
        heap, SNAPSHOT_OTHER_INTERPRETER, interpreter_names,
        Py_ARRAY_LENGTH(interpreter_names));
    uint32_t text = _PyTracer_AddText(heap, id, (size_t)length);
    if (!heap->failed) {
        struct snapshot_object *object = &heap->graph->objects[number];
        object->shape = shape;
        object->surplus = 1;
        object->text = text;
    }
}

void
_PyTracer_WalkInterpreter(struct tracer_heap *heap, uint32_t object)
{
    PyInterpreterState *interp =
        (PyInterpreterState *)heap->graph->objects[object].address;
    walk_interpreter(heap, object, SNAPSHOT_OTHER_INTERPRETER, interp);
    walk_types(heap, interp);
    walk_threads(heap, interp);
}
