/* Which library may hold the objects that only C code holds.

   C code keeps references in static variables.  So the writable data of all
   libraries is searched for addresses of objects with surplus references.
   Then the stack of the thread that takes the snapshot is searched; how much
   of other threads' stacks is in use is not known.  If there are interpreters
   that could not be walked, objects that no walk has reached count as theirs.

   A word that is found is a candidate, not a proof: it may be an old value.  A
   library is never given more references to an object than the object's
   surplus, so exact counts stay exact.  A library that is found becomes an
   object of the graph that refers to the objects it may hold.

   A library may be unloaded after the libraries were listed and before they
   are read.  So the kernel is asked to read the memory, and reads nothing
   where nothing is mapped.  This needs no GIL and no memory from malloc(), as
   it also runs in a child (tracer_heap_child.c). */

#include "Python.h"
#include "pycore_runtime.h"       // _PyRuntime
#include "pycore_tracer_heap.h"

#ifdef __linux__
#include <errno.h>
#include <link.h>                 // dl_iterate_phdr()
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>              // struct iovec
#include <unistd.h>

#define CHUNK (256 * 1024)
#define PAGE 4096                 // or larger: then more is tried

/* --- Before the moment */

static int
grow(void *array, size_t *size, size_t wanted, size_t item)
{
    void **p = array;
    if (wanted <= *size) {
        return 0;
    }
    void *grown = realloc(*p, wanted * 2 * item);
    if (grown == NULL) {
        return -1;
    }
    *p = grown;
    *size = wanted * 2;
    return 0;
}

/* The "libfoo.so.1" of a path; for an extension module, without the platform
   tags. */
static size_t
add_name(struct tracer_segments *segments, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    const char *tag = strstr(name, ".cpython-");
    const char *rest = tag == NULL ? "" : ".so";
    size_t length = tag == NULL ? strlen(name) : (size_t)(tag - name);
    size_t offset = segments->names_used;
    if (grow(&segments->names, &segments->names_size, offset + length + 4, 1)
        < 0)
    {
        return SIZE_MAX;
    }
    char *p = segments->names + offset;
    memcpy(p, name, length);
    strcpy(p + length, rest);
    segments->names_used += length + strlen(rest) + 1;
    return offset;
}

static int
add_segment(struct tracer_segments *segments, uintptr_t begin, uintptr_t end,
            size_t name, enum tracer_segment_kind kind)
{
    if (grow(&segments->list, &segments->size, segments->n + 1,
             sizeof(*segments->list)) < 0)
    {
        return -1;
    }
    segments->list[segments->n++] = (struct tracer_segment){begin, end, name,
                                                            kind};
    return 0;
}

static int
has_runtime(const struct dl_phdr_info *info)
{
    uintptr_t runtime = (uintptr_t)&_PyRuntime - info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD
            && runtime - info->dlpi_phdr[i].p_vaddr
               < info->dlpi_phdr[i].p_memsz)
        {
            return 1;
        }
    }
    return 0;
}

/* Callback of dl_iterate_phdr(): 0, go on. */
static int
add_library(struct dl_phdr_info *info, size_t Py_UNUSED(size), void *arg)
{
    struct tracer_segments *segments = arg;
    int interpreter = has_runtime(info);
    size_t name = add_name(segments, interpreter ? "the interpreter"
                           : info->dlpi_name[0] == '\0' ? "the program"
                           : info->dlpi_name);
    if (name == SIZE_MAX) {
        return 1;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_W)) {
            continue;
        }
        uintptr_t begin = info->dlpi_addr + header->p_vaddr;
        if (add_segment(segments, begin, begin + header->p_memsz, name,
                        interpreter ? TRACER_SEGMENT_INTERPRETER
                                    : TRACER_SEGMENT_LIBRARY) < 0)
        {
            return 1;
        }
    }
    return 0;
}

static void
add_stack(struct tracer_segments *segments, uintptr_t begin)
{
    pthread_attr_t attributes;
    void *least;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return;
    }
    if (pthread_attr_getstack(&attributes, &least, &size) == 0
        && begin - (uintptr_t)least < size)
    {
        size_t name = add_name(segments, "a function that runs");
        if (name != SIZE_MAX) {
            (void)add_segment(segments, begin, (uintptr_t)least + size, name,
                              TRACER_SEGMENT_STACK);
        }
    }
    (void)pthread_attr_destroy(&attributes);
}

static void
add_interpreters(struct tracer_segments *segments)
{
    if (PyInterpreterState_Next(PyInterpreterState_Head()) == NULL) {
        return;
    }
    size_t name = add_name(segments,
                           "another interpreter, with a GIL of its own");
    uintptr_t nowhere = (uintptr_t)&_PyRuntime;
    if (name != SIZE_MAX) {
        (void)add_segment(segments, nowhere, nowhere, name,
                          TRACER_SEGMENT_OTHERS);
    }
}

/* The stack above this frame is in use as long as the caller runs. */
void
_PyTracer_ListSegments(struct tracer_segments *segments)
{
    (void)dl_iterate_phdr(add_library, segments);
    add_stack(segments, (uintptr_t)__builtin_frame_address(0));
    add_interpreters(segments);
}

void
_PyTracer_FreeSegments(struct tracer_segments *segments)
{
    free(segments->list);
    free(segments->names);
    *segments = (struct tracer_segments){NULL};
}

/* --- Objects to look for */

struct wanted {
    uintptr_t address;            // 0: none
    uint32_t object;
    uint32_t left;                // references
};

struct scan {
    struct tracer_heap *heap;
    struct wanted *wanted;        // hash table
    uint64_t nwanted, mask;
    uintptr_t least, most;        // addresses
    uintptr_t *types;             // static ones, which are known
    uint32_t ntypes;
    uintptr_t *buffer;
    pid_t pid;
    int refused;                  // the kernel does not read for us
    const struct tracer_segments *segments;
    const struct tracer_segment *segment;
    uint32_t library;             // its number, or 0
};

/* The references of some objects are not counted: without the GIL, or where no
   walk has been.  Such an object has one for C code if nothing else refers to
   it. */
static uint8_t *
find_referred(const struct snapshot_graph *g)
{
    uint8_t *referred = _PyTracer_HeapArray(g->nobjects, 1);
    for (uint64_t i = 0; referred != NULL && i < g->nreferences; i++) {
        referred[g->references[i]] = 1;
    }
    return referred;
}

static uint32_t
references_left(const struct tracer_heap *heap, uint32_t i, int referred)
{
    const struct snapshot_object *object = &heap->graph->objects[i];
    if (object->surplus == SNAPSHOT_IMMORTAL
        || heap->shapes.list[object->shape].kind == SNAPSHOT_OTHER_INTERPRETER)
    {
        return 0;
    }
    return object->surplus == SNAPSHOT_UNCOUNTED ? !referred
                                                 : object->surplus;
}

static inline struct wanted *
slot_of(const struct scan *scan, uintptr_t address)
{
    uint64_t i = (address * TRACER_GOLDEN_64) >> 32;
    while (scan->wanted[i & scan->mask].address != address
           && scan->wanted[i & scan->mask].address != 0)
    {
        i++;
    }
    return &scan->wanted[i & scan->mask];
}

static void
want(struct scan *scan, uint32_t object, uint32_t left)
{
    uintptr_t address = scan->heap->graph->objects[object].address;
    assert(slot_of(scan, address)->address == 0);     // no two objects there
    *slot_of(scan, address) = (struct wanted){address, object, left};
    scan->least = Py_MIN(scan->least, address);
    scan->most = Py_MAX(scan->most, address);
}

/* The references of static types are in the graph already. */
static int
is_static_type(const struct tracer_heap *heap,
               const struct snapshot_object *object)
{
    return heap->shapes.list[object->shape].kind == SNAPSHOT_TYPE
           && object->text != SNAPSHOT_NONE;
}

static int
list_wanted(struct scan *scan)
{
    const struct snapshot_graph *g = scan->heap->graph;
    uint8_t *referred = find_referred(g);
    uint64_t size = 16;
    if (referred == NULL) {
        return -1;
    }
    for (uint32_t i = SNAPSHOT_NFIXED; i < g->nobjects; i++) {
        scan->nwanted += references_left(scan->heap, i, referred[i]) != 0;
        scan->ntypes += is_static_type(scan->heap, &g->objects[i]);
    }
    while (size < scan->nwanted * 4) {
        size *= 2;
    }
    scan->mask = size - 1;
    scan->wanted = _PyTracer_HeapArray(size, sizeof(*scan->wanted));
    scan->types = _PyTracer_HeapArray(scan->ntypes, sizeof(*scan->types));
    scan->buffer = _PyTracer_HeapArray(CHUNK, 1);
    if (scan->wanted == NULL || scan->types == NULL || scan->buffer == NULL) {
        _PySnapshot_Release(referred);
        return -1;
    }
    scan->least = UINTPTR_MAX;
    scan->ntypes = 0;
    for (uint32_t i = SNAPSHOT_NFIXED; i < g->nobjects; i++) {
        uint32_t left = references_left(scan->heap, i, referred[i]);
        if (left != 0) {
            want(scan, i, left);
        }
        if (is_static_type(scan->heap, &g->objects[i])) {
            scan->types[scan->ntypes++] = g->objects[i].address;
        }
    }
    _PySnapshot_Release(referred);
    return 0;
}

/* --- Reading */

static size_t
read_memory(struct scan *scan, uintptr_t from, size_t size)
{
    struct iovec to = {scan->buffer, size};
    struct iovec source = {(void *)from, size};
    ssize_t n = syscall(SYS_process_vm_readv, scan->pid, &to, 1, &source, 1,
                        0);
    scan->refused |= n < 0 && errno != EFAULT;
    return n < 0 ? 0 : (size_t)n;
}

/* Remove the words in [begin, begin + size) from the buffer. */
static void
blank(struct scan *scan, uintptr_t at, size_t n, uintptr_t begin, size_t size)
{
    uintptr_t first = Py_MAX(at, begin);
    uintptr_t last = Py_MIN(at + n, begin + size);
    if (first < last) {
        memset((char *)scan->buffer + (first - at), 0, last - first);
    }
}

static void
add_library_of(struct scan *scan)
{
    static const char *const no_names[] = {NULL};
    struct tracer_heap *heap = scan->heap;
    const char *name = scan->segments->names + scan->segment->name;
    uint32_t shape = _PyTracer_ShapeOfNames(heap, SNAPSHOT_STATE, no_names, 0);
    uintptr_t begin = scan->segment->begin & ~(uintptr_t)7;
    uint32_t number = _PyTracer_NewHeapObject(
        heap, (const void *)begin, _PyTracer_HeapSlot(&heap->index, begin));
    if (heap->failed) {
        return;
    }
    struct snapshot_object *library = &heap->graph->objects[number];
    library->first = heap->graph->nreferences;
    library->shape = shape;
    library->surplus = 1;         // the root holds it
    library->text = _PyTracer_AddText(heap, name, strlen(name));
    scan->library = number;
}

static void
hold(struct scan *scan, struct wanted *wanted)
{
    struct tracer_heap *heap = scan->heap;
    struct snapshot_graph *g = heap->graph;
    if (scan->library == 0) {
        add_library_of(scan);
    }
    if (heap->failed || (g->nreferences == heap->references_size
                         && _PyTracer_MoreReferences(heap) < 0))
    {
        return;
    }
    assert(g->objects[wanted->object].surplus != 0);
    g->references[g->nreferences++] = wanted->object;
    g->objects[wanted->object].surplus -=
        g->objects[wanted->object].surplus != SNAPSHOT_UNCOUNTED;
    wanted->left--;
}

static void
look(struct scan *scan, uintptr_t at, size_t n)
{
    blank(scan, at, n, (uintptr_t)&_PyRuntime._main_interpreter,
          sizeof(_PyRuntime._main_interpreter));
    for (uint32_t i = 0; i < scan->ntypes; i++) {
        blank(scan, at, n, scan->types[i], sizeof(PyTypeObject));
    }
    for (size_t i = 0; i < n / sizeof(uintptr_t); i++) {
        uintptr_t word = scan->buffer[i];
        if (word - scan->least > scan->most - scan->least) {
            continue;
        }
        struct wanted *wanted = slot_of(scan, word);
        if (wanted->address == word && wanted->left > 0) {
            hold(scan, wanted);
        }
    }
}

static void
scan_segment(struct scan *scan)
{
    uintptr_t p = (scan->segment->begin + 7) & ~(uintptr_t)7;
    uintptr_t end = scan->segment->end;
    while (p < end && !scan->refused && !scan->heap->failed) {
        size_t n = read_memory(scan, p, Py_MIN(end - p, CHUNK));
        uintptr_t page = (p | (PAGE - 1)) + 1;
        if (n == 0) {
            n = read_memory(scan, p, Py_MIN(end, page) - p);
        }
        look(scan, p, n);
        p = n == 0 ? page : p + n;
    }
}

/* Objects that no walk has reached, and that no library may hold. */
static void
hold_unreached(struct scan *scan)
{
    const struct tracer_heap *heap = scan->heap;
    uint32_t n = heap->graph->nobjects;
    for (uint32_t i = heap->nwalked; i < n && !heap->failed; i++) {
        uintptr_t address = heap->graph->objects[i].address;
        struct wanted *wanted = slot_of(scan, address);
        if (wanted->address == address && wanted->left > 0) {
            hold(scan, wanted);
        }
    }
}

/* --- All of it */

void
_PyTracer_ScanSegments(struct tracer_heap *heap,
                       const struct tracer_segments *segments)
{
    struct scan scan = {.heap = heap, .segments = segments,
                        .pid = (pid_t)syscall(SYS_getpid)};
    int result = heap->failed || segments->n == 0 ? -1 : list_wanted(&scan);
    for (int kind = 0; result == 0 && kind < TRACER_NSEGMENTS; kind++) {
        for (size_t i = 0; i < segments->n; i++) {
            const struct tracer_segment *segment = &segments->list[i];
            if (scan.segment == NULL || scan.segment->name != segment->name) {
                scan.library = 0;
            }
            if ((int)segment->kind != kind) {
                continue;
            }
            scan.segment = segment;
            if (kind == TRACER_SEGMENT_OTHERS) {
                if (heap->interpreters->nleft_out > 0) {
                    hold_unreached(&scan);
                }
            }
            else {
                scan_segment(&scan);
            }
        }
    }
    _PySnapshot_Release(scan.wanted);
    _PySnapshot_Release(scan.types);
    _PySnapshot_Release(scan.buffer);
}

#else

void
_PyTracer_ListSegments(struct tracer_segments *segments)
{
}

void
_PyTracer_FreeSegments(struct tracer_segments *segments)
{
}

void
_PyTracer_ScanSegments(struct tracer_heap *heap,
                       const struct tracer_segments *segments)
{
}

#endif
