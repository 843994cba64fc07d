/* Fuzz target: the reader of native snapshot files, and what is done with the
   arrays that it lets through; written again, they must be the same.  See
   Tools/fuzz/run.

   An input that begins as a snapshot file is one.  One that begins as a kept
   call tree has the header of one, and the beginnings of its arrays.  Of any
   other, the first bytes are the lengths of sections and the rest is what they
   hold: so the fuzzer changes records without having to fix the headers. */

#include "format.h"
#include "graph.h"
#include "pycore_tracer_kept.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* By one of the keys. */
static void
group(struct tracer_snapshot *s, size_t choice)
{
    enum snapshot_key key = choice / 2 % (SNAPSHOT_BY_ADDRESS + 1);
    int cumulative = choice % 2 && key < SNAPSHOT_BY_TRACEBACK;
    uint8_t *lines = calloc((size_t)s->nlocations + 1, 1);
    for (uint32_t i = 0; lines != NULL && i < s->nlocations; i++) {
        lines[i] = i % 3 != 0;
    }
    struct snapshot_groups result;
    if (_PySnapshot_Group(s, key, cumulative, cumulative ? lines : NULL,
                          choice % 3 == 0, &result) == 0)
    {
        _PySnapshot_Release(result.groups);
    }
    _PySnapshot_Free(lines == NULL ? NULL : _PySnapshot_SelectLines(s, lines));
    free(lines);
}

static void
order(struct tracer_snapshot *s)
{
    struct snapshot_groups groups;
    uint32_t n;
    if (_PySnapshot_Group(s, SNAPSHOT_BY_TRACEBACK, 0, NULL, 0, &groups) == 0) {
        _PySnapshot_Release(_PySnapshot_Order(s, &groups, SNAPSHOT_SIZE, &n));
        _PySnapshot_Release(groups.groups);
    }
    _PySnapshot_Release(_PySnapshot_OrderBlocks(s));
}

static void
filter(struct tracer_snapshot *s, size_t choice)
{
    uint8_t *names = calloc((size_t)s->nstrings + 1, 1);
    struct snapshot_filter filters[] = {
        {.filenames = names, .line = -1, .all_frames = 1},
        {.line = -1, .inclusive = 1, .by_domain = s->has_blocks != 0},
    };
    struct tracer_snapshot *left =
        names == NULL ? NULL : _PySnapshot_Filter(s, filters, 2);
    if (left != NULL) {
        group(left, choice);
    }
    _PySnapshot_Free(left);
    free(names);
}

static void
fold(struct tracer_snapshot *s, size_t choice)
{
    uint8_t *kinds = calloc((size_t)s->nstrings + 1, 1);
    for (uint32_t i = 0; kinds != NULL && i < s->nstrings; i++) {
        kinds[i] = (uint8_t)((i + choice) % SNAPSHOT_NFOLDS);
    }
    struct tracer_snapshot *folded =
        kinds == NULL ? NULL : _PySnapshot_Fold(
            s, kinds, choice % 3 == 0 ? kinds : NULL, "rest", 4, choice % 2);
    if (folded != NULL) {
        group(folded, choice);
    }
    _PySnapshot_Free(folded);
    free(kinds);
}

/* Who holds what: of every third object, and of groups by type. */
static void
hold(struct tracer_snapshot *s)
{
    struct snapshot_heap *heap = NULL;
    if (s->graph != NULL && _PySnapshot_Truncate(s) == 0
        && _PySnapshot_Unpack(s) == 0)
    {
        heap = _PySnapshot_NewHeap(s);
    }
    if (heap == NULL) {
        return;
    }
    uint32_t n = heap->g->nobjects;
    struct snapshot_holders holders = {0};
    struct snapshot_root_paths paths = {0};
    uint64_t bytes;
    uint8_t *marked = calloc(n, 1);
    uint32_t *labels = calloc(n, sizeof(*labels));
    struct snapshot_retained *sums = calloc(n, sizeof(*sums));
    for (uint32_t i = SNAPSHOT_NFIXED; i < n; i++) {
        marked[i] = i % 3 == 0 && heap->dominators[i] != SNAPSHOT_NONE;
        labels[i] = i % 5 == 0 ? SNAPSHOT_NONE : heap->g->objects[i].type;
    }
    if (_PySnapshot_Holders(heap, &holders) == 0) {
        _PySnapshot_Release(holders.holders);
    }
    (void)_PySnapshot_Retained(heap, labels, n, sums);
    (void)_PySnapshot_RetainedBySet(heap, marked, &bytes);
    if (_PySnapshot_RootPaths(heap, marked, &paths) == 0) {
        _PySnapshot_FreeRootPaths(&paths);
    }
    free(marked);
    free(labels);
    free(sums);
    _PySnapshot_FreeHeap(heap);
}

static void
check(int right)
{
    if (!right) {
        abort();
    }
}

/* The end of the character at p, as in RFC 3629 but for NUL and surrogates;
   written without GLib, which the reader asks. */
static const uint8_t *
skip_character(const uint8_t *p, const uint8_t *end)
{
    uint8_t c = p[0];
    if (c < 0x80) {
        return p + 1;
    }
    int n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    check(c >= 0xc2 && c <= 0xf4 && end - p >= n);
    for (int i = 1; i < n; i++) {
        check((p[i] & 0xc0) == 0x80);
    }
    /* Neither longer than needed nor beyond U+10FFFF. */
    check(!(c == 0xe0 && p[1] < 0xa0) && !(c == 0xf0 && p[1] < 0x90)
          && !(c == 0xf4 && p[1] > 0x8f));
    return p + n;
}

static void
check_strings(const struct tracer_snapshot *s)
{
    for (uint32_t i = 0; i < s->nstrings; i++) {
        const uint8_t *p = (const uint8_t *)s->text + s->strings[i].offset;
        const uint8_t *end = p + s->strings[i].length;
        while (p < end) {
            p = skip_character(p, end);
        }
    }
}

/* The file of a snapshot; *size is its size. */
static uint8_t *
write_file(const struct tracer_snapshot *s, size_t *size)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("snapshot", 0);
        check(fd >= 0);
    }
    check(ftruncate(fd, 0) == 0);
    const struct snapshot_beside beside = {"{}", 2, s->notes, s->nnotes};
    check(_PySnapshot_Write(s, fd, &beside) == 0);
    off_t end = lseek(fd, 0, SEEK_END);
    uint8_t *image = malloc((size_t)end);
    check(image != NULL && pread(fd, image, (size_t)end, 0) == end);
    *size = (size_t)end;
    return image;
}

static void
check_block(const struct tracer_snapshot *a, const struct tracer_snapshot *b,
            uint64_t i)
{
    const struct snapshot_block *x = &a->blocks[i];
    const struct snapshot_block *y = &b->blocks[i];
    check(x->address == y->address && x->size == y->size
          && x->class_ == y->class_);
    check(memcmp(_PySnapshot_Measures(a, x->node),
                 _PySnapshot_Measures(b, y->node),
                 sizeof(*a->measures)) == 0);
    uint32_t m = x->node;
    uint32_t n = y->node;
    while (m != SNAPSHOT_NONE && n != SNAPSHOT_NONE) {
        check(a->nodes[m].location == b->nodes[n].location
              && a->nodes[m].nframe == b->nodes[n].nframe);
        m = a->nodes[m].parent;
        n = b->nodes[n].parent;
    }
    check(m == n);
}

static void
check_held(const struct tracer_snapshot *a, const struct tracer_snapshot *b,
           uint64_t i)
{
    const struct snapshot_held *x = &a->held[i];
    const struct snapshot_held *y = &b->held[i];
    check(x->moment == y->moment && x->size == y->size
          && x->count == y->count);
    check(a->nodes[x->node].location == b->nodes[y->node].location);
}

/* A graph is read as it was written, place by place. */
static void
check_graph(const struct tracer_snapshot *s,
            const struct tracer_snapshot *again)
{
    const struct snapshot_graph *a = _PySnapshot_Graph(s);
    const struct snapshot_graph *b = _PySnapshot_Graph(again);
    check((a == NULL) == (b == NULL));
    if (a == NULL) {
        return;
    }
    check(a->nobjects == b->nobjects && a->nreferences == b->nreferences
          && a->nshapes == b->nshapes && a->nnames == b->nnames
          && a->nbuffers == b->nbuffers && a->has_keys == b->has_keys);
    check(memcmp(a->objects, b->objects,
                 ((size_t)a->nobjects + 1) * sizeof(*a->objects)) == 0);
    check(memcmp(a->references, b->references,
                 a->nreferences * sizeof(*a->references)) == 0);
    check(memcmp(a->shapes, b->shapes, a->nshapes * sizeof(*a->shapes)) == 0);
    check(memcmp(a->names, b->names, a->nnames * sizeof(*a->names)) == 0);
    for (uint64_t i = 0; i < a->nbuffers; i++) {
        check(a->buffers[i].address == b->buffers[i].address
              && a->buffers[i].object == b->buffers[i].object);
    }
}

/* What a graph that was read promises: all numbers are of something. */
static void
check_numbers(const struct tracer_snapshot *s)
{
    const struct snapshot_graph *graph = _PySnapshot_Graph(s);
    check(graph->nobjects >= SNAPSHOT_NFIXED && graph->objects[0].first == 0);
    check(graph->objects[graph->nobjects].first == graph->nreferences);
    for (uint32_t i = 0; i < graph->nobjects; i++) {
        const struct snapshot_object *object = &graph->objects[i];
        check(object->type < graph->nobjects
              && object->shape < graph->nshapes
              && (object->text < s->nstrings
                  || object->text == SNAPSHOT_NONE)
              && object[1].first >= object->first
              && object[1].first - object->first
                 >= graph->shapes[object->shape].n);
    }
    for (uint64_t i = 0; i < graph->nreferences; i++) {
        check(graph->references[i] < graph->nobjects);
    }
    for (uint32_t i = 0; i < graph->nshapes; i++) {
        const struct snapshot_shape *shape = &graph->shapes[i];
        check(shape->kind < SNAPSHOT_NOBJECT_KINDS
              && shape->first <= graph->nnames
              && shape->n <= graph->nnames - shape->first
              && (i >= SNAPSHOT_NFIXED_SHAPES
                  || (shape->kind == i && shape->n == 0)));
    }
    for (uint32_t i = 0; i < graph->nnames; i++) {
        check(graph->names[i] < s->nstrings);
    }
    for (uint64_t i = 0; i < graph->nbuffers; i++) {
        check(graph->buffers[i].object < graph->nobjects);
    }
}

/* Notes are in order, and are read as they were written. */
static void
check_notes(const struct tracer_snapshot *s,
            const struct tracer_snapshot *again)
{
    check(s->nnotes <= SNAPSHOT_NOTES && s->nnotes == again->nnotes);
    check(s->nnotes == 0
          || memcmp(s->notes, again->notes,
                    s->nnotes * sizeof(*s->notes)) == 0);
    for (uint32_t i = 0; i < s->nnotes; i++) {
        const struct snapshot_note *note = &s->notes[i];
        check(note->traced >= 0 && note->most_traced >= note->traced
              && note->rss >= 0 && note->most_rss >= note->rss
              && note->peak >= 0 && note->blocks >= 0
              && note->time >= (i == 0 ? 0 : note[-1].time));
    }
}

static void
check_pools(const struct tracer_snapshot *s,
            const struct tracer_snapshot *again)
{
    check(s->npools == again->npools && s->pool_size == again->pool_size);
    for (uint32_t i = 0; i < s->npools; i++) {
        const struct snapshot_pool *a = &s->pools[i];
        const struct snapshot_pool *b = &again->pools[i];
        check(a->address == b->address && a->block_size == b->block_size
              && a->room == b->room && a->used == b->used);
        check(a->used > 0 && a->used <= a->room);
    }
}

/* C stacks are read as they were written, and all numbers are of something. */
static void
check_native(const struct tracer_snapshot *s,
             const struct tracer_snapshot *again)
{
    const struct snapshot_native *a = s->native;
    const struct snapshot_native *b = again->native;
    check((a == NULL) == (b == NULL));
    if (a == NULL) {
        return;
    }
    check(a->nmodules == b->nmodules && a->nplaces == b->nplaces
          && a->nframes == b->nframes && a->nstacks == b->nstacks
          && a->text_size == b->text_size);
    check(memcmp(a->text, b->text, a->text_size) == 0);
    for (uint32_t i = 0; i < a->nmodules; i++) {
        const struct snapshot_module *module = &a->modules[i];
        check(memcmp(module, &b->modules[i], sizeof(*module)) == 0);
        check(module->path <= a->text_size
              && module->path_size <= a->text_size - module->path
              && module->id_size <= SNAPSHOT_BUILD_ID);
    }
    for (uint32_t i = 0; i < a->nplaces; i++) {
        check(a->places[i].module == b->places[i].module
              && a->places[i].offset == b->places[i].offset);
        check(a->places[i].module < a->nmodules);
    }
    for (uint64_t i = 0; i < a->nframes; i++) {
        check(a->frames[i] == b->frames[i] && a->frames[i] < a->nplaces);
    }
    for (uint32_t i = 0; i < a->nstacks; i++) {
        const struct snapshot_stack *stack = &a->stacks[i];
        check(stack->first == b->stacks[i].first
              && stack->n == b->stacks[i].n);
        check(stack->first <= a->nframes
              && stack->n <= a->nframes - stack->first);
    }
    for (uint32_t i = 0; i < s->nclasses; i++) {
        check(s->classes[i].stack == again->classes[i].stack
              && (s->classes[i].stack < a->nstacks
                  || s->classes[i].stack == 0));
    }
}

static void
write_again(struct tracer_snapshot *s)
{
    check(_PySnapshot_Unpack(s) == 0);
    const char *meta;
    size_t meta_size, size;
    struct snapshot_error error;
    uint8_t *image = write_file(s, &size);
    struct tracer_snapshot *again = _PySnapshot_Read(image, size, &meta,
                                                     &meta_size, &error);
    check(again != NULL && _PySnapshot_Unpack(again) == 0
          && _PySnapshot_DecodeGraph(again, &error) == 0);
    check(again->nnodes == s->nnodes && again->nblocks == s->nblocks
          && again->nlocations == s->nlocations);
    check(memcmp(again->locations, s->locations,
                 s->nlocations * sizeof(*s->locations)) == 0);
    for (uint64_t i = 0; i < s->nblocks; i++) {
        check_block(s, again, i);
    }
    check(again->nheld == s->nheld);
    for (uint64_t i = 0; i < s->nheld; i++) {
        check_held(s, again, i);
    }
    check_pools(s, again);
    check_graph(s, again);
    check_notes(s, again);
    check_native(s, again);
    _PySnapshot_Free(again);
    free(image);
}

/* What is done with it depends on the size, so that all comes in turn; with a
   graph or C stacks, what concerns these as well. */
static void
use_snapshot(struct tracer_snapshot *s, size_t size)
{
    check_strings(s);
    if (s->graph != NULL) {
        check_numbers(s);
    }
    if (s->graph != NULL || s->native != NULL) {
        write_again(s);
        hold(s);
    }
    switch (size % 5) {
    case 0:
        write_again(s);
        break;
    case 1:
        group(s, size / 5);
        break;
    case 2:
        order(s);
        break;
    case 3:
        filter(s, size / 5);
        fold(s, size / 7);
        _PySnapshot_Free(_PySnapshot_NextPeak(s, (uint32_t)(size / 5) % 4,
                                              size % 2));
        break;
    case 4:
        s->limit = 2;
        if (_PySnapshot_Truncate(s) == 0) {
            group(s, size / 5);
            order(s);
        }
        break;
    }
    _PySnapshot_Free(s);
}

static void
read_image(const uint8_t *data, size_t size)
{
    const char *meta;
    size_t meta_size;
    struct snapshot_error error;
    struct tracer_snapshot *s = _PySnapshot_Read(data, size, &meta,
                                                 &meta_size, &error);
    if (s != NULL && _PySnapshot_DecodeGraph(s, &error) == 0) {
        use_snapshot(s, size);
        return;
    }
    check(error.reason == NULL || error.offset <= size);
    _PySnapshot_Free(s);
}

/* Of an array there is a length and what it begins with, which gets a unit of
   its own. */
static void
read_kept(const uint8_t *data, size_t size)
{
    enum {FRONT = 512, HEADER_UNITS = KEPT_HEADER_SIZE / KEPT_UNIT};
    size_t whole = KEPT_HEADER_SIZE + KEPT_NARRAYS * KEPT_UNIT;
    uint8_t *image = calloc(whole, 1);
    check(image != NULL);
    memcpy(image, data, size < FRONT ? size : FRONT);
    const uint8_t *p = data + (size < FRONT ? size : FRONT);
    const uint8_t *end = data + size;
    for (uint32_t i = 0; i < KEPT_NARRAYS; i++) {
        struct kept_extent extent = {.array = i, .first = HEADER_UNITS + i,
                                     .units = 1};
        memcpy(image + KEPT_DIRECTORY + i * sizeof(extent), &extent,
               sizeof(extent));
        if (end - p >= 2) {
            size_t n = p[0] | (size_t)p[1] << 8;
            p += 2;
            n = n < (size_t)(end - p) ? n : (size_t)(end - p);
            memcpy(image + KEPT_HEADER_SIZE + i * KEPT_UNIT, p,
                   n < KEPT_UNIT ? n : KEPT_UNIT);
            p += n;
        }
    }
    struct kept_header header;
    struct snapshot_error error;
    uint32_t nnodes;
    struct tracer_snapshot *s = _PySnapshot_ReadKept(image, whole, &header,
                                                     &nnodes, &error);
    if (s != NULL) {
        use_snapshot(s, size);
    }
    else {
        check(error.reason == NULL || error.offset <= whole);
    }
    free(image);
}

static uint8_t *
put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        *p++ = (uint8_t)(value >> (8 * i));
    }
    return p;
}

/* A file with sections of these contents; *size is its size. */
static uint8_t *
wrap(const uint8_t *data, size_t *size)
{
    static const uint32_t tags[] = {
#define TAG(NAME, VALUE) VALUE,
        SNAPSHOT_SECTIONS(TAG)
#undef TAG
    };
    const uint8_t *content = data + 2 * (SNAPSHOT_NSECTIONS - 1);
    size_t left = *size - 2 * (SNAPSHOT_NSECTIONS - 1);
    uint8_t *image = malloc(SNAPSHOT_HEADER_SIZE + *size
                            + SNAPSHOT_NSECTIONS * SNAPSHOT_SECTION_SIZE + 8);
    if (image == NULL) {
        return NULL;
    }
    memcpy(image, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE);
    uint8_t *p = put(image + SNAPSHOT_MAGIC_SIZE, SNAPSHOT_VERSION, 8);
    for (int i = 0; i < SNAPSHOT_SECTION_DONE; i++) {
        size_t n = data[2 * i] | (size_t)data[2 * i + 1] << 8;
        n = n < left ? n : left;
        p = put(p, tags[i], 8);
        p = put(p, n, 8);
        memcpy(p, content, n);
        p += n;
        content += n;
        left -= n;
    }
    p = put(p, tags[SNAPSHOT_SECTION_DONE], 8);
    p = put(p, 8, 8);
    *size = (size_t)(p - image) + 8;
    put(p, *size, 8);
    return image;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= SNAPSHOT_MAGIC_SIZE
        && memcmp(data, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_SIZE) == 0)
    {
        read_image(data, size);
    }
    else if (size >= KEPT_MAGIC_SIZE
             && memcmp(data, KEPT_MAGIC, KEPT_MAGIC_SIZE) == 0)
    {
        read_kept(data, size);
    }
    else if (size >= 2 * (SNAPSHOT_NSECTIONS - 1)) {
        uint8_t *image = wrap(data, &size);
        if (image != NULL) {
            read_image(image, size);
        }
        free(image);
    }
    return 0;
}
