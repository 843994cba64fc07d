/* Memory over time: notes on the process at many moments of the run.

   A thread of the tracer wakes up at a given interval and notes traced memory
   and its peak, live blocks, resident memory and collections.  It never has
   the GIL and does not wait for threads that have it, so that it also works
   during a long call of C code.  It blocks all signals and allocates nothing.
   It exists only if it was asked for.

   Its cost is bounded by a credit: one part in 100 of the time that passes,
   less the processor time that the thread uses.  When the credit is used up,
   the next note is late.  Live blocks are counted over the call tree, which
   may be large.  So the next count waits for 200 times as long as the last
   count took, and the lock is released between parts.

   The room for notes is limited.  When it is full, pairs of notes are merged:
   2047 notes become 1024, each of which stands for twice the time from then
   on.  A merged note has the maximum that any of its parts saw; its other
   values are those of its last moment, or of the last snapshot.  So memory is
   bounded however long the program runs, and no maximum is lost.

   The thread has its own table of descriptors, so that the program's
   descriptors have the same numbers as without it.  It can also watch the
   memory limit of a cgroup, see tracer_limit.c. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_history.h"
#include "pycore_tracer_limit.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_tree.h"

#include <errno.h>
#include <fcntl.h>                // open()
#include <linux/futex.h>          // FUTEX_WAIT_PRIVATE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_INTERVAL (TRACER_SECOND / 50)
#define CLOCK_STEP (TRACER_SECOND / 1000)     // that is noticed
#define COST_PART 100             // of the time that passes, at most
#define COUNT_PART 200            // the same for counts of blocks
#define MOST_CREDIT 1000000       // ns
#define STACK_SIZE ((size_t)256 << 10)
#define NOTES_SIZE (SNAPSHOT_NOTES * sizeof(struct snapshot_note))

/* Of the kernel's headers from 5.9 on. */
#ifndef CLOSE_RANGE_UNSHARE
#  define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

static_assert(SNAPSHOT_NOTES % 2 == 0, "two become one");

/* The notes; their time is monotonic, ns.  Lock. */
static struct {
    struct snapshot_note *notes;
    uint32_t n;
    uint32_t span;                // moments that a note stands for
    uint32_t merged;              // those of the last one until now
} history;

/* The thread.  `control` is held by who starts or ends it. */
static struct {
    PyMutex control;
    int running;
    int stopping;                 // atomic; the thread waits for it
    int64_t interval;             // ns; 0: nobody asks for notes
    pthread_t thread;
    int64_t blocks;               // of the last count; atomic
} clerk;

/* --- The notes.  Locked. */

/* Merge two successive notes. */
static void
merge(struct snapshot_note *note, const struct snapshot_note *next)
{
    assert(note->time <= next->time);
    int64_t traced = Py_MAX(note->most_traced, next->most_traced);
    int64_t rss = Py_MAX(note->most_rss, next->most_rss);
    uint32_t snapshots = note->snapshots + next->snapshots;
    if (next->snapshots > 0 || note->snapshots == 0) {
        *note = *next;
    }
    note->most_traced = traced;
    note->most_rss = rss;
    note->snapshots = snapshots;
}

/* The first note stays as it is, the last one is unfinished. */
static void
make_room(void)
{
    assert(history.n == SNAPSHOT_NOTES && history.merged == history.span);
    struct snapshot_note *notes = history.notes;
    uint32_t n = 1;
    for (uint32_t i = 1; i + 1 < history.n; i += 2) {
        merge(&notes[i], &notes[i + 1]);
        notes[n++] = notes[i];
    }
    notes[n++] = notes[history.n - 1];
    assert(n == SNAPSHOT_NOTES / 2 + 1);
    history.n = n;
    history.span *= 2;
}

static void
add_note(struct snapshot_note *note)
{
    _PyTracer_ASSERT_LOCKED();
    if (history.notes == NULL) {
        return;
    }
    if (history.n > 0) {
        const struct snapshot_note *last = &history.notes[history.n - 1];
        note->time = Py_MAX(note->time, last->time);
        for (int i = 0; i < SNAPSHOT_GENERATIONS; i++) {
            note->collections[i] = Py_MAX(note->collections[i],
                                          last->collections[i]);
        }
    }
    note->most_traced = note->traced;
    note->most_rss = note->rss;
    if (history.n == SNAPSHOT_NOTES && history.merged == history.span) {
        make_room();
    }
    if (history.n > 1 && history.merged < history.span) {
        merge(&history.notes[history.n - 1], note);
        history.merged++;
    }
    else {
        assert(history.n < SNAPSHOT_NOTES);
        history.notes[history.n++] = *note;
        history.merged = 1;
    }
    assert(history.merged <= history.span);
}

/* --- A look */

/* Descriptors that the program does not see; 0: the kernel cannot do that. */
static int
leave_descriptors(void)
{
#ifdef SYS_close_range
    return syscall(SYS_close_range, 0u, ~0u, CLOSE_RANGE_UNSHARE) == 0;
#else
    return 0;
#endif
}

static int
open_statm(void)
{
    return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

/* Resident bytes, the second number of the file; 0: not known. */
static int64_t
read_rss(int statm)
{
    char text[128];
    ssize_t length = pread(statm, text, sizeof(text) - 1, 0);
    if (length <= 0) {
        return 0;
    }
    text[length] = '\0';
    const char *p = strchr(text, ' ');
    int64_t pages = 0;
    while (p != NULL && *++p >= '0' && *p <= '9') {
        pages = pages * 10 + (*p - '0');
    }
    return pages * sysconf(_SC_PAGESIZE);
}

int64_t
_PyTracer_ReadRss(void)
{
    int statm = open_statm();
    int64_t rss = statm < 0 ? 0 : read_rss(statm);
    if (statm >= 0) {
        (void)close(statm);
    }
    return rss;
}

/* What needs no lock. */
static void
look_outside(struct snapshot_note *note, int statm)
{
    *note = (struct snapshot_note){.time = _PyTracer_Now(CLOCK_MONOTONIC)};
    note->rss = statm >= 0 ? read_rss(statm) : _PyTracer_ReadRss();
    for (int i = 0; i < SNAPSHOT_GENERATIONS; i++) {
        note->collections[i] = _PyTracer_Collections(i);
    }
}

static void
note_present(int statm)
{
    struct snapshot_note note;
    look_outside(&note, statm);
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        note.traced = Py_MAX(_PyTracer_Current(), 0);
        note.peak = Py_MAX(_PyTracer_Peak(), note.traced);
        note.blocks = _Py_atomic_load_int64_relaxed(&clerk.blocks);
    }
    add_note(&note);
    _PyTracer_Unlock();
}

/* --- Live blocks */

/* The GIL protects the counters.  A change meanwhile is counted as before or
   after it, except for spills, see count_blocks(). */
static int64_t
count_live(uint32_t begin, uint32_t end)
{
    assert(end <= _PyTracer_tree.nnodes);
    int64_t live = 0;
    for (uint32_t id = begin; id < end; id++) {
        if (!_PyTracer_IsParked(id)) {
            struct tracer_counts small = _PyTracer_Counts(id);
            live += (int64_t)(_PyTracer_Live(&small).blocks
                              + _PyTracer_Live(&_PyTracer_Rare(id)->counts)
                                .blocks);
        }
    }
    return live;
}

/* -1: nodes got other numbers, or counters were spilled, meanwhile. */
static int64_t
count_blocks(void)
{
    uint64_t clears = 0;
    uint32_t spilling = 0;
    int64_t live = 0;
    uint32_t id = TRACER_NODE_UNKNOWN;
    for (int more = 1, first = 1; more; first = 0) {
        _PyTracer_Lock();
        if (first) {
            clears = _PyTracer.clears;
            spilling = _Py_atomic_load_uint32(&_PyTracer_tree.spilling);
        }
        if (!_PyTracer.tracing || _PyTracer.clears != clears) {
            _PyTracer_Unlock();
            return -1;
        }
        uint32_t end = Py_MIN(_PyTracer_tree.nnodes, id + TRACER_CHUNK_NODES);
        live += count_live(id, end);
        id = end;
        more = id < _PyTracer_tree.nnodes;
        _PyTracer_Unlock();
    }
    if (spilling % 2 != 0
        || _Py_atomic_load_uint32(&_PyTracer_tree.spilling) != spilling)
    {
        return -1;
    }
    return Py_MAX(live, 0);
}

/* --- The thread */

static void
futex(int operation, const struct timespec *timeout)
{
    (void)syscall(SYS_futex, &clerk.stopping, operation,
                  operation == FUTEX_WAKE_PRIVATE, timeout, NULL, 0);
}

static void
wait_until(int64_t time)
{
    int64_t left;
    while (!_Py_atomic_load_int(&clerk.stopping)
           && (left = time - _PyTracer_Now(CLOCK_MONOTONIC)) > 0)
    {
        struct timespec timeout = {left / TRACER_SECOND,
                                   left % TRACER_SECOND};
        futex(FUTEX_WAIT_PRIVATE, &timeout);
    }
}

struct account {
    int64_t credit;               // ns of the processor that may be used
    int64_t time;                 // until then it is right; monotonic
    int64_t used;                 // by the thread until then
    int64_t next_count;           // of blocks
};

/* When may the next note be? */
static int64_t
settle(struct account *account, int64_t planned)
{
    int64_t time = _PyTracer_Now(CLOCK_MONOTONIC);
    int64_t used = _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID);
    assert(time >= account->time && used >= account->used);
    account->credit = Py_MIN(account->credit
                             + (time - account->time) / COST_PART,
                             MOST_CREDIT) - (used - account->used);
    account->time = time;
    account->used = used;
    return Py_MAX(planned, time - Py_MIN(account->credit, 0) * COST_PART);
}

static void
count_if_due(struct account *account)
{
    int64_t begin = _PyTracer_Now(CLOCK_MONOTONIC);
    if (begin < account->next_count) {
        return;
    }
    int64_t used = _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID);
    int64_t blocks = count_blocks();
    if (blocks >= 0) {
        _Py_atomic_store_int64_relaxed(&clerk.blocks, blocks);
    }
    used = _PyTracer_Now(CLOCK_THREAD_CPUTIME_ID) - used;
    account->next_count = begin + COUNT_PART * used;
}

static void *
keep_history(void *Py_UNUSED(arg))
{
    (void)prctl(PR_SET_NAME, "tracemalloc", 0, 0, 0);
    int own_descriptors = leave_descriptors();
    int statm = own_descriptors ? open_statm() : -1;
    int watches = own_descriptors && _PyTracer_OpenLimit() == 0;
    struct account account = {.time = _PyTracer_Now(CLOCK_MONOTONIC)};
    int64_t next_note = account.time;
    while (!_Py_atomic_load_int(&clerk.stopping)) {
        int64_t time = _PyTracer_Now(CLOCK_MONOTONIC);
        if (time >= next_note) {
            count_if_due(&account);
            note_present(statm);
            next_note = Py_MAX(next_note + clerk.interval, time);
        }
        int64_t next = next_note;
        if (watches) {
            _PyTracer_LookAtLimit();
            next = Py_MIN(next, time + LIMIT_INTERVAL);
        }
        wait_until(settle(&account, next));
    }
    _PyTracer_CloseLimit();
    if (statm >= 0) {
        (void)close(statm);
    }
    return NULL;
}

/* --- Start and stop */

static int
start_thread(void)
{
    assert(!clerk.running && clerk.interval >= 0);
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
    sigset_t all, before;
    sigfillset(&all);
    clerk.stopping = 0;
    clerk.blocks = 0;
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&clerk.thread, &attributes, keep_history, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    _Py_atomic_store_int(&clerk.running, error == 0);
    return error;
}

static void
stop_thread(void)
{
    if (!clerk.running) {
        return;
    }
    _Py_atomic_store_int(&clerk.stopping, 1);
    futex(FUTEX_WAKE_PRIVATE, NULL);
    (void)pthread_join(clerk.thread, NULL);
    _Py_atomic_store_int(&clerk.running, 0);
}

/* Locked. */
static void
forget_notes(void)
{
    history.n = history.merged = 0;
    history.span = 1;
}

int
_PyTracer_StartHistory(int64_t interval)
{
    PyMutex_Lock(&clerk.control);
    stop_thread();
    _PyTracer_Lock();
    if (history.notes == NULL) {
        history.notes = _PyTracer_MemAlloc(NOTES_SIZE);
    }
    int error = history.notes == NULL ? ENOMEM : 0;
    forget_notes();
    _PyTracer_Unlock();
    if (error == 0) {
        clerk.interval = interval;
        error = start_thread();
    }
    if (error != 0) {
        clerk.interval = 0;
    }
    PyMutex_Unlock(&clerk.control);
    return error;
}

void
_PyTracer_StopHistory(void)
{
    PyMutex_Lock(&clerk.control);
    stop_thread();
    clerk.interval = 0;
    PyMutex_Unlock(&clerk.control);
}

void
_PyTracer_HistoryFini(void)
{
    _PyTracer_StopHistory();
    _PyTracer_Lock();
    if (history.notes != NULL) {
        _PyTracer_MemFree(history.notes, NOTES_SIZE);
        history.notes = NULL;
    }
    forget_notes();
    _PyTracer_Unlock();
}

void
_PyTracer_ForgetHistory(void)
{
    clerk.control = (PyMutex){0};
    clerk.running = 0;
    forget_notes();
    _PyTracer_ForgetLimit();
}

int64_t
_PyTracer_HistoryInterval(void)
{
    PyMutex_Lock(&clerk.control);
    int64_t interval = clerk.interval;
    PyMutex_Unlock(&clerk.control);
    return interval;
}

int
_PyTracer_OwnThreads(void)
{
    return _Py_atomic_load_int(&clerk.running);
}

/* --- For snapshots and get_history() */

void
_PyTracer_NoteSnapshot(const struct tracer_moment_taken *taken)
{
    if (!_Py_atomic_load_int(&clerk.running)) {
        return;
    }
    struct snapshot_note note;
    look_outside(&note, -1);
    note.time = taken->time;
    note.traced = taken->traced;
    note.peak = taken->peak;
    note.blocks = taken->blocks;
    note.snapshots = 1;
    _PyTracer_Lock();
    add_note(&note);
    _PyTracer_Unlock();
}

void
_PyTracer_NotePresent(void)
{
    if (_Py_atomic_load_int(&clerk.running)) {
        note_present(-1);
    }
}

/* What is added to the time of a note for the time of day.  The clocks cannot
   be read at once: it stays the same until somebody sets the clock, so that a
   note keeps its time.  Locked. */
static int64_t
time_of_day(void)
{
    static int64_t since;
    int64_t before, day, after;
    int attempts = 5;
    do {
        before = _PyTracer_Now(CLOCK_MONOTONIC);
        day = _PyTracer_Now(CLOCK_REALTIME);
        after = _PyTracer_Now(CLOCK_MONOTONIC);
    } while (after - before > CLOCK_STEP && --attempts > 0);
    if (since < day - after - CLOCK_STEP || since > day - before + CLOCK_STEP)
    {
        since = day - before;
    }
    return since;
}

struct snapshot_note *
_PyTracer_CopyHistory(uint32_t *n)
{
    *n = 0;
    struct snapshot_note *notes = malloc(NOTES_SIZE);
    if (notes == NULL) {
        return NULL;
    }
    _PyTracer_Lock();
    int64_t since = time_of_day();
    if (history.notes != NULL) {
        assert(history.n <= SNAPSHOT_NOTES);
        *n = history.n;
        memcpy(notes, history.notes, *n * sizeof(*notes));
    }
    _PyTracer_Unlock();
    for (uint32_t i = 0; i < *n; i++) {
        notes[i].time = (notes[i].time + since) / 1000;
    }
    if (*n == 0) {
        free(notes);
        return NULL;
    }
    return notes;
}
