/* Text that a Python function takes in pieces: numbers, and JSON's texts. */

#include "heapsnapshot.h"

void
_PyHeapFile_Flush(struct heap_out *out)
{
    if (!out->failed && out->used > 0) {
        PyObject *result = PyObject_CallFunction(
            out->write, "y#", out->buffer, (Py_ssize_t)out->used);
        out->failed = result == NULL;
        Py_XDECREF(result);
    }
    out->used = 0;
}

void
_PyHeapFile_PutText(struct heap_out *out, const char *text)
{
    for (; *text != '\0'; text++) {
        _PyHeapFile_Put(out, *text);
    }
}

void
_PyHeapFile_PutNumber(struct heap_out *out, uint64_t number)
{
    char digits[20];
    int n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (n > 0) {
        _PyHeapFile_Put(out, digits[--n]);
    }
}

static void
put_unit(struct heap_out *out, uint32_t unit)
{
    static const char hex[] = "0123456789abcdef";
    _PyHeapFile_Put(out, '\\');
    _PyHeapFile_Put(out, 'u');
    for (int shift = 12; shift >= 0; shift -= 4) {
        _PyHeapFile_Put(out, hex[unit >> shift & 15]);
    }
}

/* The code point at the beginning of UTF-8 that has been checked. */
static uint32_t
decode(const uint8_t *text, uint32_t length, uint32_t *size)
{
    uint32_t n = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2
                 : text[0] < 0xf0 ? 3 : 4;
    *size = n < length ? n : length;
    uint32_t point = n == 1 ? text[0] : text[0] & (0x7f >> n);
    for (uint32_t i = 1; i < *size; i++) {
        point = point << 6 | (text[i] & 0x3f);
    }
    return point;
}

void
_PyHeapFile_PutQuoted(struct heap_out *out, const char *text, uint32_t length)
{
    _PyHeapFile_Put(out, '"');
    for (uint32_t i = 0, size; i < length; i += size) {
        uint32_t c = decode((const uint8_t *)text + i, length - i, &size);
        if (c == '"' || c == '\\') {
            _PyHeapFile_Put(out, '\\');
            _PyHeapFile_Put(out, (char)c);
        }
        else if (c >= 0x10000) {
            put_unit(out, 0xd7c0 + (c >> 10));
            put_unit(out, 0xdc00 + (c & 0x3ff));
        }
        else if (c < ' ' || c > '~') {
            put_unit(out, c);
        }
        else {
            _PyHeapFile_Put(out, (char)c);
        }
    }
    _PyHeapFile_Put(out, '"');
}
