/* A kept file on its file system: its name, its descriptor, its size.

   If the disk has no room for a page of a mapping, SIGBUS ends the program.
   So disk blocks are allocated before they are mapped.  File systems that
   cannot promise room, because they write changes to other places of the disk,
   are refused.

   Programs close files that they have not opened.  So each use of the
   descriptor first checks that it still belongs to the file.

   `pytracemalloc run` provides memory without a name (memfd_create()), which
   has a link in /proc.  It exists as long as a process has it open, and is
   never renamed or removed, only truncated. */

#include "Python.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_keep_file.h"

#include <errno.h>
#include <fcntl.h>                // posix_fallocate()
#include <stdio.h>                // snprintf()
#include <sys/file.h>             // flock()
#include <sys/resource.h>         // getrlimit()
#include <sys/stat.h>             // fstat()
#include <sys/vfs.h>              // fstatfs()
#include <unistd.h>

#define LEAST_DESCRIPTOR 200      // programs rely on the numbers below
#define BTRFS 0x9123683e
#define ZFS 0x2fc12fc1
#define BCACHEFS 0xca451a4e

struct tracer_keep_file _PyTracer_keep_file = {.fd = -1};

static int
is_memory(const char *name)
{
    return strncmp(name, "/proc/", 6) == 0 && strstr(name, "/fd/") != NULL;
}

/* --- Words */

void
_PyTracer_SayOfKept(const char *name, const char *problem,
                    const char *what)
{
    char line[1024];
    name = is_memory(name) ? "memory for the call tree" : name;
    int n = snprintf(line, sizeof(line),
                     "tracemalloc: %.700s: %s; %s\n", name, problem, what);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0) {
        return;                   // nobody listens
    }
}

const char *
_PyTracer_WhyNotKept(int error)
{
    switch (error) {
    case ENOSPC: return "no room on its file system";
    case EDQUOT: return "the quota is used up";
    case EFBIG: return "the limit for the size of a file (ulimit -f)";
    case EACCES: case EPERM: case EROFS: return "it cannot be written";
    case ENOENT: return "no such folder";
    case ENOTDIR: return "its folder is a file";
    case ELOOP: return "it is a symbolic link";
    case EISDIR: return "it is a folder";
    case EINVAL: case ENODEV: case EOPNOTSUPP:
        return "its file system cannot map a file";
    case ENOMEM: return "not enough address space";
    case ENAMETOOLONG: return "the name is too long";
    case EMFILE: case ENFILE: return "too many open files";
    default: return "it cannot be written as a mapping";
    }
}

/* --- The file */

void
_PyTracer_WantFile(struct tracer_keep_file *file, const char *path)
{
    char *to = file->wanted;
    size_t length = 0;
    if (path[0] != '/' && path[0] != '\0'
        && getcwd(to, sizeof(file->wanted) - 1) != NULL)
    {
        length = strlen(to);
        to[length++] = '/';
    }
    if (strlen(path) >= sizeof(file->wanted) - length) {
        _PyTracer_SayOfKept(path, "the name is too long", "there is no file");
        path = "";
        length = 0;
    }
    strcpy(to + length, path);
    file->each = 0;
}

static int
open_again(const char *name)
{
    return open(name, O_RDWR | O_CLOEXEC | (is_memory(name) ? 0
                                                             : O_NOFOLLOW));
}

static int
is_ours(const struct tracer_keep_file *file, int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == file->device
           && st.st_ino == file->inode;
}

int
_PyTracer_KeptDescriptor(struct tracer_keep_file *file)
{
    if (!is_ours(file, file->fd)) {
        file->fd = open_again(file->name);
        if (file->fd >= 0 && !is_ours(file, file->fd)) {
            close(file->fd);
            file->fd = -1;
            errno = ENOENT;
        }
    }
    return file->fd;
}

/* Would SIGXFSZ end the program? */
static int
is_beyond_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0
           && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < end;
}

int
_PyTracer_AllocateKept(struct tracer_keep_file *file, uint64_t units)
{
    int fd = _PyTracer_KeptDescriptor(file);
    if (fd < 0) {
        return errno;
    }
    if (units <= file->allocated) {
        return 0;
    }
    if (is_beyond_limit(units * KEPT_UNIT)) {
        return EFBIG;
    }
    int error;
    do {
        error = posix_fallocate(fd, (off_t)(file->allocated * KEPT_UNIT),
                                (off_t)((units - file->allocated)
                                        * KEPT_UNIT));
    } while (error == EINTR);
    if (error == 0) {
        file->allocated = units;
    }
    return error;
}

int
_PyTracer_TruncateKept(struct tracer_keep_file *file, uint64_t units)
{
    assert(units <= file->allocated);
    int fd = _PyTracer_KeptDescriptor(file);
    if (fd < 0 || ftruncate(fd, (off_t)(units * KEPT_UNIT)) != 0) {
        return errno;
    }
    file->allocated = units;
    return 0;
}

int
_PyTracer_WriteKept(struct tracer_keep_file *file, uint64_t offset,
                    const void *data, size_t size)
{
    const char *p = data;
    int fd = _PyTracer_KeptDescriptor(file);
    if (is_beyond_limit(offset + size)) {
        errno = EFBIG;
        return -1;
    }
    while (size > 0 && fd >= 0) {
        ssize_t n = pwrite(fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return fd < 0 ? -1 : 0;
}

/* --- Its name */

/* Look at a file that has the name already.  0: it may be taken over.  1:
   another process writes to it.  2: it was the tree of a process that has
   ended, and has another name now.  -1 with errno: it is not a kept tree. */
static int
look_at_old(int fd, const char *name)
{
    char magic[KEPT_MAGIC_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        return 1;
    }
    if (st.st_size == 0) {
        return 0;
    }
    if (is_memory(name)) {
        return ftruncate(fd, 0);
    }
    if (pread(fd, magic, sizeof(magic), 0) != sizeof(magic)
        || memcmp(magic, KEPT_MAGIC, sizeof(magic)) != 0)
    {
        errno = EEXIST;
        return -1;
    }
    char other[4096];
    int n = snprintf(other, sizeof(other), "%s.previous", name);
    if (n >= (int)sizeof(other) || rename(name, other) < 0) {
        return -1;
    }
    return 2;
}

/* Open a file of this name; the descriptor, or -1 with errno, EWOULDBLOCK if
   another process writes to it. */
static int
open_name(const char *name)
{
    for (int tries = 0; tries < 3; tries++) {
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC
                            | O_NOFOLLOW, 0600);
        if (fd >= 0) {
            (void)flock(fd, LOCK_EX | LOCK_NB);
            return fd;
        }
        if (errno != EEXIST) {
            return -1;
        }
        fd = open_again(name);
        int old = fd < 0 ? -1 : look_at_old(fd, name);
        if (old == 0) {
            return fd;
        }
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        errno = old == 1 ? EWOULDBLOCK : error;
        if (old != 2) {
            return -1;
        }
    }
    errno = EEXIST;
    return -1;
}

/* This is the file from now on; 0, or an error. */
static int
take_descriptor(struct tracer_keep_file *file, int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, LEAST_DESCRIPTOR);
    if (high >= 0) {
        close(fd);
        fd = high;
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int error = errno;
        close(fd);
        return error;
    }
    file->fd = fd;
    file->device = st.st_dev;
    file->inode = st.st_ino;
    return 0;
}

static int
open_wanted(struct tracer_keep_file *file)
{
    const char *mark = file->each ? strstr(file->wanted, "%p") : NULL;
    strcpy(file->name, file->wanted);
    if (mark != NULL) {
        snprintf(file->name, sizeof(file->name), "%.*s%ld%s",
                 (int)(mark - file->wanted), file->wanted, (long)getpid(),
                 mark + 2);
    }
    int fd = open_name(file->name);
    if (fd < 0 && errno == EWOULDBLOCK) {
        size_t end = strlen(file->name);
        snprintf(file->name + end, sizeof(file->name) - end, ".%ld",
                 (long)getpid());
        fd = open_name(file->name);
    }
    return fd < 0 ? errno : take_descriptor(file, fd);
}

int
_PyTracer_OpenKept(struct tracer_keep_file *file)
{
    int error = file->name[0] != '\0' ? 0 : open_wanted(file);
    if (error != 0) {
        return error;
    }
    return _PyTracer_KeptDescriptor(file) < 0 ? errno : 0;
}

int
_PyTracer_PromisesRoom(struct tracer_keep_file *file)
{
    struct statfs fs;
    return fstatfs(file->fd, &fs) < 0
           || ((uint32_t)fs.f_type != BTRFS && (uint32_t)fs.f_type != ZFS
               && (uint32_t)fs.f_type != BCACHEFS);
}

void
_PyTracer_CloseKept(struct tracer_keep_file *file)
{
    if (is_ours(file, file->fd)) {
        close(file->fd);
    }
    file->fd = -1;
    file->device = 0;
    file->inode = 0;
    file->allocated = 0;
    file->name[0] = '\0';
}

void
_PyTracer_RemoveKept(struct tracer_keep_file *file)
{
    struct stat st;
    if (is_memory(file->name)) {
        (void)_PyTracer_TruncateKept(file, 0);
    }
    else if (file->name[0] != '\0' && lstat(file->name, &st) == 0
             && st.st_dev == file->device && st.st_ino == file->inode)
    {
        unlink(file->name);
    }
}

/* --- Another one in its place */

/* A file that only has another name, or none that this process can see, as in
   another root, is still there. */
int
_PyTracer_IsKeptGone(const struct tracer_keep_file *file)
{
    struct stat st;
    if (lstat(file->name, &st) == 0) {
        return st.st_dev != file->device || st.st_ino != file->inode;
    }
    return fstat(file->fd, &st) == 0 && st.st_nlink == 0;
}

/* No other process gives this name; what one with the same number has left
   there was not complete. */
int
_PyTracer_OpenNext(struct tracer_keep_file *next,
                   const struct tracer_keep_file *file)
{
    int n = snprintf(next->name, sizeof(next->name), "%s.%ld.tmp", file->name,
                     (long)getpid());
    int error = n >= (int)sizeof(next->name) ? ENAMETOOLONG : 0;
    if (error == 0) {
        (void)unlink(next->name);
        int fd = open_name(next->name);
        error = fd < 0 ? errno : take_descriptor(next, fd);
    }
    if (error != 0) {
        next->name[0] = '\0';
    }
    return error;
}

int
_PyTracer_ReplaceKept(struct tracer_keep_file *file,
                      struct tracer_keep_file *next)
{
    assert(next->fd >= 0);
    if (rename(next->name, file->name) < 0) {
        return errno;
    }
    if (is_ours(file, file->fd)) {
        close(file->fd);
    }
    file->fd = next->fd;
    file->device = next->device;
    file->inode = next->inode;
    file->allocated = next->allocated;
    next->fd = -1;
    next->name[0] = '\0';
    return 0;
}
