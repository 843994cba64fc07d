/* The call tree as it lies in memory and in a kept file, see tracer_keep.c.

   A kept file is the memory of a traced process: it says what the tree was
   when the process ended, however it did.  The tracer writes it, and
   Modules/_snapshot/keep_read.c reads it; this header is all that the two have
   in common, and needs nothing of CPython.

   The file begins with a header and a directory of extents.  An extent is a
   part of one array; it is as many units long as the directory says, and all
   extents of an array, in their order, are the array.  What is appended to an
   array is whole before the count in the header says so.  Counters of a node
   are changed one by one, so that the last block may be counted by halves. */

#ifndef Py_INTERNAL_TRACER_KEPT_H
#define Py_INTERNAL_TRACER_KEPT_H
#ifdef __cplusplus
extern "C" {
#endif

#include <assert.h>
#include <stdint.h>

/* --- Nodes */

#define TRACER_NODE_BITS 22       // of the number of a node
#define TRACER_NODE_NONE 0        // not traced
#define TRACER_NODE_UNKNOWN 1     // no Python frame: "<unknown>", line 0
#define TRACER_NODE_PARKED 2      // + enum _PyTracer_freelist
#define TRACER_NODE_MAPPED 31     // of TRACER_ENTRY_MAPPED alone
#define TRACER_NODE_FIRST 32      // first node of the tree proper
#define TRACER_MAX_NODES (1u << TRACER_NODE_BITS)

/* `parent` of a node that starts a path at stack depth D > 0 (see
   tracer_stack.c) is TRACER_TRUNCATED | D; of one that starts at the oldest
   frame, 0.  With a limit of one frame, D is that of the first block. */
#define TRACER_TRUNCATED 0x80000000u

/* Counts the small blocks, in half a cache line: a program has tens of
   thousands of nodes, and the hot ones should stay in the cache.  Protected
   by the GIL. */
struct tracer_node {
    uint32_t alloc_bytes;         // allocated and freed since the last spill;
    uint32_t alloc_blocks;        //   as a block has a byte at least, blocks
    uint32_t free_bytes;          //   never wrap before bytes
    uint32_t free_blocks;
    uint32_t saved;               // number of the value saved at the peak, if
                                  //   >= _PyTracer.epoch; else the live
                                  //   values are the peak's
    uint32_t parent;              // node, see TRACER_TRUNCATED
    uint32_t location;            // index of tracer_location; constant
    uint32_t rare;                // index of its tracer_rare, 0: none; lock
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
struct tracer_spill {
    struct tracer_counts counts;
    struct tracer_sum saved;
};

/* A value of the peak: blocks << TRACER_SAVED_SHIFT | bytes, or that it was
   spilled. */
#define TRACER_SAVED_SHIFT 19
#define TRACER_SAVED_SPILLED UINT32_MAX

static inline struct tracer_sum
_PyTracer_UnpackSaved(uint32_t packed)
{
    struct tracer_sum sum = {packed & ((1u << TRACER_SAVED_SHIFT) - 1),
                             packed >> TRACER_SAVED_SHIFT};
    return sum;
}

/* Rare counters, which few nodes have: of blocks in the address map, and of
   blocks that were cyclic garbage.  Number 0 is that of all other nodes,
   always zero.  Protected by the lock, but for the garbage. */
struct tracer_rare {
    struct tracer_counts counts;
    struct tracer_sum peak;       // if peak_epoch == _PyTracer.epoch
    uint32_t peak_epoch;
    uint32_t native;              // number of its tracer_counts of native
                                  //   memory, 0: none
    struct tracer_sum garbage;    // small blocks and mapped ones; GIL
};

/* Of the small blocks of a node, with those that were spilled, or NULL. */
static inline struct tracer_counts
_PyTracer_AddSpilled(const struct tracer_node *node,
                     const struct tracer_counts *spilled)
{
    struct tracer_counts counts = {node->alloc_bytes, node->alloc_blocks,
                                   node->free_bytes, node->free_blocks};
    if (spilled != NULL) {
        counts.alloc_bytes += spilled->alloc_bytes;
        counts.alloc_blocks += spilled->alloc_blocks;
        counts.free_bytes += spilled->free_bytes;
        counts.free_blocks += spilled->free_blocks;
    }
    return counts;
}

static inline struct tracer_sum
_PyTracer_Live(const struct tracer_counts *counts)
{
    struct tracer_sum sum = {counts->alloc_bytes - counts->free_bytes,
                             counts->alloc_blocks - counts->free_blocks};
    return sum;
}

/* --- The file */

#define KEPT_MAGIC "\x89TRK\r\n\x1a\n"
#define KEPT_MAGIC_SIZE 8
#define KEPT_VERSION 4
#define KEPT_UNIT ((size_t)64 << 10)       // a page, or several, anywhere
#define KEPT_DIRECTORY ((size_t)8 << 10)   // where it begins
#define KEPT_HEADER_SIZE (3 * KEPT_UNIT)   // with the directory
#define KEPT_MAX_EXTENTS \
    ((KEPT_HEADER_SIZE - KEPT_DIRECTORY) / sizeof(struct kept_extent))

enum kept_array {
    KEPT_NODES,                   // struct tracer_node
    KEPT_SAVED,                   // uint32_t
    KEPT_SPILLS,                  // struct tracer_spill, by node
    KEPT_RARES,                   // struct tracer_rare
    KEPT_TEXT,                    // UTF-8
    KEPT_STRINGS,                 // struct kept_string
    KEPT_PLACES,                  // struct kept_place, by location
    KEPT_PEAK,                    // rows of the peak, see tracer_windows.c;
    KEPT_OTHER_PEAK,              //   one of these two is written
    KEPT_NATIVES,                 // struct tracer_counts, by number
    KEPT_NARRAYS
};

struct kept_extent {
    uint32_t array;
    uint32_t first;               // unit of the file
    uint32_t units;
    uint32_t unused;
};

struct kept_string {
    uint64_t offset;              // in the text
    uint64_t length;
};

/* As struct snapshot_location. */
struct kept_place {
    uint32_t filename, function;  // strings
    int32_t line, end_line, column, end_column, first_line;
};

/* A spill under way: who reads does it again. */
struct kept_spill {
    struct tracer_counts counts;
    uint32_t node;                // 0: none; written last and first
};

/* Tables as they were before nodes move: written behind all extents. */
struct kept_copy {
    uint64_t first;               // unit of the file, 0: there is none
    uint64_t saved, rares, spills;          // bytes from there
    uint32_t nnodes, nrares, nsaved;
    uint32_t epoch, peak;
    uint32_t nnatives;            // behind the rares, at a whole unit
};

static inline uint64_t
_PyTracer_CopiedNatives(const struct kept_copy *copy)
{
    uint64_t end = copy->rares
                   + (uint64_t)copy->nrares * sizeof(struct tracer_rare);
    return (end + KEPT_UNIT - 1) / KEPT_UNIT * KEPT_UNIT;
}

/* What a request for memory ran into, as far as the process can tell. */
enum kept_reason {
    KEPT_UNEXPLAINED,
    KEPT_ADDRESS_LIMIT,           // RLIMIT_AS
    KEPT_DATA_LIMIT,              // RLIMIT_DATA
    KEPT_MACHINE,                 // more than the machine has
    KEPT_NREASONS
};

/* The request that failed when the file was written, see tracer_oom.c. */
struct kept_failure {
    uint64_t number;              // of all that failed; 0: there is none
    uint64_t size;
    uint64_t address_limit;       // UINT64_MAX: none
    uint64_t address_space;       // in use; 0: unknown
    uint64_t data_limit, data;    // the same
    uint64_t machine;             // its memory and swap
    uint64_t depth;               // frames of the stack
    uint32_t nframes;             // of these the newest: the last places, the
                                  //   newest first
    uint32_t kind;                // enum tracer_kind
    uint32_t reason;
    uint32_t unused;
};

struct kept_header {
    char magic[KEPT_MAGIC_SIZE];
    uint32_t byte_order;          // KEPT_BYTE_ORDER, in that of the writer
    uint32_t version;
    uint32_t sizes;               // KEPT_SIZES of the writer
    uint32_t limit;               // frames, UINT32_MAX: whole stack
    uint32_t pid;
    uint32_t nextents;
    uint64_t nunits;              // of the file
    int64_t began;                // ns since 1970
    int64_t clock_began;          // the same moment, of the monotonic clock
    int64_t looked;               // of that clock, when it was looked at last
    uint32_t incomplete;          // the file could not grow any more
    uint32_t moves;               // odd: nodes are being moved
    /* What is in the arrays. */
    uint32_t nnodes, nrares, nstrings, nplaces;
    uint32_t epoch;               // 0: there is none
    uint32_t peak;                // 0, or the array that has its rows
    uint64_t text_size;
    uint64_t peak_lengths[2];     // of the rows in each of these, bytes
    uint64_t folded, pruned, untraced;
    struct kept_spill spill;
    struct kept_copy copy;
    struct kept_failure failure;
    char python[64];              // version, a text
    uint32_t command_size;
    char command[4096];           // arguments, each with a NUL
    uint32_t replaced;            // by another program (os.execv)
    uint32_t nnatives;            // 0: native memory was not traced
};
static_assert(sizeof(struct kept_header) <= KEPT_DIRECTORY, "room for it");

#define KEPT_BYTE_ORDER 0x01020304u
#define KEPT_SIZES_WITH(RARE)                                   \
    ((uint32_t)(sizeof(struct tracer_node) << 24                \
                | sizeof(struct tracer_spill) << 16             \
                | (RARE) << 8                                   \
                | sizeof(struct kept_place)))
#define KEPT_SIZES KEPT_SIZES_WITH(sizeof(struct tracer_rare))

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_KEPT_H */
