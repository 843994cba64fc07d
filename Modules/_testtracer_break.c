/* Faults in what the tracer knows, made on purpose: each must be found. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#undef NDEBUG
#include "Python.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_native_cells.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_valid.h"
#include "pycore_tracer_windows.h"
#include "_testtracer.h"

#include <assert.h>

#define PARTS _PyTracer_Parts()

/* A node of a place that has live blocks in the map, and its record. */
static struct tracer_record *
some_record(void)
{
    struct tracer_map *map = PARTS.map;
    for (size_t i = 0; i <= map->mask; i++) {
        struct tracer_record *record = &map->records[i];
        if (record->node >= TRACER_NODE_FIRST && record->size > 0) {
            return record;
        }
    }
    Py_UNREACHABLE();
}

static struct tracer_node *
some_node(void)
{
    return &PARTS.state->nodes[some_record()->node];
}

static struct tracer_rare *
some_rare(void)
{
    return &PARTS.tree->rares[some_node()->rare];
}

/* C stacks; NULL: there are none. */
static struct tracer_native_stacks *
some_stacks(void)
{
    struct tracer_native_stacks *stacks = PARTS.native_stacks;
    return stacks->nstacks > 1 ? stacks : NULL;
}

/* A number, and the bits of it that are flipped. */
struct breakage {
    const char *name;
    void *(*where)(void);         // NULL: there is none
    size_t width;                 // bytes
    uint64_t change;
};

#define WHERE(NAME, EXPRESSION)                                         \
    static void *                                                       \
    NAME(void)                                                          \
    {                                                                   \
        return EXPRESSION;                                              \
    }
WHERE(small_current, &PARTS.state->small_current)
WHERE(map_current, &PARTS.state->map_current)
WHERE(parked_list, &PARTS.state->parked[_PyTracer_LIST])
WHERE(map_used, &PARTS.map->used)
WHERE(record_address, &some_record()->address)
WHERE(record_size, &some_record()->size)
WHERE(record_domain, &some_record()->domain)
WHERE(node_blocks, &some_node()->alloc_blocks)
WHERE(node_bytes, &some_node()->free_bytes)
WHERE(node_parent, &some_node()->parent)
WHERE(node_location, &some_node()->location)
WHERE(node_rare, &some_node()->rare)
WHERE(node_saved, &some_node()->saved)
WHERE(rare_native, &some_rare()->native)
WHERE(rare_blocks, &some_rare()->counts.alloc_blocks)
WHERE(rare_none, &PARTS.tree->rares[0].counts.alloc_blocks)
WHERE(text_hash, &PARTS.texts->strings[1].hash)
WHERE(function_name, &PARTS.places->functions[1].name)
WHERE(location_function, &PARTS.places->locations[1].function)
WHERE(number_of_highs, &PARTS.windows->nhighs)
WHERE(cells_used, &PARTS.cells->used)
WHERE(high_size, &PARTS.windows->highs[0].size)
#define WHERE_IN_STACKS(NAME, FIELD)                                    \
    WHERE(NAME, some_stacks() == NULL ? NULL : &some_stacks()->FIELD)
WHERE_IN_STACKS(library_path, modules[0].path)
WHERE_IN_STACKS(place_module, places[1].module)
WHERE_IN_STACKS(place_offset, places[1].offset)
WHERE_IN_STACKS(stack_first, stacks[1].first)
WHERE_IN_STACKS(stack_length, stacks[1].n)
WHERE_IN_STACKS(stack_frame, frames[0])
#undef WHERE_IN_STACKS
#undef WHERE

static const struct breakage breakages[] = {
    {"small_current", small_current, 8, 1},
    {"map_current", map_current, 8, 1},
    {"parked", parked_list, 8, 1},
    {"map.used", map_used, sizeof(size_t), 1},
    {"record.address", record_address, sizeof(uintptr_t), 1 << 20},
    {"record.size", record_size, sizeof(size_t), 1},
    {"record.domain", record_domain, 4, 1},
    {"node.alloc_blocks", node_blocks, 4, 1},
    {"node.free_bytes", node_bytes, 4, 1},
    {"node.parent", node_parent, 4, 1 << 21},
    {"node.location", node_location, 4, 1 << 21},
    {"node.rare", node_rare, 4, 1},
    {"node.saved", node_saved, 4, 1u << 31},
    {"rare.native", rare_native, 4, 1},
    {"rare.alloc_blocks", rare_blocks, 8, 1},
    {"rare of none", rare_none, 8, 1},
    {"string.hash", text_hash, 4, 1},
    {"function.name", function_name, 4, 1 << 21},
    {"location.function", location_function, 4, 1 << 21},
    {"windows.nhighs", number_of_highs, 4, 8},
    {"cells.used", cells_used, sizeof(size_t), 1},
    {"high.size", high_size, 8, UINT64_C(1) << 63},
    {"C library.path", library_path, 4, 1u << 31},
    {"C place.module", place_module, 4, 1 << 21},
    {"C place.offset", place_offset, 8, 1},
    {"C stack.first", stack_first, 8, 1},
    {"C stack.n", stack_length, 4, 1},
    {"C stack's frame", stack_frame, 4, 1 << 21},
};

static void
flip(const struct breakage *b, char *at)
{
    for (size_t i = 0; i < b->width; i++) {
        at[i] ^= (char)(b->change >> 8 * i & 0xff);
    }
}

/* find_faults() -> {what is broken: what is said}.  Nothing is allocated while
   something is broken. */
static PyObject *
find_faults(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    PyObject *faults = PyDict_New();
    for (size_t i = 0; faults && i < Py_ARRAY_LENGTH(breakages); i++) {
        const struct breakage *b = &breakages[i];
        char *at = b->where();
        if (at == NULL) {
            continue;
        }
        flip(b, at);
        const char *fault = _PyTracer_Validate();
        flip(b, at);
        PyObject *text = fault == NULL ? Py_NewRef(Py_None)
                                       : PyUnicode_FromString(fault);
        if (text == NULL || PyDict_SetItemString(faults, b->name, text) < 0) {
            Py_CLEAR(faults);
        }
        Py_XDECREF(text);
    }
    return faults;
}

/* fault() -> None if all that the tracer knows agrees, else what does not. */
static PyObject *
find_fault(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    const char *text = _PyTracer_Validate();
    return text == NULL ? Py_NewRef(Py_None) : PyUnicode_FromString(text);
}

PyMethodDef _TestTracer_BreakFunctions[] = {
    {"fault", find_fault, METH_NOARGS, NULL},
    {"find_faults", find_faults, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
