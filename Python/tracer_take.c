/* Taking a snapshot.

   A snapshot shows one moment, at which everything is copied while no other
   thread runs: the call tree (tracer_take_tree.c), the live blocks
   (tracer_take_blocks.c), the references (tracer_heap.c).  That must be short.
   So memory is allocated before it (tracer_rooms.c), and everything that can
   be computed from the copies is computed after it, both without the GIL.  Or
   a child process, which has a copy of everything, copies the blocks and the
   references while the program goes on (tracer_heap_child.c).  No Python
   object is made while the tracer is read, and memory comes from the C
   library, so that the snapshot does not show itself. */

#include "Python.h"

#include <stdlib.h>

#include "pycore_tracer_count.h"
#include "pycore_tracer_freelist.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_heap.h"
#include "pycore_tracer_history.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_take.h"
#include "pycore_tracer_take_blocks.h"
#include "pycore_tracer_take_tree.h"
#include "pycore_tracer_valid.h"

struct copier {
    struct tracer_snapshot *s;
    int with_blocks;
    int references;               // enum tracer_references
    struct tracer_rooms rooms;
    struct tracer_tree_copy tree;
    struct tracer_peaks_copy peaks;
    struct tracer_blocks_copy blocks;
    struct tracer_segments segments;
    struct tracer_heap_interpreters interpreters;
    struct tracer_heap heap;
    int has_heap;
    struct tracer_heap_child child;
};

static int
has_child(const struct copier *c)
{
    const int both = TRACER_REFERENCES | TRACER_IN_CHILD;
    return c->with_blocks && (c->references & both) == both;
}

/* --- The moment */

static void
copy_totals(struct tracer_totals *totals)
{
    totals->current = (uint64_t)_PyTracer_Current();
    totals->peak = (uint64_t)_PyTracer_Peak();
    totals->native = (uint64_t)_PyTracer_native.current;
    totals->native_peak = (uint64_t)_PyTracer_NativePeak();
    totals->untraced = _PyTracer.untraced;
    totals->folded = _PyTracer_tree.folded;
    totals->pruned = _PyTracer_tree.pruned;
    for (int i = 0; i < _PyTracer_HAS_FREELISTS; i++) {
        _PyTracer_GetParked(i, &totals->parked[i][0], &totals->parked[i][1]);
    }
    totals->growth = _PyTracer_CopyGrowth();
    (void)PyTime_MonotonicRaw(&totals->time);
}

static int
copy_blocks(struct copier *c)
{
    if (_PyTracer_PrepareBlocks(&c->blocks) < 0) {
        return -1;
    }
    if (has_child(c)) {
        _PyTracer_KeepTypes(&c->blocks.types, 1);
        return _PyTracer_ForkHeap(&c->child, &c->interpreters,
                                  c->references & TRACER_KEYS, &c->blocks,
                                  &c->segments);
    }
    return _PyTracer_CopyBlocks(&c->blocks);
}

static int
copy_all(struct copier *c, struct tracer_totals *totals)
{
    if (!_PyTracer.tracing) {
        c->s->limit = UINT32_MAX;
        return 0;
    }
    c->s->limit = _PyTracer.limit;
    _PyTracer_AssertValid("take_snapshot");
    copy_totals(totals);
    if (_PyTracer_CopyPeaks(&c->peaks) < 0
        || _PyTracer_CopyTree(c->s, &c->tree, &c->rooms) < 0)
    {
        return -1;
    }
    return c->with_blocks ? copy_blocks(c) : 0;
}

static int
copy_heap(struct copier *c)
{
    if (!(c->references & TRACER_REFERENCES) || !c->s->has_blocks) {
        return 0;
    }
    c->has_heap = _PyTracer_CaptureHeap(&c->heap, &c->interpreters,
                                        c->references & TRACER_KEYS) == 0;
    return c->has_heap ? 0 : -1;
}

static int
copy(struct copier *c, struct tracer_totals *totals)
{
    if (c->with_blocks && _PyTracer_CollectTypes(&c->blocks.types) < 0) {
        return -1;
    }
    _PyTracer_ListInterpreters(&c->interpreters);
    _PyTracer_LockAll();
    int result = copy_all(c, totals);
    _PyTracer_UnlockAll();
    if (!has_child(c)) {
        result = result == 0 ? copy_heap(c) : result;
        _PyTracer_KeepTypes(&c->blocks.types, 0);
    }
    return result;
}

/* --- Before it */

/* About how many blocks the heap has.  Counting them without a GIL would take
   long. */
static uint64_t
count_blocks(void)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    if (!_PyTracer_HAS_GIL) {
        return 0;
    }
    if (interp->feature_flags & Py_RTFLAGS_USE_MAIN_OBMALLOC) {
        interp = PyInterpreterState_Main();
    }
    return (uint64_t)_PyInterpreterState_GetAllocatedBlocks(interp);
}

/* Memory for the heap, unless a child process makes its own. */
static int
prepare_heap(struct copier *c)
{
    if (!(c->references & TRACER_REFERENCES) || has_child(c)) {
        return 0;
    }
    uint64_t blocks = count_blocks();
    PyThreadState *tstate = PyEval_SaveThread();
    int result = _PyTracer_PrepareHeap(&c->heap, blocks, 1);
    PyEval_RestoreThread(tstate);
    return result;
}

static void
prepare(struct copier *c)
{
    PyThreadState *tstate = PyEval_SaveThread();
    _PyTracer_PrepareRooms(&c->rooms, c->with_blocks && !has_child(c)
                                      ? TRACER_NROOMS
                                      : TRACER_NROOMS_OF_SUMS);
    if (c->with_blocks) {
        _PyTracer_ListMappings(&c->blocks.mappings);
    }
    if (c->references & TRACER_REFERENCES) {
        _PyTracer_ListSegments(&c->segments);
    }
    PyEval_RestoreThread(tstate);
}

/* --- After it: the rest is computed from the copies, while other threads
   run */

static inline uint64_t
count_live(const struct tracer_snapshot *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->nmeasures; i++) {
        n += s->measures[i][SNAPSHOT_COUNT];
    }
    return n;
}

static int
finish_tree(struct copier *c, struct tracer_moments *moments)
{
    if (c->tree.nnodes == 0) {
        return 0;                 // tracing is off
    }
    return _PyTracer_WriteTree(c->s, &c->tree, &c->rooms) < 0
           || _PyTracer_WritePeaks(c->s, &c->tree, &c->peaks, moments) < 0
           ? -1 : 0;
}

/* A child must not stay behind, whatever the result is so far. */
static int
finish_blocks(struct copier *c, int result)
{
    if (c->child.pid > 0) {
        c->has_heap = _PyTracer_JoinHeap(&c->child, &c->blocks, &c->heap) == 0;
        result = c->has_heap ? result : -1;
    }
    else if (c->s->has_blocks) {
        _PyTracer_TakeBlocks(&c->blocks);
    }
    if (result < 0 || !c->s->has_blocks) {
        return result;
    }
    assert(c->s->nblocks == count_live(c->s));
    return _PyTracer_FinishBlocks(&c->blocks);
}

static int
finish_heap(struct copier *c, int result)
{
    if (result == 0 && c->has_heap && c->child.pid <= 0) {
        _PyTracer_CompleteHeap(&c->heap, c->s, &c->blocks.types,
                               &c->segments);
        result = c->heap.failed ? -1 : 0;
    }
    if (result == 0 && c->has_heap) {
        result = _PyTracer_FinishHeap(&c->heap, c->s);
    }
    _PyTracer_FreeHeap(&c->heap);
    _PyTracer_FreeSegments(&c->segments);
    return result;
}

/* The snapshot is a moment of the history, too. */
static void
add_history(const struct tracer_snapshot *s, struct tracer_totals *totals)
{
    _PyTracer_NoteSnapshot(&(struct tracer_moment_taken){
        .time = totals->time, .traced = (int64_t)totals->current,
        .peak = (int64_t)totals->peak, .blocks = (int64_t)count_live(s)});
    totals->notes = _PyTracer_CopyHistory(&totals->nnotes);
}

static int
finish(struct copier *c, int result, struct tracer_totals *totals)
{
    _PyTracer_FreeMappings(&c->blocks.mappings);
    result = result == 0 ? finish_tree(c, &totals->moments) : result;
    result = finish_blocks(c, result);
    result = finish_heap(c, result);
    totals->error = c->child.error;
    totals->signal = c->child.signal;
    if (result == 0 && c->s->nnodes > 0) {
        add_history(c->s, totals);
    }
    _PyTracer_FreePeaks(&c->peaks);
    _PyTracer_FreeRooms(&c->rooms);
    return result;
}

/* --- All of it */

/* To walk over the objects of the interpreter alone takes longer than to fork
   a process of this size, and little of it can exist twice. */
#define SMALL ((int64_t)64 << 20) // bytes

static int
is_small(void)
{
    int64_t resident = _PyTracer_ReadRss();
    return resident > 0 && resident < SMALL;
}

static int
take(struct copier *c, struct tracer_totals *totals)
{
    int result = prepare_heap(c);
    prepare(c);
    _PyTracer_StopWorld();
    result = result == 0 ? copy(c, totals) : result;
    _PyTracer_StartWorld();
    PyThreadState *tstate = PyEval_SaveThread();
    result = finish(c, result, totals);
    PyEval_RestoreThread(tstate);
    return result < 0 ? -1 : _PyTracer_NameTypes(&c->blocks.types, c->s);
}

static struct tracer_snapshot *
take_one(int with_blocks, int references, struct tracer_totals *totals)
{
    struct copier c = {.s = _PySnapshot_New(), .with_blocks = with_blocks,
                       .references = references};
    c.blocks.s = c.s;
    c.blocks.rooms = &c.rooms;
    memset(totals, 0, sizeof(*totals));
    int result = c.s == NULL ? -1 : take(&c, totals);
    _PyTracer_FreeTypes(&c.blocks.types);
    if (result < 0) {
        free(totals->growth);
        free(totals->notes);
        _PySnapshot_Free(c.s);
        return NULL;
    }
    return c.s;
}

struct tracer_snapshot *
_PyTracer_TakeSnapshot(int with_blocks, int references,
                       struct tracer_totals *totals)
{
    struct tracer_snapshot *s = NULL;
    if ((references & TRACER_IN_CHILD_IF_SMALL) && is_small()) {
        s = take_one(with_blocks, references | TRACER_IN_CHILD, totals);
    }
    return s != NULL ? s : take_one(with_blocks, references, totals);
}
