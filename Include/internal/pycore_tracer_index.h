/* Index of the tracer's tables: from the hash of an item to its number.

   Open addressing with linear probing, at most 7/8 full, or 15/16 where there
   is no memory to grow.  A bucket holds the number (1 <= number <
   TRACER_INDEX_MAX) and ten bits of the hash, so that a wrong item is rarely
   compared. Items are not removed one by one.  All functions are called with
   _PyTracer_lock held. */

#ifndef Py_INTERNAL_TRACER_INDEX_H
#define Py_INTERNAL_TRACER_INDEX_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>

#define TRACER_INDEX_BITS 22
#define TRACER_INDEX_MAX (1u << TRACER_INDEX_BITS)

/* Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, 6.4. */
#define TRACER_GOLDEN_32 0x9e3779b1u              // 2**32 / the golden ratio
#define TRACER_GOLDEN_64 0x9e3779b97f4a7c15u      // 2**64 / the same

static inline uint32_t
_PyTracer_Hash(uint64_t x)
{
    return (uint32_t)((x * TRACER_GOLDEN_64) >> 32);
}

struct tracer_index {
    uint32_t *buckets;            // hash & ~mask of bits | number; 0: empty
    uint32_t mask;                // power of two - 1
    uint32_t used;
};

/* Does the item with this number have the key whose hash is `hash`? */
typedef int (*tracer_index_equal)(uint32_t number, const void *key);
typedef uint32_t (*tracer_index_hash)(uint32_t number);

/* 0, or -1: no memory. */
extern int _PyTracer_IndexInit(struct tracer_index *index, uint32_t nbuckets);
extern void _PyTracer_IndexClear(struct tracer_index *index);
/* Forget all items, keep the buckets. */
extern void _PyTracer_IndexEmpty(struct tracer_index *index);
/* Number of the item, 0: there is none. */
extern uint32_t _PyTracer_IndexFind(const struct tracer_index *index,
                                    uint32_t hash, tracer_index_equal equal,
                                    const void *key);
/* Make room for one more item; 0, or -1: no memory. */
extern int _PyTracer_IndexReserve(struct tracer_index *index,
                                  tracer_index_hash hash_of);
/* Add an item that is not there, after Reserve(). */
extern void _PyTracer_IndexAdd(struct tracer_index *index, uint32_t hash,
                               uint32_t number);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_INDEX_H */
