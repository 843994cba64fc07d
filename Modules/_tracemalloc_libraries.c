/* The libraries of the process, and what native memory does not show of them:
   which of them do not call the malloc() of the program, and what a jemalloc
   inside one of them says.

   All functions are called with the GIL held. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_program.h"
#include "_tracemalloc.h"

#include <elf.h>
#include <link.h>                 // dl_iterate_phdr()
#include <stdlib.h>               // malloc()
#include <string.h>

#if __SIZEOF_POINTER__ == 8
#  define SYMBOL_OF ELF64_R_SYM
#  define TYPE_OF ELF64_R_TYPE
#else
#  define SYMBOL_OF ELF32_R_SYM
#  define TYPE_OF ELF32_R_TYPE
#endif

/* Of a call.  Data may point to malloc(), too, and the library may change
   that. */
#if defined(__x86_64__)
#  define IS_CALL(TYPE) ((TYPE) == R_X86_64_JUMP_SLOT                      \
                         || (TYPE) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#  define IS_CALL(TYPE) ((TYPE) == R_AARCH64_JUMP_SLOT                     \
                         || (TYPE) == R_AARCH64_GLOB_DAT)
#else
#  define IS_CALL(TYPE) ((void)(TYPE), 0)
#endif

struct library {
    struct library *next;
    uintptr_t base;
    int apart;                    // it calls another malloc()
    char path[];
};

struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    const ElfW(Rela) *calls, *others;
    size_t ncalls, nothers;
};

/* The loader has made most of these addresses out of offsets. */
static const void *
at(const struct dl_phdr_info *info, ElfW(Addr) address)
{
    return (const void *)(address < info->dlpi_addr
                          ? info->dlpi_addr + address : address);
}

static void
read_tables(const struct dl_phdr_info *info, const ElfW(Dyn) *item,
            struct tables *tables)
{
    size_t relative = 0;
    ElfW(Sxword) kind = DT_RELA;
    for (; item->d_tag != DT_NULL; item++) {
        switch (item->d_tag) {
        case DT_SYMTAB: tables->symbols = at(info, item->d_un.d_ptr); break;
        case DT_STRTAB: tables->names = at(info, item->d_un.d_ptr); break;
        case DT_JMPREL: tables->calls = at(info, item->d_un.d_ptr); break;
        case DT_RELA: tables->others = at(info, item->d_un.d_ptr); break;
        case DT_PLTRELSZ:
            tables->ncalls = item->d_un.d_val / sizeof(ElfW(Rela));
            break;
        case DT_RELASZ:
            tables->nothers = item->d_un.d_val / sizeof(ElfW(Rela));
            break;
        case DT_RELACOUNT: relative = item->d_un.d_val; break;
        case DT_PLTREL: kind = (ElfW(Sxword))item->d_un.d_val; break;
        }
    }
    if (kind != DT_RELA || tables->calls == NULL) {
        tables->ncalls = 0;
    }
    if (tables->others == NULL || relative > tables->nothers) {
        tables->nothers = 0;
    }
    else {                        // those without a symbol come first
        tables->others += relative;
        tables->nothers -= relative;
    }
}

static int
is_wanted(const char *name)
{
    return strcmp(name, "malloc") == 0 || strcmp(name, "calloc") == 0
           || strcmp(name, "realloc") == 0;
}

/* Does a pointer that the loader has set, or will set at the first call, lead
   to another function than that of the program? */
static int
leads_elsewhere(const struct dl_phdr_info *info, const struct tables *tables,
                const ElfW(Rela) *relocations, size_t n)
{
    const struct tracer_program *program = &_PyTracer_program;
    for (size_t i = 0; i < n; i++) {
        size_t number = SYMBOL_OF(relocations[i].r_info);
        const ElfW(Sym) *symbol = &tables->symbols[number];
        if (!IS_CALL(TYPE_OF(relocations[i].r_info))
            || !is_wanted(tables->names + symbol->st_name))
        {
            continue;
        }
        const char *target = *(const char *const *)(
            info->dlpi_addr + relocations[i].r_offset);
        if (target >= program->begin && target < program->end) {
            continue;
        }
        int own = 0;              // not set yet, or its own function
        for (int j = 0; j < info->dlpi_phnum; j++) {
            const ElfW(Phdr) *header = &info->dlpi_phdr[j];
            uintptr_t begin = info->dlpi_addr + header->p_vaddr;
            own |= header->p_type == PT_LOAD && (uintptr_t)target >= begin
                   && (uintptr_t)target < begin + header->p_memsz;
        }
        if (!own || symbol->st_shndx != SHN_UNDEF) {
            return 1;
        }
    }
    return 0;
}

static int
is_apart(const struct dl_phdr_info *info)
{
    struct tables tables = {0};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_DYNAMIC) {
            read_tables(info, (const ElfW(Dyn) *)(info->dlpi_addr
                                                  + header->p_vaddr),
                        &tables);
        }
    }
    return tables.symbols != NULL && tables.names != NULL
           && (leads_elsewhere(info, &tables, tables.calls, tables.ncalls)
               || leads_elsewhere(info, &tables, tables.others,
                                  tables.nothers));
}

/* The loader's lock is held: no objects.  Neither the program, which has no
   name, nor what the kernel maps is a library. */
static int
add_library(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *arg)
{
    struct library **first = arg;
    if (info->dlpi_name[0] != '/') {
        return 0;
    }
    size_t length = strlen(info->dlpi_name) + 1;
    struct library *library = malloc(sizeof(*library) + length);
    if (library == NULL) {
        return -1;
    }
    library->next = *first;
    library->base = info->dlpi_addr;
    library->apart = is_apart(info);
    memcpy(library->path, info->dlpi_name, length);
    *first = library;
    return 0;
}

PyDoc_STRVAR(libraries_doc,
"_libraries($module, /)\n--\n\n"
"Get the libraries of the process: a list of (path, address, whether it\n"
"calls another malloc() than that of the program).");

static PyObject *
libraries(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct library *first = NULL;
    PyObject *list = PyList_New(0);
    if (list == NULL || &_PyTracer_program == NULL) {
        return list;
    }
    if (dl_iterate_phdr(add_library, &first) != 0) {
        Py_CLEAR(list);
        PyErr_NoMemory();
    }
    while (first != NULL) {
        struct library *library = first;
        first = library->next;
        PyObject *row = list == NULL ? NULL
                        : Py_BuildValue("(NKO)",
                              PyUnicode_DecodeFSDefault(library->path),
                              (unsigned long long)library->base,
                              library->apart ? Py_True : Py_False);
        if (list != NULL && (row == NULL || PyList_Append(list, row) < 0)) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
        free(library);
    }
    return list;
}

typedef int (*mallctl_function)(const char *, void *, size_t *, void *,
                                size_t);

static int
ask(mallctl_function mallctl, const char *name, void *value, size_t size)
{
    size_t written = size;
    return mallctl(name, value, &written, NULL, 0) == 0 && written == size
           ? 0 : -1;
}

/* Many are compiled without statistics, but know the pages in use of all
   their arenas. */
static int
ask_live(mallctl_function mallctl, size_t *live)
{
    const char *version;
    uint64_t epoch = 1;           // makes it add up its figures
    if (ask(mallctl, "version", &version, sizeof(version)) < 0
        || strncmp(version, "5.", 2) != 0
        || mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) != 0)
    {
        return -1;
    }
    size_t page;
    if (ask(mallctl, "stats.allocated", live, sizeof(*live)) == 0) {
        return 0;
    }
    if (ask(mallctl, "arenas.page", &page, sizeof(page)) < 0
        || ask(mallctl, "stats.arenas.4096.pactive", live, sizeof(*live)) < 0)
    {
        return -1;
    }
    *live *= page;
    return 0;
}

PyDoc_STRVAR(jemalloc_live_doc,
"_jemalloc_live($module, mallctl, /)\n--\n\n"
"Get the bytes that a jemalloc says are live, by the address of its\n"
"mallctl(); None if it does not say it.");

static PyObject *
jemalloc_live(PyObject *Py_UNUSED(module), PyObject *address)
{
    uintptr_t mallctl = PyLong_AsSize_t(address);
    size_t live;
    if (mallctl == (uintptr_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (ask_live((mallctl_function)mallctl, &live) < 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromSize_t(live);
}

static PyMethodDef library_functions[] = {
    {"_libraries", libraries, METH_NOARGS, libraries_doc},
    {"_jemalloc_live", jemalloc_live, METH_O, jemalloc_live_doc},
    {NULL}
};

int
_PyTracemalloc_AddLibraries(PyObject *module)
{
    return PyModule_AddFunctions(module, library_functions);
}
