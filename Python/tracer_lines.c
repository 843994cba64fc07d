/* Decoder of line tables: from an instruction to line and columns.

   CPython's InternalDocs/locations.md describes the format: entries for 1 to 8
   code units, each with a first byte (0x80 | form << 3 | units - 1) and the
   bytes that the form needs.  A decoder remembers its position: a module's top
   level runs forward, and would else take time quadratic in its length.
   code.replace() accepts any bytes as a table, so no byte beyond its end is
   read, and no number is too large. */

#include "Python.h"
#include "pycore_code.h"          // PY_CODE_LOCATION_INFO_NONE
#include "pycore_tracer_lines.h"

struct reader {
    const uint8_t *next;
    const uint8_t *end;
    int is_cut;                   // the table has ended within an entry
};

static unsigned int
read_byte(struct reader *r)
{
    if (r->next == r->end) {
        r->is_cut = 1;
        return 0;
    }
    return *r->next++;
}

/* Of a longer number, the low 32 bits. */
static unsigned int
read_varint(struct reader *r)
{
    unsigned int byte = read_byte(r);
    unsigned int value = byte & 63;
    for (unsigned int shift = 6; byte & 64; shift += 6) {
        byte = read_byte(r);
        if (shift < 32) {
            value |= (byte & 63) << shift;
        }
    }
    return value;
}

static unsigned int
read_svarint(struct reader *r)
{
    unsigned int value = read_varint(r);
    return value & 1 ? -(value >> 1) : value >> 1;
}

/* Line `delta` lines on. */
static int
add_lines(int line, unsigned int delta)
{
    return (int)((unsigned int)line + delta);
}

/* Decode the entry at d->next of a table and advance d. */
static void
decode_entry(const uint8_t *table, uint32_t size, struct tracer_decoder *d,
             struct tracer_position *pos)
{
    const struct tracer_position nowhere = {-1, -1, -1, -1};
    struct reader r = {table + d->next, table + size, 0};
    unsigned int first = read_byte(&r);
    unsigned int form = (first >> 3) & 15;
    unsigned int rest;

    *pos = nowhere;
    switch (form) {
    case PY_CODE_LOCATION_INFO_NONE:
        break;
    case PY_CODE_LOCATION_INFO_LONG:
        d->line = add_lines(d->line, read_svarint(&r));
        pos->line = d->line;
        pos->end_line = add_lines(d->line, read_varint(&r));
        pos->column = (int)(read_varint(&r) - 1);
        pos->end_column = (int)(read_varint(&r) - 1);
        break;
    case PY_CODE_LOCATION_INFO_NO_COLUMNS:
        d->line = add_lines(d->line, read_svarint(&r));
        pos->line = pos->end_line = d->line;
        break;
    case PY_CODE_LOCATION_INFO_ONE_LINE0:
    case PY_CODE_LOCATION_INFO_ONE_LINE1:
    case PY_CODE_LOCATION_INFO_ONE_LINE2:
        d->line = add_lines(d->line, form - PY_CODE_LOCATION_INFO_ONE_LINE0);
        pos->line = pos->end_line = d->line;
        pos->column = (int)read_byte(&r);
        pos->end_column = (int)read_byte(&r);
        break;
    default:
        /* Short form: column / 8 in the form, the rest in one byte. */
        rest = read_byte(&r);
        pos->line = pos->end_line = d->line;
        pos->column = (int)((form << 3) | (rest >> 4));
        pos->end_column = pos->column + (int)(rest & 15);
        break;
    }
    if (r.is_cut) {
        *pos = nowhere;
    }
    assert(r.next > table + d->next && r.next <= r.end);
    d->next = (uint32_t)(r.next - table);
    d->unit += (int)(first & 7) + 1;
}

struct tracer_position
_PyTracer_DecodeLine(PyCodeObject *code, struct tracer_decoder *d, int unit)
{
    PyObject *table = code->co_linetable;
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(table);
    uint32_t size = (uint32_t)Py_MIN(PyBytes_GET_SIZE(table), UINT32_MAX);
    assert(unit >= 0 && d->unit >= 0 && d->next <= size);
    if (d->next == 0 || d->unit > unit) {
        *d = (struct tracer_decoder){.line = code->co_firstlineno};
    }
    struct tracer_position pos = {-1, -1, -1, -1};
    while (d->next < size) {
        struct tracer_decoder before = *d;
        decode_entry(start, size, d, &pos);
        assert(d->unit > before.unit && d->next > before.next);
        if (d->unit > unit) {
            /* Stay before this entry: a neighbour may be next. */
            *d = before;
            return pos;
        }
    }
    return (struct tracer_position){-1, -1, -1, -1};
}
