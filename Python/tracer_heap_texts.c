/* Texts of a graph: names of references and of some objects. At the end of the
   walk, the texts of the str objects that are needed, and the names of shapes,
   are copied as UTF-8: later, the objects may be gone. Immortal ones, which
   are most, stay and never change, so they are copied after the moment. No
   text is longer than MAX_TEXT bytes. */

#include "Python.h"
#include "pycore_global_strings.h"        // _Py_ID()
#include "pycore_runtime.h"       // _PyRuntime, for it
#include "pycore_tracer_heap.h"

#define INITIAL_TEXT 262144
#define INITIAL_STRINGS 16384
#define INITIAL_NAMED 16384
#define MAX_TEXT 512

/* --- Strings */

static int
grow(void *array, uint64_t *size, size_t item)
{
    void *p = *size > UINT32_MAX / 2 ? NULL
        : _PySnapshot_Resize(*(void **)array, *size * 2, item);
    if (p == NULL) {
        return -1;
    }
    *(void **)array = p;
    *size *= 2;
    return 0;
}

int
_PyTracer_InitHeapTexts(struct tracer_heap *heap, int touch)
{
    heap->text_size = INITIAL_TEXT;
    heap->text = _PyTracer_HeapArray(INITIAL_TEXT, 1);
    heap->strings_size = INITIAL_STRINGS;
    heap->strings = _PyTracer_HeapArray(INITIAL_STRINGS,
                                        sizeof(*heap->strings));
    heap->named_size = INITIAL_NAMED;
    heap->named = _PyTracer_HeapArray(INITIAL_NAMED, sizeof(*heap->named));
    if (heap->text == NULL || heap->strings == NULL || heap->named == NULL) {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(heap->text, INITIAL_TEXT, 1);
        _PyTracer_TouchHeap(heap->strings, INITIAL_STRINGS,
                            sizeof(*heap->strings));
        _PyTracer_TouchHeap(heap->named, INITIAL_NAMED, sizeof(*heap->named));
    }
    return 0;
}

static int
reserve(struct tracer_heap *heap, size_t length)
{
    while (heap->text_used + length > heap->text_size) {
        if (grow(&heap->text, &heap->text_size, 1) < 0) {
            return -1;
        }
    }
    return heap->nstrings < heap->strings_size ? 0
           : grow(&heap->strings, &heap->strings_size,
                  sizeof(*heap->strings));
}

uint32_t
_PyTracer_AddText(struct tracer_heap *heap, const char *utf8, size_t length)
{
    length = Py_MIN(length, MAX_TEXT);
    if (heap->failed || reserve(heap, length) < 0) {
        heap->failed = 1;
        return SNAPSHOT_NONE;
    }
    memcpy(heap->text + heap->text_used, utf8, length);
    heap->strings[heap->nstrings] = (struct snapshot_string){
        heap->text_used, (uint32_t)length};
    heap->text_used += length;
    return heap->nstrings++;
}

/* At most 4 bytes. */
static size_t
encode(char *p, Py_UCS4 c)
{
    if (c < 0x80) {
        p[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (char)(0xc0 | c >> 6);
        p[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (char)(0xe0 | c >> 12);
        p[1] = (char)(0x80 | (c >> 6 & 0x3f));
        p[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (char)(0xf0 | c >> 18);
    p[1] = (char)(0x80 | (c >> 12 & 0x3f));
    p[2] = (char)(0x80 | (c >> 6 & 0x3f));
    p[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* The text of a str, after a prefix. */
static uint32_t
add_str(struct tracer_heap *heap, const char *prefix, const PyObject *str)
{
    char buffer[MAX_TEXT + 4];
    size_t n = strlen(prefix);
    if (n == 0 && PyUnicode_IS_COMPACT_ASCII(str)) {
        return _PyTracer_AddText(heap, PyUnicode_DATA(str),
                                 (size_t)PyUnicode_GET_LENGTH(str));
    }
    memcpy(buffer, prefix, n);
    int kind = PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    Py_ssize_t length = PyUnicode_GET_LENGTH(str);
    for (Py_ssize_t i = 0; i < length && n + 4 <= MAX_TEXT; i++) {
        n += encode(buffer + n, PyUnicode_READ(kind, data, i));
    }
    assert(n <= MAX_TEXT);
    return _PyTracer_AddText(heap, buffer, n);
}

/* --- Names of shapes */

static uint32_t
add_name(struct tracer_heap *heap, const struct tracer_heap_name *name)
{
    static const char *const prefixes[] = {
        [TRACER_HEAP_AS_IS] = "", [TRACER_HEAP_MEMBER] = ".",
        [TRACER_HEAP_ATTRIBUTE] = ".", [TRACER_HEAP_LOCAL] = "local ",
        [TRACER_HEAP_CLOSURE] = "closure "};
    const char *prefix = prefixes[name->form];
    if (name->form != TRACER_HEAP_AS_IS && name->form != TRACER_HEAP_MEMBER) {
        return PyUnicode_Check(name->text)
               ? add_str(heap, prefix, name->text)
               : _PyTracer_AddText(heap, "?", 1);
    }
    const char *text = name->text;
    size_t length = Py_MIN(strlen(text), MAX_TEXT);
    if (*prefix == '\0' || strncmp(text, "__", 2) == 0) {
        return _PyTracer_AddText(heap, text, length);
    }
    char buffer[MAX_TEXT + 1];
    buffer[0] = *prefix;
    memcpy(buffer + 1, text, length);
    return _PyTracer_AddText(heap, buffer, length + 1);
}

/* Will the text of the name be there after the moment? */
static int
lasts(const struct tracer_heap_name *name)
{
    return name->form == TRACER_HEAP_AS_IS
           || (name->form != TRACER_HEAP_MEMBER
               && _PyTracer_CountReferences((PyObject *)name->text)
                  == _PyTracer_IMMORTAL);
}

static void
copy_names(struct tracer_heap *heap)
{
    struct snapshot_graph *g = heap->graph;
    g->names = _PyTracer_HeapArray(heap->shapes.nnames, sizeof(*g->names));
    if (g->names == NULL) {
        heap->failed = 1;
        return;
    }
    g->nnames = heap->shapes.nnames;
    for (uint32_t i = 0; i < g->nnames; i++) {
        const struct tracer_heap_name *name = &heap->shapes.names[i];
        g->names[i] = lasts(name) ? SNAPSHOT_NONE : add_name(heap, name);
    }
}

static void
copy_lasting_names(struct tracer_heap *heap)
{
    struct snapshot_graph *g = heap->graph;
    for (uint32_t i = 0; i < g->nnames; i++) {
        if (g->names[i] == SNAPSHOT_NONE) {
            g->names[i] = add_name(heap, &heap->shapes.names[i]);
        }
    }
}

/* --- Texts of objects */

static void
add_named(struct tracer_heap *heap, uint32_t object)
{
    if (heap->nnamed == heap->named_size
        && grow(&heap->named, &heap->named_size, sizeof(*heap->named)) < 0)
    {
        heap->failed = 1;
        return;
    }
    heap->named[heap->nnamed++] = object;
}

static void
want(struct tracer_heap *heap, uint32_t number)
{
    struct snapshot_object *object = &heap->graph->objects[number];
    if (!heap->failed && object->text == SNAPSHOT_NONE
        && PyUnicode_Check((PyObject *)object->address))
    {
        object->text = TRACER_HEAP_WANTED;
        add_named(heap, number);
    }
}

void
_PyTracer_WantText(struct tracer_heap *heap, const void *str)
{
    if (str != NULL && PyUnicode_Check((PyObject *)str)) {
        want(heap, _PyTracer_HeapObject(heap, str));
    }
}

void
_PyTracer_WantKeys(struct tracer_heap *heap, uint32_t object)
{
    if (!heap->failed) {
        add_named(heap, object);
    }
}

static inline int
is_immortal(const struct tracer_heap *heap, uint32_t object)
{
    return heap->graph->objects[object].surplus == SNAPSHOT_IMMORTAL;
}

/* Keys of one dictionary.  At the moment: those that are mortal, and the name
   of the module that a class has. */
static void
want_keys(struct tracer_heap *heap, uint32_t object, uint32_t dunder_module,
          int lasting)
{
    const struct snapshot_graph *g = heap->graph;
    const struct snapshot_shape *shape =
        &heap->shapes.list[g->objects[object].shape];
    if (shape->kind != SNAPSHOT_NAMESPACE && shape->kind != SNAPSHOT_DICT) {
        return;                   // its keys are those of a class
    }
    uint64_t end = object + 1 < g->nobjects ? g->objects[object + 1].first
                                            : g->nreferences;
    uint64_t e = g->objects[object].first + shape->n;
    for (; e + 1 < end; e += 2) {
        uint32_t key = g->references[e];
        uint32_t value = g->references[e + 1];
        if (key >= SNAPSHOT_NFIXED && is_immortal(heap, key) == lasting) {
            want(heap, key);
        }
        if (key == dunder_module && value != 0 && !lasting) {
            want(heap, value);
        }
    }
}

static void
copy_texts(struct tracer_heap *heap, int lasting)
{
    const uint32_t *slot = _PyTracer_HeapSlot(
        &heap->index, (uintptr_t)&_Py_ID(__module__));
    struct snapshot_object *objects = heap->graph->objects;
    uint64_t n = heap->nnamed;    // keys come behind
    for (uint64_t i = 0; slot != NULL && i < n && !heap->failed; i++) {
        if (objects[heap->named[i]].text != TRACER_HEAP_WANTED) {
            want_keys(heap, heap->named[i], *slot, lasting);
        }
    }
    for (uint64_t i = 0; i < heap->nnamed && !heap->failed; i++) {
        uint32_t object = heap->named[i];
        if (objects[object].text == TRACER_HEAP_WANTED
            && is_immortal(heap, object) == lasting)
        {
            objects[object].text =
                add_str(heap, "", (const PyObject *)objects[object].address);
        }
    }
    heap->failed |= slot == NULL;
}

void
_PyTracer_CopyTexts(struct tracer_heap *heap)
{
    copy_texts(heap, 0);
    if (!heap->failed) {
        copy_names(heap);
    }
}

void
_PyTracer_CopyLastingTexts(struct tracer_heap *heap)
{
    copy_texts(heap, 1);
    if (!heap->failed) {
        copy_lasting_names(heap);
    }
}
