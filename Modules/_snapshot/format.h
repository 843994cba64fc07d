/* The native file, see Doc/library/tracemalloc_file.rst: its sections, and
   what a reader predicts about a record before reading it.  The writer makes
   the same prediction, and writes only what differs. */

#ifndef TRACER_SNAPSHOT_FORMAT_H
#define TRACER_SNAPSHOT_FORMAT_H

#include "snapshot.h"

#include <glib.h>                 // GUINT32_TO_LE()

#define SNAPSHOT_MAGIC "\x89TRM\r\n\x1a\n"
#define SNAPSHOT_MAGIC_SIZE 8
#define SNAPSHOT_VERSION 8
#define SNAPSHOT_VERSION_READ 3          // the first that is
#define SNAPSHOT_VERSION_NEXT 4          // the first that has this section
#define SNAPSHOT_VERSION_HEAP 5
#define SNAPSHOT_VERSION_HIST 6
#define SNAPSHOT_VERSION_POOL 7
#define SNAPSHOT_VERSION_NATV 8
#define SNAPSHOT_HEADER_SIZE 16
#define SNAPSHOT_SECTION_SIZE 16

/* What a file and a section begin with; little-endian. */
struct snapshot_file_header {
    char magic[SNAPSHOT_MAGIC_SIZE];
    uint64_t version;
};
struct snapshot_section_header {
    uint32_t tag;
    uint32_t crc;
    uint64_t length;              // of what follows
};

#define SNAPSHOT_TAG(A, B, C, D) \
    ((uint32_t)(A) | (uint32_t)(B) << 8 | (uint32_t)(C) << 16 \
     | (uint32_t)(D) << 24)
#define SNAPSHOT_SECTIONS(X)                    \
    X(META, SNAPSHOT_TAG('M', 'E', 'T', 'A'))   \
    X(TEXT, SNAPSHOT_TAG('T', 'E', 'X', 'T'))   \
    X(LOCS, SNAPSHOT_TAG('L', 'O', 'C', 'S'))   \
    X(TREE, SNAPSHOT_TAG('T', 'R', 'E', 'E'))   \
    X(NEXT, SNAPSHOT_TAG('N', 'E', 'X', 'T'))   \
    X(KIND, SNAPSHOT_TAG('K', 'I', 'N', 'D'))   \
    X(ARNA, SNAPSHOT_TAG('A', 'R', 'N', 'A'))   \
    X(POOL, SNAPSHOT_TAG('P', 'O', 'O', 'L'))   \
    X(BLKS, SNAPSHOT_TAG('B', 'L', 'K', 'S'))   \
    X(HEAP, SNAPSHOT_TAG('H', 'E', 'A', 'P'))   \
    X(HIST, SNAPSHOT_TAG('H', 'I', 'S', 'T'))   \
    X(NATV, SNAPSHOT_TAG('N', 'A', 'T', 'V'))   \
    X(DONE, SNAPSHOT_TAG('D', 'O', 'N', 'E'))
enum snapshot_section {
#define SNAPSHOT_SECTION_ENUM(NAME, TAG) SNAPSHOT_SECTION_##NAME,
    SNAPSHOT_SECTIONS(SNAPSHOT_SECTION_ENUM)
#undef SNAPSHOT_SECTION_ENUM
    SNAPSHOT_NSECTIONS
};

/* The byte before a location: which parts are the same as in the location
   before. */
#define SNAPSHOT_SAME_FILENAME 1u
#define SNAPSHOT_SAME_FUNCTION 2u
#define SNAPSHOT_SAME_FIRST_LINE 4u
#define SNAPSHOT_SAME_COLUMNS 8u
#define SNAPSHOT_ONE_LINE 16u     // the last line is the line
#define SNAPSHOT_LOCATION_ZERO 0xe0u

/* The byte before a node: its caller, as steps up from the node before, and
   which values differ from the prediction and therefore follow.  A node is
   predicted to be like the last one at its location. */
#define SNAPSHOT_NODE_STEPS 3u    // 0 to 2; 3: a number follows, of more
#define SNAPSHOT_NODE_NFRAME 4u
#define SNAPSHOT_NODE_PAIR 8u     // << number of the pair of measures
#define SNAPSHOT_NODE_ZERO 0x80u

/* The last nodes at a location, numbered from 1; 0: there was none.  One
   record for each location, one for nodes without a caller, and one for all
   locations that had called nothing before. */
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

/* The predicted location for a node of this caller: it is likely to be
   near. */
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

/* The number, from 1, of the node that a node is predicted to be like; 0: all
   values are zero. */
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

/* If the live blocks differ from the prediction, the other values are
   predicted as if nothing had been freed: all blocks were allocated, and live
   at the peak. */
static inline void
_PySnapshot_ExpectMeasures(uint64_t *m)
{
    m[SNAPSHOT_TOTAL_SIZE] = m[SNAPSHOT_PEAK_SIZE] = m[SNAPSHOT_SIZE];
    m[SNAPSHOT_TOTAL_COUNT] = m[SNAPSHOT_PEAK_COUNT] = m[SNAPSHOT_COUNT];
    m[SNAPSHOT_GARBAGE_SIZE] = m[SNAPSHOT_GARBAGE_COUNT] = 0;
}

/* Bytes of one block, if all blocks of the node are alike; 0: there were
   none. */
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

#define SNAPSHOT_NOTE_SIZE 11     // bytes at least, of a note

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

#endif /* !TRACER_SNAPSHOT_FORMAT_H */
