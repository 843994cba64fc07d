/* The texts of a heap snapshot of V8's.

   Its tools recognise the class of a node by the number of its name, so equal
   texts must be one. Names of classes and of references are composed once. */

#include "heapsnapshot.h"

#define MOST_BYTES 256            // of a name in another one

int
_PyHeapFile_NamesInit(struct heap_names *names,
                      const struct snapshot_heap *heap)
{
    *names = (struct heap_names){.heap = heap};
    names->types = _PySnapshot_Zeroed(heap->g->nobjects,
                                      sizeof(*names->types));
    names->references = _PySnapshot_Zeroed((uint64_t)heap->s->nstrings + 1,
                                           sizeof(*names->references));
    return names->types == NULL || names->references == NULL
           ? -1 : _PySnapshot_PairsInit(&names->numbers);
}

void
_PyHeapFile_NamesFree(struct heap_names *names)
{
    _PySnapshot_Release(names->text);
    _PySnapshot_Release(names->names);
    _PySnapshot_Release(names->types);
    _PySnapshot_Release(names->references);
    _PySnapshot_PairsFree(&names->numbers);
}

/* --- Putting together */

static void
add(struct heap_names *names, const char *text, size_t length)
{
    uint64_t end = (uint64_t)names->end + length;
    /* One more, so that there is an array for a first text that is empty. */
    if (names->failed || end >= UINT32_MAX
        || _PySnapshot_Reserve(&names->text, &names->text_size,
                               (uint32_t)end + 1, 1) < 0)
    {
        names->failed = 1;
        return;
    }
    memcpy(names->text + names->end, text, length);
    names->end = (uint32_t)end;
}

static void
add_text(struct heap_names *names, const char *text)
{
    add(names, text, strlen(text));
}

/* A part of a name; whole characters of it, if it is a long one. */
static void
add_part(struct heap_names *names, uint32_t string)
{
    const struct tracer_snapshot *s = names->heap->s;
    const char *text = s->text + s->strings[string].offset;
    uint32_t length = s->strings[string].length;
    if (length > MOST_BYTES) {
        length = MOST_BYTES;
        while (length > 0 && (text[length] & 0xc0) == 0x80) {
            length--;
        }
    }
    add(names, text, length);
}

/* The number of the composed text. */
static uint32_t
finish(struct heap_names *names)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (uint32_t i = names->start; i < names->end; i++) {
        hash = (hash ^ (uint8_t)names->text[i]) * 0x100000001b3;
    }
    uint32_t number = names->failed ? SNAPSHOT_NONE : _PySnapshot_Pair(
        &names->numbers, (uint32_t)(hash >> 32), (uint32_t)hash);
    if (number == names->n
        && _PySnapshot_Reserve(&names->names, &names->names_size, number + 1,
                               sizeof(*names->names)) == 0)
    {
        names->names[number] = (struct heap_name){names->start,
                                                  names->end - names->start};
        names->start = names->end;
        names->n++;
    }
    names->end = names->start;
    if (number >= names->n) {
        names->failed = 1;
        return 0;
    }
    return number;
}

uint32_t
_PyHeapFile_Name(struct heap_names *names, const char *text)
{
    add_text(names, text);
    return finish(names);
}

uint32_t
_PyHeapFile_String(struct heap_names *names, uint32_t string)
{
    add_part(names, string);
    return finish(names);
}

/* --- Objects */

static int
is_common(const struct snapshot_heap *heap, uint32_t module)
{
    return module == SNAPSHOT_NONE
           || _PySnapshot_HasText(heap->s, module, "builtins")
           || _PySnapshot_HasText(heap->s, module, "__main__");
}

/* With its module, of a class or function. */
static void
add_name_of(struct heap_names *names, uint32_t object)
{
    uint32_t name = _PySnapshot_NameOf(names->heap, object);
    uint32_t module = _PySnapshot_ModuleOf(names->heap, object);
    if (name == SNAPSHOT_NONE) {
        add_text(names, "?");
        return;
    }
    if (!is_common(names->heap, module)) {
        add_part(names, module);
        add_text(names, ".");
    }
    add_part(names, name);
}

static uint32_t
name_of_type(struct heap_names *names, uint32_t type)
{
    if (type == 0) {
        return _PyHeapFile_Name(names, "object");
    }
    if (names->types[type] == 0) {
        add_name_of(names, type);
        names->types[type] = finish(names) + 1;
    }
    return names->types[type] - 1;
}

static int
has_name(const struct heap_names *names, uint32_t number, const char *text)
{
    size_t length = strlen(text);
    return number < names->n && names->names[number].length == length
           && memcmp(names->text + names->names[number].start, text,
                     length) == 0;
}

static int
type_of_plain(const struct heap_names *names, uint32_t name)
{
    return has_name(names, name, "str") ? HEAP_STRING
        : has_name(names, name, "int") || has_name(names, name, "float")
          || has_name(names, name, "complex") ? HEAP_NUMBER : HEAP_OBJECT;
}

static void
add_type_of_frame(struct heap_names *names, uint32_t type)
{
    if (type == 0) {
        add_text(names, "frame of ");
        return;
    }
    add_name_of(names, type);
    add_text(names, " ");
}

uint32_t
_PyHeapFile_NameOf(struct heap_names *names, uint32_t object, int *type)
{
    static const char *const fixed[] = {"", "interpreter", "static types",
                                        "threads"};
    uint32_t class_ = names->heap->g->objects[object].type;
    *type = HEAP_OBJECT;
    if (object < SNAPSHOT_NFIXED) {
        *type = HEAP_NATIVE;
        return _PyHeapFile_Name(names, fixed[object]);
    }
    switch (_PySnapshot_Shape(names->heap, object)->kind) {
    case SNAPSHOT_MODULE:
        add_text(names, "module ");
        break;
    case SNAPSHOT_TYPE:
        add_text(names, "class ");
        break;
    case SNAPSHOT_METHOD:
        add_text(names, "bound method ");
        break;
    case SNAPSHOT_FUNCTION:
        *type = HEAP_CLOSURE;
        break;
    case SNAPSHOT_CODE:
        *type = HEAP_CODE;
        break;
    case SNAPSHOT_FRAME:
        *type = class_ == 0 ? HEAP_NATIVE : HEAP_OBJECT;
        add_type_of_frame(names, class_);
        break;
    case SNAPSHOT_THREAD:
        *type = HEAP_NATIVE;
        add_text(names, "thread ");
        break;
    case SNAPSHOT_STATE:
        *type = HEAP_NATIVE;
        add_text(names, "perhaps ");
        break;
    case SNAPSHOT_OTHER_INTERPRETER:
        *type = HEAP_NATIVE;
        add_text(names, "interpreter ");
        break;
    default: {
        uint32_t name = name_of_type(names, class_);
        *type = type_of_plain(names, name);
        return name;
    }
    }
    add_name_of(names, object);
    return finish(names);
}

/* --- References */

/* For an object with a name: a prefix says what kind it is. */
static uint32_t
split_name(const struct snapshot_heap *heap, uint32_t string, int *type)
{
    static const struct { const char *text; int type; } prefixes[] = {
        {".", HEAP_PROPERTY}, {"local ", HEAP_CONTEXT},
        {"closure ", HEAP_CONTEXT}};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(prefixes); i++) {
        if (_PySnapshot_BeginsWith(heap->s, string, prefixes[i].text)) {
            *type = prefixes[i].type;
            return (uint32_t)strlen(prefixes[i].text);
        }
    }
    *type = HEAP_INTERNAL;
    return 0;
}

static int
named_edge(struct heap_names *names, uint32_t string, uint32_t *name)
{
    const struct tracer_snapshot *s = names->heap->s;
    int type;
    uint32_t cut = split_name(names->heap, string, &type);
    if (names->references[string] == 0) {
        add(names, s->text + s->strings[string].offset + cut,
            s->strings[string].length - cut);
        names->references[string] = finish(names) + 1;
    }
    *name = names->references[string] - 1;
    return type;
}

static int
keyed_edge(struct heap_names *names, uint32_t string, uint32_t *name)
{
    *name = _PyHeapFile_String(names, string);
    return HEAP_PROPERTY;
}

int
_PyHeapFile_Edge(struct heap_names *names, uint32_t object, uint32_t i,
                 uint32_t *name)
{
    const struct snapshot_heap *heap = names->heap;
    uint32_t step = _PySnapshot_Step(heap, object, i);
    uint32_t key;
    if (SNAPSHOT_IS_NAME(step)) {
        return named_edge(names, step, name);
    }
    if (SNAPSHOT_IS_KEY(step)) {
        return keyed_edge(names, step - SNAPSHOT_STEP_KEY, name);
    }
    *name = i - _PySnapshot_Shape(heap, object)->n;
    switch (step) {
    case SNAPSHOT_STEP_VALUE:
        key = _PySnapshot_KeyOf(heap, object, i);
        if (heap->g->has_keys && heap->g->objects[key].text != SNAPSHOT_NONE) {
            return keyed_edge(names, heap->g->objects[key].text, name);
        }
        *name /= 2;
        return HEAP_ELEMENT;
    case SNAPSHOT_STEP_KEY_ITSELF:
        *name = _PyHeapFile_Name(names, "key");
        return HEAP_INTERNAL;
    case SNAPSHOT_STEP_CONTENT:
        *name = _PyHeapFile_Name(names, "content");
        return HEAP_CONTEXT;
    case SNAPSHOT_STEP_STACK:
        *name = _PyHeapFile_Name(names, "evaluation stack");
        return HEAP_CONTEXT;
    case SNAPSHOT_STEP_TYPE:
        *name = _PyHeapFile_Name(names, "__class__");
        return HEAP_INTERNAL;
    default:
        return HEAP_ELEMENT;
    }
}
