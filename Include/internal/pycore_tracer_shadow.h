/* The shadow stack of a thread: its entries, see tracer_stack.c. */

#ifndef Py_INTERNAL_TRACER_SHADOW_H
#define Py_INTERNAL_TRACER_SHADOW_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"

/* An instruction at which the frame of an entry was. */
struct site {
    const void *instr;            // NULL: none
    uint32_t node;
    uint32_t from_last;           // on the path from the last base, where
                                  //   node is not; NONE: not made yet
};

struct entry {
    _PyInterpreterFrame *frame;
    uint32_t parent;              // of the nodes of both sites
    uint32_t last;                // index of the site of the last capture
    struct site sites[2];
};

struct tracer_stack {
    struct entry *entries;
    size_t capacity;
    size_t depth;
    size_t next_switch;           // first depth from here where the path of
                                  //   another base begins
    size_t trusted;               // so many entries are of this code_epoch
    size_t deep_top;              // index of the top frame when many were
                                  //   pushed at once
    uint64_t code_epoch;
    _PyInterpreterFrame **pending;      // same capacity; walk buffer
};

/* The thread's, made if it has none; NULL: no memory.  Locked, and there is
   more than one frame. */
extern struct tracer_stack *_PyTracer_MakeStack(PyThreadState *tstate);
/* It is not up to date.  By its thread. */
extern void _PyTracer_ForgetEntries(struct _PyTracer_top *top);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_SHADOW_H */
