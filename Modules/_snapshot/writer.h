/* Writing numbers through a buffer. */

#ifndef TRACER_SNAPSHOT_WRITER_H
#define TRACER_SNAPSHOT_WRITER_H

#include "format.h"

#define BUFFER_SIZE (256 * 1024)
#define MAX_RECORD 128            // bytes of the longest record

struct writer {
    int fd;
    int failed;                   // errno is set
    uint64_t offset;              // in the file, of the buffer
    uint64_t section;             // offset of its header
    uint32_t crc;
    uint32_t *order;              // nodes as they are written
    uint32_t *numbers;            // of the nodes in the file
    const struct snapshot_beside *beside;
    size_t end;                   // of the record that there is room for
    size_t used;
    uint8_t buffer[BUFFER_SIZE];
};

/* --- file_write.c */
extern void _PySnapshot_Flush(struct writer *w);

/* --- graph_write.c */
extern void _PySnapshot_WriteGraph(struct writer *w,
                                   const struct tracer_snapshot *s);

/* --- history.c */
extern void _PySnapshot_WriteHistory(struct writer *w,
                                     const struct tracer_snapshot *s);

/* --- native.c */
extern void _PySnapshot_WriteNative(struct writer *w,
                                    const struct tracer_snapshot *s);

/* Room for one record. */
static inline void
room(struct writer *w)
{
    if (w->used > BUFFER_SIZE - MAX_RECORD) {
        _PySnapshot_Flush(w);
    }
    w->end = w->used + MAX_RECORD;
}

static inline void
put_byte(struct writer *w, unsigned byte)
{
    assert(w->used < w->end);
    w->buffer[w->used++] = (uint8_t)byte;
}

static inline void
put(struct writer *w, uint64_t value)
{
    while (value >= 0x80) {
        put_byte(w, (value & 0x7f) | 0x80);
        value >>= 7;
    }
    put_byte(w, (unsigned)value);
}

/* The difference of two numbers. */
static inline void
put_difference(struct writer *w, uint64_t value, uint64_t last)
{
    put(w, _PySnapshot_ZigZag(value - last));
}

#endif /* !TRACER_SNAPSHOT_WRITER_H */
