/* Reading a snapshot in the native format, see
   Doc/library/tracemalloc_file.rst.

   The file is not trusted. Each index, count and length is checked before it
   is used; memory is allocated only for bytes that the file really has; and a
   node's caller must come before the node, so that there can be no cycle. */

#include "reader.h"

#include <stdlib.h>
#include <string.h>

#define STRINGIFY(X) #X
#define TEXT_OF(X) STRINGIFY(X)

static void
check_utf8(struct reader *r, const uint8_t *p, const uint8_t *end)
{
    const char *bad = _PySnapshot_FindBadUTF8((const char *)p,
                                              (const char *)end);
    if (bad != NULL) {
        fail_at(r, (const uint8_t *)bad, "bad UTF-8");
    }
}

static void
read_strings(struct reader *r, struct tracer_snapshot *s)
{
    s->strings = get_array32(r, 1, sizeof(*s->strings), &s->nstrings);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < s->nstrings && !r->failed; i++) {
        s->strings[i].offset = offset;
        s->strings[i].length = get_index(r, SNAPSHOT_NONE, "text too long");
        offset += s->strings[i].length;
    }
    if (r->failed) {
        return;
    }
    if (offset != (uint64_t)(r->end - r->p)) {
        fail(r, "texts do not fill their section");
        return;
    }
    s->text_size = offset;
    s->text = _PySnapshot_Array(offset, 1);
    if (s->text == NULL) {
        fail(r, NULL);
        return;
    }
    memcpy(s->text, r->p, offset);
    for (uint32_t i = 0; i < s->nstrings && !r->failed; i++) {
        const uint8_t *p = r->p + s->strings[i].offset;
        check_utf8(r, p, p + s->strings[i].length);
    }
    r->p = r->end;
}

static int32_t
get_line(struct reader *r)
{
    return (int32_t)(get_word(r, "line or column too large") - 1u);
}

static void
read_location(struct reader *r, const struct tracer_snapshot *s,
              struct snapshot_location *l)
{
    unsigned control = get_byte(r);
    if (control & SNAPSHOT_LOCATION_ZERO) {
        fail(r, "bit of a location that must be 0");
    }
    const uint8_t *start = r->p;
    /* An overflow wraps to a number that is not a line. */
    uint64_t change = _PySnapshot_UnZigZag(get(r));
    int64_t line = (int64_t)((uint64_t)l->line + change);
    if (line < -1 || line > INT32_MAX) {
        fail_at(r, start, "line or column too large");
        line = 0;
    }
    l->line = (int32_t)line;
    if (!(control & SNAPSHOT_SAME_FILENAME)) {
        l->filename = get_index(r, s->nstrings, "no such text");
    }
    if (!(control & SNAPSHOT_SAME_FUNCTION)) {
        l->function = get_index(r, s->nstrings, "no such text");
    }
    if (!(control & SNAPSHOT_SAME_FIRST_LINE)) {
        l->first_line = get_line(r);
    }
    l->end_line = control & SNAPSHOT_ONE_LINE ? l->line : get_line(r);
    if (!(control & SNAPSHOT_SAME_COLUMNS)) {
        l->column = get_line(r);
        l->end_column = get_line(r);
    }
}

static void
read_locations(struct reader *r, struct tracer_snapshot *s)
{
    struct snapshot_location location = {0};
    s->locations = get_array32(r, 2, sizeof(*s->locations), &s->nlocations);
    if (s->nlocations != 0 && s->nstrings == 0) {
        fail(r, "locations without texts");
    }
    for (uint32_t i = 0; i < s->nlocations && !r->failed; i++) {
        read_location(r, s, &location);
        s->locations[i] = location;
    }
}

/* Each step up was a step down before, so the time for all nodes is
   proportional to their number. */
static uint32_t
read_caller(struct reader *r, const struct tracer_snapshot *s,
            uint32_t caller, unsigned control)
{
    const uint8_t *start = r->p;
    uint64_t steps = control & SNAPSHOT_NODE_STEPS;
    if (steps == SNAPSHOT_NODE_STEPS) {
        steps += get_index(r, s->nnodes, "no caller so far up");
    }
    for (; steps > 0 && caller != SNAPSHOT_NONE; steps--) {
        caller = s->nodes[caller].parent;
    }
    if (steps > 0) {
        fail_at(r, start, "no caller so far up");
    }
    return caller;
}

/* Where to put the measures of a node that is predicted to be like another. */
static uint32_t
read_measures(struct reader *r, struct tracer_snapshot *s, unsigned control,
              uint32_t like)
{
    if (like == 0 && control < SNAPSHOT_NODE_PAIR) {
        return 0;
    }
    uint64_t *m = s->measures[s->nmeasures];
    uint64_t any = 0;
    memcpy(m, s->measures[like], sizeof(*s->measures));
    uint64_t unit = _PySnapshot_UnitSize(m);
    for (int j = 0; j < SNAPSHOT_NMEASURES; j += 2) {
        if (control & SNAPSHOT_NODE_PAIR << j / 2) {
            uint64_t count = get(r);
            m[j + 1] = count >> 1;
            m[j] = count & 1 ? get(r) : (count >> 1) * unit;
            if (j == SNAPSHOT_SIZE) {
                _PySnapshot_ExpectMeasures(m);
                unit = m[SNAPSHOT_COUNT] == 0 ? unit : _PySnapshot_UnitSize(m);
            }
        }
        any |= m[j] | m[j + 1];
    }
    return any == 0 ? 0 : s->nmeasures++;
}

static void
read_node(struct reader *r, struct tracer_snapshot *s, uint32_t i,
          struct snapshot_last *last)
{
    struct snapshot_node *node = &s->nodes[i];
    uint32_t before = i == 0 ? SNAPSHOT_NONE : i - 1;
    unsigned control = get_byte(r);
    if (control & SNAPSHOT_NODE_ZERO) {
        fail(r, "bit of a node that must be 0");
    }
    node->parent = read_caller(r, s, before, control);
    node->location = get_near(
        r, _PySnapshot_NearLocation(s, node->parent, last), s->nlocations,
        "no such location");
    if (r->failed) {
        return;
    }
    uint32_t like = _PySnapshot_Likeness(node, before, last);
    node->nframe = control & SNAPSHOT_NODE_NFRAME
        ? get_index(r, SNAPSHOT_NONE, "too many frames")
        : _PySnapshot_ExpectFrames(s, node, like);
    node->measures = read_measures(r, s, control,
                                   _PySnapshot_LikeMeasures(s, like));
    _PySnapshot_SetLast(s, i, last);
}

static void
read_nodes(struct reader *r, struct tracer_snapshot *s)
{
    s->nodes = get_array32(r, 2, sizeof(*s->nodes), &s->nnodes);
    s->measures = _PySnapshot_Room((uint64_t)s->nnodes + 1,
                                   sizeof(*s->measures));
    SNAPSHOT_AUTO struct snapshot_last *last = _PySnapshot_Zeroed(
        (uint64_t)s->nlocations + SNAPSHOT_MORE_LASTS, sizeof(*last));
    if (s->measures == NULL || last == NULL) {
        fail(r, NULL);
        return;
    }
    memset(s->measures[0], 0, sizeof(*s->measures));
    s->nmeasures = 1;
    for (uint32_t i = 0; i < s->nnodes && !r->failed; i++) {
        read_node(r, s, i, last);
    }
}

static void
read_held(struct reader *r, struct tracer_snapshot *s)
{
    struct snapshot_held held = {0};
    s->held = get_array(r, 4, sizeof(*s->held), &s->nheld);
    for (uint64_t i = 0; i < s->nheld && !r->failed; i++) {
        held.moment = get_index(r, SNAPSHOT_NEXT_PEAKS, "no such moment");
        held.node = get_near(r, held.node, s->nnodes, "no such node");
        held.size = get(r);
        held.count = get(r);
        s->held[i] = held;
    }
}

static void
read_classes(struct reader *r, struct tracer_snapshot *s)
{
    s->classes = get_array32(r, 3, sizeof(*s->classes), &s->nclasses);
    for (uint32_t i = 0; i < s->nclasses && !r->failed; i++) {
        s->classes[i].name = get_index(r, s->nstrings, "no such text");
        s->classes[i].kind = get_index(r, SNAPSHOT_NKINDS,
                                       "no such kind of block");
        s->classes[i].domain = get_word(r, "domain too large");
        s->classes[i].stack = 0;
    }
}

static void
read_arenas(struct reader *r, struct tracer_snapshot *s)
{
    s->arenas = get_array32(r, 4, sizeof(*s->arenas), &s->narenas);
    for (uint32_t i = 0; i < s->narenas && !r->failed; i++) {
        s->arenas[i].address = get(r);
        s->arenas[i].size = get(r);
        s->arenas[i].used = get(r);
        s->arenas[i].blocks = get(r);
        if (s->arenas[i].used > s->arenas[i].size) {
            fail(r, "arena holds more than its size");
        }
    }
}

static void
read_pools(struct reader *r, struct tracer_snapshot *s)
{
    uint64_t number = 0;
    s->pool_size = get_index(r, 1u << 20, "pool too large");
    s->pools = get_array32(r, 4, sizeof(*s->pools), &s->npools);
    for (uint32_t i = 0; i < s->npools && !r->failed; i++) {
        struct snapshot_pool *pool = &s->pools[i];
        number += _PySnapshot_UnZigZag(get(r));
        if (s->pool_size == 0 || number > UINT64_MAX / s->pool_size) {
            fail(r, "pool has no such address");
        }
        pool->address = number * s->pool_size;
        pool->block_size = (uint16_t)get_index(r, 1u << 16,
                                               "block of a pool too large");
        pool->room = (uint16_t)get_index(r, 1u << 16, "pool too large");
        pool->used = (uint16_t)get_index(r, pool->room + 1u,
                                         "pool has more than its blocks");
        if ((uint32_t)pool->block_size * pool->room > s->pool_size
            || pool->block_size == 0 || pool->used == 0)
        {
            fail(r, "pool is larger than pools are, or empty");
        }
    }
}

/* What is known while blocks are read. */
struct tally {
    struct snapshot_block *last;  // one by location
    uint64_t (*sums)[2];          // bytes and blocks, by place of the measures
};

static void
read_block(struct reader *r, const struct tracer_snapshot *s,
           struct snapshot_block *block, struct tally *tally)
{
    unsigned control = get_byte(r);
    block->address += control >> 3 == SNAPSHOT_FAR
        ? _PySnapshot_UnZigZag(get(r)) : (uint64_t)(control >> 3) << 4;
    if (!(control & SNAPSHOT_SAME_NODE)) {
        block->node = get_near(r, block->node, s->nnodes, "no such node");
    }
    const struct snapshot_node *node = &s->nodes[block->node];
    struct snapshot_block *like = &tally->last[node->location];
    block->size = control & SNAPSHOT_LIKELY_SIZE ? like->size : get(r);
    block->class_ = control & SNAPSHOT_LIKELY_CLASS
        ? like->class_ : get_index(r, s->nclasses, "no such kind");
    if ((control & SNAPSHOT_LIKELY) != SNAPSHOT_LIKELY) {
        *like = *block;
    }
    tally->sums[node->measures][0] += block->size;
    tally->sums[node->measures][1]++;
}

/* Conservation: the live values of a node are the sums of its blocks, or more
   if an interpreter that ended left blocks behind. */
static void
check_sums(struct reader *r, struct tracer_snapshot *s,
           const struct tally *tally)
{
    for (uint32_t i = 0; i < s->nmeasures; i++) {
        uint64_t *m = s->measures[i];
        const uint64_t *sums = tally->sums[i];
        if (FUZZING) {
            m[SNAPSHOT_SIZE] = sums[0];
            m[SNAPSHOT_COUNT] = sums[1];
        }
        if (sums[0] > m[SNAPSHOT_SIZE] || sums[1] > m[SNAPSHOT_COUNT]) {
            fail(r, "blocks add up to more than the sums of the tree");
            return;
        }
    }
}

static void
free_tally(struct tally *tally)
{
    _PySnapshot_Release(tally->last);
    _PySnapshot_Release(tally->sums);
}

static int
prepare_tally(struct tracer_snapshot *s, struct tally *tally)
{
    /* A block of a node that has none is an error. */
    for (uint32_t i = 0; FUZZING && i < s->nnodes; i++) {
        if (s->nodes[i].measures == 0) {
            memset(s->measures[s->nmeasures], 0, sizeof(*s->measures));
            s->nodes[i].measures = s->nmeasures++;
        }
    }
    tally->last = _PySnapshot_Zeroed((uint64_t)s->nlocations + 1,
                                     sizeof(*tally->last));
    tally->sums = _PySnapshot_Array(s->nmeasures, sizeof(*tally->sums));
    if (tally->last == NULL || tally->sums == NULL) {
        free_tally(tally);
        return -1;
    }
    memset(tally->sums, 0, s->nmeasures * sizeof(*tally->sums));
    return 0;
}

/* `blocks`: where they are put, or NULL. */
static void
read_each_block(struct reader *r, const struct tracer_snapshot *s,
                struct tally *tally, struct snapshot_block *blocks)
{
    struct snapshot_block block = {0};
    for (uint64_t i = 0; i < s->nblocks && !r->failed; i++) {
        read_block(r, s, &block, tally);
        if (blocks != NULL) {
            blocks[i] = block;
        }
    }
}

/* The blocks of a snapshot that was read, and therefore checked. */
int
_PySnapshot_Decode(struct tracer_snapshot *s)
{
    struct snapshot_error error;
    struct reader r = {.image = s->coded, .p = s->coded,
                       .end = s->coded + s->coded_size, .error = &error};
    struct tally tally;
    struct snapshot_block *blocks = _PySnapshot_Array(s->nblocks,
                                                      sizeof(*blocks));
    int result = blocks == NULL ? -1 : prepare_tally(s, &tally);
    if (result == 0) {
        read_each_block(&r, s, &tally, blocks);
        free_tally(&tally);
        s->blocks = blocks;
    }
    else {
        _PySnapshot_Release(blocks);
    }
    return result;
}

/* Blocks stay encoded until one is needed: 24 bytes for each would be most of
   the memory of a loaded snapshot, and most of the time to load it. */
static void
read_blocks(struct reader *r, struct tracer_snapshot *s)
{
    struct tally tally;
    s->has_blocks = get_index(r, 2, "flag is neither 0 nor 1");
    s->nblocks = get_count(r, 1, sizeof(*s->blocks));
    if (s->nblocks != 0
        && (!s->has_blocks || s->nnodes == 0 || s->nclasses == 0))
    {
        fail(r, "blocks without tree or kinds");
    }
    s->coded_size = (size_t)(r->end - r->p);
    s->coded = _PySnapshot_Array(s->coded_size, 1);
    if (s->coded == NULL || prepare_tally(s, &tally) < 0) {
        fail(r, NULL);
        return;
    }
    memcpy(s->coded, r->p, s->coded_size);
    read_each_block(r, s, &tally, NULL);
    if (s->has_blocks && !r->failed) {
        check_sums(r, s, &tally);
    }
    free_tally(&tally);
}

/* Make r->p and r->end the payload of the next section. */
static void
open_section(struct reader *r, size_t size, uint32_t tag)
{
    const uint8_t *header = r->end;
    size_t left = size - (size_t)(header - r->image);
    r->p = header;
    if (left < SNAPSHOT_SECTION_SIZE) {
        fail(r, "file ends where a section should begin");
        return;
    }
    struct snapshot_section_header section;
    memcpy(&section, header, sizeof(section));
    if (GUINT32_FROM_LE(section.tag) != tag) {
        fail(r, "not the section that should be here");
        return;
    }
    uint64_t length = GUINT64_FROM_LE(section.length);
    if (length > left - SNAPSHOT_SECTION_SIZE) {
        fail_at(r, header + 8, "section is longer than the file");
        return;
    }
    r->p = header + SNAPSHOT_SECTION_SIZE;
    r->end = r->p + length;
    if (!FUZZING
        && _PySnapshot_CRC(0, r->p, length) != GUINT32_FROM_LE(section.crc))
    {
        fail_at(r, header + 4, "checksum of the section is wrong");
    }
}

static void
read_sections(struct reader *r, size_t size, uint64_t version,
              struct tracer_snapshot *s, const char **meta,
              size_t *meta_size)
{
    static const uint32_t tags[] = {
#define TAG(NAME, VALUE) VALUE,
        SNAPSHOT_SECTIONS(TAG)
#undef TAG
    };
    static void (*const sections[])(struct reader *,
                                    struct tracer_snapshot *) = {
        [SNAPSHOT_SECTION_TEXT] = read_strings,
        [SNAPSHOT_SECTION_LOCS] = read_locations,
        [SNAPSHOT_SECTION_TREE] = read_nodes,
        [SNAPSHOT_SECTION_NEXT] = read_held,
        [SNAPSHOT_SECTION_KIND] = read_classes,
        [SNAPSHOT_SECTION_ARNA] = read_arenas,
        [SNAPSHOT_SECTION_POOL] = read_pools,
        [SNAPSHOT_SECTION_BLKS] = read_blocks,
        [SNAPSHOT_SECTION_HEAP] = _PySnapshot_ReadGraph,
        [SNAPSHOT_SECTION_HIST] = _PySnapshot_ReadHistory,
        [SNAPSHOT_SECTION_NATV] = _PySnapshot_ReadNative,
    };
    open_section(r, size, tags[SNAPSHOT_SECTION_META]);
    *meta = (const char *)r->p;
    *meta_size = (size_t)(r->end - r->p);
    check_utf8(r, r->p, r->end);
    for (int i = SNAPSHOT_SECTION_TEXT; i < SNAPSHOT_SECTION_DONE; i++) {
        if ((i == SNAPSHOT_SECTION_NEXT && version < SNAPSHOT_VERSION_NEXT)
            || (i == SNAPSHOT_SECTION_HEAP && version < SNAPSHOT_VERSION_HEAP)
            || (i == SNAPSHOT_SECTION_HIST && version < SNAPSHOT_VERSION_HIST)
            || (i == SNAPSHOT_SECTION_NATV && version < SNAPSHOT_VERSION_NATV)
            || (i == SNAPSHOT_SECTION_POOL && version < SNAPSHOT_VERSION_POOL))
        {
            continue;
        }
        if (!r->failed) {
            open_section(r, size, tags[i]);
        }
        if (!r->failed) {
            sections[i](r, s);
        }
        if (r->p != r->end) {
            fail(r, "section is longer than its records");
        }
    }
    if (!r->failed) {
        open_section(r, size, tags[SNAPSHOT_SECTION_DONE]);
    }
    uint64_t written = 0;
    if (!r->failed && (size_t)(r->end - r->p) == sizeof(written)) {
        memcpy(&written, r->p, sizeof(written));
    }
    if (r->end != r->image + size || GUINT64_FROM_LE(written) != size) {
        fail(r, "size of the file is wrong");
    }
}

struct tracer_snapshot *
_PySnapshot_Read(const uint8_t *image, size_t size, const char **meta,
                 size_t *meta_size, struct snapshot_error *error)
{
    struct reader r = {.image = image, .error = error};
    r.p = image;
    r.end = image + SNAPSHOT_HEADER_SIZE;
    error->reason = NULL;
    error->offset = 0;
    if (size < SNAPSHOT_HEADER_SIZE
        || memcmp(image, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE) != 0)
    {
        error->reason = "not a snapshot file";
        return NULL;
    }
    struct snapshot_file_header header;
    memcpy(&header, image, sizeof(header));
    uint64_t version = GUINT64_FROM_LE(header.version);
    const char *wrong = version > SNAPSHOT_VERSION
        ? "of a newer version of the format than " TEXT_OF(SNAPSHOT_VERSION)
          " (read it with the pytracemalloc that wrote it, or a later one)"
        : version < SNAPSHOT_VERSION_READ
        ? "of an older version of the format than "
          TEXT_OF(SNAPSHOT_VERSION_READ)
          " (read it with the pytracemalloc that wrote it)"
        : NULL;
    if (wrong != NULL) {
        fail_at(&r, image + SNAPSHOT_MAGIC_SIZE, wrong);
        return NULL;
    }
    struct tracer_snapshot *s = _PySnapshot_New();
    if (s == NULL) {
        return NULL;
    }
    s->limit = UINT32_MAX;
    read_sections(&r, size, version, s, meta, meta_size);
    if (r.failed) {
        _PySnapshot_Free(s);
        return NULL;
    }
    return s;
}
