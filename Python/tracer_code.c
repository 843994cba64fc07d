/* Code objects: from the instruction that a frame executes to its location.

   Decoding a line table is slow, so each instruction is decoded once.  What
   is known hangs on a record of the code object, by the offset of the
   instruction; as the code object may die, and another one come to lie at its
   address, _PyTracer_CodeDealloc() drops the record.  Locked. */

#include "Python.h"
#include "pycore_code.h"          // _PyCode_CODE()
#include "pycore_tracer_core.h"
#include "pycore_tracer_index.h"  // TRACER_INDEX_BITS
#include "pycore_tracer_lines.h"

#define INITIAL_CODES 128
#define INITIAL_INSTRS 1024
#define NCHAINS 2                 // power of two
#define UNIT_BITS 20

struct instr {
    uint64_t unit : UNIT_BITS;    // offset in the code, in code units
    uint64_t location : TRACER_INDEX_BITS;
    uint64_t next : TRACER_INDEX_BITS;  // index + 1: in the chain, or free
};
static_assert(sizeof(struct instr) == 8, "there are many");

struct code {
    PyCodeObject *object;         // NULL: free
    struct tracer_decoder decoder;
    uint32_t function;
    uint32_t chains[NCHAINS];     // by offset: index + 1 of the first
                                  //   instruction, used last
    int last_unit;                // highest offset of all
    uint32_t next;                // index + 1: in the bucket, or free
};

static struct instr *instrs;
static uint32_t instr_capacity, ninstrs, free_instrs;
static struct code *codes;
static uint32_t code_capacity, ncodes, free_codes;
static uint32_t *buckets;         // of codes: index + 1; code_capacity

int
_PyTracer_CodeInit(void)
{
    instr_capacity = INITIAL_INSTRS;
    code_capacity = INITIAL_CODES;
    instrs = _PyTracer_MemAlloc(instr_capacity * sizeof(struct instr));
    codes = _PyTracer_MemAlloc(code_capacity * sizeof(struct code));
    buckets = _PyTracer_MemAlloc(code_capacity * sizeof(uint32_t));
    return instrs && codes && buckets ? 0 : -1;
}

void
_PyTracer_CodeClear(void)
{
    _PyTracer_MemFree(instrs, instr_capacity * sizeof(struct instr));
    _PyTracer_MemFree(codes, code_capacity * sizeof(struct code));
    _PyTracer_MemFree(buckets, code_capacity * sizeof(uint32_t));
    instrs = NULL;
    codes = NULL;
    buckets = NULL;
    ninstrs = free_instrs = ncodes = free_codes = 0;
}

/* --- Records of code objects */

static uint32_t *
bucket_of(const PyCodeObject *object)
{
    uint64_t x = (uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15u;
    return &buckets[(uint32_t)(x >> 32) & (code_capacity - 1)];
}

static void
link_code(uint32_t i)
{
    uint32_t *head = bucket_of(codes[i].object);
    codes[i].next = *head;
    *head = i + 1;
}

static struct code *
find_code(const PyCodeObject *object)
{
    uint32_t i = *bucket_of(object);
    while (i != 0 && codes[i - 1].object != object) {
        i = codes[i - 1].next;
    }
    return i == 0 ? NULL : &codes[i - 1];
}

/* No record is free: all are linked. */
static int
grow_codes(void)
{
    uint32_t *grown_buckets =
        _PyTracer_MemAlloc(code_capacity * 2 * sizeof(uint32_t));
    if (grown_buckets == NULL) {
        return -1;
    }
    uint32_t capacity = code_capacity;
    struct code *grown = _PyTracer_MemDouble(codes, &code_capacity,
                                             sizeof(struct code));
    if (grown == NULL) {
        _PyTracer_MemFree(grown_buckets, capacity * 2 * sizeof(uint32_t));
        return -1;
    }
    _PyTracer_MemFree(buckets, capacity * sizeof(uint32_t));
    codes = grown;
    buckets = grown_buckets;
    for (uint32_t i = 0; i < ncodes; i++) {
        link_code(i);
    }
    return 0;
}

static struct code *
make_code(PyCodeObject *object)
{
    uint32_t function = _PyTracer_InternFunction(object);
    if (function == UINT32_MAX) {
        return NULL;
    }
    uint32_t i = ncodes;
    if (free_codes != 0) {
        i = free_codes - 1;
        free_codes = codes[i].next;
    }
    else {
        if (ncodes == code_capacity && grow_codes() < 0) {
            return NULL;
        }
        ncodes++;
    }
    codes[i] = (struct code){.object = object, .function = function,
                             .last_unit = -1};
    link_code(i);
    return &codes[i];
}

static void
drop_code(struct code *code)
{
    uint32_t i = (uint32_t)(code - codes);
    uint32_t *link = bucket_of(code->object);
    while (*link != i + 1) {
        link = &codes[*link - 1].next;
    }
    *link = code->next;
    for (int chain = 0; chain < NCHAINS; chain++) {
        uint32_t first = code->chains[chain];
        if (first != 0) {
            struct instr *last = &instrs[first - 1];
            while (last->next != 0) {
                last = &instrs[last->next - 1];
            }
            last->next = free_instrs;
            free_instrs = first;
        }
    }
    code->object = NULL;
    code->next = free_codes;
    free_codes = i + 1;
}

/* --- Instructions */

static uint32_t *
chain_of(struct code *code, int unit)
{
    return &code->chains[unit & (NCHAINS - 1)];
}

/* Location of a decoded instruction, or UINT32_MAX.  A module's top level
   runs forward: what lies beyond all that is known is not searched for. */
static uint32_t
find_instr(struct code *code, int unit)
{
    if (unit > code->last_unit) {
        return UINT32_MAX;
    }
    uint32_t *first = chain_of(code, unit);
    struct instr *before = NULL;
    for (uint32_t i = *first; i != 0; i = before->next) {
        struct instr *instr = &instrs[i - 1];
        if (instr->unit == (unsigned int)unit) {
            if (before != NULL) {
                before->next = instr->next;
                instr->next = *first;
                *first = i;
            }
            return instr->location;
        }
        before = instr;
    }
    return UINT32_MAX;
}

/* Without memory, it will be decoded again next time; as in a code object of a
   million instructions. */
static void
add_instr(struct code *code, int unit, uint32_t location)
{
    uint32_t i = ninstrs;
    if (unit >= 1 << UNIT_BITS
        || (free_instrs == 0 && i + 1 == TRACER_INDEX_MAX))
    {
        return;
    }
    if (free_instrs != 0) {
        i = free_instrs - 1;
        free_instrs = instrs[i].next;
    }
    else {
        if (ninstrs == instr_capacity) {
            void *grown = _PyTracer_MemDouble(instrs, &instr_capacity,
                                              sizeof(struct instr));
            if (grown == NULL) {
                return;
            }
            instrs = grown;
        }
        ninstrs++;
    }
    uint32_t *first = chain_of(code, unit);
    instrs[i] = (struct instr){unit, location, *first};
    *first = i + 1;
    code->last_unit = Py_MAX(code->last_unit, unit);
}

uint32_t
_PyTracer_LocationOf(_PyInterpreterFrame *frame)
{
    PyCodeObject *object = _PyFrame_GetCode(frame);
    int unit = (int)(frame->instr_ptr - _PyCode_CODE(object));
    struct code *code = find_code(object);
    if (code == NULL) {
        code = make_code(object);
        if (code == NULL) {
            return UINT32_MAX;
        }
    }
    uint32_t location = find_instr(code, unit);
    if (location == UINT32_MAX) {
        struct tracer_position pos = _PyTracer_DecodeLine(object,
                                                          &code->decoder,
                                                          unit);
        location = _PyTracer_InternLocation(code->function, &pos);
        if (location != UINT32_MAX) {
            add_instr(code, unit, location);
        }
    }
    return location;
}

/* --- Code objects die and are made */

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
    if (_PyTracer.shared || _PyTracer.dead_high == 0) {
        return;                   // several GILs: no cache is used
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
