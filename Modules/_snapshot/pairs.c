/* A table of pairs, from which nearly all grouping is made. */

#include "snapshot.h"

#include <time.h>

#define INITIAL_PAIRS 256

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
