/* Recording that a block comes or goes, see tracer_record.c. */

#ifndef Py_INTERNAL_TRACER_RECORD_H
#define Py_INTERNAL_TRACER_RECORD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_map.h"
#include "pycore_tracer_state.h"

/* Set by each of our allocator functions that is called while tracing is
   off. */
extern _Py_thread_local int _PyTracer_idle;

/* Record a block that was just acquired, in place of what was traced at its
   address; drop a block that is about to be released.  Not locked; GIL held if
   kind is not TRACER_RAW.  A drop returns what it dropped, so that it can be
   undone if realloc() fails. */
struct tracer_dropped {
    struct tracer_record record;  // node NONE: was not traced
    uint32_t *slot;               // of the entry of a small block, else NULL
    uint32_t entry;               // that was there
    uint64_t clears;              // _PyTracer.clears, then
    int fallen;                   // traced memory is so low that its window is
                                  //   over, see tracer_windows.c
};
extern void _PyTracer_Record(void *block, size_t size, enum tracer_kind kind);
/* The same for a known node; locked. 0, or -1 and counted as untraced.  A
   block of TRACER_EXTERNAL may have any address and size. */
extern int _PyTracer_RecordNode(void *block, size_t size,
                                enum tracer_kind kind, uint32_t node);
/* Record a block of the object or memory domain that no pool holds.  If it was
   not dropped before realloc(), `old` is where it was.  The one GIL held, not
   locked, tracing. */
extern void _PyTracer_RecordBig(void *block, size_t size,
                                enum tracer_kind kind, const void *old);
/* Drop such a block before its free; is its window over?  Not locked. */
extern int _PyTracer_DropBig(const void *block);
extern void _PyTracer_Drop(void *block, struct tracer_dropped *dropped);
extern void _PyTracer_Undrop(const struct tracer_dropped *dropped);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_RECORD_H */
