/* Fuzz target: rules out of the .eh_frame of a library, a stack that is
   unwound by them, and the build ID in the headers of the library.  See
   Tools/fuzz/run.

   An input is the size of the library, the place of its index, a return
   address, the library and the stack; see the structure below.  Both are put
   into blocks of their size, so that the sanitizer notices each access to what
   is outside of them. */

#include "../../Python/tracer_unwind_rules.c"
#include "../../Python/tracer_unwind.c"
#include "../../Python/tracer_native_stacks.c"

#if TRACER_UNWINDS

#define MOST_STEPS 1000

struct input {
    uint16_t library_size;
    uint16_t index;               // .eh_frame_hdr: an offset in the library
    int32_t pc;                   // an offset, too
};

/* The loader knows one library: ours. */
static struct dl_find_object library;

static int
find_library(void *Py_UNUSED(address), struct dl_find_object *result)
{
    *result = library;
    return 0;
}

static void
check(int is_true)
{
    if (!is_true) {
        abort();
    }
}

/* A copy in a block of its size. */
static void *
copy_bytes(const uint8_t *data, size_t size)
{
    void *copy = malloc(size == 0 ? 1 : size);
    check(copy != NULL);
    memcpy(copy, data, size);
    return copy;
}

/* What numbers of 32 bits mean on the stack: the low bits say whether an
   address on it, one in the library, or the number itself. */
static uintptr_t
decode(int32_t number, uintptr_t stack)
{
    uintptr_t value = (uintptr_t)(intptr_t)(number >> 2);
    switch (number & 3) {
    case 0:
        return stack + value;
    case 1:
        return (uintptr_t)library.dlfo_map_start + value;
    default:
        return value;
    }
}

static void
unwind(uintptr_t pc, const uint8_t *data, size_t size)
{
    size_t n = size / sizeof(int32_t);
    uintptr_t *words = malloc(n * sizeof(*words));
    check(words != NULL);
    uintptr_t low = (uintptr_t)words;
    for (size_t i = 0; i < n; i++) {
        int32_t number;
        memcpy(&number, data + i * sizeof(number), sizeof(number));
        words[i] = decode(number, low);
    }
    struct frame frame = {.pc = pc, .end = low + n * sizeof(*words)};
    frame.at[TRACER_BASE_RSP] = low;
    frame.at[TRACER_BASE_RBP] = n > 0 ? words[0] : 0;
    frame.at[TRACER_BASE_RBX] = n > 1 ? words[1] : 0;
    int steps = 0;
    while (n > 0 && steps < MOST_STEPS) {
        struct tracer_rule rule = _PyTracer_FindRule(frame.pc);
        uintptr_t sp = frame.at[TRACER_BASE_RSP];
        uintptr_t cfa = cfa_of(&frame, &rule);
        if (cfa == 0) {
            break;
        }
        check(sp < cfa && cfa <= frame.end);
        leave_frame(&frame, &rule, cfa);
        steps++;
    }
    check((size_t)steps <= n);
    free(words);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input;
    if (size < sizeof(input)) {
        return 0;
    }
    memcpy(&input, data, sizeof(input));
    _PyTracer_find_library = find_library;
    data += sizeof(input);
    size -= sizeof(input);
    size_t n = input.library_size < size ? input.library_size : size;
    uint8_t *start = copy_bytes(data, n);
    library = (struct dl_find_object){
        .dlfo_map_start = start, .dlfo_map_end = start + n,
        .dlfo_eh_frame = input.index < n ? start + input.index : NULL,
    };
    unwind((uintptr_t)start + (uintptr_t)(intptr_t)input.pc, data + n,
           size - n);
    struct snapshot_module module = {.base = (uintptr_t)start};
    read_build_id(&library, &module);
    check(module.id_size <= sizeof(module.id));
    free(start);
    return 0;
}

#else

int
LLVMFuzzerTestOneInput(const uint8_t *Py_UNUSED(data), size_t Py_UNUSED(size))
{
    return 0;
}

#endif
