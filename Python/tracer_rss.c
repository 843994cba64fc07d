/* Who owns the resident memory of this process: each page has one owner.

   smaps lists the mappings and how much of each is resident.  A mapping whose
   memory has several owners is cut into pieces, and the resident pages of each
   piece are counted.  The pieces of a mapping add up to the figure of smaps,
   to the page.  If there is a difference, because a thread has touched memory
   meanwhile, it goes to the largest piece.

   What only Python knows, such as where arenas are and which blocks of them
   are live, is read while no other thread runs Python code: first and last,
   as this does not take long.  The kernel is asked in between, while other
   threads go on.  What they map or unmap in that time may be unexplained or
   counted as unused; the rows add up all the same.

   Nothing is allocated meanwhile: all results are put into a workspace, which
   is mapped first and is an owner, too. */

#include "Python.h"
#include "pycore_runtime.h"       // _PyRuntime
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_rss.h"
#include "pycore_tracer_state.h"

#include <dlfcn.h>                // dlsym()
#include <sys/mman.h>
#include <unistd.h>               // sysconf()

#define STEPS 2048                // from page to page, where nothing is known
#define HUGE_PIECE ((uintptr_t)16 << 30)        // pages are not asked for
#define QUESTIONS ((uint64_t)8 << 20)           // 32 GiB of small pages
#define MORE_RANGES 16384         // frames of threads, and the tracer's tables
                                  //   that other threads make

static const char *const fixed_names[RSS_NFIXED] = {
    [RSS_NAME_MAIN] = "main thread",
    [RSS_NAME_THREADS] = "other threads",
    [RSS_NAME_STORAGE] = "thread-local storage of the main thread",
    [RSS_NAME_FRAMES] = "frames of Python functions",
    [RSS_NAME_HEAP] = "heap",
    [RSS_NAME_MAPPED] = "blocks with a mapping of their own",
    [RSS_NAME_TABLES] = "tables",
    [RSS_NAME_SNAPSHOTS] = "snapshots",
    [RSS_NAME_OWN] = "this account",
};

/* --- The workspace */

static void *
take_memory(struct rss_work *w, size_t size)
{
    char *p = w->next;
    w->next += _Py_SIZE_ROUND_UP(size, 64);
    assert(w->next <= w->end);
    return p;
}

static int
count_arena(const struct tracer_arena *Py_UNUSED(arena), void *arg)
{
    ++*(uint32_t *)arg;
    return 0;
}

/* An unreadable page on each side keeps it a separate mapping. */
static int
map_workspace(struct rss_work *w)
{
    _PyTracer_LockAll();
    (void)_PyTracer_VisitArenas(count_arena, &w->max_arenas);
    w->max_ranges = w->max_arenas + RSS_MAX_LIBRARIES + MORE_RANGES
                    + (uint32_t)_PyTracer_memory.nranges;
    _PyTracer_UnlockAll();
    size_t size = RSS_BUFFER + RSS_TEXTS
                  + RSS_MAX_VMAS * sizeof(*w->vmas)
                  + w->max_ranges * sizeof(*w->ranges)
                  + RSS_MAX_PIECES * (sizeof(*w->pieces)
                                      + 2 * sizeof(uint32_t))
                  + w->max_arenas * sizeof(*w->arenas)
                  + RSS_MAX_LIBRARIES * sizeof(*w->libraries)
                  + RSS_MAX_ROWS * sizeof(*w->rows) + 16 * 64;
    size = (size_t)_PyTracer_RssRound(w, size);
    char *p = mmap(NULL, size + 2 * w->page, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return -1;
    }
    w->memory = p + w->page;
    w->end = w->memory + size;
    w->next = w->memory;
    if (mprotect(w->memory, size, PROT_READ | PROT_WRITE) != 0) {
        _PyTracer_FreeRss(w);
        return -1;
    }
    w->buffer = take_memory(w, RSS_BUFFER);
    w->texts = take_memory(w, RSS_TEXTS);
    w->vmas = take_memory(w, RSS_MAX_VMAS * sizeof(*w->vmas));
    w->ranges = take_memory(w, w->max_ranges * sizeof(*w->ranges));
    w->pieces = take_memory(w, RSS_MAX_PIECES * sizeof(*w->pieces));
    w->arenas = take_memory(w, w->max_arenas * sizeof(*w->arenas));
    w->libraries = take_memory(w, RSS_MAX_LIBRARIES * sizeof(*w->libraries));
    w->rows = take_memory(w, RSS_MAX_ROWS * sizeof(*w->rows));
    for (int i = 0; i < RSS_NFIXED; i++) {
        w->fixed[i] = _PyTracer_RssText(w, fixed_names[i],
                                        strlen(fixed_names[i]));
    }
    return 0;
}

void
_PyTracer_FreeRss(struct rss_work *w)
{
    if (w->memory != NULL) {
        (void)munmap(w->memory - w->page,
                     (size_t)(w->end - w->memory) + 2 * w->page);
        w->memory = NULL;
    }
}

/* --- Pieces */

static void
add_gap(struct rss_work *w, uint32_t vma, uintptr_t begin, uintptr_t end,
        enum rss_kind kind, uint32_t name)
{
    if (kind == RSS_UNEXPLAINED) {
        _PyTracer_RssRecognise(w, vma, begin, end);
    }
    else {
        _PyTracer_RssAddPiece(w, vma, begin, end, kind, name);
    }
}

static void
add_known(struct rss_work *w, uint32_t vma, uintptr_t begin, uintptr_t end,
          const struct rss_range *range)
{
    static const struct {
        enum rss_kind kind;
        enum rss_fixed name;
    } owners[] = {
        [RSS_KNOWN_LIBRARY] = {RSS_DATA, RSS_NFIXED},
        [RSS_KNOWN_ARENA] = {RSS_PYMALLOC, RSS_NFIXED},
        [RSS_KNOWN_FRAMES] = {RSS_STACK, RSS_NAME_FRAMES},
        [RSS_KNOWN_TRACER] = {RSS_TRACER, RSS_NAME_TABLES},
        [RSS_KNOWN_WORKSPACE] = {RSS_TRACER, RSS_NAME_OWN},
    };
    enum rss_fixed name = owners[range->what].name;
    struct rss_piece *piece = _PyTracer_RssAddPiece(
        w, vma, begin, end, owners[range->what].kind,
        name == RSS_NFIXED ? 0 : w->fixed[name]);
    piece->number = range->number;
    if (range->what == RSS_KNOWN_LIBRARY) {
        piece->name = w->libraries[range->number].name;
    }
}

/* Anonymous memory: what is known in advance, and what lies between. */
static void
cut(struct rss_work *w, uint32_t number, enum rss_kind kind, uint32_t name)
{
    const struct rss_vma *vma = &w->vmas[number];
    const struct rss_range *range = _PyTracer_RssFindRange(w, vma->begin);
    const struct rss_range *end = w->ranges + w->nranges;
    uintptr_t at = vma->begin;
    for (; range < end && range->begin < vma->end; range++) {
        uintptr_t begin = Py_MAX(range->begin, at);
        uintptr_t known = Py_MIN(range->end, vma->end);
        if (begin > at) {
            add_gap(w, number, at, begin, kind, name);
        }
        if (known > begin) {
            add_known(w, number, begin, known, range);
            at = known;
        }
    }
    if (at < vma->end) {
        add_gap(w, number, at, vma->end, kind, name);
    }
}

/* Is the mapping a part of a library?  Its name is that of the file. */
static int
is_of_library(struct rss_work *w, const struct rss_vma *vma)
{
    const struct rss_range *range = _PyTracer_RssFindRange(w, vma->begin);
    if (range == w->ranges + w->nranges || range->begin > vma->begin
        || range->what != RSS_KNOWN_LIBRARY)
    {
        return 0;
    }
    w->libraries[range->number].name = vma->name;
    return 1;
}

static void
add_vma(struct rss_work *w, uint32_t number)
{
    const struct rss_vma *vma = &w->vmas[number];
    const char *name = w->texts + vma->name;
    enum rss_kind kind;
    uint32_t text = vma->name;
    if (vma->shared) {
        cut(w, number, RSS_SHARED, text);
        return;
    }
    else if (vma->file) {
        int library = is_of_library(w, vma) || vma->executable;
        kind = !library ? RSS_FILE : vma->writable ? RSS_DATA : RSS_CODE;
    }
    else if (strncmp(name, "[stack", 6) == 0) {
        kind = RSS_STACK;
        text = w->fixed[RSS_NAME_MAIN];
    }
    else if (strcmp(name, "[heap]") == 0) {
        cut(w, number, RSS_MALLOC, w->fixed[RSS_NAME_HEAP]);
        return;
    }
    else if (strncmp(name, "[anon", 5) == 0) {
        cut(w, number, RSS_MAPPING, text);
        return;
    }
    else if (*name == '[') {
        kind = RSS_KERNEL;
    }
    else {
        cut(w, number, RSS_UNEXPLAINED, 0);
        return;
    }
    _PyTracer_RssAddPiece(w, number, vma->begin, vma->end, kind, text);
}

/* The loader makes its own record and the storage of the main thread. */
static void
find_main_storage(struct rss_work *w)
{
    uintptr_t address = (uintptr_t)_PyRuntime.main_thread;
    for (uint32_t i = 0; i < w->npieces; i++) {
        struct rss_piece *piece = &w->pieces[i];
        if (piece->begin <= address && address < piece->end
            && piece->kind == RSS_UNEXPLAINED)
        {
            piece->kind = RSS_STACK;
            piece->name = w->fixed[RSS_NAME_STORAGE];
        }
    }
}

/* --- Pages */

/* Of the pages that may be the zero page, count as many as the kernel does. */
static void
settle(struct rss_work *w, uint32_t first, uint32_t end, uint64_t pages)
{
    struct rss_piece *largest = &w->pieces[first];
    uint64_t sum = 0;
    for (uint32_t i = first; i < end; i++) {
        struct rss_piece *piece = &w->pieces[i];
        sum += piece->sure;
        largest = piece->end - piece->begin > largest->end - largest->begin
                  ? piece : largest;
    }
    for (uint32_t i = first; i < end; i++) {
        struct rss_piece *piece = &w->pieces[i];
        uint64_t more = Py_MIN(piece->perhaps, pages > sum ? pages - sum : 0);
        piece->pages = piece->sure + more;
        sum += more;
    }
    if (pages > sum) {
        largest->pages += pages - sum;
    }
    for (uint32_t i = first; sum > pages && i < end; i++) {
        uint64_t less = Py_MIN(sum - pages, w->pieces[i].pages);
        w->pieces[i].pages -= less;
        sum -= less;
    }
}

static void
count_pages(struct rss_work *w, uint32_t first, uint32_t end)
{
    uint64_t pages = w->vmas[w->pieces[first].vma].pages;
    for (uint32_t i = first; i < end; i++) {
        struct rss_piece *piece = &w->pieces[i];
        if (piece->kind == RSS_PYMALLOC
            || (end - first > 1 && piece->end - piece->begin < HUGE_PIECE))
        {
            _PyTracer_RssCountPages(w, piece);
        }
    }
    settle(w, first, end, pages);
    for (uint32_t i = first; i < end; i++) {
        struct rss_piece *piece = &w->pieces[i];
        if (piece->kind == RSS_PYMALLOC) {
            w->arenas[piece->number].pages += piece->pages;
        }
    }
}

static void
make_pieces(struct rss_work *w)
{
    for (uint32_t i = 0; i < w->nvmas; i++) {
        uint32_t first = w->npieces;
        if (w->vmas[i].pages > 0) {
            add_vma(w, i);
            if (w->npieces > first) {
                count_pages(w, first, w->npieces);
            }
        }
    }
}

/* The arenas and the tracer's own memory, which need no list of mappings. */
static void
make_known_pieces(struct rss_work *w)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->nranges; i++) {
        const struct rss_range *range = &w->ranges[i];
        if (range->what == RSS_KNOWN_LIBRARY) {
            continue;             // what is cached of a file would count
        }
        add_known(w, 0, range->begin, range->end, range);
        struct rss_piece *piece = &w->pieces[w->npieces - 1];
        _PyTracer_RssCountPages(w, piece);
        piece->pages = piece->sure + piece->perhaps;
        sum += piece->pages;
        if (piece->kind == RSS_PYMALLOC) {
            w->arenas[piece->number].pages += piece->pages;
        }
    }
    w->total = _PyTracer_RssReadStatm(w);
    w->lacks = w->total == 0 ? RSS_NOTHING : RSS_NO_SMAPS;
    w->total = Py_MAX(w->total, sum);
    w->more = w->total - sum;
}

/* --- Rows */

static void
add_row(struct rss_work *w, enum rss_kind kind, enum rss_state state,
        uint32_t name, uint32_t count, uint64_t size)
{
    struct rss_row *row = NULL;
    for (uint32_t i = w->nrows; row == NULL && i > 0; i--) {
        struct rss_row *r = &w->rows[i - 1];
        if (r->kind == kind && r->state == state
            && (r->name == name
                || strcmp(w->texts + r->name, w->texts + name) == 0))
        {
            row = r;
        }
    }
    if (row == NULL && w->nrows < RSS_MAX_ROWS) {
        row = &w->rows[w->nrows++];
        *row = (struct rss_row){.kind = (uint8_t)kind,
                                .state = (uint8_t)state, .name = name};
    }
    if (row == NULL) {
        w->lacks |= RSS_TOO_MANY;
        row = &w->rows[0];        // the mappings that nobody can tell
    }
    row->count += count;
    row->size += size;
}

/* Add a row of resident memory, and how much of it is in blocks, as far as the
   allocator can say. */
static void
add_allocator(struct rss_work *w, enum rss_kind kind, uint32_t name,
              uint32_t count, uint64_t size, uint64_t used)
{
    uint64_t live = Py_MIN(used, size);
    if (live > 0) {
        add_row(w, kind, RSS_LIVE, name, count, live);
    }
    if (size > live) {
        add_row(w, kind, RSS_SLACK, name, live > 0 ? 0 : count, size - live);
    }
}

/* Bytes in blocks of malloc(), without those that are mappings. */
static uint64_t
count_malloc(void)
{
    // Looked for, so that a program built with glibc before 2.33 has it, too.
    struct { size_t unused[7], uordblks, more[2]; } (*mallinfo2)(void) =
        dlsym(RTLD_DEFAULT, "mallinfo2");
    // Without it, nobody knows what is slack.
    return mallinfo2 != NULL ? mallinfo2().uordblks : UINT64_MAX;
}

/* What is resident of allocators that divide it further. */
struct divided {
    uint64_t heap, segments;      // of malloc() and mimalloc
    uint32_t nheap, nsegments;
};

/* Rows of everything that is not divided further. */
static void
make_rows(struct rss_work *w, struct rss_result *result,
          struct divided *divided)
{
    add_row(w, RSS_UNEXPLAINED, RSS_NONE, 0, 0, w->more * w->page);
    for (uint32_t i = 0; i < w->npieces; i++) {
        const struct rss_piece *piece = &w->pieces[i];
        uint64_t size = piece->pages * w->page;
        if (size == 0 || piece->kind == RSS_PYMALLOC) {
            continue;
        }
        if (piece->kind == RSS_MALLOC
            && piece->name == w->fixed[RSS_NAME_HEAP])
        {
            divided->heap += size;
            divided->nheap++;
        }
        else if (piece->kind == RSS_MIMALLOC) {
            divided->segments += size;
            divided->nsegments++;
        }
        else {
            add_row(w, piece->kind, RSS_NONE, piece->name, 1, size);
            if (piece->name == w->fixed[RSS_NAME_OWN]) {
                result->own = size;
            }
        }
    }
}

/* Needs neither the GIL nor a lock. */
static void
ask_kernel(struct rss_work *w, struct rss_result *result,
           struct divided *divided)
{
    uint64_t in_malloc = count_malloc();
    if (_PyTracer_RssReadSmaps(w) < 0) {
        make_known_pieces(w);
    }
    else {
        make_pieces(w);
        find_main_storage(w);
        _PyTracer_RssFollowPointers(w);
    }
    _PyTracer_RssCloseFiles(w);
    make_rows(w, result, divided);
    add_allocator(w, RSS_MALLOC, w->fixed[RSS_NAME_HEAP], divided->nheap,
                  divided->heap, in_malloc);
}

/* The world is stopped. */
static void
divide(struct rss_work *w, const struct divided *divided)
{
    uint64_t arenas[RSS_NSTATES] = {0};
    _PyTracer_LockHead();
    uint64_t in_mimalloc = _PyTracer_UsedOfHeaps();
    _PyTracer_UnlockHead();
    add_allocator(w, RSS_MIMALLOC, 0, divided->nsegments, divided->segments,
                  in_mimalloc);
    _PyTracer_RssSplitArenas(w, arenas);
    for (int i = 0; i < RSS_NSTATES; i++) {
        if (arenas[i] > 0) {
            add_row(w, RSS_PYMALLOC, i, 0, w->narenas, arenas[i]);
        }
    }
}

static int
prepare(struct rss_work *w)
{
    if (_PyTracer_RssInit() < 0 || map_workspace(w) < 0) {
        return -1;
    }
    _PyTracer_RssKnow(w);
    return 0;
}

int
_PyTracer_CollectRss(struct rss_work *w, const char *proc,
                     struct rss_result *result)
{
    struct divided divided = {0};
    *w = (struct rss_work){.proc = proc, .pagemap = -1, .mem = -1,
                           .questions = QUESTIONS, .steps = STEPS,
                           .page = (size_t)sysconf(_SC_PAGESIZE)};
    *result = (struct rss_result){.traced = _PyTracer.tracing};
    _PyTracer_StopWorld();
    int prepared = prepare(w);
    _PyTracer_StartWorld();
    if (prepared < 0) {
        return -1;
    }
    PyThreadState *tstate = PyEval_SaveThread();
    ask_kernel(w, result, &divided);
    PyEval_RestoreThread(tstate);
    _PyTracer_StopWorld();
    divide(w, &divided);
    _PyTracer_StartWorld();
    result->rows = w->rows;
    result->nrows = w->nrows;
    result->texts = w->texts;
    result->lacks = w->lacks;
    result->total = w->total * w->page;
    return 0;
}
