/* The objects of a graph and the blocks that they are in.

   An object lies in its block behind what the collector keeps before it, so
   that its block is the last one that begins at or before its address.  Blocks
   are sorted, and a table says for each page with the beginning of a block
   which is the first: the rest is a search among a few dozen.  An object
   without a traced block, as one made before tracing began, has no size. */

#include "graph.h"

#define PAGE_BITS 12

struct pages {
    const struct snapshot_block *blocks;
    const uint32_t *order;        // of blocks by address; NULL: as is
    uint64_t nblocks;
    struct snapshot_pairs numbers;    // of pages
    uint32_t npages;              // those with blocks have the first numbers
    uint32_t *first;              // by number: position of the first block
    int failed;                   // no memory
};

static inline const struct snapshot_block *
block_at(const struct pages *p, uint64_t position)
{
    return &p->blocks[p->order == NULL ? position : p->order[position]];
}

/* --- The table of pages */

static uint32_t
page_number(struct pages *p, uint64_t page)
{
    return _PySnapshot_Pair(&p->numbers, (uint32_t)(page >> 32),
                            (uint32_t)page);
}

static uint64_t
page_of(const struct pages *p, uint64_t position)
{
    return block_at(p, position)->address >> PAGE_BITS;
}

static int
make_pages(struct pages *p)
{
    uint32_t size = 0;
    if (_PySnapshot_PairsInit(&p->numbers) < 0) {
        return -1;
    }
    for (uint64_t i = 0; i < p->nblocks; i++) {
        if (i > 0 && page_of(p, i) == page_of(p, i - 1)) {
            continue;
        }
        uint32_t number = page_number(p, page_of(p, i));
        if (number == SNAPSHOT_NONE
            || _PySnapshot_Reserve(&p->first, &size, number + 1,
                                   sizeof(*p->first)) < 0)
        {
            return -1;
        }
        p->first[number] = (uint32_t)i;
    }
    p->npages = p->numbers.used;
    return 0;
}

/* The last block that begins in the page, but not after the address; NONE. */
static uint32_t
last_in_page(struct pages *p, uint64_t page, uint64_t address)
{
    uint32_t number = page_number(p, page);
    p->failed |= number == SNAPSHOT_NONE;
    if (number >= p->npages) {
        return SNAPSHOT_NONE;
    }
    uint64_t low = p->first[number];
    if (block_at(p, low)->address > address) {
        return SNAPSHOT_NONE;
    }
    uint64_t high = p->nblocks;
    /* low is not after the address; high is, or ends the blocks. */
    uint64_t step = 16;
    while (low + step < high && block_at(p, low + step)->address <= address) {
        low += step;
        step *= 2;
    }
    high = low + step < high ? low + step : high;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (block_at(p, middle)->address <= address) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    return p->order == NULL ? (uint32_t)low : p->order[low];
}

static uint32_t
find_block(struct pages *p, uint64_t address)
{
    uint64_t page = address >> PAGE_BITS;
    uint32_t found = last_in_page(p, page, address);
    if (found == SNAPSHOT_NONE && page > 0) {
        found = last_in_page(p, page - 1, address);
    }
    if (found != SNAPSHOT_NONE
        && address - p->blocks[found].address >= p->blocks[found].size)
    {
        found = SNAPSHOT_NONE;
    }
    return found;
}

/* --- Blocks in order */

struct sorted {
    uint64_t address;
    uint32_t block;
};

static int
compare_addresses(const void *a, const void *b)
{
    uint64_t x = ((const struct sorted *)a)->address;
    uint64_t y = ((const struct sorted *)b)->address;
    return (x > y) - (x < y);
}

static int
is_sorted(const struct tracer_snapshot *s)
{
    for (uint64_t i = 1; i < s->nblocks; i++) {
        if (s->blocks[i].address < s->blocks[i - 1].address) {
            return 0;
        }
    }
    return 1;
}

static uint32_t *
sort_blocks(const struct tracer_snapshot *s)
{
    SNAPSHOT_AUTO struct sorted *sorted =
        _PySnapshot_Array(s->nblocks, sizeof(*sorted));
    uint32_t *order = sorted == NULL
        ? NULL : _PySnapshot_Array(s->nblocks, sizeof(*order));
    if (order == NULL) {
        return NULL;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        sorted[i] = (struct sorted){s->blocks[i].address, (uint32_t)i};
    }
    qsort(sorted, s->nblocks, sizeof(*sorted), compare_addresses);
    for (uint64_t i = 0; i < s->nblocks; i++) {
        order[i] = sorted[i].block;
    }
    return order;
}

/* --- All of it */

/* A block counts once, for the first that has it. */
static int
take_block(struct snapshot_heap *heap, uint32_t object, uint32_t block)
{
    if (block == SNAPSHOT_NONE || heap->covered[block]) {
        return 0;
    }
    heap->covered[block] = 1;
    heap->sizes[object] += heap->s->blocks[block].size;
    return 1;
}

static void
join(struct snapshot_heap *heap, struct pages *p)
{
    const struct snapshot_graph *g = heap->g;
    heap->blocks[SNAPSHOT_ROOT] = SNAPSHOT_NONE;
    for (uint32_t i = 1; i < g->nobjects; i++) {
        uint64_t address = g->objects[i].address;
        uint32_t block = address == 0 ? SNAPSHOT_NONE
                                      : find_block(p, address);
        heap->blocks[i] = take_block(heap, i, block) ? block : SNAPSHOT_NONE;
    }
    for (uint64_t i = 0; i < g->nbuffers; i++) {
        const struct snapshot_buffer *buffer = &g->buffers[i];
        uint32_t block = find_block(p, buffer->address);
        int whole = block != SNAPSHOT_NONE
                    && heap->s->blocks[block].address == buffer->address
                    && take_block(heap, buffer->object, block);
        heap->buffer_blocks[i] = whole ? block : SNAPSHOT_NONE;
    }
}

int
_PySnapshot_Join(struct snapshot_heap *heap)
{
    struct tracer_snapshot *s = heap->s;
    heap->sizes = _PySnapshot_Zeroed(heap->g->nobjects, sizeof(*heap->sizes));
    heap->blocks = _PySnapshot_Array(heap->g->nobjects, sizeof(*heap->blocks));
    heap->buffer_blocks = _PySnapshot_Array(heap->g->nbuffers,
                                            sizeof(*heap->buffer_blocks));
    heap->covered = _PySnapshot_Zeroed(s->nblocks + 1, 1);
    if (heap->sizes == NULL || heap->blocks == NULL
        || heap->buffer_blocks == NULL || heap->covered == NULL
        || s->nblocks >= SNAPSHOT_NONE)
    {
        return -1;
    }
    struct pages p = {.blocks = s->blocks, .nblocks = s->nblocks};
    SNAPSHOT_AUTO uint32_t *order = NULL;
    if (!is_sorted(s)) {
        order = sort_blocks(s);
        if (order == NULL) {
            return -1;
        }
        p.order = order;
    }
    int result = make_pages(&p);
    if (result == 0) {
        join(heap, &p);
    }
    _PySnapshot_PairsFree(&p.numbers);
    _PySnapshot_Release(p.first);
    return p.failed ? -1 : result;
}
