/* Pickles of snapshots, read by a machine of their own.

   They are those of the standard library's tracemalloc, ours of the same form,
   and those of 0.9.1: objects of two classes, and plain data.  The standard
   pickle machine could read them, but it makes anything that a file asks for:
   hashing nested tuples as the key of a dictionary takes time that is
   exponential in the size of the file. This machine knows only the few opcodes
   that are needed, and it

   - makes nothing that is nested deeper than MAX_DEPTH, so that code that
   walks over it does not run out of stack;
   - knows the weight of each value: what it would take to write all of it,
     shared parts each time.  That of the result is in proportion to the file;
     of traces, of which nobody writes all, it does not count;
   - takes keys whose hash is cheap and, where others than texts could be
     chosen to collide, few of them; and no key twice;
   - keeps one object for equal texts, which then compare by their address;
   - changes nothing that it has put somewhere, so that weights are final and
     there are no cycles;
   - numbers its memo as a pickler does, without gaps. */

#include "pickle.h"
#include "traces.h"

#include <glib.h>                 // GUINT64_FROM_BE()

#define MAX_WEIGHT 32             // times the size of the file
#define MIN_WEIGHT 4096
#define MAX_DIGITS 620            // of a number in decimal
#define MAX_ENCODED 100           // characters
#define MAX_PROTOCOL 5

enum class_ { SNAPSHOT, TRACES, DATETIME, OBJECT, RECONSTRUCTOR, ENCODE };

static const struct { const char *name; enum class_ class_; } classes[] = {
    {"tracemalloc.Snapshot", SNAPSHOT},
    {"tracemalloc._Traces", TRACES},
    {"datetime.datetime", DATETIME},
    {"builtins.object", OBJECT},
    {"__builtin__.object", OBJECT},
    {"copyreg._reconstructor", RECONSTRUCTOR},
    {"copy_reg._reconstructor", RECONSTRUCTOR},
    {"_codecs.encode", ENCODE},
};

/* --- Bytes of the file */

static int
take(struct machine *m, uint64_t n, const uint8_t **bytes)
{
    if (n > (uint64_t)(m->end - m->p)) {
        return _PyPickle_Reject(m, "pickle ends inside a value");
    }
    *bytes = m->p;
    m->p += n;
    return 0;
}

static int
take_number(struct machine *m, int size, uint64_t *value)
{
    const uint8_t *bytes;
    if (take(m, (uint64_t)size, &bytes) < 0) {
        return -1;
    }
    *value = 0;
    for (int i = size; i-- > 0; ) {
        *value = *value << 8 | bytes[i];
    }
    return 0;
}

/* Bytes after their number, which has `size` bytes. */
static int
take_counted(struct machine *m, int size, const uint8_t **bytes, uint64_t *n)
{
    return take_number(m, size, n) < 0 ? -1 : take(m, *n, bytes);
}

/* Text to the end of the line, without that. */
static int
take_line(struct machine *m, const uint8_t **line, uint64_t *n)
{
    const uint8_t *end = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (end == NULL) {
        return _PyPickle_Reject(m, "pickle ends inside a value");
    }
    *line = m->p;
    *n = (uint64_t)(end - m->p);
    m->p = end + 1;
    return 0;
}

static int
take_digits(struct machine *m, char (*digits)[MAX_DIGITS + 1])
{
    const uint8_t *line;
    uint64_t n;
    if (take_line(m, &line, &n) < 0) {
        return -1;
    }
    if (n > MAX_DIGITS || memchr(line, '\0', n) != NULL) {
        return _PyPickle_Reject(m, "number too long");
    }
    memcpy(*digits, line, n);
    (*digits)[n] = '\0';
    return 0;
}

/* --- Values */

static int
push_bytes(struct machine *m, int size)
{
    const uint8_t *bytes;
    uint64_t n;
    if (take_counted(m, size, &bytes, &n) < 0) {
        return -1;
    }
    return _PyPickle_PushScalar(
        m, PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)n), n);
}

/* `errors`: of texts of Python 2, surrogateescape. */
static int
push_utf8(struct machine *m, int size, const char *errors)
{
    const uint8_t *bytes;
    uint64_t n;
    if (take_counted(m, size, &bytes, &n) < 0) {
        return -1;
    }
    return _PyPickle_PushText(
        m, PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)n, errors),
        n);
}

static int
push_line(struct machine *m)
{
    const uint8_t *line;
    uint64_t n;
    if (take_line(m, &line, &n) < 0) {
        return -1;
    }
    return _PyPickle_PushText(
        m, PyUnicode_DecodeRawUnicodeEscape((const char *)line,
                                            (Py_ssize_t)n, NULL), n);
}

static int
push_unsigned(struct machine *m, int size)
{
    uint64_t value;
    if (take_number(m, size, &value) < 0) {
        return -1;
    }
    long number = size == 4 ? (int32_t)value : (long)value;
    return _PyPickle_PushScalar(m, PyLong_FromLong(number), 8);
}

/* From bytes in two's complement, the least first. */
static PyObject *
make_long(const uint8_t *bytes, Py_ssize_t n)
{
    PyObject *make = PyObject_GetAttrString((PyObject *)&PyLong_Type,
                                            "from_bytes");
    PyObject *arguments = Py_BuildValue("(y#s)", bytes, n, "little");
    PyObject *keywords = Py_BuildValue("{sO}", "signed", Py_True);
    PyObject *made = make == NULL || arguments == NULL || keywords == NULL
        ? NULL : PyObject_Call(make, arguments, keywords);
    Py_XDECREF(make);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return made;
}

static int
push_long(struct machine *m)
{
    const uint8_t *bytes;
    uint64_t n;
    if (take_counted(m, 1, &bytes, &n) < 0) {
        return -1;
    }
    return _PyPickle_PushScalar(m, make_long(bytes, (Py_ssize_t)n), 3 * n);
}

static int
push_decimal(struct machine *m)
{
    char digits[MAX_DIGITS + 1];
    if (take_digits(m, &digits) < 0) {
        return -1;
    }
    size_t n = strlen(digits);
    if (strcmp(digits, "00") == 0 || strcmp(digits, "01") == 0) {
        return _PyPickle_PushScalar(m, PyBool_FromLong(digits[1] == '1'), 4);
    }
    if (n > 0 && digits[n - 1] == 'L') {
        digits[n - 1] = '\0';
    }
    return _PyPickle_PushScalar(m, PyLong_FromString(digits, NULL, 10), n);
}

/* As PyFloat_Unpack8(), which the limited API lacks. */
static double
unpack_double(const uint8_t *bytes)
{
    uint64_t bits;
    double value;
    memcpy(&bits, bytes, sizeof(bits));
    bits = GUINT64_FROM_BE(bits);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static int
push_double(struct machine *m, int as_text)
{
    char digits[MAX_DIGITS + 1];
    const uint8_t *bytes;
    double value;
    if (as_text) {
        value = take_digits(m, &digits) < 0
            ? -1 : PyOS_string_to_double(digits, NULL, NULL);
    }
    else {
        value = take(m, 8, &bytes) < 0
            ? -1 : unpack_double(bytes);
    }
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    return _PyPickle_PushScalar(m, PyFloat_FromDouble(value), 24);
}

/* --- Classes and instances */

/* Steals `name`: "module.name". */
static int
push_class(struct machine *m, PyObject *name)
{
    if (name == NULL) {
        return -1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(classes); i++) {
        if (PyUnicode_CompareWithASCIIString(name, classes[i].name) == 0) {
            Py_DECREF(name);
            return _PyPickle_Push(m, (struct item){
                PyLong_FromLong(classes[i].class_), 1, 0, CLASS});
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "it asks for %.100U, which no snapshot needs, at offset %zd",
                 name, (Py_ssize_t)(m->p - m->start));
    Py_DECREF(name);
    return -1;
}

static int
push_named_class(struct machine *m)
{
    const uint8_t *text[2];
    uint64_t n[2];
    if (take_line(m, &text[0], &n[0]) < 0 || take_line(m, &text[1], &n[1]) < 0)
    {
        return -1;
    }
    PyObject *parts[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        parts[i] = PyUnicode_DecodeUTF8((const char *)text[i],
                                        (Py_ssize_t)n[i], "replace");
    }
    PyObject *name = parts[0] == NULL || parts[1] == NULL
        ? NULL : PyUnicode_FromFormat("%U.%U", parts[0], parts[1]);
    Py_XDECREF(parts[0]);
    Py_XDECREF(parts[1]);
    return push_class(m, name);
}

static int
push_stacked_class(struct machine *m)
{
    struct item *names = _PyPickle_Top(m, 2);
    if (names == NULL) {
        return -1;
    }
    if (!PyUnicode_CheckExact(names[0].value)
        || !PyUnicode_CheckExact(names[1].value))
    {
        return _PyPickle_Reject(m, "name of a class that is no text");
    }
    PyObject *name = PyUnicode_FromFormat("%U.%U", names[0].value,
                                          names[1].value);
    _PyPickle_Drop(&m->stack, m->stack.used - 2);
    return push_class(m, name);
}

static int
push_instance(struct machine *m, PyObject *class_)
{
    long i = PyLong_AsLong(class_);
    if (i != SNAPSHOT && i != TRACES) {
        return _PyPickle_Reject(m, "instance that no snapshot needs");
    }
    return _PyPickle_PushChangeable(
        m, PyObject_CallNoArgs(PyTuple_GET_ITEM(m->types, i)), INSTANCE);
}

/* A datetime without a time zone, from the ten bytes of its state. */
static PyObject *
make_datetime(struct machine *m, PyObject *state)
{
    PyObject *bytes = PyUnicode_CheckExact(state)     // of Python 2
        ? PyUnicode_AsEncodedString(state, "utf-8", "surrogateescape")
        : Py_NewRef(state);
    PyObject *made = NULL;
    if (bytes != NULL && PyBytes_CheckExact(bytes)
        && PyBytes_GET_SIZE(bytes) == 10)
    {
        const uint8_t *b = (const uint8_t *)PyBytes_AS_STRING(bytes);
        made = PyObject_CallFunction(
            PyTuple_GET_ITEM(m->types, DATETIME), "iiiiiii",
            b[0] << 8 | b[1], b[2] & 0x7f, b[3], b[4], b[5], b[6],
            b[7] << 16 | b[8] << 8 | b[9]);
    }
    else if (bytes != NULL) {
        _PyPickle_Reject(m, "damaged date");
    }
    Py_XDECREF(bytes);
    return made;
}

/* callable(*arguments), of the last two items. */
static int
reduce(struct machine *m)
{
    struct item *items = _PyPickle_Top(m, 2);
    if (items == NULL) {
        return -1;
    }
    PyObject *arguments = items[1].value;
    Py_ssize_t n = items[1].kind == TUPLE || items[1].kind == ARGUMENTS
        ? PyTuple_GET_SIZE(arguments) : 0;
    long class_ = items[0].kind == CLASS && n > 0
        ? PyLong_AsLong(items[0].value) : -1;
    PyObject *first = n > 0 ? PyTuple_GET_ITEM(arguments, 0) : NULL;
    PyObject *value = NULL;
    uint64_t weight = items[1].weight;
    if (class_ == DATETIME && n == 1 && items[1].kind == TUPLE) {
        value = make_datetime(m, first);
    }
    else if (class_ == ENCODE && n == 2 && PyUnicode_CheckExact(first)
             && PyUnicode_GET_LENGTH(first) <= MAX_ENCODED)
    {
        /* Bytes, in protocols that have no opcode for them. */
        value = PyUnicode_AsLatin1String(first);
    }
    else if (class_ == RECONSTRUCTOR && n == 3 && PyLong_CheckExact(first)) {
        Py_INCREF(first);
        _PyPickle_Drop(&m->stack, m->stack.used - 2);
        int result = push_instance(m, first);
        Py_DECREF(first);
        return result;
    }
    else {
        return _PyPickle_Reject(m, "call that no snapshot needs");
    }
    _PyPickle_Drop(&m->stack, m->stack.used - 2);
    return _PyPickle_PushScalar(m, value, weight);
}

static int
new_instance(struct machine *m)
{
    struct item *items = _PyPickle_Top(m, 2);
    if (items == NULL) {
        return -1;
    }
    if (items[0].kind != CLASS || items[1].kind != TUPLE
        || PyTuple_GET_SIZE(items[1].value) != 0)
    {
        return _PyPickle_Reject(m, "call that no snapshot needs");
    }
    PyObject *class_ = Py_NewRef(items[0].value);
    _PyPickle_Drop(&m->stack, m->stack.used - 2);
    int result = push_instance(m, class_);
    Py_DECREF(class_);
    return result;
}

/* Give an instance its state. */
static int
build(struct machine *m)
{
    struct item *instance = _PyPickle_Container(m, 1, INSTANCE);
    if (instance == NULL) {
        return -1;
    }
    struct node *node = _PyPickle_Node(m, instance);
    if (node->built || instance[1].kind != DICT) {
        return _PyPickle_Reject(m, "state that no snapshot has");
    }
    /* Shared parts of traces do not count: they are never written each
       time. */
    int is_traces = PyObject_TypeCheck(
        instance->value, (PyTypeObject *)PyTuple_GET_ITEM(m->types, TRACES));
    uint64_t weight = 0;
    if (_PyPickle_Store(m, &instance[1],
                        is_traces ? &weight : &node->weight,
                        &node->depth) < 0
        || PyObject_SetAttrString(instance->value, "state",
                                  instance[1].value) < 0)
    {
        return -1;
    }
    node->built = 1;
    _PyPickle_Drop(&m->stack, m->stack.used - 1);
    return 0;
}

/* --- The memo */

static int
put(struct machine *m, uint64_t number)
{
    struct item *top = _PyPickle_Top(m, 1);
    if (top == NULL) {
        return -1;
    }
    struct item none = {NULL, 0, 0, SCALAR};
    if (number == 1 && m->memo.used == 0) {
        /* cPickle of Python 2 counts from 1. */
        struct item *first = _PyPickle_Add(&m->memo, sizeof(none));
        if (first == NULL) {
            return -1;
        }
        *first = none;
    }
    if (number != m->memo.used) {
        return _PyPickle_Reject(m, "memo number out of order");
    }
    struct item *place = _PyPickle_Add(&m->memo, sizeof(*place));
    if (place == NULL) {
        return -1;
    }
    *place = *top;
    Py_INCREF(place->value);
    return 0;
}

static int
get(struct machine *m, uint64_t number)
{
    const struct item *items = m->memo.items;
    if (number >= m->memo.used || items[number].value == NULL) {
        return _PyPickle_Reject(m, "memo number of nothing");
    }
    Py_INCREF(items[number].value);
    return _PyPickle_Push(m, items[number]);
}

static int
use_memo(struct machine *m, int size, int (*use)(struct machine *, uint64_t))
{
    uint64_t number;
    if (size > 0) {
        return take_number(m, size, &number) < 0 ? -1 : use(m, number);
    }
    char digits[MAX_DIGITS + 1];
    if (take_digits(m, &digits) < 0) {
        return -1;
    }
    char *end;
    number = strtoull(digits, &end, 10);
    return *end != '\0' || end == digits
        ? _PyPickle_Reject(m, "memo number of nothing") : use(m, number);
}

/* --- Opcodes */

static int
step(struct machine *m, int opcode)
{
    uint64_t n;
    switch (opcode) {
    case 0x80:                          // PROTO
        return take_number(m, 1, &n) < 0 ? -1 : n <= MAX_PROTOCOL
            ? 0 : _PyPickle_Reject(m, "unknown protocol");
    case 0x95:                          // FRAME: what follows are opcodes
        return take_number(m, 8, &n) < 0 ? -1
            : n <= (uint64_t)(m->end - m->p)
            ? 0 : _PyPickle_Reject(m, "frame longer than the pickle");
    case '(': return _PyPickle_Mark(m);
    case 'N': return _PyPickle_PushScalar(m, Py_NewRef(Py_None), 4);
    case 0x88: return _PyPickle_PushScalar(m, Py_NewRef(Py_True), 4);
    case 0x89: return _PyPickle_PushScalar(m, Py_NewRef(Py_False), 4);
    case 'K': return push_unsigned(m, 1);
    case 'M': return push_unsigned(m, 2);
    case 'J': return push_unsigned(m, 4);
    case 0x8a: return push_long(m);
    case 'I': case 'L': return push_decimal(m);
    case 'G': return push_double(m, 0);
    case 'F': return push_double(m, 1);
    case 'V': return push_line(m);
    case 0x8c: return push_utf8(m, 1, "surrogatepass");
    case 'X': return push_utf8(m, 4, "surrogatepass");
    case 0x8d: return push_utf8(m, 8, "surrogatepass");
    case 'U': return push_utf8(m, 1, "surrogateescape");
    case 'T': return push_utf8(m, 4, "surrogateescape");
    case 'C': return push_bytes(m, 1);
    case 'B': return push_bytes(m, 4);
    case 0x8e: return push_bytes(m, 8);
    case ')': return _PyPickle_Tuple(m, 0);
    case 0x85: return _PyPickle_Tuple(m, 1);
    case 0x86: return _PyPickle_Tuple(m, 2);
    case 0x87: return _PyPickle_Tuple(m, 3);
    case 't': return _PyPickle_Fill(m, _PyPickle_Tuple);
    case ']': return _PyPickle_PushChangeable(m, PyList_New(0), LIST);
    case 'a': return _PyPickle_Append(m, 1);
    case 'e': return _PyPickle_Fill(m, _PyPickle_Append);
    case 'l': return _PyPickle_MakeContainer(m, LIST);
    case '}': return _PyPickle_PushChangeable(m, PyDict_New(), DICT);
    case 's': return _PyPickle_SetItems(m, 2);
    case 'u': return _PyPickle_Fill(m, _PyPickle_SetItems);
    case 'd': return _PyPickle_MakeContainer(m, DICT);
    case 0x8f: return _PyPickle_PushChangeable(m, PySet_New(NULL), SET);
    case 0x90: return _PyPickle_Fill(m, _PyPickle_AddItems);
    case 0x91: return _PyPickle_MakeFrozenSet(m);
    case 0x94: return put(m, m->memo.used);
    case 'q': return use_memo(m, 1, put);
    case 'r': return use_memo(m, 4, put);
    case 'p': return use_memo(m, 0, put);
    case 'h': return use_memo(m, 1, get);
    case 'j': return use_memo(m, 4, get);
    case 'g': return use_memo(m, 0, get);
    case 'c': return push_named_class(m);
    case 0x93: return push_stacked_class(m);
    case 'R': return reduce(m);
    case 0x81: return new_instance(m);
    case 'b': return build(m);
    default:
        m->p--;
        return _PyPickle_Reject(m, "opcode that no snapshot needs");
    }
}

/* The value that is left, or NULL. */
static PyObject *
run(struct machine *m)
{
    int opcode = 0;
    while (opcode != '.') {
        if (m->p == m->end) {
            _PyPickle_Reject(m, "pickle has no end");
            return NULL;
        }
        opcode = *m->p++;
        if (opcode != '.' && step(m, opcode) < 0) {
            return NULL;
        }
    }
    struct item *left = m->marks.used == 0 ? _PyPickle_Top(m, 1) : NULL;
    uint64_t weight = 0;
    uint32_t depth = 0;
    if (left == NULL || _PyPickle_Store(m, left, &weight, &depth) < 0) {
        if (!PyErr_Occurred()) {
            _PyPickle_Reject(m, "pickle ends after a mark");
        }
        return NULL;
    }
    if (weight > MIN_WEIGHT
        && weight / MAX_WEIGHT > (uint64_t)(m->end - m->start))
    {
        _PyPickle_Reject(m, "values too large where they share parts");
        return NULL;
    }
    return Py_NewRef(left->value);
}

/* _read_pickle(image: bytes, (Snapshot, _Traces, datetime)): the object.  Of
   the two classes, instances have their state in an attribute. */
PyObject *
_PyTracemalloc_ReadPickle(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer buffer;
    PyObject *types;
    if (!PyArg_ParseTuple(args, "y*O!:_read_pickle", &buffer, &PyTuple_Type,
                          &types))
    {
        return NULL;
    }
    struct machine m = {.start = buffer.buf, .p = buffer.buf, .types = types};
    m.end = m.start + buffer.len;
    m.texts = PyDict_New();
    PyObject *value = m.texts == NULL ? NULL : run(&m);
    _PyPickle_Drop(&m.stack, 0);
    _PyPickle_Drop(&m.memo, 0);
    PyMem_Free(m.stack.items);
    PyMem_Free(m.memo.items);
    PyMem_Free(m.marks.items);
    PyMem_Free(m.nodes.items);
    Py_XDECREF(m.texts);
    PyBuffer_Release(&buffer);
    return value;
}
