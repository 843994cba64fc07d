/* Taking a snapshot: the call tree, with the measures of its nodes.

   Locked; nothing is said of an error but that there is no memory. */

#include "Python.h"
#include "pycore_tracer_core.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_types.h"

#define UNKNOWN "<unknown>"
#define AHEAD 16                  // nodes to that whose saved value is next

static int
copy_strings(struct tracer_snapshot *s)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < _PyTracer.nstrings; i++) {
        size += _PyTracer.strings[i].length;
    }
    s->text = _PySnapshot_Array(size, 1);
    s->strings = _PySnapshot_Array(_PyTracer.nstrings, sizeof(*s->strings));
    if (s->text == NULL || s->strings == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < _PyTracer.nstrings; i++) {
        const struct tracer_string *string = &_PyTracer.strings[i];
        s->strings[i].offset = s->text_size;
        s->strings[i].length = string->length;
        if (string->length != 0) {
            memcpy(s->text + s->text_size, string->utf8, string->length);
        }
        s->text_size += string->length;
    }
    assert(s->text_size == size);
    s->nstrings = _PyTracer.nstrings;
    return 0;
}

/* The tracer's locations and one more, of the unknown node. */
static int
copy_locations(struct tracer_snapshot *s)
{
    uint32_t n = _PyTracer.nlocations;
    s->locations = _PySnapshot_Array((uint64_t)n + 1, sizeof(*s->locations));
    uint32_t unknown = _PySnapshot_AddString(s, UNKNOWN,
                                             sizeof(UNKNOWN) - 1);
    if (s->locations == NULL || unknown == SNAPSHOT_NONE) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct tracer_location *from = &_PyTracer.locations[i];
        const struct tracer_position pos = _PyTracer_PositionOf(from);
        struct snapshot_location *to = &s->locations[i];
        assert(from->function < _PyTracer.nfunctions);
        const struct tracer_function *function =
            &_PyTracer.functions[from->function];
        to->filename = function->filename;
        to->function = function->name;
        to->line = pos.line;
        to->end_line = pos.end_line;
        to->column = pos.column;
        to->end_column = pos.end_column;
        to->first_line = function->first_line;
    }
    s->locations[n] = (struct snapshot_location){
        .filename = unknown, .function = unknown,
        .end_line = -1, .column = -1, .end_column = -1,
    };
    s->nlocations = n + 1;
    return 0;
}

static void
add_twin(const struct tracer_twin *twin, uint64_t *m)
{
    struct tracer_sum live = _PyTracer_Live(&twin->counts);
    struct tracer_sum peak = twin->peak_epoch == _PyTracer.epoch ? twin->peak
                                                                 : live;
    m[SNAPSHOT_SIZE] += live.bytes;
    m[SNAPSHOT_COUNT] += live.blocks;
    m[SNAPSHOT_TOTAL_SIZE] += twin->counts.alloc_bytes;
    m[SNAPSHOT_TOTAL_COUNT] += twin->counts.alloc_blocks;
    m[SNAPSHOT_PEAK_SIZE] += peak.bytes;
    m[SNAPSHOT_PEAK_COUNT] += peak.blocks;
    m[SNAPSHOT_GARBAGE_SIZE] = twin->garbage.bytes;
    m[SNAPSHOT_GARBAGE_COUNT] = twin->garbage.blocks;
}

static void
copy_measures(uint32_t id, uint64_t *m)
{
    struct tracer_counts counts = _PyTracer_Counts(id);
    struct tracer_sum live = _PyTracer_Live(&counts);
    struct tracer_sum peak = _PyTracer_AtPeak(id);
    m[SNAPSHOT_SIZE] = live.bytes;
    m[SNAPSHOT_COUNT] = live.blocks;
    m[SNAPSHOT_TOTAL_SIZE] = counts.alloc_bytes;
    m[SNAPSHOT_TOTAL_COUNT] = counts.alloc_blocks;
    m[SNAPSHOT_PEAK_SIZE] = peak.bytes;
    m[SNAPSHOT_PEAK_COUNT] = peak.blocks;
    m[SNAPSHOT_GARBAGE_SIZE] = m[SNAPSHOT_GARBAGE_COUNT] = 0;
    if (_PyTracer_Node(id)->twin != 0) {
        add_twin(_PyTracer_Twin(id), m);
    }
}

/* Returns the number of live blocks in *nblocks.  Most nodes stand for calls
   and never allocate. */
static int
copy_nodes(struct tracer_snapshot *s, uint64_t *nblocks)
{
    uint32_t n = _PyTracer_NodeNumber(_PyTracer.nnodes);
    s->nodes = _PySnapshot_Array(n, sizeof(*s->nodes));
    s->measures = _PySnapshot_Room((uint64_t)n + 1, sizeof(*s->measures));
    if (s->nodes == NULL || s->measures == NULL) {
        return -1;
    }
    memset(s->measures[0], 0, sizeof(*s->measures));
    s->nmeasures = 1;
    *nblocks = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = i == 0 ? TRACER_NODE_UNKNOWN
                             : i + TRACER_NODE_FIRST - 1;
        const struct tracer_node *from = _PyTracer_Node(id);
        struct snapshot_node *to = &s->nodes[i];
        /* Saved values lie in the order in which they were left. */
        if (i + AHEAD < n && from[AHEAD].saved >= _PyTracer.epoch) {
            __builtin_prefetch(&_PyTracer.saved[from[AHEAD].saved
                                                - _PyTracer.epoch]);
        }
        uint32_t parent = from->parent;
        to->parent = SNAPSHOT_NONE;
        if (parent & TRACER_TRUNCATED) {
            to->nframe = (parent & ~TRACER_TRUNCATED) + 1;
            s->truncate = _PyTracer.limit > 1;
        }
        else if (parent != 0) {
            to->parent = _PyTracer_NodeNumber(parent);
            assert(to->parent < i);
            to->nframe = s->nodes[to->parent].nframe + 1;
        }
        else {
            to->nframe = 1;
        }
        to->location = i == 0 ? s->nlocations - 1 : from->location;
        to->measures = 0;
        if (from->alloc_blocks != 0 || from->twin != 0
            || _PyTracer_chunk_carried[id >> TRACER_CHUNK_BITS])
        {
            uint64_t *m = s->measures[s->nmeasures];
            copy_measures(id, m);
            to->measures = m[SNAPSHOT_TOTAL_COUNT] == 0 ? 0 : s->nmeasures++;
            *nblocks += m[SNAPSHOT_COUNT];
        }
    }
    s->nnodes = n;
    return 0;
}

int
_PyTracer_CopyTree(struct tracer_snapshot *s, uint64_t *nblocks)
{
    _PyTracer_ASSERT_LOCKED();
    assert(s->nnodes == 0 && s->nstrings == 0);
    return copy_strings(s) < 0 || copy_locations(s) < 0
           || copy_nodes(s, nblocks) < 0 ? -1 : 0;
}
