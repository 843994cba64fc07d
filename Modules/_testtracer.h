/* The parts of the module _testtracer, each a file of its own. */

#ifndef TESTTRACER_H
#define TESTTRACER_H

#include "Python.h"

/* Functions of each part, ended by an empty entry. */
extern PyMethodDef _TestTracer_LogFunctions[];
extern PyMethodDef _TestTracer_CompareFunctions[];
extern PyMethodDef _TestTracer_PlayFunctions[];
extern PyMethodDef _TestTracer_ThreadFunctions[];
extern PyMethodDef _TestTracer_FailFunctions[];
extern PyMethodDef _TestTracer_ForkFunctions[];
extern PyMethodDef _TestTracer_BreakFunctions[];
extern PyMethodDef _TestTracer_OrderFunctions[];
extern PyMethodDef _TestTracer_FrameFunctions[];
extern PyMethodDef _TestTracer_WrapFunctions[];
extern PyMethodDef _TestTracer_HeapFunctions[];
extern PyMethodDef _TestTracer_MadeFunctions[];
extern PyMethodDef _TestTracer_GraphFunctions[];
extern PyMethodDef _TestTracer_RssFunctions[];

/* --- _testtracer_log.c: the books of the oracle.  GIL held. */

#define BOOKS_SIZE (1u << 20)     // slots; open addressing, linear probing
#define UNKNOWN_SIZE ((size_t)-1)

struct block {
    uintptr_t address;            // 0: empty slot
    size_t size;                  // requested bytes
    uint64_t path;                // hash of its frames; 0: not known
    uint64_t place;               // of the most recent one
    uint8_t kind;                 // enum tracer_kind
    uint8_t old;                  // from before the oracle, or of a hidden
                                  //   thread: the tracer need not have it
    uint8_t seen;                 // for compare()
};

struct books {
    struct block *blocks;
    uint32_t limit;               // frames of a path
    Py_ssize_t unknown_freed;     // big blocks from before the oracle, of the
                                  //   object and memory domains, freed since
    int hidden;                   // a hidden thread has allocated something
};

extern struct books _TestTracer_Books;

/* The block at an address, or an empty slot. */
extern struct block *_TestTracer_Find(uintptr_t address);

/* The same for same file names and lines; never 0. */
struct tracer_place;
extern uint64_t _TestTracer_HashPath(const struct tracer_place *places,
                                     uint32_t n);

#define MAX_FRAMES 1000           // of a path

/* --- _testtracer_walk.c: CPython's free lists and heap.  GIL held, or the
   world stopped; these do not allocate. */

/* A block that is on a free list of this interpreter. */
struct parked_block {
    uintptr_t address;
    int kind;                     // enum _PyTracer_freelist
};

/* Store at most n of them; how many there are. */
extern size_t _TestTracer_WalkFreelists(struct parked_block *blocks,
                                        size_t n);

/* Call visit() for each block of a pool that is allocated; without the GIL for
   each block of the object and memory domains. */
extern void _TestTracer_WalkBlocks(void (*visit)(uintptr_t address, void *arg),
                                   void *arg);

#endif /* !TESTTRACER_H */
