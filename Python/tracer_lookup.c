/* The trace of one block as Python objects.

   Creating an object may run any code, tracemalloc.stop() included, so what
   is needed is copied under the lock first. */

#include "Python.h"
#include "pycore_object.h"        // _PyType_PreHeaderSize()
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_lookup.h"

struct text {
    char *utf8;                   // may hold NUL
    size_t length;
};

struct frame_copy {
    struct tracer_position position;
    struct text filename;
    struct text function;
};

struct trace_copy {
    struct tracer_trace trace;
    uint32_t total_nframe;        // of the whole stack
    struct frame_copy *frames;
};

int
_PyTracer_FindBlock(unsigned int domain, uintptr_t ptr,
                    struct tracer_trace *trace)
{
    _PyTracer_ASSERT_LOCKED();
    if (!_PyTracer.tracing) {
        return 0;
    }
    size_t size;
    struct tracer_record native;
    const struct tracer_record *record =
        domain != SNAPSHOT_NATIVE_DOMAIN ? _PyTracer_MapFind(ptr, domain)
        : _PyTracer_FindNative(ptr, &native) ? &native : NULL;
    if (record != NULL) {
        trace->size = record->size;
        trace->node = record->node;
        trace->kind = record->kind;
    }
    else {
        uint32_t *entry = domain == 0
                          ? _PyTracer_FindEntry((void *)ptr, 0, &size) : NULL;
        if (entry == NULL || !_PyTracer_IsLive(TRACER_ENTRY_NODE(*entry))) {
            return 0;
        }
        trace->size = TRACER_ENTRY_SIZE(*entry);
        trace->node = TRACER_ENTRY_NODE(*entry);
        trace->kind = TRACER_ENTRY_DOMAIN(*entry);
    }
    assert(trace->node < _PyTracer_tree.nnodes);
    assert(trace->kind <= TRACER_NATIVE);
    trace->nframe = _PyTracer_NFrames(trace->node);
    return !_PyTracer_IsParked(trace->node);
}

/* Of the whole stack. */
static uint32_t
total_nframe(uint32_t node)
{
    uint32_t n = 0;
    for (; node != 0 && !(node & TRACER_TRUNCATED); n++) {
        node = _PyTracer_Node(node)->parent;
    }
    return n + (node & ~TRACER_TRUNCATED);
}

/* --- Copy */

static void
free_copy(struct trace_copy *copy)
{
    for (uint32_t i = 0; copy->frames != NULL && i < copy->trace.nframe; i++)
    {
        free(copy->frames[i].filename.utf8);
        free(copy->frames[i].function.utf8);
    }
    free(copy->frames);
}

static int
copy_text(struct text *to, uint32_t id)
{
    assert(id < _PyTracer_texts.nstrings);
    const struct tracer_string *from = &_PyTracer_texts.strings[id];
    to->length = from->length;
    to->utf8 = malloc((size_t)from->length + 1);
    if (to->utf8 == NULL) {
        return -1;
    }
    memcpy(to->utf8, from->utf8, from->length);
    return 0;
}

/* 1, or -1 if there is no memory. Locked. */
static int
copy_frames(struct trace_copy *copy)
{
    _PyTracer_ASSERT_LOCKED();
    uint32_t node = copy->trace.node;
    assert(copy->trace.nframe >= 1 && copy->trace.nframe <= _PyTracer.limit);
    copy->total_nframe = total_nframe(node);
    copy->frames = calloc(copy->trace.nframe, sizeof(*copy->frames));
    if (copy->frames == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < copy->trace.nframe; i++) {
        struct frame_copy *frame = &copy->frames[i];
        const struct tracer_location *loc = _PyTracer_LocationAt(node);
        const struct tracer_function *function =
            &_PyTracer_places.functions[loc->function];
        frame->position = _PyTracer_PositionOf(loc);
        if (copy_text(&frame->filename, function->filename) < 0
            || copy_text(&frame->function, function->name) < 0)
        {
            return -1;
        }
        node = _PyTracer_Node(node)->parent;
    }
    return 1;
}

static int
copy_trace(unsigned int domain, uintptr_t ptr, struct trace_copy *copy)
{
    *copy = (struct trace_copy){0};
    _PyTracer_Lock();
    int found = _PyTracer_FindBlock(domain, ptr, &copy->trace);
    if (found) {
        found = copy_frames(copy);
    }
    _PyTracer_Unlock();
    if (found < 0) {
        free_copy(copy);
        PyErr_NoMemory();
    }
    return found;
}

/* --- Objects */

static PyObject *
decode(const struct text *text)
{
    PyObject *str = PyUnicode_DecodeUTF8(
        text->utf8, (Py_ssize_t)text->length, "surrogatepass");
    if (str != NULL) {
        PyUnicode_InternInPlace(&str);
    }
    return str;
}

static PyObject *
column(int32_t value)
{
    return value < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(value);
}

static PyObject *
frame_object(const struct frame_copy *frame, int details)
{
    const struct tracer_position *pos = &frame->position;
    if (!details) {
        return Py_BuildValue("(Ni)", decode(&frame->filename), pos->line);
    }
    return Py_BuildValue("(NiNNNN)", decode(&frame->filename), pos->line,
                         decode(&frame->function), column(pos->end_line),
                         column(pos->column), column(pos->end_column));
}

static PyObject *
frames_object(const struct trace_copy *copy, int details)
{
    PyObject *frames = PyTuple_New(copy->trace.nframe);
    if (frames == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < copy->trace.nframe; i++) {
        PyObject *frame = frame_object(&copy->frames[i], details);
        if (frame == NULL) {
            Py_DECREF(frames);
            return NULL;
        }
        PyTuple_SET_ITEM(frames, i, frame);
    }
    return frames;
}

PyObject *
_PyTracer_GetTraceback(unsigned int domain, uintptr_t ptr)
{
    struct trace_copy copy;
    int found = copy_trace(domain, ptr, &copy);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        Py_RETURN_NONE;
    }
    PyObject *frames = frames_object(&copy, 0);
    free_copy(&copy);
    return frames;
}

PyObject *
_PyTracer_GetTrace(PyObject *obj)
{
    struct trace_copy copy;
    char *block = (char *)obj - _PyType_PreHeaderSize(Py_TYPE(obj));
    int found = copy_trace(0, (uintptr_t)block, &copy);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        Py_RETURN_NONE;
    }
    PyObject *trace = Py_BuildValue("(nIN)", (Py_ssize_t)copy.trace.size,
                                    (unsigned int)copy.total_nframe,
                                    frames_object(&copy, 1));
    free_copy(&copy);
    return trace;
}
