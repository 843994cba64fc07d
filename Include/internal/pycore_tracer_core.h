/* Functions that the tracer's own files share, grouped by the file that
   defines them.  "locked": _PyTracer.lock is held. */

#ifndef Py_INTERNAL_TRACER_CORE_H
#define Py_INTERNAL_TRACER_CORE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_frame.h"         // _PyInterpreterFrame
#include "pycore_pystate.h"       // _PyThreadState_GET()
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"
#include "pycore_tstate.h"        // _PyThreadStateImpl

/* Nonzero while this thread is inside an allocator that tracing wraps, so
   that what the allocator asks of a lower one is not traced twice. */
extern _Py_thread_local int _PyTracer_inside;
/* Set by each of our allocator functions that is called while tracing is
   off. */
extern _Py_thread_local int _PyTracer_idle;

/* Nonzero once pymalloc has passed a small request on to the raw domain: not
   each small block is in a pool then. */
extern uint32_t _PyTracer_small_fallback;
#define _PyTracer_FALLBACK(SIZE)                                        \
    do {                                                                \
        if ((size_t)(SIZE) - 1 < TRACER_ENTRY_MAX_SIZE) {               \
            _PyTracer_small_fallback = 1;                               \
            _PyTracer.short_way = 0;                                    \
        }                                                               \
    } while (0)

/* --- tracer_memory.c; all locked.  NULL without an exception if there is no
   memory. */
extern void *_PyTracer_MemAlloc(size_t size);               // zeroed
extern void _PyTracer_MemFree(void *p, size_t size);
/* Copy to a bigger mapping; the old one is gone unless NULL is returned. */
extern void *_PyTracer_MemGrow(void *p, size_t size, size_t new_size);
/* The same for an array: make it hold twice as many items. */
extern void *_PyTracer_MemDouble(void *p, uint32_t *capacity,
                                 size_t item_size);
/* A range of addresses, of which parts come to use.  Without `must`, only if
   it takes a small part of those that are left. */
extern void *_PyTracer_MemReserve(size_t size, int must);
/* Make the bytes [from, to) of a range usable, zeroed; 0, or -1.  The range
   ends with a page.  Its user counts what is touched. */
extern int _PyTracer_MemCommit(void *range, size_t from, size_t to);
extern void _PyTracer_MemRelease(void *range, size_t size);
extern char *_PyTracer_MemText(size_t size);                // until MemClear
extern uint32_t *_PyTracer_MemTable(size_t nentries);       // zeroed
extern void _PyTracer_MemFreeTable(uint32_t *table, size_t nentries);
extern size_t _PyTracer_MemUnused(void);
extern void _PyTracer_MemClear(void);         // all tables and texts
extern const char *_PyTracer_MemFault(void);

/* --- tracer_text.c; locked. UINT32_MAX: no memory. */
extern int _PyTracer_TextInit(void);
extern void _PyTracer_TextClear(void);
#define TRACER_UNKNOWN "<unknown>"
extern uint32_t _PyTracer_InternText(PyObject *str);      // NULL: unknown
extern uint32_t _PyTracer_InternLiteral(const char *text);
extern const char *_PyTracer_TextFault(void);

/* --- tracer_location.c; locked.  UINT32_MAX: no memory. */
struct tracer_position;
extern int _PyTracer_LocationInit(void);
extern void _PyTracer_LocationClear(void);
extern uint32_t _PyTracer_InternFunction(PyCodeObject *code);
extern uint32_t _PyTracer_InternLocation(uint32_t function,
                                         const struct tracer_position *pos);
/* Of what no Python frame allocates: the file and line that the standard
   library gives it, and a reason in place of the function. */
extern uint32_t _PyTracer_InternNoFrame(const char *reason);
extern struct tracer_position _PyTracer_PositionOf(
    const struct tracer_location *location);
extern const char *_PyTracer_LocationFault(void);

/* --- tracer_code.c; locked.  UINT32_MAX: no memory. */
extern int _PyTracer_CodeInit(void);
extern void _PyTracer_CodeClear(void);
extern uint32_t _PyTracer_LocationOf(_PyInterpreterFrame *frame);

/* --- tracer_tree.c; locked.  TRACER_NODE_NONE: no memory. */
extern int _PyTracer_TreeInit(void);
extern void _PyTracer_TreeClear(void);
extern uint32_t _PyTracer_Child(uint32_t parent, uint32_t location);
extern size_t _PyTracer_TreeMemory(void);     // bytes touched
/* All nodes have other numbers now. */
extern void _PyTracer_ReindexTree(void);
/* Give the node a twin, if it has none. */
extern void _PyTracer_MakeTwin(uint32_t node);
extern const char *_PyTracer_TreeFault(void);

/* --- tracer_prune.c */

/* Give back nodes that no live block names; not now, if somebody holds
   HEAD_LOCK.  GIL held, not shared, not locked; numbers of nodes are void
   then. */
extern void _PyTracer_Prune(void);

/* --- tracer_map.c; locked. */
extern int _PyTracer_MapInit(void);
extern void _PyTracer_MapClear(void);
extern struct tracer_record *_PyTracer_MapFind(uintptr_t address,
                                               uint32_t domain);
/* Add or replace a record and count it; 0, or -1 if there is no memory. */
extern int _PyTracer_MapAdd(const struct tracer_record *record);
/* Remove a record, uncount it and copy it to *old; 0 if there was none. */
extern int _PyTracer_MapRemove(uintptr_t address, uint32_t domain,
                               struct tracer_record *old);
/* Take back a MapRemove(): the block did not go away after all. 0, or -1 if
   there is no memory. */
extern int _PyTracer_MapRestore(const struct tracer_record *old);
extern const char *_PyTracer_MapFault(void);

/* --- tracer_mapped.c; GIL held and locked. */

/* Forget what the entry of the block at this address says; the entry is NULL
   if the pool has no table. */
extern void _PyTracer_DropEntry(uint32_t *entry, uintptr_t address);
/* A pool gives up this entry, but nobody has said that the block is free.
   `leaked`: it never will be, and its memory stays where it is. */
extern void _PyTracer_MapEntry(uint32_t entry, uintptr_t address, int leaked);

/* --- tracer_stack.c */

/* Node of the current stack; GIL held, not shared, not locked. */
extern uint32_t _PyTracer_CaptureSlow(PyThreadState *tstate);
extern void _PyTracer_ForgetStacks(void);     // GIL, HEAD_LOCK and locked

/* --- tracer_walk.c; locked */

/* Node of the current stack by a walk of the whole stack of the calling
   thread, whose state may be NULL or detached. */
extern uint32_t _PyTracer_CaptureLocked(PyThreadState *tstate);
extern void _PyTracer_ForgetWalk(void);
/* Node of what the thread allocates where no Python frame is.  Not locked. */
extern uint32_t _PyTracer_NoFrame(PyThreadState *tstate);
/* Of the whole stack; needs no lock. */
extern uint32_t _PyTracer_CountFrames(_PyInterpreterFrame *frame);
#ifndef NDEBUG
/* Does a walk find the path of a node that a capture gave?  Of some frames, or
   now and then of all.  Not locked. */
extern int _PyTracer_IsPathOf(uint32_t node, PyThreadState *tstate);
#endif

/* `parent` of a node that starts a path at this depth of the stack. */
static inline uint32_t
_PyTracer_BaseParent(size_t depth)
{
    return depth == 0 ? 0 : TRACER_TRUNCATED | (uint32_t)depth;
}

/* Node of the frame below `parent`. */
static inline uint32_t
_PyTracer_ChildOf(uint32_t parent, _PyInterpreterFrame *frame)
{
    uint32_t location = _PyTracer_LocationOf(frame);
    return location == UINT32_MAX ? TRACER_NODE_NONE
                                  : _PyTracer_Child(parent, location);
}

/* --- tracer_count.c; GIL held, not locked, but where it says so. */

/* Traced memory is above `high`: there may be a new peak, or an alarm. */
extern void _PyTracer_LookAtHigh(void);
/* A block of the node is about to be freed while free_epoch says to look:
   the peak is over, or garbage is deleted. */
extern void _PyTracer_LookAtFree(uint32_t node, size_t size, int locked);
/* The peak is over, if traced memory was rising. */
extern void _PyTracer_Settle(void);
/* A thread without the GIL saw this much traced memory; locked. */
extern void _PyTracer_RawPeak(int64_t traced);
/* While `watched`: is traced memory below the alarm?  Asked when a mapped
   block is freed. */
extern void _PyTracer_LookAtLow(void);
/* While `watched`, once for each allocation; locked if shared. */
extern void _PyTracer_Watch(void);
/* Highest traced memory up to now, bytes. */
extern int64_t _PyTracer_Peak(void);
/* Follow the peak from now on until EndMeasure().  Begin and look give the
   current traced memory. */
extern int64_t _PyTracer_BeginMeasure(struct tracer_measure *measure);
extern int64_t _PyTracer_LookAtMeasure(const struct tracer_measure *measure,
                                       int64_t *peak);
extern void _PyTracer_EndMeasure(struct tracer_measure *measure);
/* Bytes and blocks ever allocated. */
extern void _PyTracer_SumTotals(uint64_t *size, uint64_t *count);
extern void _PyTracer_ResetPeak(void);            // GIL and locked
extern void _PyTracer_ClearCounters(void);        // GIL and locked
extern void _PyTracer_SavePeak(uint32_t node);
/* Live small blocks of the node at the peak; GIL. */
extern struct tracer_sum _PyTracer_AtPeak(uint32_t node);
/* A sum of bytes of the node would wrap. */
extern void _PyTracer_Carry(uint32_t node);

/* Who deletes garbage is another thread than this one: it is not here any
   more, after a fork.  Locked. */
extern void _PyTracer_ForgetGarbage(void);

/* --- tracer_gils.c */

/* Is there but one GIL again?  GIL, HEAD_LOCK and locked, tracing is off. */
extern void _PyTracer_CountGils(void);
/* Where `shared` and no such interpreter is left.  GIL held, not locked. */
extern void _PyTracer_OneGil(void);

/* --- tracer_lock.c */

/* Once: watch over forks; -1: no memory. */
extern int _PyTracer_LockInit(void);

/* --- tracer_hooks.c: allocator functions */

/* Record a block just acquired, in place of what was traced at its address;
   drop one about to be released.  Not locked; GIL held if kind is not
   TRACER_RAW.  A drop tells what it dropped, so that a failed realloc can be
   undone. */
struct tracer_dropped {
    struct tracer_record record;  // node NONE: was not traced
    uint32_t *slot;               // of the entry of a small block, else NULL
    uint32_t entry;               // that was there
    uint64_t clears;              // _PyTracer.clears, then
};
extern void _PyTracer_Record(void *block, size_t size, enum tracer_kind kind);
/* The same for a known node; locked. 0, or -1 and counted as untraced.  Of
   TRACER_EXTERNAL, the address may be any, and the size. */
extern int _PyTracer_RecordNode(void *block, size_t size,
                                enum tracer_kind kind, uint32_t node);
extern void _PyTracer_Drop(void *block, struct tracer_dropped *dropped);
extern void _PyTracer_Undrop(const struct tracer_dropped *dropped);

/* A block that this thread is releasing, for what the debug hooks say of it;
   0: it is not that one.  Locked. */
struct tracer_trace;
extern int _PyTracer_FindReleased(uintptr_t ptr, struct tracer_trace *trace);

/* What is installed, by domain, while tracing is off; -1 and an exception:
   something that calls the tracer's functions.  GIL, which may be given up;
   not locked. */
extern int _PyTracer_FindAllocators(PyMemAllocatorEx *found);
/* Those below with the GIL, the mutex of the allocators, and locked.
   That is what tracing is to wrap; -1: it is not installed any more. */
extern int _PyTracer_TakeAllocators(const PyMemAllocatorEx *found);
/* `again`: tracing is on, what the functions must do has changed. */
extern void _PyTracer_InstallAllocators(int again);
extern void _PyTracer_RemoveAllocators(void);

/* --- tracer_freelist.c; not locked. */
extern void _PyTracer_Move(enum _PyTracer_freelist list, void *block,
                           size_t size, uint32_t node, int capture);
extern void _PyTracer_GetParked(enum _PyTracer_freelist kind,
                                uint64_t *blocks, uint64_t *bytes);

/* --- Objects/tracer_blocks.c.h, compiled into obmalloc.c */

/* Nonzero if the object and memory domains are pymalloc's own functions, so
   that the fused ones may replace them. */
extern int _PyTracer_PymallocInUse(void);
/* PyMem_GetAllocator(), PyMem_SetAllocator(); the mutex of the allocators is
   held. */
extern void _PyTracer_GetAllocator(PyMemAllocatorDomain domain,
                                   PyMemAllocatorEx *functions);
extern void _PyTracer_SetAllocator(PyMemAllocatorDomain domain,
                                   PyMemAllocatorEx *functions);
extern PyMemAllocatorEx _PyTracer_Fused(enum tracer_kind kind);
/* Entry of the block that starts at p.  With `create`, the pool gets a table
   if it has none; NULL: there is no table.  *size is the block's size, 0 if p
   does not start a block of a pool of this interpreter. */
extern uint32_t *_PyTracer_Entry(void *p, int create, size_t *size);
/* The same for any address, and for pools of other interpreters, which get no
   table.  *room is the greatest size that the entry may hold, 0 if the pool
   has not come to the block.  Locked. */
extern uint32_t *_PyTracer_FindEntry(void *p, int create, size_t *room);
extern void _PyTracer_ForgetPools(void);          // GIL and locked
/* Of an interpreter that ends; locked, shared if its pools are its own. */
extern void _PyTracer_ForgetInterpreter(PyInterpreterState *interp);

/* --- tracer_valid.c */

/* What does not agree, in one line that lives for ever; NULL: all is right.
   Each part has a function of its own with the same result.  GIL, HEAD_LOCK
   and locked; no memory is asked of an allocator. */
extern const char *_PyTracer_Fault(void);
/* The same; GIL held, not locked.  Both of these are exported for the
   extension _testtracer. */
PyAPI_FUNC(const char *) _PyTracer_Validate(void);
PyAPI_FUNC(struct tracer_state *) _PyTracer_State(void);

/* In a debug build, end the process if there is a fault: as _PyTracer_Fault().
   `when` is what is being done. */
#ifdef Py_DEBUG
extern void _PyTracer_AssertValid(const char *when);
#else
#  define _PyTracer_AssertValid(WHEN) ((void)0)
#endif

static inline int64_t
_PyTracer_Current(void)
{
    return _PyTracer.small_current
           + _Py_atomic_load_int64_relaxed(&_PyTracer.map_current);
}

/* With a limit of one frame, what there is of the stack is its depth at the
   first allocation at the location. */
static inline void
_PyTracer_NoteDepth(uint32_t id, _PyInterpreterFrame *frame)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->parent == 0) {
        node->parent =
            _PyTracer_BaseParent(_PyTracer_CountFrames(frame) - 1);
    }
}

/* The parked nodes hold what is neither live nor freed: outside the sum. */
static inline int
_PyTracer_IsParked(uint32_t node)
{
    return node >= TRACER_NODE_PARKED
           && node < TRACER_NODE_PARKED + _PyTracer_NFREELISTS;
}

/* Of an entry or a record: has it a block that is live? */
static inline int
_PyTracer_IsLive(uint32_t node)
{
    return node == TRACER_NODE_UNKNOWN || node >= TRACER_NODE_FIRST;
}

/* --- tracer_cache.c; GIL held, not shared */

/* Node of the frame below `parent`, which none of the two lines tells, or
   NONE: no memory; not locked. */
extern uint32_t _PyTracer_FillCache(struct tracer_cache_line *line,
                                    uint32_t parent,
                                    _PyInterpreterFrame *frame);
extern void _PyTracer_ClearCache(void);

/* First line of the set for an instruction below `parent`.  The lines of a long
   function are often the same distance apart: the factor is one that spreads
   the multiples of any small number, from wherever they begin. */
static inline Py_ALWAYS_INLINE struct tracer_cache_line *
_PyTracer_CacheLine(const void *instr, uint32_t parent)
{
    uint32_t x = (uint32_t)(uintptr_t)instr + parent * 0x9e3779b1u;
    uint32_t offset = (x * 0x21334eb1u) & _PyTracer.cache_mask;
    return (struct tracer_cache_line *)((char *)_PyTracer_cache + offset);
}

/* What the second line of a set says, or NONE; then it is the first. */
static inline uint32_t
_PyTracer_SecondLine(struct tracer_cache_line *line, const void *instr,
                     uint32_t parent)
{
    struct tracer_cache_line hit = line[1];
    if (hit.instr != instr || hit.parent != parent) {
        return TRACER_NODE_NONE;
    }
    line[1] = line[0];
    line[0] = hit;
    return hit.node;
}

/* Node of the frame below `parent`, or NONE: no memory.  Not locked. */
static inline uint32_t
_PyTracer_CachedChild(uint32_t parent, _PyInterpreterFrame *frame)
{
    const void *instr = frame->instr_ptr;
    struct tracer_cache_line *line = _PyTracer_CacheLine(instr, parent);
    if (line[0].instr == instr && line[0].parent == parent) {
        return line[0].node;
    }
    uint32_t node = _PyTracer_SecondLine(line, instr, parent);
    return node != TRACER_NODE_NONE ? node
           : _PyTracer_FillCache(line, parent, frame);
}

/* Frames that an extension has made with its own copy of CPython's initialiser
   begin with any mark.  Their other fields say that the interpreter does not
   run them: it leaves -1 in stacktop of a frame that runs, and nonzero in
   return_offset of one that waits for a frame which it calls without C code
   between.  (_PyEval_EvalFrameDefault() clears the mark first.) */
static inline Py_ALWAYS_INLINE int
_PyTracer_RunsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark && frame->stacktop < 0;
}

static inline int
_PyTracer_IsMarked(const _PyInterpreterFrame *frame)
{
    return frame->tracer_mark
           && (frame->stacktop < 0 || frame->return_offset != 0);
}

/* Node of the current stack if that takes no more than a look, else NONE.
   GIL held, not shared, not locked.  A limit of one frame needs the
   instruction alone; else (`whole`) only the top frame's instruction can have
   changed if that frame is the one of the last capture, see tracer_stack.c. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_CaptureFast(PyThreadState *tstate, int whole)
{
    _PyInterpreterFrame *frame = tstate->current_frame;
    if (frame == NULL) {
        return TRACER_NODE_NONE;
    }
    uint32_t parent = 0;
    if (whole) {
        const struct _PyTracer_top *top =
            &((_PyThreadStateImpl *)tstate)->tracer;
        if (frame != top->frame || !_PyTracer_RunsMarked(frame)) {
            return TRACER_NODE_NONE;
        }
        parent = top->parent;
    }
    const struct tracer_cache_line *line =
        _PyTracer_CacheLine(frame->instr_ptr, parent);
    assert(whole || line->parent == 0);
    if (line->instr != frame->instr_ptr || (whole && line->parent != parent))
    {
        return TRACER_NODE_NONE;
    }
    assert(_PyTracer_IsPathOf(line->node, tstate));
    return line->node;
}

/* Node of the current stack, or NONE if the tracer is out of memory.  GIL
   held, not shared, not locked. */
static inline Py_ALWAYS_INLINE uint32_t
_PyTracer_Capture(PyThreadState *tstate)
{
    uint32_t node = _PyTracer_CaptureFast(tstate, _PyTracer.limit > 1);
    return node != TRACER_NODE_NONE ? node : _PyTracer_CaptureSlow(tstate);
}

static inline Py_ALWAYS_INLINE int
_PyTracer_Wraps(uint32_t bytes, size_t size)
{
    return bytes + (uint32_t)size < bytes;
}

/* Count a small block in and out, unless it is parked.  GIL held. */

static inline Py_ALWAYS_INLINE void
_PyTracer_CountAlloc(uint32_t id, size_t size)
{
    struct tracer_node *node = _PyTracer_Node(id);
    _PyTracer.small_current += size;
    if (_PyTracer_Current() > _PyTracer.high) {
        _PyTracer_LookAtHigh();
    }
    if (node->saved < _PyTracer.epoch && !_PyTracer.rising) {
        _PyTracer_SavePeak(id);
    }
    if (_PyTracer_Wraps(node->alloc_bytes, size)) {
        _PyTracer_Carry(id);
    }
    node->alloc_bytes += (uint32_t)size;
    node->alloc_blocks++;
}

static inline Py_ALWAYS_INLINE void
_PyTracer_CountFree(uint32_t id, size_t size, int locked)
{
    struct tracer_node *node = _PyTracer_Node(id);
    if (node->saved < _PyTracer.free_epoch) {
        if (_PyTracer.free_epoch == TRACER_LOOK) {
            _PyTracer_LookAtFree(id, size, locked);
        }
        if (node->saved < _PyTracer.epoch) {
            _PyTracer_SavePeak(id);
        }
    }
    if (_PyTracer_Wraps(node->free_bytes, size)) {
        _PyTracer_Carry(id);
    }
    _PyTracer.small_current -= size;
    node->free_bytes += (uint32_t)size;
    node->free_blocks++;
}

/* The same for any node. */

static inline void
_PyTracer_CountIn(uint32_t id, size_t size)
{
    if (!_PyTracer_IsParked(id)) {
        _PyTracer_CountAlloc(id, size);
        return;
    }
    _PyTracer.parked[id - TRACER_NODE_PARKED] += TRACER_PARKED(size);
}

static inline void
_PyTracer_CountOut(uint32_t id, size_t size, int locked)
{
    if (!_PyTracer_IsParked(id)) {
        _PyTracer_CountFree(id, size, locked);
        return;
    }
    _PyTracer.parked[id - TRACER_NODE_PARKED] -= TRACER_PARKED(size);
}

/* Take back a CountOut(): the block did not go away after all. */
static inline void
_PyTracer_CountBack(uint32_t id, size_t size)
{
    if (_PyTracer_IsParked(id)) {
        _PyTracer_CountIn(id, size);
        return;
    }
    /* The node's own numbers may be smaller, if it carried since. */
    struct tracer_counts *carried = &_PyTracer.wide[id].carried;
    _PyTracer_chunk_wide[id >> TRACER_CHUNK_BITS] = 1;
    _PyTracer.small_current += size;
    carried->free_bytes -= size;
    carried->free_blocks--;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_CORE_H */
