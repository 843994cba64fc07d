/* C stacks of native memory: modules, the places in their code to which calls
   return, and stacks of these, each stored once.

   A place is an address in the file of a module, so that it means the same in
   another run.  Its name is found when a report is made.  The build ID says
   whether the file is still the one that ran.  Locked, and without a lock of
   the loader. */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE             // struct dl_find_object
#endif
#include "Python.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_unwind.h"

#if TRACER_UNWINDS
#  include <elf.h>
#  include <fcntl.h>              // AT_FDCWD
#  include <link.h>               // struct link_map
#  include <sys/syscall.h>        // SYS_readlinkat
#  include <unistd.h>             // syscall()
#endif

#define INITIAL_MODULES 64
#define INITIAL_PLACES 1024
#define INITIAL_STACKS 1024
#define INITIAL_FRAMES 8192
#define FIRST_PAGE 4096           // of a module: mapped in any case

static struct tracer_native_stacks all;

void
_PyTracer_ForgetNativeStacks(void)
{
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_ForgetRules();
    _PyTracer_MemFree(all.modules, all.max_modules * sizeof(*all.modules));
    _PyTracer_MemFree(all.places, all.max_places * sizeof(*all.places));
    _PyTracer_MemFree(all.stacks, all.max_stacks * sizeof(*all.stacks));
    _PyTracer_MemFree(all.frames, all.max_frames * sizeof(*all.frames));
    if (all.place_index.buckets != NULL) {
        _PyTracer_IndexClear(&all.place_index);
    }
    if (all.stack_index.buckets != NULL) {
        _PyTracer_IndexClear(&all.stack_index);
    }
    memset(&all, 0, sizeof(all));
}

/* Room for `more` items at the end of an array; 0, or -1: no memory. */
static int
reserve(void *array, uint32_t *size, uint32_t used, uint32_t more,
        uint32_t first_size, size_t item)
{
    void **p = array;
    if (*p == NULL) {
        *p = _PyTracer_MemAlloc(first_size * item);
        *size = *p == NULL ? 0 : first_size;
    }
    while (*p != NULL && more > *size - used) {
        void *grown = *size > UINT32_MAX / 2
                      ? NULL : _PyTracer_MemDouble(*p, size, item);
        if (grown == NULL) {
            return -1;
        }
        *p = grown;
    }
    return *p == NULL ? -1 : 0;
}

static int
init_index(struct tracer_index *index)
{
    return index->buckets != NULL
           ? 0 : _PyTracer_IndexInit(index, INITIAL_PLACES);
}

/* --- Modules */

#if TRACER_UNWINDS

/* Buffers are static: the stack of a thread may be small. */

/* A path is whatever bytes the program gave.  Those that are no UTF-8 become
   surrogates, as in os.fsdecode(). */
static size_t
length_of_char(const unsigned char *p)
{
    uint32_t c = p[0];
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3
               : c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    int bad = (c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] >= 0xa0)
              || (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] >= 0x90);
    return bad ? 0 : n;
}

static void
decode_path(const char *path, char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)path;
    size_t used = 0;
    while (*p != '\0' && used + 5 <= size) {
        size_t n = length_of_char(p);
        if (n == 0) {
            text[used++] = (char)0xed;
            text[used++] = (char)(0xb0 | (*p >> 6 & 0x03));
            text[used++] = (char)(0x80 | (*p & 0x3f));
            p++;
        }
        for (; n > 0; n--) {
            text[used++] = (char)*p++;
        }
    }
    text[used] = '\0';
}

/* The loader has no name for the program itself. */
static void
read_path(const struct link_map *map, char *text, size_t size)
{
    static char program[4096];
    const char *path = map->l_name;
    if (path[0] == '\0') {
        long n = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", program,
                         sizeof(program) - 1);
        program[n < 0 ? 0 : n] = '\0';
        path = program;
    }
    decode_path(path, text, size);
}

/* A note of this type and name; its contents, NULL: there is none. */
static const char *
find_note(const char *p, const char *end, uint32_t *size)
{
    Elf64_Nhdr note;
    while ((size_t)(end - p) >= sizeof(note)) {
        memcpy(&note, p, sizeof(note));
        p += sizeof(note);
        size_t name = ((size_t)note.n_namesz + 3) & ~(size_t)3;
        size_t length = ((size_t)note.n_descsz + 3) & ~(size_t)3;
        if (name > (size_t)(end - p) || length > (size_t)(end - p) - name) {
            break;
        }
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4
            && memcmp(p, "GNU", 4) == 0)
        {
            *size = note.n_descsz;
            return p + name;
        }
        p += name + length;
    }
    return NULL;
}

/* Out of the module's memory, which begins with the headers of its file. */
static void
read_build_id(const struct dl_find_object *library,
              struct snapshot_module *module)
{
    const char *start = library->dlfo_map_start;
    const char *end = library->dlfo_map_end;
    Elf64_Ehdr header;
    if ((size_t)(end - start) < sizeof(header)) {
        return;
    }
    memcpy(&header, start, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0
        || header.e_phentsize != sizeof(Elf64_Phdr)
        || header.e_phoff > FIRST_PAGE / 2
        || header.e_phnum > FIRST_PAGE / 2 / sizeof(Elf64_Phdr)
        || (size_t)(end - start) < FIRST_PAGE)
    {
        return;
    }
    for (int i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, start + header.e_phoff + i * sizeof(segment),
               sizeof(segment));
        uintptr_t at = module->base + segment.p_vaddr;
        if (segment.p_type != PT_NOTE || at < (uintptr_t)start
            || at >= (uintptr_t)end
            || segment.p_memsz > (uintptr_t)end - at)
        {
            continue;
        }
        uint32_t size;
        const char *id = find_note((const char *)at,
                                   (const char *)at + segment.p_memsz, &size);
        if (id != NULL && size <= sizeof(module->id)) {
            memcpy(module->id, id, size);
            module->id_size = size;
            return;
        }
    }
}

static void
read_module(uintptr_t pc, struct tracer_module *module)
{
    struct dl_find_object library;
    static char text[4096];
    strcpy(text, TRACER_UNKNOWN);
    memset(module, 0, sizeof(*module));
    if (_PyTracer_find_library((void *)(pc - 1), &library) == 0) {
        module->known.base = library.dlfo_link_map->l_addr;
        read_path(library.dlfo_link_map, text, sizeof(text));
        read_build_id(&library, &module->known);
    }
    module->path = _PyTracer_InternLiteral(text);
}

#else

static void
read_module(uintptr_t Py_UNUSED(pc), struct tracer_module *module)
{
    *module = (struct tracer_module){.path = UINT32_MAX};
}

#endif

/* Number of the module at this address, UINT32_MAX: no memory.  There are a
   few hundred, and this is asked once for each return address. */
static uint32_t
find_module(uintptr_t pc)
{
    struct tracer_module module;
    read_module(pc, &module);
    if (module.path == UINT32_MAX) {
        return UINT32_MAX;
    }
    for (uint32_t i = 0; i < all.nmodules; i++) {
        if (memcmp(&all.modules[i], &module, sizeof(module)) == 0) {
            return i;
        }
    }
    if (reserve(&all.modules, &all.max_modules, all.nmodules, 1,
                INITIAL_MODULES, sizeof(module)) < 0)
    {
        return UINT32_MAX;
    }
    all.modules[all.nmodules] = module;
    return all.nmodules++;
}

/* --- Places */

static uint32_t
hash_place(uint32_t number)
{
    const struct snapshot_code *place = &all.places[number];
    return _PyTracer_Hash(place->offset ^ (uint64_t)place->module << 44);
}

static int
equal_place(uint32_t number, const void *key)
{
    const struct snapshot_code *wanted = key;
    return all.places[number].offset == wanted->offset
           && all.places[number].module == wanted->module;
}

uint32_t
_PyTracer_NativePlace(uintptr_t pc)
{
    _PyTracer_ASSERT_LOCKED();
    struct snapshot_code key = {.module = find_module(pc)};
    if (key.module == UINT32_MAX || init_index(&all.place_index) < 0
        || reserve(&all.places, &all.max_places, all.nplaces, 2,
                   INITIAL_PLACES, sizeof(key)) < 0)
    {
        return 0;
    }
    key.offset = pc - all.modules[key.module].known.base;
    all.nplaces += all.nplaces == 0;
    uint32_t id = all.nplaces;
    all.places[id] = key;
    uint32_t hash = hash_place(id);
    uint32_t found = _PyTracer_IndexFind(&all.place_index, hash, equal_place,
                                         &key);
    if (found != 0) {
        return found;
    }
    if (id + 1 == TRACER_INDEX_MAX
        || _PyTracer_IndexReserve(&all.place_index, hash_place) < 0)
    {
        return 0;
    }
    _PyTracer_IndexAdd(&all.place_index, hash, id);
    all.nplaces++;
    return id;
}

/* --- Stacks */

static uint32_t
hash_frames(const uint32_t *places, uint32_t n)
{
    uint64_t hash = n;
    for (uint32_t i = 0; i < n; i++) {
        hash = (hash ^ places[i]) * TRACER_GOLDEN_64;
        hash ^= hash >> 32;
    }
    return _PyTracer_Hash(hash);
}

static uint32_t
hash_stack(uint32_t number)
{
    const struct snapshot_stack *stack = &all.stacks[number];
    return hash_frames(&all.frames[stack->first], stack->n);
}

struct places {
    const uint32_t *places;
    uint32_t n;
};

static int
equal_stack(uint32_t number, const void *key)
{
    const struct snapshot_stack *stack = &all.stacks[number];
    const struct places *wanted = key;
    return stack->n == wanted->n
           && memcmp(&all.frames[stack->first], wanted->places,
                     wanted->n * sizeof(uint32_t)) == 0;
}

static uint32_t
add_stack(const struct places *key, uint32_t hash)
{
    if (reserve(&all.stacks, &all.max_stacks, all.nstacks, 2,
                INITIAL_STACKS, sizeof(*all.stacks)) < 0
        || reserve(&all.frames, &all.max_frames, all.nframes, key->n,
                   INITIAL_FRAMES, sizeof(*all.frames)) < 0
        || _PyTracer_IndexReserve(&all.stack_index, hash_stack) < 0)
    {
        return 0;
    }
    all.nstacks += all.nstacks == 0;
    uint32_t id = all.nstacks;
    if (id + 1 == TRACER_INDEX_MAX) {
        return 0;
    }
    all.stacks[id] = (struct snapshot_stack){all.nframes, key->n};
    memcpy(&all.frames[all.nframes], key->places, key->n * sizeof(uint32_t));
    all.nframes += key->n;
    _PyTracer_IndexAdd(&all.stack_index, hash, id);
    all.nstacks++;
    return id;
}

uint32_t
_PyTracer_NativeStack(const uint32_t *places, int n)
{
    _PyTracer_ASSERT_LOCKED();
    assert(0 <= n && n <= TRACER_MAX_C_FRAMES);
    struct places key = {places, (uint32_t)n};
    if (n == 0 || init_index(&all.stack_index) < 0) {
        return 0;
    }
    uint32_t hash = hash_frames(places, key.n);
    uint32_t found = _PyTracer_IndexFind(&all.stack_index, hash, equal_stack,
                                         &key);
    return found != 0 ? found : add_stack(&key, hash);
}

/* --- A copy */

static void *
copy_of(const void *array, uint64_t n, size_t item)
{
    void *copy = _PySnapshot_Array(n, item);
    if (copy != NULL && n > 0) {
        memcpy(copy, array, n * item);
    }
    return copy;
}

static int
copy_modules(struct snapshot_native *copy)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < all.nmodules; i++) {
        size += _PyTracer_texts.strings[all.modules[i].path].length;
    }
    copy->text = _PySnapshot_Array(size, 1);
    copy->modules = _PySnapshot_Array(all.nmodules, sizeof(*copy->modules));
    if (copy->text == NULL || copy->modules == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < all.nmodules; i++) {
        const struct tracer_string *path =
            &_PyTracer_texts.strings[all.modules[i].path];
        copy->modules[i] = all.modules[i].known;
        copy->modules[i].path = copy->text_size;
        copy->modules[i].path_size = path->length;
        memcpy(copy->text + copy->text_size, path->utf8, path->length);
        copy->text_size += path->length;
    }
    assert(copy->text_size == size);
    copy->nmodules = all.nmodules;
    return 0;
}

struct snapshot_native *
_PyTracer_CopyNativeStacks(void)
{
    _PyTracer_ASSERT_LOCKED();
    struct snapshot_native *copy = _PySnapshot_Zeroed(1, sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    copy->places = copy_of(all.places, all.nplaces, sizeof(*all.places));
    copy->stacks = copy_of(all.stacks, all.nstacks, sizeof(*all.stacks));
    copy->frames = copy_of(all.frames, all.nframes, sizeof(*all.frames));
    if (copy->places == NULL || copy->stacks == NULL || copy->frames == NULL
        || copy_modules(copy) < 0)
    {
        _PySnapshot_FreeNative(copy);
        return NULL;
    }
    copy->nplaces = all.nplaces;
    copy->nstacks = all.nstacks;
    copy->nframes = all.nframes;
    return copy;
}

/* --- Do the tables agree? */

static const char *
places_fault(void)
{
    for (uint32_t i = 0; i < all.nmodules; i++) {
        if (all.modules[i].path >= _PyTracer_texts.nstrings) {
            return "the path of a C library is no text";
        }
    }
    for (uint32_t id = 1; id < all.nplaces; id++) {
        const struct snapshot_code *place = &all.places[id];
        if (place->module >= all.nmodules) {
            return "a place in C code is in no library";
        }
        if (_PyTracer_IndexFind(&all.place_index, hash_place(id), equal_place,
                                place) != id)
        {
            return "a place in C code is not found, or there are two";
        }
    }
    return NULL;
}

static const char *
stack_fault(uint32_t id)
{
    const struct snapshot_stack *stack = &all.stacks[id];
    struct places key = {&all.frames[stack->first], stack->n};
    for (uint32_t i = 0; i < stack->n; i++) {
        if (key.places[i] == 0 || key.places[i] >= all.nplaces) {
            return "a C stack has a frame at no place";
        }
    }
    return _PyTracer_IndexFind(&all.stack_index, hash_stack(id), equal_stack,
                               &key) == id
           ? NULL : "a C stack is not found, or there are two";
}

const char *
_PyTracer_NativeStacksFault(void)
{
    const char *fault = places_fault();
    uint64_t nframes = 0;
    for (uint32_t id = 1; id < all.nstacks && fault == NULL; id++) {
        if (all.stacks[id].first != nframes) {
            return "a C stack begins elsewhere than the one before it ends";
        }
        nframes += all.stacks[id].n;
        fault = nframes > all.nframes
                ? "a C stack ends behind all frames" : stack_fault(id);
    }
    return fault != NULL || nframes == all.nframes
           ? fault : "there are frames of no C stack";
}

struct tracer_native_stacks *
_PyTracer_NativeStacks(void)
{
    return &all;
}
