/* The cache (parent, instruction) -> node, see tracer_cache.c.  The one GIL
   held. */

#ifndef Py_INTERNAL_TRACER_CACHE_H
#define Py_INTERNAL_TRACER_CACHE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_tree.h"

/* Sets of two lines, the last used line first.  The cache grows with the
   number of misses; unused memory is never touched. */
#define TRACER_CACHE_MIN 512      // lines
#define TRACER_CACHE_MAX 65536
struct tracer_cache_line {
    const void *instr;
    uint32_t parent;
    uint32_t node;
};
#define TRACER_CACHE_MASK(LINES) \
    (uint32_t)(((LINES) / 2 - 1) * 2 * sizeof(struct tracer_cache_line))

extern struct tracer_cache_line _PyTracer_cache[TRACER_CACHE_MAX];

/* Node of the frame below `parent`, when neither line has it; NONE: no
   memory.  Not locked. */
extern uint32_t _PyTracer_FillCache(struct tracer_cache_line *line,
                                    uint32_t parent,
                                    _PyInterpreterFrame *frame);
extern void _PyTracer_ClearCache(void);

/* First line of the set for an instruction below `parent`.  The instructions
   of a long function are often the same distance apart; this factor spreads
   the multiples of any small number well, wherever they start. */
static inline Py_ALWAYS_INLINE struct tracer_cache_line *
_PyTracer_CacheLine(const void *instr, uint32_t parent)
{
    uint32_t x = (uint32_t)(uintptr_t)instr + parent * TRACER_GOLDEN_32;
    uint32_t offset = (x * 0x21334eb1u) & _PyTracer.cache_mask;
    return (struct tracer_cache_line *)((char *)_PyTracer_cache + offset);
}

/* The node in the second line of a set, which becomes the first; or NONE. */
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

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_CACHE_H */
