/* Numbers of objects by their address.

   A hash table of pages leads to a table with a number for each place of a
   page.  Objects that are looked up one after the other are in few pages, so
   usually the page is the one that was found last.  All memory comes from the
   kernel or the C library. */

#include "Python.h"
#include "pycore_tracer_heap.h"
#include "pycore_tracer_index.h"  // TRACER_GOLDEN_64

#define CHUNK 256                 // tables made at once
#define INITIAL_PAGES 4096        // of the hash table
#define TABLE_SIZE (TRACER_HEAP_SLOTS * sizeof(uint32_t))

/* In front of the tables of a chunk, in the place of one. */
struct front {
    uint32_t *before;             // the chunk that was made before
};

static size_t
page_slot(const struct tracer_heap_index *index, uintptr_t page)
{
    size_t i = (size_t)(((uint64_t)page * TRACER_GOLDEN_64) >> 32)
               & index->mask;
    while (index->pages[i].numbers != NULL && index->pages[i].page != page) {
        i = (i + 1) & index->mask;
    }
    return i;
}

static int
grow(struct tracer_heap_index *index)
{
    struct tracer_heap_page *old = index->pages;
    size_t old_size = old == NULL ? 0 : index->mask + 1;
    size_t size = old == NULL ? INITIAL_PAGES : old_size * 2;
    struct tracer_heap_page *pages = _PyTracer_HeapArray(size, sizeof(*pages));
    if (pages == NULL) {
        return -1;
    }
    index->pages = pages;
    index->mask = size - 1;
    for (size_t i = 0; i < old_size; i++) {
        if (old[i].numbers != NULL) {
            pages[page_slot(index, old[i].page)] = old[i];
        }
    }
    _PySnapshot_Release(old);
    return 0;
}

void
_PyTracer_FreeHeapIndex(struct tracer_heap_index *index)
{
    while (index->chunk != NULL) {
        uint32_t *chunk = index->chunk;
        index->chunk = ((struct front *)chunk)->before;
        _PySnapshot_Release(chunk);
    }
    _PySnapshot_Release(index->pages);
    index->pages = NULL;
}

static int
new_chunk(struct tracer_heap_index *index, size_t tables)
{
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

static uint32_t *
new_table(struct tracer_heap_index *index)
{
    if (index->left == 0 && new_chunk(index, CHUNK) < 0) {
        return NULL;
    }
    uint32_t *table = index->next;
    index->left--;
    index->next += TRACER_HEAP_SLOTS;
    return table;
}

int
_PyTracer_InitHeapIndex(struct tracer_heap_index *index, size_t pages,
                        int touch)
{
    memset(index, 0, sizeof(*index));
    for (int i = 0; i < TRACER_HEAP_RECENT; i++) {
        index->recent[i].page = TRACER_HEAP_NO_PAGE;
    }
    pages = Py_MAX(pages, CHUNK);
    if (grow(index) < 0 || new_chunk(index, pages) < 0) {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(index->pages, index->mask + 1,
                            sizeof(*index->pages));
        _PyTracer_TouchHeap(index->next, index->left, TABLE_SIZE);
    }
    return 0;
}

uint32_t *
_PyTracer_HeapPage(struct tracer_heap_index *index, uintptr_t page)
{
    size_t i = page_slot(index, page);
    if (index->pages[i].numbers == NULL) {
        if (index->npages * 2 > index->mask) {
            if (grow(index) < 0) {
                return NULL;
            }
            i = page_slot(index, page);
        }
        uint32_t *numbers = new_table(index);
        if (numbers == NULL) {
            return NULL;
        }
        index->pages[i] = (struct tracer_heap_page){page, numbers};
        index->npages++;
    }
    index->recent[(page >> 1) % TRACER_HEAP_RECENT] = index->pages[i];
    return index->pages[i].numbers;
}
