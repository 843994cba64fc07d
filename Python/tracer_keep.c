/* The call tree outlives its process: it lies in a file.

   With -X tracemalloc_file, the nodes and their counters are shared mappings
   of a file, at the addresses that they would have anyway.  So the code that
   counts blocks does not know about the file.  Nothing has to be done when the
   process ends: the kernel has the pages, and whoever reads the file gets
   them.  pycore_tracer_kept.h describes the contents.

   Texts and locations move when they grow, and contain pointers.  The file has
   copies of these, made when one is interned.

   If the disk has no room (see tracer_keep_file.c), the tree continues in
   memory, the file is marked as incomplete, and one line says so. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"

#include <errno.h>
#include <fcntl.h>                // open()
#include <stdio.h>                // snprintf()
#include <sys/mman.h>             // mmap()
#include <unistd.h>

#define HEADER_UNITS (KEPT_HEADER_SIZE / KEPT_UNIT)
#define FIRST_UNITS (HEADER_UNITS + 16)    // with those of the first nodes
#define MORE_UNITS 16             // asked for at once

/* Addresses for the copies of texts, strings and places; what is not touched
   costs nothing. */
#define TEXT_ROOM ((size_t)1 << 30)
#define STRINGS_ROOM (((size_t)1 << TRACER_NODE_BITS) \
                      * sizeof(struct kept_string))
#define PLACES_ROOM (((size_t)1 << TRACER_NODE_BITS) \
                     * sizeof(struct kept_place))

static struct kept_header nowhere;
struct kept_header *_PyTracer_kept = &nowhere;

static struct tracer_keep_file *const file = &_PyTracer_keep_file;

static struct {
    int grows;
    struct {
        char *base;
        size_t end;               // bytes in the file
    } arrays[KEPT_NARRAYS];
} keep;

/* --- Growth */

static void
stop_growing(int error)
{
    keep.grows = 0;
    _PyTracer_kept->incomplete = 1;
    _PyTracer_SayOfKept(
        file->name, _PyTracer_WhyNotKept(error),
        "what is new in the call tree is not kept from now on");
}

static struct kept_extent *
directory(void)
{
    return (struct kept_extent *)((char *)_PyTracer_kept + KEPT_DIRECTORY);
}

/* 0, or an error. */
static int
add_extent(enum kept_array array, size_t units)
{
    struct kept_header *header = _PyTracer_kept;
    struct kept_extent *extents = directory();
    uint64_t first = header->nunits;
    if (header->nextents == KEPT_MAX_EXTENTS) {
        return EFBIG;
    }
    if (first + units > file->allocated
        && _PyTracer_AllocateKept(file, first + units + MORE_UNITS) != 0)
    {
        int error = _PyTracer_AllocateKept(file, first + units);
        if (error != 0) {
            return error;
        }
    }
    int fd = _PyTracer_KeptDescriptor(file);
    if (fd < 0) {
        return errno;
    }
    char *at = keep.arrays[array].base + keep.arrays[array].end;
    size_t size = units * KEPT_UNIT;
    if (at != NULL
        && mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                (off_t)(first * KEPT_UNIT)) == MAP_FAILED)
    {
        return errno;
    }
    extents[header->nextents] = (struct kept_extent){
        .array = array, .first = (uint32_t)first, .units = (uint32_t)units};
    assert(units > 0 && first >= HEADER_UNITS
           && first + units <= file->allocated);
    header->nunits = first + units;
    TRACER_PUBLISH(nextents, header->nextents + 1);
    keep.arrays[array].end += size;
    return 0;
}

size_t
_PyTracer_KeepArray(enum kept_array array, void *base, size_t end)
{
    _PyTracer_ASSERT_LOCKED();
    size_t *kept = &keep.arrays[array].end;
    if (keep.grows && *kept < end) {
        int saved_errno = errno;
        keep.arrays[array].base = base;
        size_t units = (end - *kept + KEPT_UNIT - 1) / KEPT_UNIT;
        int error = add_extent(array, units);
        if (error != 0) {
            stop_growing(error);
        }
        errno = saved_errno;
    }
    return *kept;
}

size_t
_PyTracer_KeptArray(enum kept_array array, char **base)
{
    *base = keep.arrays[array].base;
    return keep.arrays[array].end;
}

/* --- Copies of texts and places */

static const struct {
    enum kept_array array;
    size_t room;
} copies[] = {
    {KEPT_TEXT, TEXT_ROOM},
    {KEPT_STRINGS, STRINGS_ROOM},
    {KEPT_PLACES, PLACES_ROOM},
};

static int
reserve_copies(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(copies); i++) {
        void *range = _PyTracer_MemReserve(copies[i].room, 0);
        if (range == NULL) {
            return ENOMEM;
        }
        keep.arrays[copies[i].array].base = range;
    }
    return 0;
}

static void
release_copies(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(copies); i++) {
        _PyTracer_MemRelease(keep.arrays[copies[i].array].base,
                             copies[i].room);
    }
    memset(keep.arrays, 0, sizeof(keep.arrays));
}

/* Where the items are, if the file has room up to this one. */
static void *
copy_of(enum kept_array array, uint64_t end, size_t item)
{
    char *base = keep.arrays[array].base;
    return base != NULL
           && _PyTracer_KeepArray(array, base, end * item) >= end * item
           ? base : NULL;
}

/* Once one text is missing, all later ones are: numbers have no holes. */
void
_PyTracer_KeepText(uint32_t id, const char *utf8, uint32_t length)
{
    struct kept_header *header = _PyTracer_kept;
    uint64_t offset = header->text_size;
    if (header == &nowhere || id != header->nstrings
        || offset + length > TEXT_ROOM)
    {
        return;
    }
    char *text = copy_of(KEPT_TEXT, offset + length, 1);
    struct kept_string *strings = copy_of(KEPT_STRINGS, (uint64_t)id + 1,
                                          sizeof(*strings));
    if (text == NULL || strings == NULL) {
        return;
    }
    memcpy(text + offset, utf8, length);
    strings[id] = (struct kept_string){offset, length};
    TRACER_PUBLISH(text_size, offset + length);
    TRACER_PUBLISH(nstrings, id + 1);
}

void
_PyTracer_KeepPlace(uint32_t id, const struct kept_place *place)
{
    struct kept_header *header = _PyTracer_kept;
    if (header == &nowhere || id > header->nplaces) {
        return;
    }
    struct kept_place *places = copy_of(KEPT_PLACES, (uint64_t)id + 1,
                                        sizeof(*places));
    if (places != NULL) {
        places[id] = *place;
        if (id == header->nplaces) {
            TRACER_PUBLISH(nplaces, id + 1);
        }
    }
}

/* --- Begin and end */

static uint32_t
read_command(char *to, size_t size)
{
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, to, size);
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? 0 : (uint32_t)n;
}

void
_PyTracer_FillHeader(struct kept_header *header, uint32_t limit)
{
    /* Nothing in the directory is read before it is written again. */
    memset(header, 0, sizeof(*header));
    header->byte_order = KEPT_BYTE_ORDER;
    header->version = KEPT_VERSION;
    header->sizes = KEPT_SIZES;
    header->limit = limit;
    header->pid = (uint32_t)getpid();
    header->nunits = HEADER_UNITS;
    header->began = _PyTracer_Now(CLOCK_REALTIME);
    header->clock_began = header->looked = _PyTracer_Now(CLOCK_MONOTONIC);
    snprintf(header->python, sizeof(header->python), "%s", PY_VERSION);
    header->command_size = read_command(header->command,
                                        sizeof(header->command));
}

/* Make a file without arrays; 0, or an error. */
static int
make_file(uint32_t limit)
{
    int error = _PyTracer_OpenKept(file);
    if (error == 0 && !_PyTracer_PromisesRoom(file)) {
        error = EOPNOTSUPP;
    }
    if (error == 0) {
        error = _PyTracer_AllocateKept(file, FIRST_UNITS);
    }
    int fd = _PyTracer_KeptDescriptor(file);
    if (error != 0 || fd < 0) {
        return error != 0 ? error : errno;
    }
    struct kept_header *header = _PyTracer_kept;
    if (header == &nowhere) {
        header = mmap(NULL, KEPT_HEADER_SIZE, PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, 0);
        if (header == MAP_FAILED) {
            return errno;
        }
    }
    _PyTracer_FillHeader(header, limit);
    _PyTracer_kept = header;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    memcpy(header->magic, KEPT_MAGIC, KEPT_MAGIC_SIZE);
    return 0;
}

static void
forget_header(void)
{
    if (_PyTracer_kept != &nowhere) {
        munmap(_PyTracer_kept, KEPT_HEADER_SIZE);
        _PyTracer_kept = &nowhere;
    }
}

void
_PyTracer_BeginKeeping(uint32_t limit)
{
    _PyTracer_ASSERT_LOCKED();
    if (file->wanted[0] == '\0' && file->name[0] == '\0') {
        return;
    }
    int saved_errno = errno;
    int error = make_file(limit);
    if (error == 0) {
        error = reserve_copies();
    }
    keep.grows = error == 0;
    if (error != 0) {
        _PyTracer_SayOfKept(
            file->name[0] == '\0' ? file->wanted : file->name,
            error == EEXIST ? "it is there, and is no kept call tree"
                            : _PyTracer_WhyNotKept(error),
            "the call tree is not kept");
        _PyTracer_StopKeeping();
    }
    errno = saved_errno;
}

void
_PyTracer_ClearKept(void)
{
    if (_PyTracer_kept == &nowhere) {
        return;
    }
    keep.grows = 0;
    TRACER_PUBLISH(nnodes, 0);
    TRACER_PUBLISH(nnatives, 0);
    TRACER_PUBLISH(nextents, 0);
    release_copies();
    /* What is mapped later must be zero. */
    if (_PyTracer_TruncateKept(file, HEADER_UNITS) != 0) {
        _PyTracer_StopKeeping();
    }
}

void
_PyTracer_StopKeeping(void)
{
    keep.grows = 0;
    release_copies();
    forget_header();
    _PyTracer_RemoveKept(file);
    _PyTracer_CloseKept(file);
}

/* This process is about to become another program, or, if `replaces` is 0,
   that has failed. */
void
_PyTracer_NoteExec(int replaces)
{
    _PyTracer_Lock();
    TRACER_PUBLISH(replaced, (uint32_t)replaces);
    _PyTracer_Unlock();
}

/* --- Children of a fork */

/* Write all arrays, as they are in memory, behind the header; 0, or an
   error. */
static int
write_arrays(void)
{
    size_t size = KEPT_HEADER_SIZE;
    for (int i = 0; i < KEPT_NARRAYS; i++) {
        assert(keep.arrays[i].end % KEPT_UNIT == 0);
        size += keep.arrays[i].end;
    }
    int error = _PyTracer_AllocateKept(file, size / KEPT_UNIT);
    size = KEPT_HEADER_SIZE;
    for (int i = 0; i < KEPT_NARRAYS && error == 0; i++) {
        if (_PyTracer_WriteKept(file, size, keep.arrays[i].base,
                                keep.arrays[i].end) < 0)
        {
            error = errno;
        }
        size += keep.arrays[i].end;
    }
    return error;
}

/* Put pages of the file in the place of the arrays; 0, or an error. */
static int
map_arrays(void)
{
    int error = 0;
    for (int i = 0; i < KEPT_NARRAYS && error == 0; i++) {
        size_t size = keep.arrays[i].end;
        keep.arrays[i].end = 0;
        error = size == 0 ? 0 : add_extent(i, size / KEPT_UNIT);
    }
    return error;
}

/* Texts and places are still pages of the parent, where nothing changes that
   was there at the fork.  Rows of the peak may change: the caller has copies
   of them. */
int
_PyTracer_KeepInChild(const struct kept_header *before)
{
    if (!file->each) {
        return -1;
    }
    forget_header();
    _PyTracer_CloseKept(file);
    keep.arrays[KEPT_PEAK].end = keep.arrays[KEPT_OTHER_PEAK].end = 0;
    int error = make_file(before->limit);
    if (error == 0) {
        error = write_arrays();
    }
    if (error == 0) {
        error = map_arrays();
    }
    if (error != 0) {
        _PyTracer_SayOfKept(file->name, _PyTracer_WhyNotKept(error),
                            "the call tree of a forked process is not kept");
        _PyTracer_RemoveKept(file);
        return -1;
    }
    struct kept_header *header = _PyTracer_kept;
    memcpy(&header->nnodes, &before->nnodes,
           offsetof(struct kept_header, spill)
           - offsetof(struct kept_header, nnodes));
    header->nnatives = before->nnatives;
    header->peak = 0;
    header->incomplete = before->incomplete;
    keep.grows = !before->incomplete;
    return 0;
}

void
_PyTracer_LeaveKept(void)
{
    keep.grows = 0;
    release_copies();
    forget_header();
    _PyTracer_CloseKept(file);
    file->wanted[0] = '\0';
}

/* --- Written, not mapped */

uint64_t
_PyTracer_OpenKeptTail(size_t size)
{
    uint64_t first = _PyTracer_kept->nunits;
    uint64_t end = first + (size + KEPT_UNIT - 1) / KEPT_UNIT;
    return _PyTracer_kept != &nowhere && _PyTracer_AllocateKept(file, end) == 0
           ? first * KEPT_UNIT : 0;
}

/* What was written there must be zero before it is used again. */
void
_PyTracer_CloseKeptTail(void)
{
    if (_PyTracer_kept != &nowhere
        && _PyTracer_TruncateKept(file, _PyTracer_kept->nunits) != 0)
    {
        stop_growing(EACCES);
    }
}

static int
write_rows(uint32_t array, const uint8_t *rows, size_t length)
{
    const struct kept_extent *extents = directory();
    for (uint32_t i = 0; i < _PyTracer_kept->nextents && length > 0; i++) {
        if (extents[i].array == array) {
            size_t n = Py_MIN(extents[i].units * KEPT_UNIT, length);
            if (_PyTracer_WriteKept(file, extents[i].first * KEPT_UNIT, rows,
                                    n) < 0)
            {
                return -1;
            }
            rows += n;
            length -= n;
        }
    }
    return length == 0 ? 0 : -1;
}

/* New rows are written to the array that does not have the present ones. */
static uint32_t
next_peak(void)
{
    return _PyTracer_kept->peak == KEPT_PEAK ? KEPT_OTHER_PEAK : KEPT_PEAK;
}

void
_PyTracer_ReservePeak(void)
{
    struct kept_header *header = _PyTracer_kept;
    if (header->peak != 0) {
        (void)_PyTracer_KeepArray(
            next_peak(), NULL, header->peak_lengths[header->peak - KEPT_PEAK]);
    }
}

void
_PyTracer_KeepPeak(const uint8_t *rows, size_t length)
{
    struct kept_header *header = _PyTracer_kept;
    if (header == &nowhere) {
        return;
    }
    int saved_errno = errno;
    uint32_t array = next_peak();
    if (_PyTracer_KeepArray(array, NULL, length) >= length
        && write_rows(array, rows, length) == 0)
    {
        header->peak_lengths[array - KEPT_PEAK] = length;
        TRACER_PUBLISH(peak, array);
    }
    errno = saved_errno;
}
