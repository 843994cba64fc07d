/* The stack of the machine that reads pickles, and the containers that are
   made from it. The bounds that pickle.c describes are enforced here. */

#include "pickle.h"

#define MAX_DEPTH 100
#define MAX_OTHER_KEYS 4096       // of one dictionary or set, not texts
#define MAX_KEY_ITEMS 16          // of a tuple that is a key

/* --- Arrays */

void *
_PyPickle_Add(struct array *array, size_t size)
{
    if (array->used == array->size) {
        size_t grown = array->size == 0 ? 64 : array->size * 2;
        void *p = PyMem_Realloc(array->items, grown * size);
        if (p == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        array->items = p;
        array->size = grown;
    }
    return (char *)array->items + array->used++ * size;
}

void
_PyPickle_Drop(struct array *items, size_t first)
{
    struct item *item = items->items;
    while (items->used > first) {
        Py_XDECREF(item[--items->used].value);
    }
}

int
_PyPickle_Push(struct machine *m, struct item item)
{
    struct item *top =
        item.value == NULL ? NULL : _PyPickle_Add(&m->stack, sizeof(item));
    if (top == NULL) {
        Py_XDECREF(item.value);
        return -1;
    }
    *top = item;
    return 0;
}

int
_PyPickle_PushScalar(struct machine *m, PyObject *value, uint64_t weight)
{
    return _PyPickle_Push(m, (struct item){value, 1 + weight, 0, SCALAR});
}

int
_PyPickle_PushChangeable(struct machine *m, PyObject *value, enum kind kind)
{
    size_t number = m->nodes.used;
    /* A pickler takes two bytes for one. */
    if (number > (size_t)(m->end - m->start) / 2) {
        Py_XDECREF(value);
        return _PyPickle_Reject(m, "too many containers");
    }
    struct node *node =
        value == NULL ? NULL : _PyPickle_Add(&m->nodes, sizeof(*node));
    if (node == NULL) {
        Py_XDECREF(value);
        return -1;
    }
    *node = (struct node){.weight = 1, .depth = 1};
    return _PyPickle_Push(m, (struct item){value, number, 0, (uint8_t)kind});
}

int
_PyPickle_PushText(struct machine *m, PyObject *text, uint64_t length)
{
    if (text == NULL) {
        return -1;
    }
    /* PyDict_SetDefault() of 3.13 counts what it had no memory to insert. */
    PyObject *known = PyDict_GetItemWithError(m->texts, text);
    if (known != NULL) {
        Py_INCREF(known);
        Py_DECREF(text);
        text = known;
    }
    else if (PyErr_Occurred() || PyDict_SetItem(m->texts, text, text) < 0) {
        Py_CLEAR(text);
    }
    return _PyPickle_PushScalar(m, text, length);
}

struct item *
_PyPickle_Top(struct machine *m, size_t n)
{
    const size_t *marks = m->marks.items;
    size_t floor = m->marks.used == 0 ? 0 : marks[m->marks.used - 1];
    if (m->stack.used - floor < n) {
        _PyPickle_Reject(m, "pickle takes from an empty stack");
        return NULL;
    }
    return (struct item *)m->stack.items + (m->stack.used - n);
}

/* Take off the last mark: number of items above it, or -1. */
static Py_ssize_t
pop_mark(struct machine *m)
{
    if (m->marks.used == 0) {
        return _PyPickle_Reject(m, "pickle has no mark");
    }
    const size_t *marks = m->marks.items;
    assert(m->stack.used >= marks[m->marks.used - 1]);
    return (Py_ssize_t)(m->stack.used - marks[--m->marks.used]);
}

struct node *
_PyPickle_Node(struct machine *m, const struct item *item)
{
    assert(item->weight < m->nodes.used);
    return (struct node *)m->nodes.items + item->weight;
}

/* --- Containers */

int
_PyPickle_Store(struct machine *m, const struct item *item,
                uint64_t *weight, uint32_t *depth)
{
    uint64_t more = item->weight;
    uint32_t below = item->depth;
    if (item->kind >= CLASS) {
        return _PyPickle_Reject(m, "class where a snapshot has none");
    }
    if (item->kind >= LIST) {
        struct node *node = _PyPickle_Node(m, item);
        node->stored = 1;
        more = node->weight;
        below = node->depth;
    }
    *weight = *weight > UINT64_MAX - more ? UINT64_MAX : *weight + more;
    *depth = below + 1 > *depth ? below + 1 : *depth;
    return *depth > MAX_DEPTH
        ? _PyPickle_Reject(m, "values nested too deep") : 0;
}

/* Count an item as a part of what can change. */
static int
store_in(struct machine *m, const struct item *item, struct node *node)
{
    if (_PyPickle_Store(m, item, &node->weight, &node->depth) < 0) {
        return -1;
    }
    return node->stored ? _PyPickle_Reject(m, "container in itself") : 0;
}

int
_PyPickle_Tuple(struct machine *m, size_t n)
{
    struct item *items = n == 0 ? NULL : _PyPickle_Top(m, n);
    if (n != 0 && items == NULL) {
        return -1;
    }
    struct item made = {NULL, 1, 1, TUPLE};
    for (size_t i = 0; i < n; i++) {
        if (items[i].kind == CLASS) {
            made.kind = ARGUMENTS;
        }
        else if (_PyPickle_Store(m, &items[i], &made.weight,
                                 &made.depth) < 0)
        {
            return -1;
        }
    }
    made.value = PyTuple_New((Py_ssize_t)n);
    if (made.value == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        PyTuple_SET_ITEM(made.value, i, items[i].value);
    }
    m->stack.used -= n;
    return _PyPickle_Push(m, made);
}

struct item *
_PyPickle_Container(struct machine *m, size_t n, enum kind kind)
{
    struct item *items = _PyPickle_Top(m, n + 1);
    if (items != NULL
        && (items->kind != kind || _PyPickle_Node(m, items)->stored))
    {
        _PyPickle_Reject(m, "pickle changes what is in use already");
        return NULL;
    }
    return items;
}

static int
check_key(struct machine *m, struct node *node, const struct item *key)
{
    if (PyUnicode_CheckExact(key->value)) {
        return 0;
    }
    if (key->kind != SCALAR
        && (key->kind != TUPLE || key->depth > 1
            || PyTuple_GET_SIZE(key->value) > MAX_KEY_ITEMS))
    {
        return _PyPickle_Reject(m, "key that no snapshot has");
    }
    if (++node->other_keys > MAX_OTHER_KEYS) {
        return _PyPickle_Reject(m, "too many keys that are not texts");
    }
    return 0;
}

int
_PyPickle_Append(struct machine *m, size_t n)
{
    struct item *list = _PyPickle_Container(m, n, LIST);
    if (list == NULL) {
        return -1;
    }
    struct node *node = _PyPickle_Node(m, list);
    for (size_t i = 1; i <= n; i++) {
        if (store_in(m, &list[i], node) < 0
            || PyList_Append(list->value, list[i].value) < 0)
        {
            return -1;
        }
    }
    _PyPickle_Drop(&m->stack, m->stack.used - n);
    return 0;
}

int
_PyPickle_SetItems(struct machine *m, size_t n)
{
    struct item *dict = n % 2 != 0 ? NULL : _PyPickle_Container(m, n, DICT);
    if (dict == NULL) {
        return n % 2 != 0 ? _PyPickle_Reject(m, "key without a value") : -1;
    }
    struct node *node = _PyPickle_Node(m, dict);
    for (size_t i = 1; i <= n; i += 2) {
        Py_ssize_t before = PyDict_GET_SIZE(dict->value);
        if (check_key(m, node, &dict[i]) < 0
            || store_in(m, &dict[i], node) < 0
            || store_in(m, &dict[i + 1], node) < 0
            || PyDict_SetItem(dict->value, dict[i].value,
                              dict[i + 1].value) < 0)
        {
            return -1;
        }
        if (PyDict_GET_SIZE(dict->value) == before) {
            return _PyPickle_Reject(m, "key that is there already");
        }
    }
    _PyPickle_Drop(&m->stack, m->stack.used - n);
    return 0;
}

int
_PyPickle_AddItems(struct machine *m, size_t n)
{
    struct item *set = _PyPickle_Container(m, n, SET);
    if (set == NULL) {
        return -1;
    }
    struct node *node = _PyPickle_Node(m, set);
    for (size_t i = 1; i <= n; i++) {
        Py_ssize_t before = PySet_GET_SIZE(set->value);
        if (check_key(m, node, &set[i]) < 0
            || store_in(m, &set[i], node) < 0
            || PySet_Add(set->value, set[i].value) < 0)
        {
            return -1;
        }
        if (PySet_GET_SIZE(set->value) == before) {
            return _PyPickle_Reject(m, "key that is there already");
        }
    }
    _PyPickle_Drop(&m->stack, m->stack.used - n);
    return 0;
}

/* Put an empty container under the items above the last mark. */
static int
put_under(struct machine *m, size_t n, PyObject *value, enum kind kind)
{
    if (_PyPickle_PushChangeable(m, value, kind) < 0) {
        return -1;
    }
    struct item *items = _PyPickle_Top(m, n + 1);
    struct item made = items[n];
    memmove(items + 1, items, n * sizeof(*items));
    items[0] = made;
    return 0;
}

int
_PyPickle_MakeContainer(struct machine *m, enum kind kind)
{
    Py_ssize_t n = pop_mark(m);
    PyObject *value = n < 0 ? NULL : kind == LIST ? PyList_New(0)
        : kind == DICT ? PyDict_New() : PySet_New(NULL);
    if (value == NULL || put_under(m, (size_t)n, value, kind) < 0) {
        return -1;
    }
    return kind == LIST ? _PyPickle_Append(m, (size_t)n)
        : kind == DICT ? _PyPickle_SetItems(m, (size_t)n)
        : _PyPickle_AddItems(m, (size_t)n);
}

int
_PyPickle_MakeFrozenSet(struct machine *m)
{
    if (_PyPickle_MakeContainer(m, SET) < 0) {
        return -1;
    }
    struct item *item = _PyPickle_Top(m, 1);
    PyObject *frozen = PyFrozenSet_New(item->value);
    if (frozen == NULL) {
        return -1;
    }
    Py_DECREF(item->value);
    item->value = frozen;
    _PyPickle_Node(m, item)->stored = 1;
    return 0;
}

int
_PyPickle_Fill(struct machine *m, int (*with)(struct machine *, size_t))
{
    Py_ssize_t n = pop_mark(m);
    return n < 0 ? -1 : with(m, (size_t)n);
}

int
_PyPickle_Mark(struct machine *m)
{
    size_t *mark = _PyPickle_Add(&m->marks, sizeof(*mark));
    if (mark == NULL) {
        return -1;
    }
    *mark = m->stack.used;
    return 0;
}
