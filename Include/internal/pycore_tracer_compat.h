/* What differs between the series of CPython.

   The tracer reads structures of CPython that change from one series to the
   next: frames, code objects, locks, pending calls, objects that own buffers.
   It does so through the functions below, and for frames and code through
   those of pycore_tracer_compat_frames.h.  Only these two files have conditions
   on the version or on the GIL, which `make layers` checks.  All functions are
   inline, and their arguments must be alive. */

#ifndef Py_INTERNAL_TRACER_COMPAT_H
#define Py_INTERNAL_TRACER_COMPAT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_ceval.h"         // _Py_set_eval_breaker_bit()
#include "pycore_lock.h"          // PyMutex_LockFast()
#include "pycore_gc.h"            // _PyGC_VisitObjectsWorldStopped()
#include "pycore_runtime.h"       // _PyRuntime

#if PY_VERSION_HEX < 0x030d0000 || PY_VERSION_HEX >= 0x03100000
#  error "the tracer knows CPython 3.13 to 3.15"
#endif
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030e0000
#  error "the tracer knows the free-threaded build from 3.14 on"
#endif

/* Is there a GIL?  If there is none, or if there are several, the tracer's
   lock protects everything that the GIL protects otherwise. */
#ifdef Py_GIL_DISABLED
#  define _PyTracer_HAS_GIL 0
#else
#  define _PyTracer_HAS_GIL 1
#endif

#if PY_VERSION_HEX >= 0x030e0000
#  include "pycore_bytesobject.h"         // PyBytesWriter of 3.15
#  include "pycore_freelist_state.h"      // struct _Py_freelists
#  include "pycore_object_stack.h"        // _PyObjectStackChunk
#endif

#include "pycore_tracer_compat_frames.h"

/* Importing the module, which has no slots, must not enable the GIL. */
static inline int
_PyTracer_LeaveGilOff(PyObject *module)
{
#ifdef Py_GIL_DISABLED
    return PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#else
    (void)module;
    return 0;
#endif
}

/* --- Who made a thread: Python code, or C code that has asked for the GIL */

static inline int
_PyTracer_IsPythonThread(const PyThreadState *tstate)
{
#if PY_VERSION_HEX >= 0x030f0000
    if (tstate->_whence == _PyThreadState_WHENCE_THREADING_DAEMON) {
        return 1;
    }
#endif
    return tstate->_whence == _PyThreadState_WHENCE_THREADING;
}

static inline int
_PyTracer_IsCThread(const PyThreadState *tstate)
{
#if PY_VERSION_HEX >= 0x030f0000
    return tstate->_whence == _PyThreadState_WHENCE_C_API;
#else
    return tstate->_whence == _PyThreadState_WHENCE_GILSTATE;
#endif
}

/* --- Locks and pending calls */

/* 0: somebody has it. */
static inline int
_PyTracer_TryMutex(PyMutex *mutex)
{
#if PY_VERSION_HEX >= 0x030e0000
    return PyMutex_LockFast(mutex);
#else
    return PyMutex_LockFast(&mutex->_bits);
#endif
}

/* Of the pending calls of the main thread. */
static inline PyMutex *
_PyTracer_PendingMutex(void)
{
    return &_PyRuntime.ceval.pending_mainthread.mutex;
}

/* Py_AddPendingCall(), with that mutex held; 0: there is no room. */
static inline int
_PyTracer_PushPendingCall(int (*function)(void *))
{
    struct _pending_calls *pending = &_PyRuntime.ceval.pending_mainthread;
    if (pending->npending >= pending->max) {
        return 0;
    }
    struct _pending_call *call = &pending->calls[pending->next];
    assert(call->func == NULL);
    call->func = function;
    call->arg = NULL;
    call->flags = _Py_PENDING_MAINTHREADONLY;
    pending->next = (pending->next + 1) % PENDINGCALLSARRAYSIZE;
    _Py_atomic_add_int32(&pending->npending, 1);
    return 1;
}

/* --- Objects, which may be incomplete, or something else that looks like one:
   pointers in them are not followed.  GIL. */

/* Does the memory look like that of an object in use? */
static inline int
_PyTracer_HasReferences(const PyObject *op)
{
#ifdef Py_GIL_DISABLED
    return op->ob_ref_local != 0 || op->ob_ref_shared != 0;
#else
    return op->ob_refcnt != 0;
#endif
}

/* How often an object is referred to. */
#define _PyTracer_IMMORTAL (-1)
#define _PyTracer_UNCOUNTED (-2)  // not all references count
static inline Py_ssize_t
_PyTracer_CountReferences(PyObject *op)
{
    if (_Py_IsImmortal(op)) {
        return _PyTracer_IMMORTAL;
    }
#ifdef Py_GIL_DISABLED
    if (_PyObject_HasDeferredRefcount(op) || PyType_Check(op)
        || PyCode_Check(op))
    {
        return _PyTracer_UNCOUNTED;
    }
#endif
    return Py_REFCNT(op);
}

/* What the state of an interpreter refers to from 3.14 on: what it is called,
   field. */
#if PY_VERSION_HEX >= 0x030e0000
#  define _PyTracer_ROOTS_OF_314(X)                             \
    X("atexit", atexit.callbacks)                               \
    X("warnings, context", warnings.context)                    \
    X("constant evaluator", cached_objects.constevaluator_type)
#else
#  define _PyTracer_ROOTS_OF_314(X)
#endif

/* The same from 3.15 on. */
#if PY_VERSION_HEX >= 0x030f0000
#  define _PyTracer_ROOTS_OF_315(X)                             \
    X("builtins.__lazy_import__", imports.lazy_import_func)     \
    X("filter of lazy imports", imports.lazy_imports_filter)    \
    X("lazy imports, running", imports.lazy_importing_modules)  \
    X("sys.lazy_modules", imports.lazy_modules)                 \
    X("lazy imports, pending", imports.lazy_pending_submodules)
#else
#  define _PyTracer_ROOTS_OF_315(X)
#endif

/* Fields of a function from 3.14 on. */
#if PY_VERSION_HEX >= 0x030e0000
#  define _PyTracer_FUNCTION_FIELDS_OF_314(FIELD)               \
    FIELD("__annotate__", PyFunctionObject, func_annotate),
#else
#  define _PyTracer_FUNCTION_FIELDS_OF_314(FIELD)
#endif

/* Do valid values inside an instance belong to it, and not to its dict? */
static inline int
_PyTracer_OwnsValues(const PyDictObject *dict)
{
    return PY_VERSION_HEX < 0x030e0000 || dict == NULL;
}

/* In 3.13 the functions of atexit are in an array. */
static inline void
_PyTracer_VisitExitFunctions(const PyInterpreterState *interp,
                             visitproc visit, void *arg)
{
#if PY_VERSION_HEX < 0x030e0000
    for (int i = 0; i < interp->atexit.ncallbacks; i++) {
        const atexit_py_callback *callback = interp->atexit.callbacks[i];
        if (callback != NULL) {
            (void)visit(callback->func, arg);
            (void)visit(callback->args, arg);
            (void)visit(callback->kwargs, arg);
        }
    }
#else
    (void)interp;
    (void)visit;
    (void)arg;
#endif
}

/* Visit all that the collector tracks in an interpreter: without the GIL the
   objects, else its lists.  Its GIL held, or the world stopped. */
static inline void
_PyTracer_VisitTracked(PyInterpreterState *interp, gcvisitobjects_t visit,
                       void (*visit_list)(PyGC_Head *head, void *arg),
                       void *arg)
{
#ifdef Py_GIL_DISABLED
    (void)visit_list;
    _PyGC_VisitObjectsWorldStopped(interp, visit, arg);
#else
    (void)visit;
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        visit_list(&interp->gc.generations[i].head, arg);
    }
    visit_list(&interp->gc.permanent_generation.head, arg);
#endif
}

/* Do objects of this type begin like a dict?  From 3.15 on there is one more
   such type, which is not a subclass. */
static inline int
_PyTracer_IsDictType(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030f0000
    if (PyType_IsSubtype(type, &PyFrozenDict_Type)) {
        return 1;
    }
#endif
    return PyType_HasFeature(type, Py_TPFLAGS_DICT_SUBCLASS);
}

static inline const void *
_PyTracer_DictKeys(const PyObject *op)
{
    return ((const PyDictObject *)op)->ma_keys;
}

static inline const void *
_PyTracer_DictValues(const PyObject *op)
{
    return ((const PyDictObject *)op)->ma_values;
}

/* Without the GIL, the block of a list's items begins with their capacity. */
static inline const void *
_PyTracer_ListItems(const PyObject *op)
{
    const char *items = (const char *)((const PyListObject *)op)->ob_item;
#ifdef Py_GIL_DISABLED
    return items == NULL ? NULL : items - sizeof(Py_ssize_t);
#else
    return items;
#endif
}

/* NULL: it lies in the object. */
static inline const void *
_PyTracer_SetTable(const PyObject *op)
{
    const PySetObject *set = (const PySetObject *)op;
    return set->table == set->smalltable ? NULL : set->table;
}

/* From 3.15 on it is an object, of the type that the next function names. */
static inline const void *
_PyTracer_BytearrayBuffer(const PyObject *op)
{
#if PY_VERSION_HEX >= 0x030f0000
    return ((const PyByteArrayObject *)op)->ob_bytes_object;
#else
    return ((const PyByteArrayObject *)op)->ob_bytes;
#endif
}

/* NULL: it is no object. */
static inline const PyTypeObject *
_PyTracer_BytearrayBufferType(void)
{
#if PY_VERSION_HEX >= 0x030f0000
    return &PyBytes_Type;
#else
    return NULL;
#endif
}

/* Number of collections of a generation, in the main interpreter.  No GIL
   needed. */
static inline uint32_t
_PyTracer_Collections(int generation)
{
    const struct _gc_runtime_state *gc = &_PyRuntime._main_interpreter.gc;
#if PY_VERSION_HEX >= 0x030f0000
    const struct gc_stats *stats = gc->generation_stats;
    if (stats == NULL) {
        return 0;
    }
    const struct gc_generation_stats *of =
        generation == 0 ? &stats->young.items[stats->young.index]
                        : &stats->old[generation - 1].items[
                              stats->old[generation - 1].index];
    return (uint32_t)of->collections;
#else
    return (uint32_t)gc->generation_stats[generation].collections;
#endif
}

/* --- The heap, in builds where CPython keeps its objects in heaps of their
   own: blocks of the object and memory domains of this interpreter.  World
   stopped. */

struct _PyTracer_visitor {
    void (*visit)(uintptr_t address, void *arg);
    void *arg;
};

#ifdef Py_GIL_DISABLED
static inline bool
_PyTracer_VisitHeapBlock(const mi_heap_t *Py_UNUSED(heap),
                         const mi_heap_area_t *Py_UNUSED(area), void *block,
                         size_t Py_UNUSED(size), void *arg)
{
    const struct _PyTracer_visitor *visitor = arg;
    if (block != NULL) {
        visitor->visit((uintptr_t)block, visitor->arg);
    }
    return true;
}

static inline void
_PyTracer_VisitHeapsOf(PyInterpreterState *interp,
                       struct _PyTracer_visitor *visitor)
{
    _Py_FOR_EACH_TSTATE_BEGIN(interp, t) {
        struct _mimalloc_thread_state *m =
            &((_PyThreadStateImpl *)t)->mimalloc;
        for (int i = 0; m->initialized && i < _Py_MIMALLOC_HEAP_COUNT; i++) {
            (void)mi_heap_visit_blocks(&m->heaps[i], true,
                                       _PyTracer_VisitHeapBlock, visitor);
        }
    }
    _Py_FOR_EACH_TSTATE_END(interp);
    for (uint8_t tag = 0; tag < _Py_MIMALLOC_HEAP_COUNT; tag++) {
        (void)_mi_abandoned_pool_visit_blocks(
            &interp->mimalloc.abandoned_pool, tag, true,
            _PyTracer_VisitHeapBlock, visitor);
    }
}
#else
static inline void
_PyTracer_VisitHeapsOf(PyInterpreterState *Py_UNUSED(interp),
                       struct _PyTracer_visitor *Py_UNUSED(visitor))
{
}
#endif

#ifdef Py_GIL_DISABLED
static inline bool
_PyTracer_AddHeapArea(const mi_heap_t *Py_UNUSED(heap),
                      const mi_heap_area_t *area, void *Py_UNUSED(block),
                      size_t Py_UNUSED(size), void *arg)
{
    *(uint64_t *)arg += area->used * area->block_size;
    return true;
}
#endif

/* Bytes in all of these blocks, of all interpreters.  World stopped, and
   HEAD_LOCK held. */
static inline uint64_t
_PyTracer_UsedOfHeaps(void)
{
    uint64_t used = 0;
#ifdef Py_GIL_DISABLED
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        for (PyThreadState *t = interp->threads.head; t != NULL; t = t->next) {
            struct _mimalloc_thread_state *m =
                &((_PyThreadStateImpl *)t)->mimalloc;
            for (int i = 0; m->initialized && i < _Py_MIMALLOC_HEAP_COUNT;
                 i++)
            {
                (void)mi_heap_visit_blocks(&m->heaps[i], false,
                                           _PyTracer_AddHeapArea, &used);
            }
        }
        for (uint8_t tag = 0; tag < _Py_MIMALLOC_HEAP_COUNT; tag++) {
            (void)_mi_abandoned_pool_visit_blocks(
                &interp->mimalloc.abandoned_pool, tag, false,
                _PyTracer_AddHeapArea, &used);
        }
    }
#endif
    return used;
}

/* Does the address belong to CPython's copy of mimalloc? */
static inline int
_PyTracer_IsMimalloc(uintptr_t address)
{
#ifdef WITH_MIMALLOC
    return mi_is_in_heap_region((const void *)address);
#else
    (void)address;
    return 0;
#endif
}

/* Keys that new instances of a class share, or NULL. */
static inline const void *
_PyTracer_CachedKeys(const PyObject *op)
{
    return ((const PyTypeObject *)op)->tp_flags & Py_TPFLAGS_HEAPTYPE
           ? ((const PyHeapTypeObject *)op)->ht_cached_keys : NULL;
}

/* --- Free lists: the first so many of enum _PyTracer_freelist are there. */

#if PY_VERSION_HEX >= 0x030f0000
#  define _PyTracer_HAS_FREELISTS (_PyTracer_BYTES_WRITER + 1)
#elif PY_VERSION_HEX >= 0x030e0000
#  define _PyTracer_HAS_FREELISTS (_PyTracer_METHOD + 1)
#else
#  define _PyTracer_HAS_FREELISTS (_PyTracer_PROFILER + 1)
#endif

/* From 3.14 on most of them are fields of one structure: field, kind, how much
   is in front of what it is given.  (tuples is an array.) */
#if PY_VERSION_HEX >= 0x030f0000
#  define _PyTracer_LISTS_OF_315(X)                             \
    X(complexes, COMPLEX, 0)                                    \
    X(bytes_writers, BYTES_WRITER, 0)
#else
#  define _PyTracer_LISTS_OF_315(X)
#endif
#if PY_VERSION_HEX >= 0x030e0000
#  define _PyTracer_LISTS(X)                                    \
    X(floats, FLOAT, 0)                                         \
    X(ints, INT, 0)                                             \
    X(tuples, TUPLE, _PyTracer_GC_HEADER)                       \
    X(lists, LIST, _PyTracer_GC_HEADER)                         \
    X(list_iters, LIST_ITER, _PyTracer_GC_HEADER)               \
    X(tuple_iters, TUPLE_ITER, _PyTracer_GC_HEADER)             \
    X(dicts, DICT, _PyTracer_GC_HEADER)                         \
    X(dictkeys, DICT_KEYS, 0)                                   \
    X(slices, SLICE, _PyTracer_GC_HEADER)                       \
    X(ranges, RANGE, 0)                                         \
    X(range_iters, RANGE_ITER, 0)                               \
    X(contexts, CONTEXT, _PyTracer_GC_HEADER)                   \
    X(async_gens, ASYNC_GEN, _PyTracer_GC_HEADER)               \
    X(async_gen_asends, ASYNC_GEN_ASEND, _PyTracer_GC_HEADER)   \
    X(futureiters, FUTURE_ITER, _PyTracer_GC_HEADER)            \
    X(object_stack_chunks, OBJECT_STACK, 0)                     \
    X(unicode_writers, UNICODE_WRITER, 0)                       \
    X(pycfunctionobject, C_FUNCTION, _PyTracer_GC_HEADER)       \
    X(pycmethodobject, C_METHOD, _PyTracer_GC_HEADER)           \
    X(pymethodobjects, METHOD, _PyTracer_GC_HEADER)             \
    _PyTracer_LISTS_OF_315(X)

/* Size of what is not an object. */
static inline size_t
_PyTracer_WriterSize(enum _PyTracer_freelist kind)
{
#if PY_VERSION_HEX >= 0x030f0000
    if (kind == _PyTracer_BYTES_WRITER) {
        return sizeof(PyBytesWriter);
    }
#endif
    assert(kind == _PyTracer_UNICODE_WRITER);
    return sizeof(_PyUnicodeWriter);
}
#endif

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_COMPAT_H */
