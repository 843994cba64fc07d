/* Start of the tracer's services that are written in Python. This only decides
   whether to import them, so that an interpreter without services imports
   nothing. Their allocations are not traced. */

#include "Python.h"
#include "pycore_initconfig.h"    // _Py_GetEnv()
#include "pycore_tracer.h"        // _PyTracer_StartServices()
#include "pycore_tracer_hide.h"   // _PyTracer_HideThread()

static int
is_option(const wchar_t *given, const wchar_t *option)
{
    size_t length = wcslen(option);
    return wcsncmp(given, option, length) == 0
           && (given[length] == L'=' || given[length] == L'\0');
}

static int
services_are_asked_for(const PyConfig *config)
{
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        const wchar_t *given = config->xoptions.items[i];
        if (is_option(given, L"tracemalloc_control")
            || is_option(given, L"tracemalloc_history"))
        {
            return 1;
        }
    }
    return _Py_GetEnv(config->use_environment, "PYTRACEMALLOC_CONTROL")
           || _Py_GetEnv(config->use_environment, "PYTRACEMALLOC_HISTORY")
           || _Py_GetEnv(config->use_environment, "PYTRACEMALLOC_RUN");
}

static void
run_services(const PyConfig *config)
{
    PyObject *known = PyDict_Keys(PyImport_GetModuleDict());
    PyObject *module = known == NULL
        ? NULL : PyImport_ImportModule("pytracemalloc.services");
    PyObject *result = NULL;
    if (module != NULL) {
        /* "u" makes None of NULL. */
        result = PyObject_CallMethod(module, "run", "uuO", config->run_module,
                                     config->run_filename, known);
        Py_DECREF(module);
    }
    Py_XDECREF(known);
    if (result == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(result);
}

void
_PyTracer_StartServices(const PyConfig *config)
{
    if (services_are_asked_for(config)) {
        int hidden = _PyTracer_HideThread(1);
        run_services(config);
        (void)_PyTracer_HideThread(hidden);
    }
}
