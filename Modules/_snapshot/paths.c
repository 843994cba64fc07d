/* A call tree in the making: from the paths of blocks, outermost frame first.

   A path is (path of the caller, location).  Nodes at the end of equal paths
   stay separate if the stacks had different numbers of frames, since a trace
   shows that number; callers are shared. */

#include "snapshot.h"

int
_PySnapshot_PathsInit(struct snapshot_paths *paths)
{
    memset(paths, 0, sizeof(*paths));
    if (_PySnapshot_PairsInit(&paths->paths) < 0
        || _PySnapshot_PairsInit(&paths->ends) < 0
        || _PySnapshot_Reserve(&paths->nodes, &paths->nodes_size, 1,
                               sizeof(*paths->nodes)) < 0
        || _PySnapshot_Reserve(&paths->measures, &paths->measures_size, 1,
                               sizeof(*paths->measures)) < 0)
    {
        return -1;
    }
    memset(paths->measures[0], 0, sizeof(*paths->measures));
    paths->nmeasures = 1;
    return 0;
}

void
_PySnapshot_PathsFree(struct snapshot_paths *paths)
{
    _PySnapshot_PairsFree(&paths->paths);
    _PySnapshot_PairsFree(&paths->ends);
    _PySnapshot_Release(paths->path_nodes);
    _PySnapshot_Release(paths->end_nodes);
    _PySnapshot_Release(paths->nodes);
    _PySnapshot_Release(paths->measures);
}

/* A caller's stack has one frame less. The number is not visible for a node
   without measures, but setting it makes a file smaller. */
static void
count_frames(struct snapshot_paths *paths)
{
    for (uint32_t i = paths->nnodes; i-- > 0; ) {
        const struct snapshot_node *node = &paths->nodes[i];
        if (node->parent != SNAPSHOT_NONE && node->nframe > 1
            && paths->nodes[node->parent].measures == 0)
        {
            paths->nodes[node->parent].nframe = node->nframe - 1;
        }
    }
}

void
_PySnapshot_PathsMove(struct snapshot_paths *paths, struct tracer_snapshot *s)
{
    count_frames(paths);
    _PySnapshot_Release(s->nodes);
    _PySnapshot_Release(s->measures);
    s->nodes = paths->nodes;
    s->nnodes = paths->nnodes;
    s->measures = paths->measures;
    s->nmeasures = paths->nmeasures;
    paths->nodes = NULL;
    paths->measures = NULL;
}

static uint32_t
add_node(struct snapshot_paths *paths, uint32_t parent, uint32_t location)
{
    assert(parent == SNAPSHOT_NONE || parent < paths->nnodes);
    if (_PySnapshot_Reserve(&paths->nodes, &paths->nodes_size,
                            paths->nnodes + 1, sizeof(*paths->nodes)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    struct snapshot_node *node = &paths->nodes[paths->nnodes];
    memset(node, 0, sizeof(*node));
    node->parent = parent;
    node->location = location;
    return paths->nnodes++;
}

uint32_t
_PySnapshot_Path(struct snapshot_paths *paths, uint32_t caller,
                 uint32_t location)
{
    uint32_t known = paths->paths.used;
    assert(caller == SNAPSHOT_NONE || caller < known);
    uint32_t found = _PySnapshot_Pair(&paths->paths, caller + 1, location);
    if (found != known || found == SNAPSHOT_NONE) {
        return found;
    }
    if (_PySnapshot_Reserve(&paths->path_nodes, &paths->paths_size,
                            found + 1, sizeof(uint32_t)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    uint32_t parent = caller == SNAPSHOT_NONE ? SNAPSHOT_NONE
                                              : paths->path_nodes[caller];
    uint32_t node = add_node(paths, parent, location);
    paths->path_nodes[found] = node;
    return node == SNAPSHOT_NONE ? SNAPSHOT_NONE : found;
}

uint32_t
_PySnapshot_PathEnd(struct snapshot_paths *paths, uint32_t path,
                    uint32_t nframe)
{
    uint32_t known = paths->ends.used;
    assert(path < paths->paths.used);
    uint32_t found = _PySnapshot_Pair(&paths->ends, path, nframe);
    if (found == SNAPSHOT_NONE) {
        return SNAPSHOT_NONE;
    }
    if (found != known) {
        return paths->end_nodes[found];
    }
    if (_PySnapshot_Reserve(&paths->end_nodes, &paths->ends_size,
                            found + 1, sizeof(uint32_t)) < 0
        || _PySnapshot_Reserve(&paths->measures, &paths->measures_size,
                               paths->nmeasures + 1,
                               sizeof(*paths->measures)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    uint32_t node = paths->path_nodes[path];
    if (paths->nodes[node].measures != 0) {
        node = add_node(paths, paths->nodes[node].parent,
                        paths->nodes[node].location);
        if (node == SNAPSHOT_NONE) {
            return node;
        }
    }
    paths->end_nodes[found] = node;
    paths->nodes[node].nframe = nframe;
    memset(paths->measures[paths->nmeasures], 0, sizeof(*paths->measures));
    paths->nodes[node].measures = paths->nmeasures++;
    return node;
}

int
_PySnapshot_Preorder(const struct tracer_snapshot *s, uint32_t *order)
{
    uint32_t n = s->nnodes;
    SNAPSHOT_AUTO uint32_t *first = _PySnapshot_Array((uint64_t)n + 1,
                                                      sizeof(*first));
    SNAPSHOT_AUTO uint32_t *next = _PySnapshot_Array(n, sizeof(*next));
    if (first == NULL || next == NULL) {
        return -1;
    }
    memset(first, 0xff, ((size_t)n + 1) * sizeof(*first));
    for (uint32_t i = n; i-- > 0; ) {
        uint32_t parent = s->nodes[i].parent;
        uint32_t *head = &first[parent == SNAPSHOT_NONE ? n : parent];
        next[i] = *head;
        *head = i;
    }
    uint32_t node = first[n];
    for (uint32_t i = 0; i < n; i++) {
        assert(node < n);
        order[i] = node;
        if (first[node] != SNAPSHOT_NONE) {
            node = first[node];
            continue;
        }
        while (node != SNAPSHOT_NONE && next[node] == SNAPSHOT_NONE) {
            node = s->nodes[node].parent;
        }
        node = node == SNAPSHOT_NONE ? node : next[node];
    }
    assert(node == SNAPSHOT_NONE);            // each one has its number
    return 0;
}
