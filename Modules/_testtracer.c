/* Support of the tracer's tests, see _testtracer.h. */

#include "Python.h"
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
                            _TestTracer_WrapFunctions};
    PyObject *module = PyModule_Create(&module_def);
    for (size_t i = 0; module != NULL && i < Py_ARRAY_LENGTH(parts); i++) {
        if (PyModule_AddFunctions(module, parts[i]) < 0) {
            Py_CLEAR(module);
        }
    }
    return module;
}
