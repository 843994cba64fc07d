/* Resident memory: from addresses to owners.

   Some addresses are known in advance: libraries, by the loader's list;
   arenas; chunks of Python frames; the tracer's own mappings.  Other anonymous
   memory is recognized by its contents:

   - a thread's stack has at its end the C library's record of the thread,
     which says where the stack begins and how large it is;
   - a heap of malloc() lies at a multiple of 64 MiB and begins with its size,
     how much of it can be used, and the arena that it belongs to;
   - a large block of malloc() begins with its size, and a bit for a mapping of
     its own;
   - arrays of snapshots begin with a magic word.

   A block may continue in the next mappings, if huge pages were requested for
   a part of it, as NumPy does.

   The kernel merges neighbouring mappings that are alike.  So a mapping is
   searched from its beginning, for one of these after another.  Where none is
   found, the search continues page by page, for a limited number of pages. */

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h

#include "pycore_tracer_blocks.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_rss.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"

#include <link.h>                 // dl_iterate_phdr()
#include <sys/resource.h>         // getrlimit()

#define HEAP_SIZE ((uintptr_t)64 << 20)         // of glibc, 64 bits
#define CHUNK_MAPPED 2                          // of the size of a chunk
#define STACK_ENDS 16                           // pages to look at
#define NEAR 64                                 // pages
#define ROUND ((uintptr_t)64 << 10)

/* --- Known ahead */

static void
add_range(struct rss_work *w, uintptr_t begin, size_t size,
          enum rss_known what, uint32_t number)
{
    if (w->nranges == w->max_ranges) {
        w->lacks |= RSS_TOO_MANY;
        return;
    }
    w->ranges[w->nranges++] = (struct rss_range){
        begin & ~(uintptr_t)(w->page - 1),
        _PyTracer_RssRound(w, begin + size), what, number};
}

/* The loader, the C library and the interpreter itself point to everything;
   pointers of others say more. */
static int
is_system(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash == NULL ? name : slash + 1;
    return *name == '\0' || strncmp(base, "ld-", 3) == 0
           || strncmp(base, "libc.", 5) == 0
           || strncmp(base, "libc-", 5) == 0
           || strncmp(base, "libpython", 9) == 0;
}

static int
add_library(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *arg)
{
    struct rss_work *w = arg;
    uintptr_t begin = UINTPTR_MAX;
    uintptr_t end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD) {
            uintptr_t at = info->dlpi_addr + header->p_vaddr;
            begin = Py_MIN(begin, at);
            end = Py_MAX(end, at + header->p_memsz);
        }
    }
    if (end > begin && w->nlibraries < RSS_MAX_LIBRARIES) {
        struct rss_library *library = &w->libraries[w->nlibraries];
        library->system = (uint8_t)is_system(info->dlpi_name);
        library->name = 0;        // as the kernel writes it, later
        add_range(w, begin, end - begin, RSS_KNOWN_LIBRARY, w->nlibraries++);
    }
    return 0;
}

static int
add_arena(const struct tracer_arena *arena, void *arg)
{
    struct rss_work *w = arg;
    if (w->narenas == w->max_arenas) {
        return 0;
    }
    w->arenas[w->narenas] = (struct rss_arena){.address = arena->address};
    add_range(w, arena->address, arena->size, RSS_KNOWN_ARENA, w->narenas++);
    return 0;
}

/* Threads keep the frames of Python functions in chunks, mappings of 16 KiB or
   more.  Those of an interpreter with a GIL of its own may disappear
   meanwhile. */
static void
add_frames(struct rss_work *w)
{
    PyInterpreterState *own = _PyInterpreterState_GET();
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        if (_PyTracer_HAS_GIL && _PyTracer.many_gils && interp != own) {
            continue;
        }
        for (PyThreadState *t = interp->threads.head; t != NULL; t = t->next) {
            const _PyStackChunk *chunk = t->datastack_chunk;
            for (; chunk != NULL; chunk = chunk->previous) {
                if (((uintptr_t)chunk | chunk->size) % w->page == 0) {
                    add_range(w, (uintptr_t)chunk, chunk->size,
                              RSS_KNOWN_FRAMES, 0);
                }
            }
        }
    }
}

/* The part below `n` of a heap whose item `i` may be too small. */
static void
sift(struct rss_range *ranges, uint32_t i, uint32_t n)
{
    struct rss_range moved = ranges[i];
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n
                 && ranges[child].begin < ranges[child + 1].begin;
        if (ranges[child].begin <= moved.begin) {
            break;
        }
        ranges[i] = ranges[child];
    }
    ranges[i] = moved;
}

/* qsort() may allocate. */
static void
sort_ranges(struct rss_range *ranges, uint32_t n)
{
    for (uint32_t i = n / 2; i > 0; i--) {
        sift(ranges, i - 1, n);
    }
    for (uint32_t end = n; end > 1; end--) {
        struct rss_range last = ranges[0];
        ranges[0] = ranges[end - 1];
        ranges[end - 1] = last;
        sift(ranges, 0, end - 1);
    }
}

void
_PyTracer_RssKnow(struct rss_work *w)
{
    (void)dl_iterate_phdr(add_library, w);
    add_range(w, (uintptr_t)w->memory, (size_t)(w->end - w->memory),
              RSS_KNOWN_WORKSPACE, 0);
    _PyTracer_LockAll();
    (void)_PyTracer_VisitArenas(add_arena, w);
    add_frames(w);
    struct tracer_memory *memory = &_PyTracer_memory;
    for (size_t i = 0; i < memory->nranges; i++) {
        add_range(w, (uintptr_t)memory->ranges[i].p, memory->ranges[i].size,
                  RSS_KNOWN_TRACER, 0);
    }
    if (_PyTracer_IsKept()) {     // its tables are among these
        add_range(w, (uintptr_t)_PyTracer_kept, KEPT_HEADER_SIZE,
                  RSS_KNOWN_TRACER, 0);
    }
    _PyTracer_UnlockAll();
    sort_ranges(w->ranges, w->nranges);
}

/* The first range that ends behind the address. */
const struct rss_range *
_PyTracer_RssFindRange(const struct rss_work *w, uintptr_t address)
{
    uint32_t low = 0;
    uint32_t high = w->nranges;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (w->ranges[middle].end <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return &w->ranges[low];
}

struct rss_piece *
_PyTracer_RssAddPiece(struct rss_work *w, uint32_t vma, uintptr_t begin,
                      uintptr_t end, enum rss_kind kind, uint32_t name)
{
    assert(begin < end);
    if (w->npieces == RSS_MAX_PIECES) {
        w->lacks |= RSS_TOO_MANY;
        return &w->pieces[w->npieces - 1];
    }
    struct rss_piece *piece = &w->pieces[w->npieces++];
    *piece = (struct rss_piece){.begin = begin, .end = end, .vma = vma,
                                .kind = (uint8_t)kind, .name = name};
    return piece;
}

/* --- Recognized by the contents */

struct look {
    struct rss_work *w;
    uintptr_t limit;              // of the addresses to look at
    uintptr_t block_limit;        // of a block that begins there
    uintptr_t guard;              // of the pages in front that nobody may
                                  //   read, or 0
};

/* The record of a thread contains, side by side, where its stack begins (with
   the guard) and its size.  Look at the pages in front of `end`. */
static int
has_stack_record(const struct look *look, uintptr_t begin, uintptr_t end)
{
    struct rss_work *w = look->w;
    uintptr_t words[4096 / sizeof(uintptr_t)];
    size_t part = Py_MIN(w->page, sizeof(words));
    for (size_t i = 1; i <= STACK_ENDS; i++) {
        uintptr_t page = end - i * part;
        if (page < begin || !_PyTracer_RssPeek(w, page, words, part)) {
            break;
        }
        for (size_t j = 0; j + 1 < part / sizeof(*words); j++) {
            if (words[j] == begin && words[j + 1] == end - begin) {
                return 1;
            }
        }
    }
    return 0;
}

/* The size must be the default for threads, or that of the whole range. */
static uintptr_t
stack_end(const struct look *look, uintptr_t at)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    (void)getrlimit(RLIMIT_STACK, &limit);
    size_t usual = limit.rlim_cur == RLIM_INFINITY ? (size_t)8 << 20
                                                   : (size_t)limit.rlim_cur;
    uintptr_t begins[] = {look->guard, at};
    for (size_t i = look->guard == 0; i < Py_ARRAY_LENGTH(begins); i++) {
        uintptr_t begin = begins[i];
        uintptr_t ends[] = {begin + usual, look->limit};
        for (size_t j = 0; j < Py_ARRAY_LENGTH(ends); j++) {
            if (ends[j] > at && ends[j] <= look->limit
                && has_stack_record(look, begin, ends[j]))
            {
                return ends[j];
            }
        }
    }
    return 0;
}

/* It begins with the arena, the previous heap, its size, and how much of it
   can be used. */
static uintptr_t
heap_end(const struct look *look, uintptr_t at)
{
    uintptr_t words[4];
    if (at % HEAP_SIZE != 0
        || !_PyTracer_RssPeek(look->w, at, words, sizeof(words)))
    {
        return 0;
    }
    uintptr_t arena = words[0];
    uintptr_t usable = words[3];
    return arena % sizeof(void *) == 0 && arena % HEAP_SIZE < 4096
           && (arena & ~(HEAP_SIZE - 1)) != 0
           && words[1] % HEAP_SIZE == 0 && words[2] <= usable
           && usable % look->w->page == 0 && usable != 0
           && at + usable <= look->limit
           ? at + usable : 0;
}

/* A block of malloc() that is a mapping, or an array of a snapshot: both begin
   with their sizes. */
static uintptr_t
sized_end(const struct look *look, uintptr_t at, enum rss_fixed *name)
{
    union {
        uintptr_t words[2];
        struct snapshot_front front;
    } head;
    if (!_PyTracer_RssPeek(look->w, at, &head, sizeof(head))) {
        return 0;
    }
    uintptr_t size;
    if (head.front.mark == SNAPSHOT_MARK) {
        size = head.front.mapped;
        *name = RSS_NAME_SNAPSHOTS;
    }
    else if (head.words[0] == 0 && (head.words[1] & 7) == CHUNK_MAPPED) {
        size = head.words[1] & ~(uintptr_t)7;
        *name = RSS_NAME_MAPPED;
    }
    else {
        return 0;
    }
    return size % look->w->page == 0 && size != 0
           && size <= look->block_limit - at
           ? at + size : 0;
}

#ifdef WITH_MIMALLOC
#define SEGMENT_SIZE ((uintptr_t)MI_SEGMENT_SIZE)

static uintptr_t
segment_end(const struct look *look, uintptr_t at)
{
    if (!_PyTracer_IsMimalloc(at)) {
        return 0;
    }
    uintptr_t end = (at & ~(SEGMENT_SIZE - 1)) + SEGMENT_SIZE;
    return Py_MIN(end, look->limit);
}
#else
static uintptr_t
segment_end(const struct look *Py_UNUSED(look), uintptr_t Py_UNUSED(at))
{
    return 0;
}
#endif

/* End, kind and name of what begins there, or 0.  Stacks are looked for where
   something else has just ended. */
static uintptr_t
tell(const struct look *look, uintptr_t at, int fresh, enum rss_kind *kind,
     enum rss_fixed *name)
{
    uintptr_t end;
    if ((end = segment_end(look, at)) != 0) {
        *kind = RSS_MIMALLOC;
    }
    else if ((end = sized_end(look, at, name)) != 0) {
        *kind = *name == RSS_NAME_SNAPSHOTS ? RSS_TRACER : RSS_MALLOC;
    }
    else if ((end = heap_end(look, at)) != 0) {
        *kind = RSS_MALLOC;
        *name = RSS_NAME_HEAP;
    }
    else if (fresh && (end = stack_end(look, at)) != 0) {
        *kind = RSS_STACK;
        *name = RSS_NAME_THREADS;
    }
    return end;
}

/* Where something else may begin: at the next resident page, as long as there
   are steps left, then nowhere.  Far into a mapping, only where allocators let
   mappings begin or end, which is at round numbers. */
static uintptr_t
next_place(struct rss_work *w, uintptr_t unknown, uintptr_t at,
           uintptr_t end)
{
    if (w->steps == 0) {
        return end;
    }
    w->steps--;
    at += w->page;
    if (at - unknown > NEAR * w->page) {
        at = _Py_SIZE_ROUND_UP(at, ROUND);
    }
    return _PyTracer_RssNextResident(w, at, end);
}

/* How far the memory of the program extends, mapping after mapping. */
static uintptr_t
end_of_row(const struct rss_work *w, uint32_t vma)
{
    while (vma + 1 < w->nvmas && w->vmas[vma + 1].begin == w->vmas[vma].end
           && w->vmas[vma + 1].writable && !w->vmas[vma + 1].file
           && w->vmas[vma + 1].name == 0)
    {
        vma++;
    }
    return w->vmas[vma].end;
}

void
_PyTracer_RssRecognise(struct rss_work *w, uint32_t vma, uintptr_t begin,
                       uintptr_t end)
{
    struct look look = {w, end, end, 0};
    if (end == w->vmas[vma].end) {
        look.block_limit = end_of_row(w, vma);
    }
    if (w->block_end > begin) {
        uintptr_t at = Py_MIN(w->block_end, end);
        _PyTracer_RssAddPiece(w, vma, begin, at, w->block->kind,
                              w->block->name);
        begin = at;
    }
    const struct rss_vma *before = vma == 0 ? NULL : &w->vmas[vma - 1];
    if (before != NULL && before->end == begin && !before->readable
        && !before->file)
    {
        look.guard = before->begin;
    }
    uintptr_t unknown = begin;
    uintptr_t at = begin;
    while (at < end) {
        enum rss_kind kind = RSS_UNEXPLAINED;
        enum rss_fixed name = RSS_NFIXED;
        uintptr_t known = tell(&look, at, at == unknown, &kind, &name);
        look.guard = 0;
        if (known == 0) {
            at = next_place(w, unknown, at, end);
            continue;
        }
        assert(known > at);
        if (unknown < at) {
            _PyTracer_RssAddPiece(w, vma, unknown, at, RSS_UNEXPLAINED, 0);
        }
        w->block_end = known;
        w->block = _PyTracer_RssAddPiece(
            w, vma, at, Py_MIN(known, end), kind,
            name == RSS_NFIXED ? 0 : w->fixed[name]);
        unknown = at = w->block->end;
    }
    if (unknown < end) {
        _PyTracer_RssAddPiece(w, vma, unknown, end, RSS_UNEXPLAINED, 0);
    }
}
