/* The kept file of this process, see tracer_keep.c.  Locked, except where a
   comment says otherwise. */

#ifndef Py_INTERNAL_TRACER_KEEP_H
#define Py_INTERNAL_TRACER_KEEP_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_kept.h"

/* The header of the file, or without a file a place that nobody reads.  Each
   number is protected by what protects the one that it is a copy of. */
extern struct kept_header *_PyTracer_kept;

/* Write a number of the header after everything that was written before it.
   The compiler must keep this order; the caches do, and they outlive the
   process. */
#define TRACER_PUBLISH(NAME, VALUE) do {                        \
        __atomic_signal_fence(__ATOMIC_SEQ_CST);                \
        *(volatile __typeof__(_PyTracer_kept->NAME) *)          \
            &_PyTracer_kept->NAME = (VALUE);                    \
        __atomic_signal_fence(__ATOMIC_SEQ_CST);                \
    } while (0)

/* Fill in what the header says about the process, but not the magic. */
extern void _PyTracer_FillHeader(struct kept_header *header, uint32_t limit);
/* Tables are about to be made. */
extern void _PyTracer_BeginKeeping(uint32_t limit);
/* They are gone. */
extern void _PyTracer_ClearKept(void);
/* Tracing ends, and the file is removed. */
extern void _PyTracer_StopKeeping(void);

/* Put an array that begins at `base` into the file up to this byte, as far as
   the file can grow; return how many bytes are there. */
extern size_t _PyTracer_KeepArray(enum kept_array array, void *base,
                                  size_t end);
/* Where an array of the file lies, and how far. */
extern size_t _PyTracer_KeptArray(enum kept_array array, char **base);

/* A text and a place have been interned, a place was widened. */
extern void _PyTracer_KeepText(uint32_t id, const char *utf8, uint32_t length);
/* Is there a file?  If not, what is kept need not be computed. */
static inline int
_PyTracer_IsKept(void)
{
    return _PyTracer_kept->limit != 0;
}
extern void _PyTracer_KeepPlace(uint32_t id, const struct kept_place *place);

/* Rows of the peak, see tracer_windows.c. */
extern void _PyTracer_KeepPeak(const uint8_t *rows, size_t length);
/* Make room for others of the same length. */
extern void _PyTracer_ReservePeak(void);

/* Make room for so many bytes behind all extents; their offset, or 0: there is
   no file, or no room.  Give the room back. */
extern uint64_t _PyTracer_OpenKeptTail(size_t size);
extern void _PyTracer_CloseKeptTail(void);

/* In the child of a fork, whose tables are in private memory, as the file is
   the parent's.  Make a file for the child and return 0, if each process has
   one; or do without.  `before`: the parent's header at the fork. */
extern int _PyTracer_KeepInChild(const struct kept_header *before);
extern void _PyTracer_LeaveKept(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_KEEP_H */
