/* The machine that reads pickles: see pickle.c. Its stack holds items, and the
   values that it makes from them are bounded. */

#include "pyapi.h"

enum kind {
    SCALAR, TUPLE,
    LIST, DICT, SET, INSTANCE,    // can change: they have a node
    CLASS, ARGUMENTS,             // int, tuple with such: not to be stored
};

struct item {
    PyObject *value;              // owned
    uint64_t weight;              // or, of what can change, its node
    uint32_t depth;
    uint8_t kind;
};

/* What is known of all items that are one object. */
struct node {
    uint64_t weight;
    uint32_t depth;
    uint16_t other_keys;
    uint8_t stored, built;
};

struct array {
    void *items;
    size_t used, size;
};

struct machine {
    const uint8_t *start, *p, *end;
    struct array stack, memo;     // struct item
    struct array marks;           // size_t: places in the stack
    struct array nodes;
    PyObject *texts;              // dict: str -> str
    PyObject *types;              // (Snapshot, _Traces, datetime)
};

/* Functions return 0, or -1 with an exception; pointers are NULL then. */

/* ValueError with a reason and the place. */
static inline int
_PyPickle_Reject(struct machine *m, const char *reason)
{
    PyErr_Format(PyExc_ValueError, "%s at offset %zd", reason,
                 (Py_ssize_t)(m->p - m->start));
    return -1;
}

extern void *_PyPickle_Add(struct array *array, size_t size);
/* Forget items from this one on. */
extern void _PyPickle_Drop(struct array *items, size_t first);

/* These steal the value, which may be NULL with an exception. */
extern int _PyPickle_Push(struct machine *m, struct item item);
extern int _PyPickle_PushScalar(struct machine *m, PyObject *value,
                                uint64_t weight);
extern int _PyPickle_PushText(struct machine *m, PyObject *text,
                              uint64_t length);
extern int _PyPickle_PushChangeable(struct machine *m, PyObject *value,
                                    enum kind kind);

/* The uppermost n items, one or more; so many must be above the last mark. */
extern struct item *_PyPickle_Top(struct machine *m, size_t n);
extern int _PyPickle_Mark(struct machine *m);
extern struct node *_PyPickle_Node(struct machine *m,
                                   const struct item *item);

/* Count an item as a part of something with this weight and depth. */
extern int _PyPickle_Store(struct machine *m, const struct item *item,
                           uint64_t *weight, uint32_t *depth);
/* The container below n items, which can still change. */
extern struct item *_PyPickle_Container(struct machine *m, size_t n,
                                        enum kind kind);

/* Of the uppermost n items. */
extern int _PyPickle_Tuple(struct machine *m, size_t n);
extern int _PyPickle_Append(struct machine *m, size_t n);
extern int _PyPickle_SetItems(struct machine *m, size_t n);
extern int _PyPickle_AddItems(struct machine *m, size_t n);
/* Of all above the last mark. */
extern int _PyPickle_Fill(struct machine *m,
                          int (*with)(struct machine *, size_t));
extern int _PyPickle_MakeContainer(struct machine *m, enum kind kind);
extern int _PyPickle_MakeFrozenSet(struct machine *m);
