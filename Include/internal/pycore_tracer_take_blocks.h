/* The live blocks of a snapshot, see tracer_take_blocks.c. */

#ifndef Py_INTERNAL_TRACER_TAKE_BLOCKS_H
#define Py_INTERNAL_TRACER_TAKE_BLOCKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_buffers.h"
#include "pycore_tracer_mappings.h"
#include "pycore_tracer_rooms.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_types.h"

struct tracer_blocks_copy {
    struct tracer_snapshot *s;    // its arrays lie in rooms until taken
    struct tracer_rooms *rooms;
    struct tracer_types types;
    struct tracer_type *last;     // seen
    struct tracer_buffers buffers;
    struct tracer_mappings mappings;
    uint64_t nothers;             // but for those of other domains
    uint64_t room;                // for both
};

/* At the moment, when the types are collected: memory for classes, and the C
   stacks.  Then copy the blocks.  Both locked; 0, or -1: no memory. */
extern int _PyTracer_PrepareBlocks(struct tracer_blocks_copy *c);
extern int _PyTracer_CopyBlocks(struct tracer_blocks_copy *c);
/* After it, no GIL needed: the arrays become the snapshot's own; then buffers
   get their classes.  0, or -1: no memory. */
extern void _PyTracer_TakeBlocks(struct tracer_blocks_copy *c);
extern int _PyTracer_FinishBlocks(struct tracer_blocks_copy *c);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TAKE_BLOCKS_H */
