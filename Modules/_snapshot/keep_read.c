/* Reading a kept call tree, see pycore_tracer_kept.h.

   The process that wrote it may have ended at any instant, and the file is not
   trusted: each number is checked against the file before it is used.
   Counters are taken as they are; a node of which more was freed than
   allocated has nothing live.  In a correct file extents do not overlap, so
   their sum is at most the size of the file, and memory is bounded by a
   multiple of that. */

#include "snapshot.h"

#include "pycore_tracer_kept.h"

/* Files of these versions are read, too.  In version 3 native memory was
   counted among the rare counters, before that not at all. */
#define OLDEST_VERSION 2
#define NATIVE_IN_RARE 3

struct old_rare {
    struct tracer_counts counts;
    struct tracer_counts native;
    struct tracer_sum peak;
    uint32_t peak_epoch;
    struct tracer_sum garbage;
};

#define UNKNOWN "<unknown>"
#define OTHERS "<not kept>"

struct kept {
    const uint8_t *image;
    size_t size;
    struct kept_header header;
    const struct kept_extent *extents;
    struct snapshot_error *error;
    uint32_t nnodes, nrares, nnatives, nsaved, epoch, peak;
    struct tracer_node *nodes;
    uint32_t *saved;
    struct tracer_rare *rares;
    struct tracer_counts *natives;
    struct tracer_spill *spills;
    uint8_t *rows;                // of the peak
    size_t rows_size;
};

static int
fail(struct kept *k, const char *reason, size_t offset)
{
    k->error->reason = reason;
    k->error->offset = offset;
    return -1;
}

#define AT(FIELD) offsetof(struct kept_header, FIELD)

/* --- Header and directory */

static size_t
rare_size(const struct kept *k)
{
    return k->header.version == NATIVE_IN_RARE ? sizeof(struct old_rare)
                                               : sizeof(struct tracer_rare);
}

/* Structures have the sizes that this build would write. */
static int
is_readable(const struct kept *k)
{
    const struct kept_header *h = &k->header;
    return h->version >= OLDEST_VERSION && h->version <= KEPT_VERSION
           && h->sizes == KEPT_SIZES_WITH((uint32_t)rare_size(k));
}

static int
check_header(struct kept *k)
{
    struct kept_header *h = &k->header;
    if (k->size < KEPT_MAGIC_SIZE
        || memcmp(k->image, KEPT_MAGIC, KEPT_MAGIC_SIZE) != 0)
    {
        return fail(k, "not a kept call tree", 0);
    }
    if (k->size < KEPT_HEADER_SIZE) {
        return fail(k, "file ends inside its header", k->size);
    }
    memcpy(h, k->image, sizeof(*h));
    if (h->byte_order != KEPT_BYTE_ORDER) {
        return fail(k, "of a machine with another order of bytes (recover it "
                       "there)", AT(byte_order));
    }
    if (!is_readable(k)) {
        return fail(k, "of another build (recover it with the interpreter "
                       "that kept it)", AT(version));
    }
    if (h->version < KEPT_VERSION) {
        h->nnatives = h->copy.nnatives = 0;
    }
    if (h->limit == 0) {
        return fail(k, "no limit of frames", AT(limit));
    }
    if (h->nextents > KEPT_MAX_EXTENTS) {
        return fail(k, "more extents than the directory holds", AT(nextents));
    }
    h->python[sizeof(h->python) - 1] = '\0';
    if (h->command_size > sizeof(h->command)) {
        return fail(k, "command line longer than its room", AT(command_size));
    }
    const struct kept_failure *f = &h->failure;
    if (f->nframes > h->nplaces || f->reason >= KEPT_NREASONS) {
        return fail(k, "failed request that cannot be", AT(failure));
    }
    return 0;
}

static int
check_extents(struct kept *k)
{
    uint64_t total = KEPT_HEADER_SIZE / KEPT_UNIT;
    k->extents = (const void *)(k->image + KEPT_DIRECTORY);
    for (uint32_t i = 0; i < k->header.nextents; i++) {
        const struct kept_extent *e = &k->extents[i];
        size_t offset = KEPT_DIRECTORY + i * sizeof(*e);
        total += e->units;
        if (e->array >= KEPT_NARRAYS) {
            return fail(k, "extent of no array", offset);
        }
        if (e->first < KEPT_HEADER_SIZE / KEPT_UNIT
            || ((uint64_t)e->first + e->units) * KEPT_UNIT > k->size
            || total * KEPT_UNIT > k->size)
        {
            return fail(k, "extent is not in the file, which may be cut",
                        offset);
        }
    }
    return 0;
}

/* How many bytes of an array the file has. */
static uint64_t
size_of(const struct kept *k, enum kept_array array)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < k->header.nextents; i++) {
        size += k->extents[i].array == array
                ? (uint64_t)k->extents[i].units * KEPT_UNIT : 0;
    }
    return size;
}

/* How many items of an array are in the file; the others were lost if the file
   could not grow. */
static int
cut(struct kept *k, enum kept_array array, uint64_t *n, size_t item,
    size_t offset)
{
    uint64_t there = size_of(k, array) / item;
    if (*n > there) {
        if (!k->header.incomplete) {
            return fail(k, "more items than their array holds", offset);
        }
        *n = there;
    }
    return 0;
}

/* The first bytes of an array, zero where the file has nothing; NULL: no
   memory. */
static void *
gather(const struct kept *k, enum kept_array array, uint64_t size)
{
    uint8_t *data = _PySnapshot_Zeroed(size + 1, 1);
    uint64_t used = 0;
    for (uint32_t i = 0; data != NULL && i < k->header.nextents; i++) {
        const struct kept_extent *e = &k->extents[i];
        if (e->array == array && used < size) {
            uint64_t n = (uint64_t)e->units * KEPT_UNIT;
            n = n < size - used ? n : size - used;
            memcpy(data + used, k->image + (uint64_t)e->first * KEPT_UNIT, n);
            used += n;
        }
    }
    return data;
}

/* --- Texts and places */

static int
read_strings(struct kept *k, struct tracer_snapshot *s)
{
    uint64_t n = k->header.nstrings, text_size = k->header.text_size;
    if (cut(k, KEPT_STRINGS, &n, sizeof(struct kept_string), AT(nstrings)) < 0
        || cut(k, KEPT_TEXT, &text_size, 1, AT(text_size)) < 0)
    {
        return -1;
    }
    SNAPSHOT_AUTO struct kept_string *strings = gather(
        k, KEPT_STRINGS, n * sizeof(*strings));
    s->text = gather(k, KEPT_TEXT, text_size);
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
    if (cut(k, KEPT_PLACES, &n, sizeof(struct kept_place), AT(nplaces)) < 0) {
        return -1;
    }
    SNAPSHOT_AUTO struct kept_place *places = gather(
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

/* --- Tables of the tree */

/* Nodes were being moved: read the copies of the tables behind the extents. */
static int
read_copy(struct kept *k)
{
    const struct kept_copy *c = &k->header.copy;
    uint64_t first = c->first * KEPT_UNIT;
    uint64_t nodes = (uint64_t)c->nnodes * sizeof(*k->nodes);
    uint64_t saved = (uint64_t)c->nsaved * sizeof(*k->saved);
    uint64_t rares = (uint64_t)c->nrares * rare_size(k);
    uint64_t natives = (uint64_t)c->nnatives * sizeof(*k->natives);
    uint64_t spills = (uint64_t)c->nnodes * sizeof(*k->spills);
    if (c->first == 0) {
        return fail(k, "nodes were being moved, and there was no room for a "
                       "copy", AT(moves));
    }
    uint64_t left = c->first > k->size / KEPT_UNIT ? 0 : k->size - first;
    if (nodes > left || c->saved > left || saved > left - c->saved
        || c->rares > left || rares > left - c->rares || c->spills > left
        || spills > left - c->spills || _PyTracer_CopiedNatives(c) > left
        || natives > left - _PyTracer_CopiedNatives(c))
    {
        return fail(k, "copy of the tables is not in the file, which may be "
                       "cut", AT(copy));
    }
    k->nnodes = c->nnodes;
    k->nsaved = c->nsaved;
    k->nrares = c->nrares;
    k->nnatives = c->nnatives;
    k->epoch = c->epoch;
    k->peak = c->peak;
    k->nodes = _PySnapshot_Array(nodes + 1, 1);
    k->saved = _PySnapshot_Array(saved + 1, 1);
    k->rares = _PySnapshot_Array(rares + 1, 1);
    k->natives = _PySnapshot_Array(natives + 1, 1);
    k->spills = _PySnapshot_Array(spills + 1, 1);
    if (k->nodes == NULL || k->saved == NULL || k->rares == NULL
        || k->natives == NULL || k->spills == NULL)
    {
        return -1;
    }
    const uint8_t *from = k->image + first;
    memcpy(k->nodes, from, nodes);
    memcpy(k->saved, from + c->saved, saved);
    memcpy(k->rares, from + c->rares, rares);
    memcpy(k->natives, from + _PyTracer_CopiedNatives(c), natives);
    memcpy(k->spills, from + c->spills, spills);
    return 0;
}

static int
read_extents(struct kept *k)
{
    uint64_t nnodes = k->header.nnodes, nrares = k->header.nrares;
    uint64_t nnatives = k->header.nnatives;
    uint64_t nsaved = size_of(k, KEPT_SAVED) / sizeof(*k->saved);
    if (cut(k, KEPT_NODES, &nnodes, sizeof(*k->nodes), AT(nnodes)) < 0
        || cut(k, KEPT_RARES, &nrares, rare_size(k), AT(nrares)) < 0
        || cut(k, KEPT_NATIVES, &nnatives, sizeof(*k->natives),
               AT(nnatives)) < 0)
    {
        return -1;
    }
    k->nnodes = (uint32_t)nnodes;
    k->nrares = (uint32_t)nrares;
    k->nnatives = (uint32_t)nnatives;
    k->nsaved = (uint32_t)nsaved;
    k->epoch = k->header.epoch;
    k->peak = k->header.peak;
    k->nodes = gather(k, KEPT_NODES, nnodes * sizeof(*k->nodes));
    k->saved = gather(k, KEPT_SAVED, nsaved * sizeof(*k->saved));
    k->rares = gather(k, KEPT_RARES, nrares * rare_size(k));
    k->natives = gather(k, KEPT_NATIVES, nnatives * sizeof(*k->natives));
    k->spills = gather(k, KEPT_SPILLS, nnodes * sizeof(*k->spills));
    return k->nodes == NULL || k->saved == NULL || k->rares == NULL
           || k->natives == NULL || k->spills == NULL ? -1 : 0;
}

/* Bring rare counters to their present form: those of native memory get the
   number of the rare ones that they were in. */
static int
split_rares(struct kept *k)
{
    SNAPSHOT_AUTO struct old_rare *old = (struct old_rare *)k->rares;
    _PySnapshot_Release(k->natives);
    uint64_t n = k->nrares;
    k->rares = _PySnapshot_Array(n + 1, sizeof(*k->rares));
    k->natives = _PySnapshot_Array(n + 1, sizeof(*k->natives));
    if (k->rares == NULL || k->natives == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < n; i++) {
        k->rares[i] = (struct tracer_rare){
            .counts = old[i].counts, .peak = old[i].peak,
            .peak_epoch = old[i].peak_epoch, .native = i,
            .garbage = old[i].garbage};
        k->natives[i] = old[i].native;
    }
    k->nnatives = k->nrares;
    return 0;
}

/* Repeat the spill that was under way. */
static void
end_spill(struct kept *k)
{
    const struct kept_spill *spill = &k->header.spill;
    if (spill->node != TRACER_NODE_NONE && spill->node < k->nnodes) {
        struct tracer_node *node = &k->nodes[spill->node];
        k->spills[spill->node].counts = spill->counts;
        node->alloc_bytes = node->alloc_blocks = 0;
        node->free_bytes = node->free_blocks = 0;
    }
}

static int
read_tables(struct kept *k)
{
    int moving = k->header.moves & 1;
    if ((moving ? read_copy(k) : read_extents(k)) < 0) {
        return -1;
    }
    if (k->header.version == NATIVE_IN_RARE && split_rares(k) < 0) {
        return -1;
    }
    if (k->nnodes > TRACER_MAX_NODES) {
        return fail(k, "more nodes than a tree may have", AT(nnodes));
    }
    if (!moving) {
        end_spill(k);
    }
    if (k->peak == 0) {
        return 0;
    }
    if (k->peak != KEPT_PEAK && k->peak != KEPT_OTHER_PEAK) {
        return fail(k, "no array has the rows of the peak", AT(peak));
    }
    uint64_t size = k->header.peak_lengths[k->peak - KEPT_PEAK];
    if (cut(k, (enum kept_array)k->peak, &size, 1, AT(peak_lengths)) < 0) {
        return -1;
    }
    k->rows_size = size;
    k->rows = gather(k, (enum kept_array)k->peak, size);
    return k->rows == NULL ? -1 : 0;
}

static void
free_tables(struct kept *k)
{
    _PySnapshot_Release(k->nodes);
    _PySnapshot_Release(k->saved);
    _PySnapshot_Release(k->rares);
    _PySnapshot_Release(k->natives);
    _PySnapshot_Release(k->spills);
    _PySnapshot_Release(k->rows);
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
    if (check_header(&k) < 0 || check_extents(&k) < 0) {
        return NULL;
    }
    struct tracer_snapshot *s = _PySnapshot_New();
    if (s == NULL) {
        return NULL;
    }
    s->limit = k.header.limit;
    int result = read_strings(&k, s) < 0 || read_places(&k, s) < 0
                 || read_tables(&k) < 0 || write_nodes(&k, s) < 0
                 || choose_peak(&k, s) < 0 ? -1 : 0;
    free_tables(&k);
    if (result < 0) {
        _PySnapshot_Free(s);
        return NULL;
    }
    *header = k.header;
    *nnodes = k.nnodes;
    return s;
}
