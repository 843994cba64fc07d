/* Snapshots: a copy of the call tree and of the live blocks, as plain arrays.

   A snapshot is made by one pass over the tracer (tracer_snapshot.c), from
   Python tuples or from a file.  It never changes what it says afterwards;
   _PySnapshot_Truncate() only rewrites how.  Everything below works on the
   arrays alone: no Python object, no tracer, no GIL needed, so that the file
   reader can be tested by itself.  Functions that can run out of memory
   return -1 or NULL without an exception. */

#ifndef Py_INTERNAL_TRACER_SNAPSHOT_H
#define Py_INTERNAL_TRACER_SNAPSHOT_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>
#include <stdint.h>

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

/* What a block is. Kinds are those of enum tracer_kind. */
struct snapshot_class {
    uint32_t name;                // string: type, or <what it is>
    uint32_t kind;
    uint32_t domain;              // of kind TRACER_EXTERNAL, else 0
};

struct snapshot_block {
    uint64_t address;
    uint64_t size;                // requested
    uint32_t node;
    uint32_t class_;
};

/* Small blocks as taking a snapshot leaves them, see _PySnapshot_Unpack():
   what is written then must be little.  The blocks of a pool from this one up
   to the next record's are alike, or no traced blocks if the class is NONE. */
struct snapshot_packed {
    uint32_t entry;               // node << 10 | size - 1
    uint32_t place;               // number in its pool << 22 | class
};
#define SNAPSHOT_PACKED_NONE ((1u << 22) - 1)
#define SNAPSHOT_PACKED_CLASS(PLACE) ((PLACE) & SNAPSHOT_PACKED_NONE)
#define SNAPSHOT_PACKED_NUMBER(PLACE) ((PLACE) >> 22)

/* A pool: its records go from `first` to that of the next run.  The last run
   is the end of all. */
struct snapshot_run {
    uint64_t address;             // of the pool's block 0
    uint64_t first : 40;
    uint64_t block_size : 12;
    uint64_t nblocks : 12;        // traced or not
};

/* An arena of pymalloc. */
struct snapshot_arena {
    uint64_t address;
    uint64_t size;
    uint64_t used;                // bytes in blocks, traced or not
    uint64_t blocks;              // number of these
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
    struct snapshot_class *classes;
    struct snapshot_arena *arenas;
    struct snapshot_block *blocks;    // NULL: still packed or coded
    /* First come the packed ones, then those that no pool held. */
    struct snapshot_packed *packed;
    struct snapshot_run *runs;
    uint32_t nruns;
    uint64_t npacked;             // records
    uint64_t nsmall;              // blocks
    struct snapshot_block *others;
    /* Of a file: the records of its section, and what makes blocks of them. */
    uint8_t *coded;
    size_t coded_size;
    int (*decode)(struct tracer_snapshot *s);
};

static inline uint64_t *
_PySnapshot_Measures(const struct tracer_snapshot *s, uint32_t node)
{
    return s->measures[s->nodes[node].measures];
}

/* What the interpreter defines and the module _tracemalloc_snapshot uses. */
#define SNAPSHOT_API extern __attribute__((visibility("default")))

/* --- Python/tracer_arrays.c */
SNAPSHOT_API struct tracer_snapshot *_PySnapshot_New(void);
SNAPSHOT_API void _PySnapshot_Free(struct tracer_snapshot *s);
/* An array of n items of `size` bytes, never NULL for n == 0. */
SNAPSHOT_API void *_PySnapshot_Array(uint64_t n, size_t size);
/* The same for at most n items: what is not written costs nothing. */
SNAPSHOT_API void *_PySnapshot_Room(uint64_t n, size_t size);
/* A copy; the peak's: nodes with the values at the peak, without blocks. */
SNAPSHOT_API struct tracer_snapshot *_PySnapshot_Copy(
    struct tracer_snapshot *s, int with_blocks);
SNAPSHOT_API struct tracer_snapshot *_PySnapshot_Peak(
    struct tracer_snapshot *s);
/* Make `blocks` of the packed or coded ones, before blocks are looked at; the
   first call does the work. */
SNAPSHOT_API int _PySnapshot_Unpack(struct tracer_snapshot *s);
/* Append a text; its index, or NONE: no memory. */
SNAPSHOT_API uint32_t _PySnapshot_AddString(struct tracer_snapshot *s,
                                            const char *utf8,
                                            uint32_t length);

/* Map (a, b) -> number of the pair, in order of first sight.  Numbers start
   at 0; NONE: no memory. */
struct snapshot_pairs {
    uint64_t *keys;
    uint32_t *numbers;
    uint32_t mask, used;
    uint64_t multiplier;          // of the hash: nobody can choose keys by it
};
SNAPSHOT_API int _PySnapshot_PairsInit(struct snapshot_pairs *pairs);
SNAPSHOT_API void _PySnapshot_PairsFree(struct snapshot_pairs *pairs);
SNAPSHOT_API uint32_t _PySnapshot_Pair(struct snapshot_pairs *pairs,
                                       uint32_t a, uint32_t b);

/* --- Modules/_snapshot/paths.c */
struct snapshot_paths {
    struct snapshot_node *nodes;      // what is made; parents come first
    uint64_t (*measures)[SNAPSHOT_NMEASURES];
    uint32_t nnodes, nodes_size;
    uint32_t nmeasures, measures_size;
    struct snapshot_pairs paths;      // (path of the caller + 1, location)
    struct snapshot_pairs ends;       // (path, frames of the stack)
    uint32_t *path_nodes;             // first node of a path
    uint32_t *end_nodes;
    uint32_t paths_size, ends_size;
};
extern int _PySnapshot_PathsInit(struct snapshot_paths *paths);
extern void _PySnapshot_PathsFree(struct snapshot_paths *paths);
/* Number of the path that goes on from `caller` (NONE: the outermost frame)
   at a location. */
extern uint32_t _PySnapshot_Path(struct snapshot_paths *paths,
                                 uint32_t caller, uint32_t location);
/* The node at the end of a path for stacks of nframe frames.  It has measures
   of its own. */
extern uint32_t _PySnapshot_PathEnd(struct snapshot_paths *paths,
                                    uint32_t path, uint32_t nframe);
/* Number the nodes such that each one comes after its caller and all that
   the caller called before: order[i] is the node with number i. */
extern int _PySnapshot_Preorder(const struct tracer_snapshot *s,
                                uint32_t *order);
/* Make what is made the tree of a snapshot. */
extern void _PySnapshot_PathsMove(struct snapshot_paths *paths,
                                  struct tracer_snapshot *s);

/* --- Modules/_snapshot/truncate.c */
/* Shorten all paths to the limit and merge those that become equal.  Called
   before paths are looked at; the first call does the work. */
extern int _PySnapshot_Truncate(struct tracer_snapshot *s);

/* --- Modules/_snapshot/group.c */
enum snapshot_key {
    SNAPSHOT_BY_FILENAME,
    SNAPSHOT_BY_LINENO,
    SNAPSHOT_BY_FUNCTION,
    SNAPSHOT_BY_TRACEBACK,
    SNAPSHOT_BY_PATH,             // traceback with functions: the call tree
    SNAPSHOT_BY_TYPE,             // these need the blocks
    SNAPSHOT_BY_TYPE_LINENO,
    SNAPSHOT_BY_DOMAIN,
    SNAPSHOT_BY_ADDRESS,
};

struct snapshot_group {
    uint32_t node;                // a node of the group, or NONE
    uint32_t location;            // a location of the group, or NONE
    uint32_t class_;              // a class of the group, or NONE
    uint64_t address;
    uint64_t measures[SNAPSHOT_NMEASURES];
};

struct snapshot_groups {
    struct snapshot_group *groups;
    uint64_t ngroups;
};

/* Number the nodes by a key of nodes: labels[i], one per node, is the group of
   node i; groups are numbered in the order of their first node.  Keys of
   paths: after Truncate(). */
extern int _PySnapshot_Label(const struct tracer_snapshot *s,
                             enum snapshot_key key,
                             uint32_t *labels, uint32_t *nlabels);
/* Sum by `key`.  Keys of blocks fill SIZE and COUNT alone.  `cumulative`: a
   block counts at each group that its path meets, once; for keys of nodes
   but the traceback. */
extern int _PySnapshot_Group(struct tracer_snapshot *s, enum snapshot_key key,
                             int cumulative, struct snapshot_groups *result);
/* Live bytes and blocks by label (in `node`) and name of the class. */
extern int _PySnapshot_GroupByType(struct tracer_snapshot *s,
                                   const uint32_t *labels,
                                   struct snapshot_groups *result);

/* --- Modules/_snapshot/order.c */
/* Numbers of the groups by traceback that have blocks by a measure: the
   largest first, equal ones by size, count and frames; *n are found.  Of all
   blocks: the largest first, equal ones by their frames.  NULL: no memory. */
extern uint32_t *_PySnapshot_Order(const struct tracer_snapshot *s,
                                   const struct snapshot_groups *groups,
                                   int measure, uint32_t *n);
extern uint32_t *_PySnapshot_OrderBlocks(struct tracer_snapshot *s);

/* --- Modules/_snapshot/filter.c */
struct snapshot_filter {
    const uint8_t *filenames;     // one per string: matches; NULL: all do
    int32_t line;                 // -1: any
    int all_frames;               // any frame of the path, else the last
    int inclusive;
    int by_domain;
    uint64_t domain;              // above UINT32_MAX: none
};

/* The blocks that any inclusive filter (if there is one) and each exclusive
   filter lets pass, in a new snapshot. */
extern struct tracer_snapshot *_PySnapshot_Filter(
    struct tracer_snapshot *s, const struct snapshot_filter *filters,
    size_t nfilters);
/* The blocks with keep[i] != 0. */
extern struct tracer_snapshot *_PySnapshot_Select(
    struct tracer_snapshot *s, const uint8_t *keep);

/* --- Modules/_snapshot/checksum.c: CRC-32 as in zlib */
extern uint32_t _PySnapshot_CRC(uint32_t crc, const void *data, size_t size);

/* --- Modules/_snapshot/utf8.c: the first byte that is no UTF-8, or NULL */
extern const uint8_t *_PySnapshot_FindBadUTF8(const uint8_t *p,
                                              const uint8_t *end);

/* --- Modules/_snapshot/file_write.c, file_read.c: see
   Doc/library/tracemalloc_file.rst */

#define SNAPSHOT_MAGIC "\x89TRM\r\n\x1a\n"
#define SNAPSHOT_MAGIC_SIZE 8
#define SNAPSHOT_VERSION 3
#define SNAPSHOT_HEADER_SIZE 16           // magic, version, zero
#define SNAPSHOT_SECTION_SIZE 16          // tag, CRC, length

#define SNAPSHOT_TAG(A, B, C, D) \
    ((uint32_t)(A) | (uint32_t)(B) << 8 | (uint32_t)(C) << 16 \
     | (uint32_t)(D) << 24)
#define SNAPSHOT_SECTIONS(X)                    \
    X(META, SNAPSHOT_TAG('M', 'E', 'T', 'A'))   \
    X(TEXT, SNAPSHOT_TAG('T', 'E', 'X', 'T'))   \
    X(LOCS, SNAPSHOT_TAG('L', 'O', 'C', 'S'))   \
    X(TREE, SNAPSHOT_TAG('T', 'R', 'E', 'E'))   \
    X(KIND, SNAPSHOT_TAG('K', 'I', 'N', 'D'))   \
    X(ARNA, SNAPSHOT_TAG('A', 'R', 'N', 'A'))   \
    X(BLKS, SNAPSHOT_TAG('B', 'L', 'K', 'S'))   \
    X(DONE, SNAPSHOT_TAG('D', 'O', 'N', 'E'))
enum snapshot_section {
#define SNAPSHOT_SECTION_ENUM(NAME, TAG) SNAPSHOT_SECTION_##NAME,
    SNAPSHOT_SECTIONS(SNAPSHOT_SECTION_ENUM)
#undef SNAPSHOT_SECTION_ENUM
    SNAPSHOT_NSECTIONS
};

/* The byte before a location: what is that of the location before. */
#define SNAPSHOT_SAME_FILENAME 1u
#define SNAPSHOT_SAME_FUNCTION 2u
#define SNAPSHOT_SAME_FIRST_LINE 4u
#define SNAPSHOT_SAME_COLUMNS 8u
#define SNAPSHOT_ONE_LINE 16u     // the last line is the line
#define SNAPSHOT_LOCATION_ZERO 0xe0u

/* The byte before a node: its caller, as steps up from the node before, and
   what differs from what a reader expects and therefore follows.  A node is
   likely to be as the last one at its location. */
#define SNAPSHOT_NODE_STEPS 3u    // 0 to 2; 3: a number follows, of more
#define SNAPSHOT_NODE_NFRAME 4u
#define SNAPSHOT_NODE_PAIR 8u     // << number of the pair of measures
#define SNAPSHOT_NODE_ZERO 0x80u

/* What was last at a location, numbers from 1; 0: nothing was.  One for each
   location, one for where those without a caller are called from, and one for
   all locations that had called nothing before. */
struct snapshot_last {
    uint32_t node;                // there
    uint32_t called;              // location of the node called from there
};
#define SNAPSHOT_MORE_LASTS 2

static inline struct snapshot_last *
_PySnapshot_LastAt(const struct tracer_snapshot *s, uint32_t caller,
                   struct snapshot_last *last)
{
    return &last[caller == SNAPSHOT_NONE ? s->nlocations
                                         : s->nodes[caller].location];
}

/* The location that is likely to be near that of a node of this caller. */
static inline uint32_t
_PySnapshot_NearLocation(const struct tracer_snapshot *s, uint32_t caller,
                         struct snapshot_last *last)
{
    uint32_t called = _PySnapshot_LastAt(s, caller, last)->called;
    called = called == 0 ? last[s->nlocations + 1].called : called;
    return called == 0 ? 0 : called - 1;
}

static inline void
_PySnapshot_SetLast(const struct tracer_snapshot *s, uint32_t i,
                    struct snapshot_last *last)
{
    const struct snapshot_node *node = &s->nodes[i];
    struct snapshot_last *from = _PySnapshot_LastAt(s, node->parent, last);
    if (from->called == 0) {
        last[s->nlocations + 1].called = node->location + 1;
    }
    from->called = node->location + 1;
    last[node->location].node = i + 1;
}

/* The number, from 1, of the node that a node is likely to be as; 0: all is
   zero. */
static inline uint32_t
_PySnapshot_Likeness(const struct snapshot_node *node, uint32_t before,
                     const struct snapshot_last *last)
{
    uint32_t number = last[node->location].node;
    return number == 0 ? before + 1 : number;
}

static inline uint32_t
_PySnapshot_ExpectFrames(const struct tracer_snapshot *s,
                         const struct snapshot_node *node, uint32_t like)
{
    if (node->parent != SNAPSHOT_NONE && s->nodes[node->parent].nframe != 0) {
        return s->nodes[node->parent].nframe + 1;
    }
    return like == 0 ? 0 : s->nodes[like - 1].nframe;
}

static inline uint32_t
_PySnapshot_LikeMeasures(const struct tracer_snapshot *s, uint32_t like)
{
    return like == 0 ? 0 : s->nodes[like - 1].measures;
}

/* If the live blocks are not as expected, the rest follows from them as if
   nothing had been freed: all were allocated, and live at the peak. */
static inline void
_PySnapshot_ExpectMeasures(uint64_t *m)
{
    m[SNAPSHOT_TOTAL_SIZE] = m[SNAPSHOT_PEAK_SIZE] = m[SNAPSHOT_SIZE];
    m[SNAPSHOT_TOTAL_COUNT] = m[SNAPSHOT_PEAK_COUNT] = m[SNAPSHOT_COUNT];
    m[SNAPSHOT_GARBAGE_SIZE] = m[SNAPSHOT_GARBAGE_COUNT] = 0;
}

/* Bytes of one block, if all of a node's are alike; 0: none was ever there. */
static inline uint64_t
_PySnapshot_UnitSize(const uint64_t *m)
{
    int j = m[SNAPSHOT_COUNT] != 0 ? SNAPSHOT_SIZE : SNAPSHOT_TOTAL_SIZE;
    return m[j + 1] == 0 ? 0 : m[j] / m[j + 1];
}

/* The byte before a block: what is that of the block before, or of the last
   one at the location of its node; above it the step of the address / 16. */
#define SNAPSHOT_LIKELY_SIZE 1u
#define SNAPSHOT_SAME_NODE 2u
#define SNAPSHOT_LIKELY_CLASS 4u
#define SNAPSHOT_LIKELY (SNAPSHOT_LIKELY_SIZE | SNAPSHOT_LIKELY_CLASS)
#define SNAPSHOT_FAR 31u          // a number follows instead

/* A signed number, modulo 2**64, with its sign in the lowest bit. */
static inline uint64_t
_PySnapshot_ZigZag(uint64_t value)
{
    return value << 1 ^ (uint64_t)((int64_t)value >> 63);
}

static inline uint64_t
_PySnapshot_UnZigZag(uint64_t value)
{
    return value >> 1 ^ -(value & 1);
}

/* Write what is unpacked to a new, empty file; `meta` is UTF-8 text of the
   caller's.  Returns 0, or -1 with errno set. */
extern int _PySnapshot_Write(const struct tracer_snapshot *s, int fd,
                             const char *meta, size_t meta_size);

struct snapshot_error {
    const char *reason;           // NULL: no memory
    uint64_t offset;              // in the file
};
/* Read a file image.  *meta points into it.  Checks everything; memory use is
   bounded by 50 bytes per byte of the image.  NULL and *error on failure. */
extern struct tracer_snapshot *_PySnapshot_Read(
    const uint8_t *image, size_t size, const char **meta, size_t *meta_size,
    struct snapshot_error *error);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_SNAPSHOT_H */
