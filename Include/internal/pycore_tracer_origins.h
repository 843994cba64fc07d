/* Where threads come from that Python does not know, see tracer_origins.c.
   Locked. */

#ifndef Py_INTERNAL_TRACER_ORIGINS_H
#define Py_INTERNAL_TRACER_ORIGINS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>

struct tracer_origin {
    uint32_t number;              // 0: unknown
    uint32_t generation;
};

/* The origin of threads that are made at the node; unknown: there is no node,
   or no memory. */
extern struct tracer_origin _PyTracer_OriginAt(uint32_t node);
/* NONE: the origin is unknown, or was forgotten. */
extern uint32_t _PyTracer_NodeOfOrigin(const struct tracer_origin *origin);
extern void _PyTracer_ForgetOrigins(void);
/* For pruning: nodes that must stay; their new numbers. */
extern void _PyTracer_MarkOrigins(uint32_t *marks);
extern void _PyTracer_RenumberOrigins(const uint32_t *numbers);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ORIGINS_H */
