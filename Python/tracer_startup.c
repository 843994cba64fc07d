/* Tracing from interpreter start: -X tracemalloc, PYTHONTRACEMALLOC and
   pytracemalloc 0.9.1's PYTRACEMALLOC, which is announced on stderr; and the
   file that keeps the call tree, -X tracemalloc_file and PYTRACEMALLOC_FILE,
   or the file that is written at a failed request, -X tracemalloc_oom and
   PYTRACEMALLOC_OOM; and native memory, -X tracemalloc_native and
   PYTRACEMALLOC_NATIVE. */

#include "Python.h"
#include "pycore_initconfig.h"    // _Py_str_to_int()
#include "pycore_tracemalloc.h"   // _PyTraceMalloc_Start()
#include "pycore_pystate.h"       // _Py_GetConfig()
#include "pycore_tracer.h"
#include "pycore_tracer_keep_file.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_native.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_start.h"
#include "pycore_tracer_unwind.h"

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

const char *
_PyTracer_EnvError(void)
{
    return announce ? "PYTRACEMALLOC: invalid number of frames"
                    : "PYTHONTRACEMALLOC: invalid number of frames";
}

/* A number as large as the one for the whole stack is out of range, too. */
static void
make_wrong(int *nframe)
{
    if (*nframe == _PyTracer_FULL) {
        *nframe = _PyTracer_FULL - 1;
    }
}

int
_PyTracer_ReadFrames(const char *text, int *nframe)
{
    if (strcmp(text, "full") == 0) {
        *nframe = _PyTracer_FULL;
        return 0;
    }
    if (_Py_str_to_int(text, nframe) < 0) {
        return -1;
    }
    make_wrong(nframe);
    return 0;
}

int
_PyTracer_ReadWideFrames(const wchar_t *text, int *nframe,
                         int (*read)(const wchar_t *, int *))
{
    if (wcscmp(text, L"full") == 0) {
        *nframe = _PyTracer_FULL;
        return 0;
    }
    if (read(text, nframe) < 0) {
        return -1;
    }
    make_wrong(nframe);
    return 0;
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

/* The value of the last -X OPTION, which ends in =, or NULL. */
static const wchar_t *
find_option(const PyConfig *config, const wchar_t *option)
{
    const size_t length = wcslen(option);
    const wchar_t *value = NULL;
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        const wchar_t *item = config->xoptions.items[i];
        if (wcsncmp(item, option, length) == 0) {
            value = item + length;
        }
    }
    return value;
}

static int
read_file_option(const wchar_t *name, const char *variable,
                 struct tracer_keep_file *file)
{
    const PyConfig *config = _Py_GetConfig();
    const wchar_t *option = find_option(config, name);
    const char *path = option == NULL && config->use_environment
                       ? get_env(variable) : NULL;
    char *encoded = NULL;
    if (option != NULL) {
        path = encoded = Py_EncodeLocale(option, NULL);
        if (encoded == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    _PyTracer_Lock();
    _PyTracer_WantFile(file, path == NULL ? "" : path);
    file->each = strstr(file->wanted, "%p") != NULL;
    _PyTracer_Unlock();
    PyMem_Free(encoded);
    return 0;
}

/* What the environment says, or an option: -1: nothing, or 0, which turns it
   off; else how many C frames.  A text that is no number asks for none. */
static int
wanted_native(void)
{
    const PyConfig *config = _Py_GetConfig();
    const wchar_t name[] = L"tracemalloc_native";
    const size_t length = Py_ARRAY_LENGTH(name) - 1;
    const char *value = config->use_environment
                        ? get_env("PYTRACEMALLOC_NATIVE") : NULL;
    int given = value != NULL;
    int wanted = -1;
    if (given && _Py_str_to_int(value, &wanted) < 0) {
        wanted = -1;
    }
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        const wchar_t *item = config->xoptions.items[i];
        if (wcsncmp(item, name, length) == 0
            && (item[length] == L'\0' || item[length] == L'='))
        {
            given = 1;
            wchar_t *end = NULL;
            long number = item[length] == L'=' && item[length + 1] != L'\0'
                          ? wcstol(item + length + 1, &end, 10) : -1;
            wanted = end == NULL || *end != L'\0' || number > INT_MAX
                     || number < 0 ? -1 : (int)number;
        }
    }
    if (!given || wanted == 0) {
        return -1;
    }
    return wanted < 0 ? 0 : wanted;
}

/* The program was not asked: it runs on if this cannot be. */
void
_PyTracer_StartWantedNative(void)
{
    int frames = wanted_native();
    if (frames < 0) {
        return;
    }
    const char *fault = _PyTracer_NativeFault(frames);
    if (fault != NULL) {
        PySys_FormatStderr("tracemalloc: %s\n", fault);
        frames = 0;
    }
    if (_PyTracer_NativeFault(0) == NULL) {
        (void)_PyTracer_StartNative(Py_MIN(frames, TRACER_MAX_C_FRAMES));
    }
}

int
_PyTracer_ReadFileOptions(void)
{
    static int done = 0;
    if (done) {
        return 0;
    }
    done = 1;
    _PyTracer_oom.early = 1;
    return read_file_option(L"tracemalloc_file=", "PYTRACEMALLOC_FILE",
                            &_PyTracer_keep_file) < 0
           || read_file_option(L"tracemalloc_oom=", "PYTRACEMALLOC_OOM",
                               &_PyTracer_oom.file) < 0 ? -1 : 0;
}
