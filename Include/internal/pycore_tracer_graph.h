/* The heap as a graph, as the interpreter hands it over with a snapshot: who
   refers to whom, and by what name.

   Objects are numbered in the order in which a walk breadth first met them;
   the first ones are none, see below.  A reference is one that counts: a
   mortal object has at least as many references as there are here, and what is
   left over is held by code in C.

   This header needs nothing of CPython, as pycore_tracer_snapshot.h, which
   includes it. */

#ifndef Py_INTERNAL_TRACER_GRAPH_H
#define Py_INTERNAL_TRACER_GRAPH_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stdint.h>

/* What is no object.  The root has no references here: it holds all that is
   immortal, or that has references left over, and these three. */
enum snapshot_fixed {
    SNAPSHOT_ROOT,
    SNAPSHOT_INTERPRETER,         // its state
    SNAPSHOT_STATIC_TYPES,
    SNAPSHOT_THREADS,
    SNAPSHOT_NFIXED
};

/* Instead of a number of references that are left over. */
#define SNAPSHOT_IMMORTAL UINT32_MAX
#define SNAPSHOT_UNCOUNTED (UINT32_MAX - 1)    // without the GIL: not known

struct snapshot_object {
    uint64_t address;             // 0: one of the first ones
    uint64_t first;               // of its references
    uint32_t type;                // the object that is its type; 0: it is none
    uint32_t shape;
    uint32_t surplus;             // references left over, or one of the above
    uint32_t text;                // string: of a str; line of a frame; what
};                                //   else has a name of its own.  Or NONE

/* How to read the references of an object.  The first ones, as many as the
   shape has names, are what these say; number 0 stands for a NULL.  What the
   others are, depends on the kind. */
enum snapshot_object_kind {
    SNAPSHOT_PLAIN,               // in no order
    SNAPSHOT_DICT,                // key, value, key, value ...
    SNAPSHOT_NAMESPACE,           // the same; its keys are names
    SNAPSHOT_SEQUENCE,            // items by their index
    SNAPSHOT_SET,                 // items in no order
    SNAPSHOT_CELL,                // the content
    SNAPSHOT_MODULE,
    SNAPSHOT_TYPE,
    SNAPSHOT_FUNCTION,
    SNAPSHOT_METHOD,              // of an object
    SNAPSHOT_CODE,
    SNAPSHOT_FRAME,               // evaluation stack; its type may be 0, or
                                  //   that of a generator or a coroutine
    SNAPSHOT_THREAD,              // the type is 0
    SNAPSHOT_STATE,               // the first ones; libraries, whose text is
                                  //   their name
    SNAPSHOT_NOBJECT_KINDS
};

/* The first shapes are of no type, have no names, and the number of their
   kind. */
#define SNAPSHOT_NFIXED_SHAPES (SNAPSHOT_SET + 1)

/* A name is a text as it is shown: ".attribute", "local x", "closure x",
   "__dict__". */
struct snapshot_shape {
    uint32_t kind;
    uint32_t first;               // in names
    uint32_t n;
};

/* A block that belongs to an object, beside its own: keys of a dict, items of
   a list. */
struct snapshot_buffer {
    uint64_t address;
    uint32_t object;
};

struct snapshot_graph {
    uint32_t nobjects, nshapes, nnames;
    uint32_t has_keys;            // texts of keys of all dicts, not names alone
    uint32_t shared;              // by so many more snapshots
    uint64_t nreferences, nbuffers;
    struct snapshot_object *objects;      // one more, whose first is the end
    uint32_t *references;         // objects
    struct snapshot_shape *shapes;
    uint32_t *names;              // strings of the snapshot
    struct snapshot_buffer *buffers;
    /* As it is in a file, until somebody looks at it.  NULL: it is above. */
    uint8_t *coded;
    uint64_t coded_size, coded_offset;
    struct snapshot_graph *decoded;       // what was made of it
};

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_GRAPH_H */
