/* A look at a pickle before it is loaded.

   The unpickler of pickle trusts lengths: an opcode of five bytes can make it
   ask for gigabytes.  This walks the opcodes without executing anything and
   rejects what a pickled snapshot does not need, lengths beyond the end of the
   data, and memo numbers that are out of proportion. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_tracer_traces.h"

/* What follows an opcode: bytes of the argument, or */
enum {
    BAD,                          // not accepted
    NONE,                         // nothing
    ONE, TWO, FOUR, EIGHT,        // so many bytes
    LINE, TWO_LINES,              // text that ends with \n
    COUNT1, COUNT4, COUNT8,       // a length of so many bytes, and data
    MEMO1, MEMO4,                 // a memo number to be stored
};

static const uint8_t arguments[256] = {
    [0x80] = ONE,               // PROTO
    ['('] = NONE, ['.'] = NONE, ['0'] = NONE, ['1'] = NONE, ['2'] = NONE,
    ['N'] = NONE, [0x88] = NONE, [0x89] = NONE,
    ['J'] = FOUR, ['K'] = ONE, ['M'] = TWO, ['G'] = EIGHT,
    [0x8a] = COUNT1,            // LONG1
    ['T'] = COUNT4, ['U'] = COUNT1, ['X'] = COUNT4,
    [0x8c] = COUNT1, [0x8d] = COUNT8,         // texts
    ['B'] = COUNT4, ['C'] = COUNT1,               // bytes
    [0x8b] = COUNT4, [0x8e] = COUNT8, [0x96] = COUNT8,
    [0x8f] = NONE, [0x90] = NONE, [0x91] = NONE,  // sets
    [')'] = NONE, ['t'] = NONE,
    [0x85] = NONE, [0x86] = NONE, [0x87] = NONE,    // tuples
    [']'] = NONE, ['l'] = NONE, ['a'] = NONE, ['e'] = NONE,
    ['}'] = NONE, ['d'] = NONE, ['s'] = NONE, ['u'] = NONE,
    ['h'] = ONE, ['j'] = FOUR, ['g'] = LINE,      // from the memo
    ['q'] = MEMO1, ['r'] = MEMO4, [0x94] = NONE,
    ['c'] = TWO_LINES, [0x93] = NONE,           // classes, by name
    ['R'] = NONE, ['b'] = NONE, [0x81] = NONE,
};

struct scanner {
    const uint8_t *start, *p, *end;
};

static int
reject(struct scanner *s, const char *reason)
{
    PyErr_Format(PyExc_ValueError, "%s at offset %zd", reason,
                 (Py_ssize_t)(s->p - s->start));
    return -1;
}

static int
skip(struct scanner *s, uint64_t n)
{
    if (n > (uint64_t)(s->end - s->p)) {
        return reject(s, "pickle ends inside a value");
    }
    s->p += n;
    return 0;
}

static int
skip_line(struct scanner *s)
{
    const uint8_t *end = memchr(s->p, '\n', (size_t)(s->end - s->p));
    if (end == NULL) {
        return reject(s, "pickle ends inside a value");
    }
    s->p = end + 1;
    return 0;
}

static int
get_number(struct scanner *s, int bytes, uint64_t *value)
{
    if (s->end - s->p < bytes) {
        return reject(s, "pickle ends inside a value");
    }
    *value = 0;
    for (int i = bytes; i-- > 0; ) {
        *value = *value << 8 | s->p[i];
    }
    s->p += bytes;
    return 0;
}

static int
skip_counted(struct scanner *s, int bytes)
{
    uint64_t n;
    return get_number(s, bytes, &n) < 0 ? -1 : skip(s, n);
}

static int
check_memo(struct scanner *s, int bytes)
{
    uint64_t n;
    if (get_number(s, bytes, &n) < 0) {
        return -1;
    }
    if (n > (uint64_t)(s->end - s->start)) {
        return reject(s, "memo number larger than the pickle");
    }
    return 0;
}

static int
skip_argument(struct scanner *s, int argument)
{
    switch (argument) {
    case NONE: return 0;
    case ONE: return skip(s, 1);
    case TWO: return skip(s, 2);
    case FOUR: return skip(s, 4);
    case EIGHT: return skip(s, 8);
    case LINE: return skip_line(s);
    case TWO_LINES: return skip_line(s) < 0 ? -1 : skip_line(s);
    case COUNT1: return skip_counted(s, 1);
    case COUNT4: return skip_counted(s, 4);
    case COUNT8: return skip_counted(s, 8);
    case MEMO1: return check_memo(s, 1);
    case MEMO4: return check_memo(s, 4);
    default:
        s->p--;
        return reject(s, "opcode that no snapshot needs");
    }
}

/* _check_pickle(image: bytes): None, or ValueError. */
PyObject *
_PyTracemalloc_CheckPickle(PyObject *Py_UNUSED(module), PyObject *image)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(image, &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    struct scanner s = {.start = buffer.buf, .p = buffer.buf};
    s.end = s.start + buffer.len;
    int result = 0;
    int opcode = 0;
    while (result == 0 && opcode != '.') {
        if (s.p == s.end) {
            result = reject(&s, "pickle has no end");
            break;
        }
        opcode = *s.p++;
        if (opcode == 0x95) {
            /* A frame: its length is a promise, its contents are opcodes. */
            uint64_t n;
            result = get_number(&s, 8, &n);
            if (result == 0 && n > (uint64_t)(s.end - s.p)) {
                result = reject(&s, "frame is longer than the pickle");
            }
            continue;
        }
        result = skip_argument(&s, arguments[opcode]);
    }
    PyBuffer_Release(&buffer);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
