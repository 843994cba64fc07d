/* Writing a snapshot in the native format, see
   Doc/library/tracemalloc_file.rst.

   Sections are streamed through one buffer; the header of a section, with its
   length and checksum, is filled in when the section ends. */

#define _POSIX_C_SOURCE 200809L   // pwrite()

#include "pycore_tracer_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_SIZE (256 * 1024)
#define MAX_RECORD 128            // bytes of the longest record

struct writer {
    int fd;
    int failed;                   // errno is set
    uint64_t offset;              // in the file, of the buffer
    uint64_t section;             // offset of its header
    uint32_t crc;
    size_t used;
    uint8_t buffer[BUFFER_SIZE];
};

static void
write_all(struct writer *w, const void *data, size_t size, uint64_t offset)
{
    const char *p = data;
    while (size > 0 && !w->failed) {
        ssize_t n = pwrite(w->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            w->failed = 1;
            return;
        }
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
}

static void
flush(struct writer *w)
{
    w->crc = _PySnapshot_CRC(w->crc, w->buffer, w->used);
    write_all(w, w->buffer, w->used, w->offset);
    w->offset += w->used;
    w->used = 0;
}

/* Room for one record. */
static inline void
room(struct writer *w)
{
    if (w->used > BUFFER_SIZE - MAX_RECORD) {
        flush(w);
    }
}

static inline void
put_byte(struct writer *w, unsigned byte)
{
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

static void
put_little(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

static void
put_bytes(struct writer *w, const char *data, uint64_t size)
{
    flush(w);
    w->crc = _PySnapshot_CRC(w->crc, data, size);
    write_all(w, data, size, w->offset);
    w->offset += size;
}

static void
begin(struct writer *w)
{
    w->section = w->offset;
    w->offset += SNAPSHOT_SECTION_SIZE;
    w->crc = 0;
}

static void
end(struct writer *w, uint32_t tag)
{
    flush(w);
    uint8_t header[SNAPSHOT_SECTION_SIZE];
    put_little(header, tag, 4);
    put_little(header + 4, w->crc, 4);
    put_little(header + 8, w->offset - w->section - sizeof(header), 8);
    write_all(w, header, sizeof(header), w->section);
}

static void
write_strings(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nstrings);
    for (uint32_t i = 0; i < s->nstrings; i++) {
        room(w);
        put(w, s->strings[i].length);
    }
    for (uint32_t i = 0; i < s->nstrings; i++) {
        const char *p = s->text + s->strings[i].offset;
        uint32_t left = s->strings[i].length;
        while (left > 0) {
            uint32_t n = left < MAX_RECORD ? left : MAX_RECORD;
            room(w);
            memcpy(w->buffer + w->used, p, n);
            w->used += n;
            p += n;
            left -= n;
        }
    }
}

static void
write_locations(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nlocations);
    for (uint32_t i = 0; i < s->nlocations; i++) {
        const struct snapshot_location *l = &s->locations[i];
        room(w);
        put(w, l->filename);
        put(w, l->function);
        put(w, (uint32_t)l->line + 1);
        put(w, (uint32_t)l->end_line + 1);
        put(w, (uint32_t)l->column + 1);
        put(w, (uint32_t)l->end_column + 1);
        put(w, (uint32_t)l->first_line + 1);
    }
}

/* What the caller is to the record before it. */
static unsigned
caller_code(const struct tracer_snapshot *s, uint32_t i)
{
    uint32_t parent = s->nodes[i].parent;
    if (parent == SNAPSHOT_NONE) {
        return SNAPSHOT_CALLER_NONE;
    }
    if (parent == i - 1) {
        return SNAPSHOT_CALLER_BEFORE;
    }
    return s->nodes[i - 1].parent == parent ? SNAPSHOT_CALLER_SAME
                                            : SNAPSHOT_CALLER_NUMBER;
}

static void
write_nodes(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nnodes);
    for (uint32_t i = 0; i < s->nnodes; i++) {
        const struct snapshot_node *node = &s->nodes[i];
        const uint64_t *m = node->measures;
        uint64_t expected[SNAPSHOT_NMEASURES] = {m[SNAPSHOT_SIZE],
                                                 m[SNAPSHOT_COUNT]};
        _PySnapshot_ExpectMeasures(expected);
        expected[SNAPSHOT_SIZE] = expected[SNAPSHOT_COUNT] = 0;
        uint32_t nframe = _PySnapshot_ExpectFrames(s, node->parent);
        unsigned code = caller_code(s, i);
        unsigned control = code
                           | (unsigned)(node->nframe != nframe)
                             * SNAPSHOT_NODE_NFRAME;
        for (int j = 0; j < SNAPSHOT_NMEASURES; j += 2) {
            if (m[j] != expected[j] || m[j + 1] != expected[j + 1]) {
                control |= SNAPSHOT_NODE_PAIR << j / 2;
            }
        }
        room(w);
        put_byte(w, control);
        if (code == SNAPSHOT_CALLER_NUMBER) {
            put(w, i - node->parent);
        }
        put(w, node->location);
        if (control & SNAPSHOT_NODE_NFRAME) {
            put(w, node->nframe);
        }
        for (int j = 0; j < SNAPSHOT_NMEASURES; j += 2) {
            if (control & SNAPSHOT_NODE_PAIR << j / 2) {
                put(w, m[j]);
                put(w, m[j + 1]);
            }
        }
    }
}

static void
write_classes(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->nclasses);
    for (uint32_t i = 0; i < s->nclasses; i++) {
        room(w);
        put(w, s->classes[i].name);
        put(w, s->classes[i].kind);
        put(w, s->classes[i].domain);
    }
}

static void
write_arenas(struct writer *w, const struct tracer_snapshot *s)
{
    put(w, s->narenas);
    for (uint32_t i = 0; i < s->narenas; i++) {
        room(w);
        put(w, s->arenas[i].address);
        put(w, s->arenas[i].size);
        put(w, s->arenas[i].used);
        put(w, s->arenas[i].blocks);
    }
}

static void
write_blocks(struct writer *w, const struct tracer_snapshot *s)
{
    struct snapshot_block last = {0};
    put(w, s->has_blocks);
    put(w, s->nblocks);
    for (uint64_t i = 0; i < s->nblocks; i++) {
        struct snapshot_block block = s->blocks[i];
        uint64_t step = block.address - last.address;
        unsigned control = (unsigned)(block.size == last.size)
                           | (unsigned)(block.node == last.node) << 1
                           | (unsigned)(block.class_ == last.class_) << 2;
        int small = (step & 15) == 0 && step < 31 * 16;
        room(w);
        put_byte(w, control | (small ? (unsigned)step >> 4 : 31u) << 3);
        if (!small) {
            put(w, _PySnapshot_ZigZag(step));
        }
        if (block.size != last.size) {
            put(w, block.size);
        }
        if (block.node != last.node) {
            put(w, _PySnapshot_ZigZag((uint64_t)block.node - last.node));
        }
        if (block.class_ != last.class_) {
            put(w, block.class_);
        }
        last = block;
    }
}

int
_PySnapshot_Write(const struct tracer_snapshot *s, int fd,
                  const char *meta, size_t meta_size)
{
    static const uint32_t tags[] = {
#define TAG(NAME, VALUE) VALUE,
        SNAPSHOT_SECTIONS(TAG)
#undef TAG
    };
    static void (*const sections[])(struct writer *,
                                    const struct tracer_snapshot *) = {
        [SNAPSHOT_SECTION_TEXT] = write_strings,
        [SNAPSHOT_SECTION_LOCS] = write_locations,
        [SNAPSHOT_SECTION_TREE] = write_nodes,
        [SNAPSHOT_SECTION_KIND] = write_classes,
        [SNAPSHOT_SECTION_ARNA] = write_arenas,
        [SNAPSHOT_SECTION_BLKS] = write_blocks,
    };
    struct writer *w = malloc(sizeof(*w));
    if (w == NULL) {
        errno = ENOMEM;
        return -1;
    }
    w->fd = fd;
    w->failed = 0;
    w->used = 0;
    w->offset = 0;
    uint8_t header[SNAPSHOT_HEADER_SIZE] = SNAPSHOT_MAGIC;
    put_little(header + SNAPSHOT_MAGIC_SIZE, SNAPSHOT_VERSION, 8);
    write_all(w, header, sizeof(header), 0);
    w->offset = sizeof(header);

    begin(w);
    put_bytes(w, meta, meta_size);
    end(w, tags[SNAPSHOT_SECTION_META]);
    for (int i = SNAPSHOT_SECTION_TEXT; i < SNAPSHOT_SECTION_DONE; i++) {
        begin(w);
        sections[i](w, s);
        end(w, tags[i]);
    }
    begin(w);
    put_little(w->buffer, w->offset + 8, 8);
    w->used = 8;
    end(w, tags[SNAPSHOT_SECTION_DONE]);
    int failed = w->failed;
    free(w);
    return failed ? -1 : 0;
}
