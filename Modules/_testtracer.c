/* Support of the tracer's tests, see _testtracer.h. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_compat.h" // _PyTracer_LeaveGilOff()
#include "_testtracer.h"

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_testtracer",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__testtracer(void)
{
    PyMethodDef *parts[] = {_TestTracer_LogFunctions,
                            _TestTracer_CompareFunctions,
                            _TestTracer_PlayFunctions,
                            _TestTracer_ThreadFunctions,
                            _TestTracer_FailFunctions,
                            _TestTracer_ForkFunctions,
                            _TestTracer_BreakFunctions,
                            _TestTracer_OrderFunctions,
                            _TestTracer_FrameFunctions,
                            _TestTracer_WrapFunctions,
                            _TestTracer_HeapFunctions,
                            _TestTracer_MadeFunctions,
                            _TestTracer_GraphFunctions,
                            _TestTracer_RssFunctions};
    PyObject *module = PyModule_Create(&module_def);
    if (module != NULL && _PyTracer_LeaveGilOff(module) < 0) {
        Py_CLEAR(module);
    }
    for (size_t i = 0; module != NULL && i < Py_ARRAY_LENGTH(parts); i++) {
        if (PyModule_AddFunctions(module, parts[i]) < 0) {
            Py_CLEAR(module);
        }
    }
    return module;
}
