/* The blocks and the heap as a graph without a pause: a child process looks at
   its copy of them.

   The child is forked at the moment of the snapshot, and the program goes on
   as soon as the kernel has copied the page tables. The child has one thread,
   and other threads may have held any lock, so it calls nothing that takes a
   lock. It gets its memory from the kernel, writes what it has found to a file
   in memory, and ends without exit handlers. It is made without an exit
   signal, so that the program's wait() and SIGCHLD do not see it. */

#include "Python.h"
#include "pycore_tracer_heap.h"
#include "pycore_tracer_lock.h"   // _PyTracer_ForgetHead()

#ifdef __linux__
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_MEMORY 1               // exit status; a higher one is an errno

/* What is at the start of the file.  Of the two structures the numbers
   count. */
struct summary {
    struct snapshot_graph graph;
    struct tracer_snapshot s;
    uint64_t nothers, nnotes;
    uint64_t text_used;
    uint32_t nstrings;
    uint32_t complete;
};

/* An array in the file. */
struct part {
    void **array;
    uint64_t size;                // bytes
};
#define NPARTS 15

/* In the order in which they are in the file. */
static void
list_parts(struct tracer_heap *heap, struct tracer_blocks_copy *blocks,
           const struct summary *sum, struct part parts[NPARTS])
{
    struct snapshot_graph *g = heap->graph;
    struct tracer_snapshot *s = blocks->s;
    uint64_t nruns = sum->s.nruns == 0 ? 0 : (uint64_t)sum->s.nruns + 1;
    const struct part all[] = {
#define PART(ARRAY, N) {(void **)&(ARRAY), (uint64_t)(N) * sizeof(*(ARRAY))}
        PART(g->objects, sum->graph.nobjects + 1),
        PART(g->references, sum->graph.nreferences),
        PART(heap->shapes.list, sum->graph.nshapes),
        PART(g->names, sum->graph.nnames),
        PART(g->buffers, sum->graph.nbuffers),
        PART(heap->strings, sum->nstrings),
        PART(heap->text, sum->text_used),
        PART(s->packed, sum->s.npacked),
        PART(s->runs, nruns),
        PART(s->arenas, sum->s.narenas),
        PART(s->pools, sum->s.npools),
        PART(s->others, sum->nothers + sum->s.nexternal),
        PART(s->classes, sum->s.nclasses),
        PART(blocks->types.list, blocks->types.n),
#undef PART
        {&blocks->rooms->list[TRACER_ROOM_NOTES].p,
         sum->nnotes * sizeof(*blocks->buffers.notes)},
    };
    static_assert(Py_ARRAY_LENGTH(all) == NPARTS, "not the number of parts");
    memcpy(parts, all, sizeof(all));
}

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

static int
write_parts(struct tracer_heap *heap, struct tracer_blocks_copy *blocks,
            int fd)
{
    struct summary sum = {
        .graph = *heap->graph, .s = *blocks->s, .nothers = blocks->nothers,
        .nnotes = blocks->buffers.n, .text_used = heap->text_used,
        .nstrings = heap->nstrings, .complete = 1};
    struct part parts[NPARTS];
    sum.graph.nshapes = heap->shapes.n;
    list_parts(heap, blocks, &sum, parts);
    for (int i = 0; i < NPARTS; i++) {
        if (write_all(fd, *parts[i].array, parts[i].size) < 0) {
            return -1;
        }
    }
    return pwrite(fd, &sum, sizeof(sum), 0) == sizeof(sum) ? 0 : -1;
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

/* The types have a reference that only the program is to see. */
static int
look(struct tracer_heap *heap,
     const struct tracer_heap_interpreters *interpreters, int keys,
     struct tracer_blocks_copy *blocks,
     const struct tracer_segments *segments)
{
    if (_PyTracer_HAS_GIL) {
        _PyTracer_DropTypes(&blocks->types);
    }
    _PyTracer_ForgetHead();
    if (_PyTracer_CopyBlocks(blocks) < 0
        || _PyTracer_PrepareHeap(heap, blocks->s->nblocks, 0) < 0
        || _PyTracer_CaptureHeap(heap, interpreters, keys) < 0)
    {
        return -1;
    }
    _PyTracer_CompleteHeap(heap, blocks->s, &blocks->types, segments);
    return heap->failed ? -1 : 0;
}

static void
run_child(const struct tracer_heap_interpreters *interpreters, int keys,
          struct tracer_blocks_copy *blocks,
          const struct tracer_segments *segments, int fd)
{
    struct tracer_heap heap;
    int result = 0;
    close_others(fd);
    if (look(&heap, interpreters, keys, blocks, segments) < 0) {
        result = NO_MEMORY;
    }
    else if (lseek(fd, sizeof(struct summary), SEEK_SET) < 0
             || write_parts(&heap, blocks, fd) < 0)
    {
        result = errno;
    }
    (void)syscall(SYS_exit_group, result);
}

/* --- In the program */

int
_PyTracer_ForkHeap(struct tracer_heap_child *child,
                   const struct tracer_heap_interpreters *interpreters,
                   int keys, struct tracer_blocks_copy *blocks,
                   const struct tracer_segments *segments)
{
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
        run_child(interpreters, keys, blocks, segments, child->fd);
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

static void
take_numbers(struct tracer_heap *heap, struct tracer_blocks_copy *blocks,
             const struct summary *sum)
{
    struct snapshot_graph *g = heap->graph;
    struct tracer_snapshot *s = blocks->s;
    g->nobjects = sum->graph.nobjects;
    g->nreferences = sum->graph.nreferences;
    g->nnames = sum->graph.nnames;
    g->nbuffers = sum->graph.nbuffers;
    g->has_keys = sum->graph.has_keys;
    heap->shapes.n = sum->graph.nshapes;
    heap->nstrings = sum->nstrings;
    heap->text_used = sum->text_used;
    s->has_blocks = 1;
    s->pool_size = sum->s.pool_size;
    s->nclasses = sum->s.nclasses;
    s->narenas = sum->s.narenas;
    s->npools = sum->s.npools;
    s->nruns = sum->s.nruns;
    s->npacked = sum->s.npacked;
    s->nsmall = sum->s.nsmall;
    s->nexternal = sum->s.nexternal;
    s->nblocks = sum->s.nblocks;
    blocks->nothers = sum->nothers;
    blocks->buffers.notes = blocks->rooms->list[TRACER_ROOM_NOTES].p;
    blocks->buffers.n = sum->nnotes;
}

/* Arrays that are there already are as long as the child's. */
static int
read_parts(struct tracer_heap *heap, struct tracer_blocks_copy *blocks, int fd)
{
    struct summary sum;
    struct part parts[NPARTS];
    uint64_t offset = sizeof(sum);
    if (read_all(fd, &sum, sizeof(sum), 0) < 0 || !sum.complete) {
        return -1;
    }
    memset(heap, 0, sizeof(*heap));
    heap->graph = _PySnapshot_Zeroed(1, sizeof(*heap->graph));
    if (heap->graph == NULL) {
        return -1;
    }
    list_parts(heap, blocks, &sum, parts);
    for (int i = 0; i < NPARTS; i++) {
        void **array = parts[i].array;
        if (*array == NULL) {
            *array = _PySnapshot_Array(parts[i].size, 1);
        }
        if (*array == NULL
            || read_all(fd, *array, parts[i].size, offset) < 0)
        {
            return -1;
        }
        offset += parts[i].size;
    }
    take_numbers(heap, blocks, &sum);
    return 0;
}

int
_PyTracer_JoinHeap(struct tracer_heap_child *child,
                   struct tracer_blocks_copy *blocks, struct tracer_heap *heap)
{
    int status = 0;
    pid_t pid;
    do {
        pid = waitpid(child->pid, &status, __WCLONE);
    } while (pid < 0 && errno == EINTR);
    child->signal = pid >= 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (pid >= 0 && WIFEXITED(status) && WEXITSTATUS(status) > NO_MEMORY) {
        child->error = WEXITSTATUS(status);
    }
    int result = pid >= 0 && status != 0
                 ? -1 : read_parts(heap, blocks, child->fd);
    close(child->fd);
    return result;
}

#else

int
_PyTracer_ForkHeap(struct tracer_heap_child *child,
                   const struct tracer_heap_interpreters *interpreters,
                   int keys, struct tracer_blocks_copy *blocks,
                   const struct tracer_segments *segments)
{
    child->error = ENOSYS;
    return -1;
}

int
_PyTracer_JoinHeap(struct tracer_heap_child *child,
                   struct tracer_blocks_copy *blocks, struct tracer_heap *heap)
{
    return -1;
}

#endif
