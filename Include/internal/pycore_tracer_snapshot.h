/* A snapshot as the interpreter hands it over: plain arrays.  Only this header
   is common to the tracer and the module _tracemalloc_snapshot, and it needs
   nothing of CPython.

   _take_snapshot() of the module _tracemalloc fills the arrays and puts them
   into a capsule.  Whoever takes them out owns them.  The arrays are not
   traced. */

#ifndef Py_INTERNAL_TRACER_SNAPSHOT_H
#define Py_INTERNAL_TRACER_SNAPSHOT_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pycore_tracer_graph.h"

/* Name of the capsule.  The number changes with anything below: a module that
   was built with another one is refused. */
#define SNAPSHOT_CAPSULE "tracemalloc snapshot 9"

#define SNAPSHOT_NONE UINT32_MAX

/* What is known of a group of blocks: bytes (even) and blocks (odd). */
enum snapshot_measure {
    SNAPSHOT_SIZE,                // live
    SNAPSHOT_COUNT,
    SNAPSHOT_TOTAL_SIZE,          // ever allocated
    SNAPSHOT_TOTAL_COUNT,
    SNAPSHOT_PEAK_SIZE,           // live at the peak of traced memory
    SNAPSHOT_PEAK_COUNT,
    SNAPSHOT_GARBAGE_SIZE,        // freed by the cyclic collector
    SNAPSHOT_GARBAGE_COUNT,
    SNAPSHOT_NMEASURES
};

struct snapshot_string {
    uint64_t offset;              // in `text`; UTF-8, surrogates passed
    uint32_t length;              // bytes
};

/* Lines are 1-based; -1: end_line, column or end_column is unknown. */
struct snapshot_location {
    uint32_t filename;            // string
    uint32_t function;            // string, empty: unknown
    int32_t line;
    int32_t end_line;
    int32_t column;
    int32_t end_column;
    int32_t first_line;
};

struct snapshot_node {
    uint32_t parent;              // the caller: a smaller node, or NONE
    uint32_t location;
    uint32_t nframe;              // of the whole stack, 0: unknown
    uint32_t measures;            // of this node alone: where they are, 0:
};                                //   nothing was ever allocated here

enum snapshot_kind {
    SNAPSHOT_OBJECT,
    SNAPSHOT_MEMORY,
    SNAPSHOT_RAW,
    SNAPSHOT_EXTERNAL,            // of a domain of PyTraceMalloc_Track()
    SNAPSHOT_NKINDS
};

/* The domain of native memory, see tracer_native.c: "natv". */
#define SNAPSHOT_NATIVE_DOMAIN 0x6e617476u

/* What a block is. */
struct snapshot_class {
    uint32_t name;                // string: type, or <what it is>
    uint32_t kind;
    uint32_t domain;              // of SNAPSHOT_EXTERNAL, else 0
    uint32_t stack;               // C stack of native memory, 0: unknown
};

struct snapshot_block {
    uint64_t address;
    uint64_t size;                // requested
    uint32_t node;
    uint32_t class_;
};

/* The C stacks of native memory, above the innermost Python frame.  They never
   change, and snapshots share them. */
#define SNAPSHOT_BUILD_ID 32      // bytes, at most
struct snapshot_module {
    uint64_t path;                // UTF-8, surrogates passed: where it begins
    uint64_t path_size;           //   in the text
    uint64_t base;                // address minus address in the file
    uint32_t id_size;             // 0: it has no build ID
    uint8_t id[SNAPSHOT_BUILD_ID];
};
struct snapshot_code {
    uint64_t offset;              // return address, as an address in the file
    uint32_t module;
};
struct snapshot_stack {
    uint64_t first;               // of its places, the innermost first
    uint32_t n;
};
struct snapshot_native {
    char *text;
    struct snapshot_module *modules;
    struct snapshot_code *places;
    uint32_t *frames;             // places, stack by stack
    struct snapshot_stack *stacks;    // number 0 is empty
    uint64_t text_size, nframes;
    uint32_t nmodules, nplaces, nstacks;
    uint32_t shared;              // by so many others
};

/* A block of native memory, until _PySnapshot_NameDomains(): the node is
   marked, and the class is its stack. */
#define SNAPSHOT_NATIVE_NODE 0x80000000u

/* Small blocks in packed form, so that little is written at the moment of a
   snapshot, see _PySnapshot_Unpack().  A record stands for all blocks of a
   pool from this one up to the next record's: they are alike, or not traced if
   the class is NONE. */
struct snapshot_packed {
    uint32_t entry;               // node, size - 1
    uint32_t place;               // number in its pool, class
};
#define SNAPSHOT_PACKED_SIZE_BITS 10
#define SNAPSHOT_PACKED_ENTRY(NODE, SIZE) \
    (((NODE) << SNAPSHOT_PACKED_SIZE_BITS) | ((SIZE) - 1))
#define SNAPSHOT_PACKED_NODE(ENTRY) ((ENTRY) >> SNAPSHOT_PACKED_SIZE_BITS)
#define SNAPSHOT_PACKED_SIZE(ENTRY) \
    (((ENTRY) & ((1u << SNAPSHOT_PACKED_SIZE_BITS) - 1)) + 1)
#define SNAPSHOT_PACKED_CLASS_BITS 22
#define SNAPSHOT_PACKED_NONE ((1u << SNAPSHOT_PACKED_CLASS_BITS) - 1)
#define SNAPSHOT_PACKED_PLACE(NUMBER, CLASS) \
    (((NUMBER) << SNAPSHOT_PACKED_CLASS_BITS) | (CLASS))
#define SNAPSHOT_PACKED_CLASS(PLACE) ((PLACE) & SNAPSHOT_PACKED_NONE)
#define SNAPSHOT_PACKED_NUMBER(PLACE) ((PLACE) >> SNAPSHOT_PACKED_CLASS_BITS)

#define SNAPSHOT_RUN_BITS 12
#define SNAPSHOT_RUN_MASK ((1u << SNAPSHOT_RUN_BITS) - 1)
/* A pool: its records go from `first` to that of the next run.  The last run
   marks the end. */
struct snapshot_run {
    uint64_t address;             // of the pool's block 0
    uint64_t first : 40;
    uint64_t block_size : SNAPSHOT_RUN_BITS;
    uint64_t nblocks : SNAPSHOT_RUN_BITS;         // traced or not
};

/* An arena of pymalloc. */
struct snapshot_arena {
    uint64_t address;
    uint64_t size;
    uint64_t used;                // bytes in blocks, traced or not
    uint64_t blocks;              // number of these
};

/* A pool of pymalloc's that has blocks in use. */
struct snapshot_pool {
    uint64_t address;
    uint16_t block_size;          // bytes
    uint16_t room;                // blocks that fit
    uint16_t used;                // blocks in use, traced or not
};

/* What a node held at one of the next highest moments of the run. */
#define SNAPSHOT_NEXT_PEAKS 3
struct snapshot_held {
    uint32_t node;
    uint32_t moment;              // from 0; the peak itself is not among them
    uint64_t size;
    uint64_t count;
};

/* The memory of the process at one moment of the run, or at several that were
   merged: then `most` is the maximum of all, and the rest is of one.  Bytes; a
   resident size of 0 is not known.  All signed numbers are >= 0. */
#define SNAPSHOT_NOTES 2048       // at most
#define SNAPSHOT_GENERATIONS 3
struct snapshot_note {
    int64_t time;                 // microseconds since 1970
    int64_t traced, most_traced;
    int64_t peak;                 // of traced memory until then
    int64_t rss, most_rss;
    int64_t blocks;               // live ones
    uint32_t collections[SNAPSHOT_GENERATIONS];   // of the cyclic collector
    uint32_t snapshots;           // that were taken then
};

struct tracer_snapshot {
    uint32_t limit;               // frames of a traceback
    uint32_t truncate;            // paths may be longer than that
    uint32_t has_blocks;          // else the sums of the nodes are all
    uint32_t nstrings, nlocations, nnodes, nmeasures, nclasses, narenas;
    uint64_t nblocks;
    uint64_t text_size;
    char *text;
    struct snapshot_string *strings;
    struct snapshot_location *locations;
    struct snapshot_node *nodes;
    uint64_t (*measures)[SNAPSHOT_NMEASURES];     // the first ones are zero
    struct snapshot_held *held;   // in no order, perhaps several of a node
    uint64_t nheld;
    struct snapshot_class *classes;
    struct snapshot_arena *arenas;
    struct snapshot_pool *pools;      // in the order of the arenas
    uint32_t npools;
    uint32_t pool_size;           // bytes; 0: nobody knows the pools
    struct snapshot_block *blocks;    // NULL: still packed, coded or elsewhere
    /* First the packed blocks, then those that are not in pools. */
    struct snapshot_packed *packed;
    struct snapshot_run *runs;
    uint32_t nruns;
    uint64_t npacked;             // records
    uint64_t nsmall;              // blocks
    struct snapshot_block *others;
    uint64_t nexternal;           // the last others: class_ is a domain
    struct tracer_snapshot *lender;   // whose they are, or NULL: its own
    uint32_t lent;                // copies that have them now
    /* For each node, where its blocks were allocated; NONE: at the node
       itself.  NULL: all were, or it is not known. */
    uint32_t *origins;
    /* In folded snapshots: the snapshot with the blocks, and the new node of
       each of its nodes. */
    struct tracer_snapshot *source;
    uint32_t *moved;
    /* Read from a file: the records of its section. */
    uint8_t *coded;
    size_t coded_size;
    struct snapshot_graph *graph; // NULL: nobody asked for it
    struct snapshot_native *native;   // NULL: no C stacks
    struct snapshot_note *notes;  // of a file that was read
    uint32_t nnotes;
};

/* --- Memory

   Large arrays are mappings of their own.  When glibc's malloc() frees a large
   block, it raises M_MMAP_THRESHOLD to its size.  The next arrays would then
   come from the program's heap and leave it large, and so would the program's
   own large blocks.  In front of each array is what is needed to free it. */

#if defined(__linux__) && !defined(MADV_HUGEPAGE)
#  error "define _GNU_SOURCE, as Python.h does, before any other header"
#endif
#define SNAPSHOT_HUGE_PAGE ((size_t)2 << 20)
#define SNAPSHOT_LARGE ((size_t)64 << 10)
#define SNAPSHOT_FRONT 64         // bytes: a cache line
#define SNAPSHOT_PAGE ((size_t)64 << 10)   // or a part of it, anywhere

struct snapshot_front {
    size_t size;                  // of all
    size_t mapped;                // of the mapping; 0: of malloc()
    uint64_t mark;                // by which the mapping is known as ours
};
#define SNAPSHOT_MARK UINT64_C(0x6e73636172745950)

static inline struct snapshot_front *
_PySnapshot_Front(void *array)
{
    return (struct snapshot_front *)((char *)array - SNAPSHOT_FRONT);
}

/* Large arrays ask for huge pages, except for the first `small` bytes: page
   faults would take most of the time of a large copy. */
static inline void *
_PySnapshot_Map(size_t size, size_t small)
{
    size_t huge = size >= 2 * SNAPSHOT_HUGE_PAGE ? SNAPSHOT_HUGE_PAGE : 0;
    char *p = (char *)mmap(NULL, size + huge, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == (char *)MAP_FAILED) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (huge) {
        size_t before = -(uintptr_t)p & (huge - 1);
        if (before != 0) {
            munmap(p, before);
        }
        p += before;
        munmap(p + size, huge - before);
        madvise(p + small, size - small, MADV_HUGEPAGE);
    }
#endif
    return p;
}

static inline void *
_PySnapshot_Allocate(uint64_t n, size_t item, size_t small)
{
    if (n > (PTRDIFF_MAX - SNAPSHOT_HUGE_PAGE) / 2 / item) {
        return NULL;
    }
    size_t size = (size_t)n * item + SNAPSHOT_FRONT;
    size_t mapped = 0;
    char *p;
    if (size < SNAPSHOT_LARGE) {
        p = (char *)malloc(size);
    }
    else {
        mapped = size = (size + SNAPSHOT_PAGE - 1) & ~(SNAPSHOT_PAGE - 1);
        p = (char *)_PySnapshot_Map(size, small);
    }
    if (p == NULL) {
        return NULL;
    }
    *(struct snapshot_front *)p = (struct snapshot_front){
        size, mapped, SNAPSHOT_MARK};
    return p + SNAPSHOT_FRONT;
}

/* An array of n items, never NULL for n == 0. */
static inline void *
_PySnapshot_Array(uint64_t n, size_t item)
{
    return _PySnapshot_Allocate(n, item, 0);
}

/* The same for at most n items: memory that is not written costs nothing.
   Finding a huge page takes milliseconds, and a few small pages may be
   enough. */
static inline void *
_PySnapshot_Room(uint64_t n, size_t item)
{
    return _PySnapshot_Allocate(n, item, SNAPSHOT_HUGE_PAGE);
}

static inline void *
_PySnapshot_Zeroed(uint64_t n, size_t item)
{
    void *array = _PySnapshot_Allocate(n, item, 0);
    if (array != NULL && _PySnapshot_Front(array)->mapped == 0) {
        memset(array, 0, (size_t)n * item);
    }
    return array;
}

static inline void
_PySnapshot_Release(void *array)
{
    if (array == NULL) {
        return;
    }
    struct snapshot_front *front = _PySnapshot_Front(array);
    if (front->mapped != 0) {
        munmap(front, front->mapped);
    }
    else {
        free(front);
    }
}

/* Make it larger or smaller; NULL: no memory, and it is unchanged. */
static inline void *
_PySnapshot_Resize(void *array, uint64_t n, size_t item)
{
    if (array == NULL) {
        return _PySnapshot_Array(n, item);
    }
    struct snapshot_front *front = _PySnapshot_Front(array);
    if (n > (PTRDIFF_MAX - SNAPSHOT_HUGE_PAGE) / 2 / item) {
        return NULL;
    }
#ifdef MREMAP_MAYMOVE
    size_t size = ((size_t)n * item + SNAPSHOT_FRONT + SNAPSHOT_PAGE - 1)
                  & ~(SNAPSHOT_PAGE - 1);
    if (front->mapped != 0 && size >= SNAPSHOT_LARGE) {
        void *p = mremap(front, front->mapped, size, MREMAP_MAYMOVE);
        if (p != MAP_FAILED) {
            *(struct snapshot_front *)p = (struct snapshot_front){
                size, size, SNAPSHOT_MARK};
            return (char *)p + SNAPSHOT_FRONT;
        }
        /* An array that begins with small pages is two mappings for the
           kernel. */
    }
#endif
    void *copy = _PySnapshot_Array(n, item);
    if (copy == NULL) {
        return NULL;
    }
    size_t old = front->size - SNAPSHOT_FRONT;
    memcpy(copy, array, (size_t)n * item < old ? (size_t)n * item : old);
    _PySnapshot_Release(array);
    return copy;
}

static inline struct tracer_snapshot *
_PySnapshot_New(void)
{
    return (struct tracer_snapshot *)_PySnapshot_Zeroed(
        1, sizeof(struct tracer_snapshot));
}

/* A graph is never changed.  All snapshots that are made from the original one
   share it. */
static inline struct snapshot_graph *
_PySnapshot_ShareGraph(struct snapshot_graph *graph)
{
    if (graph != NULL) {
        __atomic_fetch_add(&graph->shared, 1, __ATOMIC_RELAXED);
    }
    return graph;
}

static inline void
_PySnapshot_FreeGraph(struct snapshot_graph *graph)
{
    if (graph == NULL
        || __atomic_fetch_sub(&graph->shared, 1, __ATOMIC_ACQ_REL) != 0)
    {
        return;
    }
    _PySnapshot_Release(graph->objects);
    _PySnapshot_Release(graph->references);
    _PySnapshot_Release(graph->shapes);
    _PySnapshot_Release(graph->names);
    _PySnapshot_Release(graph->buffers);
    _PySnapshot_Release(graph->coded);
    _PySnapshot_FreeGraph(graph->decoded);
    _PySnapshot_Release(graph);
}

static inline struct snapshot_native *
_PySnapshot_ShareNative(struct snapshot_native *native)
{
    if (native != NULL) {
        __atomic_fetch_add(&native->shared, 1, __ATOMIC_RELAXED);
    }
    return native;
}

static inline void
_PySnapshot_FreeNative(struct snapshot_native *native)
{
    if (native == NULL
        || __atomic_fetch_sub(&native->shared, 1, __ATOMIC_ACQ_REL) != 0)
    {
        return;
    }
    _PySnapshot_Release(native->text);
    _PySnapshot_Release(native->modules);
    _PySnapshot_Release(native->places);
    _PySnapshot_Release(native->frames);
    _PySnapshot_Release(native->stacks);
    _PySnapshot_Release(native);
}

static inline void
_PySnapshot_Free(struct tracer_snapshot *s)
{
    if (s == NULL) {
        return;
    }
    _PySnapshot_Release(s->text);
    _PySnapshot_Release(s->strings);
    _PySnapshot_Release(s->locations);
    _PySnapshot_Release(s->nodes);
    _PySnapshot_Release(s->measures);
    _PySnapshot_Release(s->held);
    _PySnapshot_Release(s->classes);
    _PySnapshot_Release(s->arenas);
    _PySnapshot_Release(s->pools);
    _PySnapshot_Release(s->blocks);
    _PySnapshot_Release(s->packed);
    _PySnapshot_Release(s->runs);
    _PySnapshot_Release(s->others);
    _PySnapshot_Release(s->origins);
    _PySnapshot_Release(s->moved);
    _PySnapshot_Release(s->coded);
    _PySnapshot_FreeGraph(s->graph);
    _PySnapshot_FreeNative(s->native);
    _PySnapshot_Release(s->notes);
    _PySnapshot_Release(s);
}

/* Append a text; its index, or NONE: no memory. */
static inline uint32_t
_PySnapshot_AddString(struct tracer_snapshot *s, const char *utf8,
                      uint32_t length)
{
    void *p = _PySnapshot_Resize(s->strings, (uint64_t)s->nstrings + 1,
                                 sizeof(*s->strings));
    if (p == NULL) {
        return SNAPSHOT_NONE;
    }
    s->strings = p;
    p = _PySnapshot_Resize(s->text, s->text_size + length + 1, 1);
    if (p == NULL) {
        return SNAPSHOT_NONE;
    }
    s->text = p;
    memcpy(s->text + s->text_size, utf8, length);
    s->strings[s->nstrings].offset = s->text_size;
    s->strings[s->nstrings].length = length;
    s->text_size += length;
    return s->nstrings++;
}

/* The graph, once it is decoded; NULL: there is none. */
static inline const struct snapshot_graph *
_PySnapshot_Graph(const struct tracer_snapshot *s)
{
    return s->graph == NULL || s->graph->coded == NULL
        ? s->graph : __atomic_load_n(&s->graph->decoded, __ATOMIC_ACQUIRE);
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_SNAPSHOT_H */
