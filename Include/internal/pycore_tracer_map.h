/* The address map: blocks that no pool holds, see tracer_map.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_MAP_H
#define Py_INTERNAL_TRACER_MAP_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_tree.h"

/* Open addressing, linear probing, power of two, at most 3/4 full, or 15/16
   where there is no memory to grow; node NONE: empty. */
struct tracer_record {
    uintptr_t address;
    size_t size;                  // requested
    uint32_t node : 24;
    uint32_t kind : 8;            // enum tracer_kind
    uint32_t domain;              // of PyTraceMalloc_Track(); 0 for malloc;
                                  //   of native memory, its C stack
};

static inline uint32_t
_PyTracer_DomainOf(const struct tracer_record *record)
{
    return record->kind == TRACER_NATIVE ? SNAPSHOT_NATIVE_DOMAIN
                                         : record->domain;
}

struct tracer_map {
    struct tracer_record *records;
    size_t mask;                  // capacity - 1
    size_t used;
    int in_pools;                 // an address may be that of a small block
};
extern struct tracer_map _PyTracer_map;

extern int _PyTracer_MapInit(void);
extern void _PyTracer_MapClear(void);
extern struct tracer_record *_PyTracer_MapFind(uintptr_t address,
                                               uint32_t domain);
/* Add or replace a record and count it; 0, or -1 if there is no memory. */
extern int _PyTracer_MapAdd(const struct tracer_record *record);
/* The same for a block of a free list that is charged to another node.  If it
   has a record of the allocators, that one's size and kind stay. */
extern int _PyTracer_MapMove(const struct tracer_record *record);
/* The same for a block that realloc() has moved from an address, or has
   resized where it was.  A record of the object and memory domains at the old
   address is that block's; any other is of a thread without the GIL, which has
   got the address since.  Without a node, the old record goes: -1.  GIL. */
extern int _PyTracer_MapResize(uintptr_t old,
                               const struct tracer_record *record);
/* Remove a record, uncount it and copy it to *old; 0 if there was none. */
extern int _PyTracer_MapRemove(uintptr_t address, uint32_t domain,
                               struct tracer_record *old);
/* Take back a MapRemove(): the block did not go away after all. 0, or -1 if
   there is no memory. */
extern int _PyTracer_MapRestore(const struct tracer_record *old);
/* For native memory, which has counters of its own: nothing is counted here.
   The record of the block, or an empty one that becomes its record; NULL: no
   memory.  The caller fills it.  The second is as MapRemove(). */
extern struct tracer_record *_PyTracer_MapPlace(uintptr_t address,
                                                uint32_t domain);
extern int _PyTracer_MapTake(uintptr_t address, uint32_t domain,
                             struct tracer_record *old);
extern const char *_PyTracer_MapFault(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_MAP_H */
