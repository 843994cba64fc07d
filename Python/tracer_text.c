/* Interned text: file names and qualified names of functions, as UTF-8 with
   surrogates passed through, in the tracer's own memory, so that no Python
   string is kept alive or created while a program is traced.  Locked. */

#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"

#define INITIAL_TEXTS 128
#define MAX_TEXT 16384            // bytes; a longer name is cut

struct tracer_texts _PyTracer_texts;

static char *scratch;

int
_PyTracer_TextInit(void)
{
    struct tracer_texts *texts = &_PyTracer_texts;
    assert(scratch == NULL && texts->strings == NULL);
    scratch = _PyTracer_MemAlloc(MAX_TEXT);
    texts->capacity = INITIAL_TEXTS;
    texts->strings = _PyTracer_MemAlloc(texts->capacity
                                        * sizeof(struct tracer_string));
    texts->nstrings = 0;
    return scratch && texts->strings
           ? _PyTracer_IndexInit(&texts->index, texts->capacity) : -1;
}

void
_PyTracer_TextClear(void)
{
    struct tracer_texts *texts = &_PyTracer_texts;
    _PyTracer_IndexClear(&texts->index);
    _PyTracer_MemFree(scratch, MAX_TEXT);
    _PyTracer_MemFree(texts->strings,
                      texts->capacity * sizeof(struct tracer_string));
    scratch = NULL;
    texts->strings = NULL;
    texts->nstrings = 0;
}

static int
encode_char(Py_UCS4 c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

const char *
_PyTracer_EncodeText(PyObject *str, uint32_t *length)
{
    _PyTracer_ASSERT_LOCKED();
    if (str == NULL || !PyUnicode_Check(str)) {
        *length = sizeof(TRACER_UNKNOWN) - 1;
        return TRACER_UNKNOWN;
    }
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
    assert(used <= MAX_TEXT);
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

static int
equal_text(uint32_t number, const void *key)
{
    const struct tracer_string *s = &_PyTracer_texts.strings[number - 1];
    const struct tracer_string *wanted = key;
    return s->hash == wanted->hash && s->length == wanted->length
           && memcmp(s->utf8, wanted->utf8, wanted->length) == 0;
}

static uint32_t
text_hash(uint32_t number)
{
    return _PyTracer_texts.strings[number - 1].hash;
}

static uint32_t
add_text(const struct tracer_string *text)
{
    struct tracer_texts *texts = &_PyTracer_texts;
    uint32_t id = texts->nstrings;
    assert(id <= texts->capacity && texts->index.used == id);
    if (id == texts->capacity) {
        void *grown = _PyTracer_MemDouble(texts->strings, &texts->capacity,
                                          sizeof(*text));
        if (grown == NULL) {
            return UINT32_MAX;
        }
        texts->strings = grown;
    }
    if (id + 1 == TRACER_INDEX_MAX
        || _PyTracer_IndexReserve(&texts->index, text_hash) < 0)
    {
        return UINT32_MAX;
    }
    char *copy = _PyTracer_MemText(text->length + 1);
    if (copy == NULL) {
        return UINT32_MAX;
    }
    memcpy(copy, text->utf8, text->length);
    copy[text->length] = '\0';
    texts->strings[id] = *text;
    texts->strings[id].utf8 = copy;
    texts->nstrings++;
    _PyTracer_KeepText(id, copy, text->length);
    _PyTracer_IndexAdd(&texts->index, text->hash, id + 1);
    return id;
}

static uint32_t
intern(struct tracer_string *key)
{
    _PyTracer_ASSERT_LOCKED();
    key->hash = hash_text(key->utf8, key->length);
    uint32_t number = _PyTracer_IndexFind(&_PyTracer_texts.index, key->hash,
                                          equal_text, key);
    return number != 0 ? number - 1 : add_text(key);
}

uint32_t
_PyTracer_InternText(PyObject *str)
{
    struct tracer_string key = {0};
    key.utf8 = _PyTracer_EncodeText(str, &key.length);
    return intern(&key);
}

uint32_t
_PyTracer_InternLiteral(const char *text)
{
    struct tracer_string key = {.utf8 = text,
                                .length = (uint32_t)strlen(text)};
    return intern(&key);
}

const char *
_PyTracer_TextFault(void)
{
    const struct tracer_texts *texts = &_PyTracer_texts;
    for (uint32_t id = 0; id < texts->nstrings; id++) {
        const struct tracer_string *text = &texts->strings[id];
        if (text->length > MAX_TEXT || text->utf8[text->length] != '\0'
            || hash_text(text->utf8, text->length) != text->hash)
        {
            return "an interned text has changed";
        }
        if (_PyTracer_IndexFind(&texts->index, text->hash, equal_text, text)
            != id + 1)
        {
            return "an interned text is not found, or there are two";
        }
    }
    return texts->index.used == texts->nstrings
           ? NULL : "the index of texts has others than there are";
}
