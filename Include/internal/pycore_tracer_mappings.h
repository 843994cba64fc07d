/* What can be read of this process, see tracer_mappings.c. */

#ifndef Py_INTERNAL_TRACER_MAPPINGS_H
#define Py_INTERNAL_TRACER_MAPPINGS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

struct tracer_mapping {
    uintptr_t begin, end;
};

struct tracer_mappings {
    struct tracer_mapping *list;  // readable ones, by address
    size_t n, size;
    size_t last;                  // that was found
};

/* List the mappings of this moment: fewer if there is no memory or no /proc.
   `mappings` is all zero.  No GIL needed. */
extern void _PyTracer_ListMappings(struct tracer_mappings *mappings);
/* Can these bytes be read?  They can if they were mapped when the mappings
   were listed; else the kernel is asked.  `size` is not 0.  No GIL needed. */
extern int _PyTracer_IsMapped(struct tracer_mappings *mappings,
                              uintptr_t address, size_t size);
extern void _PyTracer_FreeMappings(struct tracer_mappings *mappings);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_MAPPINGS_H */
