/* Numbers of objects by their address.

   A hash table of pages leads to a table with a number for each place of a
   page.  Objects that are near each other are looked for one after the other:
   mostly the last page is the right one.  All memory comes from the kernel or
   the C library. */

#include "Python.h"
#include "pycore_tracer_heap.h"
#include "pycore_tracer_index.h"  // TRACER_GOLDEN_64

#define CHUNK 256                 // pages made at once
#define INITIAL_PAGES 4096        // of the hash table

static size_t
page_slot(const struct tracer_heap_index *index, uintptr_t page)
{
    size_t i = (size_t)(((uint64_t)page * TRACER_GOLDEN_64) >> 32)
               & index->mask;
    while (index->pages[i] != NULL && index->pages[i]->page != page) {
        i = (i + 1) & index->mask;
    }
    return i;
}

static int
grow(struct tracer_heap_index *index)
{
    struct tracer_heap_index old = *index;
    size_t size = index->pages == NULL ? INITIAL_PAGES : (old.mask + 1) * 2;
    index->pages = _PyTracer_HeapArray(size, sizeof(*index->pages));
    if (index->pages == NULL) {
        index->pages = old.pages;
        return -1;
    }
    index->mask = size - 1;
    for (size_t i = 0; old.pages != NULL && i <= old.mask; i++) {
        if (old.pages[i] != NULL) {
            index->pages[page_slot(index, old.pages[i]->page)] = old.pages[i];
        }
    }
    _PySnapshot_Release(old.pages);
    return 0;
}


/* The first page of a chunk is no page: it leads to the chunk before. */
void
_PyTracer_FreeHeapIndex(struct tracer_heap_index *index)
{
    while (index->chunk != NULL) {
        struct tracer_heap_page *chunk = index->chunk;
        index->chunk = (struct tracer_heap_page *)chunk->page;
        _PySnapshot_Release(chunk);
    }
    _PySnapshot_Release(index->pages);
    index->pages = NULL;
}

static int
new_chunk(struct tracer_heap_index *index, size_t pages)
{
    struct tracer_heap_page *chunk =
        _PyTracer_HeapArray(pages, sizeof(*chunk));
    if (chunk == NULL) {
        return -1;
    }
    chunk->page = (uintptr_t)index->chunk;
    index->chunk = chunk;
    index->next = chunk + 1;
    index->left = pages - 1;
    return 0;
}

static struct tracer_heap_page *
new_page(struct tracer_heap_index *index)
{
    if (index->left == 0 && new_chunk(index, CHUNK) < 0) {
        return NULL;
    }
    index->left--;
    return index->next++;
}

int
_PyTracer_InitHeapIndex(struct tracer_heap_index *index, size_t pages)
{
    *index = (struct tracer_heap_index){0};
    return grow(index) < 0 ? -1 : new_chunk(index, Py_MAX(pages, CHUNK));
}

struct tracer_heap_page *
_PyTracer_HeapPage(struct tracer_heap_index *index, uintptr_t page)
{
    size_t i = page_slot(index, page);
    if (index->pages[i] != NULL) {
        return index->pages[i];
    }
    if (index->npages * 2 > index->mask) {
        if (grow(index) < 0) {
            return NULL;
        }
        i = page_slot(index, page);
    }
    struct tracer_heap_page *added = new_page(index);
    if (added != NULL) {
        added->page = page;
        index->pages[i] = added;
        index->npages++;
    }
    return added;
}
