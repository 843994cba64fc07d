/* Snapshots as plain arrays, and functions that analyse them.

   Everything below works only on the arrays: it needs no Python object, no
   tracer and no GIL, so that the file reader can be tested by itself, and the
   module can be built for any CPython.  The meaning of a snapshot never
   changes; _PySnapshot_Truncate() only rewrites its form.  Functions that can
   run out of memory return -1 or NULL without an exception.

   Only functions of GLib that need no memory are used: all this runs inside
   the traced program, and g_malloc() and GLib's containers end the process
   when there is no memory.

   Included before any other header but Python.h. */

#ifndef TRACER_SNAPSHOT_H
#define TRACER_SNAPSHOT_H

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE             // madvise(), pwrite()
#endif

#include "pycore_tracer_snapshot.h"

#include <assert.h>

/* Of a variable: the array goes when it does. */
static inline void
_PySnapshot_ReleaseAt(void *variable)
{
    _PySnapshot_Release(*(void **)variable);
}
#define SNAPSHOT_AUTO __attribute__((cleanup(_PySnapshot_ReleaseAt)))

static inline uint64_t *
_PySnapshot_Measures(const struct tracer_snapshot *s, uint32_t node)
{
    return s->measures[s->nodes[node].measures];
}

/* --- arrays.c */
/* Make room for so many items; *size is what there is.  0, or -1: no
   memory. */
extern int _PySnapshot_Grow(void *array, uint32_t *size, uint32_t needed,
                            size_t item);
static inline int
_PySnapshot_Reserve(void *array, uint32_t *size, uint32_t needed, size_t item)
{
    return needed <= *size ? 0 : _PySnapshot_Grow(array, size, needed, item);
}

/* Complete the data that the interpreter has handed over; 0, or -1: no
   memory. */
extern int _PySnapshot_NameDomains(struct tracer_snapshot *s);
/* A copy; the peak's: nodes with the values at the peak, without blocks. */
extern struct tracer_snapshot *_PySnapshot_Copy(struct tracer_snapshot *s,
                                                int with_blocks);
extern struct tracer_snapshot *_PySnapshot_Peak(struct tracer_snapshot *s);
/* The same of one of the next highest moments; if it is to be compared, with
   the values at the peak as they are. */
extern struct tracer_snapshot *_PySnapshot_NextPeak(struct tracer_snapshot *s,
                                                    uint32_t moment,
                                                    int compare);
/* The nodes have other numbers: moved[i], NONE: no blocks. */
extern void _PySnapshot_MoveHeld(struct tracer_snapshot *s,
                                 const uint32_t *moved);
/* Make `blocks` of the packed or coded ones, before blocks are looked at; the
   first call does the work. */
extern int _PySnapshot_Unpack(struct tracer_snapshot *s);
/* Make a copy that has the arrays of `s`, which stay until it is returned: it
   can be cut and unpacked while others look at `s`, which then has what was
   made.  Borrow and Return want what protects `s`; 0, or -1: no memory. */
extern int _PySnapshot_Borrow(struct tracer_snapshot *s,
                              struct tracer_snapshot *copy);
extern void _PySnapshot_Return(struct tracer_snapshot *copy);

/* --- pairs.c */
/* Map (a, b) -> number of the pair, in the order of first sight. Numbers start
   at 0; NONE: no memory. */
struct snapshot_pairs {
    uint64_t *keys;
    uint32_t *numbers;
    uint32_t mask, used;
};
extern int _PySnapshot_PairsInit(struct snapshot_pairs *pairs);
extern void _PySnapshot_PairsFree(struct snapshot_pairs *pairs);
extern uint32_t _PySnapshot_Pair(struct snapshot_pairs *pairs,
                                uint32_t a, uint32_t b);

/* --- paths.c */
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

/* --- truncate.c */
/* Shorten all paths to the limit and merge those that become equal.  Called
   before paths are looked at; the first call does the work. */
extern int _PySnapshot_Truncate(struct tracer_snapshot *s);
/* A copy whose paths have no more than `limit` frames, which is 1 at least. */
extern struct tracer_snapshot *_PySnapshot_Cut(struct tracer_snapshot *s,
                                               uint32_t limit);

/* --- fold.c */
enum snapshot_fold {
    SNAPSHOT_SHOW,
    SNAPSHOT_HIDE,
    SNAPSHOT_HIDE_CALLED,         // hidden unless it is outermost
    SNAPSHOT_NFOLDS
};
/* A copy without nodes for frames of hidden files: kinds[i], one per string.
   Blocks without any shown frame belong to a file called `rest`.  `origins`:
   remember which location allocated the blocks that are charged to a caller.
   `runners`, or NULL: one per string, nonzero for functions by which a hidden
   file runs tasks; then paths have one frame, that of the task.  `s` must live
   as long as the copy, which has its blocks from there. */
extern struct tracer_snapshot *_PySnapshot_Fold(
    struct tracer_snapshot *s, const uint8_t *kinds, const uint8_t *runners,
    const char *rest, size_t length, int origins);

/* --- group.c */
enum snapshot_key {
    SNAPSHOT_BY_FILENAME,
    SNAPSHOT_BY_LINENO,
    SNAPSHOT_BY_FUNCTION,
    SNAPSHOT_BY_TRACEBACK,
    SNAPSHOT_BY_PATH,             // traceback with functions: the call tree
    SNAPSHOT_BY_TYPE,             // these need the blocks
    SNAPSHOT_BY_TYPE_LINENO,
    SNAPSHOT_BY_DOMAIN,
    SNAPSHOT_BY_NATIVE,           // C stack
    SNAPSHOT_BY_ADDRESS,
};

struct snapshot_group {
    uint32_t node;                // a node of the group, or NONE
    uint32_t location;            // a location of the group, or NONE
    uint32_t class_;              // a class of the group, or NONE
    uint32_t origin;              // location that allocated most, or NONE
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
   block is charged to each group that its path meets, once; for keys of nodes
   but the traceback.  `lines`, then: one per location, or NULL: those with 0
   meet no group.  `by_origin`, else: a group for each location that allocated,
   as a folded snapshot knows it. */
extern int _PySnapshot_Group(struct tracer_snapshot *s, enum snapshot_key key,
                             int cumulative, const uint8_t *lines,
                             int by_origin, struct snapshot_groups *result);
/* Live bytes and blocks by label (in `node`) and name of the class; or by C
   stack, of those that have one. */
extern int _PySnapshot_GroupByClass(struct tracer_snapshot *s,
                                    const uint32_t *labels, int by_stack,
                                    struct snapshot_groups *result);

/* --- order.c */
/* Numbers of the groups by traceback that have blocks by a measure: the
   largest first, equal ones by size, count and frames; *n are found.  Of all
   blocks: the largest first, equal ones by their frames.  NULL: no memory. */
extern uint32_t *_PySnapshot_Order(const struct tracer_snapshot *s,
                                   const struct snapshot_groups *groups,
                                   int measure, uint32_t *n);
extern uint32_t *_PySnapshot_OrderBlocks(struct tracer_snapshot *s);

/* --- filter.c */
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
/* lines[i], one per location: the last frame of a path would pass. */
extern int _PySnapshot_FilterLines(const struct tracer_snapshot *s,
                                   const struct snapshot_filter *filters,
                                   size_t nfilters, uint8_t *lines);
/* The blocks with a frame of which lines[location] != 0. */
extern struct tracer_snapshot *_PySnapshot_SelectLines(
    struct tracer_snapshot *s, const uint8_t *lines);
/* The blocks with keep[i] != 0. */
extern struct tracer_snapshot *_PySnapshot_Select(
    struct tracer_snapshot *s, const uint8_t *keep);

/* --- checksum.c: CRC-32 as in zlib */
extern uint32_t _PySnapshot_CRC(uint32_t crc, const void *data, size_t size);

/* --- utf8.c: the first byte that is no UTF-8, or NULL */
extern const char *_PySnapshot_FindBadUTF8(const char *text, const char *end);

/* --- file_write.c */
/* What a file has beside the arrays: `meta` is UTF-8 text of the caller's, the
   notes are in order. */
struct snapshot_beside {
    const char *meta;
    size_t meta_size;
    const struct snapshot_note *notes;
    size_t nnotes;
};
/* Write what is unpacked to a new, empty file.  Returns 0, or -1 with errno
   set. */
extern int _PySnapshot_Write(const struct tracer_snapshot *s, int fd,
                             const struct snapshot_beside *beside);

struct snapshot_error {
    const char *reason;           // NULL: no memory
    uint64_t offset;              // in the file
};
/* Read a file image.  *meta points into it.  Checks everything; memory use is
   bounded by 50 bytes per byte of the image.  NULL and *error on failure. */
extern struct tracer_snapshot *_PySnapshot_Read(
    const uint8_t *image, size_t size, const char **meta, size_t *meta_size,
    struct snapshot_error *error);
/* Make blocks of those of a file that was read. */
extern int _PySnapshot_Decode(struct tracer_snapshot *s);
/* graph_read.c: the same for the graph, if there is one, which is not checked
   before.  0, or -1: no memory, or the file is not right.  No GIL needed. */
extern int _PySnapshot_DecodeGraph(const struct tracer_snapshot *s,
                                   struct snapshot_error *error);


/* --- keep_read.c */
/* Read the image of a kept call tree: nodes with their measures, without
   blocks.  *header is what it says of the process, *nnodes how many nodes of
   the tree are in the file.  NULL and *error on failure. */
struct kept_header;
extern struct tracer_snapshot *_PySnapshot_ReadKept(
    const uint8_t *image, size_t size, struct kept_header *header,
    uint32_t *nnodes, struct snapshot_error *error);

#endif /* !TRACER_SNAPSHOT_H */
