/* The state that every allocation and free reads, and the switches of the
   tracer. The other state is in headers named for it: pycore_tracer_tree.h
   (nodes and their counters), _count.h (the peak, bounds), _map.h, _blocks.h
   (tables of pools), _location.h and _text.h, _cache.h, _memory.h.

   Conservation, for each node: live = alloc - free, never negative; and the
   sum of live bytes over all nodes except the parked ones == small_current +
   map_current (the traced memory).

   Protection.  "GIL": the one GIL, or the tracer's lock while `many_gils` is
   set (an interpreter with a GIL of its own exists).  "lock": the tracer's
   own, see pycore_tracer_lock.h. */

#ifndef Py_INTERNAL_TRACER_STATE_H
#define Py_INTERNAL_TRACER_STATE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer.h"        // _PyTracer_NFREELISTS

/* Kinds of a block: which allocator family it came from. */
enum tracer_kind {
    TRACER_OBJECT = 0,            // PyObject_Malloc()
    TRACER_MEMORY = 1,            // PyMem_Malloc()
    TRACER_RAW = 2,               // PyMem_RawMalloc()
    TRACER_EXTERNAL = 3,          // PyTraceMalloc_Track()
    TRACER_NATIVE = 4,            // malloc() and mmap() of C code
};

struct tracer_state {
    /* Hot: one cache line. GIL, except for map_current. */
    struct tracer_node *nodes;    // see pycore_tracer_tree.h
    int64_t small_current;        // live bytes of small blocks
    int64_t map_current;          // live bytes of the map; atomic, lock
    int64_t high;                 // an allocation that rises above it looks,
                                  //   see tracer_count.c
    uint32_t epoch;               // of the peak: number of its first value;
                                  //   0: no value is needed
    uint32_t free_bound;          // a free at a node whose `saved` is less
                                  //   looks: epoch, or TRACER_EVERY_FREE
    uint32_t rising;              // each allocation is the peak
    uint32_t limit;               // frames, UINT32_MAX: whole stack
    uint32_t short_way;           // for park and unpark
    uint32_t watched;             // by a deadline or from below
    uint32_t cache_mask;          // of the offset of a set, in bytes
    uint32_t whole;               // the instruction alone does not tell the
                                  //   node: there is more than one frame, or
                                  //   a hidden thread

    /* Small blocks on each free list: bytes << 24 | blocks.  GIL. */
    uint64_t parked[_PyTracer_NFREELISTS];

    int tracing;                  // GIL and lock
    uint32_t many_gils;           // take the lock everywhere; any GIL, written
                                  //   with the only one
    uint32_t blind;               // beneath a wrapper, or because another
                                  //   thread was at the allocators, functions
                                  //   do not watch: all go the whole way
    int max_nframe;               // what get_traceback_limit() says
    uint64_t clears;              // how often all was forgotten, or nodes
                                  //   got other numbers; lock
    uint64_t untraced;            // blocks not traced: tracer out of memory
    uint32_t capturing;           // what captures read is being changed, see
                                  //   below; GIL
};

extern struct tracer_state _PyTracer;

/* Around changes of a shadow stack and of the cache: a handler of a signal may
   allocate in between, and must not read them then. */

static inline void
_PyTracer_BeginCapture(void)
{
    _PyTracer.capturing = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void
_PyTracer_EndCapture(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    _PyTracer.capturing = 0;
}

/* Greater than any number of a saved value. */
#define TRACER_EVERY_FREE UINT32_MAX

/* A block as a term of `parked`, and the two parts of that sum. */
#define TRACER_PARKED_SHIFT 24
#define TRACER_PARKED(SIZE) (((uint64_t)(SIZE) << TRACER_PARKED_SHIFT) | 1)
#define TRACER_PARKED_BYTES(SUM) ((SUM) >> TRACER_PARKED_SHIFT)
#define TRACER_PARKED_BLOCKS(SUM) ((SUM) & ((1u << TRACER_PARKED_SHIFT) - 1))

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_STATE_H */
