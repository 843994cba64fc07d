/* Control of the allocation tracer and its C API.

   start() installs the allocator functions and switches the free-list hooks
   on; stop() takes both back and forgets everything.  Both run with the GIL
   held and change the state under _PyTracer_lock.  The raw domain and
   PyTraceMalloc_Track() run without the GIL, and check `tracing` under that
   lock. */

#include "Python.h"
#include "pycore_fileutils.h"     // _Py_write_noraise()
#include "pycore_initconfig.h"    // _PyStatus_OK()
#include "pycore_object.h"        // _PyType_PreHeaderSize()
#include "pycore_pylifecycle.h"   // _PyTraceMalloc_Fini()
#include "pycore_traceback.h"     // _Py_DumpDecimal()
#include "pycore_tracemalloc.h"   // _PyTraceMalloc_Start()
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_cache.h"
#include "pycore_tracer_code.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_gils.h"
#include "pycore_tracer_growth.h"
#include "pycore_tracer_history.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_keep.h"
#include "pycore_tracer_keep_copy.h"
#include "pycore_tracer_lines.h"
#include "pycore_tracer_location.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_native.h"
#include "pycore_tracer_native_blocks.h"
#include "pycore_tracer_oom.h"
#include "pycore_tracer_prune.h"
#include "pycore_tracer_record.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_stack.h"
#include "pycore_tracer_state.h"
#include "pycore_tracer_text.h"
#include "pycore_tracer_lookup.h"
#include "pycore_tracer_start.h"
#include "pycore_tracer_tree.h"
#include "pycore_tracer_valid.h"
#include "pycore_tracer_walk.h"
#include "pycore_tracer_windows.h"

#define MAX_NFRAME UINT16_MAX

static void
mend_child(void)
{
    _PyTracer_ForgetGarbage();
    _PyTracer_ForgetHistory();
    _PyTracer_TakeCopy();
    _PyTracer_KeepHighest();
    _PyTracer_LeaveOom();
}

PyStatus
_PyTraceMalloc_Init(void)
{
    static const struct tracer_fork_handlers handlers = {
        .before = _PyTracer_CopyForFork,
        .in_parent = _PyTracer_DropCopy,
        .in_child = mend_child,
    };
    return _PyTracer_LockInit(&handlers) < 0
           ? _PyStatus_NO_MEMORY() : _PyStatus_OK();
}

/* --- Start, stop, clear */

static int
init_tables(void)
{
    _PyTracer_ASSERT_LOCKED();
    assert(_PyTracer.limit >= 1);
    _PyTracer_BeginKeeping(_PyTracer.limit);
    if (_PyTracer_TextInit() < 0 || _PyTracer_LocationInit() < 0
        || _PyTracer_CodeInit() < 0 || _PyTracer_TreeInit() < 0
        || _PyTracer_MapInit() < 0)
    {
        return -1;
    }
    _PyTracer_ClearCache();
    _PyTracer_ClearCounters();
    _PyTracer_BeginOom();
    return 0;
}

/* GIL and HEAD_LOCK held, locked. */
static void
clear_tables(void)
{
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_ForgetPools();
    _PyTracer_ForgetStacks();
    _PyTracer_ClearGrowth();
    _PyTracer_ClearWindows();
    _PyTracer_ClearNative();
    _PyTracer_MapClear();
    _PyTracer_TreeClear();
    _PyTracer_CodeClear();
    _PyTracer_LocationClear();
    _PyTracer_TextClear();
    _PyTracer_MemClear();
    _PyTracer_ClearKept();
    _PyTracer_ClearCounters();
    _PyTracer.clears++;
}

/* All locks that a change of the allocator functions needs. */
static void
lock_all(void)
{
    _PyTracer_LockAllocators();
    _PyTracer_StopWorld();
    _PyTracer_LockAll();
}

static void
unlock_all(void)
{
    _PyTracer_UnlockAll();
    _PyTracer_StartWorld();
    _PyTracer_UnlockAllocators();
}

static void
stop_locked(void)
{
    _PyTracer_ASSERT_LOCKED();
    assert(_PyTracer.tracing);
    _Py_atomic_store_int_relaxed(&_PyTracer.tracing, 0);
    _PyTracer_enabled = 0;
    /* The thread may be gone by the next start. */
    _Py_atomic_store_ptr_relaxed(&_PyTracer_garbage_thread, NULL);
    _PyTracer_StopNative();
    _PyTracer_RemoveAllocators();
    clear_tables();
    _PyTracer_StopKeeping();
    _PyTracer_StopOom();
}

/* 1: locked, and the functions to wrap are known; 0: tracing is on already;
   -1: an exception. */
static int
prepare_start(void)
{
    if (_PyTracer_abandoned) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot trace: this process was forked while another "
                        "thread was changing the tracer's tables; exec a new "
                        "process");
        return -1;
    }
    while (!_Py_atomic_load_int_relaxed(&_PyTracer.tracing)) {
        PyMemAllocatorEx found[3];
        if (_PyTracer_FindAllocators(found) < 0) {
            return -1;
        }
        lock_all();
        if (!_PyTracer.tracing && _PyTracer_TakeAllocators(found) == 0) {
            return 1;
        }
        unlock_all();
    }
    return 0;
}

int
_PyTracer_Start(int max_nframe, uint32_t limit)
{
    int ready = _PyTracer_ReadFileOptions() < 0 ? -1 : prepare_start();
    if (ready <= 0) {
        return ready;
    }
    _PyTracer_CountGils();
    _PyTracer.max_nframe = max_nframe;
    _PyTracer.limit = limit;
    int result = init_tables();
    if (result == 0) {
        _Py_atomic_store_int_relaxed(&_PyTracer.tracing, 1);
        _PyTracer_InstallAllocators(0);
        _PyTracer_enabled = 1;
        _PyTracer_AssertValid("start");
    }
    else {
        clear_tables();
        _PyTracer_StopKeeping();
    }
    unlock_all();
    if (result < 0) {
        PyErr_NoMemory();
        return -1;
    }
    _PyTracer_StartWantedNative();
    return 0;
}

int
_PyTraceMalloc_Start(int max_nframe)
{
    if (max_nframe < 1 || max_nframe > MAX_NFRAME) {
        PyErr_Format(PyExc_ValueError,
                     "the number of frames must be in range [1; %d]",
                     MAX_NFRAME);
        return -1;
    }
    return _PyTracer_Start(max_nframe, (uint32_t)max_nframe);
}

int
_PyTracer_StartFull(void)
{
    return _PyTracer_Start(MAX_NFRAME, UINT32_MAX);
}

void
_PyTraceMalloc_Stop(void)
{
    lock_all();
    if (_PyTracer.tracing) {
        _PyTracer_AssertValid("stop");
        stop_locked();
    }
    unlock_all();
}

void
_PyTraceMalloc_Fini(void)
{
    _PyTracer_HistoryFini();
    _PyTraceMalloc_Stop();
}

void
_PyTraceMalloc_ClearTraces(void)
{
    lock_all();
    if (_PyTracer.tracing) {
        _PyTracer_AssertValid("clear_traces");
        clear_tables();
        if (init_tables() == 0) {
            _PyTracer_AssertValid("clear_traces, after");
        }
        else {
            /* Nothing can be traced any more: report that instead of
               crashing. */
            stop_locked();
        }
    }
    unlock_all();
}

/* --- Questions */

int
_PyTraceMalloc_IsTracing(void)
{
    return _PyTracer.tracing;
}

int
_PyTraceMalloc_GetTracebackLimit(void)
{
    return _PyTracer.max_nframe == 0 ? 1 : _PyTracer.max_nframe;
}

size_t
_PyTraceMalloc_GetMemory(void)
{
    return _PyTracer.tracing ? _PyTracer_memory.total + _PyTracer_TreeMemory()
                             : 0;
}

PyObject *
_PyTraceMalloc_GetTracedMemory(void)
{
    Py_ssize_t current = 0;
    Py_ssize_t peak = 0;
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        current = (Py_ssize_t)_PyTracer_Current();
        peak = (Py_ssize_t)_PyTracer_Peak();
    }
    _PyTracer_Unlock();
    return Py_BuildValue("nn", current, peak);
}

void
_PyTraceMalloc_ResetPeak(void)
{
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        _PyTracer_ResetPeak();
        _PyTracer_ResetNativePeak();
    }
    _PyTracer_Unlock();
}

static void *
block_of(PyObject *obj)
{
    return (char *)obj - _PyType_PreHeaderSize(Py_TYPE(obj));
}

PyObject *
_PyTraceMalloc_GetObjectTraceback(PyObject *obj)
{
    return _PyTracer_GetTraceback(0, (uintptr_t)block_of(obj));
}

PyObject *
_PyTraceMalloc_GetTraceback(unsigned int domain, uintptr_t ptr)
{
    return _PyTracer_GetTraceback(domain, ptr);
}

/* --- PyTraceMalloc_Track(): it does not take the GIL, except for domain 0,
   the allocators' own: finding the pool of a block needs the GIL. */

static void
drop_locked(unsigned int domain, uintptr_t ptr)
{
    struct tracer_record old;
    size_t room;
    uint32_t *entry = domain == 0
                      ? _PyTracer_FindEntry((void *)ptr, 0, &room) : NULL;
    if (entry != NULL) {
        _PyTracer_DropEntry(entry, ptr);
    }
    else if (domain != SNAPSHOT_NATIVE_DOMAIN) {
        (void)_PyTracer_MapRemove(ptr, domain, &old);
    }
    if (_PyTracer_HasFallen()) {
        _PyTracer_EndWindow();
    }
}

static int
track_locked(unsigned int domain, uintptr_t ptr, size_t size, uint32_t node)
{
    _PyTracer_ASSERT_LOCKED();
    if (domain == 0) {
        return _PyTracer_RecordNode((void *)ptr, size, TRACER_EXTERNAL, node);
    }
    struct tracer_record record = {
        .address = ptr, .size = size, .domain = domain,
        .kind = TRACER_EXTERNAL, .node = node};
    if (node == TRACER_NODE_NONE || domain == SNAPSHOT_NATIVE_DOMAIN
        || _PyTracer_MapAdd(&record) < 0)
    {
        return _PyTracer_CountUntraced();
    }
    return 0;
}

int
PyTraceMalloc_Track(unsigned int domain, uintptr_t ptr, size_t size)
{
    if (!_Py_atomic_load_int_relaxed(&_PyTracer.tracing)) {
        return -2;
    }
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate == NULL && domain == 0) {
        PyGILState_STATE state = PyGILState_Ensure();
        int result = PyTraceMalloc_Track(domain, ptr, size);
        PyGILState_Release(state);
        return result;
    }
    int captured = tstate != NULL && !_PyTracer.many_gils;
    uint32_t node = captured ? _PyTracer_Capture(tstate) : TRACER_NODE_NONE;
    if (tstate == NULL) {
        tstate = PyGILState_GetThisThreadState();
    }
    int result = -2;
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        if (!captured) {
            node = _PyTracer_CaptureAlone(tstate);
        }
        result = track_locked(domain, ptr, size, node);
        if (result == 0 && node != TRACER_NODE_NONE) {
            _PyTracer_ClaimNative(ptr);
        }
    }
    _PyTracer_Unlock();
    return result;
}

int
PyTraceMalloc_Untrack(unsigned int domain, uintptr_t ptr)
{
    if (!_Py_atomic_load_int_relaxed(&_PyTracer.tracing)) {
        return -2;
    }
    if (_PyThreadState_GET() == NULL && domain == 0) {
        PyGILState_STATE state = PyGILState_Ensure();
        int result = PyTraceMalloc_Untrack(domain, ptr);
        PyGILState_Release(state);
        return result;
    }
    int result = -2;
    _PyTracer_Lock();
    if (_PyTracer.tracing) {
        drop_locked(domain, ptr);
        result = 0;
    }
    _PyTracer_Unlock();
    return result;
}

/* --- Traceback of a block for the debug allocator's report */

#define PUTS(fd, str) (void)_Py_write_noraise(fd, str, strlen(str))

void
_PyMem_DumpTraceback(int fd, const void *ptr)
{
    if (!_PyTracer.tracing) {
        PUTS(fd, "Enable tracemalloc to get the memory block "
                 "allocation traceback\n\n");
        return;
    }
    _PyTracer_Lock();
    struct tracer_trace trace;
    const struct tracer_record *released;
    uint32_t node = TRACER_NODE_NONE;
    if (_PyTracer_FindBlock(0, (uintptr_t)ptr, &trace)) {
        node = trace.node;
    }
    else if ((released = _PyTracer_FindReleased((uintptr_t)ptr)) != NULL) {
        node = released->node;
    }
    if (node != TRACER_NODE_NONE) {
        PUTS(fd, "Memory block allocated at (most recent call first):\n");
        for (uint32_t n = _PyTracer_NFrames(node); n > 0; n--) {
            const struct tracer_location *loc = _PyTracer_LocationAt(node);
            PUTS(fd, "  File \"");
            PUTS(fd, _PyTracer_FilenameOf(loc)->utf8);
            PUTS(fd, "\", line ");
            _Py_DumpDecimal(fd, (size_t)_PyTracer_PositionOf(loc).line);
            PUTS(fd, "\n");
            node = _PyTracer_Node(node)->parent;
        }
        PUTS(fd, "\n");
    }
    _PyTracer_Unlock();
}
