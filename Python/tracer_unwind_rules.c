/* From a return address to the rule by which its frame is unwound, as the
   compiler wrote it into .eh_frame; see the DWARF standard, version 5, section
   6.4, and the Linux Standard Base for the differences.

   Only what compilers write is known: the CFA is an offset from rsp, rbp or
   rbx, or stored at an offset from rbp, where a function has aligned its
   stack; rbp and rbx are saved at offsets from the CFA.  For anything else
   there is no rule, and a stack ends there.  Frames of handlers of signals
   are left out for another reason: the code before them was interrupted
   anywhere.  No memory is read outside of the mappings of the library. */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE             // struct dl_find_object
#endif
#include "Python.h"
#include "pycore_tracer_unwind.h"

#if !TRACER_UNWINDS

int
_PyTracer_CanUnwind(void)
{
    return 0;
}

#else

#define RBX 3                     // numbers of DWARF
#define RBP 6
#define RSP 7
#define RETURN_ADDRESS 16
#define NSTATES 8                 // remembered at a time

/* Encodings of pointers: the low bits say how, those above relative to
   what. */
#define ENC_ABSPTR 0x00
#define ENC_UDATA4 0x03
#define ENC_SDATA4 0x0b
#define ENC_PCREL 0x10
#define ENC_OMIT 0xff
#define ENC_TABLE 0x3b            // of the index: 4 bytes, relative to it

/* The bytes [p, end); `failed` once any is read behind them. */
struct bytes {
    const uint8_t *p, *end;
    int failed;
};

static uint64_t
get(struct bytes *b, size_t size)
{
    uint64_t value = 0;
    if ((size_t)(b->end - b->p) < size) {
        b->failed = 1;
        b->p = b->end;
        return 0;
    }
    memcpy(&value, b->p, size);
    b->p += size;
    return value;
}

static uint64_t
get_uleb(struct bytes *b)
{
    uint64_t value = 0;
    for (unsigned int shift = 0; shift < 64; shift += 7) {
        uint64_t byte = get(b, 1);
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    b->failed = 1;
    return 0;
}

static int64_t
get_sleb(struct bytes *b)
{
    uint64_t value = 0;
    for (unsigned int shift = 0; shift < 64; ) {
        uint64_t byte = get(b, 1);
        value |= (byte & 0x7f) << shift;
        shift += 7;
        if (byte < 0x80) {
            if ((byte & 0x40) && shift < 64) {
                value |= UINT64_MAX << shift;
            }
            return (int64_t)value;
        }
    }
    b->failed = 1;
    return 0;
}

static uintptr_t
get_pointer(struct bytes *b, uint8_t encoding)
{
    uintptr_t here = (uintptr_t)b->p;
    uintptr_t value;
    switch (encoding & 0x0f) {
    case ENC_ABSPTR:
        value = get(b, sizeof(uintptr_t));
        break;
    case ENC_UDATA4:
        value = get(b, 4);
        break;
    case ENC_SDATA4:
        value = (uintptr_t)(int32_t)get(b, 4);
        break;
    default:
        b->failed = 1;
        return 0;
    }
    return (encoding & 0x70) == ENC_PCREL ? here + value : value;
}

static void
skip(struct bytes *b, uint64_t size)
{
    if ((uint64_t)(b->end - b->p) < size) {
        b->failed = 1;
        size = 0;
    }
    b->p += size;
}

/* --- Records: what functions have in common (CIE), and one for each part of a
   function (FDE) */

struct unit {
    struct bytes common;          // instructions
    struct bytes own;             // the same
    uint64_t code_factor;
    int64_t data_factor;
    uint8_t encoding;
    uintptr_t begin, size;        // of the code
};

/* The bytes of the record at p, behind its length. */
static struct bytes
open_record(const uint8_t *p, const struct dl_find_object *library)
{
    struct bytes b = {p, library->dlfo_map_end, 0};
    if (p < (const uint8_t *)library->dlfo_map_start || p >= b.end) {
        b.failed = 1;
        b.p = b.end;
        return b;
    }
    uint64_t length = get(&b, 4);
    if (length == 0 || length > (uint64_t)(b.end - b.p)) {
        b.failed = 1;
    }
    else {
        b.end = b.p + length;
    }
    return b;
}

/* 0, or -1: no rule can be made of this. */
static int
read_common(const uint8_t *p, const struct dl_find_object *library,
            struct unit *unit, int *has_augmentation)
{
    struct bytes b = open_record(p, library);
    (void)get(&b, 4);
    uint8_t version = (uint8_t)get(&b, 1);
    const char *augmentation = (const char *)b.p;
    while (!b.failed && get(&b, 1) != 0) {
    }
    unit->code_factor = get_uleb(&b);
    unit->data_factor = get_sleb(&b);
    uint64_t column = version == 1 ? get(&b, 1) : get_uleb(&b);
    if (b.failed || (version != 1 && version != 3)
        || column != RETURN_ADDRESS)
    {
        return -1;
    }
    *has_augmentation = augmentation[0] == 'z';
    if (!*has_augmentation) {
        unit->common = b;
        return augmentation[0] == '\0' ? 0 : -1;
    }
    uint64_t size = get_uleb(&b);
    unit->common = b;
    skip(&unit->common, size);
    for (const char *c = augmentation + 1; *c != '\0'; c++) {
        uint8_t encoding;
        switch (*c) {
        case 'R':
            unit->encoding = (uint8_t)get(&b, 1);
            break;
        case 'P':                 // a function for exceptions
            encoding = (uint8_t)get(&b, 1);
            (void)get_pointer(&b, encoding & 0x0f);
            break;
        case 'L':
            (void)get(&b, 1);
            break;
        default:                  // 'S': a handler of a signal returns here
            return -1;
        }
    }
    return b.failed || unit->common.failed ? -1 : 0;
}

static int
read_unit(const uint8_t *p, const struct dl_find_object *library,
          struct unit *unit)
{
    struct bytes b = open_record(p, library);
    int has_augmentation;
    const uint8_t *here = b.p;
    uint32_t distance = (uint32_t)get(&b, 4);
    if (b.failed
        || read_common(here - distance, library, unit, &has_augmentation) < 0)
    {
        return -1;
    }
    unit->begin = get_pointer(&b, unit->encoding);
    unit->size = get_pointer(&b, unit->encoding & 0x0f);
    if (has_augmentation) {
        skip(&b, get_uleb(&b));
    }
    unit->own = b;
    return b.failed ? -1 : 0;
}

/* The index of a library: pairs (code, record), in the order of the code. */
static const uint8_t *
find_record(const struct dl_find_object *library, uintptr_t pc)
{
    const uint8_t *index = library->dlfo_eh_frame;
    struct bytes b = {index, library->dlfo_map_end, 0};
    if (get(&b, 1) != 1) {
        return NULL;
    }
    uint8_t start = (uint8_t)get(&b, 1);
    uint8_t count = (uint8_t)get(&b, 1);
    uint8_t table = (uint8_t)get(&b, 1);
    if (start == ENC_OMIT || count == ENC_OMIT || table != ENC_TABLE) {
        return NULL;
    }
    (void)get_pointer(&b, start);
    size_t n = get_pointer(&b, count);
    if (b.failed || n == 0 || n > (size_t)(b.end - b.p) / 8) {
        return NULL;
    }
    size_t low = 0, high = n;
    int32_t pair[2];
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        memcpy(pair, b.p + middle * 8, 8);
        if ((uintptr_t)index + (uintptr_t)(intptr_t)pair[0] <= pc) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    memcpy(pair, b.p + low * 8, 8);
    return index + pair[1];
}

/* --- Instructions */

enum saved {
    SAVED_NOT,
    SAVED_AT,                     // at the CFA + value
    SAVED_AT_RBP,                 // at rbp + value
    SAVED_ELSEWHERE
};

struct location {
    enum saved saved;
    int64_t value;
};

struct state {
    enum tracer_base base;
    int64_t offset;
    struct location rbp, rbx, pc;
};

struct machine {
    struct state now, first;
    struct state states[NSTATES];
    int nstates;
    uintptr_t at;                 // code that the state is for
};

/* Offsets are given as multiples; a wrong one may be anything. */
static int64_t
offset_of(const struct unit *unit, uint64_t multiple)
{
    return (int64_t)(multiple * (uint64_t)unit->data_factor);
}

static enum tracer_base
base_of(uint64_t number)
{
    switch (number) {
    case RSP:
        return TRACER_BASE_RSP;
    case RBP:
        return TRACER_BASE_RBP;
    case RBX:
        return TRACER_BASE_RBX;
    default:
        return TRACER_BASE_NONE;
    }
}

static struct location *
location_of(struct state *state, uint64_t number)
{
    switch (number) {
    case RBP:
        return &state->rbp;
    case RBX:
        return &state->rbx;
    case RETURN_ADDRESS:
        return &state->pc;
    default:
        return NULL;
    }
}

static void
set_location(struct state *state, uint64_t number, enum saved saved,
             int64_t value)
{
    struct location *location = location_of(state, number);
    if (location != NULL) {
        *location = (struct location){saved, value};
    }
}

static void
restore(struct machine *m, uint64_t number)
{
    struct location *location = location_of(&m->now, number);
    if (location != NULL) {
        *location = *location_of(&m->first, number);
    }
}

/* The CFA is stored at rbp + offset: DW_OP_breg6, DW_OP_deref. */
static void
set_expression(struct state *state, struct bytes *b)
{
    uint64_t size = get_uleb(b);
    struct bytes expression = {b->p, b->p, 0};
    skip(b, size);
    expression.end = b->p;
    int is_rbp = get(&expression, 1) == 0x70 + RBP;
    int64_t offset = get_sleb(&expression);
    state->base = is_rbp && get(&expression, 1) == 0x06
                  && expression.p == expression.end && !expression.failed
                  ? TRACER_BASE_SAVED : TRACER_BASE_NONE;
    state->offset = offset;
}

/* The register is stored at rbp + value: DW_OP_breg6. */
static void
set_saved_by_expression(struct state *state, struct bytes *b)
{
    uint64_t number = get_uleb(b);
    uint64_t size = get_uleb(b);
    struct bytes expression = {b->p, b->p, 0};
    skip(b, size);
    expression.end = b->p;
    int is_rbp = get(&expression, 1) == 0x70 + RBP;
    int64_t offset = get_sleb(&expression);
    int known = is_rbp && expression.p == expression.end && !expression.failed;
    set_location(state, number, known ? SAVED_AT_RBP : SAVED_ELSEWHERE,
                 offset);
}

/* One instruction with its operands; -1: it is not known. */
static int
execute_long(struct machine *m, const struct unit *unit, struct bytes *b,
             uint8_t op)
{
    struct state *now = &m->now;
    uint64_t number;
    switch (op) {
    case 0x00:                    // DW_CFA_nop
        break;
    case 0x01:                    // DW_CFA_set_loc
        m->at = get_pointer(b, unit->encoding);
        break;
    case 0x02:                    // DW_CFA_advance_loc1, 2, 4
    case 0x03:
    case 0x04:
        m->at += get(b, (size_t)1 << (op - 2)) * unit->code_factor;
        break;
    case 0x05:                    // DW_CFA_offset_extended
        number = get_uleb(b);
        set_location(now, number, SAVED_AT, offset_of(unit, get_uleb(b)));
        break;
    case 0x06:                    // DW_CFA_restore_extended
        restore(m, get_uleb(b));
        break;
    case 0x07:                    // DW_CFA_undefined
        set_location(now, get_uleb(b), SAVED_ELSEWHERE, 0);
        break;
    case 0x08:                    // DW_CFA_same_value
        set_location(now, get_uleb(b), SAVED_NOT, 0);
        break;
    case 0x09:                    // DW_CFA_register
        set_location(now, get_uleb(b), SAVED_ELSEWHERE, 0);
        (void)get_uleb(b);
        break;
    case 0x0a:                    // DW_CFA_remember_state
        if (m->nstates == NSTATES) {
            return -1;
        }
        m->states[m->nstates++] = *now;
        break;
    case 0x0b:                    // DW_CFA_restore_state
        if (m->nstates == 0) {
            return -1;
        }
        *now = m->states[--m->nstates];
        break;
    case 0x0c:                    // DW_CFA_def_cfa
        now->base = base_of(get_uleb(b));
        now->offset = (int64_t)get_uleb(b);
        break;
    case 0x0d:                    // DW_CFA_def_cfa_register
        now->base = base_of(get_uleb(b));
        break;
    case 0x0e:                    // DW_CFA_def_cfa_offset
        now->offset = (int64_t)get_uleb(b);
        break;
    case 0x0f:                    // DW_CFA_def_cfa_expression
        set_expression(now, b);
        break;
    case 0x10:                    // DW_CFA_expression
        set_saved_by_expression(now, b);
        break;
    case 0x11:                    // DW_CFA_offset_extended_sf
        number = get_uleb(b);
        set_location(now, number, SAVED_AT,
                     offset_of(unit, (uint64_t)get_sleb(b)));
        break;
    case 0x12:                    // DW_CFA_def_cfa_sf
        now->base = base_of(get_uleb(b));
        now->offset = offset_of(unit, (uint64_t)get_sleb(b));
        break;
    case 0x13:                    // DW_CFA_def_cfa_offset_sf
        now->offset = offset_of(unit, (uint64_t)get_sleb(b));
        break;
    case 0x16:                    // DW_CFA_val_expression
        set_location(now, get_uleb(b), SAVED_ELSEWHERE, 0);
        skip(b, get_uleb(b));
        break;
    case 0x2e:                    // DW_CFA_GNU_args_size
        (void)get_uleb(b);
        break;
    default:
        return -1;
    }
    return 0;
}

/* Until the state is that for the code at pc, or at the end. */
static int
execute(struct machine *m, const struct unit *unit, struct bytes b,
        uintptr_t pc)
{
    while (b.p < b.end) {
        struct state before = m->now;
        uint8_t op = (uint8_t)get(&b, 1);
        uint8_t operand = op & 0x3f;
        int result = 0;
        switch (op >> 6) {
        case 1:                   // DW_CFA_advance_loc
            m->at += operand * unit->code_factor;
            break;
        case 2:                   // DW_CFA_offset
            set_location(&m->now, operand, SAVED_AT,
                         offset_of(unit, get_uleb(&b)));
            break;
        case 3:                   // DW_CFA_restore
            restore(m, operand);
            break;
        default:
            result = execute_long(m, unit, &b, op);
        }
        if (result < 0 || b.failed) {
            return -1;
        }
        if (m->at > pc) {
            m->now = before;
            break;
        }
    }
    return 0;
}

/* 0, or -1: it is saved in a way that no rule can say. */
static int
pack(const struct location *location, enum tracer_base base, int32_t *saved)
{
    *saved = TRACER_NOT_SAVED;
    if (location->saved == SAVED_NOT) {
        return 0;
    }
    if (location->saved != (base == TRACER_BASE_SAVED ? SAVED_AT_RBP
                                                      : SAVED_AT)
        || location->value < INT32_MIN
        || location->value >= TRACER_NOT_SAVED
        || location->value % (int64_t)sizeof(uintptr_t) != 0)
    {
        return -1;
    }
    *saved = (int32_t)location->value;
    return 0;
}

int (*_PyTracer_find_library)(void *, struct dl_find_object *);

int
_PyTracer_CanUnwind(void)
{
    // Each thread finds the same.
    void *function = dlsym(RTLD_DEFAULT, "_dl_find_object");
    _Py_atomic_store_ptr_relaxed(&_PyTracer_find_library, function);
    return function != NULL;
}

struct tracer_rule
_PyTracer_FindRule(uintptr_t pc)
{
    struct tracer_rule none = {.base = TRACER_BASE_NONE};
    struct dl_find_object library;
    struct unit unit = {.encoding = ENC_ABSPTR};
    uintptr_t call = pc - 1;      // a call may be the last instruction
    if (_PyTracer_find_library((void *)call, &library) != 0
        || library.dlfo_eh_frame == NULL)
    {
        return none;
    }
    const uint8_t *record = find_record(&library, call);
    if (record == NULL || read_unit(record, &library, &unit) < 0
        || call - unit.begin >= unit.size)
    {
        return none;
    }
    struct machine m = {.at = unit.begin};
    if (execute(&m, &unit, unit.common, UINTPTR_MAX) < 0) {
        return none;
    }
    m.first = m.now;
    m.at = unit.begin;
    struct tracer_rule rule;
    if (execute(&m, &unit, unit.own, call) < 0
        || m.now.pc.saved != SAVED_AT || m.now.pc.value != -8
        || m.now.offset < INT32_MIN || m.now.offset > INT32_MAX
        || m.now.offset % (int64_t)sizeof(uintptr_t) != 0)
    {
        return none;
    }
    rule.base = m.now.base;
    rule.offset = (int32_t)m.now.offset;
    return pack(&m.now.rbp, rule.base, &rule.rbp) < 0
           || pack(&m.now.rbx, rule.base, &rule.rbx) < 0 ? none : rule;
}

#endif
