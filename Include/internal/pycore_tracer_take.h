/* Taking a snapshot, see tracer_take.c. */

#ifndef Py_INTERNAL_TRACER_TAKE_H
#define Py_INTERNAL_TRACER_TAKE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_take_peaks.h"

/* What the tracer returns besides the arrays. */
struct tracer_totals {
    uint64_t current, peak;       // traced memory, bytes
    uint64_t native, native_peak; // native memory, bytes
    uint64_t untraced;            // blocks
    uint64_t folded;              // frames
    uint64_t pruned;              // nodes
    uint64_t parked[_PyTracer_NFREELISTS][2];     // blocks, bytes
    struct tracer_growth *growth; // or NULL; to be freed
    struct tracer_moments moments;
    PyTime_t time;                // monotonic
    struct snapshot_note *notes;  // or NULL; to be freed
    uint32_t nnotes;
    int error, signal;            // of a child that has failed, else 0
};

/* Flags: record references; also the keys; in a child process; in one if the
   process is small and a child can be made. */
enum tracer_references {
    TRACER_REFERENCES = 1,
    TRACER_KEYS = 2,
    TRACER_IN_CHILD = 4,
    TRACER_IN_CHILD_IF_SMALL = 8,
};

/* GIL held, not locked; the GIL is released before and after the moment that
   the snapshot shows. NULL without an exception: no memory. */
extern struct tracer_snapshot *_PyTracer_TakeSnapshot(
    int with_blocks, int references,
    struct tracer_totals *totals);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TAKE_H */
