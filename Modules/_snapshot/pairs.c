/* A table of pairs, on which nearly all grouping is based. GLib's table is not
   used, because it ends the process when there is no memory, and this table
   grows with the snapshot. GLib's is also slower, by two thirds for a million
   pairs, and fourfold for a hundred. */

#include "snapshot.h"

#include <glib.h>

#define INITIAL_PAIRS 256

/* The odd factor of the hash: the author of a file cannot know it, and so
   cannot choose keys that collide. */
static uint64_t multiplier;

int
_PySnapshot_PairsInit(struct snapshot_pairs *pairs)
{
    pairs->used = 0;
    pairs->mask = INITIAL_PAIRS - 1;
    pairs->keys = _PySnapshot_Array(INITIAL_PAIRS, sizeof(*pairs->keys));
    pairs->numbers = _PySnapshot_Array(INITIAL_PAIRS, sizeof(*pairs->numbers));
    if (pairs->keys == NULL || pairs->numbers == NULL) {
        return -1;
    }
    memset(pairs->numbers, 0xff, INITIAL_PAIRS * sizeof(*pairs->numbers));
    /* The module calls this once, before other threads can use the table. */
    if (multiplier == 0) {
        multiplier = (uint64_t)g_random_int() << 32 | g_random_int() | 1;
    }
    return 0;
}

void
_PySnapshot_PairsFree(struct snapshot_pairs *pairs)
{
    _PySnapshot_Release(pairs->keys);
    _PySnapshot_Release(pairs->numbers);
}

static uint32_t
pairs_slot(const struct snapshot_pairs *pairs, uint64_t key)
{
    /* The uppermost bits of the product: for two keys they are equal with one
       multiplier in as many as there are slots. */
    uint64_t product = (key * multiplier) >> 32;
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
    pairs->keys = _PySnapshot_Array(size, sizeof(*pairs->keys));
    pairs->numbers = _PySnapshot_Array(size, sizeof(*pairs->numbers));
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
    assert(pairs->used <= pairs->mask);       // or a search would not end
    uint32_t i = pairs_slot(pairs, key);
    if (pairs->numbers[i] != SNAPSHOT_NONE) {
        return pairs->numbers[i];
    }
    if (pairs->used >= pairs->mask / 4 * 3) {
        if (pairs_grow(pairs) < 0) {
            return SNAPSHOT_NONE;
        }
        i = pairs_slot(pairs, key);
        assert(pairs->numbers[i] == SNAPSHOT_NONE);
    }
    pairs->keys[i] = key;
    pairs->numbers[i] = pairs->used;
    return pairs->used++;
}
