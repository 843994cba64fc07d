/* A snapshot of a kept call tree, see keep_tables.c.  Counters are taken as
   they are; a node of which more was freed than allocated has nothing live. */

#include "keep_tables.h"

#define UNKNOWN "<unknown>"
#define OTHERS "<not kept>"

/* --- Texts and places */

static int
read_strings(struct kept *k, struct tracer_snapshot *s)
{
    uint64_t n = k->header.nstrings, text_size = k->header.text_size;
    if (_PyKept_Cut(k, KEPT_STRINGS, &n, sizeof(struct kept_string),
                    AT(nstrings)) < 0
        || _PyKept_Cut(k, KEPT_TEXT, &text_size, 1, AT(text_size)) < 0)
    {
        return -1;
    }
    SNAPSHOT_AUTO struct kept_string *strings = _PyKept_Gather(
        k, KEPT_STRINGS, n * sizeof(*strings));
    s->text = _PyKept_Gather(k, KEPT_TEXT, text_size);
    s->strings = _PySnapshot_Array(n, sizeof(*s->strings));
    if (strings == NULL || s->text == NULL || s->strings == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t length = strings[i].length;
        if (strings[i].offset != s->text_size || length >= SNAPSHOT_NONE
            || length > text_size - s->text_size)
        {
            return fail(k, "text that is not behind the one before it",
                        AT(nstrings));
        }
        const char *text = s->text + s->text_size;
        if (_PySnapshot_FindBadUTF8(text, text + length) != NULL) {
            return fail(k, "bad UTF-8", AT(text_size));
        }
        s->strings[i].offset = s->text_size;
        s->strings[i].length = (uint32_t)length;
        s->text_size += length;
    }
    s->nstrings = (uint32_t)n;
    return 0;
}

/* A string of a file that could not grow may be missing. */
static int
get_string(struct kept *k, const struct tracer_snapshot *s, uint32_t string,
           uint32_t others, uint32_t *result)
{
    *result = string;
    if (string >= s->nstrings - 2) {
        if (!k->header.incomplete) {
            return fail(k, "place with a name that is no text", AT(nplaces));
        }
        *result = others;
    }
    return 0;
}

static int
read_places(struct kept *k, struct tracer_snapshot *s)
{
    uint64_t n = k->header.nplaces;
    if (_PyKept_Cut(k, KEPT_PLACES, &n, sizeof(struct kept_place),
                    AT(nplaces)) < 0)
    {
        return -1;
    }
    SNAPSHOT_AUTO struct kept_place *places = _PyKept_Gather(
        k, KEPT_PLACES, n * sizeof(*places));
    /* In addition, one for the unknown node and one for what is missing. */
    s->locations = _PySnapshot_Array(n + 2, sizeof(*s->locations));
    uint32_t unknown = _PySnapshot_AddString(s, UNKNOWN, sizeof(UNKNOWN) - 1);
    uint32_t others = _PySnapshot_AddString(s, OTHERS, sizeof(OTHERS) - 1);
    if (places == NULL || s->locations == NULL || unknown == SNAPSHOT_NONE
        || others == SNAPSHOT_NONE)
    {
        return -1;
    }
    for (uint64_t i = 0; i < n; i++) {
        const struct kept_place *p = &places[i];
        struct snapshot_location *l = &s->locations[i];
        if (get_string(k, s, p->filename, others, &l->filename) < 0
            || get_string(k, s, p->function, others, &l->function) < 0)
        {
            return -1;
        }
        if (p->line < -1 || p->end_line < -1 || p->column < -1
            || p->end_column < -1 || p->first_line < -1)
        {
            return fail(k, "place with a line or column below -1",
                        AT(nplaces));
        }
        l->line = p->line;
        l->end_line = p->end_line;
        l->column = p->column;
        l->end_column = p->end_column;
        l->first_line = p->first_line;
    }
    s->nlocations = (uint32_t)n + 2;
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t name = i == 0 ? others : unknown;
        s->locations[n + i] = (struct snapshot_location){
            .filename = name, .function = name,
            .end_line = -1, .column = -1, .end_column = -1};
    }
    return 0;
}

/* --- Nodes */

static struct tracer_sum
live_of(const struct tracer_counts *counts)
{
    struct tracer_sum live = _PyTracer_Live(counts);
    if ((int64_t)live.bytes < 0 || (int64_t)live.blocks < 0) {
        live.bytes = live.blocks = 0;
    }
    return live;
}

/* What the node saved when the peak was over, or else what is live. */
static struct tracer_sum
peak_of(const struct kept *k, uint32_t id, struct tracer_sum live)
{
    uint32_t number = k->nodes[id].saved;
    if (k->epoch == 0 || number < k->epoch || number - k->epoch >= k->nsaved) {
        return live;
    }
    uint32_t packed = k->saved[number - k->epoch];
    return packed == TRACER_SAVED_SPILLED ? k->spills[id].saved
                                          : _PyTracer_UnpackSaved(packed);
}

static void
write_measures(const struct kept *k, uint32_t id, uint64_t *m)
{
    const struct tracer_node *node = &k->nodes[id];
    static const struct tracer_rare none = {0};
    const struct tracer_rare *rare = node->rare < k->nrares
                                     ? &k->rares[node->rare] : &none;
    static const struct tracer_counts no_counts = {0};
    const struct tracer_counts *native_counts =
        rare->native != 0 && rare->native < k->nnatives
        ? &k->natives[rare->native] : &no_counts;
    struct tracer_counts counts = _PyTracer_AddSpilled(
        node, &k->spills[id].counts);
    struct tracer_sum small = live_of(&counts);
    struct tracer_sum mapped = live_of(&rare->counts);
    struct tracer_sum peak = peak_of(k, id, small);
    struct tracer_sum mapped_peak =
        k->epoch != 0 && rare->peak_epoch == k->epoch ? rare->peak : mapped;
    struct tracer_sum native = live_of(native_counts);
    m[SNAPSHOT_SIZE] = small.bytes + mapped.bytes + native.bytes;
    m[SNAPSHOT_COUNT] = small.blocks + mapped.blocks + native.blocks;
    m[SNAPSHOT_TOTAL_SIZE] = counts.alloc_bytes + rare->counts.alloc_bytes
                             + native_counts->alloc_bytes;
    m[SNAPSHOT_TOTAL_COUNT] = counts.alloc_blocks + rare->counts.alloc_blocks
                              + native_counts->alloc_blocks;
    m[SNAPSHOT_PEAK_SIZE] = peak.bytes + mapped_peak.bytes;
    m[SNAPSHOT_PEAK_COUNT] = peak.blocks + mapped_peak.blocks;
    m[SNAPSHOT_GARBAGE_SIZE] = rare->garbage.bytes;
    m[SNAPSHOT_GARBAGE_COUNT] = rare->garbage.blocks;
}

static uint32_t
number_of(uint32_t id)
{
    return id == TRACER_NODE_UNKNOWN ? 0 : id - TRACER_NODE_FIRST + 1;
}

static int
write_caller(struct kept *k, struct tracer_snapshot *s, uint32_t id)
{
    struct snapshot_node *to = &s->nodes[number_of(id)];
    uint32_t parent = k->nodes[id].parent;
    to->parent = SNAPSHOT_NONE;
    to->nframe = 1;
    if (parent & TRACER_TRUNCATED) {
        to->nframe += parent & ~TRACER_TRUNCATED;
        s->truncate = s->limit > 1;
    }
    else if (parent != 0) {
        if (parent < TRACER_NODE_FIRST || parent >= id) {
            return fail(k, "node whose caller is not before it", AT(nnodes));
        }
        to->parent = number_of(parent);
        to->nframe += s->nodes[to->parent].nframe;
    }
    return 0;
}

static int
write_node(struct kept *k, struct tracer_snapshot *s, uint32_t id)
{
    struct snapshot_node *to = &s->nodes[number_of(id)];
    uint64_t *m = s->measures[s->nmeasures];
    uint32_t location = k->nodes[id].location;
    if (id == TRACER_NODE_UNKNOWN) {
        *to = (struct snapshot_node){.parent = SNAPSHOT_NONE, .nframe = 1};
        location = s->nlocations - 1;
    }
    else {
        if (write_caller(k, s, id) < 0) {
            return -1;
        }
        if (location == 0 || location >= s->nlocations - 2) {
            if (!k->header.incomplete) {
                return fail(k, "node at no place", AT(nnodes));
            }
            location = s->nlocations - 2;
        }
    }
    to->location = location;
    write_measures(k, id, m);
    to->measures = m[SNAPSHOT_TOTAL_COUNT] == 0 ? 0 : s->nmeasures++;
    return 0;
}

/* Even without nodes there is the unknown one. */
static int
write_nodes(struct kept *k, struct tracer_snapshot *s)
{
    uint32_t n = k->nnodes > TRACER_NODE_FIRST ? number_of(k->nnodes) : 1;
    s->nodes = _PySnapshot_Array(n, sizeof(*s->nodes));
    s->measures = _PySnapshot_Room((uint64_t)n + 1, sizeof(*s->measures));
    if (s->nodes == NULL || s->measures == NULL) {
        return -1;
    }
    memset(s->measures[0], 0, sizeof(*s->measures));
    s->nmeasures = 1;
    s->nnodes = n;
    if (k->nnodes <= TRACER_NODE_UNKNOWN) {
        s->nodes[0] = (struct snapshot_node){
            .parent = SNAPSHOT_NONE, .location = s->nlocations - 1,
            .nframe = 1};
        return 0;
    }
    if (write_node(k, s, TRACER_NODE_UNKNOWN) < 0) {
        return -1;
    }
    for (uint32_t id = TRACER_NODE_FIRST; id < k->nnodes; id++) {
        if (write_node(k, s, id) < 0) {
            return -1;
        }
    }
    return 0;
}

/* --- Peak */

static const uint8_t *
get_number(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && p < end; shift += 7) {
        *value |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ < 0x80) {
            return p;
        }
    }
    return NULL;
}

/* Give each node of a row what the row says; the bytes of all.  Without a
   snapshot, only add them up.  `ok`: the rows are right. */
static uint64_t
use_rows(const struct kept *k, struct tracer_snapshot *s, int *ok)
{
    const uint8_t *p = k->rows, *end = p + k->rows_size;
    uint64_t id = 0, sum = 0;
    *ok = 1;
    while (p < end) {
        uint64_t step, bytes, blocks;
        p = get_number(p, end, &step);
        p = p == NULL ? NULL : get_number(p, end, &bytes);
        p = p == NULL ? NULL : get_number(p, end, &blocks);
        id += p == NULL ? 0 : step;
        if (p == NULL || step == 0 || step > k->nnodes || id >= k->nnodes
            || (id != TRACER_NODE_UNKNOWN && id < TRACER_NODE_FIRST))
        {
            *ok = 0;
            break;
        }
        sum += bytes;
        uint32_t measures = s == NULL
                            ? 0 : s->nodes[number_of((uint32_t)id)].measures;
        if (measures != 0) {
            s->measures[measures][SNAPSHOT_PEAK_SIZE] = bytes;
            s->measures[measures][SNAPSHOT_PEAK_COUNT] = blocks;
        }
    }
    return sum;
}

/* The highest of the earlier windows was higher than the present one. */
static int
choose_peak(struct kept *k, struct tracer_snapshot *s)
{
    uint64_t present = 0;
    int ok;
    if (k->rows == NULL) {
        return 0;
    }
    for (uint32_t i = 1; i < s->nmeasures; i++) {
        present += s->measures[i][SNAPSHOT_PEAK_SIZE];
    }
    uint64_t before = use_rows(k, NULL, &ok);
    if (!ok) {
        if (!k->header.incomplete) {
            return fail(k, "rows of the peak are damaged", AT(peak));
        }
    }
    else if (before > present) {
        for (uint32_t i = 1; i < s->nmeasures; i++) {
            s->measures[i][SNAPSHOT_PEAK_SIZE] = 0;
            s->measures[i][SNAPSHOT_PEAK_COUNT] = 0;
        }
        use_rows(k, s, &ok);
    }
    return 0;
}

struct tracer_snapshot *
_PySnapshot_ReadKept(const uint8_t *image, size_t size,
                     struct kept_header *header, uint32_t *nnodes,
                     struct snapshot_error *error)
{
    struct kept k = {.image = image, .size = size, .error = error};
    error->reason = NULL;
    error->offset = 0;
    if (_PyKept_CheckFile(&k) < 0) {
        return NULL;
    }
    struct tracer_snapshot *s = _PySnapshot_New();
    if (s == NULL) {
        return NULL;
    }
    s->limit = k.header.limit;
    int result = read_strings(&k, s) < 0 || read_places(&k, s) < 0
                 || _PyKept_ReadTables(&k) < 0 || write_nodes(&k, s) < 0
                 || choose_peak(&k, s) < 0 ? -1 : 0;
    _PyKept_FreeTables(&k);
    if (result < 0) {
        _PySnapshot_Free(s);
        return NULL;
    }
    *header = k.header;
    *nnodes = k.nnodes;
    return s;
}
