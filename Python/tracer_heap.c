/* The heap as a graph: all objects of an interpreter, and of others that share
   its GIL, and which refer to which.

   The objects are those that the collector tracks, and all that can be reached
   from them or from an interpreter's state. Only references that are counted
   are recorded. So the reference count of a mortal object is at least the
   number of references that lead to it, and the surplus is held by C code. The
   walk is breadth first: an object gets its number when it is first seen, and
   the references of objects are written in the order of these numbers. All of
   this happens at one moment: memory comes from the kernel, no Python object
   is made, and texts of names are copied at the end.  What does not need the
   objects is done after it.  pycore_tracer_graph.h describes the graph. */

#include "Python.h"
#include "pycore_object.h"        // _Py_IsImmortal()
#include "pycore_tracer_heap.h"

#define INITIAL_OBJECTS 65536
#define AHEAD 16                  // objects whose memory is asked for

/* --- Arrays */

static int
grow(struct tracer_heap *heap, void *array, uint64_t *size, uint64_t wanted,
     size_t item)
{
    void **p = array;
    void *grown = *p == NULL ? _PyTracer_HeapArray(wanted, item)
                             : _PySnapshot_Resize(*p, wanted, item);
    if (grown == NULL) {
        heap->failed = 1;
        return -1;
    }
    *p = grown;
    *size = wanted;
    return 0;
}

/* Is there room for an object, and for the end? */
static inline int
has_room(const struct tracer_heap *heap)
{
    return heap->graph->nobjects + (uint64_t)1 < heap->objects_size;
}

static inline uint32_t
add_object(struct tracer_heap *heap, uintptr_t address)
{
    struct snapshot_graph *g = heap->graph;
    g->objects[g->nobjects] = (struct snapshot_object){
        .address = address, .text = SNAPSHOT_NONE};
    return g->nobjects++;
}

/* Not inline, so that most calls save no registers. */
static Py_NO_INLINE uint32_t
add_to_more(struct tracer_heap *heap, uintptr_t address, uint32_t *slot)
{
    struct snapshot_graph *g = heap->graph;
    if (slot == NULL || heap->objects_size >= SNAPSHOT_UNCOUNTED / 2
        || grow(heap, &g->objects, &heap->objects_size,
                heap->objects_size * 2, sizeof(*g->objects)) < 0)
    {
        heap->failed = 1;
        return 0;
    }
    return *slot = add_object(heap, address);
}

uint32_t
_PyTracer_NewHeapObject(struct tracer_heap *heap, const void *address,
                        uint32_t *slot)
{
    return slot != NULL && has_room(heap)
           ? (*slot = add_object(heap, (uintptr_t)address))
           : add_to_more(heap, (uintptr_t)address, slot);
}

uint32_t
_PyTracer_HeapPseudo(struct tracer_heap *heap, const void *address,
                     uint32_t shape)
{
    uint32_t number = _PyTracer_HeapObject(heap, address);
    if (!heap->failed) {
        heap->graph->objects[number].shape = shape;
        heap->graph->objects[number].surplus = 1;     // this reference
    }
    _PyTracer_HeapReference(heap, address);
    return number;
}

int
_PyTracer_MoreReferences(struct tracer_heap *heap)
{
    return grow(heap, &heap->graph->references, &heap->references_size,
                heap->references_size * 2, sizeof(*heap->graph->references));
}

int
_PyTracer_HeapVisit(PyObject *op, void *heap)
{
    if (op != NULL) {
        _PyTracer_HeapReference(heap, op);
    }
    return 0;
}

static inline void
add_buffer(struct snapshot_graph *g, const void *address, uint32_t object)
{
    g->buffers[g->nbuffers++] = (struct snapshot_buffer){
        .address = (uintptr_t)address, .object = object};
}

static Py_NO_INLINE void
add_to_more_buffers(struct tracer_heap *heap, const void *address,
                    uint32_t object)
{
    struct snapshot_graph *g = heap->graph;
    if (!heap->failed
        && grow(heap, &g->buffers, &heap->buffers_size,
                heap->buffers_size * 2, sizeof(*g->buffers)) == 0)
    {
        add_buffer(g, address, object);
    }
}

void
_PyTracer_HeapBuffer(struct tracer_heap *heap, const void *address,
                     uint32_t object)
{
    struct snapshot_graph *g = heap->graph;
    if (address == NULL) {
        return;
    }
    if (g->nbuffers == heap->buffers_size) {
        add_to_more_buffers(heap, address, object);
    }
    else {
        add_buffer(g, address, object);
    }
}

/* --- The walk */

static uint32_t
count_references(PyObject *op)
{
    Py_ssize_t n = _PyTracer_CountReferences(op);
    return n == _PyTracer_IMMORTAL ? SNAPSHOT_IMMORTAL
           : n == _PyTracer_UNCOUNTED ? SNAPSHOT_UNCOUNTED
           : (uint32_t)Py_MIN(n, SNAPSHOT_UNCOUNTED - 1);
}

static int
add_tracked(PyObject *op, void *arg)
{
    struct tracer_heap *heap = arg;
    (void)_PyTracer_HeapObject(heap, op);
    return !heap->failed;
}

/* A list of the collector leads from one object to the next, and each is likely
   to be waited for.  So it is walked from both ends at once.  The objects from
   its end are kept where references will be, and added in the order of the
   list. */
static void
add_list(PyGC_Head *head, void *arg)
{
    struct tracer_heap *heap = arg;
    PyGC_Head **later = (PyGC_Head **)heap->graph->references;
    assert(heap->graph->nreferences == 0);
    uint64_t size = heap->references_size * sizeof(*heap->graph->references)
                    / sizeof(*later);
    uint64_t n = 0;
    PyGC_Head *end = head;
    for (PyGC_Head *gc = _PyGCHead_NEXT(head); gc != end && !heap->failed;
         gc = _PyGCHead_NEXT(gc))
    {
        (void)_PyTracer_HeapObject(heap, gc + 1);
        if (n < size && _PyGCHead_PREV(end) != gc) {
            end = _PyGCHead_PREV(end);
            later[n++] = end;
        }
    }
    while (n > 0 && !heap->failed) {
        (void)_PyTracer_HeapObject(heap, later[--n] + 1);
    }
}

static void
walk_pseudo(struct tracer_heap *heap, uint32_t i)
{
    const struct snapshot_object *object = &heap->graph->objects[i];
    switch (heap->shapes.list[object->shape].kind) {
    case SNAPSHOT_THREAD:
        _PyTracer_WalkThread(heap, i);
        break;
    case SNAPSHOT_OTHER_INTERPRETER:
        _PyTracer_WalkInterpreter(heap, i);
        break;
    default:
        _PyTracer_WalkFrame(heap, (_PyInterpreterFrame *)object->address,
                            NULL);
    }
}

/* Frames, threads and interpreters have got their shape, and a reference, from
   what refers to them. */
static void
walk(struct tracer_heap *heap, uint32_t i)
{
    struct snapshot_graph *g = heap->graph;
    g->objects[i].first = g->nreferences;
    PyObject *op = (PyObject *)g->objects[i].address;
    if (op == NULL) {
        _PyTracer_WalkFixed(heap, i);
    }
    else if (g->objects[i].surplus != 0) {
        walk_pseudo(heap, i);
    }
    else {
        g->objects[i].surplus = count_references(op);
        const struct tracer_heap_type *type =
            _PyTracer_HeapType(heap, Py_TYPE(op));
        if (type != NULL) {
            g->objects[i].type = type->number;
            if (type->way != TRACER_HEAP_LEAF) {
                _PyTracer_WalkObject(heap, i, op, type);
            }
        }
    }
}

/* The names of a shape are those of the first references. */
static inline int
has_named(const struct tracer_heap *heap, uint32_t i)
{
    const struct snapshot_graph *g = heap->graph;
    const struct snapshot_object *object = &g->objects[i];
    return g->nreferences - object->first
           >= heap->shapes.list[object->shape].n;
}

static void
walk_all(struct tracer_heap *heap)
{
    for (uint32_t i = 0; i < SNAPSHOT_NFIXED; i++) {
        (void)add_object(heap, 0);
    }
    for (uint32_t i = 0; i < heap->interpreters->n && !heap->failed; i++) {
        PyInterpreterState *interp = heap->interpreters->list[i];
        if (i > 0) {
            _PyTracer_AddInterpreter(heap, interp);
        }
        _PyTracer_VisitTracked(interp, add_tracked, add_list, heap);
        _PyTracer_VisitGarbage(interp, add_tracked, heap);
    }
    const struct snapshot_graph *g = heap->graph;
    for (uint32_t i = 0; i < g->nobjects && !heap->failed; i++) {
        if (i + AHEAD < g->nobjects) {
            __builtin_prefetch((const void *)g->objects[i + AHEAD].address);
        }
        walk(heap, i);
        assert(heap->failed || has_named(heap, i));
    }
}

/* --- Memory for the moment */

#define PAGE 4096                 // or larger: then some are touched twice
#define REFERENCES 2              // of an object, on average, that are touched
#define BUFFERS 4                 // objects for one
#define OBJECTS_OF_PAGE 48        // that lie in the same 4 KiB

void
_PyTracer_TouchHeap(void *array, uint64_t n, size_t item)
{
    for (uint64_t offset = 0; offset < n * item; offset += PAGE) {
        ((volatile char *)array)[offset] = 0;
    }
}

/* Memory that is not touched costs nothing, while a larger array would have to
   be copied. */
static int
make_arrays(struct tracer_heap *heap, uint64_t objects)
{
    struct snapshot_graph *g = heap->graph;
    return grow(heap, &g->objects, &heap->objects_size, objects * 2,
                sizeof(*g->objects)) < 0
           || grow(heap, &g->references, &heap->references_size,
                   objects * 4 * REFERENCES, sizeof(*g->references)) < 0
           || grow(heap, &g->buffers, &heap->buffers_size, objects,
                   sizeof(*g->buffers)) < 0 ? -1 : 0;
}

int
_PyTracer_PrepareHeap(struct tracer_heap *heap, uint64_t blocks, int touch)
{
    uint64_t objects = Py_MAX(blocks, INITIAL_OBJECTS);
    uint64_t pages = objects / OBJECTS_OF_PAGE;
    memset(heap, 0, sizeof(*heap));
    heap->graph = _PyTracer_HeapArray(1, sizeof(*heap->graph));
    if (heap->graph == NULL
        || _PyTracer_InitHeapIndex(&heap->index, pages, touch) < 0
        || _PyTracer_InitHeapTypes(heap, touch) < 0
        || _PyTracer_InitHeapShapes(heap, touch) < 0
        || _PyTracer_InitHeapTexts(heap, touch) < 0
        || make_arrays(heap, objects) < 0)
    {
        return -1;
    }
    if (touch) {
        _PyTracer_TouchHeap(heap->graph->objects, objects,
                            sizeof(*heap->graph->objects));
        _PyTracer_TouchHeap(heap->graph->references, objects * REFERENCES,
                            sizeof(*heap->graph->references));
        _PyTracer_TouchHeap(heap->graph->buffers, objects / BUFFERS,
                            sizeof(*heap->graph->buffers));
    }
    return 0;
}

int
_PyTracer_CaptureHeap(struct tracer_heap *heap,
                      const struct tracer_heap_interpreters *interpreters,
                      int keys)
{
    heap->interpreters = interpreters;
    heap->graph->has_keys = keys != 0;
    walk_all(heap);
    heap->nwalked = heap->graph->nobjects;
    if (!heap->failed) {
        _PyTracer_CopyTexts(heap);
    }
    return heap->failed ? -1 : 0;
}

/* --- After the moment */

/* An object that is not read: it may be gone, or may have been incomplete. */
static uint32_t
add_leaf(struct tracer_heap *heap, const void *address)
{
    uint32_t before = heap->graph->nobjects;
    uint32_t number = _PyTracer_HeapObject(heap, address);
    if (number >= before && !heap->failed) {
        heap->graph->objects[number].first = heap->graph->nreferences;
        heap->graph->objects[number].surplus = SNAPSHOT_UNCOUNTED;
    }
    return number;
}

/* A block of this type: an object, unless it is one of the graph. */
static void
add_unreached(struct tracer_heap *heap, uint64_t block,
              const struct tracer_type *type)
{
    uintptr_t address = (uintptr_t)block + type->presize;
    uint32_t *slot = _PyTracer_HeapSlot(&heap->index, address);
    if (slot == NULL) {
        heap->failed = 1;
    }
    else if (*slot == 0) {
        uint32_t number = add_leaf(heap, (const void *)address);
        uint32_t its_type = add_leaf(heap, type->type);
        if (!heap->failed) {
            heap->graph->objects[number].type = its_type;
        }
    }
}

/* Types by the class of their blocks; NULL: that class is none. */
static const struct tracer_type **
list_classes(const struct tracer_snapshot *s, const struct tracer_types *types)
{
    const struct tracer_type **classes =
        _PyTracer_HeapArray(s->nclasses, sizeof(*classes));
    for (uint32_t i = 0; classes != NULL && i < types->n; i++) {
        uint32_t class_ = types->list[i].class_;
        if (class_ != SNAPSHOT_NONE && class_ >= TRACER_NCLASSES) {
            classes[class_] = &types->list[i];
        }
    }
    return classes;
}

static void
add_unreached_of_run(struct tracer_heap *heap, const struct tracer_snapshot *s,
                     const struct snapshot_run *run,
                     const struct tracer_type **classes)
{
    for (uint64_t i = run->first; i < run[1].first; i++) {
        uint32_t place = s->packed[i].place;
        uint32_t class_ = SNAPSHOT_PACKED_CLASS(place);
        if (class_ == SNAPSHOT_PACKED_NONE || classes[class_] == NULL) {
            continue;
        }
        uint32_t end = i + 1 < run[1].first
            ? SNAPSHOT_PACKED_NUMBER(s->packed[i + 1].place) : run->nblocks;
        for (uint32_t j = SNAPSHOT_PACKED_NUMBER(place); j < end; j++) {
            add_unreached(heap, run->address + (uint64_t)j * run->block_size,
                          classes[class_]);
        }
    }
}

static void
add_all_unreached(struct tracer_heap *heap, const struct tracer_snapshot *s,
                  const struct tracer_types *types)
{
    const struct tracer_type **classes = list_classes(s, types);
    if (classes == NULL) {
        heap->failed = 1;
        return;
    }
    for (uint32_t i = 0; i < s->nruns && !heap->failed; i++) {
        add_unreached_of_run(heap, s, &s->runs[i], classes);
    }
    for (uint64_t i = 0; i < s->nblocks - s->nsmall - s->nexternal; i++) {
        const struct tracer_type *type = classes[s->others[i].class_];
        if (type != NULL && !heap->failed) {
            add_unreached(heap, s->others[i].address, type);
        }
    }
    _PySnapshot_Release(classes);
}

void
_PyTracer_CountSurplus(struct tracer_heap *heap)
{
    struct snapshot_graph *g = heap->graph;
    for (uint64_t e = 0; e < g->nreferences; e++) {
        struct snapshot_object *to = &g->objects[g->references[e]];
        if (to->surplus < SNAPSHOT_UNCOUNTED) {
            /* A value below 0 would be a bug, which a test looks for. */
            to->surplus -= to->surplus != 0;
        }
    }
}

void
_PyTracer_CompleteHeap(struct tracer_heap *heap,
                       const struct tracer_snapshot *s,
                       const struct tracer_types *types,
                       const struct tracer_segments *segments)
{
    _PyTracer_CopyLastingTexts(heap);
    add_all_unreached(heap, s, types);
    _PyTracer_CountSurplus(heap);
    _PyTracer_ScanSegments(heap, segments);
}

static uint32_t
moved(uint32_t string, uint32_t first)
{
    return string == SNAPSHOT_NONE ? SNAPSHOT_NONE : string + first;
}

/* The texts come after those that the snapshot has. */
static int
move_texts(struct tracer_heap *heap, struct tracer_snapshot *s)
{
    uint32_t first = s->nstrings;
    uint64_t offset = s->text_size;
    if ((uint64_t)first + heap->nstrings >= TRACER_HEAP_WANTED) {
        return -1;
    }
    void *p = _PySnapshot_Resize(s->strings, (uint64_t)first + heap->nstrings,
                                 sizeof(*s->strings));
    if (p == NULL) {
        return -1;
    }
    s->strings = p;
    p = _PySnapshot_Resize(s->text, offset + heap->text_used + 1, 1);
    if (p == NULL) {
        return -1;
    }
    s->text = p;
    for (uint32_t i = 0; i < heap->nstrings; i++) {
        s->strings[first + i] = heap->strings[i];
        s->strings[first + i].offset += offset;
    }
    if (heap->text_used != 0) {
        memcpy(s->text + offset, heap->text, heap->text_used);
    }
    s->nstrings += heap->nstrings;
    s->text_size += heap->text_used;
    struct snapshot_graph *g = heap->graph;
    for (uint32_t i = 0; i < g->nobjects; i++) {
        g->objects[i].text = moved(g->objects[i].text, first);
    }
    for (uint32_t i = 0; i < g->nnames; i++) {
        g->names[i] = moved(g->names[i], first);
    }
    return 0;
}

int
_PyTracer_FinishHeap(struct tracer_heap *heap, struct tracer_snapshot *s)
{
    struct snapshot_graph *g = heap->graph;
    g->objects[g->nobjects] = (struct snapshot_object){
        .first = g->nreferences, .text = SNAPSHOT_NONE};
    g->shapes = heap->shapes.list;
    g->nshapes = heap->shapes.n;
    heap->shapes.list = NULL;
    if (move_texts(heap, s) < 0) {
        return -1;
    }
    s->graph = g;
    heap->graph = NULL;
    return 0;
}

void
_PyTracer_FreeHeap(struct tracer_heap *heap)
{
    _PySnapshot_FreeGraph(heap->graph);
    _PyTracer_FreeHeapIndex(&heap->index);
    _PySnapshot_Release(heap->types);
    _PySnapshot_Release(heap->shapes.list);
    _PySnapshot_Release(heap->shapes.names);
    _PySnapshot_Release(heap->shapes.keys);
    _PySnapshot_Release(heap->shapes.numbers);
    _PySnapshot_Release(heap->visited);
    _PySnapshot_Release(heap->text);
    _PySnapshot_Release(heap->strings);
    _PySnapshot_Release(heap->named);
}
