/* Interned text: file names and qualified names of functions, as UTF-8 with
   surrogates passed through, in the tracer's own memory, so that no Python
   string is kept alive or created while a program is traced.  Locked. */

#include "Python.h"
#include "pycore_tracer_core.h"

#define INITIAL_TEXTS 128
#define MAX_TEXT 16384            // bytes; a longer name is cut

static uint32_t *buckets;         // id + 1, open addressing; 0: empty
static uint32_t mask;
static uint32_t capacity;         // of _PyTracer.strings
static char *scratch;

int
_PyTracer_TextInit(void)
{
    mask = INITIAL_TEXTS * 2 - 1;
    capacity = INITIAL_TEXTS;
    buckets = _PyTracer_MemAlloc((mask + 1) * sizeof(uint32_t));
    scratch = _PyTracer_MemAlloc(MAX_TEXT);
    _PyTracer.strings = _PyTracer_MemAlloc(capacity
                                           * sizeof(struct tracer_string));
    _PyTracer.nstrings = 0;
    return buckets && scratch && _PyTracer.strings ? 0 : -1;
}

void
_PyTracer_TextClear(void)
{
    _PyTracer_MemFree(buckets, (mask + 1) * sizeof(uint32_t));
    _PyTracer_MemFree(scratch, MAX_TEXT);
    _PyTracer_MemFree(_PyTracer.strings,
                      capacity * sizeof(struct tracer_string));
    buckets = NULL;
    scratch = NULL;
    _PyTracer.strings = NULL;
    _PyTracer.nstrings = 0;
}

static int
encode_char(Py_UCS4 c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* UTF-8 of str, in place if it is ASCII, else in `scratch`. */
static const char *
encode(PyObject *str, uint32_t *length)
{
    Py_ssize_t n = PyUnicode_GET_LENGTH(str);
    if (PyUnicode_IS_COMPACT_ASCII(str)) {
        *length = (uint32_t)Py_MIN(n, MAX_TEXT);
        return (const char *)PyUnicode_1BYTE_DATA(str);
    }
    int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    uint32_t used = 0;
    for (Py_ssize_t i = 0; i < n && used + 4 <= MAX_TEXT; i++) {
        used += encode_char(PyUnicode_READ(kind, data, i), scratch + used);
    }
    *length = used;
    return scratch;
}

/* FNV-1a, see http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint32_t
hash_text(const char *text, uint32_t length)
{
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    }
    return hash;
}

static uint32_t *
find_bucket(const char *text, uint32_t length, uint32_t hash)
{
    for (uint32_t i = hash & mask; ; i = (i + 1) & mask) {
        if (buckets[i] == 0) {
            return &buckets[i];
        }
        struct tracer_string *s = &_PyTracer.strings[buckets[i] - 1];
        if (s->hash == hash && s->length == length
            && memcmp(s->utf8, text, length) == 0)
        {
            return &buckets[i];
        }
    }
}

static int
grow(void)
{
    size_t size = capacity * sizeof(struct tracer_string);
    uint32_t new_mask = mask * 2 + 1;
    uint32_t *new_buckets = _PyTracer_MemAlloc((new_mask + 1)
                                               * sizeof(uint32_t));
    if (new_buckets == NULL) {
        return -1;
    }
    void *strings = _PyTracer_MemGrow(_PyTracer.strings, size, size * 2);
    if (strings == NULL) {
        _PyTracer_MemFree(new_buckets, (new_mask + 1) * sizeof(uint32_t));
        return -1;
    }
    _PyTracer.strings = strings;
    capacity *= 2;
    _PyTracer_MemFree(buckets, (mask + 1) * sizeof(uint32_t));
    buckets = new_buckets;
    mask = new_mask;
    for (uint32_t id = 0; id < _PyTracer.nstrings; id++) {
        uint32_t i = _PyTracer.strings[id].hash & mask;
        while (buckets[i] != 0) {
            i = (i + 1) & mask;
        }
        buckets[i] = id + 1;
    }
    return 0;
}

uint32_t
_PyTracer_InternText(PyObject *str)
{
    const char *text = "<unknown>";
    uint32_t length = 9;
    if (str != NULL && PyUnicode_Check(str)) {
        text = encode(str, &length);
    }
    uint32_t hash = hash_text(text, length);
    uint32_t *bucket = find_bucket(text, length, hash);
    if (*bucket != 0) {
        return *bucket - 1;
    }
    if (_PyTracer.nstrings == capacity) {
        if (grow() < 0) {
            return UINT32_MAX;
        }
        bucket = find_bucket(text, length, hash);
    }
    char *copy = _PyTracer_MemText(length + 1);
    if (copy == NULL) {
        return UINT32_MAX;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    uint32_t id = _PyTracer.nstrings++;
    _PyTracer.strings[id] = (struct tracer_string){
        .utf8 = copy, .length = length, .hash = hash};
    *bucket = id + 1;
    return id;
}
