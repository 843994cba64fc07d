/* The malloc family as the program python defines it, with what makes threads,
   see Programs/tracer_program.c.  This header needs nothing of CPython. */

#ifndef Py_INTERNAL_TRACER_PROGRAM_H
#define Py_INTERNAL_TRACER_PROGRAM_H
#ifdef __cplusplus
extern "C" {
#endif

#include <pthread.h>              // pthread_t
#include <stddef.h>
#include <sys/types.h>            // off_t

/* Pointers and nothing else: they are exchanged one by one. */
struct tracer_family {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t nelem, size_t elsize);
    void *(*realloc)(void *block, size_t size);
    void (*free)(void *block);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    int (*posix_memalign)(void **block, size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    void *(*mmap)(void *address, size_t size, int prot, int flags, int fd,
                  off_t offset);
    int (*munmap)(void *address, size_t size);
    void *(*mremap)(void *address, size_t size, size_t new_size, int flags,
                    void *new_address);
    int (*pthread_create)(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
};

struct tracer_program {
    void *(*malloc)(size_t size); // the program's own
    struct tracer_family *family; // what the program's functions call
    const struct tracer_family *below;    // the functions of the C library, or
                                  //   of what is preloaded for it
    const char *begin, *end;      // the code of the program's functions
    const unsigned int *unloads;  // how often libraries were unloaded; atomic
};

/* Weak: a program that embeds Python does not have it. */
extern const struct tracer_program _PyTracer_program
    __attribute__((weak, visibility("default")));

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_PROGRAM_H */
