/* Numbers of objects by their address.

   As in obmalloc's map of arenas, the upper bits of an address lead from table
   to table: from a region of 1 GiB to a page, and from there to a number for
   each place of the page.  The tables of regions and pages are large, but only
   the parts that are used are touched.  All memory comes from the kernel or
   the C library. */

#include "Python.h"
#include "pycore_tracer_heap.h"

#define CHUNK 256                 // tables of numbers made at once
#define TABLE_SIZE (TRACER_HEAP_SLOTS * sizeof(uint32_t))

/* In front of the tables of a chunk, in the place of one. */
struct front {
    uint32_t *before;             // the chunk that was made before
};
static_assert(sizeof(struct front) <= TABLE_SIZE, "no room for it");

void
_PyTracer_FreeHeapIndex(struct tracer_heap_index *index)
{
    while (index->chunk != NULL) {
        uint32_t *chunk = index->chunk;
        index->chunk = ((struct front *)chunk)->before;
        _PySnapshot_Release(chunk);
    }
    while (index->last != NULL) {
        uint32_t **pages = index->last;
        index->last = (uint32_t **)pages[TRACER_HEAP_PAGES];
        _PySnapshot_Release(pages);
    }
    for (int odd = 0; odd < 2; odd++) {
        _PySnapshot_Release(index->regions[odd]);
        index->regions[odd] = NULL;
    }
}

static int
new_chunk(struct tracer_heap_index *index, size_t tables)
{
    assert(tables > 1);
    uint32_t *chunk = _PyTracer_HeapArray(tables, TABLE_SIZE);
    if (chunk == NULL) {
        return -1;
    }
    ((struct front *)chunk)->before = index->chunk;
    index->chunk = chunk;
    index->next = chunk + TRACER_HEAP_SLOTS;
    index->left = tables - 1;
    return 0;
}

int
_PyTracer_InitHeapIndex(struct tracer_heap_index *index, size_t pages,
                        int touch)
{
    memset(index, 0, sizeof(*index));
    for (int odd = 0; odd < 2; odd++) {
        index->regions[odd] = _PyTracer_HeapArray(
            TRACER_HEAP_REGIONS, sizeof(*index->regions[odd]));
        if (index->regions[odd] == NULL) {
            return -1;
        }
    }
    if (new_chunk(index, Py_MAX(pages, CHUNK)) < 0) {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(index->next, index->left, TABLE_SIZE);
    }
    return 0;
}

/* Behind the pages of a region: the table that was made before. */
static uint32_t **
new_region(struct tracer_heap_index *index)
{
    uint32_t **pages = _PyTracer_HeapArray(TRACER_HEAP_PAGES + 1,
                                           sizeof(*pages));
    if (pages != NULL) {
        pages[TRACER_HEAP_PAGES] = (uint32_t *)index->last;
        index->last = pages;
    }
    return pages;
}

uint32_t *
_PyTracer_NewHeapPage(struct tracer_heap_index *index, uint32_t ***region,
                      size_t page)
{
    if ((*region == NULL && (*region = new_region(index)) == NULL)
        || (index->left == 0 && new_chunk(index, CHUNK) < 0))
    {
        return NULL;
    }
    assert((*region)[page] == NULL && index->left > 0);
    index->left--;
    (*region)[page] = index->next;
    index->next += TRACER_HEAP_SLOTS;
    return (*region)[page];
}
