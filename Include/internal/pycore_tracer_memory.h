/* The tracer's own memory, see tracer_memory.c.  All functions want the lock;
   NULL without an exception if there is no memory. */

#ifndef Py_INTERNAL_TRACER_MEMORY_H
#define Py_INTERNAL_TRACER_MEMORY_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

struct tracer_mapped {
    void *p;
    size_t size;
};

struct tracer_memory {
    size_t total;                 // bytes held from the system
    char *bump, *bump_end;
    void *free_tables[64];        // pool tables, by size class
    long calls;                   // requests made
    long fail_from, fail_to;      // test hook: requests [from, to) fail
    size_t page_size;             // 0: not asked for yet; a test sets it
    struct tracer_mapped *ranges; // mappings; fewer if there was no memory
    size_t nranges, max_ranges;
};
extern struct tracer_memory _PyTracer_memory;

extern void *_PyTracer_MemAlloc(size_t size);               // zeroed
extern void _PyTracer_MemFree(void *p, size_t size);
/* Copy to a bigger mapping; the old one is freed unless NULL is returned. */
extern void *_PyTracer_MemGrow(void *p, size_t size, size_t new_size);
/* The same for an array: make it hold twice as many items. */
extern void *_PyTracer_MemDouble(void *p, uint32_t *capacity,
                                 size_t item_size);
/* Reserve a range of addresses, parts of which are made usable later.  Without
   `must`, only if the range is a small part of the addresses that are left. */
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

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_MEMORY_H */
