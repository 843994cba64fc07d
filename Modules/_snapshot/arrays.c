/* Copies of a snapshot, and unpacking its blocks. */

#include "snapshot.h"

#include <stdio.h>

int
_PySnapshot_Grow(void *array, uint32_t *size, uint32_t needed, size_t item)
{
    uint64_t grown = needed < 512 ? 1024 : (uint64_t)needed * 2;
    void *p = grown >= SNAPSHOT_NONE
        ? NULL : _PySnapshot_Resize(*(void **)array, grown, item);
    if (p == NULL) {
        return -1;
    }
    *(void **)array = p;
    *size = (uint32_t)grown;
    return 0;
}

static void *
copy_array(const void *array, uint64_t n, size_t size)
{
    void *copy = _PySnapshot_Array(n, size);
    if (copy != NULL && n != 0) {
        memcpy(copy, array, n * size);
    }
    return copy;
}

/* Returns where the next block belongs. */
static struct snapshot_block *
unpack_run(const struct tracer_snapshot *s, const struct snapshot_run *run,
           struct snapshot_block *block)
{
    for (uint64_t i = run->first; i < run[1].first; i++) {
        const struct snapshot_packed *packed = &s->packed[i];
        uint32_t class_ = SNAPSHOT_PACKED_CLASS(packed->place);
        uint32_t number = SNAPSHOT_PACKED_NUMBER(packed->place);
        uint32_t end = i + 1 == run[1].first
            ? run->nblocks : SNAPSHOT_PACKED_NUMBER(packed[1].place);
        for (; class_ != SNAPSHOT_PACKED_NONE && number < end; number++) {
            *block++ = (struct snapshot_block){
                .address = run->address + (uint64_t)number * run->block_size,
                .size = SNAPSHOT_PACKED_SIZE(packed->entry),
                .node = SNAPSHOT_PACKED_NODE(packed->entry),
                .class_ = class_,
            };
        }
    }
    return block;
}

#define FEW 24                    // blocks that are not worth a table

static void
sort_few(struct snapshot_block *blocks, uint64_t n)
{
    for (uint64_t i = 1; i < n; i++) {
        struct snapshot_block block = blocks[i];
        uint64_t j = i;
        for (; j > 0 && blocks[j - 1].address > block.address; j--) {
            blocks[j] = blocks[j - 1];
        }
        blocks[j] = block;
    }
}

/* Sort blocks by their addresses, which are equal above the byte at *shift*,
   without memory: each byte puts them into 256 parts. */
static void
sort_blocks(struct snapshot_block *blocks, uint64_t n, int shift)
{
    if (n <= FEW) {
        sort_few(blocks, n);
        return;
    }
    uint64_t next[257] = {0};     // of each part, where one more belongs
    uint64_t end[256];
    for (uint64_t i = 0; i < n; i++) {
        next[(blocks[i].address >> shift & 255) + 1]++;
    }
    for (int part = 0; part < 256; part++) {
        next[part + 1] += next[part];
        end[part] = next[part + 1];
    }
    for (int part = 0; part < 256; part++) {
        while (next[part] < end[part]) {
            struct snapshot_block block = blocks[next[part]];
            for (int at; (at = block.address >> shift & 255) != part; ) {
                struct snapshot_block other = blocks[next[at]];
                blocks[next[at]++] = block;
                block = other;
            }
            blocks[next[part]++] = block;
        }
    }
    for (int part = 0; shift > 0 && part < 256; part++) {
        uint64_t start = part == 0 ? 0 : end[part - 1];
        sort_blocks(blocks + start, end[part] - start, shift - 8);
    }
}

/* Blocks that are not in pools come in no order. Sorted neighbours are alike,
   which makes the file smaller. */
static void
order_blocks(struct snapshot_block *blocks, uint64_t n)
{
    uint64_t differing = 0;
    for (uint64_t i = 1; i < n; i++) {
        differing |= blocks[i].address ^ blocks[0].address;
    }
    int shift = 0;
    while (shift < 56 && differing >> shift > 255) {
        shift += 8;
    }
    sort_blocks(blocks, n, shift);
}

/* Make one array of the blocks of pools and all others. */
static int
join_blocks(struct tracer_snapshot *s)
{
    s->blocks = _PySnapshot_Array(s->nblocks, sizeof(*s->blocks));
    if (s->blocks == NULL) {
        return -1;
    }
    struct snapshot_block *next = s->blocks;
    for (uint32_t i = 0; i < s->nruns; i++) {
        next = unpack_run(s, &s->runs[i], next);
    }
    memcpy(next, s->others, (s->nblocks - s->nsmall) * sizeof(*next));
    if (s->nsmall == 0) {
        order_blocks(s->blocks, s->nblocks);
    }
    return 0;
}

/* The packed or coded blocks are no longer needed here; another thread may
   still read them. */
static void
drop_packed(struct tracer_snapshot *s)
{
    if (s->lent != 0) {
        return;
    }
    if (s->lender == NULL) {
        _PySnapshot_Release(s->packed);
        _PySnapshot_Release(s->runs);
        _PySnapshot_Release(s->others);
        _PySnapshot_Release(s->coded);
        _PySnapshot_Release(s->moved);
    }
    s->packed = NULL;
    s->runs = NULL;
    s->others = NULL;
    s->coded = NULL;
    s->moved = NULL;
    s->source = NULL;
}

/* Make the blocks of a folded snapshot. */
static int
fetch_blocks(struct tracer_snapshot *s)
{
    struct snapshot_block *blocks = _PySnapshot_Unpack(s->source) < 0
        ? NULL : _PySnapshot_Array(s->nblocks, sizeof(*blocks));
    if (blocks == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        blocks[i] = s->source->blocks[i];
        blocks[i].node = s->moved[blocks[i].node];
    }
    s->blocks = blocks;
    return 0;
}

int
_PySnapshot_Unpack(struct tracer_snapshot *s)
{
    int result = 0;
    if (s->blocks != NULL) {
        return 0;
    }
    if (s->moved != NULL) {
        result = fetch_blocks(s);
    }
    else if (s->coded != NULL) {
        result = _PySnapshot_Decode(s);
    }
    else if (s->packed != NULL) {
        result = join_blocks(s);
    }
    if (s->blocks != NULL) {
        drop_packed(s);
    }
    return result;
}

/* --- What is done beside others that look at the snapshot */

/* Release what _PySnapshot_Truncate() rewrites, but for what `s` has. */
static void
release_paths(struct tracer_snapshot *copy, const struct tracer_snapshot *s)
{
    if (copy->nodes != s->nodes) {
        _PySnapshot_Release(copy->nodes);
        _PySnapshot_Release(copy->measures);
        _PySnapshot_Release(copy->held);
    }
    if (copy->blocks != s->blocks) {
        _PySnapshot_Release(copy->blocks);
    }
}

int
_PySnapshot_Borrow(struct tracer_snapshot *s, struct tracer_snapshot *copy)
{
    *copy = *s;
    copy->lender = s;
    copy->lent = 0;
    if (s->limit != UINT32_MAX) {
        copy->nodes = copy_array(s->nodes, s->nnodes, sizeof(*s->nodes));
        copy->measures = copy_array(s->measures, s->nmeasures,
                                    sizeof(*s->measures));
        copy->held = copy_array(s->held, s->nheld, sizeof(*s->held));
        if (s->blocks != NULL) {
            copy->blocks = copy_array(s->blocks, s->nblocks,
                                      sizeof(*s->blocks));
        }
        if (copy->nodes == NULL || copy->measures == NULL
            || copy->held == NULL
            || (s->blocks != NULL && copy->blocks == NULL))
        {
            release_paths(copy, s);
            return -1;
        }
    }
    s->lent++;
    return 0;
}

void
_PySnapshot_Return(struct tracer_snapshot *copy)
{
    struct tracer_snapshot *s = copy->lender;
    struct tracer_snapshot old = *s;
    assert(s->lent > 0);
    s->lent--;
    if (s->limit != UINT32_MAX && copy->limit == UINT32_MAX) {
        s->limit = copy->limit;
        s->truncate = copy->truncate;
        s->nodes = copy->nodes;
        s->nnodes = copy->nnodes;
        s->measures = copy->measures;
        s->nmeasures = copy->nmeasures;
        s->held = copy->held;
        s->nheld = copy->nheld;
        s->blocks = copy->blocks;
        release_paths(&old, s);
    }
    else {
        if (s->blocks == NULL) {
            s->blocks = copy->blocks;
        }
        release_paths(copy, s);
    }
    if (s->blocks != NULL) {
        drop_packed(s);
    }
}

struct tracer_snapshot *
_PySnapshot_Copy(struct tracer_snapshot *s, int with_blocks)
{
    if (with_blocks && _PySnapshot_Unpack(s) < 0) {
        return NULL;
    }
    struct tracer_snapshot *copy = _PySnapshot_New();
    if (copy == NULL) {
        return NULL;
    }
    *copy = *s;
    copy->packed = NULL;
    copy->runs = NULL;
    copy->others = NULL;
    copy->coded = NULL;
    copy->lender = NULL;
    copy->lent = 0;
    copy->origins = NULL;
    copy->source = NULL;
    copy->moved = NULL;
    copy->notes = NULL;
    copy->nnotes = 0;
    copy->graph = with_blocks ? _PySnapshot_ShareGraph(s->graph) : NULL;
    copy->native = with_blocks ? _PySnapshot_ShareNative(s->native) : NULL;
    if (!with_blocks) {
        copy->has_blocks = 0;
        copy->nblocks = 0;
    }
    copy->text = copy_array(s->text, s->text_size, 1);
    copy->strings = copy_array(s->strings, s->nstrings, sizeof(*s->strings));
    copy->locations = copy_array(s->locations, s->nlocations,
                                 sizeof(*s->locations));
    copy->nodes = copy_array(s->nodes, s->nnodes, sizeof(*s->nodes));
    copy->measures = copy_array(s->measures, s->nmeasures,
                                sizeof(*s->measures));
    copy->held = copy_array(s->held, s->nheld, sizeof(*s->held));
    copy->classes = copy_array(s->classes, s->nclasses, sizeof(*s->classes));
    copy->arenas = copy_array(s->arenas, s->narenas, sizeof(*s->arenas));
    copy->pools = copy_array(s->pools, s->npools, sizeof(*s->pools));
    copy->blocks = copy_array(s->blocks, copy->nblocks, sizeof(*s->blocks));
    if (s->origins != NULL) {
        copy->origins = copy_array(s->origins, s->nnodes,
                                   sizeof(*s->origins));
    }
    if (copy->text == NULL || copy->strings == NULL || copy->locations == NULL
        || copy->nodes == NULL || copy->measures == NULL
        || copy->held == NULL
        || copy->classes == NULL || copy->arenas == NULL
        || copy->pools == NULL
        || copy->blocks == NULL
        || (s->origins != NULL && copy->origins == NULL))
    {
        _PySnapshot_Free(copy);
        return NULL;
    }
    return copy;
}

static void
live_at_peak(struct tracer_snapshot *s)
{
    for (uint32_t i = 0; i < s->nmeasures; i++) {
        uint64_t *m = s->measures[i];
        m[SNAPSHOT_SIZE] = m[SNAPSHOT_PEAK_SIZE];
        m[SNAPSHOT_COUNT] = m[SNAPSHOT_PEAK_COUNT];
    }
    s->nheld = 0;
}

struct tracer_snapshot *
_PySnapshot_Peak(struct tracer_snapshot *s)
{
    struct tracer_snapshot *peak = _PySnapshot_Copy(s, 0);
    if (peak == NULL) {
        return NULL;
    }
    live_at_peak(peak);
    return peak;
}

/* Turn the values at one of the next highest moments into the live values.
   Those at the peak become the same or, to compare with, stay as they are. */
struct tracer_snapshot *
_PySnapshot_NextPeak(struct tracer_snapshot *s, uint32_t moment, int compare)
{
    struct tracer_snapshot *next = _PySnapshot_Copy(s, 0);
    if (next == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < next->nmeasures; i++) {
        uint64_t *m = next->measures[i];
        m[SNAPSHOT_SIZE] = m[SNAPSHOT_COUNT] = 0;
    }
    for (uint64_t i = 0; i < next->nheld; i++) {
        const struct snapshot_held *held = &next->held[i];
        if (held->moment == moment && next->nodes[held->node].measures != 0) {
            uint64_t *m = _PySnapshot_Measures(next, held->node);
            m[SNAPSHOT_SIZE] += held->size;
            m[SNAPSHOT_COUNT] += held->count;
        }
    }
    next->nheld = 0;
    for (uint32_t i = 0; !compare && i < next->nmeasures; i++) {
        uint64_t *m = next->measures[i];
        m[SNAPSHOT_PEAK_SIZE] = m[SNAPSHOT_SIZE];
        m[SNAPSHOT_PEAK_COUNT] = m[SNAPSHOT_COUNT];
    }
    return next;
}

void
_PySnapshot_MoveHeld(struct tracer_snapshot *s, const uint32_t *moved)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->nheld; i++) {
        struct snapshot_held held = s->held[i];
        held.node = moved[held.node];
        if (held.node != SNAPSHOT_NONE) {
            s->held[n++] = held;
        }
    }
    s->nheld = n;
}

/* Classes of the last blocks, behind those of all others: one for each domain,
   and of native memory one for each C stack. */
struct domains {
    struct snapshot_pairs pairs;  // (C stack, domain)
    uint32_t first;               // class
    uint32_t native;              // string, or NONE
};

static uint32_t
name_domain(struct tracer_snapshot *s, struct domains *domains,
            uint32_t domain)
{
    char name[32];
    if (domain != SNAPSHOT_NATIVE_DOMAIN) {
        int length = snprintf(name, sizeof(name), "<domain %u>", domain);
        return _PySnapshot_AddString(s, name, (uint32_t)length);
    }
    if (domains->native == SNAPSHOT_NONE) {
        domains->native = _PySnapshot_AddString(s, "<native>", 8);
    }
    return domains->native;
}

static int
add_domain(struct tracer_snapshot *s, struct domains *domains,
           struct snapshot_block *block)
{
    int is_native = (block->node & SNAPSHOT_NATIVE_NODE) != 0;
    uint32_t stack = is_native ? block->class_ : 0;
    uint32_t domain = is_native ? SNAPSHOT_NATIVE_DOMAIN : block->class_;
    uint32_t number = _PySnapshot_Pair(&domains->pairs, stack, domain);
    if (number == SNAPSHOT_NONE) {
        return -1;
    }
    block->node &= ~SNAPSHOT_NATIVE_NODE;
    block->class_ = domains->first + number;
    if (block->class_ < s->nclasses) {
        return 0;
    }
    void *p = _PySnapshot_Resize(s->classes, (uint64_t)s->nclasses + 1,
                                 sizeof(*s->classes));
    if (p == NULL) {
        return -1;
    }
    s->classes = p;
    struct snapshot_class *class_ = &s->classes[s->nclasses++];
    *class_ = (struct snapshot_class){
        .name = name_domain(s, domains, domain), .kind = SNAPSHOT_EXTERNAL,
        .domain = domain, .stack = stack};
    return class_->name == SNAPSHOT_NONE ? -1 : 0;
}

int
_PySnapshot_NameDomains(struct tracer_snapshot *s)
{
    struct domains domains = {.first = s->nclasses, .native = SNAPSHOT_NONE};
    int result = 0;
    if (s->nexternal == 0) {
        return 0;
    }
    struct snapshot_block *block =
        s->others + (s->nblocks - s->nsmall - s->nexternal);
    result = _PySnapshot_PairsInit(&domains.pairs);
    for (; result == 0 && s->nexternal > 0; s->nexternal--) {
        result = add_domain(s, &domains, block++);
    }
    _PySnapshot_PairsFree(&domains.pairs);
    return result;
}
