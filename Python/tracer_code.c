/* Code objects: from the instruction that a frame executes to its location.

   Decoding a line table is slow, so each instruction is decoded once.  The
   decoded instructions of a code object are kept in a record, in chains by the
   offset of the instruction: two chains in most functions, more as more
   instructions are known, so that no chain is long.  When a code object dies,
   another one may be made at its address, so _PyTracer_CodeDealloc() drops the
   record.  A code object of more than PART_UNITS code units has a record for
   each part.  Locked. */

#include "Python.h"
#include "pycore_bitutils.h"      // _Py_bit_length()
#include "pycore_tracer_code.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_state.h"

#define INITIAL_CODES 128
#define INITIAL_INSTRS 1024
#define UNIT_BITS 20
#define PART_UNITS (1u << UNIT_BITS)
#define FEW 16                    // instructions: two chains will do
#define MAX_POOL_TABLE 1024       // entries, see tracer_memory.c

struct instr {
    uint64_t unit : UNIT_BITS;    // offset in the part, in code units
    uint64_t location : TRACER_INDEX_BITS;
    uint64_t next : TRACER_INDEX_BITS;  // index + 1: in the chain, or free
};
static_assert(sizeof(struct instr) == 8, "there are many");

struct code {
    uintptr_t key;                // see key_of(); 0: free
    struct tracer_decoder decoder;
    uint32_t next;                // index + 1: in the bucket, or free
    union {
        uint32_t two[2];          // heads of chains: index + 1 of the
        uint32_t *many;           //   instruction used last
    } chains;
    uint64_t function : TRACER_INDEX_BITS;
    uint64_t ninstrs : UNIT_BITS + 1;
    uint64_t end : UNIT_BITS + 1;       // above the offsets of all of these
};
static_assert(sizeof(struct code) == 40, "there are many");

static struct instr *instrs;
static uint32_t instr_capacity, ninstrs, free_instrs;
static struct code *codes;
static uint32_t code_capacity, ncodes, free_codes;
static uint32_t *buckets;         // of codes: index + 1; code_capacity

struct tracer_codes _PyTracer_codes;

int
_PyTracer_CodeInit(void)
{
    assert(instrs == NULL && codes == NULL && buckets == NULL);
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
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_MemFree(instrs, instr_capacity * sizeof(struct instr));
    _PyTracer_MemFree(codes, code_capacity * sizeof(struct code));
    _PyTracer_MemFree(buckets, code_capacity * sizeof(uint32_t));
    instrs = NULL;
    codes = NULL;
    buckets = NULL;
    ninstrs = free_instrs = ncodes = free_codes = 0;
}

/* --- Chains of a code object */

/* With more than a few known instructions, the code has 1 << chain_bits()
   chains, with up to about four instructions each before their number
   grows. */
static int
chain_bits(uint32_t n)
{
    return n <= FEW ? 1 : (_Py_bit_length(n - 1) - 1) & ~1;
}

static uint32_t *
chains_of(struct code *code)
{
    return code->ninstrs <= FEW ? code->chains.two : code->chains.many;
}

static inline uint32_t *
chain_of(struct code *code, uint32_t unit)
{
    assert(unit < PART_UNITS);
    if (code->ninstrs <= FEW) {
        return &code->chains.two[unit & 1];
    }
    int shift = 32 - chain_bits(code->ninstrs);
    return &code->chains.many[(unit * TRACER_GOLDEN_32) >> shift];
}

static uint32_t *
make_chains(int bits)
{
    size_t n = (size_t)1 << bits;
    return n <= MAX_POOL_TABLE ? _PyTracer_MemTable(n)
                               : _PyTracer_MemAlloc(n * sizeof(uint32_t));
}

static void
free_chains(uint32_t *chains, int bits)
{
    assert(bits >= 1 && chains != NULL);
    size_t n = (size_t)1 << bits;
    if (bits == 1) {
        return;                   // in the record
    }
    if (n <= MAX_POOL_TABLE) {
        _PyTracer_MemFreeTable(chains, n);
        return;
    }
    _PyTracer_MemFree(chains, n * sizeof(uint32_t));
}

/* Make room for one more instruction; -1: no memory. */
static int
grow_chains(struct code *code)
{
    int bits = chain_bits(code->ninstrs);
    int more = chain_bits(code->ninstrs + 1);
    if (bits == more) {
        code->ninstrs++;
        return 0;
    }
    uint32_t *grown = make_chains(more);
    if (grown == NULL) {
        return -1;
    }
    struct code before = *code;
    uint32_t *old = chains_of(&before);
    assert(more > bits && (size_t)1 << more <= PART_UNITS);
    code->chains.many = grown;
    code->ninstrs++;
    for (uint32_t chain = 0; chain < 1u << bits; chain++) {
        uint32_t next;
        for (uint32_t i = old[chain]; i != 0; i = next) {
            uint32_t *first = chain_of(code, instrs[i - 1].unit);
            next = instrs[i - 1].next;
            instrs[i - 1].next = *first;
            *first = i;
        }
    }
    free_chains(old, bits);
    return 0;
}

/* All its instructions are free then. */
static void
drop_chains(struct code *code)
{
    int bits = chain_bits(code->ninstrs);
    uint32_t *chains = chains_of(code);
    for (uint32_t chain = 0; chain < 1u << bits; chain++) {
        uint32_t first = chains[chain];
        if (first != 0) {
            assert(first <= ninstrs);
            struct instr *last = &instrs[first - 1];
            while (last->next != 0) {
                last = &instrs[last->next - 1];
            }
            last->next = free_instrs;
            free_instrs = first;
        }
    }
    free_chains(chains, bits);
}

/* --- Records of code objects */

/* An address that belongs only to this code object. */
static uintptr_t
key_of(const PyCodeObject *object, unsigned int part)
{
    return (uintptr_t)object + part;
}

static uint32_t *
bucket_of(uintptr_t key)
{
    return &buckets[_PyTracer_Hash(key) & (code_capacity - 1)];
}

static void
link_code(uint32_t i)
{
    assert(i < ncodes && codes[i].key != 0);
    uint32_t *head = bucket_of(codes[i].key);
    codes[i].next = *head;
    *head = i + 1;
}

static struct code *
find_code(uintptr_t key)
{
    uint32_t i = *bucket_of(key);
    while (i != 0 && codes[i - 1].key != key) {
        i = codes[i - 1].next;
    }
    return i == 0 ? NULL : &codes[i - 1];
}

/* No record is free: all are linked. */
static int
grow_codes(void)
{
    assert(free_codes == 0 && ncodes == code_capacity);
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
make_code(PyCodeObject *object, uintptr_t key)
{
    assert(key != 0 && find_code(key) == NULL);
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
    codes[i] = (struct code){.key = key, .function = function};
    link_code(i);
    return &codes[i];
}

static void
drop_code(struct code *code)
{
    uint32_t i = (uint32_t)(code - codes);
    assert(i < ncodes && code->key != 0);
    uint32_t *link = bucket_of(code->key);
    while (*link != i + 1) {
        assert(*link != 0);
        link = &codes[*link - 1].next;
    }
    *link = code->next;
    drop_chains(code);
    code->key = 0;
    code->next = free_codes;
    free_codes = i + 1;
}

/* --- Instructions */

/* Location of a decoded instruction, or UINT32_MAX.  A module's top level runs
   forward, so an instruction behind all known ones is not searched for. */
static uint32_t
find_instr(struct code *code, uint32_t unit)
{
    if (unit >= code->end) {
        return UINT32_MAX;
    }
    uint32_t *first = chain_of(code, unit);
    struct instr *before = NULL;
    for (uint32_t i = *first; i != 0; i = before->next) {
        assert(i <= ninstrs);
        struct instr *instr = &instrs[i - 1];
        if (instr->unit == unit) {
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

static int
grow_instrs(void)
{
    void *grown = _PyTracer_MemDouble(instrs, &instr_capacity,
                                      sizeof(struct instr));
    if (grown == NULL) {
        return -1;
    }
    instrs = grown;
    return 0;
}

/* Without memory, it will be decoded again next time. */
static void
add_instr(struct code *code, uint32_t unit, uint32_t location)
{
    assert(unit < PART_UNITS && find_instr(code, unit) == UINT32_MAX);
    uint32_t i = free_instrs != 0 ? free_instrs - 1 : ninstrs;
    if (i + 1 == TRACER_INDEX_MAX
        || (i == instr_capacity && grow_instrs() < 0)
        || grow_chains(code) < 0)
    {
        return;
    }
    if (free_instrs != 0) {
        free_instrs = instrs[i].next;
    }
    else {
        ninstrs++;
    }
    uint32_t *first = chain_of(code, unit);
    instrs[i] = (struct instr){unit, location, *first};
    *first = i + 1;
    code->end = Py_MAX(code->end, unit + 1);
}

uint32_t
_PyTracer_LocationOf(_PyInterpreterFrame *frame)
{
    PyCodeObject *object = _PyFrame_GetCode(frame);
    int offset = _PyTracer_InstrOffset(frame);
    _PyTracer_ASSERT_LOCKED();
    assert(offset >= 0 && offset < Py_SIZE(object));
    uint32_t unit = (uint32_t)offset % PART_UNITS;
    uintptr_t key = key_of(object, (uint32_t)offset / PART_UNITS);
    struct code *code = find_code(key);
    if (code == NULL) {
        code = make_code(object, key);
        if (code == NULL) {
            return UINT32_MAX;
        }
    }
    uint32_t location = find_instr(code, unit);
    if (location == UINT32_MAX) {
        struct tracer_position pos = _PyTracer_DecodeLine(object,
                                                          &code->decoder,
                                                          offset);
        location = _PyTracer_InternLocation(code->function, &pos);
        if (location != UINT32_MAX) {
            add_instr(code, unit, location);
        }
    }
    return location;
}

/* --- Code objects die */

/* 0: nothing was known of it. */
static int
drop_parts(PyCodeObject *object)
{
    unsigned int last = (unsigned int)(Py_SIZE(object) / PART_UNITS);
    int found = 0;
    for (unsigned int part = 0; part <= last; part++) {
        struct code *code = find_code(key_of(object, part));
        if (code != NULL) {
            drop_code(code);
            found = 1;
        }
    }
    return found;
}

void
_PyTracer_CodeDealloc(PyCodeObject *object)
{
    _PyTracer_Lock();
    if (_PyTracer.tracing && drop_parts(object)) {
        uintptr_t low, high;
        _PyTracer_InstrRange(object, &low, &high);
        assert(low != 0 && low < high);
        _PyTracer_codes.epoch++;
        if (_PyTracer_codes.dead_high == 0) {
            _PyTracer_codes.dead_low = low;
        }
        _PyTracer_codes.dead_low = Py_MIN(_PyTracer_codes.dead_low, low);
        _PyTracer_codes.dead_high = Py_MAX(_PyTracer_codes.dead_high, high);
    }
    _PyTracer_Unlock();
}
