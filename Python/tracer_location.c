/* Locations: from the instruction that a frame executes to (file, function,
   line, columns).

   Decoding a line table is slow, so each instruction is decoded once: `instrs`
   maps the address of an instruction to its location.  The addresses are
   those of a code object that may die, so its instructions hang on a record
   of it (`codes`), which _PyTracer_CodeDealloc() drops.  A record also
   remembers where the decoder stood: a module's top level runs forward, and
   would else cost time in the square of its length.

   The format of the line table is that of InternalDocs/locations.md of
   CPython: entries of 1 to 8 code units, each a first byte
   (0x80 | form << 3 | units - 1) and what the form asks for.  Locked. */

#include "Python.h"
#include "pycore_code.h"          // _PyCode_CODE()
#include "pycore_tracer_core.h"

#define INITIAL_LOCATIONS 512
#define INITIAL_INSTRS 1024

struct instr {
    const _Py_CODEUNIT *address;  // NULL: on the free list
    uint32_t location;
    uint32_t next_in_bucket;      // index + 1
    uint32_t next_in_code;        // index + 1
};

struct position {
    int line, end_line, column, end_column;
};

/* The decoder of one line table, between two entries. */
struct decoder {
    const uint8_t *next;
    int unit;                     // where the next entry starts
    int line;                     // running line
};

struct code {
    PyCodeObject *object;         // NULL: free slot
    uint32_t filename, function;
    uint32_t first_instr;         // index + 1
    uint32_t next_in_bucket;      // index + 1
    struct decoder decoder;
};

/* A growing array of items chained from hash buckets by index + 1. */
struct chained {
    void *items;
    uint32_t *buckets;
    uint32_t mask;                // of buckets; capacity is mask + 1
    uint32_t used;                // items ever used
    uint32_t free;                // index + 1 of the first free item
};

static struct chained instrs, codes;
static uint32_t *location_buckets;        // id + 1
static uint32_t location_mask;
static uint32_t location_capacity;

#define INSTR(i) (&((struct instr *)instrs.items)[i])
#define CODE(i) (&((struct code *)codes.items)[i])

static uint32_t
hash_pointer(const void *p)
{
    uint64_t x = (uint64_t)(uintptr_t)p * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

static int
chained_init(struct chained *c, uint32_t capacity, size_t item_size)
{
    *c = (struct chained){.mask = capacity - 1};
    c->items = _PyTracer_MemAlloc(capacity * item_size);
    c->buckets = _PyTracer_MemAlloc(capacity * sizeof(uint32_t));
    return c->items && c->buckets ? 0 : -1;
}

static void
chained_clear(struct chained *c, size_t item_size)
{
    size_t capacity = (size_t)c->mask + 1;
    _PyTracer_MemFree(c->items, capacity * item_size);
    _PyTracer_MemFree(c->buckets, capacity * sizeof(uint32_t));
    *c = (struct chained){0};
}

/* Double both arrays; the caller links the items anew. */
static int
chained_grow(struct chained *c, size_t item_size)
{
    size_t capacity = (size_t)c->mask + 1;
    uint32_t *buckets = _PyTracer_MemAlloc(capacity * 2 * sizeof(uint32_t));
    if (buckets == NULL) {
        return -1;
    }
    void *items = _PyTracer_MemGrow(c->items, capacity * item_size,
                                    capacity * 2 * item_size);
    if (items == NULL) {
        _PyTracer_MemFree(buckets, capacity * 2 * sizeof(uint32_t));
        return -1;
    }
    _PyTracer_MemFree(c->buckets, capacity * sizeof(uint32_t));
    c->items = items;
    c->buckets = buckets;
    c->mask = (uint32_t)(capacity * 2 - 1);
    return 0;
}

static void
link_instr(uint32_t i)
{
    uint32_t *head = &instrs.buckets[hash_pointer(INSTR(i)->address)
                                     & instrs.mask];
    INSTR(i)->next_in_bucket = *head;
    *head = i + 1;
}

static void
link_code(uint32_t i)
{
    uint32_t *head = &codes.buckets[hash_pointer(CODE(i)->object)
                                    & codes.mask];
    CODE(i)->next_in_bucket = *head;
    *head = i + 1;
}

int
_PyTracer_LocationInit(void)
{
    location_capacity = INITIAL_LOCATIONS;
    location_mask = INITIAL_LOCATIONS * 2 - 1;
    _PyTracer.locations = _PyTracer_MemAlloc(
        location_capacity * sizeof(struct tracer_location));
    location_buckets = _PyTracer_MemAlloc(
        (location_mask + 1) * sizeof(uint32_t));
    if (_PyTracer.locations == NULL || location_buckets == NULL
        || chained_init(&instrs, INITIAL_INSTRS, sizeof(struct instr)) < 0
        || chained_init(&codes, INITIAL_INSTRS / 8, sizeof(struct code)) < 0)
    {
        return -1;
    }
    /* Location 0: no Python frame. */
    uint32_t unknown = _PyTracer_InternText(NULL);
    _PyTracer.locations[0] = (struct tracer_location){
        .filename = unknown, .function = unknown, .line = 0, .end_line = 0,
        .column = -1, .end_column = -1};
    _PyTracer.nlocations = 1;
    return unknown == UINT32_MAX ? -1 : 0;
}

void
_PyTracer_LocationClear(void)
{
    _PyTracer_MemFree(_PyTracer.locations,
                      location_capacity * sizeof(struct tracer_location));
    _PyTracer_MemFree(location_buckets,
                      (location_mask + 1) * sizeof(uint32_t));
    _PyTracer.locations = NULL;
    location_buckets = NULL;
    _PyTracer.nlocations = 0;
    chained_clear(&instrs, sizeof(struct instr));
    chained_clear(&codes, sizeof(struct code));
}

/* --- Line tables */

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

/* Decode the entry at d->next, advance d, return the entry's code units. */
static int
decode_entry(struct decoder *d, struct position *pos)
{
    const uint8_t *p = d->next;
    uint8_t first = *p++;
    int form = first >> 3 & 15;
    int units = (first & 7) + 1;

    *pos = (struct position){-1, -1, -1, -1};
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
    d->next = p;
    d->unit += units;
    return units;
}

static struct position
decode(struct code *code, int unit)
{
    PyObject *table = code->object->co_linetable;
    const uint8_t *start = (const uint8_t *)PyBytes_AS_STRING(table);
    const uint8_t *end = start + PyBytes_GET_SIZE(table);
    struct decoder *d = &code->decoder;
    if (d->next == NULL || d->unit > unit) {
        *d = (struct decoder){start, 0, code->object->co_firstlineno};
    }
    struct position pos = {-1, -1, -1, -1};
    while (d->next < end) {
        struct decoder before = *d;
        (void)decode_entry(d, &pos);
        if (d->unit > unit) {
            /* Stay in front of this entry: a neighbour may be next. */
            *d = before;
            return pos;
        }
    }
    return (struct position){-1, -1, -1, -1};
}

/* --- Locations */

static void
widen(struct tracer_location *loc, const struct position *pos)
{
    if (pos->end_line > loc->end_line) {
        loc->end_line = pos->end_line;
        loc->end_column = pos->end_column;
    }
    else if (pos->end_line == loc->end_line
             && pos->end_column > loc->end_column)
    {
        loc->end_column = pos->end_column;
    }
    if (pos->column >= 0
        && (pos->column < loc->column || loc->column < 0))
    {
        loc->column = pos->column;
    }
}

static int
grow_locations(void)
{
    size_t size = location_capacity * sizeof(struct tracer_location);
    uint32_t new_mask = location_mask * 2 + 1;
    uint32_t *buckets = _PyTracer_MemAlloc((new_mask + 1)
                                           * sizeof(uint32_t));
    if (buckets == NULL) {
        return -1;
    }
    void *locations = _PyTracer_MemGrow(_PyTracer.locations, size, size * 2);
    if (locations == NULL) {
        _PyTracer_MemFree(buckets, (new_mask + 1) * sizeof(uint32_t));
        return -1;
    }
    _PyTracer.locations = locations;
    location_capacity *= 2;
    _PyTracer_MemFree(location_buckets,
                      (location_mask + 1) * sizeof(uint32_t));
    location_buckets = buckets;
    location_mask = new_mask;
    for (uint32_t id = 1; id < _PyTracer.nlocations; id++) {
        uint32_t i = _PyTracer.locations[id].hash & location_mask;
        while (location_buckets[i] != 0) {
            i = (i + 1) & location_mask;
        }
        location_buckets[i] = id + 1;
    }
    return 0;
}

static uint32_t
intern_location(const struct code *code, const struct position *pos)
{
    int line = pos->line < 0 ? 0 : pos->line;
    uint32_t hash = (code->filename * 0x9e3779b1u
                     ^ code->function * 0x85ebca77u
                     ^ (uint32_t)line * 0xc2b2ae3du);
    hash ^= hash >> 15;
    if (_PyTracer.nlocations == location_capacity && grow_locations() < 0) {
        return UINT32_MAX;
    }
    uint32_t i = hash & location_mask;
    for (; location_buckets[i] != 0; i = (i + 1) & location_mask) {
        struct tracer_location *loc =
            &_PyTracer.locations[location_buckets[i] - 1];
        if (loc->hash == hash && loc->line == line
            && loc->filename == code->filename
            && loc->function == code->function)
        {
            widen(loc, pos);
            return location_buckets[i] - 1;
        }
    }
    uint32_t id = _PyTracer.nlocations++;
    _PyTracer.locations[id] = (struct tracer_location){
        .filename = code->filename, .function = code->function,
        .line = line, .end_line = pos->end_line,
        .column = pos->column, .end_column = pos->end_column,
        .first_line = code->object->co_firstlineno, .hash = hash};
    location_buckets[i] = id + 1;
    return id;
}

/* --- Instructions and code objects */

/* Make room for one more item; nothing is free, so all items are linked. */
static int
make_room(struct chained *c, void (*link)(uint32_t), size_t item_size)
{
    if (c->used <= c->mask) {
        return 0;
    }
    if (chained_grow(c, item_size) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < c->used; i++) {
        link(i);
    }
    return 0;
}

static struct code *
find_code(PyCodeObject *object)
{
    uint32_t i = codes.buckets[hash_pointer(object) & codes.mask];
    while (i != 0 && CODE(i - 1)->object != object) {
        i = CODE(i - 1)->next_in_bucket;
    }
    return i == 0 ? NULL : CODE(i - 1);
}

static struct code *
make_code(PyCodeObject *object)
{
    uint32_t i;
    if (codes.free != 0) {
        i = codes.free - 1;
        codes.free = CODE(i)->next_in_bucket;
    }
    else {
        if (make_room(&codes, link_code, sizeof(struct code)) < 0) {
            return NULL;
        }
        i = codes.used;
    }
    uint32_t filename = _PyTracer_InternText(object->co_filename);
    uint32_t function = _PyTracer_InternText(object->co_qualname);
    if (filename == UINT32_MAX || function == UINT32_MAX) {
        if (i < codes.used) {
            CODE(i)->next_in_bucket = codes.free;
            codes.free = i + 1;
        }
        return NULL;
    }
    if (i == codes.used) {
        codes.used++;
    }
    *CODE(i) = (struct code){.object = object, .filename = filename,
                             .function = function};
    link_code(i);
    return CODE(i);
}

static uint32_t
add_instr(struct code *code, const _Py_CODEUNIT *address, uint32_t location)
{
    uint32_t i;
    if (instrs.free != 0) {
        i = instrs.free - 1;
        instrs.free = INSTR(i)->next_in_bucket;
    }
    else {
        if (make_room(&instrs, link_instr, sizeof(struct instr)) < 0) {
            return location;      // decoded again next time
        }
        i = instrs.used++;
    }
    *INSTR(i) = (struct instr){.address = address, .location = location,
                               .next_in_code = code->first_instr};
    code->first_instr = i + 1;
    link_instr(i);
    return location;
}

uint32_t
_PyTracer_LocationOf(_PyInterpreterFrame *frame)
{
    const _Py_CODEUNIT *address = frame->instr_ptr;
    uint32_t i = instrs.buckets[hash_pointer(address) & instrs.mask];
    for (; i != 0; i = INSTR(i - 1)->next_in_bucket) {
        if (INSTR(i - 1)->address == address) {
            return INSTR(i - 1)->location;
        }
    }
    PyCodeObject *object = _PyFrame_GetCode(frame);
    struct code *code = find_code(object);
    if (code == NULL) {
        code = make_code(object);
        if (code == NULL) {
            return UINT32_MAX;
        }
    }
    int unit = (int)(address - _PyCode_CODE(object));
    struct position pos = decode(code, unit);
    uint32_t location = intern_location(code, &pos);
    if (location == UINT32_MAX) {
        return UINT32_MAX;
    }
    return add_instr(code, address, location);
}

static void
unlink_instr(uint32_t i)
{
    uint32_t *link = &instrs.buckets[hash_pointer(INSTR(i)->address)
                                     & instrs.mask];
    while (*link != i + 1) {
        link = &INSTR(*link - 1)->next_in_bucket;
    }
    *link = INSTR(i)->next_in_bucket;
}

static void
unlink_code(uint32_t i)
{
    uint32_t *link = &codes.buckets[hash_pointer(CODE(i)->object)
                                    & codes.mask];
    while (*link != i + 1) {
        link = &CODE(*link - 1)->next_in_bucket;
    }
    *link = CODE(i)->next_in_bucket;
}

static void
drop_code(struct code *code)
{
    for (uint32_t i = code->first_instr; i != 0; ) {
        uint32_t next = INSTR(i - 1)->next_in_code;
        unlink_instr(i - 1);
        INSTR(i - 1)->address = NULL;
        INSTR(i - 1)->next_in_bucket = instrs.free;
        instrs.free = i;
        i = next;
    }
    uint32_t index = (uint32_t)(code - CODE(0));
    unlink_code(index);
    code->object = NULL;
    code->next_in_bucket = codes.free;
    codes.free = index + 1;
}

void
_PyTracer_CodeDealloc(PyCodeObject *object)
{
    _PyTracer_Lock();
    struct code *code = _PyTracer.tracing ? find_code(object) : NULL;
    if (code != NULL) {
        uintptr_t low = (uintptr_t)_PyCode_CODE(object);
        uintptr_t high = (uintptr_t)(_PyCode_CODE(object) + Py_SIZE(object));
        drop_code(code);
        _PyTracer.code_epoch++;
        if (_PyTracer.dead_high == 0) {
            _PyTracer.dead_low = low;
        }
        _PyTracer.dead_low = Py_MIN(_PyTracer.dead_low, low);
        _PyTracer.dead_high = Py_MAX(_PyTracer.dead_high, high);
    }
    _PyTracer_Unlock();
}

/* What the cache knows of dead instructions does no harm until new ones may
   stand at their addresses.  Code objects die in crowds, so this is rare. */
void
_PyTracer_CodeNew(void)
{
    if (_PyTracer.dead_high == 0) {
        return;
    }
    uintptr_t low = _PyTracer.dead_low;
    uintptr_t length = _PyTracer.dead_high - low;
    for (size_t i = 0; i < _PyTracer.cache_lines; i++) {
        struct tracer_cache_line *line = &_PyTracer_cache[i];
        if ((uintptr_t)line->instr - low < length) {
            line->instr = NULL;
        }
    }
    _PyTracer.dead_high = 0;
}
