/* How the call sites have grown, see tracer_growth.c. */

#ifndef Py_INTERNAL_TRACER_GROWTH_H
#define Py_INTERNAL_TRACER_GROWTH_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

#define TRACER_MOMENTS 32         // kept, at most
#define TRACER_GROWN_SITES 32     // in a snapshot, at most
#define TRACER_GROWTH_EVERY 32768 // bytes of big blocks, then the clock is
                                  //   looked at; memory that has moved by less
                                  //   is no new moment

/* A moment: what the sites held then. */
struct tracer_moment {
    int64_t time;                 // ns, monotonic
    int64_t traced;               // bytes
    uint64_t blocks, bytes;       // ever allocated until then: the work done
    uint64_t floor;               // sites with fewer bytes have no row
    struct tracer_growth_row *rows;     // by location
    uint32_t nrows;
};

/* What a snapshot gets, in one block of malloc(). */
struct tracer_growth {
    uint32_t nmoments, nsites;
    struct {
        double time;              // s since 1970
        int64_t traced;
        uint64_t blocks, bytes;
    } moments[TRACER_MOMENTS + 1];
    struct {
        uint32_t location;
        uint64_t sizes[TRACER_MOMENTS + 1];
    } sites[TRACER_GROWN_SITES];
};

struct tracer_growths {
    int64_t ticks;                // bytes until the next look at the clock
    uint32_t nmoments;
    int64_t looked;               // ns: the clock when it was looked at last
    int64_t next, earliest;       // ns: of the next moment, and not before
    struct tracer_moment moments[TRACER_MOMENTS];
};
extern struct tracer_growths _PyTracer_growths;   // GIL and lock

/* All are called with the GIL held and locked. */

extern void _PyTracer_LookAtGrowth(void);
extern void _PyTracer_ClearGrowth(void);
/* The sites that have grown most, with what they hold now; NULL: no memory. */
extern struct tracer_growth *_PyTracer_CopyGrowth(void);

/* Called when the program has taken so many bytes of big blocks, or a pool,
   which counts for all. */
static inline void
_PyTracer_TickGrowth(int64_t ticks)
{
    _PyTracer_growths.ticks -= ticks;
    if (_PyTracer_growths.ticks <= 0) {
        _PyTracer_LookAtGrowth();
    }
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_GROWTH_H */
