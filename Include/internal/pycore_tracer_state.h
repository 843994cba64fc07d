/* State of the allocation tracer: what a traced allocation leaves behind.

   A call-tree node is (parent, location); it carries the counters of the
   blocks that were allocated there.  A small block (one that pymalloc serves)
   is a 32-bit entry in the table of its pool; every other block (big, raw,
   PyTraceMalloc_Track) is a record in the address map.

   Conservation, for each node:  live = alloc - free, never negative; and
       sum of live bytes over all nodes but the parked ones
           == small_current + map_current  (the traced memory).

   Protection.  "GIL": the one GIL, or `lock` once `shared` is set (an
   interpreter with a GIL of its own exists).  "lock": _PyTracer.lock, see
   pycore_tracer_lock.h.  Nodes move in tracer_prune.c alone. */

#ifndef Py_INTERNAL_TRACER_STATE_H
#define Py_INTERNAL_TRACER_STATE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer.h"        // _PyTracer_NFREELISTS

/* --- Entry of a small block: node << 10 | memory domain bit << 9 | size - 1,
   where 1 <= size <= 512 is the size that was requested.  Zero: the block is
   not traced. TRACER_ENTRY_MAPPED: it has a record in the address map, see
   tracer_mapped.c. */

#define TRACER_ENTRY_BITS 10
#define TRACER_ENTRY_MAX_SIZE 512
#define TRACER_ENTRY(NODE, DOMAIN, SIZE)                                \
    ((uint32_t)(NODE) << TRACER_ENTRY_BITS | (uint32_t)(DOMAIN) << 9    \
     | (uint32_t)((SIZE) - 1))
#define TRACER_ENTRY_NODE(E) ((E) >> TRACER_ENTRY_BITS)
#define TRACER_ENTRY_DOMAIN(E) (((E) >> 9) & 1)
#define TRACER_ENTRY_SIZE(E) (((E) & 0x1ff) + 1)
/* The entry with another node. */
#define TRACER_ENTRY_MOVE(E, NODE) \
    (((E) & 0x3ff) | (uint32_t)(NODE) << TRACER_ENTRY_BITS)

/* Kinds of a block: which allocator family it came from. */
enum tracer_kind {
    TRACER_OBJECT = 0,            // PyObject_Malloc()
    TRACER_MEMORY = 1,            // PyMem_Malloc()
    TRACER_RAW = 2,               // PyMem_RawMalloc()
    TRACER_EXTERNAL = 3,          // PyTraceMalloc_Track()
};

/* --- Call tree */

#define TRACER_NODE_NONE 0        // not traced
#define TRACER_NODE_UNKNOWN 1     // no Python frame: "<unknown>", line 0
#define TRACER_NODE_PARKED 2      // + enum _PyTracer_freelist
#define TRACER_NODE_MAPPED 31     // of TRACER_ENTRY_MAPPED alone
#define TRACER_NODE_FIRST 32      // first node of the tree proper
#define TRACER_ENTRY_MAPPED TRACER_ENTRY(TRACER_NODE_MAPPED, 0, 1)
#define TRACER_ENTRY_FIRST TRACER_ENTRY(TRACER_NODE_FIRST, 0, 1)
static_assert(TRACER_NODE_PARKED + _PyTracer_NFREELISTS
              <= TRACER_NODE_MAPPED, "too many free lists");

/* `parent` of a node that starts a path at stack depth D > 0 (see
   tracer_stack.c) is TRACER_TRUNCATED | D; of one that starts at the oldest
   frame, 0.  With a limit of one frame, D is that of the first block. */
#define TRACER_TRUNCATED 0x80000000u

/* Counts the small blocks, in half a cache line: a program has tens of
   thousands of nodes, and the hot ones should stay in the cache.  Protected
   by the GIL. */
struct tracer_node {
    uint32_t alloc_bytes;         // allocated and freed since the last carry
    uint32_t alloc_blocks;        //   to _PyTracer.wide; as a block has a
    uint32_t free_bytes;          //   byte at least, blocks never wrap
    uint32_t free_blocks;         //   before bytes
    uint32_t saved;               // number of the value saved at the peak, if
                                  //   >= _PyTracer.epoch; else the live
                                  //   values are the peak's
    uint32_t parent;              // node, see TRACER_TRUNCATED
    uint32_t location;            // index of tracer_location; constant
    uint32_t twin;                // index of its tracer_twin, 0: none; lock
};
static_assert(sizeof(struct tracer_node) == 32, "half a cache line");

/* What was ever allocated and freed. */
struct tracer_counts {
    uint64_t alloc_bytes;
    uint64_t alloc_blocks;
    uint64_t free_bytes;
    uint64_t free_blocks;
};

/* A number of bytes and blocks. */
struct tracer_sum {
    uint64_t bytes;
    uint64_t blocks;
};

/* Values of a node that its own numbers are too small for. */
struct tracer_wide {
    struct tracer_counts carried;
    struct tracer_sum saved;
};

/* A value of the peak: blocks << 19 | bytes, or that it is wide. */
#define TRACER_SAVED_SHIFT 19
#define TRACER_SAVED_WIDE UINT32_MAX

static inline struct tracer_sum
_PyTracer_UnpackSaved(uint32_t packed)
{
    return (struct tracer_sum){
        .bytes = packed & ((1u << TRACER_SAVED_SHIFT) - 1),
        .blocks = packed >> TRACER_SAVED_SHIFT};
}

/* What few nodes have: blocks in the address map, blocks that were cyclic
   garbage.  Such a node has a twin; number 0 is that of all others, always
   zero.  Protected by `lock`, but for the garbage. */
struct tracer_twin {
    struct tracer_counts counts;
    struct tracer_sum peak;       // if peak_epoch == _PyTracer.epoch
    uint32_t peak_epoch;
    struct tracer_sum garbage;    // small blocks and mapped ones; GIL
};

/* Nodes, and what goes with them, lie in reserved ranges of addresses, in
   which chunks come to use one by one. */
#define TRACER_CHUNK_BITS 12
#define TRACER_CHUNK_NODES (1u << TRACER_CHUNK_BITS)
#define TRACER_MAX_NODES (1u << (32 - TRACER_ENTRY_BITS))
#define TRACER_MAX_CHUNKS (TRACER_MAX_NODES / TRACER_CHUNK_NODES)
#define TRACER_PRUNE_AT (1u << 20)      // nodes, see tracer_prune.c

/* A function.  Two code objects with the same names and first line (exec,
   reload) share it. */
struct tracer_function {
    uint32_t filename;            // index of tracer_string
    uint32_t name;                // qualified name, the same
    int32_t first_line;
};

/* A place in source code.  Where several instructions of the line allocate
   or call, the columns span all of those seen.  Twelve bytes, as there are
   nearly as many as nodes: a place that does not fit is kept whole elsewhere;
   _PyTracer_PositionOf() reads both. */
struct tracer_location {
    uint32_t function;            // index of tracer_function
    uint32_t line : 22;           // of a wide one: its number
    uint32_t more_lines : 10;     // end line - line, or TRACER_LOCATION_WIDE
    uint16_t column;              // plus one, 0: unknown
    uint16_t end_column;
};
static_assert(sizeof(struct tracer_location) == 12, "packed");
#define TRACER_LOCATION_LINES (1 << 22)
#define TRACER_LOCATION_WIDE 1023

/* Interned text, UTF-8 with surrogates passed through. */
struct tracer_string {
    const char *utf8;
    uint32_t length;              // bytes
    uint32_t hash;
};

/* --- Address map: blocks that no pool holds.  Open addressing, linear
   probing, power of two, at most 3/4 full; node NONE: empty. */
struct tracer_record {
    uintptr_t address;
    size_t size;                  // requested
    uint32_t node : 24;
    uint32_t kind : 8;            // enum tracer_kind
    uint32_t domain;              // of PyTraceMalloc_Track(); 0 for malloc
};

struct tracer_map {
    struct tracer_record *records;
    size_t mask;                  // capacity - 1
    size_t used;
    int in_pools;                 // an address may be that of a small block
};

/* --- Tracer's own memory: from mmap(), never traced, see tracer_memory.c */
struct tracer_memory {
    size_t total;                 // bytes held from the system
    char *bump, *bump_end;
    void *free_tables[64];        // pool tables, by size class
    long calls;                   // requests made
    long fail_from, fail_to;      // test hook: requests [from, to) fail
    size_t page_size;             // 0: not asked for yet; a test sets it
};

/* --- Cache (parent, instruction) -> node, in sets of two lines, the one that
   was used last first.  It grows with the number of misses; what is not used
   is not touched.  GIL. */
#define TRACER_CACHE_MIN 512      // lines
#define TRACER_CACHE_MAX 65536
struct tracer_cache_line {
    const void *instr;
    uint32_t parent;
    uint32_t node;
};
#define TRACER_CACHE_MASK(LINES) \
    (uint32_t)(((LINES) / 2 - 1) * 2 * sizeof(struct tracer_cache_line))

/* The peak of traced memory since it was linked in; owned by its user. */
struct tracer_measure {
    int64_t peak;
    struct tracer_measure *next;
};

/* What a block adds to tracer_state.parked. */
#define TRACER_PARKED(SIZE) ((uint64_t)(SIZE) << 24 | 1)

/* More than any number of a saved value. */
#define TRACER_LOOK UINT32_MAX

struct tracer_state {
    /* Hot: one cache line. GIL, but map_current. */
    struct tracer_node *nodes;    // of max_nodes, the first nnodes are made
    int64_t small_current;        // live bytes of small blocks
    int64_t map_current;          // live bytes of the map; atomic, lock
    int64_t high;                 // an allocation above it must look
    uint32_t epoch;               // of the peak: number of its first value
    uint32_t free_epoch;          // the same, or TRACER_LOOK: a free must look
    uint32_t rising;              // each allocation is the peak
    uint32_t limit;               // frames, UINT32_MAX: whole stack
    uint32_t short_way;           // for park and unpark
    uint32_t watched;             // by a deadline or from below
    uint32_t cache_mask;          // of the offset of a set, in bytes

    /* Small blocks on each free list: bytes << 24 | blocks.  GIL. */
    uint64_t parked[_PyTracer_NFREELISTS];

    /* Peak and alarms, see tracer_count.c.  GIL, but raw_peak. */
    int64_t peak;                 // highest traced memory, unless rising
    int64_t raw_peak;             // seen without the GIL; atomic
    uint32_t next_saved;          // number of the next value to save
    uint32_t most_saved;          // values in one of the epochs before
    uint32_t epoch_used;          // a node or twin has values of this epoch
    int32_t countdown;            // allocations until the clock is looked at
    int64_t watch_low;            // while watched, an allocation must look
    uint64_t watch_span;          //   outside watch_low and the span above it
    uint32_t shared;              // several GILs: take `lock` everywhere;
                                  //   any GIL, written with the only one
    uint32_t blind;               // beneath a wrapper, or because another
                                  //   thread was at the allocators, functions
                                  //   do not watch: all go the whole way
    int64_t alarm_low, alarm_high;
    int64_t deadline;             // ns, monotonic; INT64_MAX: none
    void (*alarm_handler)(int64_t traced);
    struct tracer_measure *measures;    // written with GIL and lock

    uintptr_t lock;               // see pycore_tracer_lock.h; atomic
    int own_gils;                 // interpreters with a GIL of their own, from
                                  //   before they run until they have ended;
                                  //   lock
    int abandoned;                // a fork found the tables in the middle of a
                                  //   change: no more tracing; lock
    int tracing;                  // GIL and lock
    uint64_t clears;              // how often all was forgotten, or nodes
                                  //   got other numbers; lock
    int max_nframe;               // what get_traceback_limit() says

    uint32_t nnodes;              // next node id; lock
    uint32_t max_nodes;           // as many as the reserved range holds
    uint32_t nfunctions;          // lock
    uint32_t nlocations;          // lock
    uint32_t nstrings;            // lock
    uint32_t cache_lines;         // in use; GIL
    uint32_t cache_misses;        // since it has this size; GIL
    uint32_t cache_sweeps;        // the same
    uint32_t prune_at;            // nodes; lock
    uint32_t must_prune;          // at the next capture; GIL
    uint64_t code_epoch;          // code objects that died; GIL
    uintptr_t dead_low, dead_high;      // where, since the last new one; GIL
    uint64_t folded;              // frames folded by recursion; lock
    uint64_t pruned;              // nodes that were given back; lock
    uint64_t untraced;            // blocks not traced: tracer out of memory

    uint32_t *saved;                    // by number - epoch; GIL
    struct tracer_wide *wide;           // by node; GIL
    struct tracer_twin *twins;          // by number; lock
    uint32_t ntwins;                    // lock
    struct tracer_function *functions;  // grows, moves; lock
    struct tracer_location *locations;  // grows, moves; lock
    struct tracer_string *strings;      // grows, moves; lock
    struct tracer_map map;              // lock
    struct tracer_memory memory;        // lock

    PyThreadState *garbage_thread;      // deletes cyclic garbage now, or NULL
    PyMemAllocatorEx raw, mem, obj;     // what tracing wraps
};

extern struct tracer_state _PyTracer;

/* Was `wide` ever written for a node of this chunk?  The others need not be
   read, which would cost a page fault a page.  GIL. */
extern uint8_t _PyTracer_chunk_wide[TRACER_MAX_CHUNKS];

static inline struct tracer_node *
_PyTracer_Node(uint32_t id)
{
    return &_PyTracer.nodes[id];
}

/* To read, or to write if the node has one. */
static inline struct tracer_twin *
_PyTracer_Twin(uint32_t id)
{
    return &_PyTracer.twins[_PyTracer_Node(id)->twin];
}

/* Of the small blocks of a node, with those that it has carried, or NULL. */
static inline struct tracer_counts
_PyTracer_AddCarried(const struct tracer_node *node,
                     const struct tracer_counts *carried)
{
    struct tracer_counts counts = {node->alloc_bytes, node->alloc_blocks,
                                   node->free_bytes, node->free_blocks};
    if (carried != NULL) {
        counts.alloc_bytes += carried->alloc_bytes;
        counts.alloc_blocks += carried->alloc_blocks;
        counts.free_bytes += carried->free_bytes;
        counts.free_blocks += carried->free_blocks;
    }
    return counts;
}

static inline struct tracer_counts
_PyTracer_Counts(uint32_t id)
{
    return _PyTracer_AddCarried(
        _PyTracer_Node(id), _PyTracer_chunk_wide[id >> TRACER_CHUNK_BITS]
                            ? &_PyTracer.wide[id].carried : NULL);
}

static inline struct tracer_sum
_PyTracer_Live(const struct tracer_counts *counts)
{
    return (struct tracer_sum){counts->alloc_bytes - counts->free_bytes,
                               counts->alloc_blocks - counts->free_blocks};
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_STATE_H */
