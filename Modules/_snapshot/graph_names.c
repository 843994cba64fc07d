/* Names in a graph: of references, and of objects with a name of their own.

   A name is a string of the snapshot. The text of a str object is read only if
   a namespace, or a name of a shape, says that it is an identifier: elsewhere
   the same object may be data of the program. Only the first references of an
   object are searched: a hostile file must not make all objects search a large
   one. */

#include "graph.h"

#define MOST_NAMES 32             // of a shape
#define MOST_KEYS 256             // of a namespace

int
_PySnapshot_HasText(const struct tracer_snapshot *s, uint32_t string,
                    const char *text)
{
    size_t length = strlen(text);
    return s->strings[string].length == length
           && memcmp(s->text + s->strings[string].offset, text, length) == 0;
}

int
_PySnapshot_BeginsWith(const struct tracer_snapshot *s, uint32_t string,
                       const char *text)
{
    size_t length = strlen(text);
    return s->strings[string].length >= length
           && memcmp(s->text + s->strings[string].offset, text, length) == 0;
}

uint32_t
_PySnapshot_Text(const struct tracer_snapshot *s,
                 struct snapshot_pairs *texts, uint32_t string)
{
    const char *text = s->text + s->strings[string].offset;
    uint64_t hash = 0xcbf29ce484222325;
    for (uint32_t i = 0; i < s->strings[string].length; i++) {
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
    }
    return _PySnapshot_Pair(texts, (uint32_t)(hash >> 32), (uint32_t)hash);
}

/* --- References */

uint32_t
_PySnapshot_KeyOf(const struct snapshot_heap *heap, uint32_t object,
                  uint32_t i)
{
    const struct snapshot_shape *shape = _PySnapshot_Shape(heap, object);
    int is_dict = shape->kind == SNAPSHOT_DICT
                  || shape->kind == SNAPSHOT_NAMESPACE;
    if (!is_dict || i < shape->n || (i - shape->n) % 2 == 0) {
        return 0;
    }
    return heap->g->references[heap->g->objects[object].first + i - 1];
}

static uint32_t
step_of_root(const struct snapshot_heap *heap, uint32_t target)
{
    if (target < SNAPSHOT_NFIXED
        || _PySnapshot_Shape(heap, target)->kind == SNAPSHOT_OTHER_INTERPRETER)
    {
        return SNAPSHOT_STEP_FIXED;
    }
    return heap->g->objects[target].surplus == SNAPSHOT_IMMORTAL
           ? SNAPSHOT_STEP_IMMORTAL : SNAPSHOT_STEP_SURPLUS;
}

static uint32_t
step_of_dict(const struct snapshot_heap *heap, uint32_t object, uint32_t i,
             int is_namespace)
{
    uint32_t key = _PySnapshot_KeyOf(heap, object, i);
    if (key == 0) {
        return SNAPSHOT_STEP_KEY_ITSELF;
    }
    uint32_t text = heap->g->objects[key].text;
    return is_namespace && text != SNAPSHOT_NONE ? SNAPSHOT_STEP_KEY + text
                                                 : SNAPSHOT_STEP_VALUE;
}

uint32_t
_PySnapshot_Step(const struct snapshot_heap *heap, uint32_t object,
                 uint32_t i)
{
    const struct snapshot_object *o = &heap->g->objects[object];
    if (object == SNAPSHOT_ROOT) {
        return step_of_root(heap, heap->roots[i]);
    }
    const struct snapshot_shape *shape = &heap->g->shapes[o->shape];
    if (i < shape->n) {
        return heap->g->names[shape->first + i];
    }
    switch (shape->kind) {
    case SNAPSHOT_DICT:
    case SNAPSHOT_NAMESPACE:
        return step_of_dict(heap, object, i,
                            shape->kind == SNAPSHOT_NAMESPACE);
    case SNAPSHOT_SEQUENCE:
        return SNAPSHOT_STEP_ITEM;
    case SNAPSHOT_SET:
        return SNAPSHOT_STEP_ELEMENT;
    case SNAPSHOT_CELL:
        return SNAPSHOT_STEP_CONTENT;
    case SNAPSHOT_FRAME:
        return SNAPSHOT_STEP_STACK;
    default:
        return heap->g->references[o->first + i] == o->type
               ? SNAPSHOT_STEP_TYPE : SNAPSHOT_STEP_OTHER;
    }
}

uint32_t
_PySnapshot_Named(const struct snapshot_heap *heap, uint32_t object,
                  const char *name)
{
    const struct snapshot_shape *shape = _PySnapshot_Shape(heap, object);
    const struct snapshot_object *o = &heap->g->objects[object];
    for (uint32_t i = 0; i < shape->n && i < MOST_NAMES; i++) {
        if (_PySnapshot_HasText(heap->s, heap->g->names[shape->first + i],
                                name))
        {
            return heap->g->references[o->first + i];
        }
    }
    return 0;
}

/* --- Names of objects */

static uint32_t
text_named(const struct snapshot_heap *heap, uint32_t object,
           const char *name)
{
    uint32_t found = _PySnapshot_Named(heap, object, name);
    return found == 0 ? SNAPSHOT_NONE : heap->g->objects[found].text;
}

static uint32_t
either_name(const struct snapshot_heap *heap, uint32_t object,
            const char *name, const char *other)
{
    uint32_t text = text_named(heap, object, name);
    return text != SNAPSHOT_NONE ? text : text_named(heap, object, other);
}

uint32_t
_PySnapshot_NameOf(const struct snapshot_heap *heap, uint32_t object)
{
    /* A method of a method of a method ends. */
    for (int depth = 0; depth < 4 && object != SNAPSHOT_ROOT; depth++) {
        switch (_PySnapshot_Shape(heap, object)->kind) {
        case SNAPSHOT_MODULE:
            return text_named(heap, object, "__name__");
        case SNAPSHOT_TYPE:
            return heap->g->objects[object].text != SNAPSHOT_NONE
                ? heap->g->objects[object].text
                : either_name(heap, object, "__qualname__", "__name__");
        case SNAPSHOT_FUNCTION:
            return either_name(heap, object, "__qualname__", "__name__");
        case SNAPSHOT_CODE:
            return either_name(heap, object, "co_qualname", "co_name");
        case SNAPSHOT_THREAD:
        case SNAPSHOT_STATE:      // of a library
        case SNAPSHOT_OTHER_INTERPRETER:
            return heap->g->objects[object].text;
        case SNAPSHOT_METHOD:
            object = _PySnapshot_Named(heap, object, "__func__");
            break;
        case SNAPSHOT_FRAME:
            object = _PySnapshot_Named(heap, object, "code");
            break;
        default:
            return SNAPSHOT_NONE;
        }
    }
    return SNAPSHOT_NONE;
}

/* The value of a name in a namespace, or 0. */
static uint32_t
look_up(const struct snapshot_heap *heap, uint32_t dict, const char *name)
{
    const struct snapshot_shape *shape = _PySnapshot_Shape(heap, dict);
    uint32_t n;
    const uint32_t *references = _PySnapshot_References(heap, dict, &n);
    if (shape->kind != SNAPSHOT_NAMESPACE) {
        return 0;
    }
    if (n > shape->n + 2 * MOST_KEYS) {
        n = shape->n + 2 * MOST_KEYS;
    }
    for (uint32_t i = shape->n; i + 1 < n; i += 2) {
        uint32_t text = heap->g->objects[references[i]].text;
        if (references[i] != 0 && text != SNAPSHOT_NONE
            && _PySnapshot_HasText(heap->s, text, name))
        {
            return references[i + 1];
        }
    }
    return 0;
}

uint32_t
_PySnapshot_ModuleOf(const struct snapshot_heap *heap, uint32_t object)
{
    uint32_t kind = _PySnapshot_Shape(heap, object)->kind;
    uint32_t found = 0;
    if (kind == SNAPSHOT_FUNCTION) {
        found = _PySnapshot_Named(heap, object, "__module__");
    }
    else if (kind == SNAPSHOT_TYPE
             && heap->g->objects[object].text == SNAPSHOT_NONE)
    {
        uint32_t dict = _PySnapshot_Named(heap, object, "__dict__");
        found = dict == 0 ? 0 : look_up(heap, dict, "__module__");
    }
    return found == 0 ? SNAPSHOT_NONE : heap->g->objects[found].text;
}
