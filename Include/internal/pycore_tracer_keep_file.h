/* A kept file on its file system, see tracer_keep_file.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_KEEP_FILE_H
#define Py_INTERNAL_TRACER_KEEP_FILE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>            // dev_t

/* Nothing here asks for memory: names have a place of their own. */
struct tracer_keep_file {
    char wanted[4096];            // name for the next start, absolute, or ""
    int each;                     // %p in it is the process id: forked
                                  //   processes have a file as well
    char name[4096 + 16];         // of the file, which may be another one; "":
                                  //   there is none
    int fd;                       // -1: none, or somebody has closed it
    dev_t device;                 // how the file is known again
    ino_t inode;
    uint64_t allocated;           // units that the disk has
};
extern struct tracer_keep_file _PyTracer_keep_file;   // of the call tree

/* The file of the next start; "": none. */
extern void _PyTracer_WantFile(struct tracer_keep_file *file,
                               const char *path);
/* Open the file that is wanted, if none is; 0, or an error. */
extern int _PyTracer_OpenKept(struct tracer_keep_file *file);
/* Is a page that the file has sure to be written? */
extern int _PyTracer_PromisesRoom(struct tracer_keep_file *file);
/* The descriptor, or -1 with errno. */
extern int _PyTracer_KeptDescriptor(struct tracer_keep_file *file);
/* Make the file so many units long, with room on the disk for all, or so many
   units short; 0, or an error. */
extern int _PyTracer_AllocateKept(struct tracer_keep_file *file,
                                  uint64_t units);
extern int _PyTracer_TruncateKept(struct tracer_keep_file *file,
                                  uint64_t units);
/* 0, or -1 with errno. */
extern int _PyTracer_WriteKept(struct tracer_keep_file *file, uint64_t offset,
                               const void *data, size_t size);
/* Remove it, if it is there; then there is none. */
extern void _PyTracer_RemoveKept(struct tracer_keep_file *file);
extern void _PyTracer_CloseKept(struct tracer_keep_file *file);

/* Was the file removed, or is its name another file's by now? */
extern int _PyTracer_IsKeptGone(const struct tracer_keep_file *file);
/* Open another one in the same folder; 0, or an error.  Put it in the place of
   the file; 0, or an error. */
extern int _PyTracer_OpenNext(struct tracer_keep_file *next,
                              const struct tracer_keep_file *file);
extern int _PyTracer_ReplaceKept(struct tracer_keep_file *file,
                                 struct tracer_keep_file *next);

/* A line on stderr; what an error means there. */
extern void _PyTracer_SayOfKept(const char *name, const char *problem,
                                const char *what);
extern const char *_PyTracer_WhyNotKept(int error);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_KEEP_FILE_H */
