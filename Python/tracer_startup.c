/* Tracing from interpreter start: -X tracemalloc, PYTHONTRACEMALLOC and
   pytracemalloc 0.9.1's PYTRACEMALLOC, which says so on stderr. */

#include "Python.h"
#include "pycore_tracemalloc.h"   // _PyTraceMalloc_Start()
#include "pycore_tracer.h"
#include "pycore_tracer_trace.h"  // _PyTracer_StartFull()

static int announce = 0;

static const char *
get_env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *
_PyTracer_GetEnv(int use_environment)
{
    announce = 0;
    if (!use_environment) {
        return NULL;
    }
    const char *value = get_env("PYTHONTRACEMALLOC");
    if (value == NULL) {
        value = get_env("PYTRACEMALLOC");
        announce = value != NULL;
    }
    return value;
}

int
_PyTracer_IsFull(const char *value, int *nframe)
{
    if (strcmp(value, "full") != 0) {
        return 0;
    }
    *nframe = _PyTracer_FULL;
    return 1;
}

const char *
_PyTracer_EnvError(void)
{
    return announce ? "PYTRACEMALLOC: invalid number of frames"
                    : "PYTHONTRACEMALLOC: invalid number of frames";
}

int
_PyTracer_StartAtInit(int nframe)
{
    int result = nframe == _PyTracer_FULL ? _PyTracer_StartFull()
                                          : _PyTraceMalloc_Start(nframe);
    if (result == 0 && announce) {
        PySys_FormatStderr("tracemalloc enabled\n");
    }
    return result;
}
