/* A kept call tree as it is in its file: header, directory, and the tables of
   the tree, see keep_tables.c. */

#ifndef TRACER_KEEP_TABLES_H
#define TRACER_KEEP_TABLES_H

#include "snapshot.h"

#include "pycore_tracer_kept.h"

struct kept {
    const uint8_t *image;
    size_t size;
    struct kept_header header;
    const struct kept_extent *extents;
    struct snapshot_error *error;
    uint32_t nnodes, nrares, nnatives, nsaved, epoch, peak;
    struct tracer_node *nodes;
    uint32_t *saved;
    struct tracer_rare *rares;
    struct tracer_counts *natives;
    struct tracer_spill *spills;
    uint8_t *rows;                // of the peak
    size_t rows_size;
};

#define AT(FIELD) offsetof(struct kept_header, FIELD)

static inline int
fail(struct kept *k, const char *reason, size_t offset)
{
    k->error->reason = reason;
    k->error->offset = offset;
    return -1;
}

/* 0, or -1: the file is not one, or refers to what is not in it. */
extern int _PyKept_CheckFile(struct kept *k);
/* How many items of an array are in the file; the others were lost if the file
   could not grow.  -1: they cannot be missing. */
extern int _PyKept_Cut(struct kept *k, enum kept_array array, uint64_t *n,
                       size_t item, size_t offset);
/* The first bytes of an array, zero where the file has nothing; NULL: no
   memory. */
extern void *_PyKept_Gather(const struct kept *k, enum kept_array array,
                            uint64_t size);
/* Nodes, counters and the peak.  0, or -1: no memory, if no reason is set. */
extern int _PyKept_ReadTables(struct kept *k);
extern void _PyKept_FreeTables(struct kept *k);

#endif /* !TRACER_KEEP_TABLES_H */
