/* The cache of the capture: from (node of the caller, instruction) to node.  A
   hit avoids the lock, and the tables of code objects and of the call tree.
   The cache grows when it misses lines that it has held before.  Its lines are
   valid until a code object dies and another one is made at the same
   address. */

#include "Python.h"
#include "pycore_tracer_cache.h"
#include "pycore_tracer_code.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_state.h"

struct tracer_cache_line _PyTracer_cache[TRACER_CACHE_MAX];

/* GIL.  _PyTracer.cache_mask is set together with it. */
static struct {
    uint32_t lines;               // in use
    uint32_t misses;              // since it has this size
    uint32_t sweeps;              // the same
} cache_size;

#define MISSES 8                  // a line, until it grows
#define SMALL 8192                // lines: a sweep costs little
#define SWEEPS 64                 // of a large one, until it shrinks

static void
set_lines(uint32_t n)
{
    assert(n >= TRACER_CACHE_MIN && n <= TRACER_CACHE_MAX);
    assert((n & (n - 1)) == 0);
    cache_size.lines = n;
    _PyTracer.cache_mask = TRACER_CACHE_MASK(n);
    cache_size.misses = 0;
    cache_size.sweeps = 0;
}

void
_PyTracer_ClearCache(void)
{
    memset(_PyTracer_cache, 0,
           cache_size.lines * sizeof(_PyTracer_cache[0]));
    _PyTracer_codes.dead_high = 0;
    set_lines(TRACER_CACHE_MIN);
}

/* The node existed before, so this is a miss and not a first visit.  After the
   cache has grown, lines in the wrong place are still valid. */
static void
count_miss(void)
{
    if (++cache_size.misses > MISSES * cache_size.lines
        && cache_size.lines < TRACER_CACHE_MAX)
    {
        set_lines(2 * cache_size.lines);
    }
}

uint32_t
_PyTracer_FillCache(struct tracer_cache_line *line, uint32_t parent,
                    _PyInterpreterFrame *frame)
{
    const void *instr = frame->instr_ptr;
    _PyTracer_Lock();
    /* Our functions may be called when tracing is off, by a wrapper. */
    uint32_t nnodes = _PyTracer_tree.nnodes;
    uint32_t node = _PyTracer.tracing ? _PyTracer_ChildOf(parent, frame)
                                      : TRACER_NODE_NONE;
    int is_new = _PyTracer_tree.nnodes != nnodes;
    int full = _PyTracer_tree.nnodes >= _PyTracer_tree.prune_at;
    _PyTracer_Unlock();
    if (node != TRACER_NODE_NONE) {
        line[1] = line[0];
        line[0] = (struct tracer_cache_line){instr, parent, node};
    }
    if (full) {
        _PyTracer_tree.must_prune = 1;
        _PyTracer_codes.epoch++;       // the next capture comes to distrust()
    }
    if (!is_new) {
        count_miss();
    }
    return node;
}

/* A program that keeps making new code is faster with a small cache. */
static void
shrink(void)
{
    uint32_t n = cache_size.lines / 2;
    memset(_PyTracer_cache + n, 0, n * sizeof(_PyTracer_cache[0]));
    set_lines(n);
}

/* Lines for dead instructions do no harm until new instructions may be at
   their addresses.  Code objects die in large groups, so this is rare.  An
   empty line has no node: a frame may have no instruction (the lowest of a
   thread, from 3.15 on). */
void
_PyTracer_CodeNew(void)
{
    if (_PyTracer.many_gils || _PyTracer_codes.dead_high == 0) {
        return;                   // several GILs: no cache is used
    }
    _PyTracer_BeginCapture();
    if (cache_size.lines > SMALL && ++cache_size.sweeps > SWEEPS) {
        shrink();
    }
    uintptr_t low = _PyTracer_codes.dead_low;
    uintptr_t length = _PyTracer_codes.dead_high - low;
    for (size_t i = 0; i < cache_size.lines; i++) {
        struct tracer_cache_line *line = &_PyTracer_cache[i];
        if ((uintptr_t)line->instr - low < length) {
            *line = (struct tracer_cache_line){NULL, 0, TRACER_NODE_NONE};
        }
    }
    _PyTracer_codes.dead_high = 0;
    _PyTracer_EndCapture();
}
