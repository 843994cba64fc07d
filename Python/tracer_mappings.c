/* Which memory of this process can be read.

   If an extension frees a block without the tracer, by free() of the C
   library, the block keeps its trace, and its memory may be gone.  Reading it,
   to find out what the block is, would crash.  So the process's mappings are
   listed before the moment of a snapshot, which takes a tenth of a
   millisecond.  At the moment itself, the kernel is asked only about addresses
   in none of them. */

#include "Python.h"
#include "pycore_tracer_mappings.h"

#include <stdio.h>                // fopen()
#include <stdlib.h>
#include <sys/mman.h>             // mincore()
#include <unistd.h>               // sysconf()

#define INITIAL_MAPPINGS 256

static int
add_mapping(struct tracer_mappings *mappings, uintptr_t begin, uintptr_t end)
{
    if (mappings->n > 0 && mappings->list[mappings->n - 1].end == begin) {
        mappings->list[mappings->n - 1].end = end;
        return 0;
    }
    if (mappings->n == mappings->size) {
        size_t size = mappings->size == 0 ? INITIAL_MAPPINGS
                                          : mappings->size * 2;
        void *list = realloc(mappings->list, size * sizeof(*mappings->list));
        if (list == NULL) {
            return -1;
        }
        mappings->list = list;
        mappings->size = size;
    }
    mappings->list[mappings->n++] = (struct tracer_mapping){begin, end};
    return 0;
}

void
_PyTracer_ListMappings(struct tracer_mappings *mappings)
{
    FILE *file = fopen("/proc/self/maps", "re");
    if (file == NULL) {
        return;
    }
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) {
        unsigned long begin, end;
        char readable;
        if (sscanf(line, "%lx-%lx %c", &begin, &end, &readable) == 3
            && readable == 'r' && add_mapping(mappings, begin, end) < 0)
        {
            break;
        }
    }
    free(line);
    (void)fclose(file);
}

/* The last mapping that begins at the address or before. */
static size_t
find_mapping(const struct tracer_mappings *mappings, uintptr_t address)
{
    size_t low = 0;
    size_t high = mappings->n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (mappings->list[middle].begin <= address) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    return low;
}

static int
ask_kernel(uintptr_t address, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char resident;
    for (uintptr_t p = address & ~(page - 1); p < address + size; p += page) {
        if (mincore((void *)p, page, &resident) != 0) {
            return 0;
        }
    }
    return 1;
}

static inline int
is_in(const struct tracer_mapping *mapping, uintptr_t address, size_t size)
{
    return mapping->begin <= address && address + size <= mapping->end;
}

int
_PyTracer_IsMapped(struct tracer_mappings *mappings, uintptr_t address,
                   size_t size)
{
    assert(size > 0);
    if (mappings->n > 0) {
        if (is_in(&mappings->list[mappings->last], address, size)) {
            return 1;
        }
        mappings->last = find_mapping(mappings, address);
        if (is_in(&mappings->list[mappings->last], address, size)) {
            return 1;
        }
    }
    return ask_kernel(address, size);
}

void
_PyTracer_FreeMappings(struct tracer_mappings *mappings)
{
    free(mappings->list);
    *mappings = (struct tracer_mappings){NULL};
}
