/* Capture of the Python stack in O(what changed).

   Each thread has a shadow stack: an entry (frame, instruction, node) for
   each frame of the last capture, oldest first.  The mark of a frame says that
   the frame has an entry.  It is cleared when a frame is created, and when a
   frame of a generator or coroutine is suspended.  A capture walks from the
   top frame down to the first marked frame that is found on the shadow stack.
   That frame may have moved to another instruction; everything below it is
   suspended in a call and cannot have changed.  A marked frame that is not
   found (a greenlet swaps whole stacks) counts as unmarked.

   Nested generators or coroutines suspend and resume all their frames at
   once.  Their entries are still there, and usually still right; if there are
   many, this is checked first.  An entry also remembers the node of the
   frame's previous instruction, and stays when its frame is popped.  So the
   node is already there if a frame calls another and allocates in turn, or if
   a similar frame is pushed in the same place, as for the next item of a
   generator or the next call in a loop.  Entries are trusted until a code
   object dies: then other instructions may come to be at its addresses.

   With a limit of k frames, paths do not have the whole stack, or the tree
   would grow with the depth of recursion.  Paths start at bases, depths that
   are a multiple of BASES * k. The node of an entry is on the path from the
   last base, if that has k frames at least, else from the base before; so a
   path has at least the last k frames of the stack, and at most (BASES + 1) *
   k.  The first k - 1 nodes of a path (from_last) are made when the stack
   grows beyond them.

   While no GIL protects the tracer, tracer_walk.c is used instead. */

#include "Python.h"
#include "pycore_tracer_cache.h"
#include "pycore_tracer_code.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_shadow.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_walk.h"

#define UNLIKELY(VALUE) __builtin_expect((VALUE), 0)
#define INITIAL_ENTRIES 128
#define BASES 4
#define MANY 8                    // frames
#define NEAR 2                    // entries

/* --- Bases */

static size_t
base_distance(void)
{
    assert(_PyTracer.limit > 1);
    return (size_t)_PyTracer.limit * BASES;
}

/* The depth from which on a path does not reach the oldest frame. */
static size_t
first_switch(void)
{
    return base_distance() + _PyTracer.limit - 1;
}

/* --- Memory of shadow stacks; locked */

static int
grow_stack(struct tracer_stack *s)
{
    _PyTracer_ASSERT_LOCKED();
    assert(s->depth <= s->capacity && s->trusted <= s->capacity);
    size_t n = s->capacity ? s->capacity * 2 : INITIAL_ENTRIES;
    size_t old_entries = s->capacity * sizeof(struct entry);
    size_t old_pending = s->capacity * sizeof(*s->pending);
    void *pending = _PyTracer_MemAlloc(n * sizeof(*s->pending));
    if (pending == NULL) {
        return -1;
    }
    void *entries = _PyTracer_MemGrow(s->entries, old_entries,
                                      n * sizeof(struct entry));
    if (entries == NULL) {
        _PyTracer_MemFree(pending, n * sizeof(*s->pending));
        return -1;
    }
    if (s->pending != NULL) {
        memcpy(pending, s->pending, old_pending);
        _PyTracer_MemFree(s->pending, old_pending);
    }
    s->entries = entries;
    s->pending = pending;
    s->capacity = n;
    return 0;
}

struct tracer_stack *
_PyTracer_MakeStack(PyThreadState *tstate)
{
    assert(_PyTracer.limit > 1);
    struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    if (top->stack == NULL) {
        struct tracer_stack *s = _PyTracer_MemAlloc(sizeof(*s));
        if (s == NULL || grow_stack(s) < 0) {
            _PyTracer_MemFree(s, sizeof(*s));
            return NULL;
        }
        s->next_switch = first_switch();
        top->stack = s;
    }
    return top->stack;
}

/* Whether the thread is hidden stays its own: it may be changing that, see
   _PyTracer_ShowThread(). */
static void
free_stack(PyThreadState *tstate)
{
    struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    struct tracer_stack *s = top->stack;
    if (s != NULL) {
        _PyTracer_MemFree(s->entries, s->capacity * sizeof(struct entry));
        _PyTracer_MemFree(s->pending, s->capacity * sizeof(*s->pending));
        _PyTracer_MemFree(s, sizeof(*s));
    }
    top->frame = NULL;
    top->native.frame = NULL;
    top->parent = 0;
    top->stack = NULL;
}

void
_PyTracer_ForgetStack(PyThreadState *tstate)
{
    _PyTracer_ASSERT_LOCKED();
    free_stack(tstate);
}

void
_PyTracer_ForgetStacks(void)
{
    for (PyInterpreterState *interp = _PyRuntime.interpreters.head;
         interp != NULL; interp = interp->next)
    {
        for (PyThreadState *t = interp->threads.head; t != NULL; t = t->next)
        {
            free_stack(t);
        }
    }
    _PyTracer_ForgetWalk();
    _PyTracer_ClearCache();
}

/* --- Nodes of a path; locked */

static inline struct site *
last_site(struct entry *e)
{
    return &e->sites[e->last];
}

/* from_last of entry i, after making those between it and its base. */
static Py_NO_INLINE uint32_t
from_last(struct entry *entries, size_t i)
{
    size_t base = i - i % base_distance();
    size_t first = i;
    while (first > base
           && last_site(&entries[first])->from_last == TRACER_NODE_NONE)
    {
        first--;
    }
    assert(first >= base && base % base_distance() == 0);
    for (size_t j = first; j <= i; j++) {
        struct site *site = last_site(&entries[j]);
        if (site->from_last != TRACER_NODE_NONE) {
            continue;
        }
        uint32_t parent = j == base ? _PyTracer_BaseParent(base)
                          : last_site(&entries[j - 1])->from_last;
        site->from_last = _PyTracer_CachedChild(parent, entries[j].frame);
        if (site->from_last == TRACER_NODE_NONE) {
            return TRACER_NODE_NONE;
        }
    }
    return last_site(&entries[i])->from_last;
}

/* The site of an entry where its frame is now; NULL: it is at neither. */
static inline struct site *
known_site(struct entry *e)
{
    const void *instr = e->frame->instr_ptr;
    assert(e->last < Py_ARRAY_LENGTH(e->sites) && instr != NULL);
    if (last_site(e)->instr != instr) {
        if (e->sites[e->last ^ 1].instr != instr) {
            return NULL;
        }
        e->last ^= 1;
    }
    return last_site(e);
}

/* The frame of an entry has moved to an instruction that is not its last
   site; -1: no memory. */
static inline int
move_entry(struct entry *e)
{
    const void *instr = e->frame->instr_ptr;
    assert(last_site(e)->instr != instr);
    e->last ^= 1;
    struct site *site = last_site(e);
    if (site->instr != instr) {
        site->instr = instr;
        site->node = _PyTracer_CachedChild(e->parent, e->frame);
        site->from_last = TRACER_NODE_NONE;
        return site->node == TRACER_NODE_NONE ? -1 : 0;
    }
    return 0;
}

/* Make an entry valid that is not trusted, or has another parent now. */
static Py_NO_INLINE int
make_entry(struct entry *e, _PyInterpreterFrame *frame, uint32_t parent)
{
    assert(!_PyFrame_IsIncomplete(frame));
    e->frame = frame;
    e->parent = parent;
    e->last = 0;
    uint32_t node = _PyTracer_CachedChild(parent, frame);
    e->sites[0] = (struct site){frame->instr_ptr, node, TRACER_NODE_NONE};
    e->sites[1].instr = NULL;
    return node == TRACER_NODE_NONE ? -1 : 0;
}

/* --- Capture with the GIL */

static Py_NO_INLINE uint32_t
capture_one(PyThreadState *tstate)
{
    assert(_PyTracer.limit == 1);
    if (_PyTracer_IS_HIDDEN(tstate)) {
        return TRACER_NODE_NONE;
    }
    _PyInterpreterFrame *frame = _PyThreadState_GetFrame(tstate);
    if (frame == NULL) {
        return _PyTracer_NoFrame(tstate);
    }
    uint32_t id = _PyTracer_CachedChild(0, frame);
    if (id != TRACER_NODE_NONE) {
        _PyTracer_NoteDepth(id, frame);
    }
    return id;
}

static Py_NO_INLINE int
make_room(struct tracer_stack *s)
{
    _PyTracer_Lock();
    int err = grow_stack(s);
    _PyTracer_Unlock();
    return err;
}

/* Either a code object died, and other instructions may soon be at its
   addresses; or the tree has grown too large: -1, as no number of a node may
   be in use when it is pruned. */
static Py_NO_INLINE int
distrust(struct tracer_stack *s)
{
    if (_PyTracer_tree.must_prune) {
        return -1;
    }
    s->code_epoch = _PyTracer_codes.epoch;
    s->trusted = s->depth;
    for (size_t i = 0; i < s->depth; i++) {
        struct entry *e = &s->entries[i];
        e->sites[e->last ^ 1].instr = NULL;
    }
    return 0;
}

/* The last entry of the frame, near the one of the last deep top. */
static struct entry *
find_resumed(struct tracer_stack *s, const _PyInterpreterFrame *frame)
{
    size_t end = Py_MIN(s->deep_top + NEAR, s->trusted);
    for (size_t i = end; i > 0 && i + 2 * NEAR > end; i--) {
        if (s->entries[i - 1].frame == frame) {
            return &s->entries[i - 1];
        }
    }
    return NULL;
}

/* Frames above the end lose their mark. */
static void
unmark(_PyInterpreterFrame *frame, const _PyInterpreterFrame *end)
{
    for (; frame != end; frame = frame->previous) {
        _PyTracer_Mark(frame, 0);
    }
}

/* Are the frames from `top` down to one that is on the shadow stack those of
   the entries that were popped there, in the same order, each at a site that
   the next one's parent is the node of?  (The top may be elsewhere.)  Then put
   them back; else nothing has changed but which site is the last, of entries
   that are void.  A frame at a site is complete. */
static Py_NO_INLINE int
resume_frames(struct tracer_stack *s, _PyInterpreterFrame *top)
{
    struct entry *e = find_resumed(s, top);
    if (e == NULL || s->code_epoch != _PyTracer_codes.epoch) {
        return 0;
    }
    const struct entry *live_end = s->entries + s->depth;
    size_t depth = (size_t)(e - s->entries) + 1;
    uint32_t parent = e->parent;
    _PyTracer_Mark(top, 1);
    _PyInterpreterFrame *frame = top->previous;
    for (; frame != NULL && e > s->entries; frame = frame->previous) {
        if (e[-1].frame != frame) {
            if (_PyFrame_IsIncomplete(frame)) {
                continue;
            }
            break;
        }
        e--;
        const struct site *site = known_site(e);
        if (site == NULL
            || (site->node != parent && site->from_last != parent))
        {
            break;
        }
        if (_PyTracer_IsMarked(frame) && e < live_end) {
            assert(depth <= s->trusted && e->frame == frame);
            s->depth = depth;
            s->deep_top = depth - 1;
            while (s->next_switch < depth) {
                s->next_switch += base_distance();
            }
            return 1;
        }
        _PyTracer_Mark(frame, 1);
        parent = e->parent;
    }
    unmark(top, frame);
    return 0;
}

/* Collect the frames above the first one that is on the shadow stack, and pop
   the entries above that one's.  Only complete frames are ever marked.
   Incomplete frames are the top frame before its first instruction, and frames
   that the interpreter itself puts between C and Python, and between a call of
   a class and its __init__(). */
static inline Py_ssize_t
collect_frames(struct tracer_stack *s, _PyInterpreterFrame *frame)
{
    const struct entry *entries = s->entries;
    size_t depth = s->depth;
    size_t n = 0;
    size_t room = MANY;
    for (; frame != NULL; frame = frame->previous) {
        if (_PyTracer_IsMarked(frame)) {
            while (depth > 0 && entries[depth - 1].frame != frame) {
                depth--;
            }
            if (depth > 0) {
                break;
            }
        }
        if (_PyFrame_IsIncomplete(frame)) {
            continue;
        }
        if (UNLIKELY(n == room)) {
            if (n == MANY && resume_frames(s, s->pending[0])) {
                return 0;
            }
            if (n == s->capacity && make_room(s) < 0) {
                return -1;
            }
            entries = s->entries;
            room = s->capacity;
        }
        s->pending[n++] = frame;
    }
    assert(frame == NULL || entries[depth - 1].frame == frame);
    assert(n <= s->capacity);
    s->depth = frame == NULL ? 0 : depth;
    return (Py_ssize_t)n;
}

/* Push n collected frames; -1: no memory. */
static inline int
push_frames(struct tracer_stack *s, size_t n)
{
    struct entry *entries = s->entries;
    size_t depth = s->depth;
    if (n >= MANY) {
        s->deep_top = depth + n - 1;
    }
    while (UNLIKELY(s->next_switch >= depth + base_distance())
           && s->next_switch > first_switch())
    {
        s->next_switch -= base_distance();
    }
    assert(depth <= s->next_switch);
    assert((s->next_switch - first_switch()) % base_distance() == 0);
    uint32_t parent = depth > 0 ? last_site(&entries[depth - 1])->node : 0;
    for (; n > 0; depth++) {
        _PyInterpreterFrame *frame = s->pending[--n];
        if (UNLIKELY(depth == s->capacity)) {
            if (make_room(s) < 0) {
                return -1;
            }
            entries = s->entries;
        }
        if (UNLIKELY(depth == s->next_switch)) {
            /* The path from the last base has k frames from here on. */
            s->next_switch += base_distance();
            parent = from_last(entries, depth - 1);
            if (parent == TRACER_NODE_NONE) {
                return -1;
            }
        }
        struct entry *e = &entries[depth];
        if (depth >= s->trusted || e->parent != parent) {
            if (make_entry(e, frame, parent) < 0) {
                return -1;
            }
            s->trusted = Py_MAX(s->trusted, depth + 1);
        }
        else {
            e->frame = frame;
            if (last_site(e)->instr != frame->instr_ptr && move_entry(e) < 0)
            {
                return -1;
            }
        }
        assert(last_site(e)->instr == frame->instr_ptr
               && last_site(e)->node != TRACER_NODE_NONE);
        _PyTracer_Mark(frame, 1);
        parent = last_site(e)->node;
    }
    assert(depth <= s->trusted && depth <= s->capacity);
    s->depth = depth;
    return 0;
}

/* Bring the shadow stack up to date; -1: no memory, or the tree is to be
   pruned first. */
static inline int
update_stack(struct tracer_stack *s, _PyInterpreterFrame *frame)
{
    Py_ssize_t npending = collect_frames(s, frame);
    if (npending < 0) {
        return -1;
    }
    /* Only now, as all frames left on the shadow stack are alive. */
    if (UNLIKELY(s->code_epoch != _PyTracer_codes.epoch) && distrust(s) < 0) {
        return -1;
    }
    if (s->depth > 0) {
        struct entry *e = &s->entries[s->depth - 1];
        if (last_site(e)->instr != e->frame->instr_ptr && move_entry(e) < 0)
        {
            return -1;
        }
    }
    return npending == 0 ? 0 : push_frames(s, (size_t)npending);
}

Py_NO_INLINE void
_PyTracer_ForgetEntries(struct _PyTracer_top *top)
{
    top->stack->depth = top->stack->trusted = 0;
    top->native.frame = NULL;
    top->frame = NULL;
}

static Py_NO_INLINE uint32_t
capture_stack(PyThreadState *tstate)
{
    struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    struct tracer_stack *s = top->stack;
    if (UNLIKELY(s == NULL)) {
        _PyTracer_Lock();
        s = _PyTracer.tracing && !top->hidden ? _PyTracer_MakeStack(tstate) : NULL;
        _PyTracer_Unlock();
        if (s == NULL) {
            return TRACER_NODE_NONE;
        }
    }
    if (UNLIKELY(update_stack(s, _PyTracer_TopFrame(tstate)) < 0)) {
        _PyTracer_ForgetEntries(top);
        return TRACER_NODE_NONE;
    }
    top->native.frame = NULL;
    if (UNLIKELY(s->depth == 0)) {
        top->frame = NULL;
        return _PyTracer_NoFrame(tstate);
    }
    struct entry *e = &s->entries[s->depth - 1];
    assert(e->frame == _PyThreadState_GetFrame(tstate));
    assert(last_site(e)->instr == e->frame->instr_ptr);
    top->frame = e->frame;
    top->parent = e->parent;
    return last_site(e)->node;
}

/* The top frame is the same, but at an instruction that the first line of the
   cache does not have.  The instructions in its entry may be old. */
static inline uint32_t
look_up(const struct _PyTracer_top *top, _PyInterpreterFrame *frame)
{
    if (top->stack->code_epoch != _PyTracer_codes.epoch) {
        return TRACER_NODE_NONE;
    }
    assert(top->stack->depth > 0
           && top->stack->entries[top->stack->depth - 1].frame == frame);
    return _PyTracer_CachedChild(top->parent, frame);
}

/* The top frame has returned to the one below, which is at an instruction
   where it was before. */
static inline uint32_t
pop_one(struct _PyTracer_top *top, const _PyInterpreterFrame *frame)
{
    struct tracer_stack *s = top->stack;
    if (s == NULL || s->depth < 2 || s->code_epoch != _PyTracer_codes.epoch) {
        return TRACER_NODE_NONE;
    }
    struct entry *e = &s->entries[s->depth - 2];
    const struct site *site;
    if (e->frame != frame || (site = known_site(e)) == NULL) {
        return TRACER_NODE_NONE;
    }
    assert(_PyTracer_IsMarked(frame) && site->node != TRACER_NODE_NONE);
    s->depth--;
    top->frame = e->frame;
    top->parent = e->parent;
    return site->node;
}

/* The commonest changes come first. */
uint32_t
_PyTracer_CaptureSlow(PyThreadState *tstate)
{
    _PyInterpreterFrame *frame = _PyTracer_TopFrame(tstate);
    struct _PyTracer_top *top = &((_PyThreadStateImpl *)tstate)->tracer;
    uint32_t node = TRACER_NODE_NONE;
    _PyTracer_BeginCapture();
    if (frame != NULL && _PyTracer_RunsMarked(frame)) {
        node = frame == top->frame ? look_up(top, frame)
                                   : pop_one(top, frame);
    }
    if (node == TRACER_NODE_NONE) {
        node = _PyTracer.limit == 1 ? capture_one(tstate)
                                    : capture_stack(tstate);
    }
    _PyTracer_EndCapture();
    assert(_PyTracer_IsPathOf(node, tstate));
    return node;
}
