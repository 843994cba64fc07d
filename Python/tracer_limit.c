/* Noticing that a cgroup comes near its memory limit.

   The usage of a cgroup is the sum of the program's memory, the memory of
   other processes and cached pages of files, so no allocation can show it.
   The thread of tracer_history.c reads it fifty times a second, without the
   GIL.  For the time in between it asks the kernel: in version 1 of cgroups,
   an event descriptor counts how often the usage has passed the bound; in
   version 2, the file of events counts how often the kernel had to reclaim
   memory at the limit.  These are counters, so nothing is lost between two
   looks, and waiting for changes of the file would tell nothing more.

   Version 2 also has pressure stall information: the kernel says when
   processes of the cgroup have waited for memory for longer than a part of the
   time.  This happens below the bound, too, where a cgroup above or the
   machine itself is short of memory.

   A passing is reported once.  The next one can come after the usage has
   fallen by a sixteenth below the bound; the next pressure, after ten seconds
   without any.  Both fire a trigger (tracer_tasks.c), which is called in the
   main thread between two instructions. */

#include "Python.h"
#include "pycore_tracer_clock.h"
#include "pycore_tracer_limit.h"

#include <errno.h>
#include <fcntl.h>                // open()
#include <poll.h>
#include <stdio.h>                // snprintf()
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FALLEN_PART 16
#define RELIEF (10 * TRACER_SECOND)       // from one pressure to the next
/* Some process waits for 150 ms in 2 s.  Without privileges, windows have to
   be multiples of 2 s. */
#define PRESSURE_TRIGGER "some 150000 2000000"

static struct {
    char *usage, *events, *pressure, *control;    // of malloc()
    int64_t bound;                // bytes, 0: nothing is watched
    struct tracer_trigger *trigger;
    int above;                    // since the last passing; atomic
    int64_t passed;               // the usage then, until it is asked for;
                                  //   atomic
    /* The thread's. */
    int usage_fd, events_fd, pressure_fd, event;
    int64_t counted;              // events until now
    int64_t relief;               // when pressure is reported again; monotonic
    int wants;                    // the trigger was not reached yet
} limit = {.usage_fd = -1, .events_fd = -1, .pressure_fd = -1, .event = -1};

/* --- What is watched */

void
_PyTracer_ForgetLimit(void)
{
    limit.bound = 0;
    limit.trigger = NULL;
    limit.usage_fd = limit.events_fd = limit.pressure_fd = limit.event = -1;
}

static char *
copy_text(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

int
_PyTracer_WatchLimit(const struct tracer_limit_files *files, int64_t bound,
                     struct tracer_trigger *trigger)
{
    free(limit.usage);
    free(limit.events);
    free(limit.pressure);
    free(limit.control);
    _PyTracer_ForgetLimit();
    limit.usage = copy_text(files->usage);
    limit.events = copy_text(files->events);
    limit.pressure = copy_text(files->pressure);
    limit.control = copy_text(files->control);
    limit.above = 0;
    limit.passed = 0;
    limit.relief = 0;
    limit.wants = 0;
    if (files->usage == NULL) {
        return 0;
    }
    if (limit.usage == NULL) {
        return -1;
    }
    limit.bound = bound;
    limit.trigger = trigger;
    return 0;
}

/* --- The thread */

/* The first number after `name`, or of all; -1: there is none. */
static int64_t
read_number(int fd, const char *name)
{
    char text[512];
    ssize_t length = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
    if (length <= 0) {
        return -1;
    }
    text[length] = '\0';
    const char *p = text;
    if (name != NULL) {
        p = strstr(text, name);
        if (p == NULL) {
            return -1;
        }
        p += strlen(name);
    }
    return (int64_t)strtoll(p, NULL, 10);
}

/* Version 1: count passings of the bound. */
static void
ask_for_events(void)
{
    char request[64];
    int control = limit.control == NULL
        ? -1 : open(limit.control, O_WRONLY | O_CLOEXEC);
    if (control < 0) {
        return;
    }
    limit.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int length = snprintf(request, sizeof(request), "%d %d %lld", limit.event,
                          limit.usage_fd, (long long)limit.bound);
    if (limit.event >= 0 && write(control, request, (size_t)length) < 0) {
        (void)close(limit.event);
        limit.event = -1;
    }
    (void)close(control);
}

/* Version 2: hear of pressure, for as long as the descriptor is open.  -1 with
   errno set: this cannot be. */
static int
ask_for_pressure(const char *path)
{
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && write(fd, PRESSURE_TRIGGER, sizeof(PRESSURE_TRIGGER)) < 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int
_PyTracer_TryPressure(const char *path)
{
    int fd = ask_for_pressure(path);
    if (fd < 0) {
        return errno;
    }
    (void)close(fd);
    return 0;
}

int
_PyTracer_OpenLimit(void)
{
    assert(limit.usage_fd < 0 && limit.event < 0);    // or they would leak
    if (limit.bound == 0) {
        return -1;
    }
    limit.usage_fd = open(limit.usage, O_RDONLY | O_CLOEXEC);
    if (limit.usage_fd < 0) {
        return -1;
    }
    if (limit.events != NULL) {
        limit.events_fd = open(limit.events, O_RDONLY | O_CLOEXEC);
        limit.counted = read_number(limit.events_fd, "max ");
    }
    if (limit.pressure != NULL) {
        limit.pressure_fd = ask_for_pressure(limit.pressure);
    }
    ask_for_events();
    return 0;
}

void
_PyTracer_CloseLimit(void)
{
    int *const all[] = {&limit.usage_fd, &limit.events_fd, &limit.pressure_fd,
                        &limit.event};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(all); i++) {
        if (*all[i] >= 0) {
            (void)close(*all[i]);
            *all[i] = -1;
        }
    }
}

/* Has the kernel reported an event since the last check? */
static int
was_told(void)
{
    uint64_t count = 0;
    if (limit.event >= 0
        && read(limit.event, &count, sizeof(count)) == sizeof(count))
    {
        return 1;
    }
    int64_t events = read_number(limit.events_fd, "max ");
    int told = events > limit.counted;
    limit.counted = events;
    return told;
}

/* Has the kernel reported pressure, after a time without any? */
static int
is_pressed(void)
{
    struct pollfd asked = {.fd = limit.pressure_fd, .events = POLLPRI};
    if (limit.pressure_fd < 0 || poll(&asked, 1, 0) != 1
        || !(asked.revents & POLLPRI) || (asked.revents & POLLERR))
    {
        return 0;
    }
    int64_t time = _PyTracer_Now(CLOCK_MONOTONIC);
    int is_new = time >= limit.relief;
    limit.relief = time + RELIEF;
    return is_new;
}

/* Is this a passing that was not reported yet? */
static int
is_passing(int64_t usage)
{
    int no = 0;
    return limit.bound != 0 && usage >= limit.bound
           && _Py_atomic_compare_exchange_int(&limit.above, &no, 1);
}

void
_PyTracer_LookAtLimit(void)
{
    int64_t usage = read_number(limit.usage_fd, NULL);
    if (usage < 0) {
        return;
    }
    /* The event descriptor also counts when the usage falls below the
       bound. */
    int above = _Py_atomic_load_int(&limit.above);
    int64_t most = was_told() && !above ? Py_MAX(usage, limit.bound) : usage;
    int pressed = is_pressed();
    if (is_passing(most)) {
        _Py_atomic_store_int64(&limit.passed, most);
        limit.wants = 1;
    }
    else if (usage < limit.bound - limit.bound / FALLEN_PART) {
        _Py_atomic_store_int(&limit.above, 0);
    }
    int64_t unread = 0;
    if (pressed && most < limit.bound
        && _Py_atomic_compare_exchange_int64(&limit.passed, &unread,
                                             Py_MAX(usage, 1)))
    {
        limit.wants = 1;
    }
    if (limit.wants && _PyTracer_WantTrigger(limit.trigger) == 0) {
        limit.wants = 0;
    }
}

int64_t
_PyTracer_LimitPassed(int64_t usage)
{
    int64_t passed = _Py_atomic_exchange_int64(&limit.passed, 0);
    if (passed == 0 && is_passing(usage)) {
        passed = usage;
    }
    return passed;
}
