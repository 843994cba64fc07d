/* Writing a snapshot in the native format, see
   Doc/library/tracemalloc_file.rst.

   Sections are streamed through one buffer; the header of a section, with its
   length and checksum, is filled in when the section ends. */

#include "writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
write_all(struct writer *w, const void *data, size_t size, uint64_t offset)
{
    const char *p = data;
    while (size > 0 && !w->failed) {
        ssize_t n = pwrite(w->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            w->failed = 1;
            return;
        }
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
}

void
_PySnapshot_Flush(struct writer *w)
{
    w->crc = _PySnapshot_CRC(w->crc, w->buffer, w->used);
    write_all(w, w->buffer, w->used, w->offset);
    w->offset += w->used;
    w->used = 0;
    w->end = MAX_RECORD;
}

static void
put_line(struct writer *w, int32_t line)
{
    put(w, (uint32_t)line + 1);
}

static void
put_bytes(struct writer *w, const char *data, uint64_t size)
{
    _PySnapshot_Flush(w);
    w->crc = _PySnapshot_CRC(w->crc, data, size);
    write_all(w, data, size, w->offset);
    w->offset += size;
}

static void
begin(struct writer *w)
{
    w->section = w->offset;
    w->offset += SNAPSHOT_SECTION_SIZE;
    w->crc = 0;
}

static void
end(struct writer *w, uint32_t tag)
{
    _PySnapshot_Flush(w);
    struct snapshot_section_header header = {
        .tag = GUINT32_TO_LE(tag),
        .crc = GUINT32_TO_LE(w->crc),
        .length = GUINT64_TO_LE(w->offset - w->section - sizeof(header)),
    };
    write_all(w, &header, sizeof(header), w->section);
}

static void
write_strings(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nstrings);
    for (uint32_t i = 0; i < s->nstrings; i++) {
        room(w);
        put(w, s->strings[i].length);
    }
    for (uint32_t i = 0; i < s->nstrings; i++) {
        const char *p = s->text + s->strings[i].offset;
        uint32_t left = s->strings[i].length;
        while (left > 0) {
            uint32_t n = left < MAX_RECORD ? left : MAX_RECORD;
            room(w);
            memcpy(w->buffer + w->used, p, n);
            w->used += n;
            p += n;
            left -= n;
        }
    }
}

static unsigned
location_control(const struct snapshot_location *l,
                 const struct snapshot_location *last)
{
    int columns = l->column == last->column
                  && l->end_column == last->end_column;
    return (l->filename == last->filename ? SNAPSHOT_SAME_FILENAME : 0)
           | (l->function == last->function ? SNAPSHOT_SAME_FUNCTION : 0)
           | (l->first_line == last->first_line ? SNAPSHOT_SAME_FIRST_LINE : 0)
           | (columns ? SNAPSHOT_SAME_COLUMNS : 0)
           | (l->end_line == l->line ? SNAPSHOT_ONE_LINE : 0);
}

static void
write_locations(struct writer *w, const struct tracer_snapshot *s)
{
    static const struct snapshot_location zero;
    const struct snapshot_location *last = &zero;
    put(w, s->nlocations);
    for (uint32_t i = 0; i < s->nlocations; i++) {
        const struct snapshot_location *l = &s->locations[i];
        unsigned control = location_control(l, last);
        room(w);
        put_byte(w, control);
        put_difference(w, (uint64_t)(int64_t)l->line,
                       (uint64_t)(int64_t)last->line);
        if (!(control & SNAPSHOT_SAME_FILENAME)) {
            put(w, l->filename);
        }
        if (!(control & SNAPSHOT_SAME_FUNCTION)) {
            put(w, l->function);
        }
        if (!(control & SNAPSHOT_SAME_FIRST_LINE)) {
            put_line(w, l->first_line);
        }
        if (!(control & SNAPSHOT_ONE_LINE)) {
            put_line(w, l->end_line);
        }
        if (!(control & SNAPSHOT_SAME_COLUMNS)) {
            put_line(w, l->column);
            put_line(w, l->end_column);
        }
        last = l;
    }
}

/* One item for each location and a few more, all zero. */
static void *
new_table(struct writer *w, const struct tracer_snapshot *s, size_t item)
{
    void *table = _PySnapshot_Zeroed(
        (uint64_t)s->nlocations + SNAPSHOT_MORE_LASTS, item);
    if (table == NULL) {
        errno = ENOMEM;
        w->failed = 1;
    }
    return table;
}

/* Steps up from a node to the caller of the next one. */
static uint32_t
steps_up(const struct tracer_snapshot *s, uint32_t node, uint32_t caller)
{
    uint32_t steps = 0;
    for (; node != caller; steps++) {
        assert(node != SNAPSHOT_NONE);        // the walk comes from there
        node = s->nodes[node].parent;
    }
    return steps;
}

/* The pairs of measures that are not as expected. */
static unsigned
pairs_control(const uint64_t *m, const uint64_t *last)
{
    uint64_t expected[SNAPSHOT_NMEASURES];
    unsigned control = 0;
    memcpy(expected, last, sizeof(expected));
    for (int j = 0; j < SNAPSHOT_NMEASURES; j += 2) {
        if (m[j] == expected[j] && m[j + 1] == expected[j + 1]) {
            continue;
        }
        control |= SNAPSHOT_NODE_PAIR << j / 2;
        if (j == SNAPSHOT_SIZE) {
            memcpy(expected, m, 2 * sizeof(*m));
            _PySnapshot_ExpectMeasures(expected);
        }
    }
    return control;
}

static void
put_pairs(struct writer *w, const uint64_t *m, unsigned control,
          const uint64_t *expected)
{
    uint64_t unit = _PySnapshot_UnitSize(expected);
    for (int j = 0; j < SNAPSHOT_NMEASURES; j += 2) {
        if (control & SNAPSHOT_NODE_PAIR << j / 2) {
            unsigned odd = m[j] != m[j + 1] * unit;
            put(w, m[j + 1] << 1 | odd);
            if (odd) {
                put(w, m[j]);
            }
        }
        if (j == SNAPSHOT_SIZE && m[SNAPSHOT_COUNT] != 0) {
            unit = _PySnapshot_UnitSize(m);
        }
    }
}

/* `before`: the node written before, or NONE. */
static void
write_node(struct writer *w, const struct tracer_snapshot *s, uint32_t i,
           uint32_t before, struct snapshot_last *last)
{
    const struct snapshot_node *node = &s->nodes[i];
    const uint64_t *m = _PySnapshot_Measures(s, i);
    uint32_t like = _PySnapshot_Likeness(node, before, last);
    const uint64_t *expected = s->measures[_PySnapshot_LikeMeasures(s, like)];
    uint32_t steps = steps_up(s, before, node->parent);
    unsigned control = pairs_control(m, expected)
        | (steps < SNAPSHOT_NODE_STEPS ? steps : SNAPSHOT_NODE_STEPS);
    if (node->nframe != _PySnapshot_ExpectFrames(s, node, like)) {
        control |= SNAPSHOT_NODE_NFRAME;
    }
    uint32_t near = _PySnapshot_NearLocation(s, node->parent, last);
    _PySnapshot_SetLast(s, i, last);
    room(w);
    put_byte(w, control);
    if (steps >= SNAPSHOT_NODE_STEPS) {
        put(w, steps - SNAPSHOT_NODE_STEPS);
    }
    put_difference(w, node->location, near);
    if (control & SNAPSHOT_NODE_NFRAME) {
        put(w, node->nframe);
    }
    put_pairs(w, m, control, expected);
}

static void
write_nodes(struct writer *w, const struct tracer_snapshot *s)
{
    SNAPSHOT_AUTO struct snapshot_last *last = new_table(w, s, sizeof(*last));
    if (last == NULL) {
        return;
    }
    uint32_t before = SNAPSHOT_NONE;
    put(w, s->nnodes);
    for (uint32_t i = 0; i < s->nnodes; i++) {
        write_node(w, s, w->order[i], before, last);
        before = w->order[i];
    }
}

static void
write_held(struct writer *w, const struct tracer_snapshot *s)
{
    uint32_t last = 0;
    put(w, s->nheld);
    for (uint64_t i = 0; i < s->nheld; i++) {
        const struct snapshot_held *held = &s->held[i];
        room(w);
        put(w, held->moment);
        put_difference(w, w->numbers[held->node], last);
        put(w, held->size);
        put(w, held->count);
        last = w->numbers[held->node];
    }
}

static void
write_classes(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nclasses);
    for (uint32_t i = 0; i < s->nclasses; i++) {
        room(w);
        put(w, s->classes[i].name);
        put(w, s->classes[i].kind);
        put(w, s->classes[i].domain);
    }
}

static void
write_arenas(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->narenas);
    for (uint32_t i = 0; i < s->narenas; i++) {
        room(w);
        put(w, s->arenas[i].address);
        put(w, s->arenas[i].size);
        put(w, s->arenas[i].used);
        put(w, s->arenas[i].blocks);
    }
}

static void
write_pools(struct writer *w, const struct tracer_snapshot *s)
{
    uint64_t number = 0;
    put(w, s->pool_size);
    put(w, s->npools);
    for (uint32_t i = 0; i < s->npools; i++) {
        const struct snapshot_pool *pool = &s->pools[i];
        room(w);
        put_difference(w, pool->address / s->pool_size, number);
        put(w, pool->block_size);
        put(w, pool->room);
        put(w, pool->used);
        number = pool->address / s->pool_size;
    }
}

/* `last` is the block before, *like the last one at the location. */
static void
write_block(struct writer *w, const struct snapshot_block *block,
            const struct snapshot_block *last,
            const struct snapshot_block *like)
{
    uint64_t step = block->address - last->address;
    int small = (step & 15) == 0 && step < 31 * 16;
    unsigned control = (block->size == like->size ? SNAPSHOT_LIKELY_SIZE : 0)
        | (block->node == last->node ? SNAPSHOT_SAME_NODE : 0)
        | (block->class_ == like->class_ ? SNAPSHOT_LIKELY_CLASS : 0);
    room(w);
    put_byte(w, control | (small ? (unsigned)step >> 4 : SNAPSHOT_FAR) << 3);
    if (!small) {
        put(w, _PySnapshot_ZigZag(step));
    }
    if (!(control & SNAPSHOT_SAME_NODE)) {
        put_difference(w, w->numbers[block->node], w->numbers[last->node]);
    }
    if (!(control & SNAPSHOT_LIKELY_SIZE)) {
        put(w, block->size);
    }
    if (!(control & SNAPSHOT_LIKELY_CLASS)) {
        put(w, block->class_);
    }
}

static void
write_blocks(struct writer *w, const struct tracer_snapshot *s)
{
    SNAPSHOT_AUTO struct snapshot_block *likes =
        new_table(w, s, sizeof(*likes));
    if (likes == NULL) {
        return;
    }
    struct snapshot_block last = {0};
    put(w, s->has_blocks);
    put(w, s->nblocks);
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        assert(block->node < s->nnodes && block->class_ < s->nclasses);
        struct snapshot_block *like =
            &likes[s->nodes[block->node].location];
        write_block(w, block, &last, like);
        *like = last = *block;
    }
}

static void
write_sections(struct writer *w, const struct tracer_snapshot *s)
{
    static const uint32_t tags[] = {
#define TAG(NAME, VALUE) VALUE,
        SNAPSHOT_SECTIONS(TAG)
#undef TAG
    };
    static void (*const sections[])(struct writer *,
                                    const struct tracer_snapshot *) = {
        [SNAPSHOT_SECTION_TEXT] = write_strings,
        [SNAPSHOT_SECTION_LOCS] = write_locations,
        [SNAPSHOT_SECTION_TREE] = write_nodes,
        [SNAPSHOT_SECTION_NEXT] = write_held,
        [SNAPSHOT_SECTION_KIND] = write_classes,
        [SNAPSHOT_SECTION_ARNA] = write_arenas,
        [SNAPSHOT_SECTION_POOL] = write_pools,
        [SNAPSHOT_SECTION_BLKS] = write_blocks,
        [SNAPSHOT_SECTION_HEAP] = _PySnapshot_WriteGraph,
        [SNAPSHOT_SECTION_HIST] = _PySnapshot_WriteHistory,
        [SNAPSHOT_SECTION_NATV] = _PySnapshot_WriteNative,
    };
    struct snapshot_file_header header = {
        .magic = SNAPSHOT_MAGIC, .version = GUINT64_TO_LE(SNAPSHOT_VERSION),
    };
    write_all(w, &header, sizeof(header), 0);
    w->offset = sizeof(header);

    begin(w);
    put_bytes(w, w->beside->meta, w->beside->meta_size);
    end(w, tags[SNAPSHOT_SECTION_META]);
    for (int i = SNAPSHOT_SECTION_TEXT; i < SNAPSHOT_SECTION_DONE; i++) {
        begin(w);
        sections[i](w, s);
        end(w, tags[i]);
    }
    begin(w);
    uint64_t size = GUINT64_TO_LE(w->offset + sizeof(size));
    memcpy(w->buffer, &size, sizeof(size));
    w->used = sizeof(size);
    end(w, tags[SNAPSHOT_SECTION_DONE]);
}

/* A reader predicts a node's caller, and the node itself, from the nodes
   before it. The order of a walk gives the best predictions. */
static int
number_nodes(struct writer *w, const struct tracer_snapshot *s)
{
    w->order = _PySnapshot_Array(s->nnodes, sizeof(*w->order));
    w->numbers = _PySnapshot_Array(s->nnodes, sizeof(*w->numbers));
    if (w->order == NULL || w->numbers == NULL
        || _PySnapshot_Preorder(s, w->order) < 0)
    {
        return -1;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        w->numbers[w->order[i]] = i;
    }
    return 0;
}

int
_PySnapshot_Write(const struct tracer_snapshot *s, int fd,
                  const struct snapshot_beside *beside)
{
    struct writer *w = _PySnapshot_Array(1, sizeof(*w));
    if (w == NULL) {
        errno = ENOMEM;
        return -1;
    }
    memset(w, 0, offsetof(struct writer, buffer));
    w->fd = fd;
    w->beside = beside;
    if (number_nodes(w, s) < 0) {
        errno = ENOMEM;
        w->failed = 1;
    }
    else {
        write_sections(w, s);
    }
    int failed = w->failed;
    _PySnapshot_Release(w->order);
    _PySnapshot_Release(w->numbers);
    _PySnapshot_Release(w);
    return failed ? -1 : 0;
}
