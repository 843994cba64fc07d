/* Tracebacks of a snapshot, cut to the limit.

   With a limit of k frames the tracer keeps paths of up to 5 k, see
   tracer_stack.c; only the k most recent frames count.  Cutting makes
   different nodes equal: they are merged here.

   Most programs never reach their limit; then there is nothing to do. */

#include "snapshot.h"

/* Give the measures of an old node to its new one; `buffer` has room for a
   path. */
static uint32_t
move_node(const struct tracer_snapshot *s, struct snapshot_paths *paths,
          uint32_t id, uint32_t *buffer)
{
    const struct snapshot_node *old = &s->nodes[id];
    uint32_t n = 0;
    for (uint32_t i = id; i != SNAPSHOT_NONE && n < s->limit;
         i = s->nodes[i].parent)
    {
        buffer[n++] = s->nodes[i].location;
    }
    uint32_t path = SNAPSHOT_NONE;
    while (n > 0) {
        path = _PySnapshot_Path(paths, path, buffer[--n]);
        if (path == SNAPSHOT_NONE) {
            return path;
        }
    }
    uint32_t new_id = _PySnapshot_PathEnd(paths, path, old->nframe);
    if (new_id != SNAPSHOT_NONE) {
        uint64_t *to = paths->measures[paths->nodes[new_id].measures];
        for (int m = 0; m < SNAPSHOT_NMEASURES; m++) {
            to[m] += s->measures[old->measures][m];
        }
    }
    return new_id;
}

static int
move_nodes(const struct tracer_snapshot *s, struct snapshot_paths *paths,
           uint32_t *moved)
{
    uint32_t longest = s->limit < s->nnodes ? s->limit : s->nnodes;
    SNAPSHOT_AUTO uint32_t *buffer = _PySnapshot_Array(longest,
                                                       sizeof(uint32_t));
    int result = buffer == NULL ? -1 : 0;
    for (uint32_t id = 0; result == 0 && id < s->nnodes; id++) {
        moved[id] = SNAPSHOT_NONE;
        if (s->nodes[id].measures != 0) {
            moved[id] = move_node(s, paths, id, buffer);
            result = moved[id] == SNAPSHOT_NONE ? -1 : 0;
        }
    }
    return result;
}

/* Nonzero if a path is longer than the limit, or may have begun before its
   first frame; -1: no memory. */
static int
must_cut(const struct tracer_snapshot *s)
{
    if (s->truncate) {
        return 1;
    }
    SNAPSHOT_AUTO uint32_t *length = _PySnapshot_Array(s->nnodes,
                                                       sizeof(uint32_t));
    if (length == NULL) {
        return -1;
    }
    int result = 0;
    for (uint32_t id = 0; id < s->nnodes; id++) {
        uint32_t parent = s->nodes[id].parent;
        length[id] = parent == SNAPSHOT_NONE ? 1 : length[parent] + 1;
        result |= length[id] > s->limit;
    }
    return result;
}

int
_PySnapshot_Truncate(struct tracer_snapshot *s)
{
    if (s->limit == UINT32_MAX) {
        return 0;
    }
    int result = must_cut(s);
    if (result <= 0) {
        s->limit = result == 0 ? UINT32_MAX : s->limit;
        return result;
    }
    if (_PySnapshot_Unpack(s) < 0) {
        return -1;
    }
    struct snapshot_paths paths;
    SNAPSHOT_AUTO uint32_t *moved = _PySnapshot_Array(s->nnodes,
                                                      sizeof(uint32_t));
    result = _PySnapshot_PathsInit(&paths);
    if (moved == NULL || (result == 0 && move_nodes(s, &paths, moved) < 0)) {
        result = -1;
    }
    if (result == 0) {
        for (uint64_t i = 0; i < s->nblocks; i++) {
            s->blocks[i].node = moved[s->blocks[i].node];
        }
        _PySnapshot_MoveHeld(s, moved);
        _PySnapshot_PathsMove(&paths, s);
        s->truncate = 0;
        s->limit = UINT32_MAX;
    }
    _PySnapshot_PathsFree(&paths);
    return result;
}

struct tracer_snapshot *
_PySnapshot_Cut(struct tracer_snapshot *s, uint32_t limit)
{
    assert(limit > 0);
    /* Its own limit comes first: that one decides what is too long. */
    struct tracer_snapshot *copy =
        _PySnapshot_Truncate(s) < 0 ? NULL : _PySnapshot_Copy(s, 1);
    if (copy == NULL) {
        return NULL;
    }
    /* Of nodes that are merged nobody knows where all was allocated. */
    _PySnapshot_Release(copy->origins);
    copy->origins = NULL;
    copy->limit = limit;
    if (_PySnapshot_Truncate(copy) < 0) {
        _PySnapshot_Free(copy);
        return NULL;
    }
    return copy;
}
