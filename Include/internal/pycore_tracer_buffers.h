/* Further blocks that objects own, see tracer_buffers.c. */

#ifndef Py_INTERNAL_TRACER_BUFFERS_H
#define Py_INTERNAL_TRACER_BUFFERS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_rooms.h"
#include "pycore_tracer_types.h"

struct tracer_buffers {
    uintptr_t *notes;             // address | enum tracer_class, in a room
    size_t n, size;
    const void *last_keys;        // noted last of a dictionary
    int failed;                   // no memory
    struct tracer_rooms *rooms;
};
/* GIL held and locked. */
extern void _PyTracer_NoteBuffers(struct tracer_buffers *buffers,
                                  enum tracer_owner owner, PyObject *op);
/* Give the noted blocks of a snapshot their classes.  It changes the notes and
   needs no GIL.  The buffer of a bytearray may be an object of that class. 0,
   or -1: no memory. */
extern int _PyTracer_MarkBuffers(struct tracer_buffers *buffers,
                                 struct tracer_snapshot *s, uint64_t nothers,
                                 uint32_t bytearray_class);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_BUFFERS_H */
