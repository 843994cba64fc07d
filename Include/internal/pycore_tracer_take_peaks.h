/* The highest moments in a snapshot, see tracer_take_peaks.c. */

#ifndef Py_INTERNAL_TRACER_TAKE_PEAKS_H
#define Py_INTERNAL_TRACER_TAKE_PEAKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_take_tree.h"
#include "pycore_tracer_windows.h"

struct tracer_peaks_copy {
    int64_t size, time;           // of the present window
    int64_t since;                // ns since 1970 at 0 of the times
    uint32_t nhighs;
    struct tracer_high highs[TRACER_HIGHS];
};

/* Size and time of the highest moments, the peak first. */
struct tracer_moments {
    uint32_t n;
    struct {
        double time;              // s since 1970
        uint64_t size;
    } list[TRACER_HIGHS];
};

/* First copy the tracer's values, locked.  Then, once the snapshot has nodes,
   write what it shows; needs no GIL.  Both: 0, or -1: no memory. */
extern int _PyTracer_CopyPeaks(struct tracer_peaks_copy *peaks);
extern int _PyTracer_WritePeaks(struct tracer_snapshot *s,
                                const struct tracer_tree_copy *tree,
                                const struct tracer_peaks_copy *peaks,
                                struct tracer_moments *moments);
extern void _PyTracer_FreePeaks(struct tracer_peaks_copy *peaks);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TAKE_PEAKS_H */
