/* Locations: places in source code, each stored once. Nodes of the call tree
   refer to them by number. Locked. */

#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_text.h"

#define INITIAL_FUNCTIONS 256
#define INITIAL_LOCATIONS 512
#define INITIAL_WIDE 64

struct tracer_places _PyTracer_places;

/* Positions that do not fit in a location. */
static struct tracer_position *wide;
static uint32_t nwide, wide_capacity;

static uint32_t
mix(uint32_t a, uint32_t b, uint32_t c)
{
    return _PyTracer_Hash((((uint64_t)a << 32) | b) ^ ((uint64_t)c << 16));
}

/* --- Functions */

static uint32_t
hash_function(uint32_t number)
{
    const struct tracer_function *f = &_PyTracer_places.functions[number - 1];
    return mix(f->filename, f->name, (uint32_t)f->first_line);
}

static int
equal_function(uint32_t number, const void *key)
{
    const struct tracer_function *f = &_PyTracer_places.functions[number - 1];
    const struct tracer_function *wanted = key;
    return f->filename == wanted->filename && f->name == wanted->name
           && f->first_line == wanted->first_line;
}

static uint32_t
add_function(const struct tracer_function *function)
{
    struct tracer_places *places = &_PyTracer_places;
    uint32_t id = places->nfunctions;
    assert(id <= places->function_capacity);
    assert(places->function_index.used == id);
    if (id == places->function_capacity) {
        void *grown = _PyTracer_MemDouble(places->functions,
                                          &places->function_capacity,
                                          sizeof(*function));
        if (grown == NULL) {
            return UINT32_MAX;
        }
        places->functions = grown;
    }
    if (id + 1 == TRACER_INDEX_MAX
        || _PyTracer_IndexReserve(&places->function_index, hash_function) < 0)
    {
        return UINT32_MAX;
    }
    places->functions[id] = *function;
    places->nfunctions++;
    _PyTracer_IndexAdd(&places->function_index, hash_function(id + 1),
                       id + 1);
    return id;
}

/* Filename and name are numbers of texts. */
static uint32_t
intern_function(uint32_t filename, uint32_t name, int first_line)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_function key = {.filename = filename, .name = name,
                                  .first_line = first_line};
    if (key.filename == UINT32_MAX || key.name == UINT32_MAX) {
        return UINT32_MAX;
    }
    uint32_t hash = mix(key.filename, key.name, (uint32_t)first_line);
    uint32_t number = _PyTracer_IndexFind(&_PyTracer_places.function_index,
                                          hash, equal_function, &key);
    return number != 0 ? number - 1 : add_function(&key);
}

uint32_t
_PyTracer_InternFunction(PyCodeObject *code)
{
    return intern_function(_PyTracer_InternText(code->co_filename),
                           _PyTracer_InternText(code->co_qualname),
                           code->co_firstlineno);
}

/* --- Positions in a location */

static int
fits(const struct tracer_position *pos)
{
    return pos->line >= 0 && pos->line < TRACER_LOCATION_LINES
           && pos->end_line >= pos->line
           && pos->end_line - pos->line < TRACER_LOCATION_WIDE
           && pos->column >= -1 && pos->column < UINT16_MAX
           && pos->end_column >= -1 && pos->end_column < UINT16_MAX;
}

/* The number of a new wide position. */
static uint32_t
add_wide(void)
{
    if (nwide == wide_capacity) {
        void *grown = wide == NULL
                      ? _PyTracer_MemAlloc(INITIAL_WIDE * sizeof(*wide))
                      : _PyTracer_MemDouble(wide, &wide_capacity,
                                            sizeof(*wide));
        if (grown == NULL) {
            return UINT32_MAX;
        }
        wide_capacity = Py_MAX(wide_capacity, INITIAL_WIDE);
        wide = grown;
    }
    return nwide < TRACER_LOCATION_LINES ? nwide++ : UINT32_MAX;
}

/* -1: no memory, and the location is as it was. */
static int
set_position(struct tracer_location *loc, const struct tracer_position *pos)
{
    if (loc->more_lines != TRACER_LOCATION_WIDE) {
        if (fits(pos)) {
            loc->line = (uint32_t)pos->line;
            loc->more_lines = (uint32_t)(pos->end_line - pos->line);
            loc->column = (uint16_t)(pos->column + 1);
            loc->end_column = (uint16_t)(pos->end_column + 1);
            return 0;
        }
        uint32_t number = add_wide();
        if (number == UINT32_MAX) {
            return -1;
        }
        loc->line = number;
        loc->more_lines = TRACER_LOCATION_WIDE;
    }
    assert(loc->line < nwide);
    wide[loc->line] = *pos;
    return 0;
}

struct tracer_position
_PyTracer_PositionOf(const struct tracer_location *loc)
{
    if (loc->more_lines == TRACER_LOCATION_WIDE) {
        assert(loc->line < nwide);
        return wide[loc->line];
    }
    return (struct tracer_position){
        .line = (int)loc->line,
        .end_line = (int)(loc->line + loc->more_lines),
        .column = loc->column - 1,
        .end_column = loc->end_column - 1,
    };
}

/* Other instructions of the line allocate or call, too. */
static void
widen(struct tracer_location *loc, const struct tracer_position *seen)
{
    struct tracer_position pos = _PyTracer_PositionOf(loc);
    if (seen->end_line > pos.end_line) {
        pos.end_line = seen->end_line;
        pos.end_column = seen->end_column;
    }
    else if (seen->end_line == pos.end_line) {
        pos.end_column = Py_MAX(pos.end_column, seen->end_column);
    }
    if (seen->column >= 0 && (seen->column < pos.column || pos.column < 0)) {
        pos.column = seen->column;
    }
    (void)set_position(loc, &pos);
}

/* --- Locations */

struct key {
    uint32_t function;
    int line;
};

static uint32_t
hash_location(uint32_t number)
{
    const struct tracer_location *loc =
        &_PyTracer_places.locations[number - 1];
    return mix(loc->function, (uint32_t)_PyTracer_PositionOf(loc).line, 0);
}

static int
equal_location(uint32_t number, const void *key)
{
    const struct tracer_location *loc =
        &_PyTracer_places.locations[number - 1];
    const struct key *wanted = key;
    return loc->function == wanted->function
           && _PyTracer_PositionOf(loc).line == wanted->line;
}

struct kept_place
_PyTracer_PlaceOf(uint32_t id)
{
    const struct tracer_location *loc = &_PyTracer_places.locations[id];
    const struct tracer_function *function =
        &_PyTracer_places.functions[loc->function];
    struct tracer_position pos = _PyTracer_PositionOf(loc);
    return (struct kept_place){
        .filename = function->filename, .function = function->name,
        .line = pos.line, .end_line = pos.end_line, .column = pos.column,
        .end_column = pos.end_column, .first_line = function->first_line};
}

/* In the kept file, if there is one. */
static void
keep_place(uint32_t id)
{
    if (_PyTracer_IsKept()) {
        struct kept_place place = _PyTracer_PlaceOf(id);
        _PyTracer_KeepPlace(id, &place);
    }
}

static uint32_t
add_location(uint32_t function, const struct tracer_position *pos)
{
    struct tracer_places *places = &_PyTracer_places;
    uint32_t id = places->nlocations;
    assert(id <= places->location_capacity && function < places->nfunctions);
    assert(places->location_index.used == id);
    struct tracer_location location = {.function = function};
    if (id == places->location_capacity) {
        void *grown = _PyTracer_MemDouble(places->locations,
                                          &places->location_capacity,
                                          sizeof(location));
        if (grown == NULL) {
            return UINT32_MAX;
        }
        places->locations = grown;
    }
    if (id + 1 == TRACER_INDEX_MAX
        || _PyTracer_IndexReserve(&places->location_index, hash_location) < 0
        || set_position(&location, pos) < 0)
    {
        return UINT32_MAX;
    }
    places->locations[id] = location;
    places->nlocations++;
    keep_place(id);
    _PyTracer_IndexAdd(&places->location_index, hash_location(id + 1),
                       id + 1);
    return id;
}

uint32_t
_PyTracer_InternLocation(uint32_t function, const struct tracer_position *pos)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_position seen = *pos;
    seen.line = Py_MAX(pos->line, 0);
    struct key key = {function, seen.line};
    uint32_t hash = mix(function, (uint32_t)key.line, 0);
    uint32_t number = _PyTracer_IndexFind(&_PyTracer_places.location_index,
                                          hash, equal_location, &key);
    if (number == 0) {
        return add_location(function, &seen);
    }
    widen(&_PyTracer_places.locations[number - 1], &seen);
    keep_place(number - 1);
    return number - 1;
}

uint32_t
_PyTracer_InternNoFrame(const char *reason)
{
    struct tracer_position nowhere = {0, 0, -1, -1};
    uint32_t function = intern_function(
        _PyTracer_InternLiteral(TRACER_UNKNOWN),
        _PyTracer_InternLiteral(reason), 0);
    return function == UINT32_MAX ? UINT32_MAX
           : _PyTracer_InternLocation(function, &nowhere);
}

const struct tracer_string *
_PyTracer_FilenameOf(const struct tracer_location *location)
{
    assert(location->function < _PyTracer_places.nfunctions);
    return &_PyTracer_texts.strings[
        _PyTracer_places.functions[location->function].filename];
}

/* --- All of them */

int
_PyTracer_LocationInit(void)
{
    struct tracer_places *places = &_PyTracer_places;
    assert(places->functions == NULL && places->locations == NULL);
    places->function_capacity = INITIAL_FUNCTIONS;
    places->location_capacity = INITIAL_LOCATIONS;
    places->functions = _PyTracer_MemAlloc(
        INITIAL_FUNCTIONS * sizeof(struct tracer_function));
    places->locations = _PyTracer_MemAlloc(
        INITIAL_LOCATIONS * sizeof(struct tracer_location));
    if (places->functions == NULL || places->locations == NULL
        || _PyTracer_IndexInit(&places->function_index, INITIAL_FUNCTIONS) < 0
        || _PyTracer_IndexInit(&places->location_index, INITIAL_LOCATIONS) < 0)
    {
        return -1;
    }
    /* Location 0: no Python frame. */
    return _PyTracer_InternNoFrame(TRACER_UNKNOWN) == 0 ? 0 : -1;
}

void
_PyTracer_LocationClear(void)
{
    struct tracer_places *places = &_PyTracer_places;
    _PyTracer_MemFree(places->functions, places->function_capacity
                                         * sizeof(struct tracer_function));
    _PyTracer_MemFree(places->locations, places->location_capacity
                                         * sizeof(struct tracer_location));
    _PyTracer_MemFree(wide, wide_capacity * sizeof(*wide));
    wide = NULL;
    nwide = wide_capacity = 0;
    places->functions = NULL;
    places->locations = NULL;
    places->nfunctions = places->nlocations = 0;
    _PyTracer_IndexClear(&places->function_index);
    _PyTracer_IndexClear(&places->location_index);
}

/* --- Check everything */

static const char *
function_fault(uint32_t id)
{
    const struct tracer_function *f = &_PyTracer_places.functions[id];
    if (f->filename >= _PyTracer_texts.nstrings
        || f->name >= _PyTracer_texts.nstrings)
    {
        return "a function has a name that is no text";
    }
    return _PyTracer_IndexFind(&_PyTracer_places.function_index,
                               hash_function(id + 1), equal_function, f)
           == id + 1
           ? NULL : "a function is not found, or there are two";
}

static const char *
location_fault(uint32_t id)
{
    const struct tracer_location *loc = &_PyTracer_places.locations[id];
    if (loc->function >= _PyTracer_places.nfunctions) {
        return "a location has no function";
    }
    if (loc->more_lines == TRACER_LOCATION_WIDE && loc->line >= nwide) {
        return "a location has a wide position that was never made";
    }
    struct key key = {loc->function, _PyTracer_PositionOf(loc).line};
    return _PyTracer_IndexFind(&_PyTracer_places.location_index,
                               hash_location(id + 1), equal_location, &key)
           == id + 1
           ? NULL : "a location is not found, or there are two";
}

const char *
_PyTracer_LocationFault(void)
{
    const struct tracer_places *places = &_PyTracer_places;
    const char *fault = NULL;
    for (uint32_t id = 0; id < places->nfunctions && !fault; id++) {
        fault = function_fault(id);
    }
    for (uint32_t id = 0; id < places->nlocations && !fault; id++) {
        fault = location_fault(id);
    }
    if (fault == NULL
        && (places->function_index.used != places->nfunctions
            || places->location_index.used != places->nlocations))
    {
        fault = "the indexes of functions and locations have others than "
                "there are";
    }
    return fault;
}
