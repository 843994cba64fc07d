/* The call tree is written when a request for memory fails.

   The thread whose request failed writes it before its caller learns of the
   failure: when the exception is handled, what was live may have been freed.
   At that moment there is no memory, not even 64 KiB.  So nothing here
   allocates: the descriptor, the names and the buffer exist before, and the
   tree is written by write(2), in the format of a kept file
   (pycore_tracer_kept.h).  The size and the stack of the request, which are in
   no tree, are written with it.

   A program may continue and fail again.  If several requests fail within a
   second of each other, the first one is written, since the others are mostly
   consequences of it.  A request for more than a limit or the machine could
   ever provide says little about what is live: it never replaces another one,
   and any other replaces it.

   Libraries have allocators of their own.  When one of these fails, all that
   can be seen is the exception.  So a MemoryError that no request of its thread
   has announced is noted where it is made, as a request of unknown size.

   A file that has a tree is replaced by another one when that is complete: a
   process that is killed meanwhile leaves the earlier one.

   While a thread without the GIL writes, the counters of small blocks change.
   Each is right by itself, as in a process that is killed. */

#include "Python.h"
#include "pycore_frame.h"         // _PyFrame_GetFirstComplete()
#include "pycore_tracer_clock.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_keep_copy.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_walk.h"
#include "pycore_tracer_windows.h"

#include <errno.h>
#include <fcntl.h>                // open()
#include <stdlib.h>               // strtoull()
#include <sys/resource.h>         // getrlimit()
#include <sys/sysinfo.h>          // sysinfo()
#include <unistd.h>

#define BUFFER_SIZE (16 * 1024)
#define MAX_FRAMES 256
#define MAX_EXTENTS 4
#define MAX_TRIES 4
#define HEADER_UNITS (KEPT_HEADER_SIZE / KEPT_UNIT)

struct tracer_oom _PyTracer_oom = {.file.fd = -1};

static struct tracer_oom *const oom = &_PyTracer_oom;
static struct tracer_keep_file next = {.fd = -1};     // see open_file()

/* What is being written, and where. */
static struct {
    struct tracer_keep_file *file;
    struct kept_header header;
    struct kept_extent extents[MAX_EXTENTS];
    uint64_t offset;              // where the buffer goes
    size_t used;                  // of the buffer
    int error;
    char buffer[BUFFER_SIZE];
} out;

/* --- Written through a buffer */

static void
write_at(uint64_t offset, const void *data, size_t size)
{
    if (out.error == 0
        && _PyTracer_WriteKept(out.file, offset, data, size) < 0)
    {
        out.error = errno;
    }
}

static void
flush(void)
{
    write_at(out.offset, out.buffer, out.used);
    out.offset += out.used;
    out.used = 0;
}

static void
put(const void *data, size_t size)
{
    if (size > BUFFER_SIZE - out.used) {
        flush();
    }
    if (size > BUFFER_SIZE) {
        write_at(out.offset, data, size);
        out.offset += size;
        return;
    }
    memcpy(out.buffer + out.used, data, size);
    out.used += size;
}

/* Where the next unit begins. */
static uint64_t
round_up(uint64_t offset)
{
    return (offset + KEPT_UNIT - 1) / KEPT_UNIT * KEPT_UNIT;
}

/* All that was put since the last array makes an array. */
static void
end_array(enum kept_array array)
{
    struct kept_header *header = &out.header;
    flush();
    uint64_t end = round_up(out.offset) / KEPT_UNIT;
    assert(header->nextents < MAX_EXTENTS);
    out.extents[header->nextents++] = (struct kept_extent){
        .array = array, .first = (uint32_t)header->nunits,
        .units = (uint32_t)(end - header->nunits)};
    header->nunits = end;
    out.offset = end * KEPT_UNIT;
}

/* --- The stack of the request, behind the texts and places that are known */

static void
put_text(PyObject *str)
{
    uint32_t length;
    const char *utf8 = _PyTracer_EncodeText(str, &length);
    put(utf8, length);
    out.header.text_size += length;
}

static void
put_string(uint64_t *offset, PyObject *str)
{
    uint32_t length;
    (void)_PyTracer_EncodeText(str, &length);
    struct kept_string string = {*offset, length};
    put(&string, sizeof(string));
    *offset += length;
}

static void
put_place(_PyInterpreterFrame *frame, uint32_t filename)
{
    PyCodeObject *code = _PyFrame_GetCode(frame);
    struct tracer_decoder decoder = {0};
    struct tracer_position pos = _PyTracer_DecodeLine(
        code, &decoder, _PyTracer_InstrOffset(frame));
    struct kept_place place = {
        .filename = filename, .function = filename + 1,
        .line = Py_MAX(pos.line, 0), .end_line = Py_MAX(pos.end_line, -1),
        .column = Py_MAX(pos.column, -1),
        .end_column = Py_MAX(pos.end_column, -1),
        .first_line = Py_MAX(code->co_firstlineno, -1)};
    put(&place, sizeof(place));
}

/* For each of the newest frames, the newest first. */
#define FOR_FRAMES(FRAME, TOP, NUMBER)                                  \
    uint32_t NUMBER = 0;                                                \
    for (_PyInterpreterFrame *FRAME = (TOP);                            \
         FRAME != NULL && NUMBER < MAX_FRAMES;                          \
         NUMBER++, FRAME = _PyFrame_GetFirstComplete(FRAME->previous))

static void
put_texts(_PyInterpreterFrame *top)
{
    const struct tracer_texts *texts = &_PyTracer_texts;
    for (uint32_t id = 0; id < texts->nstrings; id++) {
        put(texts->strings[id].utf8, texts->strings[id].length);
        out.header.text_size += texts->strings[id].length;
    }
    FOR_FRAMES(frame, top, n) {
        PyCodeObject *code = _PyFrame_GetCode(frame);
        put_text(code->co_filename);
        put_text(code->co_qualname);
    }
    end_array(KEPT_TEXT);
}

static void
put_strings(_PyInterpreterFrame *top)
{
    const struct tracer_texts *texts = &_PyTracer_texts;
    uint64_t offset = 0;
    for (uint32_t id = 0; id < texts->nstrings; id++) {
        struct kept_string string = {offset, texts->strings[id].length};
        put(&string, sizeof(string));
        offset += string.length;
    }
    FOR_FRAMES(frame, top, n) {
        PyCodeObject *code = _PyFrame_GetCode(frame);
        put_string(&offset, code->co_filename);
        put_string(&offset, code->co_qualname);
    }
    assert(offset == out.header.text_size);
    out.header.nstrings = texts->nstrings + 2 * n;
    end_array(KEPT_STRINGS);
}

static void
put_places(_PyInterpreterFrame *top)
{
    uint32_t nlocations = _PyTracer_places.nlocations;
    for (uint32_t id = 0; id < nlocations; id++) {
        struct kept_place place = _PyTracer_PlaceOf(id);
        put(&place, sizeof(place));
    }
    FOR_FRAMES(frame, top, n) {
        put_place(frame, _PyTracer_texts.nstrings + 2 * n);
    }
    out.header.nplaces = nlocations + n;
    out.header.failure.nframes = n;
    end_array(KEPT_PLACES);
}

/* --- The tree */

static void
put_peak(void)
{
    const struct tracer_windows *windows = &_PyTracer_windows;
    if (windows->nhighs > 0) {
        put(windows->highs[0].rows, windows->highs[0].length);
        out.header.peak_lengths[0] = windows->highs[0].length;
        out.header.copy.peak = KEPT_PEAK;
        end_array(KEPT_PEAK);
    }
}

/* Try again if a thread with the GIL has spilled counters meanwhile. */
static void
put_tables(void)
{
    struct kept_copy *copy = &out.header.copy;
    uint32_t spilling;
    int tries = 0;
    do {
        spilling = _Py_atomic_load_uint32(&_PyTracer_tree.spilling);
        uint64_t end = round_up(out.offset + _PyTracer_PlanCopy(copy));
        if (out.error == 0
            && _PyTracer_WriteCopy(out.file, out.offset, copy) < 0)
        {
            out.error = errno;
        }
        out.header.nunits = end / KEPT_UNIT;
    } while ((spilling % 2 != 0
              || _Py_atomic_load_uint32(&_PyTracer_tree.spilling) != spilling)
             && ++tries < MAX_TRIES);
    write_at(out.header.nunits * KEPT_UNIT - 1, "", 1);
}

/* The magic comes last: without it, readers refuse the file. */
static void
put_header(void)
{
    struct kept_header *header = &out.header;
    header->pid = (uint32_t)getpid();
    header->looked = oom->last;
    header->moves = 1;            // the tables are a copy
    header->folded = _PyTracer_tree.folded;
    header->pruned = _PyTracer_tree.pruned;
    header->untraced = _PyTracer.untraced;
    write_at(KEPT_DIRECTORY, out.extents, sizeof(out.extents));
    write_at(KEPT_MAGIC_SIZE, (char *)header + KEPT_MAGIC_SIZE,
             sizeof(*header) - KEPT_MAGIC_SIZE);
    write_at(0, KEPT_MAGIC, KEPT_MAGIC_SIZE);
}

static void
clear_header(void)
{
    struct kept_header *header = &out.header;
    header->nextents = 0;
    header->nunits = HEADER_UNITS;
    header->text_size = 0;
    header->copy = (struct kept_copy){0};
    out.offset = KEPT_HEADER_SIZE;
    out.used = 0;
}

/* Where it can be, another file takes the place of one that has a tree. */
static void
open_file(void)
{
    if (_PyTracer_KeptDescriptor(&oom->file) < 0
        || _PyTracer_IsKeptGone(&oom->file))
    {
        _PyTracer_CloseKept(&oom->file);      // another is made
        oom->is_written = 0;
    }
    out.file = oom->is_written && _PyTracer_OpenNext(&next, &oom->file) == 0
               ? &next : &oom->file;
    out.error = _PyTracer_OpenKept(out.file);
    if (out.error == 0) {
        out.error = _PyTracer_TruncateKept(out.file, 0);
    }
}

static void
close_file(void)
{
    if (out.file == &next) {
        if (out.error == 0) {
            out.error = _PyTracer_ReplaceKept(&oom->file, &next);
        }
        if (out.error != 0) {
            _PyTracer_RemoveKept(&next);
            _PyTracer_CloseKept(&next);
        }
    }
}

static void
write_tree(_PyInterpreterFrame *top)
{
    open_file();
    clear_header();
    put_texts(top);
    put_strings(top);
    put_places(top);
    put_peak();
    put_tables();
    put_header();
    close_file();
}

/* --- What has failed, and why */

/* What the kernel counts of the process, in bytes; 0: unknown. */
static void
read_usage(struct kept_failure *failure)
{
    char text[256];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        (void)close(fd);
    }
    uint64_t pages[6];            // all, ..., data and stack
    char *p = text;
    text[Py_MAX(length, 0)] = '\0';
    for (size_t i = 0; i < Py_ARRAY_LENGTH(pages); i++) {
        pages[i] = strtoull(p, &p, 10);
    }
    failure->address_space = pages[0] * (uint64_t)sysconf(_SC_PAGESIZE);
    failure->data = pages[5] * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t
get_limit(int resource)
{
    struct rlimit limit;
    return getrlimit(resource, &limit) != 0
           || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

static uint64_t
size_of_machine(void)
{
    struct sysinfo info;
    return sysinfo(&info) != 0
           ? 0 : ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

/* An allocator asks the kernel for more than it needs: pymalloc for an arena
   of 1 MiB, mimalloc for 32 MiB, aligned. */
static int
is_reached(uint64_t limit, uint64_t used, uint64_t size)
{
    uint64_t step = (uint64_t)(_PyTracer_HAS_GIL ? 2 : 64) << 20;
    return size > limit
           || (limit != UINT64_MAX && used != 0
               && (used > limit || limit - used < size + step));
}

static enum kept_reason
find_reason(const struct kept_failure *f)
{
    if (is_reached(f->address_limit, f->address_space, f->size)) {
        return KEPT_ADDRESS_LIMIT;
    }
    if (is_reached(f->data_limit, f->data, f->size)) {
        return KEPT_DATA_LIMIT;
    }
    return f->machine != 0 && f->size > f->machine ? KEPT_MACHINE
                                                   : KEPT_UNEXPLAINED;
}

/* Could the request never have succeeded? */
static int
is_hopeless(const struct kept_failure *f)
{
    return f->size > f->address_limit || f->size > f->data_limit
           || (f->machine != 0 && f->size > f->machine);
}

static struct kept_failure
describe(size_t size, enum tracer_kind kind, _PyInterpreterFrame *top)
{
    struct kept_failure failure = {
        .number = oom->failed, .size = size, .kind = kind,
        .address_limit = get_limit(RLIMIT_AS),
        .data_limit = get_limit(RLIMIT_DATA), .machine = size_of_machine(),
        .depth = _PyTracer_CountFrames(top)};
    read_usage(&failure);
    failure.reason = find_reason(&failure);
    return failure;
}

/* Does it replace what is written?  `pause`: since the last failure, ns. */
static int
is_wanted(const struct kept_failure *failure, int64_t pause)
{
    if (!oom->is_written) {
        return 1;
    }
    int hopeless = is_hopeless(failure);
    int before = is_hopeless(&out.header.failure);
    return hopeless == before ? pause >= TRACER_SECOND : before;
}

/* Leave the file empty, or as it was; one line says why. */
static void
give_up(int error)
{
    struct tracer_keep_file *file = &oom->file;
    if (!oom->said) {
        oom->said = 1;
        _PyTracer_SayOfKept(
            file->name[0] == '\0' ? file->wanted : file->name,
            error == EEXIST ? "it is there, and is no kept call tree"
                            : _PyTracer_WhyNotKept(error),
            "the call tree at a failed request is not written");
    }
    if (file->fd < 0) {
        _PyTracer_CloseKept(file);
    }
    else if (!oom->is_written) {
        (void)_PyTracer_TruncateKept(file, 0);
    }
}

static void
note_failure(size_t size, enum tracer_kind kind, PyThreadState *tstate)
{
    int64_t time = _PyTracer_Now(CLOCK_MONOTONIC);
    int64_t pause = time - oom->last;
    _PyInterpreterFrame *top = _PyTracer_OwnTopFrame(tstate);
    oom->failed++;
    oom->last = time;
    struct kept_failure failure = describe(size, kind, top);
    struct kept_failure before = out.header.failure;
    if (!is_wanted(&failure, pause)) {
        return;
    }
    out.header.failure = failure;
    write_tree(top);
    if (out.error == 0) {
        oom->is_written = 1;
        return;
    }
    if (out.file == &next) {
        out.header.failure = before;
    }
    else {
        oom->is_written = 0;
    }
    give_up(out.error);
}

Py_NO_INLINE void
_PyTracer_NoMemory(size_t size, enum tracer_kind kind)
{
    if (!_Py_atomic_load_int_relaxed(&oom->armed)) {
        return;
    }
    PyThreadState *tstate = _PyTracer_OwnThreadState();
    if (tstate != NULL && _PyTracer_IS_HIDDEN(tstate)) {
        return;
    }
    int saved_errno = errno;
    _PyTracer_Lock();
    if (_PyTracer.tracing && oom->armed) {
        note_failure(size, kind, tstate);
        oom->failing = tstate;
    }
    _PyTracer_Unlock();
    errno = saved_errno;
}

/* An interpreter that is being made has no frame, and puts some by. */
void
_PyTracer_MemoryErrorNew(void)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (!_Py_atomic_load_int_relaxed(&oom->armed)
        || _PyTracer_IS_HIDDEN(tstate)
        || _PyTracer_OwnTopFrame(tstate) == NULL)
    {
        return;
    }
    int saved_errno = errno;
    _PyTracer_Lock();
    if (_PyTracer.tracing && oom->armed && oom->failing != tstate) {
        note_failure(0, TRACER_EXTERNAL, tstate);
    }
    oom->failing = NULL;
    _PyTracer_Unlock();
    errno = saved_errno;
}

/* --- Begin and end */

void
_PyTracer_BeginOom(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (oom->file.wanted[0] == '\0' || oom->armed) {
        return;
    }
    int saved_errno = errno;
    int error = oom->early ? _PyTracer_OpenKept(&oom->file) : 0;
    if (error == 0) {
        memset(&out, 1, sizeof(out));         // so that the pages are there
        memset(next.name, 0, sizeof(next.name));
        _PyTracer_FillHeader(&out.header, _PyTracer.limit);
        oom->failed = 0;
        oom->last = 0;
        oom->failing = NULL;
        oom->is_written = 0;
        oom->said = 0;
        _Py_atomic_store_int_relaxed(&oom->armed, 1);
    }
    else {
        give_up(error);
    }
    errno = saved_errno;
}

void
_PyTracer_StopOom(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (oom->armed) {
        int saved_errno = errno;
        _Py_atomic_store_int_relaxed(&oom->armed, 0);
        if (!oom->is_written) {
            _PyTracer_RemoveKept(&oom->file);
        }
        _PyTracer_CloseKept(&oom->file);
        errno = saved_errno;
    }
}

/* The file belongs to the parent.  This process opens its own when a request
   fails. */
void
_PyTracer_LeaveOom(void)
{
    if (oom->armed) {
        int saved_errno = errno;
        _PyTracer_CloseKept(&oom->file);
        oom->failed = 0;
        oom->last = 0;
        oom->failing = NULL;
        oom->is_written = 0;
        errno = saved_errno;
    }
}
