/* Resident memory: what the kernel says.

   smaps lists the mappings, and how much of each is resident: the figure to
   which everything else has to add up.  pagemap says which pages are resident;
   if it is hidden, mincore() says so for anonymous memory.  Neither needs a
   privilege.  Memory that was only read consists of the zero page, which is
   present but not resident: the bits of a page tell whether it may be that
   one.

   Memory of the program is read through /proc/self/mem: a thread that has no
   GIL may unmap it meanwhile, and then the kernel returns an error instead of
   ending the process.  Only resident pages are read, so that reading makes no
   page resident. */

#include "Python.h"
#include "pycore_tracer_rss.h"

#include <fcntl.h>                // open()
#include <pthread.h>              // pthread_atfork()
#include <stdlib.h>
#include <sys/mman.h>             // mincore()
#include <unistd.h>               // read()

#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_FILE (UINT64_C(1) << 61)
#define PAGE_EXCLUSIVE (UINT64_C(1) << 56)
#define RSS_ASKED 8192            // pages at a time
#define RSS_OPENED 64             // files, of all threads

/* The number of a text; the last one is found again, since the mappings of a
   library are neighbours. */
uint32_t
_PyTracer_RssText(struct rss_work *w, const char *text, size_t length)
{
    static const char none[] = "";
    if (w->ntexts == 0) {
        w->texts[w->ntexts++] = none[0];
    }
    if (length == 0) {
        return 0;
    }
    uint32_t last = w->ntexts - 1;
    while (last > 1 && w->texts[last - 1] != '\0') {
        last--;
    }
    if (w->ntexts - 1 - last == length
        && memcmp(w->texts + last, text, length) == 0)
    {
        return last;
    }
    if (w->ntexts + length + 1 > RSS_TEXTS) {
        w->lacks |= RSS_TOO_MANY;
        return 0;
    }
    last = w->ntexts;
    memcpy(w->texts + last, text, length);
    w->texts[last + length] = '\0';
    w->ntexts += (uint32_t)length + 1;
    return last;
}

/* --- Files.  Another thread may fork meanwhile: its child must not go on with
   a descriptor by which it reads the memory of its parent. */

static int opened[RSS_OPENED];    // descriptors and 1, or 0; atomic

static void
close_in_child(void)
{
    for (int i = 0; i < RSS_OPENED; i++) {
        if (opened[i] != 0) {
            (void)close(opened[i] - 1);
            opened[i] = 0;
        }
    }
}

static int
open_proc(const struct rss_work *w, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", w->proc, name);
    int fd = n < 0 || (size_t)n >= sizeof(path)
             ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < RSS_OPENED; i++) {
        int none = 0;
        if (_Py_atomic_compare_exchange_int(&opened[i], &none, fd + 1)) {
            break;
        }
    }
    return fd;
}

static void
close_proc(int fd)
{
    for (int i = 0; fd >= 0 && i < RSS_OPENED; i++) {
        int here = fd + 1;
        if (_Py_atomic_compare_exchange_int(&opened[i], &here, 0)) {
            break;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

void
_PyTracer_RssCloseFiles(struct rss_work *w)
{
    close_proc(w->pagemap);
    close_proc(w->mem);
    w->pagemap = w->mem = -1;
}

/* GIL held. */
int
_PyTracer_RssInit(void)
{
    static int registered = 0;
    if (!registered && pthread_atfork(NULL, NULL, close_in_child) != 0) {
        return -1;
    }
    registered = 1;
    return 0;
}

/* --- smaps */

static uintptr_t
parse_hex(const char **p)
{
    uintptr_t value = 0;
    for (;; ++*p) {
        char c = **p;
        if (c >= '0' && c <= '9') {
            value = value * 16 + (uintptr_t)(c - '0');
        }
        else if (c >= 'a' && c <= 'f') {
            value = value * 16 + (uintptr_t)(c - 'a' + 10);
        }
        else {
            return value;
        }
    }
}

/* "begin-end perms offset device inode   name", or not a mapping. */
static int
parse_mapping(struct rss_work *w, const char *line, struct rss_vma *vma)
{
    const char *p = line;
    vma->begin = parse_hex(&p);
    if (*p++ != '-') {
        return 0;
    }
    vma->end = parse_hex(&p);
    if (*p != ' ' || strlen(p) < 6) {
        return 0;
    }
    vma->readable = p[1] == 'r';
    vma->writable = p[2] == 'w';
    vma->executable = p[3] == 'x';
    vma->shared = p[4] == 's';
    vma->pages = 0;
    const char *inode = p;
    for (int field = 0; field < 4; field++) {
        while (*p == ' ') {
            p++;
        }
        inode = p;
        while (*p != ' ' && *p != '\0') {
            p++;
        }
    }
    vma->file = *inode != '0';
    while (*p == ' ') {
        p++;
    }
    vma->name = _PyTracer_RssText(w, p, strlen(p));
    return 1;
}

/* Lines with the properties of a mapping begin with a capital letter. */
static void
take_line(struct rss_work *w, const char *line)
{
    if (strncmp(line, "Rss:", 4) == 0) {
        uint64_t pages = strtoull(line + 4, NULL, 10) * 1024 / w->page;
        w->total += pages;
        if (w->full) {
            w->more += pages;
        }
        else if (w->nvmas > 0) {
            w->vmas[w->nvmas - 1].pages = pages;
        }
    }
    else if (*line < 'A' || *line > 'Z') {
        if (w->nvmas == RSS_MAX_VMAS) {
            w->full = 1;
            w->lacks |= RSS_TOO_MANY;
        }
        else if (parse_mapping(w, line, &w->vmas[w->nvmas])) {
            w->nvmas++;
        }
    }
}

/* 0, or -1: there is none. */
int
_PyTracer_RssReadSmaps(struct rss_work *w)
{
    int fd = open_proc(w, "smaps");
    if (fd < 0) {
        return -1;
    }
    size_t have = 0;
    ssize_t n;
    while ((n = read(fd, w->buffer + have, RSS_BUFFER - 1 - have)) > 0) {
        have += (size_t)n;
        char *line = w->buffer;
        char *end;
        while ((end = memchr(line, '\n',
                             have - (size_t)(line - w->buffer))) != NULL)
        {
            *end = '\0';
            take_line(w, line);
            line = end + 1;
        }
        have -= (size_t)(line - w->buffer);
        memmove(w->buffer, line, have);
    }
    close_proc(fd);
    w->pagemap = open_proc(w, "pagemap");
    w->mem = open_proc(w, "mem");
    w->lacks |= (w->pagemap < 0 ? RSS_NO_PAGEMAP : 0)
                | (w->mem < 0 ? RSS_NO_MEMORY_FILE : 0);
    return w->nvmas == 0 ? -1 : 0;
}

/* Resident pages according to statm, which is inexact on some kernels. */
uint64_t
_PyTracer_RssReadStatm(struct rss_work *w)
{
    int fd = open_proc(w, "statm");
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, w->buffer, RSS_BUFFER - 1);
    close_proc(fd);
    w->buffer[n > 0 ? n : 0] = '\0';
    char *end;
    (void)strtoull(w->buffer, &end, 10);
    return strtoull(end, NULL, 10);
}

/* --- Which pages.  Mappings need not end with one: an emulator tells the
   program of larger pages than those of the kernel. */

static void
count_page(struct rss_work *w, struct rss_piece *piece, uintptr_t address,
           int sure)
{
    *(sure ? &piece->sure : &piece->perhaps) += 1;
    if (piece->kind == RSS_PYMALLOC) {
        struct rss_arena *arena = &w->arenas[piece->number];
        uint64_t page = (address - arena->address) / w->page;
        if (page < 64 * RSS_ARENA_WORDS) {
            uint64_t bit = UINT64_C(1) << page % 64;
            arena->all[page / 64] |= bit;
            arena->sure[page / 64] |= sure ? bit : 0;
        }
    }
}

static int
ask_pagemap(struct rss_work *w, struct rss_piece *piece)
{
    if (w->pagemap < 0) {
        return -1;
    }
    uint64_t *entries = (uint64_t *)w->buffer;
    uintptr_t address = piece->begin;
    while (piece->end - address >= w->page) {
        size_t n = Py_MIN((piece->end - address) / w->page,
                          RSS_BUFFER / sizeof(*entries));
        ssize_t size = pread(w->pagemap, entries, n * sizeof(*entries),
                             (off_t)(address / w->page * sizeof(*entries)));
        if (size < (ssize_t)sizeof(*entries)) {
            return -1;
        }
        n = (size_t)size / sizeof(*entries);
        for (size_t i = 0; i < n; i++, address += w->page) {
            if (entries[i] & PAGE_PRESENT) {
                count_page(w, piece, address,
                           (entries[i] & (PAGE_FILE | PAGE_EXCLUSIVE)) != 0);
            }
        }
    }
    return 0;
}

static void
ask_mincore(struct rss_work *w, struct rss_piece *piece)
{
    unsigned char *resident = (unsigned char *)w->buffer;
    uintptr_t address = piece->begin;
    while (piece->end - address >= w->page) {
        size_t n = Py_MIN((piece->end - address) / w->page, RSS_BUFFER);
        if (mincore((void *)address, n * w->page, resident) != 0) {
            return;
        }
        for (size_t i = 0; i < n; i++, address += w->page) {
            if (resident[i] & 1) {
                count_page(w, piece, address, 0);
            }
        }
    }
}

void
_PyTracer_RssCountPages(struct rss_work *w, struct rss_piece *piece)
{
    piece->sure = piece->perhaps = 0;
    if (ask_pagemap(w, piece) < 0) {
        w->lacks |= RSS_NO_PAGEMAP;
        piece->sure = piece->perhaps = 0;
        ask_mincore(w, piece);
    }
}

/* The first resident page from there on, or `end`; also `end` if so many pages
   were looked up already that the program must have reserved terabytes. */
uintptr_t
_PyTracer_RssNextResident(struct rss_work *w, uintptr_t from, uintptr_t end)
{
    unsigned char resident[RSS_ASKED];
    size_t n = 1;                 // mostly it is the next one
    while (from < end && end - from >= w->page) {
        n = Py_MIN((end - from) / w->page, n);
        if (w->questions < n) {
            return end;
        }
        w->questions -= n;
        if (mincore((void *)from, n * w->page, resident) != 0) {
            return end;
        }
        for (size_t i = 0; i < n; i++, from += w->page) {
            if (resident[i] & 1) {
                return from;
            }
        }
        n = RSS_ASKED;
    }
    return end;
}

/* --- Contents */

static int
is_resident(const struct rss_work *w, uintptr_t address)
{
    unsigned char resident;
    void *page = (void *)(address & ~(uintptr_t)(w->page - 1));
    return mincore(page, 1, &resident) == 0 && (resident & 1);
}

int
_PyTracer_RssPeek(struct rss_work *w, uintptr_t address, void *to,
                  size_t size)
{
    assert(address / w->page == (address + size - 1) / w->page);
    return w->mem >= 0 && is_resident(w, address)
           && pread(w->mem, to, size, (off_t)address) == (ssize_t)size;
}

size_t
_PyTracer_RssCopy(struct rss_work *w, uintptr_t from, uintptr_t to,
                  void *copy)
{
    unsigned char resident[RSS_COPIED];
    size_t n = Py_MIN((to - from) / w->page, RSS_BUFFER / w->page);
    n = Py_MIN(n, RSS_COPIED);
    if (mincore((void *)from, n * w->page, resident) != 0) {
        return 0;
    }
    size_t size = 0;
    for (size_t i = 0; i < n && (resident[i] & 1); i++) {
        size += w->page;
    }
    ssize_t copied = size == 0 ? 0 : pread(w->mem, copy, size, (off_t)from);
    return copied < 0 ? 0 : (size_t)copied;
}
