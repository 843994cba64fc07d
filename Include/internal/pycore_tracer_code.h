/* Places of the instructions of code objects, see tracer_code.c.  Locked.
   UINT32_MAX: no memory. */

#ifndef Py_INTERNAL_TRACER_CODE_H
#define Py_INTERNAL_TRACER_CODE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"
#include "pycore_tracer_tree.h"

/* Code objects that died: other instructions may soon be at their addresses.
   GIL, while there is one. */
struct tracer_codes {
    uint64_t epoch;               // what was remembered before is not trusted
    uintptr_t dead_low, dead_high;      // where, since the last new one
};
extern struct tracer_codes _PyTracer_codes;

extern int _PyTracer_CodeInit(void);
extern void _PyTracer_CodeClear(void);
extern uint32_t _PyTracer_LocationOf(_PyInterpreterFrame *frame);

/* Node of the frame below `parent`. */
static inline uint32_t
_PyTracer_ChildOf(uint32_t parent, _PyInterpreterFrame *frame)
{
    uint32_t location = _PyTracer_LocationOf(frame);
    return location == UINT32_MAX ? TRACER_NODE_NONE
                                  : _PyTracer_Child(parent, location);
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_CODE_H */
