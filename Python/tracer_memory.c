/* The tracer's own memory.

   It comes from mmap(), is never traced, and is what get_tracemalloc_memory()
   reports.  Big arrays (hash tables) are mappings of their own. The nodes lie
   in a range that is reserved as a whole and made usable piece by piece;
   tracer_tree.c counts them. Pool tables and interned text are cut from
   regions of 256 KiB: tables go back to a free list of their size, zeroed;
   single texts are never given back. All mappings are listed, so that
   tracer_rss.c knows them.

   Everything here is called with the lock held, returns NULL when there is no
   memory, and sets no exception.  _PyTracer_memory.fail_* let a test make any
   single request fail, and page_size makes pages as large as they are on other
   machines. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"

#include <sys/mman.h>             // mmap()
#include <sys/resource.h>         // getrlimit()
#include <unistd.h>               // sysconf()

#define REGION_SIZE (256 * 1024)
#define REGION_HEADER 64          // a cache line
#define RESERVE_SHARE 8           // a range takes at most 1/8 of what is left
#define TABLE_UNIT 16             // entries; tables are multiples of it
#define NTABLE_LISTS Py_ARRAY_LENGTH(_PyTracer_memory.free_tables)

struct region {
    struct region *next;
};

/* A free pool table. Only its first word is not zero. */
struct free_table {
    struct free_table *next;
};

struct tracer_memory _PyTracer_memory;

static struct region *regions;

static int
must_fail(void)
{
    struct tracer_memory *memory = &_PyTracer_memory;
    long call = ++memory->calls;
    return memory->fail_from > 0 && call >= memory->fail_from
           && (memory->fail_to <= 0 || call < memory->fail_to);
}

/* --- The list of mappings.  One that does not fit is left out. */

#define FIRST_RANGES 256

static int
grow_list(void)
{
    struct tracer_memory *memory = &_PyTracer_memory;
    size_t item = sizeof(*memory->ranges);
    size_t n = memory->max_ranges == 0 ? FIRST_RANGES
                                       : memory->max_ranges * 2;
    void *list = mmap(NULL, n * item, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED) {
        return -1;
    }
    if (memory->ranges != NULL) {
        memcpy(list, memory->ranges, memory->nranges * item);
        munmap(memory->ranges, memory->max_ranges * item);
        memory->total -= memory->max_ranges * item;
    }
    memory->total += n * item;
    memory->ranges = list;
    memory->max_ranges = n;
    return 0;
}

static void
note_range(void *p, size_t size)
{
    struct tracer_memory *memory = &_PyTracer_memory;
    if (memory->nranges < memory->max_ranges || grow_list() == 0) {
        memory->ranges[memory->nranges++] = (struct tracer_mapped){p, size};
    }
}

/* The last ones go first, mostly. */
static void
forget_range(const void *p)
{
    struct tracer_memory *memory = &_PyTracer_memory;
    for (size_t i = memory->nranges; i > 0; i--) {
        if (memory->ranges[i - 1].p == p) {
            memory->ranges[i - 1] = memory->ranges[--memory->nranges];
            return;
        }
    }
}

void *
_PyTracer_MemAlloc(size_t size)
{
    if (must_fail()) {
        return NULL;
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    _PyTracer_memory.total += size;
    note_range(p, size);
    return p;
}

void
_PyTracer_MemFree(void *p, size_t size)
{
    if (p != NULL) {
        assert(_PyTracer_memory.total >= size);
        munmap(p, size);
        _PyTracer_memory.total -= size;
        forget_range(p);
    }
}

static size_t
page_size(void)
{
    size_t *size = &_PyTracer_memory.page_size;
    if (*size == 0) {
        *size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return *size;
}

static void *
reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* If address space is limited (ulimit -v), would the range leave most of the
   rest to the program? */
static int
is_affordable(size_t size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) {
        return 1;
    }
    void *p = reserve(size * RESERVE_SHARE);
    _PyTracer_MemRelease(p, size * RESERVE_SHARE);
    return p != NULL;
}

void *
_PyTracer_MemReserve(size_t size, int must)
{
    assert(size % page_size() == 0);
    if (must_fail() || (!must && !is_affordable(size))) {
        return NULL;
    }
    void *p = reserve(size);
    if (p != NULL) {
        note_range(p, size);
    }
    return p;
}

/* The system refuses addresses that are not at the start of a page; so do we,
   if a test makes the pages larger. */
static int
make_usable(char *range, size_t from, size_t to)
{
    if (from % page_size() != 0) {
        return -1;
    }
    return mprotect(range + from, to - from, PROT_READ | PROT_WRITE);
}

int
_PyTracer_MemCommit(void *range, size_t from, size_t to)
{
    assert(to >= from);
    if (must_fail()) {
        return -1;
    }
    return make_usable(range, _Py_SIZE_ROUND_DOWN(from, page_size()),
                       _Py_SIZE_ROUND_UP(to, page_size()));
}

void
_PyTracer_MemRelease(void *range, size_t size)
{
    if (range != NULL) {
        munmap(range, size);
        forget_range(range);
    }
}

void *
_PyTracer_MemGrow(void *p, size_t size, size_t new_size)
{
    assert(new_size >= size);
    void *q = _PyTracer_MemAlloc(new_size);
    if (q != NULL && p != NULL) {
        memcpy(q, p, size);
        _PyTracer_MemFree(p, size);
    }
    return q;
}

void *
_PyTracer_MemDouble(void *p, uint32_t *capacity, size_t item_size)
{
    assert(*capacity > 0 && *capacity <= UINT32_MAX / 2);
    size_t size = *capacity * item_size;
    void *q = _PyTracer_MemGrow(p, size, size * 2);
    if (q != NULL) {
        *capacity *= 2;
    }
    return q;
}

static char *
cut(size_t size)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_memory *memory = &_PyTracer_memory;
    assert(memory->bump <= memory->bump_end);
    size = _Py_SIZE_ROUND_UP(size, 8);
    assert(size <= REGION_SIZE - REGION_HEADER);
    if ((size_t)(memory->bump_end - memory->bump) < size) {
        struct region *region = _PyTracer_MemAlloc(REGION_SIZE);
        if (region == NULL) {
            return NULL;
        }
        region->next = regions;
        regions = region;
        memory->bump = (char *)region + REGION_HEADER;
        memory->bump_end = (char *)region + REGION_SIZE;
    }
    char *p = memory->bump;
    memory->bump += size;
    return p;
}

char *
_PyTracer_MemText(size_t size)
{
    return cut(size);
}

static size_t
table_units(size_t nentries)
{
    size_t units = (nentries + TABLE_UNIT - 1) / TABLE_UNIT;
    assert(units >= 1 && units <= NTABLE_LISTS);
    return units;
}

uint32_t *
_PyTracer_MemTable(size_t nentries)
{
    size_t units = table_units(nentries);
    void **list = &_PyTracer_memory.free_tables[units - 1];
    struct free_table *table = *list;
    if (table != NULL) {
        *list = table->next;
        table->next = NULL;
        return (uint32_t *)table;
    }
    return (uint32_t *)cut(units * TABLE_UNIT * sizeof(uint32_t));
}

void
_PyTracer_MemFreeTable(uint32_t *table, size_t nentries)
{
    size_t units = table_units(nentries);
    void **list = &_PyTracer_memory.free_tables[units - 1];
    _PyTracer_ASSERT_LOCKED();
    assert(table != NULL && (void *)table != *list);
    memset(table, 0, nentries * sizeof(uint32_t));
    ((struct free_table *)table)->next = *list;
    *list = table;
}

/* The rest of the last region, and the free tables. */
size_t
_PyTracer_MemUnused(void)
{
    const struct tracer_memory *memory = &_PyTracer_memory;
    size_t size = (size_t)(memory->bump_end - memory->bump);
    for (size_t i = 0; i < NTABLE_LISTS; i++) {
        const struct free_table *table = memory->free_tables[i];
        for (; table != NULL; table = table->next) {
            size += (i + 1) * TABLE_UNIT * sizeof(uint32_t);
        }
    }
    return size;
}

void
_PyTracer_MemClear(void)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_memory *memory = &_PyTracer_memory;
    while (regions != NULL) {
        struct region *next = regions->next;
        _PyTracer_MemFree(regions, REGION_SIZE);
        regions = next;
    }
    memory->bump = memory->bump_end = NULL;
    memset(memory->free_tables, 0, sizeof(memory->free_tables));
}

/* --- Check everything */

static int
in_regions(const void *p)
{
    const struct region *region = regions;
    while (region != NULL && (uintptr_t)p - (uintptr_t)region >= REGION_SIZE)
    {
        region = region->next;
    }
    return region != NULL;
}

const char *
_PyTracer_MemFault(void)
{
    const struct tracer_memory *memory = &_PyTracer_memory;
    for (size_t i = 0; i < NTABLE_LISTS; i++) {
        const struct free_table *table = memory->free_tables[i];
        for (; table != NULL; table = table->next) {
            if (!in_regions(table)) {
                return "a free table of a pool lies in no region";
            }
            const uint32_t *entries = (const uint32_t *)table;
            size_t n = (i + 1) * TABLE_UNIT;
            for (size_t j = sizeof(*table) / sizeof(*entries); j < n; j++) {
                if (entries[j] != 0) {
                    return "a free table of a pool has an entry";
                }
            }
        }
    }
    return NULL;
}
