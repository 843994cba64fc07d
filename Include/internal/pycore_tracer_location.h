/* Functions and places in the source, see tracer_location.c.  Locked.
   UINT32_MAX: no memory. */

#ifndef Py_INTERNAL_TRACER_LOCATION_H
#define Py_INTERNAL_TRACER_LOCATION_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_index.h"
#include "pycore_tracer_kept.h"
#include "pycore_tracer_text.h"

/* A function.  Two code objects with the same names and first line (exec,
   reload) share it. */
struct tracer_function {
    uint32_t filename;            // index of tracer_string
    uint32_t name;                // qualified name, the same
    int32_t first_line;
};

/* A place in source code.  If several instructions of the line allocate or
   call, the columns span all of them.  It takes twelve bytes, as there are
   nearly as many places as nodes.  A place that does not fit is kept
   elsewhere; _PyTracer_PositionOf() reads both kinds. */
struct tracer_location {
    uint32_t function;            // index of tracer_function
    uint32_t line : 22;           // of a wide one: its number
    uint32_t more_lines : 10;     // end line - line, or TRACER_LOCATION_WIDE
    uint16_t column;              // plus one, 0: unknown
    uint16_t end_column;
};
static_assert(sizeof(struct tracer_location) == 12, "packed");
#define TRACER_LOCATION_LINES (1 << 22)
#define TRACER_LOCATION_WIDE 1023

struct tracer_places {
    struct tracer_function *functions;  // grows, moves
    struct tracer_location *locations;  // grows, moves
    uint32_t nfunctions, function_capacity;
    uint32_t nlocations, location_capacity;
    struct tracer_index function_index; // numbers are those of functions plus
    struct tracer_index location_index; //   one, and the same of locations
};
extern struct tracer_places _PyTracer_places;

struct tracer_position;
extern int _PyTracer_LocationInit(void);
extern void _PyTracer_LocationClear(void);
extern uint32_t _PyTracer_InternFunction(PyCodeObject *code);
extern uint32_t _PyTracer_InternLocation(uint32_t function,
                                         const struct tracer_position *pos);
/* For allocations without a Python frame: the file and line that the standard
   library gives them, and a reason in place of the function. */
extern uint32_t _PyTracer_InternNoFrame(const char *reason);
extern struct tracer_position _PyTracer_PositionOf(
    const struct tracer_location *location);
extern struct kept_place _PyTracer_PlaceOf(uint32_t location);
extern const struct tracer_string *_PyTracer_FilenameOf(
    const struct tracer_location *location);
extern const char *_PyTracer_LocationFault(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LOCATION_H */
