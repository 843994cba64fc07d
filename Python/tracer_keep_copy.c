/* Copies of the tables that lie in a kept file.

   The child of a fork shares the pages of the file with its parent, which
   continues at once and changes them.  So before the fork the parent copies
   the used part of the tables into private memory.  The child inherits the
   copy, and moves its pages to where the tables are.  A process that is made
   without handlers of forks, as by posix_spawn() or vfork(), does not count
   blocks.

   A signal may interrupt a fork, and its handler may fork as well, so the
   copies of a thread are a stack.

   Nodes move when the tree is pruned.  If the process ends in the middle of
   that, nobody can read the tables.  So the file has a copy of the earlier
   tables behind them until all nodes have moved. */

#include "Python.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_keep_copy.h"
#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"

#include <errno.h>
#include <sys/mman.h>             // mremap()

static const enum kept_array tables[] = {
    KEPT_NODES, KEPT_SAVED, KEPT_SPILLS, KEPT_RARES, KEPT_NATIVES,
};
#define NTABLES Py_ARRAY_LENGTH(tables)
#define SPILLS_OF_CHUNK (TRACER_CHUNK_NODES * sizeof(struct tracer_spill))
static_assert(SPILLS_OF_CHUNK % KEPT_UNIT == 0, "pages of spills are moved");

/* What is in front of a copy. */
struct copy {
    struct copy *before;          // of the fork that this one interrupts
    struct kept_header header;
    size_t size;                  // of all
    size_t sizes[KEPT_NARRAYS];   // rounded; of spills, all chunks that have
                                  //   any
};

static _Py_thread_local struct copy *copies;
/* A bit for each fork of this thread that is under way, the lowest for the
   latest: does the fork have a copy? */
static _Py_thread_local uint64_t copied;

/* --- What is used of the tables */

static size_t
round_up(size_t size)
{
    return (size + KEPT_UNIT - 1) / KEPT_UNIT * KEPT_UNIT;
}

static uint32_t
count_saved(void)
{
    return _PyTracer.epoch == 0
           ? 0 : _PyTracer_tree.next_saved - _PyTracer_tree.first_saved;
}

static uint32_t
count_chunks(void)
{
    return (_PyTracer_tree.nnodes + TRACER_CHUNK_NODES - 1)
           >> TRACER_CHUNK_BITS;
}

static size_t
measure_tables(size_t sizes[KEPT_NARRAYS])
{
    const struct tracer_call_tree *tree = &_PyTracer_tree;
    sizes[KEPT_NODES] = tree->nnodes * sizeof(struct tracer_node);
    sizes[KEPT_SAVED] = count_saved() * sizeof(*tree->saved);
    sizes[KEPT_RARES] = tree->nrares * sizeof(struct tracer_rare);
    sizes[KEPT_NATIVES] = tree->nnatives * sizeof(*tree->natives);
    sizes[KEPT_SPILLS] = 0;
    for (uint32_t i = 0; i < count_chunks(); i++) {
        sizes[KEPT_SPILLS] += _PyTracer_chunk_spilled[i] ? SPILLS_OF_CHUNK
                                                         : 0;
    }
    size_t size = 0;
    for (size_t i = 0; i < NTABLES; i++) {
        sizes[tables[i]] = round_up(sizes[tables[i]]);
        size += sizes[tables[i]];
    }
    return size;
}

static const void *
table_of(enum kept_array array)
{
    switch (array) {
    case KEPT_NODES: return _PyTracer.nodes;
    case KEPT_SAVED: return _PyTracer_tree.saved;
    case KEPT_RARES: return _PyTracer_tree.rares;
    case KEPT_NATIVES: return _PyTracer_tree.natives;
    default: return _PyTracer_tree.spills;
    }
}

/* --- Forks */

/* How much of a table is in the file; the rest is private memory. */
static size_t
size_in_file(enum kept_array array, size_t size)
{
    char *base;
    size_t kept = _PyTracer_KeptArray(array, &base);
    return Py_MIN(size, kept);
}

static char *
copy_spills(char *to)
{
    char *base;
    size_t kept = _PyTracer_KeptArray(KEPT_SPILLS, &base);
    for (uint32_t i = 0; i < count_chunks(); i++) {
        if (_PyTracer_chunk_spilled[i]) {
            size_t from = i * SPILLS_OF_CHUNK;
            memcpy(to, base + from, kept <= from ? 0
                                    : Py_MIN(SPILLS_OF_CHUNK, kept - from));
            to += SPILLS_OF_CHUNK;
        }
    }
    return to;
}

static void
fill_copy(struct copy *copy)
{
    char *to = (char *)copy + KEPT_UNIT;
    for (size_t i = 0; i < NTABLES; i++) {
        enum kept_array array = tables[i];
        size_t size = copy->sizes[array];
        if (array == KEPT_SPILLS) {
            char *end = copy_spills(to);
            assert(end == to + size);
            (void)end;
        }
        else {
            memcpy(to, table_of(array), size_in_file(array, size));
        }
        to += size;
    }
    assert(to == (char *)copy + copy->size);
}

/* NULL: no memory. */
static struct copy *
make_copy(void)
{
    size_t sizes[KEPT_NARRAYS] = {0};
    size_t size = measure_tables(sizes) + KEPT_UNIT;
    struct copy *copy = mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1,
                             0);
    if (copy == MAP_FAILED) {
        return NULL;
    }
    copy->before = copies;
    copy->header = *_PyTracer_kept;
    copy->size = size;
    memcpy(copy->sizes, sizes, sizeof(sizes));
    fill_copy(copy);
    return copy;
}

/* Without the GIL, other threads change the counters all the time.  In that
   case, and if there is no memory, the child does not trace. */
void
_PyTracer_CopyForFork(void)
{
    assert(copied >> 63 == 0);
    copied <<= 1;
    if (_PyTracer_IsKept()
        && (_PyTracer.many_gils || _PyThreadState_GET() != NULL))
    {
        int saved_errno = errno;
        struct copy *copy = make_copy();
        errno = saved_errno;
        if (copy != NULL) {
            copies = copy;
            copied |= 1;
        }
    }
}

/* The copy of the latest fork, or NULL. */
static struct copy *
pop_copy(void)
{
    struct copy *copy = copied & 1 ? copies : NULL;
    copied >>= 1;
    if (copy != NULL) {
        copies = copy->before;
    }
    return copy;
}

void
_PyTracer_DropCopy(void)
{
    struct copy *copy = pop_copy();
    if (copy != NULL) {
        int saved_errno = errno;
        munmap(copy, copy->size);
        errno = saved_errno;
    }
}

static int
move_to(char *to, char *from, size_t size)
{
    return size == 0
           || mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to)
              != MAP_FAILED ? 0 : -1;
}

static int
move_spills(char *base, char *from)
{
    for (uint32_t i = 0; i < count_chunks(); i++) {
        if (_PyTracer_chunk_spilled[i]) {
            size_t kept = size_in_file(KEPT_SPILLS,
                                       (i + 1) * SPILLS_OF_CHUNK);
            size_t begin = i * SPILLS_OF_CHUNK;
            if (kept > begin && move_to(base + begin, from, kept - begin) < 0)
            {
                return -1;
            }
            from += SPILLS_OF_CHUNK;
        }
    }
    return 0;
}

/* Put the copy in the place of the file's pages; 0, or -1. */
static int
take_table(enum kept_array array, char *from, size_t size)
{
    char *base;
    size_t kept = _PyTracer_KeptArray(array, &base);
    if (kept != 0
        && mmap(base, kept, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    {
        return -1;
    }
    if (from == NULL) {
        return -1;
    }
    return array == KEPT_SPILLS ? move_spills(base, from)
                                : move_to(base, from, Py_MIN(size, kept));
}

void
_PyTracer_TakeCopy(void)
{
    /* Nobody was asked for a copy of what another thread was changing. */
    struct copy *copy = _PyTracer_abandoned ? NULL : pop_copy();
    if (!_PyTracer_IsKept()) {
        return;
    }
    int failed = 0;
    char *from = copy == NULL ? NULL : (char *)copy + KEPT_UNIT;
    for (size_t i = 0; i < NTABLES; i++) {
        size_t size = copy == NULL ? 0 : copy->sizes[tables[i]];
        failed |= take_table(tables[i], from, size) < 0;
        from += size;
    }
    if (failed || _PyTracer_KeepInChild(&copy->header) < 0) {
        _PyTracer_LeaveKept();
    }
    if (failed) {
        _PyTracer_Abandon();
    }
}

/* --- Nodes that move */

size_t
_PyTracer_PlanCopy(struct kept_copy *copy)
{
    _PyTracer_ASSERT_LOCKED();
    const struct tracer_call_tree *tree = &_PyTracer_tree;
    size_t sizes[KEPT_NARRAYS];
    (void)measure_tables(sizes);
    copy->nnodes = tree->nnodes;
    copy->nrares = tree->nrares;
    copy->nnatives = tree->nnatives;
    copy->nsaved = count_saved();
    copy->epoch = _PyTracer.epoch;
    copy->saved = sizes[KEPT_NODES];
    copy->rares = copy->saved + sizes[KEPT_SAVED];
    copy->spills = copy->rares + sizes[KEPT_RARES] + sizes[KEPT_NATIVES];
    /* In this copy, each chunk of spills has its place. */
    return copy->spills + count_chunks() * SPILLS_OF_CHUNK;
}

int
_PyTracer_WriteCopy(struct tracer_keep_file *file, uint64_t offset,
                    struct kept_copy *copy)
{
    _PyTracer_ASSERT_LOCKED();
    const struct tracer_call_tree *tree = &_PyTracer_tree;
    if (_PyTracer_WriteKept(file, offset, _PyTracer.nodes,
                            copy->nnodes * sizeof(struct tracer_node)) < 0
        || _PyTracer_WriteKept(file, offset + copy->saved, tree->saved,
                               copy->nsaved * sizeof(*tree->saved)) < 0
        || _PyTracer_WriteKept(file, offset + copy->rares, tree->rares,
                               copy->nrares * sizeof(*tree->rares)) < 0
        || _PyTracer_WriteKept(file, offset + _PyTracer_CopiedNatives(copy),
                               tree->natives,
                               copy->nnatives * sizeof(*tree->natives)) < 0)
    {
        return -1;
    }
    for (uint32_t i = 0; i < count_chunks(); i++) {
        if (_PyTracer_chunk_spilled[i]
            && _PyTracer_WriteKept(file, offset + copy->spills
                                         + i * SPILLS_OF_CHUNK,
                                   &tree->spills[i << TRACER_CHUNK_BITS],
                                   SPILLS_OF_CHUNK) < 0)
        {
            return -1;
        }
    }
    copy->first = offset / KEPT_UNIT;
    return 0;
}

/* If there is no room, there is no copy: a process that ends now leaves no
   tree. */
void
_PyTracer_BeginMoving(void)
{
    if (!_PyTracer_IsKept()) {
        return;
    }
    struct kept_header *header = _PyTracer_kept;
    struct kept_copy copy = {.peak = header->peak};
    _PyTracer_ReservePeak();
    uint64_t offset = _PyTracer_OpenKeptTail(_PyTracer_PlanCopy(&copy));
    if (offset != 0) {
        (void)_PyTracer_WriteCopy(&_PyTracer_keep_file, offset, &copy);
    }
    header->copy = copy;
    TRACER_PUBLISH(moves, header->moves + 1);
}

void
_PyTracer_EndMoving(void)
{
    if (!_PyTracer_IsKept()) {
        return;
    }
    TRACER_PUBLISH(nnodes, _PyTracer_tree.nnodes);
    TRACER_PUBLISH(nrares, _PyTracer_tree.nrares);
    TRACER_PUBLISH(nnatives, _PyTracer_tree.nnatives);
    TRACER_PUBLISH(moves, _PyTracer_kept->moves + 1);
    _PyTracer_CloseKeptTail();
}
