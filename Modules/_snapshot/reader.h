/* Reading numbers, counts and arrays of a file that is not trusted.

   The first failure is kept; after it everything reads as zero and the section
   is at its end, so that callers need to check r->failed only in loops. */

#ifndef TRACER_SNAPSHOT_READER_H
#define TRACER_SNAPSHOT_READER_H

#include "format.h"

/* A fuzzer would never get past a checksum or a sum. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#  define FUZZING 1
#else
#  define FUZZING 0
#endif

struct reader {
    const uint8_t *image;
    const uint8_t *p;             // next byte
    const uint8_t *end;           // of the section
    struct snapshot_error *error;
    int failed;
};

/* --- graph_read.c */
extern void _PySnapshot_ReadGraph(struct reader *r, struct tracer_snapshot *s);

/* --- history.c */
extern void _PySnapshot_ReadHistory(struct reader *r,
                                    struct tracer_snapshot *s);

/* --- native.c */
extern void _PySnapshot_ReadNative(struct reader *r,
                                   struct tracer_snapshot *s);

static inline void
fail_at(struct reader *r, const uint8_t *where, const char *reason)
{
    if (!r->failed) {
        r->failed = 1;
        r->error->reason = reason;
        r->error->offset = (uint64_t)(where - r->image);
    }
    r->p = r->end;
}

static inline void
fail(struct reader *r, const char *reason)
{
    fail_at(r, r->p, reason);
}

/* A number of up to 64 bits: 7 bits in each byte, the least first. */
static inline uint64_t
get_long(struct reader *r)
{
    const uint8_t *start = r->p;
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t byte = *r->p++;
        if (shift == 63 && byte > 1) {
            break;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    fail_at(r, start, r->p < r->end ? "number too large"
                                    : "section ends inside a number");
    return 0;
}

static inline uint64_t
get(struct reader *r)
{
    if (r->p < r->end && *r->p < 0x80) {
        return *r->p++;
    }
    return get_long(r);
}

static inline uint32_t
get_index(struct reader *r, uint32_t limit, const char *reason)
{
    const uint8_t *start = r->p;
    uint64_t value = get(r);
    if (value >= limit) {
        fail_at(r, start, reason);
        return 0;
    }
    return (uint32_t)value;
}

/* Any 32 bits. */
static inline uint32_t
get_word(struct reader *r, const char *reason)
{
    const uint8_t *start = r->p;
    uint64_t value = get(r);
    if (value > UINT32_MAX) {
        fail_at(r, start, reason);
        return 0;
    }
    return (uint32_t)value;
}

/* The index that is some way before or after the last one. */
static inline uint32_t
get_near(struct reader *r, uint32_t last, uint32_t limit, const char *reason)
{
    const uint8_t *start = r->p;
    uint64_t value = last + _PySnapshot_UnZigZag(get(r));
    if (value >= limit) {
        fail_at(r, start, reason);
        return 0;
    }
    return (uint32_t)value;
}

static inline unsigned
get_byte(struct reader *r)
{
    if (r->p == r->end) {
        fail(r, "section ends inside a record");
        return 0;
    }
    return *r->p++;
}

/* The number of records that follow, of at least `least` bytes each; in memory
   they are of `size`. */
static inline uint64_t
get_count(struct reader *r, size_t least, size_t size)
{
    const uint8_t *start = r->p;
    uint64_t n = get(r);
    if (n > (uint64_t)(r->end - r->p) / least || n >= PTRDIFF_MAX / size) {
        fail_at(r, start, "more records than the section can hold");
        return 0;
    }
    return n;
}

/* The same, and an array for them. */
static inline void *
get_array(struct reader *r, size_t least, size_t size, uint64_t *n)
{
    *n = get_count(r, least, size);
    void *array = _PySnapshot_Array(*n, size);
    if (array == NULL) {
        fail(r, NULL);
        *n = 0;
    }
    return array;
}

static inline void *
get_array32(struct reader *r, size_t least, size_t size, uint32_t *n)
{
    uint64_t n64;
    void *array = get_array(r, least, size, &n64);
    if (n64 >= SNAPSHOT_NONE) {
        fail(r, "too many records");
        n64 = 0;
    }
    *n = (uint32_t)n64;
    return array;
}

#endif /* !TRACER_SNAPSHOT_READER_H */
