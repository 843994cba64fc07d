/* Whether native memory can be traced in this process, and if not, why. */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE             // RTLD_DEFAULT
#endif
#include "Python.h"
#include "pycore_tracer_native.h"
#include "pycore_tracer_program.h"
#include "pycore_tracer_unwind.h"

#include <dlfcn.h>                // dlsym()

const char *
_PyTracer_NativeFault(int frames)
{
    if (&_PyTracer_program == NULL) {
        return "native memory cannot be traced: malloc() of this program is "
               "not that of python, as it embeds Python or has a sanitizer; "
               "run the code with python";
    }
    if (dlsym(RTLD_DEFAULT, "malloc") != (void *)_PyTracer_program.malloc) {
        return "native memory cannot be traced: libraries of this process "
               "call another malloc() than that of python; run the code with "
               "python";
    }
    if (frames > 0 && !_PyTracer_CanUnwind()) {
        return "C frames cannot be recorded: that needs x86-64 and glibc 2.35 "
               "or later; trace native memory without frames";
    }
    return NULL;
}

int
_PyTracer_CheckNative(int frames)
{
    const char *fault = _PyTracer_NativeFault(frames);
    if (fault != NULL) {
        PyErr_SetString(PyExc_RuntimeError, fault);
        return -1;
    }
    if (frames < 0 || frames > TRACER_MAX_C_FRAMES) {
        PyErr_Format(PyExc_ValueError,
                     "native: the number of C frames must be in range "
                     "[1; %d], or True for none", TRACER_MAX_C_FRAMES);
        return -1;
    }
    return 0;
}
