/* Hooks of the allocation tracer: everything that the patches of CPython call,
   except for pymalloc's.  pycore_tstate.h includes this header, and every
   patched file includes pycore_tstate.h indirectly.

   Every hook site in CPython is one line, the call of a macro below.  A hook
   costs one predictable branch on one global while tracing is off, and
   nothing in the "ignore" free-list flavour.  All hooks are called with the
   GIL held; `block` is the address that the allocator returned (the object
   minus its pre-header), `size` the size in bytes that would be asked of it.

   _PyTracer_PARK(kind, block, size)
       `block` has just been put on a free list: it is neither live nor freed.
   _PyTracer_UNPARK(kind, block, size)
       `block` has just been taken off a free list: it is allocated here, now.
   _PyTracer_PARK_LISTED(number, op)
   _PyTracer_UNPARK_LISTED(number, op)
       The same where CPython has one structure for all free lists.  The number
       of the list in it, mostly a constant, says what the kind and size are,
       see pycore_tracer_compat.h.
   A block that leaves a free list for the allocator (a drain) needs no hook:
   the allocator's own free ends it. */

#ifndef Py_INTERNAL_TRACER_H
#define Py_INTERNAL_TRACER_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <limits.h>               // INT_MAX
#include <stdint.h>               // uint32_t

/* Free lists of CPython: enum suffix, name in reports.  Lists that are new in
   a series come after those of the series before: each series has the first
   _PyTracer_HAS_FREELISTS of them (pycore_tracer_compat.h). */
#define _PyTracer_FREELISTS(X)          \
    X(FLOAT, "float")                   \
    X(TUPLE, "tuple")                   \
    X(LIST, "list")                     \
    X(DICT, "dict")                     \
    X(DICT_KEYS, "dict_keys")           \
    X(SLICE, "slice")                   \
    X(CONTEXT, "context")               \
    X(ASYNC_GEN, "async_gen")           \
    X(ASYNC_GEN_ASEND, "async_gen_asend") \
    X(OBJECT_STACK, "object_stack")     \
    X(MEMORY_ERROR, "memory_error")     \
    X(FUTURE_ITER, "future_iter")       \
    X(DEQUE_BLOCK, "deque_block")       \
    X(PROFILER, "profiler")             \
    X(INT, "int")                       \
    X(LIST_ITER, "list_iter")           \
    X(TUPLE_ITER, "tuple_iter")         \
    X(RANGE, "range")                   \
    X(RANGE_ITER, "range_iter")         \
    X(UNICODE_WRITER, "unicode_writer") \
    X(C_FUNCTION, "c_function")         \
    X(C_METHOD, "c_method")             \
    X(METHOD, "method")                 \
    X(COMPLEX, "complex")               \
    X(BYTES_WRITER, "bytes_writer")

enum _PyTracer_freelist {
#define _PyTracer_FREELIST_ENUM(NAME, TEXT) _PyTracer_##NAME,
    _PyTracer_FREELISTS(_PyTracer_FREELIST_ENUM)
#undef _PyTracer_FREELIST_ENUM
    _PyTracer_NFREELISTS
};

/* Nonzero while tracing.  Written with the GIL held.  It is a byte, because
   compilers compare a byte in memory in a single instruction. */
PyAPI_DATA(char) _PyTracer_enabled;

PyAPI_FUNC(void) _PyTracer_Park(enum _PyTracer_freelist kind, void *block,
                                size_t size);
PyAPI_FUNC(void) _PyTracer_Unpark(enum _PyTracer_freelist kind, void *block,
                                  size_t size);

/* The lists that every program uses heavily have functions of their own, which
   take the object: field of the structure of 3.14, kind. */
#define _PyTracer_HOT_LISTS(X, ...)         \
    X(floats, FLOAT, __VA_ARGS__)           \
    X(ints, INT, __VA_ARGS__)               \
    X(tuples, TUPLE, __VA_ARGS__)           \
    X(lists, LIST, __VA_ARGS__)             \
    X(dicts, DICT, __VA_ARGS__)             \
    X(dictkeys, DICT_KEYS, __VA_ARGS__)     \
    X(slices, SLICE, __VA_ARGS__)           \
    X(pymethodobjects, METHOD, __VA_ARGS__)

#define _PyTracer_DECLARE_HOT(FIELD, KIND, ...)         \
    PyAPI_FUNC(void) _PyTracer_Park_##KIND(void *op);   \
    PyAPI_FUNC(void) _PyTracer_Unpark_##KIND(void *op);
_PyTracer_HOT_LISTS(_PyTracer_DECLARE_HOT, _)
#undef _PyTracer_DECLARE_HOT

/* The list with this number among all of the structure. */
PyAPI_FUNC(void) _PyTracer_ParkListed(size_t number, void *op);
PyAPI_FUNC(void) _PyTracer_UnparkListed(size_t number, void *op);

#ifdef PYTRACEMALLOC_FREELISTS_IGNORE
#  define _PyTracer_PARK(KIND, BLOCK, SIZE) ((void)0)
#  define _PyTracer_UNPARK(KIND, BLOCK, SIZE) ((void)0)
#  define _PyTracer_PARK_HOT(KIND, OP) ((void)0)
#  define _PyTracer_UNPARK_HOT(KIND, OP) ((void)0)
#  define _PyTracer_PARK_LISTED(NUMBER, OP) ((void)(NUMBER))
#  define _PyTracer_UNPARK_LISTED(NUMBER, OP) ((void)(NUMBER))
#else
#  define _PyTracer_PARK_HOT(KIND, OP)                                  \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_Park_##KIND(OP);                                  \
        }                                                               \
    } while (0)
#  define _PyTracer_UNPARK_HOT(KIND, OP)                                \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_Unpark_##KIND(OP);                                \
        }                                                               \
    } while (0)
#  define _PyTracer_PARK(KIND, BLOCK, SIZE)                             \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_Park(_PyTracer_##KIND, (BLOCK), (SIZE));          \
        }                                                               \
    } while (0)
#  define _PyTracer_UNPARK(KIND, BLOCK, SIZE)                           \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_Unpark(_PyTracer_##KIND, (BLOCK), (SIZE));        \
        }                                                               \
    } while (0)
#  define _PyTracer_PARK_LISTED(NUMBER, OP)                             \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_HOT_LISTS(_PyTracer_IF_LISTED, Park, (NUMBER), (OP)) \
            {                                                           \
                _PyTracer_ParkListed((NUMBER), (OP));                   \
            }                                                           \
        }                                                               \
    } while (0)
#  define _PyTracer_UNPARK_LISTED(NUMBER, OP)                           \
    do {                                                                \
        if (__builtin_expect(_PyTracer_enabled, 0)) {                   \
            _PyTracer_HOT_LISTS(_PyTracer_IF_LISTED, Unpark, (NUMBER), (OP)) \
            {                                                           \
                _PyTracer_UnparkListed((NUMBER), (OP));                 \
            }                                                           \
        }                                                               \
    } while (0)
#  define _PyTracer_IF_LISTED(FIELD, KIND, FUNCTION, NUMBER, OP)        \
    if (_PyTracer_IS_LIST(FIELD, NUMBER)) {                             \
        _PyTracer_##FUNCTION##_##KIND(OP);                              \
    }                                                                   \
    else
#endif

/* The number of the list in a field of struct _Py_freelists, or in an item of
   it; how many lists the field has; whether one of them has this number. */
#define _PyTracer_LIST_NUMBER(FIELD)                                    \
    (offsetof(struct _Py_freelists, FIELD) / sizeof(struct _Py_freelist))
#define _PyTracer_LIST_COUNT(FIELD)                                     \
    (sizeof(((struct _Py_freelists *)0)->FIELD) / sizeof(struct _Py_freelist))
#define _PyTracer_IS_LIST(FIELD, NUMBER)                                \
    ((NUMBER) - _PyTracer_LIST_NUMBER(FIELD) < _PyTracer_LIST_COUNT(FIELD))

/* Are the lists of that structure used?  In the flavour "disable" they are
   not; if CPython has an option for that, the build sets it. */
#ifdef PYTRACEMALLOC_FREELISTS_DISABLE
#  define _PyTracer_KEEPS_FREELISTS 0
#else
#  define _PyTracer_KEEPS_FREELISTS 1
#endif

/* Park and unpark an object with a GC header in front.  Builds without the
   GIL, where each object belongs to a thread, have no such header. */
#ifdef _Py_UNOWNED_TID
#  define _PyTracer_GC_HEADER 0
#else
#  define _PyTracer_GC_HEADER (2 * sizeof(uintptr_t))
#endif
#define _PyTracer_PARK_GC(KIND, OP, SIZE)                               \
    _PyTracer_PARK(KIND, (char *)(OP) - _PyTracer_GC_HEADER,            \
                   (SIZE) + _PyTracer_GC_HEADER)
#define _PyTracer_UNPARK_GC(KIND, OP, SIZE)                             \
    _PyTracer_UNPARK(KIND, (char *)(OP) - _PyTracer_GC_HEADER,          \
                     (SIZE) + _PyTracer_GC_HEADER)

/* A function that compilers inline into its callers in stock, but would not
   with the hook in it. */
#define _PyTracer_INLINE inline

/* _PyObject_Init() for a type that is immortal: the time saved makes up for
   the hook. */
#define _PyTracer_INIT(OP, TYPE)                \
    do {                                        \
        Py_SET_TYPE(OP, TYPE);                  \
        _Py_NewReference(OP);                   \
    } while (0)

/* _Py_NewReference() without a call, unless somebody watches: the time saved
   makes up for the hooks of the object's free list. */
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS) || SIZEOF_VOID_P <= 4 \
    || defined(_Py_UNOWNED_TID)
#  define _PyTracer_NEW_REFERENCE(OP) _Py_NewReference(OP)
#else
#  define _PyTracer_NEW_REFERENCE(OP)                                   \
    do {                                                                \
        (OP)->ob_refcnt_full = 1;                                       \
        if (__builtin_expect(                                           \
                _PyRuntime.ref_tracer.tracer_func != NULL, 0)) {        \
            _Py_NewReference(OP);                                       \
        }                                                               \
    } while (0)
#endif

/* Blocks that may go to a free list must be in a pool of pymalloc, where the
   short way looks.  A tuple that is too large for a pool gets a new block when
   it shrinks to a size that is parked; realloc() would leave it where it is.
   0, or -1 with an exception and *tuple NULL, as _PyTuple_Resize(). */
#if _PyTracer_KEEPS_FREELISTS
#  define _PyTracer_SHRINKS(OLD_SIZE, NEW_SIZE)                         \
       ((OLD_SIZE) > PyTuple_MAXSAVESIZE && (NEW_SIZE) <= PyTuple_MAXSAVESIZE)
#else
#  define _PyTracer_SHRINKS(OLD_SIZE, NEW_SIZE) 0
#endif
extern int _PyTracer_ShrinkTuple(PyObject **tuple, Py_ssize_t size);

/* Top of the last capture of a thread: the frame, the node above its own
   nodes, and the shadow stack. */
struct _PyTracer_top {
    struct _PyInterpreterFrame *frame;
    uint32_t parent;
    uint32_t hidden;              // see tracer_hide.c; written with the GIL
    struct tracer_stack *stack;
    struct {
        const struct _PyInterpreterFrame *frame;      // NULL: none
        const void *instr;
        uint32_t node;
    } native;                     // see tracer_alone.c; locked
};
#define _PyTracer_IS_HIDDEN(TSTATE) \
    (((_PyThreadStateImpl *)(TSTATE))->tracer.hidden)

/* Forget what is known of a code object that is about to be freed.  The
   second: a code object is about to be made.  GIL held. */
extern void _PyTracer_CodeDealloc(PyCodeObject *code);
extern void _PyTracer_CodeNew(void);
#define _PyTracer_CODE_NEW()                    \
    do {                                        \
        if (_PyTracer_enabled) {                \
            _PyTracer_CodeNew();                \
        }                                       \
    } while (0)
#define _PyTracer_CODE_DEALLOC(CODE)            \
    do {                                        \
        if (_PyTracer_enabled) {                \
            _PyTracer_CodeDealloc(CODE);        \
        }                                       \
    } while (0)

/* A thread has been made by the current one, if that has a state. */
extern void _PyTracer_ThreadNew(PyThreadState *tstate);
/* Called around finalizers and callbacks that the collector calls: what they
   allocate belongs to the program, though the thread may be hidden.  Show
   returns whether it was.  GIL held. */
extern uint32_t _PyTracer_ShowThread(PyThreadState *tstate);
extern void _PyTracer_HideAgain(PyThreadState *tstate, uint32_t hidden);

/* Called around a script of sys.remote_exec(), which the interpreter reads
   from a file: if the script is from a command of ours, the thread is hidden.
   The first returns whether it was hidden before, the second restores that.
   GIL held. */
extern int _PyTracer_BeginScript(const char *path, size_t size);
extern void _PyTracer_EndScript(int hidden);

/* Release the shadow stack of a thread that ends. */
extern void _PyTracer_ThreadDealloc(PyThreadState *tstate);

/* The states of all other threads are about to be freed.  At the end of the
   process these threads may still exist, without the GIL. */
extern void _PyTracer_ThreadsEnd(void);

/* Called around the deletion of objects that the cyclic collector found
   unreachable: blocks that this thread frees in between count as cyclic
   garbage. */
extern void _PyTracer_GarbageBegin(PyThreadState *tstate);
extern void _PyTracer_GarbageEnd(PyThreadState *tstate);

/* Heads of the lists, on the collector's stack, of objects that it has found:
   when it begins to run finalizers and callbacks; the objects that a finalizer
   has seen; those that are left and will be deleted; none any more.  GIL
   held. */
extern void _PyTracer_GarbageFound(PyThreadState *tstate,
                                   const void *unreachable,
                                   const void *finalizers);
extern void _PyTracer_GarbageSeen(PyThreadState *tstate, const void *seen);
extern void _PyTracer_GarbageLeft(PyThreadState *tstate,
                                  const void *unreachable);
extern void _PyTracer_GarbageGone(PyThreadState *tstate);

/* An interpreter is being made, and nothing has run in it yet.  If it is to
   have a GIL of its own, no GIL protects the tracer any more.  The same holds
   for memory of its own: when that is freed, its thread has given up the GIL.
   The creator's GIL is held, if it has one. */
extern void _PyTracer_OwnGil(PyInterpreterState *interp);
#define _PyTracer_NEW_INTERPRETER(INTERP, CONFIG)                       \
    do {                                                                \
        if ((CONFIG)->gil == PyInterpreterConfig_OWN_GIL                \
            || !(CONFIG)->use_main_obmalloc)                            \
        {                                                               \
            _PyTracer_OwnGil(INTERP);                                   \
        }                                                               \
    } while (0)

/* An interpreter ends, or could not be made: nothing runs in it any more, and
   its memory is about to be freed. */
extern void _PyTracer_InterpreterEnd(PyInterpreterState *interp);

/* Start-up.  PyConfig.tracemalloc is the number of frames; this value stands
   for the whole stack. */
#define _PyTracer_FULL INT_MAX

/* Value of PYTHONTRACEMALLOC or else PYTRACEMALLOC; NULL if neither is set
   or the environment is ignored. */
extern const char *_PyTracer_GetEnv(int use_environment);
/* The error message for a value that is not a number of frames. */
extern const char *_PyTracer_EnvError(void);
/* Read a number, or "full" as _PyTracer_FULL.  -1 if it is neither.  `read` is
   initconfig.c's own function for numbers. */
extern int _PyTracer_ReadFrames(const char *text, int *nframe);
extern int _PyTracer_ReadWideFrames(const wchar_t *text, int *nframe,
                                    int (*read)(const wchar_t *, int *));
/* 0, or -1 with an exception. */
extern int _PyTracer_StartAtInit(int nframe);

/* How many threads of the process belong to the tracer, see
   tracer_history.c. */
extern int _PyTracer_OwnThreads(void);

/* Around a call of os.execv() or os.execve(): 1 before it, 0 if it has
   failed; see tracer_keep.c. */
extern void _PyTracer_NoteExec(int replaces);

/* A MemoryError is about to be made; see tracer_oom.c.  With the GIL. */
extern void _PyTracer_MemoryErrorNew(void);

/* Start the control socket (-X tracemalloc_control=PATH or the variable
   PYTRACEMALLOC_CONTROL), memory over time (-X tracemalloc_history or
   PYTRACEMALLOC_HISTORY) and the recording of `pytracemalloc run` (the
   variable PYTRACEMALLOC_RUN): call pytracemalloc.services.run() if one of
   them is given, else do nothing.  For the main interpreter, after the import
   of site, with the GIL held.  Cannot fail: an error is printed to stderr and
   the program runs without. */
extern void _PyTracer_StartServices(const PyConfig *config);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_H */
