/* What is worked out of the graph of a snapshot: who holds what.

   Nothing here needs a Python object or the GIL.  Functions that run out of
   memory return -1, or NULL. */

#ifndef TRACER_GRAPH_H
#define TRACER_GRAPH_H

#include "snapshot.h"

struct snapshot_heap {
    struct tracer_snapshot *s;    // its blocks unpacked, its paths cut
    const struct snapshot_graph *g;
    /* --- graph_heap.c */
    uint32_t *roots;              // what the root refers to
    uint32_t nroots;
    /* --- graph_join.c */
    uint64_t *sizes;              // by object, with its buffers
    uint32_t *blocks;             // by object: its block, or NONE
    uint32_t *buffer_blocks;      // the same by buffer
    uint8_t *covered;             // by block: it belongs to an object
    /* --- dominators.c: of what can be reached from the root */
    uint32_t nreached;
    uint32_t *order;              // objects, each after its dominator
    uint32_t *dominators;         // by object: the closest one through which
                                  //   all paths lead.  NONE: not reached
    uint64_t *retained;           // by object: bytes that would go with it
};

/* The objects that one refers to; 0: a NULL. */
static inline const uint32_t *
_PySnapshot_References(const struct snapshot_heap *heap, uint32_t object,
                       uint32_t *n)
{
    if (object == SNAPSHOT_ROOT) {
        *n = heap->nroots;
        return heap->roots;
    }
    const struct snapshot_object *o = &heap->g->objects[object];
    *n = (uint32_t)(o[1].first - o->first);
    return heap->g->references + o->first;
}

static inline const struct snapshot_shape *
_PySnapshot_Shape(const struct snapshot_heap *heap, uint32_t object)
{
    return &heap->g->shapes[heap->g->objects[object].shape];
}

/* A library that may hold what it refers to. */
static inline int
_PySnapshot_IsLibrary(const struct snapshot_heap *heap, uint32_t object)
{
    return object >= SNAPSHOT_NFIXED
           && _PySnapshot_Shape(heap, object)->kind == SNAPSHOT_STATE;
}

/* --- graph_heap.c: all that the others need.  NULL: no memory, or more than
   2**32 references.  The snapshot is truncated and unpacked, has a graph, and
   is only read. */
extern struct snapshot_heap *_PySnapshot_NewHeap(struct tracer_snapshot *s);
extern void _PySnapshot_FreeHeap(struct snapshot_heap *heap);

/* --- graph_join.c */
extern int _PySnapshot_Join(struct snapshot_heap *heap);

/* --- dominators.c */
extern int _PySnapshot_Dominators(struct snapshot_heap *heap);

/* --- graph_names.c */
/* How one object refers to another: the string of a name that its shape has;
   KEY + the string of a key, of a namespace; or one of the others. */
enum {
    SNAPSHOT_STEP_KEY = 0x40000000,
    SNAPSHOT_STEP_ITEM = 0x50000000,   // of a sequence
    SNAPSHOT_STEP_VALUE,               // of a dict
    SNAPSHOT_STEP_KEY_ITSELF,
    SNAPSHOT_STEP_ELEMENT,             // of a set
    SNAPSHOT_STEP_CONTENT,             // of a cell
    SNAPSHOT_STEP_STACK,               // evaluation stack
    SNAPSHOT_STEP_OTHER,
    SNAPSHOT_STEP_TYPE,                // its type
    SNAPSHOT_STEP_FIXED,               // the root: these, and these
    SNAPSHOT_STEP_IMMORTAL,
    SNAPSHOT_STEP_SURPLUS,
    SNAPSHOT_STEP_SHARED,              // none: several paths lead there
};
#define SNAPSHOT_IS_NAME(STEP) ((STEP) < SNAPSHOT_STEP_KEY)
#define SNAPSHOT_IS_KEY(STEP) \
    ((STEP) >= SNAPSHOT_STEP_KEY && (STEP) < SNAPSHOT_STEP_ITEM)

/* Of the reference number i. */
extern uint32_t _PySnapshot_Step(const struct snapshot_heap *heap,
                                 uint32_t object, uint32_t i);
/* The key of a value of a dict, or 0. */
extern uint32_t _PySnapshot_KeyOf(const struct snapshot_heap *heap,
                                  uint32_t object, uint32_t i);
extern int _PySnapshot_HasText(const struct tracer_snapshot *s,
                               uint32_t string, const char *text);
extern int _PySnapshot_BeginsWith(const struct tracer_snapshot *s,
                                  uint32_t string, const char *text);
/* The object that a name of the shape leads to, or 0. */
extern uint32_t _PySnapshot_Named(const struct snapshot_heap *heap,
                                  uint32_t object, const char *name);
/* A string, or NONE: the name of a module, of a type without its module, of
   the function of a frame, code or method. */
extern uint32_t _PySnapshot_NameOf(const struct snapshot_heap *heap,
                                   uint32_t object);
/* A string, or NONE: of a class or function, the module that it is of. */
extern uint32_t _PySnapshot_ModuleOf(const struct snapshot_heap *heap,
                                     uint32_t object);

/* A number of the text of a string: equal texts have equal ones. */
extern uint32_t _PySnapshot_Text(const struct tracer_snapshot *s,
                                 struct snapshot_pairs *texts,
                                 uint32_t string);

/* --- graph_repeats.c: classes of a tree, what repeats itself in it once */
struct snapshot_trie {
    struct snapshot_pairs pairs;  // (parent, class) -> number in `entries`
    uint32_t *entries;
    uint32_t entries_size;
    uint32_t n;
    struct snapshot_branch {
        uint32_t parent;          // NONE: the root
        uint32_t class_;
        uint32_t repeats;
    } *branches;
    uint32_t branches_size;
};
extern int _PySnapshot_TrieInit(struct snapshot_trie *trie);
extern void _PySnapshot_TrieFree(struct snapshot_trie *trie);
/* The branch of a class below a parent, or one above that it repeats.  NONE:
   no memory. */
extern uint32_t _PySnapshot_Branch(struct snapshot_trie *trie,
                                   uint32_t parent, uint32_t class_);

/* --- holders.c: the dominator tree, where children of the same step, type and
   site are one.  Number 0 is the root; parents come first. */
struct snapshot_holder {
    uint32_t parent;
    uint32_t step;                // from the parent
    uint32_t object;              // one of them
    uint32_t module;              // string, if it stands for a module
    uint32_t repeats;             // it holds others of its kind, here as well
    uint64_t count;               // objects, without what belongs to them
    uint64_t size;                // bytes of these, and of what belongs
    uint64_t retained;
};
struct snapshot_holders {
    struct snapshot_holder *holders;
    uint32_t n;
};
extern int _PySnapshot_Holders(const struct snapshot_heap *heap,
                               struct snapshot_holders *found);

/* --- graph_retained.c */
struct snapshot_retained {
    uint32_t object;              // one of them, or NONE
    uint64_t count;
    uint64_t size;
    uint64_t retained;            // what is held by another one of the group
};                                //   counts once
/* labels: by object, NONE: of no group. */
extern int _PySnapshot_Retained(const struct snapshot_heap *heap,
                                const uint32_t *labels, uint32_t nlabels,
                                struct snapshot_retained *sums);
/* Bytes that only the marked objects hold, with their own. */
extern int _PySnapshot_RetainedBySet(const struct snapshot_heap *heap,
                                     const uint8_t *marked, uint64_t *bytes);

/* --- graph_paths.c: paths from the root to marked objects */
struct snapshot_root_path {       // all of the same shape
    uint32_t object;              // the closest of them
    uint32_t repeats;
    uint64_t count;               // of objects that it ends at
    uint64_t behind;              // marked objects that these lead to
    uint64_t size;                // of all of them
};
struct snapshot_root_paths {
    uint32_t *callers;            // by object: the one before it.  NONE
    uint32_t *places;             // by object: the number of that's reference
    struct snapshot_root_path *paths;     // the most common first
    uint32_t n;
};
extern int _PySnapshot_RootPaths(const struct snapshot_heap *heap,
                            const uint8_t *marked,
                            struct snapshot_root_paths *found);
extern void _PySnapshot_FreeRootPaths(struct snapshot_root_paths *paths);

#endif /* !TRACER_GRAPH_H */
