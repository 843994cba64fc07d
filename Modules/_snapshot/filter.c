/* Filtering a snapshot: which blocks pass the filters.

   Filters by file and line are decided once for each node.  Filters by domain
   need the blocks.  If only some blocks of a node pass, the node keeps only
   the sums of these, since freed blocks are not known one by one. */

#include "snapshot.h"

#include <glib.h>

static int
match_location(const struct tracer_snapshot *s,
               const struct snapshot_filter *filter, uint32_t location)
{
    const struct snapshot_location *l = &s->locations[location];
    return filter->filenames == NULL
           || (filter->filenames[l->filename]
               && (filter->line < 0 || filter->line == l->line));
}

/* matches[i]: the file and line of a frame that the filter looks at match. */
static void
match_nodes(const struct tracer_snapshot *s,
            const struct snapshot_filter *filter, uint8_t *matches)
{
    for (uint32_t i = 0; i < s->nnodes; i++) {
        const struct snapshot_node *node = &s->nodes[i];
        assert(node->parent == SNAPSHOT_NONE || node->parent < i);
        matches[i] = (uint8_t)match_location(s, filter, node->location);
        if (filter->all_frames && node->parent != SNAPSHOT_NONE) {
            matches[i] |= matches[node->parent];
        }
    }
}

/* Does a block at a node that matches or not, of a domain, pass? */
static int
passes(const struct snapshot_filter *filter, int match, uint32_t domain)
{
    if (filter->by_domain) {
        match = match && domain == filter->domain;
    }
    return filter->inclusive ? match : !match;
}

static int
passes_all(const struct snapshot_filter *filters, size_t nfilters,
           const uint8_t *matches, size_t stride, uint32_t domain)
{
    int any_inclusive = 0;
    int included = 0;
    for (size_t f = 0; f < nfilters; f++) {
        int pass = passes(&filters[f], matches[f * stride], domain);
        if (filters[f].inclusive) {
            any_inclusive = 1;
            included |= pass;
        }
        else if (!pass) {
            return 0;
        }
    }
    return included || !any_inclusive;
}

/* Keep the blocks with keep[i] != 0.  If all blocks of a node (and at least
   one) stay, its sums do not change. */
static void
drop_blocks(struct tracer_snapshot *s, const uint8_t *keep,
            uint64_t (*sums)[2])
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->nblocks; i++) {
        if (keep[i]) {
            struct snapshot_block block = s->blocks[i];
            sums[block.node][0] += block.size;
            sums[block.node][1]++;
            s->blocks[n++] = block;
        }
    }
    s->nblocks = n;
    for (uint64_t i = 0; i < s->nheld; i++) {
        uint32_t node = s->held[i].node;
        if (_PySnapshot_Measures(s, node)[SNAPSHOT_COUNT] != sums[node][1]) {
            s->held[i].size = sums[node][0];
            s->held[i].count = sums[node][1];
        }
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        uint64_t *m = _PySnapshot_Measures(s, i);
        if (sums[i][1] == 0) {
            s->nodes[i].measures = 0;
        }
        else if (m[SNAPSHOT_COUNT] != sums[i][1]) {
            for (int j = 0; j < SNAPSHOT_GARBAGE_SIZE; j++) {
                m[j] = sums[i][j & 1];
            }
            m[SNAPSHOT_GARBAGE_SIZE] = m[SNAPSHOT_GARBAGE_COUNT] = 0;
        }
    }
}

struct tracer_snapshot *
_PySnapshot_Select(struct tracer_snapshot *s, const uint8_t *keep)
{
    struct tracer_snapshot *result = _PySnapshot_Copy(s, 1);
    SNAPSHOT_AUTO uint64_t (*sums)[2] =
        _PySnapshot_Zeroed((uint64_t)s->nnodes + 1, sizeof(*sums));
    if (result == NULL || sums == NULL) {
        _PySnapshot_Free(result);
        return NULL;
    }
    drop_blocks(result, keep, sums);
    return result;
}

/* A copy with the nodes of which keep[i] != 0: whole nodes pass or not. */
static struct tracer_snapshot *
copy_nodes(struct tracer_snapshot *s, const uint8_t *keep)
{
    struct tracer_snapshot *copy = _PySnapshot_Copy(s, 1);
    if (copy == NULL) {
        return NULL;
    }
    uint64_t n = 0;
    for (uint64_t i = 0; i < copy->nblocks; i++) {
        if (keep[copy->blocks[i].node]) {
            copy->blocks[n++] = copy->blocks[i];
        }
    }
    copy->nblocks = n;
    for (uint32_t i = 0; i < copy->nnodes; i++) {
        if (!keep[i]) {
            copy->nodes[i].measures = 0;
        }
    }
    return copy;
}

static struct tracer_snapshot *
filter_by_domain(struct tracer_snapshot *s,
                 const struct snapshot_filter *filters, size_t nfilters,
                 const uint8_t *matches)
{
    SNAPSHOT_AUTO uint8_t *keep = _PySnapshot_Unpack(s) < 0
        ? NULL : _PySnapshot_Array(s->nblocks, 1);
    if (keep == NULL) {
        return NULL;
    }
    for (uint64_t i = 0; i < s->nblocks; i++) {
        const struct snapshot_block *block = &s->blocks[i];
        keep[i] = (uint8_t)passes_all(filters, nfilters,
                                      matches + block->node, s->nnodes,
                                      s->classes[block->class_].domain);
    }
    return _PySnapshot_Select(s, keep);
}

struct tracer_snapshot *
_PySnapshot_Filter(struct tracer_snapshot *s,
                   const struct snapshot_filter *filters, size_t nfilters)
{
    int by_domain = 0;
    for (size_t f = 0; f < nfilters; f++) {
        by_domain |= filters[f].by_domain;
        if (filters[f].all_frames && _PySnapshot_Truncate(s) < 0) {
            return NULL;
        }
    }
    gsize n;
    if (!g_size_checked_mul(&n, s->nnodes, nfilters)) {
        return NULL;
    }
    SNAPSHOT_AUTO uint8_t *matches = _PySnapshot_Array(n, 1);
    if (matches == NULL) {
        return NULL;
    }
    for (size_t f = 0; f < nfilters; f++) {
        match_nodes(s, &filters[f], matches + f * s->nnodes);
    }
    if (by_domain) {
        return filter_by_domain(s, filters, nfilters, matches);
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        matches[i] = (uint8_t)passes_all(filters, nfilters, matches + i,
                                         s->nnodes, 0);
    }
    return copy_nodes(s, matches);
}

int
_PySnapshot_FilterLines(const struct tracer_snapshot *s,
                        const struct snapshot_filter *filters,
                        size_t nfilters, uint8_t *lines)
{
    SNAPSHOT_AUTO uint8_t *matches = _PySnapshot_Array(nfilters, 1);
    if (matches == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < s->nlocations; i++) {
        for (size_t f = 0; f < nfilters; f++) {
            matches[f] = (uint8_t)match_location(s, &filters[f], i);
        }
        lines[i] = (uint8_t)passes_all(filters, nfilters, matches, 1, 0);
    }
    return 0;
}

struct tracer_snapshot *
_PySnapshot_SelectLines(struct tracer_snapshot *s, const uint8_t *lines)
{
    if (_PySnapshot_Truncate(s) < 0) {
        return NULL;
    }
    SNAPSHOT_AUTO uint8_t *keep = _PySnapshot_Array(s->nnodes, 1);
    if (keep == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < s->nnodes; i++) {
        const struct snapshot_node *node = &s->nodes[i];
        keep[i] = lines[node->location]
            || (node->parent != SNAPSHOT_NONE && keep[node->parent]);
    }
    return copy_nodes(s, keep);
}
