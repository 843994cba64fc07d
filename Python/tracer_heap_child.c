/* The heap as a graph without a pause: a child process walks its copy of the
   heap.

   The child is forked at the moment of the snapshot, and the program goes on
   as soon as the kernel has copied the page tables. The child has one thread,
   and other threads may have held any lock, so it calls nothing that takes a
   lock. It gets its memory from the kernel, writes the graph to a file in
   memory, and ends without exit handlers. It is made without an exit signal,
   so that the program's wait() and SIGCHLD do not see it. */

#include "Python.h"
#include "pycore_tracer_heap.h"

#ifdef __linux__
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_MEMORY 1               // exit status

/* What is at the start of the file. */
struct summary {
    struct snapshot_graph graph;
    uint64_t text_used;
    uint32_t nstrings;
    uint32_t complete;
};

/* --- In the child */

static int
write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Arrays of the graph, and of the texts, in the order in which they are in the
   file. */
#define NARRAYS 7
static void
list_arrays(struct tracer_heap *heap, struct summary *s,
            void **arrays[NARRAYS], uint64_t sizes[NARRAYS])
{
    struct snapshot_graph *g = heap->graph;
    arrays[0] = (void **)&g->objects;
    sizes[0] = ((uint64_t)s->graph.nobjects + 1) * sizeof(*g->objects);
    arrays[1] = (void **)&g->references;
    sizes[1] = s->graph.nreferences * sizeof(*g->references);
    arrays[2] = (void **)&heap->shapes.list;
    sizes[2] = s->graph.nshapes * sizeof(*g->shapes);
    arrays[3] = (void **)&g->names;
    sizes[3] = s->graph.nnames * sizeof(*g->names);
    arrays[4] = (void **)&g->buffers;
    sizes[4] = s->graph.nbuffers * sizeof(*g->buffers);
    arrays[5] = (void **)&heap->strings;
    sizes[5] = s->nstrings * sizeof(*heap->strings);
    arrays[6] = (void **)&heap->text;
    sizes[6] = s->text_used;
}

static int
write_graph(struct tracer_heap *heap, int fd)
{
    struct summary s = {.graph = *heap->graph, .text_used = heap->text_used,
                        .nstrings = heap->nstrings, .complete = 1};
    s.graph.nshapes = heap->shapes.n;
    void **arrays[NARRAYS];
    uint64_t sizes[NARRAYS];
    list_arrays(heap, &s, arrays, sizes);
    for (int i = 0; i < NARRAYS; i++) {
        if (sizes[i] != 0 && write_all(fd, *arrays[i], sizes[i]) < 0) {
            return -1;
        }
    }
    return pwrite(fd, &s, sizeof(s), 0) == sizeof(s) ? 0 : -1;
}

static void
close_others(int fd)
{
#ifdef SYS_close_range
    if (fd > 0) {
        (void)syscall(SYS_close_range, 0, fd - 1, 0);
    }
    (void)syscall(SYS_close_range, fd + 1, ~0u, 0);
#endif
}

static void
run_child(struct tracer_heap *heap, int keys, const struct tracer_snapshot *s,
          const struct tracer_types *types,
          const struct tracer_segments *segments, int fd)
{
    close_others(fd);
    int result = lseek(fd, sizeof(struct summary), SEEK_SET) < 0
        || _PyTracer_PrepareHeap(heap, s->nblocks, 0) < 0
        ? -1 : _PyTracer_CaptureHeap(heap, keys);
    if (result == 0) {
        _PyTracer_CompleteHeap(heap, s, types, segments);
        result = heap->failed ? -1 : write_graph(heap, fd);
    }
    (void)syscall(SYS_exit_group, result < 0 ? NO_MEMORY : 0);
}

/* --- In the program */

int
_PyTracer_ForkHeap(struct tracer_heap_child *child, int keys,
                   const struct tracer_snapshot *s,
                   const struct tracer_types *types,
                   const struct tracer_segments *segments)
{
    struct tracer_heap heap;
    sigset_t all, old;
    child->fd = (int)syscall(SYS_memfd_create, "heap graph", 1u);  // CLOEXEC
    if (child->fd < 0) {
        child->error = errno;
        return -1;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    long pid = syscall(SYS_clone, 0ul, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        run_child(&heap, keys, s, types, segments, child->fd);
    }
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    child->pid = (int)pid;
    if (pid < 0) {
        child->error = error;
        close(child->fd);
        return -1;
    }
    return 0;
}

static int
read_all(int fd, void *data, uint64_t size, uint64_t offset)
{
    char *p = data;
    while (size > 0) {
        ssize_t n = pread(fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        p += n;
        size -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int
read_graph(struct tracer_heap *heap, int fd)
{
    struct summary s;
    void **arrays[NARRAYS];
    uint64_t sizes[NARRAYS];
    uint64_t offset = sizeof(s);
    if (read_all(fd, &s, sizeof(s), 0) < 0 || !s.complete) {
        return -1;
    }
    memset(heap, 0, sizeof(*heap));
    heap->graph = _PySnapshot_Zeroed(1, sizeof(*heap->graph));
    if (heap->graph == NULL) {
        return -1;
    }
    list_arrays(heap, &s, arrays, sizes);
    for (int i = 0; i < NARRAYS; i++) {
        *arrays[i] = _PySnapshot_Array(sizes[i], 1);
        if (*arrays[i] == NULL
            || read_all(fd, *arrays[i], sizes[i], offset) < 0)
        {
            return -1;
        }
        offset += sizes[i];
    }
    struct snapshot_graph *g = heap->graph;
    g->nobjects = s.graph.nobjects;
    g->nreferences = s.graph.nreferences;
    g->nnames = s.graph.nnames;
    g->nbuffers = s.graph.nbuffers;
    g->has_keys = s.graph.has_keys;
    heap->shapes.n = s.graph.nshapes;
    heap->nstrings = s.nstrings;
    heap->text_used = s.text_used;
    return 0;
}

int
_PyTracer_JoinHeap(struct tracer_heap_child *child, struct tracer_heap *heap)
{
    int status = 0;
    pid_t pid;
    do {
        pid = waitpid(child->pid, &status, __WCLONE);
    } while (pid < 0 && errno == EINTR);
    child->signal = pid >= 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    int result = pid >= 0 && status != 0 ? -1 : read_graph(heap, child->fd);
    close(child->fd);
    return result;
}

#else

int
_PyTracer_ForkHeap(struct tracer_heap_child *child, int keys,
                   const struct tracer_snapshot *s,
                   const struct tracer_types *types,
                   const struct tracer_segments *segments)
{
    child->error = ENOSYS;
    return -1;
}

int
_PyTracer_JoinHeap(struct tracer_heap_child *child, struct tracer_heap *heap)
{
    return -1;
}

#endif
