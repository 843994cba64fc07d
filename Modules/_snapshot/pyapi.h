/* Python.h, and what some do not have: CPython before 3.13, and the limited
   API, by which one wheel serves all series from 3.11 on. */

#ifndef TRACER_PYAPI_H
#define TRACER_PYAPI_H

#define PY_SSIZE_T_CLEAN          // before CPython 3.13
#include "Python.h"

#include <stdio.h>
#include <string.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#  define Py_BEGIN_CRITICAL_SECTION(OP) {
#  define Py_END_CRITICAL_SECTION() }
#endif

/* Macros that look into objects.  The functions check their arguments, which
   are right wherever the macros are used. */
#ifdef Py_LIMITED_API
#  define PyBytes_AS_STRING PyBytes_AsString
#  define PyBytes_GET_SIZE PyBytes_Size
#  define PyDict_GET_SIZE PyDict_Size
#  define PyList_GET_ITEM PyList_GetItem
#  define PyList_GET_SIZE PyList_Size
#  define PyList_SET_ITEM PyList_SetItem
#  define PySet_GET_SIZE PySet_Size
#  define PyTuple_GET_ITEM PyTuple_GetItem
#  define PyTuple_GET_SIZE PyTuple_Size
#  define PyTuple_SET_ITEM PyTuple_SetItem
#  define PyUnicode_GET_LENGTH PyUnicode_GetLength
#  define Py_TPFLAGS_SEQUENCE 0   // only for `match`
#endif

/* Before 3.13 these take sizes as Py_ssize_t, which the headers of later
   series need not say any more. */
#if defined(Py_LIMITED_API) && PY_VERSION_HEX >= 0x030d0000
#  define PyArg_ParseTuple _PyArg_ParseTuple_SizeT
#  define PyObject_CallFunction _PyObject_CallFunction_SizeT
#  define Py_BuildValue _Py_BuildValue_SizeT
PyAPI_FUNC(int) PyArg_ParseTuple(PyObject *, const char *, ...);
PyAPI_FUNC(PyObject *) PyObject_CallFunction(PyObject *, const char *, ...);
PyAPI_FUNC(PyObject *) Py_BuildValue(const char *, ...);
#endif

#endif /* !TRACER_PYAPI_H */
