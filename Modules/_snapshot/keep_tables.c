/* Reading the file of a kept call tree, see pycore_tracer_kept.h.

   The process that wrote it may have ended at any instant, and the file is not
   trusted: each number is checked against the file before it is used.  In a
   correct file extents do not overlap, so their sum is at most the size of the
   file, and memory is bounded by a multiple of that. */

#include "keep_tables.h"

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

int
_PyKept_CheckFile(struct kept *k)
{
    return check_header(k) < 0 || check_extents(k) < 0 ? -1 : 0;
}

/* --- Arrays, in as many extents as it took */

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

int
_PyKept_Cut(struct kept *k, enum kept_array array, uint64_t *n, size_t item,
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

void *
_PyKept_Gather(const struct kept *k, enum kept_array array, uint64_t size)
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
    uint64_t left = k->size - first;
    if (c->first > k->size / KEPT_UNIT
        || nodes > left || c->saved > left || saved > left - c->saved
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
    if (_PyKept_Cut(k, KEPT_NODES, &nnodes, sizeof(*k->nodes), AT(nnodes)) < 0
        || _PyKept_Cut(k, KEPT_RARES, &nrares, rare_size(k), AT(nrares)) < 0
        || _PyKept_Cut(k, KEPT_NATIVES, &nnatives, sizeof(*k->natives),
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
    k->nodes = _PyKept_Gather(k, KEPT_NODES, nnodes * sizeof(*k->nodes));
    k->saved = _PyKept_Gather(k, KEPT_SAVED, nsaved * sizeof(*k->saved));
    k->rares = _PyKept_Gather(k, KEPT_RARES, nrares * rare_size(k));
    k->natives = _PyKept_Gather(k, KEPT_NATIVES,
                                nnatives * sizeof(*k->natives));
    k->spills = _PyKept_Gather(k, KEPT_SPILLS, nnodes * sizeof(*k->spills));
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

int
_PyKept_ReadTables(struct kept *k)
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
    if (_PyKept_Cut(k, (enum kept_array)k->peak, &size, 1,
                    AT(peak_lengths)) < 0)
    {
        return -1;
    }
    k->rows_size = size;
    k->rows = _PyKept_Gather(k, (enum kept_array)k->peak, size);
    return k->rows == NULL ? -1 : 0;
}

void
_PyKept_FreeTables(struct kept *k)
{
    _PySnapshot_Release(k->nodes);
    _PySnapshot_Release(k->saved);
    _PySnapshot_Release(k->rares);
    _PySnapshot_Release(k->natives);
    _PySnapshot_Release(k->spills);
    _PySnapshot_Release(k->rows);
}
