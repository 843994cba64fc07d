/* Index of the tracer's tables, see pycore_tracer_index.h. */

#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"

#define NUMBER_MASK (TRACER_INDEX_MAX - 1)

int
_PyTracer_IndexInit(struct tracer_index *index, uint32_t nbuckets)
{
    _PyTracer_ASSERT_LOCKED();
    assert(nbuckets > 1 && (nbuckets & (nbuckets - 1)) == 0);
    index->mask = nbuckets - 1;
    index->used = 0;
    index->buckets = _PyTracer_MemAlloc(nbuckets * sizeof(uint32_t));
    return index->buckets == NULL ? -1 : 0;
}

void
_PyTracer_IndexClear(struct tracer_index *index)
{
    _PyTracer_MemFree(index->buckets,
                      ((size_t)index->mask + 1) * sizeof(uint32_t));
    *index = (struct tracer_index){0};
}

void
_PyTracer_IndexEmpty(struct tracer_index *index)
{
    memset(index->buckets, 0, ((size_t)index->mask + 1) * sizeof(uint32_t));
    index->used = 0;
}

uint32_t
_PyTracer_IndexFind(const struct tracer_index *index, uint32_t hash,
                    tracer_index_equal equal, const void *key)
{
    const uint32_t *buckets = index->buckets;
    uint32_t mask = index->mask;
    _PyTracer_ASSERT_LOCKED();
    assert(buckets != NULL && index->used < mask);      // so it ends
    for (uint32_t i = hash & mask; buckets[i] != 0; i = (i + 1) & mask) {
        if (((buckets[i] ^ hash) & ~NUMBER_MASK) == 0) {
            uint32_t number = buckets[i] & NUMBER_MASK;
            if (equal(number, key)) {
                return number;
            }
        }
    }
    return 0;
}

void
_PyTracer_IndexAdd(struct tracer_index *index, uint32_t hash, uint32_t number)
{
    assert(number > 0 && number < TRACER_INDEX_MAX);
    assert(index->used < index->mask);
    uint32_t i = hash & index->mask;
    while (index->buckets[i] != 0) {
        i = (i + 1) & index->mask;
    }
    index->buckets[i] = (hash & ~NUMBER_MASK) | number;
    index->used++;
}

static int
grow(struct tracer_index *index, tracer_index_hash hash_of)
{
    struct tracer_index grown;
    if (_PyTracer_IndexInit(&grown, (index->mask + 1) * 2) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i <= index->mask; i++) {
        uint32_t number = index->buckets[i] & NUMBER_MASK;
        if (number != 0) {
            _PyTracer_IndexAdd(&grown, hash_of(number), number);
        }
    }
    assert(grown.used == index->used);
    _PyTracer_IndexClear(index);
    *index = grown;
    return 0;
}

/* Without memory to grow, it may get a little fuller. */
int
_PyTracer_IndexReserve(struct tracer_index *index, tracer_index_hash hash_of)
{
    if (index->used < index->mask - index->mask / 8
        || grow(index, hash_of) == 0)
    {
        return 0;
    }
    return index->used < index->mask - index->mask / 16 ? 0 : -1;
}
