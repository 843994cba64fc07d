/* Taking a snapshot: the call tree, with the measures of its nodes.

   At the moment, locked, the tables are copied as they are. The values of the
   snapshot are computed afterwards, from the copies, while other threads run.
   The only error is that there is no memory. */

#include "Python.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_take_tree.h"

#define UNKNOWN "<unknown>"
#define AHEAD 16                  // nodes to that whose saved value is next

/* --- At the moment */

static int
copy_strings(struct tracer_snapshot *s, struct tracer_rooms *rooms)
{
    uint32_t n = _PyTracer_texts.nstrings;
    uint64_t size = 0;
    for (uint32_t i = 0; i < n; i++) {
        size += _PyTracer_texts.strings[i].length;
    }
    char *text = _PyTracer_Room(rooms, TRACER_ROOM_TEXT, size, 1);
    struct snapshot_string *strings = _PyTracer_Room(
        rooms, TRACER_ROOM_STRINGS, n, sizeof(*strings));
    if (text == NULL || strings == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct tracer_string *string = &_PyTracer_texts.strings[i];
        strings[i].offset = s->text_size;
        strings[i].length = string->length;
        memcpy(text + s->text_size, string->utf8, string->length);
        s->text_size += string->length;
    }
    assert(s->text_size == size);
    s->nstrings = n;
    _PyTracer_UsedRoom(TRACER_ROOM_TEXT, size);
    _PyTracer_UsedRoom(TRACER_ROOM_STRINGS, n * sizeof(*strings));
    return 0;
}

static int
copy_locations(struct tracer_snapshot *s, struct tracer_rooms *rooms)
{
    uint32_t n = _PyTracer_places.nlocations;
    /* And one more, for the unknown node. */
    struct snapshot_location *locations = _PyTracer_Room(
        rooms, TRACER_ROOM_LOCATIONS, (uint64_t)n + 1, sizeof(*locations));
    if (locations == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct tracer_location *from = &_PyTracer_places.locations[i];
        const struct tracer_position pos = _PyTracer_PositionOf(from);
        assert(from->function < _PyTracer_places.nfunctions);
        const struct tracer_function *function =
            &_PyTracer_places.functions[from->function];
        locations[i] = (struct snapshot_location){
            .filename = function->filename,
            .function = function->name,
            .line = pos.line,
            .end_line = pos.end_line,
            .column = pos.column,
            .end_column = pos.end_column,
            .first_line = function->first_line,
        };
    }
    s->nlocations = n;
    _PyTracer_UsedRoom(TRACER_ROOM_LOCATIONS, (n + 1) * sizeof(*locations));
    return 0;
}

static int
copy_table(struct tracer_rooms *rooms, enum tracer_room_of which,
           const void *table, uint32_t n, size_t item)
{
    void *copy = _PyTracer_Room(rooms, which, n, item);
    if (copy == NULL) {
        return -1;
    }
    memcpy(copy, table, n * item);
    _PyTracer_UsedRoom(which, n * item);
    return 0;
}

/* Most chunks never had such values. */
static int
copy_spills(struct tracer_tree_copy *tree, struct tracer_rooms *rooms)
{
    const size_t item = sizeof(struct tracer_spill) * TRACER_CHUNK_NODES;
    uint32_t n = 0;
    for (uint32_t i = 0; i << TRACER_CHUNK_BITS < tree->nnodes; i++) {
        tree->spills_at[i] = 0;
        if (_PyTracer_chunk_spilled[i]) {
            char *copy = _PyTracer_Room(rooms, TRACER_ROOM_SPILLS, n + 1,
                                        item);
            if (copy == NULL) {
                return -1;
            }
            memcpy(copy + n * item,
                   &_PyTracer_tree.spills[i << TRACER_CHUNK_BITS], item);
            tree->spills_at[i] = (uint16_t)++n;
        }
    }
    _PyTracer_UsedRoom(TRACER_ROOM_SPILLS, n * item);
    return 0;
}

int
_PyTracer_CopyTree(struct tracer_snapshot *s, struct tracer_tree_copy *tree,
                   struct tracer_rooms *rooms)
{
    _PyTracer_ASSERT_LOCKED();
    tree->nnodes = _PyTracer_tree.nnodes;
    tree->epoch = _PyTracer.epoch != 0 ? _PyTracer.epoch : UINT32_MAX;
    if (copy_strings(s, rooms) < 0 || copy_locations(s, rooms) < 0
        || copy_table(rooms, TRACER_ROOM_NODES, _PyTracer.nodes,
                      _PyTracer_tree.nnodes, sizeof(struct tracer_node)) < 0
        || copy_table(rooms, TRACER_ROOM_SAVED, _PyTracer_tree.saved,
                      _PyTracer_tree.next_saved - _PyTracer_tree.first_saved,
                      sizeof(uint32_t)) < 0
        || copy_table(rooms, TRACER_ROOM_RARES, _PyTracer_tree.rares,
                      _PyTracer_tree.nrares, sizeof(struct tracer_rare)) < 0
        || copy_table(rooms, TRACER_ROOM_NATIVES, _PyTracer_tree.natives,
                      _PyTracer_tree.nnatives,
                      sizeof(struct tracer_counts)) < 0
        || copy_spills(tree, rooms) < 0)
    {
        return -1;
    }
    tree->nodes = rooms->list[TRACER_ROOM_NODES].p;
    tree->saved = rooms->list[TRACER_ROOM_SAVED].p;
    tree->rares = rooms->list[TRACER_ROOM_RARES].p;
    tree->natives = rooms->list[TRACER_ROOM_NATIVES].p;
    tree->spills = rooms->list[TRACER_ROOM_SPILLS].p;
    return 0;
}

/* --- Afterwards */

static const struct tracer_spill *
spill_of(const struct tracer_tree_copy *tree, uint32_t id)
{
    uint32_t number = tree->spills_at[id >> TRACER_CHUNK_BITS];
    return number == 0 ? NULL
                       : &tree->spills[(number - 1) << TRACER_CHUNK_BITS
                                     | (id & (TRACER_CHUNK_NODES - 1))];
}

static struct tracer_sum
saved_of(const struct tracer_tree_copy *tree, uint32_t id)
{
    uint32_t packed = tree->saved[tree->nodes[id].saved - tree->epoch];
    return packed == TRACER_SAVED_SPILLED ? spill_of(tree, id)->saved
                                       : _PyTracer_UnpackSaved(packed);
}

static void
add_rare(const struct tracer_tree_copy *tree, uint32_t id, uint64_t *m)
{
    const struct tracer_rare *rare = &tree->rares[tree->nodes[id].rare];
    struct tracer_sum live = _PyTracer_Live(&rare->counts);
    struct tracer_sum peak = rare->peak_epoch == tree->epoch ? rare->peak
                                                             : live;
    m[SNAPSHOT_SIZE] += live.bytes;
    m[SNAPSHOT_COUNT] += live.blocks;
    m[SNAPSHOT_TOTAL_SIZE] += rare->counts.alloc_bytes;
    m[SNAPSHOT_TOTAL_COUNT] += rare->counts.alloc_blocks;
    m[SNAPSHOT_PEAK_SIZE] += peak.bytes;
    m[SNAPSHOT_PEAK_COUNT] += peak.blocks;
    m[SNAPSHOT_GARBAGE_SIZE] = rare->garbage.bytes;
    m[SNAPSHOT_GARBAGE_COUNT] = rare->garbage.blocks;
}

static void
add_native(const struct tracer_tree_copy *tree, uint32_t id, uint64_t *m)
{
    uint32_t number = tree->rares[tree->nodes[id].rare].native;
    if (number != 0) {
        const struct tracer_counts *counts = &tree->natives[number];
        struct tracer_sum live = _PyTracer_Live(counts);
        m[SNAPSHOT_SIZE] += live.bytes;
        m[SNAPSHOT_COUNT] += live.blocks;
        m[SNAPSHOT_TOTAL_SIZE] += counts->alloc_bytes;
        m[SNAPSHOT_TOTAL_COUNT] += counts->alloc_blocks;
    }
}

static void
write_measures(const struct tracer_tree_copy *tree, uint32_t id, uint64_t *m)
{
    const struct tracer_node *node = &tree->nodes[id];
    const struct tracer_spill *spill = spill_of(tree, id);
    struct tracer_counts counts = _PyTracer_AddSpilled(
        node, spill == NULL ? NULL : &spill->counts);
    struct tracer_sum live = _PyTracer_Live(&counts);
    struct tracer_sum peak = node->saved >= tree->epoch ? saved_of(tree, id)
                                                        : live;
    m[SNAPSHOT_SIZE] = live.bytes;
    m[SNAPSHOT_COUNT] = live.blocks;
    m[SNAPSHOT_TOTAL_SIZE] = counts.alloc_bytes;
    m[SNAPSHOT_TOTAL_COUNT] = counts.alloc_blocks;
    m[SNAPSHOT_PEAK_SIZE] = peak.bytes;
    m[SNAPSHOT_PEAK_COUNT] = peak.blocks;
    m[SNAPSHOT_GARBAGE_SIZE] = m[SNAPSHOT_GARBAGE_COUNT] = 0;
    if (node->rare != 0) {
        add_rare(tree, id, m);
        add_native(tree, id, m);
    }
}

/* The caller and the depth of a node whose callers are written. */
static void
write_caller(struct tracer_snapshot *s, uint32_t parent,
             struct snapshot_node *to)
{
    to->parent = SNAPSHOT_NONE;
    if (parent & TRACER_TRUNCATED) {
        to->nframe = (parent & ~TRACER_TRUNCATED) + 1;
        s->truncate = s->limit > 1;
    }
    else if (parent != 0) {
        to->parent = _PyTracer_NodeNumber(parent);
        assert(&s->nodes[to->parent] < to);
        to->nframe = s->nodes[to->parent].nframe + 1;
    }
    else {
        to->nframe = 1;
    }
}

/* Most nodes stand for calls and never allocate. */
static void
write_nodes(struct tracer_snapshot *s, const struct tracer_tree_copy *tree)
{
    for (uint32_t i = 0; i < s->nnodes; i++) {
        uint32_t id = i == 0 ? TRACER_NODE_UNKNOWN
                             : i + TRACER_NODE_FIRST - 1;
        const struct tracer_node *from = &tree->nodes[id];
        struct snapshot_node *to = &s->nodes[i];
        /* Saved values lie in the order in which they were left. */
        if (i + AHEAD < s->nnodes && from[AHEAD].saved >= tree->epoch) {
            __builtin_prefetch(&tree->saved[from[AHEAD].saved - tree->epoch]);
        }
        write_caller(s, from->parent, to);
        to->location = i == 0 ? s->nlocations - 1 : from->location;
        to->measures = 0;
        if (from->alloc_blocks != 0 || from->rare != 0
            || spill_of(tree, id) != NULL)
        {
            uint64_t *m = s->measures[s->nmeasures];
            write_measures(tree, id, m);
            to->measures = m[SNAPSHOT_TOTAL_COUNT] == 0 ? 0 : s->nmeasures++;
        }
    }
}

static int
add_unknown(struct tracer_snapshot *s)
{
    uint32_t unknown = _PySnapshot_AddString(s, UNKNOWN,
                                             sizeof(UNKNOWN) - 1);
    if (unknown == SNAPSHOT_NONE) {
        return -1;
    }
    s->locations[s->nlocations++] = (struct snapshot_location){
        .filename = unknown, .function = unknown,
        .end_line = -1, .column = -1, .end_column = -1,
    };
    return 0;
}

int
_PyTracer_WriteTree(struct tracer_snapshot *s,
                    const struct tracer_tree_copy *tree,
                    struct tracer_rooms *rooms)
{
    assert(s->nnodes == 0);
    s->text = _PyTracer_TakeRoom(rooms, TRACER_ROOM_TEXT, s->text_size);
    s->strings = _PyTracer_TakeRoom(rooms, TRACER_ROOM_STRINGS,
                                    s->nstrings * sizeof(*s->strings));
    s->locations = _PyTracer_TakeRoom(
        rooms, TRACER_ROOM_LOCATIONS,
        (s->nlocations + 1) * sizeof(*s->locations));
    uint32_t n = _PyTracer_NodeNumber(tree->nnodes);
    s->nodes = _PySnapshot_Array(n, sizeof(*s->nodes));
    s->measures = _PySnapshot_Room((uint64_t)n + 1, sizeof(*s->measures));
    if (s->nodes == NULL || s->measures == NULL || add_unknown(s) < 0) {
        return -1;
    }
    memset(s->measures[0], 0, sizeof(*s->measures));
    s->nmeasures = 1;
    s->nnodes = n;
    write_nodes(s, tree);
    return 0;
}
