/* Who owns the resident memory of this process, see tracer_rss.c.

   All of it works in one piece of memory, the workspace, that is mapped before
   anything is looked at: nothing is allocated until the rows are complete. */

#ifndef Py_INTERNAL_TRACER_RSS_H
#define Py_INTERNAL_TRACER_RSS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

enum rss_kind {
    RSS_CODE,                     // of the program and of libraries
    RSS_DATA,                     // theirs: initialised, and .bss
    RSS_STACK,                    // of threads
    RSS_PYMALLOC,                 // arenas
    RSS_MIMALLOC,                 // segments, where CPython uses it
    RSS_MALLOC,                   // the C library's
    RSS_MAPPING,                  // anonymous, of a library
    RSS_FILE,                     // files that are no libraries
    RSS_SHARED,                   // shared memory, and shared files
    RSS_TRACER,
    RSS_KERNEL,
    RSS_UNEXPLAINED,
    RSS_NKINDS
};

enum rss_state {
    RSS_NONE,
    RSS_LIVE,                     // in blocks that are allocated
    RSS_PARKED,                   // in blocks on free lists
    RSS_FREE,                     // in blocks that were used and are free
    RSS_UNUSED,                   // no block was ever there
    RSS_OVERHEAD,                 // headers of pools, and their remainders
    RSS_SLACK,                    // not in use, as far as the owner says
    RSS_NSTATES
};

struct rss_row {
    uint8_t kind;
    uint8_t state;
    uint32_t name;                // in the texts; 0: none
    uint32_t count;               // mappings, or what the kind consists of
    uint64_t size;                // resident bytes
};

/* What could not be looked at: bits of rss_result.lacks. */
#define RSS_NO_SMAPS 1
#define RSS_NO_PAGEMAP 2          // mincore() is asked instead
#define RSS_NO_MEMORY_FILE 4      // nothing can be read safely
#define RSS_TOO_MANY 8            // mappings: the rest is not explained
#define RSS_NOTHING 16            // not even how much is resident

struct rss_result {
    struct rss_row *rows;
    uint32_t nrows;
    const char *texts;
    uint32_t lacks;
    uint64_t total;               // the kernel's own figure
    uint64_t own;                 // of it, the workspace itself
    int traced;                   // so that parked blocks are known
};

/* --- In the workspace */

/* What the kernel lists. */
struct rss_vma {
    uintptr_t begin, end;
    uint64_t pages;               // resident
    uint32_t name;
    uint8_t readable, writable, executable, shared, file;
};

/* Addresses of which something is known ahead, by address; none overlap. */
enum rss_known {
    RSS_KNOWN_LIBRARY,
    RSS_KNOWN_ARENA,
    RSS_KNOWN_FRAMES,             // of Python functions, of a thread
    RSS_KNOWN_TRACER,
    RSS_KNOWN_WORKSPACE,
};
struct rss_range {
    uintptr_t begin, end;
    enum rss_known what;
    uint32_t number;              // of the library or arena
};

/* A part of a mapping that has one owner. */
struct rss_piece {
    uintptr_t begin, end;
    uint32_t vma;
    uint32_t name;
    uint32_t number;              // of an arena
    uint8_t kind;                 // enum rss_kind
    uint64_t sure, perhaps;       // pages: the latter may be the zero page,
                                  //   which the kernel does not count
    uint64_t pages;               // that count
};

/* Which pages of an arena are there. */
#define RSS_ARENA_WORDS 4         // of 64 pages
struct rss_arena {
    uintptr_t address;
    uint64_t sure[RSS_ARENA_WORDS], all[RSS_ARENA_WORDS];
    uint64_t pages;               // that count
};

/* Names that are no file's. */
enum rss_fixed {
    RSS_NAME_MAIN,                // thread
    RSS_NAME_THREADS,
    RSS_NAME_STORAGE,             // of the main thread
    RSS_NAME_FRAMES,
    RSS_NAME_HEAP,
    RSS_NAME_MAPPED,
    RSS_NAME_TABLES,
    RSS_NAME_SNAPSHOTS,
    RSS_NAME_OWN,
    RSS_NFIXED
};

struct rss_library {
    uint32_t name;
    uint8_t system;               // the loader, the C library, the program
};

struct rss_work {
    char *memory, *end, *next;    // of the workspace
    const char *proc;             // "/proc/self"
    int pagemap, mem;             // descriptors, or -1
    size_t page;                  // bytes
    uint32_t lacks;
    int full;                     // there are more mappings than fit
    uint64_t more;                // pages of these
    char *buffer;                 // RSS_BUFFER bytes
    char *texts;
    uint32_t ntexts;              // bytes
    struct rss_vma *vmas;
    uint32_t nvmas;
    struct rss_range *ranges;
    uint32_t nranges, max_ranges;
    struct rss_piece *pieces;
    uint32_t npieces;
    struct rss_arena *arenas;
    uint32_t narenas, max_arenas;
    struct rss_library *libraries;
    uint32_t nlibraries;
    struct rss_row *rows;
    uint32_t nrows;
    struct rss_piece *block;      // of malloc(), which may go on in the next
    uintptr_t block_end;          //   mapping, up to here
    uint64_t questions;           // left, whether a page is there
    uint32_t steps;               // left, from page to page
    uint32_t fixed[RSS_NFIXED];   // texts
    uint64_t total;
};
#define RSS_BUFFER (64 * 1024)
#define RSS_TEXTS (1024 * 1024)
#define RSS_MAX_VMAS 65536
#define RSS_MAX_PIECES 131072
#define RSS_MAX_LIBRARIES 4096
#define RSS_MAX_ROWS 8192

static inline uintptr_t
_PyTracer_RssRound(const struct rss_work *w, uintptr_t address)
{
    return (address + w->page - 1) & ~(uintptr_t)(w->page - 1);
}

/* tracer_rss_read.c: what the kernel says. */
/* 0, or -1: no memory. */
extern int _PyTracer_RssInit(void);
extern void _PyTracer_RssCloseFiles(struct rss_work *w);
extern uint32_t _PyTracer_RssText(struct rss_work *w, const char *text,
                                  size_t length);
extern int _PyTracer_RssReadSmaps(struct rss_work *w);
extern uint64_t _PyTracer_RssReadStatm(struct rss_work *w);
/* Count the resident pages of a piece; those of an arena are noted. */
extern void _PyTracer_RssCountPages(struct rss_work *w,
                                    struct rss_piece *piece);
extern uintptr_t _PyTracer_RssNextResident(struct rss_work *w,
                                           uintptr_t from, uintptr_t end);
/* Copy memory that may be gone, within one page and only if that is resident;
   0: it was not copied. */
extern int _PyTracer_RssPeek(struct rss_work *w, uintptr_t address, void *to,
                             size_t size);
/* Copy what is resident from there on, at most RSS_COPIED pages and
   RSS_BUFFER bytes; bytes copied, 0: the first page is not. */
#define RSS_COPIED 16
extern size_t _PyTracer_RssCopy(struct rss_work *w, uintptr_t from,
                                uintptr_t to, void *copy);

/* tracer_rss_known.c: from addresses to owners. */
extern void _PyTracer_RssKnow(struct rss_work *w);
extern const struct rss_range *_PyTracer_RssFindRange(
    const struct rss_work *w, uintptr_t address);
extern void _PyTracer_RssRecognise(struct rss_work *w, uint32_t vma,
                                   uintptr_t begin, uintptr_t end);
extern struct rss_piece *_PyTracer_RssAddPiece(
    struct rss_work *w, uint32_t vma, uintptr_t begin, uintptr_t end,
    enum rss_kind kind, uint32_t name);

/* tracer_rss_pointers.c: who points there. */
extern void _PyTracer_RssFollowPointers(struct rss_work *w);

/* tracer_rss_pools.c: the arenas. */
/* Resident bytes of arenas by enum rss_state: all of the arenas' pages. */
extern void _PyTracer_RssSplitArenas(struct rss_work *w, uint64_t *states);

/* tracer_rss.c.  GIL held, which is released in between, not locked.  0, or
   -1: no memory.  Exported for the extension _testtracer. */
PyAPI_FUNC(int) _PyTracer_CollectRss(struct rss_work *w, const char *proc,
                                     struct rss_result *result);
PyAPI_FUNC(void) _PyTracer_FreeRss(struct rss_work *w);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_RSS_H */
