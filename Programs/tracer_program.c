/* The malloc family of the program python.

   The dynamic linker looks for malloc() in the program first, so all libraries
   call the functions below, and so does C++.  Each one jumps to where a
   pointer says: to the function of the C library, or while native memory is
   traced to one of Python/tracer_native.c.

   This is linked into the program alone and not into libpython: a program that
   embeds Python keeps its malloc().  What is below is found by name, not by
   the names that glibc has for its own: an allocator that is preloaded comes
   before the C library.  dlsym() may allocate while it is found; that comes
   from a small buffer.

   With a sanitizer, which has a malloc() of its own, there is nothing here.
   reallocarray() calls realloc(), and malloc_usable_size() needs no function
   of ours. */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)     \
    && !defined(_Py_MEMORY_SANITIZER) && !defined(PYTRACEMALLOC_NO_NATIVE)

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif
#include <dlfcn.h>                // dlsym()
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>          // SYS_mmap
#include <unistd.h>               // syscall()

#include "pycore_tracer_program.h"

#define EXPORTED __attribute__((visibility("default"), used))
/* The functions that call the family lie together: their frames, which are
   there if the compiler makes no jumps of their calls, are not shown. */
#define FAMILY EXPORTED __attribute__((section("tracer_family")))
#define BUFFER 4096
#define UNIT 16                   // bytes: alignment of malloc()

static struct tracer_family family;
static struct tracer_family below;

/* --- While dlsym() runs, at the first call, before there are threads */

struct room {
    size_t size;
    size_t unused;
};

static union {
    struct room room;
    char bytes[BUFFER];
} __attribute__((aligned(UNIT))) buffer;
static size_t used;
static int finding;
static void (*found_free)(void *);
static void *(*found_realloc)(void *, size_t);

static void (*finalize_below)(void *library);
static int (*dlclose_below)(void *library);

static void *
take(size_t size)
{
    size_t wanted = (size + UNIT - 1) / UNIT * UNIT + sizeof(struct room);
    if (size > BUFFER || wanted > BUFFER - used) {
        errno = ENOMEM;
        return NULL;
    }
    struct room *room = (struct room *)(buffer.bytes + used);
    used += wanted;
    room->size = size;
    return room + 1;
}

static int
is_taken(const void *block)
{
    return (uintptr_t)block - (uintptr_t)buffer.bytes < BUFFER;
}

static void
careful_free(void *block)
{
    if (!is_taken(block)) {
        found_free(block);
    }
}

static void *
careful_realloc(void *block, size_t size)
{
    if (!is_taken(block)) {
        return found_realloc(block, size);
    }
    size_t old = ((struct room *)block)[-1].size;
    void *moved = below.malloc(size);
    return moved == NULL ? NULL : memcpy(moved, block, old < size ? old
                                                                  : size);
}

static void *
no_function(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *
find_one(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    return function != NULL ? function : (void *)no_function;
}

#define FIND(NAME) (*(void **)&below.NAME = find_one(#NAME))

__attribute__((constructor)) static void
find(void)
{
    if (finding) {
        return;
    }
    finding = 1;
    FIND(malloc);
    FIND(calloc);
    FIND(realloc);
    FIND(free);
    FIND(aligned_alloc);
    FIND(memalign);
    FIND(posix_memalign);
    FIND(valloc);
    FIND(pvalloc);
    FIND(mmap);
    FIND(munmap);
    FIND(mremap);
    FIND(pthread_create);
    *(void **)&finalize_below = find_one("__cxa_finalize");
    *(void **)&dlclose_below = find_one("dlclose");
    if (used > 0) {
        found_free = below.free;
        found_realloc = below.realloc;
        below.free = careful_free;
        below.realloc = careful_realloc;
    }
    family = below;
}

#undef FIND

static void *
first_malloc(size_t size)
{
    if (finding) {
        return take(size);
    }
    find();
    return family.malloc(size);
}

static void *
first_calloc(size_t nelem, size_t elsize)
{
    if (finding) {
        return elsize != 0 && nelem > BUFFER / elsize ? NULL
                                                      : take(nelem * elsize);
    }
    find();
    return family.calloc(nelem, elsize);
}

static void *
first_realloc(void *block, size_t size)
{
    if (finding) {
        void *moved = take(size);
        if (block != NULL && moved != NULL) {
            size_t old = ((struct room *)block)[-1].size;
            memcpy(moved, block, old < size ? old : size);
        }
        return moved;
    }
    find();
    return family.realloc(block, size);
}

static void
first_free(void *block)
{
    if (!finding) {
        find();
        family.free(block);
    }
}

static void *
first_aligned_alloc(size_t alignment, size_t size)
{
    find();
    return family.aligned_alloc(alignment, size);
}

static void *
first_memalign(size_t alignment, size_t size)
{
    find();
    return family.memalign(alignment, size);
}

static int
first_posix_memalign(void **block, size_t alignment, size_t size)
{
    find();
    return family.posix_memalign(block, alignment, size);
}

static void *
first_valloc(size_t size)
{
    find();
    return family.valloc(size);
}

static void *
first_pvalloc(size_t size)
{
    find();
    return family.pvalloc(size);
}

static void *
first_mmap(void *address, size_t size, int prot, int flags, int fd,
           off_t offset)
{
    if (finding) {
        return (void *)syscall(SYS_mmap, address, size, prot, flags, fd,
                               offset);
    }
    find();
    return family.mmap(address, size, prot, flags, fd, offset);
}

static int
first_munmap(void *address, size_t size)
{
    if (finding) {
        return (int)syscall(SYS_munmap, address, size);
    }
    find();
    return family.munmap(address, size);
}

static void *
first_mremap(void *address, size_t size, size_t new_size, int flags,
             void *new_address)
{
    find();
    return family.mremap(address, size, new_size, flags, new_address);
}

static int
first_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                     void *(*function)(void *), void *argument)
{
    find();
    return family.pthread_create(thread, attributes, function, argument);
}

static struct tracer_family family = {
    first_malloc, first_calloc, first_realloc, first_free,
    first_aligned_alloc, first_memalign, first_posix_memalign, first_valloc,
    first_pvalloc, first_mmap, first_munmap, first_mremap,
    first_pthread_create,
};

/* --- The family */

FAMILY void *
malloc(size_t size)
{
    return family.malloc(size);
}

FAMILY void *
calloc(size_t nelem, size_t elsize)
{
    return family.calloc(nelem, elsize);
}

FAMILY void *
realloc(void *block, size_t size)
{
    return family.realloc(block, size);
}

FAMILY void *
reallocarray(void *block, size_t nelem, size_t elsize)
{
    size_t size;
    if (__builtin_mul_overflow(nelem, elsize, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    return family.realloc(block, size);
}

FAMILY void
free(void *block)
{
    family.free(block);
}

FAMILY void *
aligned_alloc(size_t alignment, size_t size)
{
    return family.aligned_alloc(alignment, size);
}

FAMILY void *
memalign(size_t alignment, size_t size)
{
    return family.memalign(alignment, size);
}

FAMILY int
posix_memalign(void **block, size_t alignment, size_t size)
{
    return family.posix_memalign(block, alignment, size);
}

FAMILY void *
valloc(size_t size)
{
    return family.valloc(size);
}

FAMILY void *
pvalloc(size_t size)
{
    return family.pvalloc(size);
}

FAMILY void *
mmap(void *address, size_t size, int prot, int flags, int fd, off_t offset)
{
    return family.mmap(address, size, prot, flags, fd, offset);
}

FAMILY int
munmap(void *address, size_t size)
{
    return family.munmap(address, size);
}

FAMILY void *
mremap(void *address, size_t size, size_t new_size, int flags, ...)
{
    void *new_address = NULL;
    if (flags & MREMAP_FIXED) {
        va_list rest;
        va_start(rest, flags);
        new_address = va_arg(rest, void *);
        va_end(rest);
    }
    return family.mremap(address, size, new_size, flags, new_address);
}

#if defined(__GLIBC__) && __SIZEOF_POINTER__ == 8
EXPORTED void *mmap64(void *, size_t, int, int, int, off_t)
    __attribute__((alias("mmap")));
#endif

/* --- Unloading.  The end of a library calls __cxa_finalize() when nothing
   else of it is left to run, dlclose() or not.  With another library at its
   addresses, what was known of them is wrong. */

static unsigned int unloads;

EXPORTED void
__cxa_finalize(void *library)
{
    find();
    finalize_below(library);
    __atomic_fetch_add(&unloads, 1, __ATOMIC_RELEASE);
}

/* A library may have no such end. */
EXPORTED int
dlclose(void *library)
{
    find();
    int result = dlclose_below(library);
    __atomic_fetch_add(&unloads, 1, __ATOMIC_RELEASE);
    return result;
}

/* Not memory, but it says where a thread comes from. */
FAMILY int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
               void *(*function)(void *), void *argument)
{
    return family.pthread_create(thread, attributes, function, argument);
}

extern const char __start_tracer_family[], __stop_tracer_family[];

EXPORTED const struct tracer_program _PyTracer_program = {
    malloc, &family, &below, __start_tracer_family, __stop_tracer_family,
    &unloads,
};

#endif
