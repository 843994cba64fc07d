/* What every allocation and free looks at, see pycore_tracer_state.h. */

#include "Python.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_state.h"

char _PyTracer_enabled = 0;
struct tracer_state _PyTracer = {.epoch = 1,
                                 .many_gils = !_PyTracer_HAS_GIL};
