/* The heap as a graph, as the interpreter hands it over with a snapshot: which
   objects refer to which, and by what names.

   Objects are numbered in the order of a breadth-first walk; the first numbers
   do not stand for objects, see below.  Only references that are counted are
   recorded.  So the reference count of a mortal object is at least the number
   of references here; the surplus is held by C code.  Like
   pycore_tracer_snapshot.h, which includes it, this header needs nothing of
   CPython. */

#ifndef Py_INTERNAL_TRACER_GRAPH_H
#define Py_INTERNAL_TRACER_GRAPH_H
#ifdef __cplusplus
extern "C" {
#endif

#include <stdint.h>

/* Numbers that do not stand for objects.  The root's references are not
   written down: it holds these three, all immortal objects, and all objects
   with surplus references. */
enum snapshot_fixed {
    SNAPSHOT_ROOT,
    SNAPSHOT_INTERPRETER,         // its state
    SNAPSHOT_STATIC_TYPES,
    SNAPSHOT_THREADS,
    SNAPSHOT_NFIXED
};

/* In place of a number of surplus references. */
#define SNAPSHOT_IMMORTAL UINT32_MAX
#define SNAPSHOT_UNCOUNTED (UINT32_MAX - 1)    // without the GIL: not known

struct snapshot_object {
    uint64_t address;             // 0: one of the first ones
    uint64_t first;               // of its references
    uint32_t type;                // the object that is its type; 0: it is none
    uint32_t shape;
    uint32_t surplus;             // references left over, or one of the above
    uint32_t text;                // a str: its string; a frame: its line; or
};                                //   the string of its own name, or NONE

/* How to read the references of an object.  The names of the shape belong to
   the first references; number 0 stands for a NULL.  The kind says what the
   other references are. */
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
    SNAPSHOT_OTHER_INTERPRETER,   // its text is its number; the type is 0
    SNAPSHOT_NOBJECT_KINDS
};

/* The first shapes have no type and no names; their number is that of their
   kind. */
#define SNAPSHOT_NFIXED_SHAPES (SNAPSHOT_SET + 1)

/* A name is a text as it is shown: ".attribute", "local x", "closure x",
   "__dict__". */
struct snapshot_shape {
    uint32_t kind;
    uint32_t first;               // in names
    uint32_t n;
};

/* A further block that belongs to an object: keys of a dict, items of a
   list. */
struct snapshot_buffer {
    uint64_t address;
    uint32_t object;
};

struct snapshot_graph {
    uint32_t nobjects, nshapes, nnames;
    uint32_t has_keys;            // texts of the keys of all dicts
    uint32_t shared;              // by so many more snapshots
    uint64_t nreferences, nbuffers;
    struct snapshot_object *objects;      // one more, whose first is the end
    uint32_t *references;         // objects
    struct snapshot_shape *shapes;
    uint32_t *names;              // strings of the snapshot
    struct snapshot_buffer *buffers;
    /* The encoded graph of a file, until it is used.  NULL: it is decoded,
       above. */
    uint8_t *coded;
    uint64_t coded_size, coded_offset;
    struct snapshot_graph *decoded;       // what was made of it
};

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_GRAPH_H */
