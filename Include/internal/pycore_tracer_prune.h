/* Nodes are given back, see tracer_prune.c. */

#ifndef Py_INTERNAL_TRACER_PRUNE_H
#define Py_INTERNAL_TRACER_PRUNE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Give back nodes that no live block names; not now, if somebody holds
   HEAD_LOCK.  GIL held, not shared, not locked; numbers of nodes are void
   then. */
extern void _PyTracer_Prune(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_PRUNE_H */
