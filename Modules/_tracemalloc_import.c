/* _import_apart(): modules that the program does not see leave no trace in
   tables that it shares with them.

   The interpreter makes each name (of an attribute, a variable, a constant)
   once and remembers it, interned.  If the modules of a recording took their
   names from that table, the program would get these names for nothing, and
   the table that grows with them, too: it would be charged for less than
   without the recording.  The classes of these modules would be in
   object.__subclasses__(), and the program would be charged for the growth of
   that table.

   So the modules are imported while the interpreter has copies of these
   tables, which are then forgotten.  A name that only the copy had is not
   interned any more, as nobody would find it when it is freed; immortal names
   are never freed, and stay what they are.  Names need not be unique for code
   to be right: where pointers differ, texts are compared.  Static classes are
   not made again for the program, so they are put into its table.

   No other thread runs Python code meanwhile. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_global_objects.h"        // _Py_INTERP_CACHED_OBJECT()
#include "pycore_interp.h"                // PyInterpreterState
#include "pycore_pystate.h"               // _PyInterpreterState_GET()
#include "pycore_typeobject.h"            // _PyStaticType_GetState()
#include "_tracemalloc.h"

struct table {
    PyObject **place;             // where the interpreter has it
    PyObject *own;                // the program's
    PyObject *copy;
};

static int
copy_table(struct table *table, PyObject **place)
{
    table->place = place;
    table->own = *place;
    table->copy = PyDict_Copy(table->own);
    return table->copy == NULL ? -1 : 0;
}

static PyObject **
find_names(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    return &_Py_INTERP_CACHED_OBJECT(interp, interned_strings);
}

static PyObject **
find_classes(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    return &_PyStaticType_GetState(interp, &PyBaseObject_Type)->tp_subclasses;
}

/* The interpreter's table does not count its two references to a name. */
static void
forget_names(struct table *names)
{
    Py_ssize_t at = 0;
    PyObject *name, *value;
    while (PyDict_Next(names->copy, &at, &name, &value)) {
        if (PyUnicode_CHECK_INTERNED(name) == SSTATE_INTERNED_MORTAL
            && PyDict_Contains(names->own, name) == 0)
        {
            Py_INCREF(name);
            Py_INCREF(name);
            ((PyASCIIObject *)name)->state.interned = SSTATE_NOT_INTERNED;
        }
    }
}

/* If there is no memory, the class is missing in object.__subclasses__(). */
static void
keep_static_classes(struct table *classes)
{
    Py_ssize_t at = 0;
    PyObject *address, *reference, *class;
    while (PyDict_Next(classes->copy, &at, &address, &reference)) {
        if (PyDict_Contains(classes->own, address) == 0
            && PyWeakref_GetRef(reference, &class) == 1)
        {
            if (!PyType_HasFeature((PyTypeObject *)class, Py_TPFLAGS_HEAPTYPE)
                && PyDict_SetItem(classes->own, address, reference) < 0)
            {
                PyErr_Clear();
            }
            Py_DECREF(class);
        }
    }
}

PyDoc_STRVAR(import_apart_doc,
"_import_apart($module, function, /)\n--\n\n"
"Call a function that imports modules; leave no trace of them in the tables of\n"
"names and of classes.");

static PyObject *
import_apart(PyObject *Py_UNUSED(module), PyObject *function)
{
    struct table names, classes;
    if (copy_table(&names, find_names()) < 0) {
        return NULL;
    }
    if (copy_table(&classes, find_classes()) < 0) {
        Py_DECREF(names.copy);
        return NULL;
    }
    *names.place = names.copy;
    *classes.place = classes.copy;
    PyObject *result = PyObject_CallNoArgs(function);
    PyObject *exception = PyErr_GetRaisedException();
    *names.place = names.own;
    *classes.place = classes.own;
    forget_names(&names);
    keep_static_classes(&classes);
    Py_DECREF(names.copy);
    Py_DECREF(classes.copy);
    PyErr_SetRaisedException(exception);
    return result;
}

static PyMethodDef import_functions[] = {
    {"_import_apart", import_apart, METH_O, import_apart_doc},
    {NULL}
};

int
_PyTracemalloc_AddImport(PyObject *module)
{
    return PyModule_AddFunctions(module, import_functions);
}
