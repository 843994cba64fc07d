/* The heap as a graph, see tracer_heap.c. */

#ifndef Py_INTERNAL_TRACER_HEAP_H
#define Py_INTERNAL_TRACER_HEAP_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"  // TRACER_GOLDEN_64
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_take_blocks.h"
#include "pycore_tracer_types.h"

/* Make the kernel provide the memory of an array now. */
extern void _PyTracer_TouchHeap(void *array, uint64_t n, size_t item);

/* --- tracer_heap_index.c: numbers by address.  A table of regions leads to
   tables of pages, and these to a table of numbers for each page. */

#define TRACER_HEAP_SLOTS 256     // of 16 bytes, in a page
#define TRACER_HEAP_PAGE_BITS 12
#define TRACER_HEAP_REGION_BITS 30
#define TRACER_HEAP_PAGES \
    ((size_t)1 << (TRACER_HEAP_REGION_BITS - TRACER_HEAP_PAGE_BITS))
#define TRACER_HEAP_REGIONS ((size_t)1 << (48 - TRACER_HEAP_REGION_BITS))
struct tracer_heap_index {
    uint32_t ***regions[2];       // the second, for odd multiples of 8
    uint32_t **last;              // the table of pages that was made last
    uint32_t *chunk;              // the last one of some tables of numbers
    uint32_t *next;               // that is free, in it
    size_t left;
};
/* With tables for so many pages; `touch` them. */
extern int _PyTracer_InitHeapIndex(struct tracer_heap_index *index,
                                   size_t pages, int touch);
extern void _PyTracer_FreeHeapIndex(struct tracer_heap_index *index);
/* Make the numbers of a page that has none yet.  NULL: no memory. */
extern uint32_t *_PyTracer_NewHeapPage(struct tracer_heap_index *index,
                                       uint32_t ***region, size_t page);

/* Pointer to the number of an address, which is 0 if it has none yet; NULL: no
   memory.  Objects of the heap are aligned to 16 bytes.  Static objects that
   are not have tables of their own. */
static inline uint32_t *
_PyTracer_HeapSlot(struct tracer_heap_index *index, uintptr_t address)
{
    uint32_t ***region = &index->regions[address >> 3 & 1][
        (address >> TRACER_HEAP_REGION_BITS) % TRACER_HEAP_REGIONS];
    size_t page = (address >> TRACER_HEAP_PAGE_BITS) % TRACER_HEAP_PAGES;
    assert(address % 8 == 0);
    uint32_t *numbers = *region == NULL ? NULL : (*region)[page];
    if (numbers == NULL) {
        numbers = _PyTracer_NewHeapPage(index, region, page);
        if (numbers == NULL) {
            return NULL;
        }
    }
    return &numbers[address / 16 % TRACER_HEAP_SLOTS];
}

/* At least so many items, from the kernel: a child that shares no lock with
   anybody must not call malloc(). */
static inline void *
_PyTracer_HeapArray(uint64_t n, size_t item)
{
    return _PySnapshot_Room(n + SNAPSHOT_LARGE / item, item);
}

/* --- tracer_heap.c */

/* Before there are strings, names are addresses of texts. */
enum tracer_heap_form {
    TRACER_HEAP_AS_IS,            // const char *
    TRACER_HEAP_MEMBER,           // const char *, as an attribute
    TRACER_HEAP_ATTRIBUTE,        // str
    TRACER_HEAP_LOCAL,            // str
    TRACER_HEAP_CLOSURE,          // str
};
struct tracer_heap_name {
    const void *text;
    enum tracer_heap_form form;
    int32_t offset;               // where in the object the reference is
    int counted;                  // although tp_traverse skips it
};

/* Shapes by what they are made of: a type, keys, a code object. */
struct tracer_heap_shapes {
    struct snapshot_shape *list;
    struct tracer_heap_name *names;
    uint64_t *keys;               // hash table: address and what it is
    uint32_t *numbers;
    uint32_t n, size, nnames, names_size, mask;
};

/* How objects of a type are walked. */
enum tracer_heap_way {
    TRACER_HEAP_LEAF,             // they refer to nothing
    TRACER_HEAP_DICT,
    TRACER_HEAP_LIST,
    TRACER_HEAP_TUPLE,
    TRACER_HEAP_CODE,
    TRACER_HEAP_FRAME,
    TRACER_HEAP_GENERATOR,        // or coroutine
    TRACER_HEAP_FIELDS,           // the names of the shape are all there is
    TRACER_HEAP_INSTANCE,         // slots, a dict or values, and the class
    TRACER_HEAP_TRACKED,          // tp_traverse visits them
    TRACER_HEAP_UNTRACKED,
    TRACER_HEAP_SOME_TRACKED,     // the object is asked
};
struct tracer_heap_type {
    const PyTypeObject *type;     // NULL: none
    uint32_t number;
    uint32_t shape;
    uint32_t nslots;              // of an instance
    enum tracer_heap_way way;
};

/* Interpreters whose objects may be read at the moment: the current one first,
   then those that share its GIL; all, without a GIL. */
#define TRACER_HEAP_INTERPRETERS 256
struct tracer_heap_interpreters {
    PyInterpreterState *list[TRACER_HEAP_INTERPRETERS];
    uint32_t n;
    uint32_t nleft_out;           // others
};

struct tracer_heap {
    struct snapshot_graph *graph;
    const struct tracer_heap_interpreters *interpreters;
    struct tracer_heap_index index;
    struct tracer_heap_shapes shapes;
    struct tracer_heap_type *types;       // hash table
    uint32_t ntypes, types_mask;
    uint64_t objects_size, references_size, buffers_size;
    const PyObject **visited;     // by tp_traverse of one object
    uint64_t nvisited, visited_size;
    /* Texts, which become strings of the snapshot. */
    char *text;
    struct snapshot_string *strings;
    uint64_t text_used, text_size, strings_size;
    uint32_t nstrings;
    uint32_t *named;              // str whose text is wanted, and dictionaries
    uint64_t nnamed, named_size;  //   whose keys are
    uint32_t nwalked;             // objects; nothing reaches the later ones
    int failed;                   // no memory, or too much of something
};

/* Writable data, in which tracer_heap_scan.c looks for references. */
enum tracer_segment_kind {        // the last ones are looked at last
    TRACER_SEGMENT_LIBRARY,
    TRACER_SEGMENT_INTERPRETER,   // has much that it does not hold
    TRACER_SEGMENT_STACK,
    TRACER_SEGMENT_OTHERS,        // none: those left out may hold the rest
    TRACER_NSEGMENTS
};
struct tracer_segment {           // writable data
    uintptr_t begin, end;
    size_t name;                  // where it is in `names`
    enum tracer_segment_kind kind;
};
struct tracer_segments {
    struct tracer_segment *list;  // those of a library next to each other
    char *names;
    size_t n, size, names_used, names_size;
};

/* Before the moment: memory for so many blocks, or objects without one.  With
   `touch` it is touched: page faults would take most of the time otherwise. 0,
   or -1: no memory. */
PyAPI_FUNC(int) _PyTracer_PrepareHeap(struct tracer_heap *heap,
                                      uint64_t blocks, int touch);
/* At the moment. */
PyAPI_FUNC(void) _PyTracer_ListInterpreters(
    struct tracer_heap_interpreters *interpreters);
/* Capture the heap of these interpreters; `keys`: with the texts of keys of
   all dicts.  Makes no Python object and calls no code of the program.  0, or
   -1: no memory.  GIL held, or the world stopped. */
PyAPI_FUNC(int) _PyTracer_CaptureHeap(
    struct tracer_heap *heap,
    const struct tracer_heap_interpreters *interpreters, int keys);
/* Compute the surplus references, once all references are known. */
PyAPI_FUNC(void) _PyTracer_CountSurplus(struct tracer_heap *heap);
/* After the moment: the other texts; objects that only C code holds, which are
   those of a snapshot's blocks that are not in the graph; the surplus; the
   libraries that may hold it.  Needs no GIL. */
extern void _PyTracer_CompleteHeap(struct tracer_heap *heap,
                                   const struct tracer_snapshot *s,
                                   const struct tracer_types *types,
                                   const struct tracer_segments *segments);
/* The graph becomes the snapshot's, its texts strings there.  Needs no GIL.
   0, or -1: no memory. */
PyAPI_FUNC(int) _PyTracer_FinishHeap(struct tracer_heap *heap,
                                     struct tracer_snapshot *s);
PyAPI_FUNC(void) _PyTracer_FreeHeap(struct tracer_heap *heap);

/* `slot`: that of the address; NULL: no memory. */
extern uint32_t _PyTracer_NewHeapObject(struct tracer_heap *heap,
                                        const void *address, uint32_t *slot);
extern int _PyTracer_MoreReferences(struct tracer_heap *heap);

/* --- tracer_heap_scan.c: which library's C code may hold an object */
/* List the segments of this moment, and the stack of the caller: fewer without
   memory.  `segments` is all zero.  No GIL needed. */
PyAPI_FUNC(void) _PyTracer_ListSegments(struct tracer_segments *segments);
PyAPI_FUNC(void) _PyTracer_FreeSegments(struct tracer_segments *segments);
/* After CountSurplus(): add libraries as objects, and take what they may hold
   off the surplus.  Needs no GIL. */
PyAPI_FUNC(void) _PyTracer_ScanSegments(
    struct tracer_heap *heap, const struct tracer_segments *segments);

/* --- tracer_heap_child.c: the same in a child, which has a copy of the heap;
   with the blocks */
struct tracer_heap_child {
    int pid, fd;
    int error, signal;            // of a failure: errno, what killed it
};
/* At the moment, locked, with the types kept; 0, or -1.  GIL held, or the
   world stopped. */
extern int _PyTracer_ForkHeap(
    struct tracer_heap_child *child,
    const struct tracer_heap_interpreters *interpreters, int keys,
    struct tracer_blocks_copy *blocks, const struct tracer_segments *segments);
/* Wait for the child, and take over what it has copied, for FinishBlocks() and
   FinishHeap(); 0, or -1.  GIL not held. */
extern int _PyTracer_JoinHeap(struct tracer_heap_child *child,
                              struct tracer_blocks_copy *blocks,
                              struct tracer_heap *heap);

/* The number of an object; one is made if it has none. */
static inline uint32_t
_PyTracer_HeapObject(struct tracer_heap *heap, const void *address)
{
    uint32_t *slot = _PyTracer_HeapSlot(&heap->index, (uintptr_t)address);
    return slot != NULL && *slot != 0
           ? *slot : _PyTracer_NewHeapObject(heap, address, slot);
}

/* A reference from the object that is being walked; NULL is number 0. */
static inline void
_PyTracer_HeapReference(struct tracer_heap *heap, const void *op)
{
    struct snapshot_graph *g = heap->graph;
    if (g->nreferences == heap->references_size
        && _PyTracer_MoreReferences(heap) < 0)
    {
        return;
    }
    g->references[g->nreferences++] =
        op == NULL ? 0 : _PyTracer_HeapObject(heap, op);
}

/* The same for tp_traverse, where NULL is none; returns 0. */
extern int _PyTracer_HeapVisit(PyObject *op, void *heap);
/* A reference to a frame or a thread, which is not an object; returns its
   number. */
extern uint32_t _PyTracer_HeapPseudo(struct tracer_heap *heap,
                                     const void *address, uint32_t shape);
static inline void
_PyTracer_SetHeapShape(struct tracer_heap *heap, uint32_t object,
                       uint32_t shape)
{
    heap->graph->objects[object].shape = shape;
}

/* A block of the object that is being walked. */
extern void _PyTracer_HeapBuffer(struct tracer_heap *heap, const void *address,
                                 uint32_t object);

/* --- tracer_heap_types.c */
extern int _PyTracer_InitHeapTypes(struct tracer_heap *heap, int touch);
extern const struct tracer_heap_type *_PyTracer_FindHeapType(
    struct tracer_heap *heap, PyTypeObject *type);
static inline uint32_t
_PyTracer_HeapTypeHash(const PyTypeObject *type)
{
    return (uint32_t)(((uintptr_t)type * TRACER_GOLDEN_64) >> 32);
}

/* What is known of a type, until the next call; NULL: no memory. */
static inline const struct tracer_heap_type *
_PyTracer_HeapType(struct tracer_heap *heap, PyTypeObject *type)
{
    const struct tracer_heap_type *known =
        &heap->types[_PyTracer_HeapTypeHash(type) & heap->types_mask];
    return known->type == type ? known : _PyTracer_FindHeapType(heap, type);
}

/* --- tracer_heap_shapes.c.  Shapes are made at the first call. */
#define TRACER_HEAP_MAX_NAMES 4096        // of a shape
extern int _PyTracer_InitHeapShapes(struct tracer_heap *heap, int touch);
/* Are the fields that have names all references that such objects have? */
extern int _PyTracer_HasKnownFields(const PyTypeObject *type);
extern uint32_t _PyTracer_ShapeOfType(struct tracer_heap *heap,
                                      PyTypeObject *type);
extern uint32_t _PyTracer_ShapeOfKeys(struct tracer_heap *heap,
                                      PyDictKeysObject *keys);
enum tracer_heap_code {           // what it is the shape of
    TRACER_HEAP_OF_FRAME,
    TRACER_HEAP_OF_GENERATOR,
    TRACER_HEAP_OF_CLOSURE,
};
extern uint32_t _PyTracer_ShapeOfCode(struct tracer_heap *heap,
                                      PyCodeObject *code,
                                      enum tracer_heap_code what);
/* A new shape whose names are plain texts. */
extern uint32_t _PyTracer_ShapeOfNames(struct tracer_heap *heap, uint32_t kind,
                                       const char *const *names, size_t n);

/* --- tracer_heap_texts.c */
#define TRACER_HEAP_WANTED (SNAPSHOT_NONE - 1)    // text of an object, so far
extern int _PyTracer_InitHeapTexts(struct tracer_heap *heap, int touch);
/* Keep the text of the object if it is a str; keep the texts of a dictionary's
   keys. */
extern void _PyTracer_WantText(struct tracer_heap *heap, const void *str);
extern void _PyTracer_WantKeys(struct tracer_heap *heap, uint32_t object);
extern uint32_t _PyTracer_AddText(struct tracer_heap *heap, const char *utf8,
                                  size_t length);
/* At the end of the moment, copy those of the wanted texts and names that may
   be gone later; after it, the others. */
extern void _PyTracer_CopyTexts(struct tracer_heap *heap);
extern void _PyTracer_CopyLastingTexts(struct tracer_heap *heap);

/* --- tracer_heap_walk.c, tracer_heap_code.c: what an object refers to. */
extern void _PyTracer_WalkObject(struct tracer_heap *heap, uint32_t object,
                                 PyObject *op,
                                 const struct tracer_heap_type *type);
extern void _PyTracer_WalkFrameObject(struct tracer_heap *heap,
                                      uint32_t object, PyFrameObject *f);
extern void _PyTracer_WalkGenerator(struct tracer_heap *heap, uint32_t object,
                                    PyGenObject *gen);
/* `gen`: the frame is its own; or NULL. */
extern void _PyTracer_WalkFrame(struct tracer_heap *heap,
                                _PyInterpreterFrame *frame, PyGenObject *gen);
extern void _PyTracer_WalkCode(struct tracer_heap *heap, uint32_t object,
                               PyCodeObject *code);
/* The names by which the closure of a function, itself already recorded,
   refers to objects. */
extern void _PyTracer_NameClosure(struct tracer_heap *heap,
                                  PyFunctionObject *function);
/* A reference to a running frame, if it belongs to no object. */
extern void _PyTracer_ReferToFrame(struct tracer_heap *heap,
                                   _PyInterpreterFrame *frame);
/* --- tracer_heap_arrays.c: NumPy arrays of a known layout. */
extern const size_t _PyTracer_ArrayBase, _PyTracer_ArrayDtype;
extern int _PyTracer_IsArrayType(const PyTypeObject *type);
/* The references that have no names, and the blocks. */
extern void _PyTracer_WalkItemsOfArray(struct tracer_heap *heap,
                                       uint32_t object, PyObject *op);
/* --- tracer_heap_garbage.c: objects that the collector has found, while it
   runs finalizers and callbacks */
extern void _PyTracer_VisitGarbage(PyInterpreterState *interp,
                                   gcvisitobjects_t visit, void *arg);
/* --- tracer_heap_roots.c */
extern void _PyTracer_WalkFixed(struct tracer_heap *heap, uint32_t object);
/* An object for another interpreter; what it refers to. */
extern void _PyTracer_AddInterpreter(struct tracer_heap *heap,
                                     const PyInterpreterState *interp);
extern void _PyTracer_WalkInterpreter(struct tracer_heap *heap,
                                      uint32_t object);
extern void _PyTracer_WalkThread(struct tracer_heap *heap, uint32_t object);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HEAP_H */
