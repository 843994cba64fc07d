/* The objects of a graph and the blocks that they are in.

   An object lies in its block behind the collector's header, so its block is
   the last one that begins at or before its address.  Blocks are grouped by
   the page that they begin in, and then the search is among a few dozen.  An
   object without a traced block, such as one that was made before tracing
   began, has no size. */

#include "graph.h"

#define PAGE_BITS 12
#define PAGE_MASK (((uint64_t)1 << PAGE_BITS) - 1)

struct pages {
    const struct snapshot_block *blocks;
    uint64_t nblocks;
    struct snapshot_pairs numbers;    // of pages
    uint32_t npages;              // those with blocks have the first numbers
    uint32_t *first;              // by number: position of the first block
    uint32_t first_size;
    uint32_t *order;              // by position: block.  NULL: they are sorted
    uint16_t *offsets;            // by position: in the page
    int failed;                   // no memory
};

/* --- The table of pages */

static uint32_t
page_number(struct pages *p, uint64_t address)
{
    uint64_t page = address >> PAGE_BITS;
    return _PySnapshot_Pair(&p->numbers, (uint32_t)(page >> 32),
                            (uint32_t)page);
}

/* Number the pages; first[number] is how many blocks begin there. */
static int
count_blocks(struct pages *p, int *sorted)
{
    uint64_t before = 0;
    uint32_t number = SNAPSHOT_NONE;
    *sorted = 1;
    for (uint64_t i = 0; i < p->nblocks; i++) {
        uint64_t address = p->blocks[i].address;
        *sorted &= address >= before;
        if (number == SNAPSHOT_NONE || (address ^ before) >> PAGE_BITS) {
            uint32_t known = p->numbers.used;
            number = page_number(p, address);
            if (number == SNAPSHOT_NONE
                || _PySnapshot_Reserve(&p->first, &p->first_size, number + 2,
                                       sizeof(*p->first)) < 0)
            {
                return -1;
            }
            if (number == known) {
                p->first[number] = 0;
            }
        }
        before = address;
        p->first[number]++;
    }
    return 0;
}

/* From numbers of blocks to the position behind the last one. */
static void
add_up(struct pages *p)
{
    uint32_t position = 0;
    p->npages = p->numbers.used;
    for (uint32_t i = 0; i < p->npages; i++) {
        position += p->first[i];
        p->first[i] = position;
    }
}

/* Put each block into its page, the last one first. */
static void
place_blocks(struct pages *p, int sorted)
{
    uint32_t number = SNAPSHOT_NONE;
    for (uint64_t i = p->nblocks; i-- > 0; ) {
        uint64_t address = p->blocks[i].address;
        if (number == SNAPSHOT_NONE
            || (address ^ p->blocks[i + 1].address) >> PAGE_BITS)
        {
            number = page_number(p, address);
        }
        assert(number < p->npages && p->first[number] > 0);
        uint32_t position = --p->first[number];
        p->offsets[position] = address & PAGE_MASK;
        if (!sorted) {
            p->order[position] = (uint32_t)i;
        }
    }
    p->first[p->npages] = (uint32_t)p->nblocks;
}

struct sorted {
    uint32_t offset;
    uint32_t block;
};

static int
compare_offsets(const void *a, const void *b)
{
    uint32_t x = ((const struct sorted *)a)->offset;
    uint32_t y = ((const struct sorted *)b)->offset;
    return (x > y) - (x < y);
}

/* Blocks of a pool come in order; few others do not. */
static int
sort_page(struct pages *p, uint32_t low, uint32_t high)
{
    uint32_t i = low + 1;
    while (i < high && p->offsets[i] >= p->offsets[i - 1]) {
        i++;
    }
    if (i >= high) {
        return 0;
    }
    uint32_t n = high - low;
    SNAPSHOT_AUTO struct sorted *sorted = _PySnapshot_Array(n,
                                                            sizeof(*sorted));
    if (sorted == NULL) {
        return -1;
    }
    for (i = 0; i < n; i++) {
        sorted[i] = (struct sorted){p->offsets[low + i], p->order[low + i]};
    }
    qsort(sorted, n, sizeof(*sorted), compare_offsets);
    for (i = 0; i < n; i++) {
        p->offsets[low + i] = (uint16_t)sorted[i].offset;
        p->order[low + i] = sorted[i].block;
    }
    return 0;
}

static int
make_pages(struct pages *p)
{
    int sorted;
    if (_PySnapshot_PairsInit(&p->numbers) < 0
        || _PySnapshot_Reserve(&p->first, &p->first_size, 1,
                               sizeof(*p->first)) < 0
        || count_blocks(p, &sorted) < 0)
    {
        return -1;
    }
    add_up(p);
    p->offsets = _PySnapshot_Array(p->nblocks, sizeof(*p->offsets));
    p->order = sorted ? NULL : _PySnapshot_Array(p->nblocks,
                                                 sizeof(*p->order));
    if (p->offsets == NULL || (!sorted && p->order == NULL)) {
        return -1;
    }
    place_blocks(p, sorted);
    int result = 0;
    for (uint32_t i = 0; !sorted && result == 0 && i < p->npages; i++) {
        result = sort_page(p, p->first[i], p->first[i + 1]);
    }
    return result;
}

/* --- Looking up */

/* The last block that begins in the page of `address`, but not after it;
   NONE. */
static uint32_t
last_in_page(struct pages *p, uint64_t address)
{
    uint32_t number = page_number(p, address);
    p->failed |= number == SNAPSHOT_NONE;
    if (number >= p->npages) {
        return SNAPSHOT_NONE;
    }
    uint16_t offset = address & PAGE_MASK;
    uint32_t low = p->first[number];
    uint32_t high = p->first[number + 1];
    assert(low < high);
    if (p->offsets[low] > offset) {
        return SNAPSHOT_NONE;
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (p->offsets[middle] <= offset) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    return p->order == NULL ? low : p->order[low];
}

static uint32_t
find_block(struct pages *p, uint64_t address)
{
    uint32_t found = last_in_page(p, address);
    if (found == SNAPSHOT_NONE && address > PAGE_MASK) {
        /* It begins in the page before, at the end. */
        found = last_in_page(p, (address & ~PAGE_MASK) - 1);
    }
    if (found != SNAPSHOT_NONE
        && address - p->blocks[found].address >= p->blocks[found].size)
    {
        found = SNAPSHOT_NONE;
    }
    return found;
}

/* --- All of it */

/* A block counts once, for the first object that has it. */
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
    int result = make_pages(&p);
    if (result == 0) {
        join(heap, &p);
    }
    _PySnapshot_PairsFree(&p.numbers);
    _PySnapshot_Release(p.first);
    _PySnapshot_Release(p.order);
    _PySnapshot_Release(p.offsets);
    return p.failed ? -1 : result;
}
