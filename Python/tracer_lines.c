/* Decoder of line tables: from an instruction to line and columns.

   The format is that of InternalDocs/locations.md of CPython: entries of 1 to
   8 code units, each a first byte (0x80 | form << 3 | units - 1) and what the
   form asks for.  A decoder remembers where it stood: a module's top level
   runs forward, and would else cost time in the square of its length. */

#include "Python.h"
#include "pycore_code.h"          // PY_CODE_LOCATION_INFO_NONE
#include "pycore_tracer_lines.h"

static unsigned int
read_varint(const uint8_t **p)
{
    unsigned int byte = *(*p)++;
    unsigned int value = byte & 63;
    for (int shift = 6; byte & 64; shift += 6) {
        byte = *(*p)++;
        value |= (byte & 63) << shift;
    }
    return value;
}

static int
read_svarint(const uint8_t **p)
{
    unsigned int value = read_varint(p);
    return value & 1 ? -(int)(value >> 1) : (int)(value >> 1);
}

/* Decode the entry at d->next of the table and advance d. */
static void
decode_entry(const uint8_t *table, struct tracer_decoder *d,
             struct tracer_position *pos)
{
    const uint8_t *p = table + d->next;
    uint8_t first = *p++;
    int form = first >> 3 & 15;
    int units = (first & 7) + 1;

    *pos = (struct tracer_position){-1, -1, -1, -1};
    switch (form) {
    case PY_CODE_LOCATION_INFO_NONE:
        break;
    case PY_CODE_LOCATION_INFO_LONG:
        d->line += read_svarint(&p);
        pos->line = d->line;
        pos->end_line = d->line + (int)read_varint(&p);
        pos->column = (int)read_varint(&p) - 1;
        pos->end_column = (int)read_varint(&p) - 1;
        break;
    case PY_CODE_LOCATION_INFO_NO_COLUMNS:
        d->line += read_svarint(&p);
        pos->line = pos->end_line = d->line;
        break;
    case PY_CODE_LOCATION_INFO_ONE_LINE0:
    case PY_CODE_LOCATION_INFO_ONE_LINE1:
    case PY_CODE_LOCATION_INFO_ONE_LINE2:
        d->line += form - PY_CODE_LOCATION_INFO_ONE_LINE0;
        pos->line = pos->end_line = d->line;
        pos->column = *p++;
        pos->end_column = *p++;
        break;
    default:
        /* Short form: column / 8 in the form, the rest in one byte. */
        pos->line = pos->end_line = d->line;
        pos->column = form << 3 | *p >> 4;
        pos->end_column = pos->column + (*p & 15);
        p++;
        break;
    }
    d->next = (uint32_t)(p - table);
    d->unit += units;
}

struct tracer_position
_PyTracer_DecodeLine(PyCodeObject *code, struct tracer_decoder *d, int unit)
{
    PyObject *table = code->co_linetable;
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(table);
    if (d->next == 0 || d->unit > unit) {
        *d = (struct tracer_decoder){.line = code->co_firstlineno};
    }
    struct tracer_position pos = {-1, -1, -1, -1};
    while (d->next < PyBytes_GET_SIZE(table)) {
        struct tracer_decoder before = *d;
        decode_entry(start, d, &pos);
        if (d->unit > unit) {
            /* Stay in front of this entry: a neighbour may be next. */
            *d = before;
            return pos;
        }
    }
    return (struct tracer_position){-1, -1, -1, -1};
}
