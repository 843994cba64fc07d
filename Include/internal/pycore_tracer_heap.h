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
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_types.h"

/* --- tracer_heap_index.c: numbers by address, a table for each page */

#define TRACER_HEAP_PAGE_BITS 12
#define TRACER_HEAP_SLOTS 256     // of 16 bytes
struct tracer_heap_page {
    uintptr_t page;
    uint32_t numbers[TRACER_HEAP_SLOTS];  // 0: none
};
struct tracer_heap_index {
    struct tracer_heap_page **pages;      // by hash
    struct tracer_heap_page *chunk;       // the last one of some pages
    struct tracer_heap_page *next;        // that is free, in it
    struct tracer_heap_page *last;        // found
    size_t mask, npages, left;
};
/* With room for so many pages. */
extern int _PyTracer_InitHeapIndex(struct tracer_heap_index *index,
                                   size_t pages);
extern void _PyTracer_FreeHeapIndex(struct tracer_heap_index *index);
extern struct tracer_heap_page *_PyTracer_HeapPage(
    struct tracer_heap_index *index, uintptr_t page);

/* Where the number of an address is, 0: none so far; NULL: no memory.  Some
   static objects lie between those of the heap, which are aligned to 16 bytes:
   they have pages of their own. */
static inline uint32_t *
_PyTracer_HeapSlot(struct tracer_heap_index *index, uintptr_t address)
{
    uintptr_t page = address >> TRACER_HEAP_PAGE_BITS << 1
                     | (address >> 3 & 1);
    assert(address % 8 == 0);
    if (index->last == NULL || index->last->page != page) {
        struct tracer_heap_page *found = _PyTracer_HeapPage(index, page);
        if (found == NULL) {
            return NULL;
        }
        index->last = found;
    }
    return &index->last->numbers[address / 16 % TRACER_HEAP_SLOTS];
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
    int counted;                  // though tp_traverse does not tell it
};

/* Shapes by what they are made of: a type, keys, a code object. */
struct tracer_heap_shapes {
    struct snapshot_shape *list;
    struct tracer_heap_name *names;
    uint64_t *keys;               // hash table: address and what it is
    uint32_t *numbers;
    uint32_t n, size, nnames, names_size, mask;
};

struct tracer_heap {
    struct snapshot_graph *graph;
    struct tracer_heap_index index;
    struct tracer_heap_shapes shapes;
    uint64_t objects_size, references_size, buffers_size;
    const PyObject **visited;     // by tp_traverse of one object
    uint64_t nvisited, visited_size;
    const PyTypeObject *last_type;
    uint32_t last_type_number;
    /* Texts, which become strings of the snapshot. */
    char *text;
    struct snapshot_string *strings;
    uint64_t text_used, text_size, strings_size;
    uint32_t nstrings;
    int failed;                   // no memory, or too much of something
};

/* Before the moment: memory for so many blocks, or objects without one.
   Touched, if `touch`: page faults would be most of the moment.  0, or -1: no
   memory. */
PyAPI_FUNC(int) _PyTracer_PrepareHeap(struct tracer_heap *heap,
                                      uint64_t blocks, int touch);
/* Capture the heap of the current interpreter; `keys`: with the texts of keys
   of all dicts.  Makes no Python object and calls no code of the program.  0,
   or -1: no memory.  GIL held, or the world stopped. */
PyAPI_FUNC(int) _PyTracer_CaptureHeap(struct tracer_heap *heap, int keys);
/* Add objects that only C code holds: those of a snapshot's blocks that are
   not in the graph.  Looks at none, and needs no GIL. */
extern void _PyTracer_AddUnreached(struct tracer_heap *heap,
                                   const struct tracer_snapshot *s,
                                   const struct tracer_types *types);
/* The graph becomes the snapshot's, its texts strings there.  Needs no GIL.
   0, or -1: no memory. */
PyAPI_FUNC(int) _PyTracer_FinishHeap(struct tracer_heap *heap,
                                     struct tracer_snapshot *s);
PyAPI_FUNC(void) _PyTracer_FreeHeap(struct tracer_heap *heap);

extern uint32_t _PyTracer_NewHeapObject(struct tracer_heap *heap,
                                        const void *address);
extern int _PyTracer_MoreReferences(struct tracer_heap *heap);

/* --- tracer_heap_child.c: the same in a child, which has a copy */
struct tracer_heap_child {
    int pid, fd;
    int error, signal;            // where it fails: errno, what has killed it
};
/* At the moment; 0, or -1.  GIL held, or the world stopped. */
extern int _PyTracer_ForkHeap(struct tracer_heap_child *child, int keys,
                              const struct tracer_snapshot *s,
                              const struct tracer_types *types);
/* Wait for the child, and take over what it has captured, for FinishHeap(); 0,
   or -1.  GIL not held. */
extern int _PyTracer_JoinHeap(struct tracer_heap_child *child,
                              struct tracer_heap *heap);

/* The number of an object; one is made if it has none. */
static inline uint32_t
_PyTracer_HeapObject(struct tracer_heap *heap, const void *address)
{
    uint32_t *slot = _PyTracer_HeapSlot(&heap->index, (uintptr_t)address);
    if (slot == NULL || *slot == 0) {
        return _PyTracer_NewHeapObject(heap, address);
    }
    return *slot;
}

/* A reference from the object that is being walked; NULL is number 0. */
static inline void
_PyTracer_HeapReference(struct tracer_heap *heap, const void *op)
{
    struct snapshot_graph *g = heap->graph;
    if (heap->failed || (g->nreferences == heap->references_size
                         && _PyTracer_MoreReferences(heap) < 0))
    {
        return;
    }
    g->references[g->nreferences++] =
        op == NULL ? 0 : _PyTracer_HeapObject(heap, op);
}

/* The same for tp_traverse, where NULL is none; returns 0. */
extern int _PyTracer_HeapVisit(PyObject *op, void *heap);
/* A reference to what is no object, and who refers to it: frame or thread. */
extern uint32_t _PyTracer_HeapPseudo(struct tracer_heap *heap,
                                     const void *address, uint32_t shape);
/* A block of the object that is being walked. */
extern void _PyTracer_HeapBuffer(struct tracer_heap *heap, const void *address,
                                 uint32_t object);

/* --- tracer_heap_shapes.c.  Shapes are made at the first call. */
extern int _PyTracer_InitHeapShapes(struct tracer_heap *heap);
extern uint32_t _PyTracer_ShapeOfType(struct tracer_heap *heap,
                                      PyTypeObject *type);
extern uint32_t _PyTracer_ShapeOfKeys(struct tracer_heap *heap,
                                      PyDictKeysObject *keys);
enum tracer_heap_code {           // what it is the shape of
    TRACER_HEAP_FRAME,
    TRACER_HEAP_GENERATOR,
    TRACER_HEAP_CLOSURES,
};
extern uint32_t _PyTracer_ShapeOfCode(struct tracer_heap *heap,
                                      PyCodeObject *code,
                                      enum tracer_heap_code what);
/* A shape of its own: of names that are plain texts. */
extern uint32_t _PyTracer_ShapeOfNames(struct tracer_heap *heap, uint32_t kind,
                                       const char *const *names, size_t n);

/* --- tracer_heap_texts.c */
#define TRACER_HEAP_WANTED (SNAPSHOT_NONE - 1)    // text of an object, so far
/* The text of a str, if it is one, is to be kept. */
extern void _PyTracer_WantText(struct tracer_heap *heap, const void *str);
extern uint32_t _PyTracer_AddText(struct tracer_heap *heap, const char *utf8,
                                  size_t length);
/* At the end of the moment: all texts that are wanted, and the names. */
extern void _PyTracer_CopyTexts(struct tracer_heap *heap);

/* --- tracer_heap_walk.c, tracer_heap_code.c: what an object refers to. */
extern void _PyTracer_WalkObject(struct tracer_heap *heap, uint32_t object);
extern void _PyTracer_WalkFrameObject(struct tracer_heap *heap,
                                      uint32_t object, PyFrameObject *f);
extern void _PyTracer_WalkGenerator(struct tracer_heap *heap, uint32_t object,
                                    PyGenObject *gen);
extern void _PyTracer_WalkFrame(struct tracer_heap *heap,
                                _PyInterpreterFrame *frame);
extern void _PyTracer_WalkCode(struct tracer_heap *heap, uint32_t object,
                               PyCodeObject *code);
/* What the closure of a function, which was told, refers to by which names. */
extern void _PyTracer_NameClosure(struct tracer_heap *heap,
                                  PyFunctionObject *function);
/* The number of a frame that a thread runs, or 0: it belongs to an object. */
extern uint32_t _PyTracer_HeapFrame(struct tracer_heap *heap,
                                    _PyInterpreterFrame *frame);
/* --- tracer_heap_roots.c */
extern void _PyTracer_WalkFixed(struct tracer_heap *heap, uint32_t object);
extern void _PyTracer_WalkThread(struct tracer_heap *heap,
                                 PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HEAP_H */
