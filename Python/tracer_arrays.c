/* Snapshots as plain arrays: making, copying, releasing, and a table of pairs
   that the files that work on them share.

   Memory comes from the C library alone: what is measured is not disturbed.
   Most of the time that a large copy takes would go into page faults, so large
   arrays ask for huge pages.  One of these takes milliseconds if the machine
   must look for it: where a few pages may do, as in most rooms, the first ones
   are small. */

#define _DEFAULT_SOURCE           // madvise(), posix_memalign()

#include "pycore_tracer_snapshot.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#define INITIAL_PAIRS 256
#define HUGE_PAGE ((size_t)2 << 20)

struct tracer_snapshot *
_PySnapshot_New(void)
{
    return calloc(1, sizeof(struct tracer_snapshot));
}

void
_PySnapshot_Free(struct tracer_snapshot *s)
{
    if (s == NULL) {
        return;
    }
    free(s->text);
    free(s->strings);
    free(s->locations);
    free(s->nodes);
    free(s->measures);
    free(s->classes);
    free(s->arenas);
    free(s->blocks);
    free(s->packed);
    free(s->runs);
    free(s->others);
    free(s->coded);
    free(s);
}

/* The first `small` bytes are no huge page, nor is what would not fill one. */
static void *
allocate(uint64_t n, size_t size, size_t small)
{
    if (n > PTRDIFF_MAX / size) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (n * size >= 2 * HUGE_PAGE) {
        void *array;
        size_t huge = n * size / HUGE_PAGE * HUGE_PAGE;
        if (posix_memalign(&array, HUGE_PAGE, n * size) != 0) {
            return NULL;
        }
        madvise((char *)array + small, huge - small, MADV_HUGEPAGE);
        return array;
    }
#endif
    return malloc(n == 0 ? 1 : n * size);
}

void *
_PySnapshot_Array(uint64_t n, size_t size)
{
    return allocate(n, size, 0);
}

void *
_PySnapshot_Room(uint64_t n, size_t size)
{
    return allocate(n, size, HUGE_PAGE);
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
                .size = (packed->entry & 0x3ff) + 1,
                .node = packed->entry >> 10,
                .class_ = class_,
            };
        }
    }
    return block;
}

int
_PySnapshot_Unpack(struct tracer_snapshot *s)
{
    if (s->decode != NULL) {
        return s->decode(s);
    }
    if (s->packed == NULL) {
        return 0;
    }
    s->blocks = _PySnapshot_Array(s->nblocks, sizeof(*s->blocks));
    if (s->blocks == NULL) {
        return -1;
    }
    struct snapshot_block *next = s->blocks;
    for (uint32_t i = 0; i < s->nruns; i++) {
        next = unpack_run(s, &s->runs[i], next);
    }
    memcpy(next, s->others, (s->nblocks - s->nsmall) * sizeof(*next));
    free(s->packed);
    free(s->runs);
    free(s->others);
    s->packed = NULL;
    s->runs = NULL;
    s->others = NULL;
    return 0;
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
    copy->decode = NULL;
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
    copy->classes = copy_array(s->classes, s->nclasses, sizeof(*s->classes));
    copy->arenas = copy_array(s->arenas, s->narenas, sizeof(*s->arenas));
    copy->blocks = copy_array(s->blocks, copy->nblocks, sizeof(*s->blocks));
    if (copy->text == NULL || copy->strings == NULL || copy->locations == NULL
        || copy->nodes == NULL || copy->measures == NULL
        || copy->classes == NULL || copy->arenas == NULL
        || copy->blocks == NULL)
    {
        _PySnapshot_Free(copy);
        return NULL;
    }
    return copy;
}

struct tracer_snapshot *
_PySnapshot_Peak(struct tracer_snapshot *s)
{
    struct tracer_snapshot *peak = _PySnapshot_Copy(s, 0);
    if (peak == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < peak->nmeasures; i++) {
        uint64_t *m = peak->measures[i];
        m[SNAPSHOT_SIZE] = m[SNAPSHOT_PEAK_SIZE];
        m[SNAPSHOT_COUNT] = m[SNAPSHOT_PEAK_COUNT];
    }
    return peak;
}

uint32_t
_PySnapshot_AddString(struct tracer_snapshot *s, const char *utf8,
                      uint32_t length)
{
    struct snapshot_string *strings =
        realloc(s->strings, ((size_t)s->nstrings + 1) * sizeof(*strings));
    if (strings == NULL) {
        return SNAPSHOT_NONE;
    }
    s->strings = strings;
    char *text = realloc(s->text, s->text_size + length + 1);
    if (text == NULL) {
        return SNAPSHOT_NONE;
    }
    s->text = text;
    memcpy(text + s->text_size, utf8, length);
    strings[s->nstrings].offset = s->text_size;
    strings[s->nstrings].length = length;
    s->text_size += length;
    return s->nstrings++;
}

/* An odd number that whoever wrote a file could not know.  Where memory lies
   and the clock are different each time. */
static uint64_t
unknown_number(const void *p)
{
    struct timespec now = {0};
    (void)timespec_get(&now, TIME_UTC);
    uint64_t x = (uint64_t)(uintptr_t)p ^ (uint64_t)(uintptr_t)&now << 20
                 ^ (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) | 1;
}

int
_PySnapshot_PairsInit(struct snapshot_pairs *pairs)
{
    pairs->used = 0;
    pairs->mask = INITIAL_PAIRS - 1;
    pairs->keys = malloc(INITIAL_PAIRS * sizeof(*pairs->keys));
    pairs->numbers = malloc(INITIAL_PAIRS * sizeof(*pairs->numbers));
    if (pairs->keys == NULL || pairs->numbers == NULL) {
        return -1;
    }
    memset(pairs->numbers, 0xff, INITIAL_PAIRS * sizeof(*pairs->numbers));
    pairs->multiplier = unknown_number(pairs->keys);
    return 0;
}

void
_PySnapshot_PairsFree(struct snapshot_pairs *pairs)
{
    free(pairs->keys);
    free(pairs->numbers);
}

static uint32_t
pairs_slot(const struct snapshot_pairs *pairs, uint64_t key)
{
    /* The uppermost bits of the product: for two keys they are equal with one
       multiplier in as many as there are slots. */
    uint64_t product = (key * pairs->multiplier) >> 32;
    uint32_t i = (uint32_t)(product * ((uint64_t)pairs->mask + 1) >> 32);
    while (pairs->numbers[i] != SNAPSHOT_NONE && pairs->keys[i] != key) {
        i = (i + 1) & pairs->mask;
    }
    return i;
}

static int
pairs_grow(struct snapshot_pairs *pairs)
{
    struct snapshot_pairs old = *pairs;
    uint64_t size = ((uint64_t)old.mask + 1) * 2;
    if (size > UINT32_MAX) {
        return -1;
    }
    pairs->keys = malloc(size * sizeof(*pairs->keys));
    pairs->numbers = malloc(size * sizeof(*pairs->numbers));
    if (pairs->keys == NULL || pairs->numbers == NULL) {
        _PySnapshot_PairsFree(pairs);
        *pairs = old;
        return -1;
    }
    memset(pairs->numbers, 0xff, size * sizeof(*pairs->numbers));
    pairs->mask = (uint32_t)(size - 1);
    for (uint32_t i = 0; i <= old.mask; i++) {
        if (old.numbers[i] != SNAPSHOT_NONE) {
            uint32_t slot = pairs_slot(pairs, old.keys[i]);
            pairs->keys[slot] = old.keys[i];
            pairs->numbers[slot] = old.numbers[i];
        }
    }
    _PySnapshot_PairsFree(&old);
    return 0;
}

uint32_t
_PySnapshot_Pair(struct snapshot_pairs *pairs, uint32_t a, uint32_t b)
{
    uint64_t key = (uint64_t)a << 32 | b;
    uint32_t i = pairs_slot(pairs, key);
    if (pairs->numbers[i] != SNAPSHOT_NONE) {
        return pairs->numbers[i];
    }
    if (pairs->used >= pairs->mask / 4 * 3) {
        if (pairs_grow(pairs) < 0) {
            return SNAPSHOT_NONE;
        }
        i = pairs_slot(pairs, key);
    }
    pairs->keys[i] = key;
    pairs->numbers[i] = pairs->used;
    return pairs->used++;
}
