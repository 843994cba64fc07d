/* The call tree, see tracer_tree.c.  Locked.  TRACER_NODE_NONE: no memory. */

#ifndef Py_INTERNAL_TRACER_TREE_H
#define Py_INTERNAL_TRACER_TREE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_state.h"

extern int _PyTracer_TreeInit(void);
extern void _PyTracer_TreeClear(void);
extern uint32_t _PyTracer_Child(uint32_t parent, uint32_t location);
extern size_t _PyTracer_TreeMemory(void);     // bytes touched
/* All nodes have other numbers now. */
extern void _PyTracer_ReindexTree(void);
/* Give the node a twin, if it has none. */
extern void _PyTracer_MakeTwin(uint32_t node);
extern const char *_PyTracer_TreeFault(void);

/* `parent` of a node that starts a path at this depth of the stack. */
static inline uint32_t
_PyTracer_BaseParent(size_t depth)
{
    return depth == 0 ? 0 : TRACER_TRUNCATED | (uint32_t)depth;
}

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TREE_H */
