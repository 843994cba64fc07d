/* The module _tracemalloc_symbols: names of places in the code of modules,
   found in their files by elfutils when a report is made, and not in the
   traced program.

   libdwfl reads .symtab, .dynsym and .gnu_debugdata, and debug files that are
   on this machine, found by the build ID.  It asks a server for them only on
   request: that takes long, and says which programs are looked at.
   libiberty reads the mangled names of C++, Rust and others. */

#include "Python.h"

#include <demangle.h>             // cplus_demangle()
#include <elfutils/libdwfl.h>

typedef struct {
    PyObject_HEAD
    Dwfl *dwfl;
    Dwfl_Module *module;
    GElf_Addr bias;               // address here minus address in the file
} SymbolsObject;

static char *debug_path = NULL;   // as elfutils has it

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_build_id_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debug_path,
};

static void
close_symbols(SymbolsObject *self)
{
    if (self->dwfl != NULL) {
        dwfl_end(self->dwfl);
        self->dwfl = NULL;
    }
}

static const Dwfl_Callbacks asking = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debug_path,
};

/* 0, or -1: it is no file of code, or cannot be read. */
static int
open_file(SymbolsObject *self, const char *path, int ask)
{
    self->dwfl = dwfl_begin(ask ? &asking : &callbacks);
    if (self->dwfl == NULL) {
        return -1;
    }
    dwfl_report_begin(self->dwfl);
    self->module = dwfl_report_offline(self->dwfl, path, path, -1);
    return dwfl_report_end(self->dwfl, NULL, NULL) != 0
           || self->module == NULL
           || dwfl_module_getelf(self->module, &self->bias) == NULL ? -1 : 0;
}

static int
has_build_id(SymbolsObject *self, const char *wanted)
{
    const unsigned char *id;
    GElf_Addr where;
    int n = dwfl_module_build_id(self->module, &id, &where);
    if (n < 0 || strlen(wanted) != 2 * (size_t)n) {
        return 0;
    }
    for (int i = 0; i < n; i++) {
        char byte[3];
        snprintf(byte, sizeof(byte), "%02x", id[i]);
        if (memcmp(byte, wanted + 2 * i, 2) != 0) {
            return 0;
        }
    }
    return 1;
}

static PyObject *
new_symbols(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names))
{
    PyObject *path;
    const char *build_id;
    int ask = 0;
    if (!PyArg_ParseTuple(args, "O&s|p:Symbols", PyUnicode_FSConverter, &path,
                          &build_id, &ask))
    {
        return NULL;
    }
    SymbolsObject *self = (SymbolsObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        const char *fault = NULL;
        if (open_file(self, PyBytes_AS_STRING(path), ask) < 0) {
            fault = "no such file, or it has no code";
        }
        else if (build_id[0] != '\0' && !has_build_id(self, build_id)) {
            fault = "it is another build than the one that ran";
        }
        if (fault != NULL) {
            PyErr_Format(PyExc_ValueError, "%s: %s",
                         PyBytes_AS_STRING(path), fault);
            Py_CLEAR(self);
        }
    }
    Py_DECREF(path);
    return (PyObject *)self;
}

static void
dealloc_symbols(SymbolsObject *self)
{
    close_symbols(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
text_or_none(const char *text)
{
    return text == NULL ? Py_NewRef(Py_None)
           : PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text),
                                  "surrogateescape");
}

static PyObject *
function_name(const char *name)
{
    char *demangled = name == NULL ? NULL : cplus_demangle(name, DMGL_AUTO);
    PyObject *text = text_or_none(demangled != NULL ? demangled : name);
    free(demangled);
    return text;
}

static PyObject *
find_at(SymbolsObject *self, unsigned long long offset)
{
    /* The call, not the instruction behind it. */
    GElf_Addr address = self->bias + offset - 1;
    GElf_Off within;
    GElf_Sym symbol;
    int line = 0;
    const char *file = NULL;
    const char *name = dwfl_module_addrinfo(self->module, address, &within,
                                            &symbol, NULL, NULL, NULL);
    Dwfl_Line *found = dwfl_module_getsrc(self->module, address);
    if (found != NULL) {
        file = dwfl_lineinfo(found, NULL, &line, NULL, NULL, NULL);
    }
    return Py_BuildValue("NNi", function_name(name), text_or_none(file), line);
}

PyDoc_STRVAR(find_doc,
"find($self, offset, /)\n--\n\n"
"Return (function, file name, line) of the call that returns to an address\n"
"of the file; None and 0 for what is not known.");

static PyObject *
find(PyObject *self, PyObject *number)
{
    PyObject *result;
    unsigned long long offset = PyLong_AsUnsignedLongLong(number);
    if (offset == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    result = find_at((SymbolsObject *)self, offset);
    Py_END_CRITICAL_SECTION();
    return result;
}

static PyMethodDef methods[] = {
    {"find", find, METH_O, find_doc},
    {NULL}
};

PyDoc_STRVAR(symbols_doc,
"Symbols(path, build_id, ask=False, /)\n--\n\n"
"The names in a file of code, and in its debug file, for which the servers of\n"
"DEBUGINFOD_URLS are asked if *ask* is true.  ValueError if it cannot be read, or if its\n"
"build ID, in hexadecimal digits, is another one.");

static PyTypeObject symbols_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "_tracemalloc_symbols.Symbols",
    .tp_basicsize = sizeof(SymbolsObject),
    .tp_dealloc = (destructor)dealloc_symbols,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = symbols_doc,
    .tp_methods = methods,
    .tp_new = new_symbols,
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_tracemalloc_symbols",
    .m_doc = "Names of places in C code, see tracemalloc.native.",
    .m_size = 0,
};

PyMODINIT_FUNC
PyInit__tracemalloc_symbols(void)
{
    PyObject *module = PyModule_Create(&module_def);
    if (module == NULL) {
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    if (PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0) {
        Py_DECREF(module);
        return NULL;
    }
#endif
    if (PyModule_AddType(module, &symbols_type) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
