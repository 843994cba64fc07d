/* The highest moments of the run, see tracer_windows.c. */

#ifndef Py_INTERNAL_TRACER_WINDOWS_H
#define Py_INTERNAL_TRACER_WINDOWS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_count.h"

#define TRACER_HIGHS 4            // the highest, and three more

/* What was live at the highest moment of a window. */
struct tracer_high {
    int64_t size;                 // traced memory, bytes
    int64_t time;                 // ns, monotonic; about
    size_t length;                // of `rows`, bytes
    uint8_t *rows;                // from malloc(); of each node that had
                                  //   blocks, in the order of nodes
};

struct tracer_held {
    uint32_t node;
    uint64_t bytes, blocks;
};

struct tracer_windows {
    int64_t low;                  // traced memory below it ends the window;
                                  //   atomic
    int64_t rest;                 // ns: when to look again, INT64_MAX: now
    int64_t credit;               // ns that may be spent
    int64_t counted;              // time of the processor until then, ns
    uint32_t began;               // next_saved when the window began
    uint32_t nhighs;              // of windows that have ended
    struct tracer_high highs[TRACER_HIGHS];     // the highest first
};
extern struct tracer_windows _PyTracer_windows;   // GIL; highs: and lock

/* Has traced memory fallen so far that the window is over? */
static inline int
_PyTracer_HasFallen(void)
{
    return _PyTracer_Current()
           < _Py_atomic_load_int64_relaxed(&_PyTracer_windows.low);
}

/* A row's number, 7 bits in each byte, the lowest first. */
static inline const uint8_t *
_PyTracer_ReadNumber(const uint8_t *p, uint64_t *value)
{
    *value = 0;
    for (int shift = 0;; shift += 7) {
        *value |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ < 0x80) {
            return p;
        }
    }
}

/* Make the row at p of that before; where the next one is. */
static inline const uint8_t *
_PyTracer_ReadHeld(const uint8_t *p, struct tracer_held *held)
{
    uint64_t step;
    p = _PyTracer_ReadNumber(p, &step);
    held->node += (uint32_t)step;
    p = _PyTracer_ReadNumber(p, &held->bytes);
    return _PyTracer_ReadNumber(p, &held->blocks);
}

/* Go through the rows of a high with a struct tracer_held. */
#define TRACER_FOR_HELD(HELD, HIGH)                                     \
    for (const uint8_t *p_ = (HIGH)->rows,                              \
                       *end_ = p_ + (HIGH)->length;                     \
         p_ < end_ && (p_ = _PyTracer_ReadHeld(p_, &(HELD)), 1);)

/* By how much memory must fall to end a window, and rise to begin one. */
static inline int64_t
_PyTracer_Step(int64_t traced)
{
    return Py_MAX(traced >> 3, 32768);
}

/* After the highest moment of the window has changed; GIL. */
static inline void
_PyTracer_SetLow(void)
{
    int64_t traced = _PyTracer_peaks.traced;
    int64_t low = traced - _PyTracer_Step(traced);
    if (_PyTracer_windows.rest != INT64_MAX) {
        low = INT64_MIN;
    }
    _Py_atomic_store_int64_relaxed(&_PyTracer_windows.low, low);
}

/* Traced memory has fallen: end the window if this thread has the GIL.
   Locked. */
extern void _PyTracer_EndWindow(void);
extern void _PyTracer_LockAndEndWindow(void);     // not locked
/* It is time to check again; GIL and locked. */
extern void _PyTracer_EndRest(void);
/* No window has ended yet; locked. */
extern void _PyTracer_ForgetHighs(void);
/* No window has cost anything yet; locked. */
extern void _PyTracer_ClearWindows(void);
/* For pruning: mark what was live, then give the nodes new numbers. */
extern void _PyTracer_MarkHighs(uint32_t *marks);
extern void _PyTracer_RenumberHighs(const uint32_t *numbers);

/* Keep the rows of the highest moment in a file that is new. */
extern void _PyTracer_KeepHighest(void);

/* Bytes by location, the last one those of no location; `nodes` tells which
   it is. */
extern void _PyTracer_SumHigh(const struct tracer_high *high,
                              const struct tracer_node *nodes,
                              uint32_t nlocations, uint64_t *sums);
/* Is a moment with these bytes, divided among locations, worth keeping?  If
   so, keep[i] says which of the others are worth it, too; `room` has space for
   sums of n locations and one more. */
extern int _PyTracer_ChooseHighs(const struct tracer_high *highs,
                                 uint32_t nhighs, int64_t size,
                                 const uint64_t *sums,
                                 const struct tracer_node *nodes,
                                 uint32_t nlocations, uint64_t *room,
                                 uint8_t *keep);
extern const char *_PyTracer_WindowsFault(void);

static inline uint32_t
_PyTracer_SumOf(const struct tracer_node *nodes, uint32_t node,
                     uint32_t nlocations)
{
    return node == TRACER_NODE_UNKNOWN ? nlocations : nodes[node].location;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_WINDOWS_H */
