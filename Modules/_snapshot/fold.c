/* Folding a snapshot: frames that a view hides have no nodes, and their blocks
   are charged to the next caller that is shown. Blocks without such a caller
   have a place of their own, outermost and without callees, so the sums do not
   change.

   The origin of blocks may be remembered: each node then has the location that
   allocated, and a path has a node for each origin. By task, only one frame of
   a path is shown: the coroutine of a task, or a callback. It is the first
   frame that an event loop has called and that is not in the loop's own
   library. */

#include "snapshot.h"

struct fold {
    struct tracer_snapshot *s;
    const uint8_t *kinds;         // enum snapshot_fold, by text
    int origins;                  // remember them
    int failed;                   // no memory
    uint32_t rest;                // location of what nobody shown allocated
    const uint8_t *runners;       // by text: a function that runs tasks
    uint8_t *searched;            // by node: in a loop, not yet in a task
    struct snapshot_paths paths;  // what is made
    uint32_t *shown;              // path of the shown frames, by node, or NONE
    uint32_t *moved;              // new node, by node; NONE: had no blocks
};

static int
is_shown(const struct fold *fold, uint32_t id)
{
    const struct snapshot_node *node = &fold->s->nodes[id];
    uint32_t filename = fold->s->locations[node->location].filename;
    return fold->kinds[filename] == SNAPSHOT_SHOW
           || (fold->kinds[filename] == SNAPSHOT_HIDE_CALLED
               && node->parent == SNAPSHOT_NONE);
}

static uint32_t
path_to(struct fold *fold, uint32_t caller, uint32_t location)
{
    uint32_t path = _PySnapshot_Path(&fold->paths, caller, location);
    fold->failed |= path == SNAPSHOT_NONE;
    return path;
}

/* Path of the shown frames down to a node; NONE: no frame is shown. */
static uint32_t
shown_path(struct fold *fold, uint32_t id, uint32_t caller)
{
    return !is_shown(fold, id) ? caller
           : path_to(fold, caller, fold->s->nodes[id].location);
}

/* The same where only the frame of the task is. */
static uint32_t
task_path(struct fold *fold, uint32_t id, uint32_t caller)
{
    const struct snapshot_node *node = &fold->s->nodes[id];
    const struct snapshot_location *at = &fold->s->locations[node->location];
    int is_library = fold->kinds[at->filename] != SNAPSHOT_SHOW;
    int searched = node->parent != SNAPSHOT_NONE
                   && fold->searched[node->parent];
    if (is_library && fold->runners[at->function]) {
        fold->searched[id] = 1;
        return SNAPSHOT_NONE;
    }
    fold->searched[id] = searched && is_library;
    if (!searched || (is_library && caller != SNAPSHOT_NONE)) {
        return caller;
    }
    return path_to(fold, SNAPSHOT_NONE, node->location);
}

/* Give the measures of an old node to its new one. nframe keeps ends of equal
   paths apart; until all nodes are made, it is the number of the origin +
   1. */
static int
move_measures(struct fold *fold, uint32_t id, int shown)
{
    const struct snapshot_node *old = &fold->s->nodes[id];
    uint32_t path = fold->shown[id];
    if (path == SNAPSHOT_NONE) {
        path = _PySnapshot_Path(&fold->paths, SNAPSHOT_NONE, fold->rest);
    }
    uint32_t origin = shown || !fold->origins ? 0 : old->location + 1;
    uint32_t id_there = path == SNAPSHOT_NONE
        ? SNAPSHOT_NONE : _PySnapshot_PathEnd(&fold->paths, path, origin);
    fold->moved[id] = id_there;
    if (id_there == SNAPSHOT_NONE) {
        return -1;
    }
    uint64_t *to = fold->paths.measures[fold->paths.nodes[id_there].measures];
    for (int m = 0; m < SNAPSHOT_NMEASURES; m++) {
        to[m] += fold->s->measures[old->measures][m];
    }
    return 0;
}

static int
move_nodes(struct fold *fold)
{
    const struct tracer_snapshot *s = fold->s;
    for (uint32_t id = 0; id < s->nnodes; id++) {
        const struct snapshot_node *node = &s->nodes[id];
        assert(node->parent == SNAPSHOT_NONE || node->parent < id);
        uint32_t caller = node->parent == SNAPSHOT_NONE
            ? SNAPSHOT_NONE : fold->shown[node->parent];
        fold->moved[id] = SNAPSHOT_NONE;
        fold->shown[id] = fold->runners == NULL
            ? shown_path(fold, id, caller) : task_path(fold, id, caller);
        if (fold->failed) {
            return -1;
        }
        if (node->measures != 0
            && move_measures(fold, id, is_shown(fold, id)) < 0)
        {
            return -1;
        }
    }
    return 0;
}

/* Add the location of all that has no other: a file with this name. */
static uint32_t
add_place(struct tracer_snapshot *s, const char *name, size_t length)
{
    void *p = _PySnapshot_Resize(s->locations, (uint64_t)s->nlocations + 1,
                                 sizeof(*s->locations));
    if (p == NULL) {
        return SNAPSHOT_NONE;
    }
    s->locations = p;
    struct snapshot_location *place = &s->locations[s->nlocations];
    *place = (struct snapshot_location){
        .end_line = -1, .column = -1, .end_column = -1, .first_line = -1,
    };
    place->filename = _PySnapshot_AddString(s, name, (uint32_t)length);
    place->function = _PySnapshot_AddString(s, "", 0);
    return place->filename == SNAPSHOT_NONE || place->function == SNAPSHOT_NONE
        ? SNAPSHOT_NONE : s->nlocations++;
}

/* Take over the new nodes. Blocks are left where they are until one is
   needed. */
static int
finish(struct fold *fold, struct tracer_snapshot *to)
{
    uint32_t *origins = NULL;
    if (fold->origins) {
        origins = _PySnapshot_Array(fold->paths.nnodes, sizeof(uint32_t));
        if (origins == NULL) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < fold->paths.nnodes; i++) {
        struct snapshot_node *node = &fold->paths.nodes[i];
        if (origins != NULL) {
            origins[i] = node->nframe == 0 ? SNAPSHOT_NONE : node->nframe - 1;
        }
        node->nframe = 0;
    }
    _PySnapshot_MoveHeld(to, fold->moved);
    _PySnapshot_PathsMove(&fold->paths, to);
    _PySnapshot_Release(to->origins);
    to->origins = origins;
    _PySnapshot_Release(to->blocks);
    to->blocks = NULL;
    to->has_blocks = fold->s->has_blocks;
    to->nblocks = fold->s->nblocks;
    to->graph = _PySnapshot_ShareGraph(fold->s->graph);
    to->native = _PySnapshot_ShareNative(fold->s->native);
    to->source = fold->s;
    to->moved = fold->moved;
    fold->moved = NULL;
    return 0;
}

struct tracer_snapshot *
_PySnapshot_Fold(struct tracer_snapshot *s, const uint8_t *kinds,
                 const uint8_t *runners, const char *rest, size_t length,
                 int origins)
{
    struct tracer_snapshot *copy =
        _PySnapshot_Truncate(s) < 0 ? NULL : _PySnapshot_Copy(s, 0);
    if (copy == NULL) {
        return NULL;
    }
    SNAPSHOT_AUTO uint32_t *shown = _PySnapshot_Array(s->nnodes,
                                                      sizeof(uint32_t));
    SNAPSHOT_AUTO uint8_t *searched = _PySnapshot_Zeroed(s->nnodes, 1);
    struct fold fold = {
        .s = s, .kinds = kinds, .runners = runners, .origins = origins,
        .searched = searched,
        .rest = add_place(copy, rest, length), .shown = shown,
        .moved = _PySnapshot_Array(s->nnodes, sizeof(uint32_t)),
    };
    int result = _PySnapshot_PathsInit(&fold.paths);
    if (shown == NULL || searched == NULL || fold.moved == NULL
        || fold.rest == SNAPSHOT_NONE
        || result < 0 || move_nodes(&fold) < 0 || finish(&fold, copy) < 0)
    {
        _PySnapshot_Free(copy);
        copy = NULL;
    }
    _PySnapshot_PathsFree(&fold.paths);
    _PySnapshot_Release(fold.moved);
    return copy;
}
