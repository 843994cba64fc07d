/* The heap as a file of V8's: .heapsnapshot, see heapsnapshot.c. */

#ifndef TRACER_HEAPSNAPSHOT_H
#define TRACER_HEAPSNAPSHOT_H

#include "graph_rows.h"

/* --- heapsnapshot_names.c: texts of the file, each once */
struct heap_names {
    const struct snapshot_heap *heap;
    char *text;
    uint32_t text_size;
    uint32_t start, end;          // in `text`, of what is being put together
    struct heap_name {
        uint32_t start, length;
    } *names;
    uint32_t n, names_size;
    struct snapshot_pairs numbers;    // of hashes of texts
    uint32_t *types;              // by object: its number + 1 as a type's
    uint32_t *references;         // by string: its number + 1 as that of one
    int failed;                   // no memory
};

/* Node types and edge types, as the file declares them. */
enum { HEAP_STRING = 2, HEAP_OBJECT, HEAP_CODE, HEAP_CLOSURE, HEAP_NUMBER = 7,
       HEAP_NATIVE, HEAP_SYNTHETIC };
enum { HEAP_CONTEXT, HEAP_ELEMENT, HEAP_PROPERTY, HEAP_INTERNAL };

extern int _PyHeapFile_NamesInit(struct heap_names *names,
                                 const struct snapshot_heap *heap);
extern void _PyHeapFile_NamesFree(struct heap_names *names);
extern uint32_t _PyHeapFile_Name(struct heap_names *names, const char *text);
extern uint32_t _PyHeapFile_String(struct heap_names *names, uint32_t string);
/* What an object is, and the type of its node. */
extern uint32_t _PyHeapFile_NameOf(struct heap_names *names, uint32_t object,
                                   int *type);
/* How an object refers to another one: the type of the edge, and its name or
   index. */
extern int _PyHeapFile_Edge(struct heap_names *names, uint32_t object,
                            uint32_t i, uint32_t *name);

/* --- heapsnapshot_out.c: text that a Python function takes in pieces */
struct heap_out {
    PyObject *write;              // called with bytes
    int failed;                   // an exception is set
    uint32_t used;
    char buffer[1 << 16];
};
#define HEAP_OUT_ROOM 256         // of what is put at once

extern void _PyHeapFile_Flush(struct heap_out *out);
extern void _PyHeapFile_PutText(struct heap_out *out, const char *text);
extern void _PyHeapFile_PutNumber(struct heap_out *out, uint64_t number);
/* In quotes, in ASCII. */
extern void _PyHeapFile_PutQuoted(struct heap_out *out, const char *text,
                                  uint32_t length);

static inline void
_PyHeapFile_Put(struct heap_out *out, char c)
{
    if (out->used > sizeof(out->buffer) - HEAP_OUT_ROOM) {
        _PyHeapFile_Flush(out);
    }
    out->buffer[out->used++] = c;
}

#endif /* !TRACER_HEAPSNAPSHOT_H */
