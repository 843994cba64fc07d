/* Finding out what a block is by looking at it, see tracer_types.c. */

#ifndef Py_INTERNAL_TRACER_TYPES_H
#define Py_INTERNAL_TRACER_TYPES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_state.h"

/* Classes of blocks that are not objects: the first classes of a snapshot. */
#define TRACER_CLASSES(X)                                       \
    X(OBJECT, TRACER_OBJECT, "<memory>")                        \
    X(MEMORY, TRACER_MEMORY, "<memory>")                        \
    X(RAW, TRACER_RAW, "<raw>")                                 \
    X(DICT_KEYS, TRACER_MEMORY, "<dict keys>")                  \
    X(DICT_VALUES, TRACER_MEMORY, "<dict values>")              \
    X(LIST_ITEMS, TRACER_MEMORY, "<list items>")                \
    X(SET_TABLE, TRACER_MEMORY, "<set table>")                  \
    X(BYTEARRAY_BUFFER, TRACER_MEMORY, "<bytearray buffer>")
enum tracer_class {
#define TRACER_CLASS_ENUM(NAME, KIND, TEXT) TRACER_CLASS_##NAME,
    TRACER_CLASSES(TRACER_CLASS_ENUM)
#undef TRACER_CLASS_ENUM
    TRACER_NCLASSES
};

/* Objects that own further blocks. */
enum tracer_owner {
    TRACER_OWNS_NOTHING,
    TRACER_OWNS_AS_DICT,
    TRACER_OWNS_AS_LIST,
    TRACER_OWNS_AS_SET,
    TRACER_OWNS_AS_BYTEARRAY,
    TRACER_OWNS_AS_TYPE,
};

/* A live type. */
struct tracer_type {
    PyTypeObject *type;
    uint32_t presize;             // bytes before the object
    uint32_t class_;              // of the snapshot, NONE: no block so far
    enum tracer_owner owner;      // what its instances are, if it has a class
};

#define TRACER_TYPE_FILTER_BITS 16

struct tracer_types {
    struct tracer_type *list;
    uint32_t n, size;
    uint32_t *index;              // in list + 1, by address; 0: empty
    uint32_t mask;
    uint64_t *filter;             // bit by address; 0: not a type
    enum {
        TRACER_TYPES_NONE, TRACER_TYPES_SEEN, TRACER_TYPES_ALL
    } kept;
};

/* All live types; allocates nothing through Python.  GIL held. */
extern int _PyTracer_CollectTypes(struct tracer_types *types);
extern void _PyTracer_FreeTypes(struct tracer_types *types);
/* What its instances are; takes as long as a few lookups. */
extern enum tracer_owner _PyTracer_OwnerOfType(PyTypeObject *type);

static inline uint64_t
_PyTracer_TypeHash(const void *p)
{
    return (uint64_t)(uintptr_t)p * TRACER_GOLDEN_64;
}

static inline uint32_t
_PyTracer_TypeSlot(const struct tracer_types *types, const void *p)
{
    uint32_t i = (uint32_t)(_PyTracer_TypeHash(p) >> 32) & types->mask;
    while (types->index[i] != 0
           && types->list[types->index[i] - 1].type != p)
    {
        i = (i + 1) & types->mask;
    }
    return i;
}

/* SNAPSHOT_NONE: no block has this type. */
static inline uint32_t
_PyTracer_ClassOfType(const struct tracer_types *types, const void *type)
{
    uint32_t i = types->index[_PyTracer_TypeSlot(types, type)];
    return i != 0 ? types->list[i - 1].class_ : SNAPSHOT_NONE;
}

static inline int
_PyTracer_MayBeType(const struct tracer_types *types, const void *p)
{
    uint64_t bit = _PyTracer_TypeHash(p) >> (64 - TRACER_TYPE_FILTER_BITS);
    return (types->filter[bit / 64] >> (bit % 64)) & 1;
}

/* The type of the object in a live block of the object domain, or NULL.  The
   type of an object comes after 0, 16 or 32 bytes of pre-header and the
   reference count.  If an object has a pre-header, the words that are read too
   early are links of the collector or dictionaries, which are never types. */
static inline struct tracer_type *
_PyTracer_TypeOfBlock(const struct tracer_types *types, const char *block,
                      size_t size)
{
    for (uint32_t presize = 0; presize <= 32; presize += 16) {
        if (size < presize + sizeof(PyObject)) {
            break;
        }
        const PyObject *op = (const PyObject *)(block + presize);
        if (!_PyTracer_MayBeType(types, op->ob_type)) {
            continue;
        }
        uint32_t slot = _PyTracer_TypeSlot(types, op->ob_type);
        if (types->index[slot] != 0) {
            struct tracer_type *type = &types->list[types->index[slot] - 1];
            if (type->presize == presize && _PyTracer_HasReferences(op)) {
                return type;
            }
        }
    }
    return NULL;
}

/* Heap types are too large for a pool.  So a word that points into the pool of
   the block, as most links of the collector do, is not a type. */
#define TRACER_POOL_BITS 14       // no more than POOL_BITS

static inline int
_PyTracer_InPoolOf(const char *block, const void *p)
{
    return ((uintptr_t)block ^ (uintptr_t)p) >> TRACER_POOL_BITS == 0;
}

/* Is that the type? 0: it may be nevertheless.  Neighbours often have the same
   type.  `small`: the block is in a pool. */
static inline int
_PyTracer_IsOfType(const struct tracer_types *types, const char *block,
                   size_t size, const PyTypeObject *type, uint32_t presize,
                   int small)
{
    if (size < presize + sizeof(PyObject)) {
        return 0;
    }
    const PyObject *op = (const PyObject *)(block + presize);
    if (op->ob_type != type || !_PyTracer_HasReferences(op)) {
        return 0;
    }
    const PyTypeObject *early = ((const PyObject *)block)->ob_type;
    if (presize >= 16 && !(small && _PyTracer_InPoolOf(block, early))
        && _PyTracer_MayBeType(types, early))
    {
        return 0;
    }
    const PyObject *middle = (const PyObject *)(block + 16);
    return presize < 32 || !_PyTracer_MayBeType(types, middle->ob_type);
}

/* Keep the types of blocks that were seen, or all, alive until DropTypes() or
   FreeTypes(); GIL held since the moment. */
extern void _PyTracer_KeepTypes(struct tracer_types *types, int all);
extern void _PyTracer_DropTypes(struct tracer_types *types);
/* Name their classes.  GIL held, not locked. */
extern int _PyTracer_NameTypes(const struct tracer_types *types,
                               struct tracer_snapshot *s);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TYPES_H */
