/* The Python type that owns a snapshot, shared by the files of the module
   _tracemalloc_snapshot. */

#ifndef TRACER_TRACES_H
#define TRACER_TRACES_H

#include "pyapi.h"
#include "snapshot.h"

/* Python objects for texts, locations and nodes are made on first use, and
   kept, so that equal tracebacks are one tuple. */
typedef struct {
    PyObject_HEAD
    struct tracer_snapshot *data;
    PyObject *info;               // dict: what the tracer said beside
    PyObject *source;             // Traces that this one has its blocks from
    PyObject **strings;           // str, one per string
    PyObject **frames;            // FrameInfo, one per location
    PyObject **tracebacks;        // tuple of FrameInfo, one per node
    PyObject **places;            // tuple, one per place in C code
    struct snapshot_heap *heap;   // what was worked out of the graph, or NULL
} TracesObject;

/* --- module.c.  New references or NULL, exception set. */
extern PyTypeObject *_PyTracemalloc_Traces_Type;
/* Takes over `data`; NULL: MemoryError. */
extern PyObject *_PyTracemalloc_NewTraces(struct tracer_snapshot *data);

/* --- frames.c.  New references or NULL, exception set. */
extern PyObject *_PyTracemalloc_GetString(TracesObject *self, uint32_t i);
/* (filename, lineno) with more attributes. */
extern PyObject *_PyTracemalloc_GetFrame(TracesObject *self,
                                         uint32_t location);
/* Frames of a node, most recent first. */
extern PyObject *_PyTracemalloc_GetFrames(TracesObject *self, uint32_t node);
extern PyObject *_PyTracemalloc_NewFrame(PyObject *const *fields, int n);
extern void _PyTracemalloc_ClearFrames(TracesObject *self);
extern int _PyTracemalloc_AddFrames(PyObject *module);
/* The C frames of a class of blocks, the innermost first: a tuple of (path,
   build ID, offset, base); None: it is not of native memory. */
extern PyObject *_PyTracemalloc_GetNative(TracesObject *self, uint32_t class_);

/* --- build.c */
extern struct tracer_snapshot *_PyTracemalloc_FromSequence(PyObject *traces);
extern PyObject *_PyTracemalloc_FromLines(PyObject *module, PyObject *lines);
extern PyObject *_PyTracemalloc_Rename(TracesObject *self, PyObject *names);

/* --- rows.c, arenas.c */
extern const uint8_t *_PyTracemalloc_GetLines(TracesObject *self,
                                              PyObject *lines);
extern PyObject *_PyTracemalloc_Group(TracesObject *self, PyObject *args);
extern PyObject *_PyTracemalloc_OrderBlocks(TracesObject *self,
                                            PyObject *unused);
extern PyObject *_PyTracemalloc_Block(TracesObject *self, PyObject *number);
extern PyObject *_PyTracemalloc_CallTree(TracesObject *self, PyObject *unused);
extern PyObject *_PyTracemalloc_PinnedArenas(TracesObject *self,
                                             PyObject *occupancy);
extern PyObject *_PyTracemalloc_ArenaUse(TracesObject *self, PyObject *unused);

/* --- graph_rows.c, graph_why.c: who holds what */
extern PyObject *_PyTracemalloc_GraphTypes(TracesObject *self,
                                           PyObject *unused);
extern PyObject *_PyTracemalloc_Dominators(TracesObject *self,
                                           PyObject *unused);
extern PyObject *_PyTracemalloc_Retained(TracesObject *self, PyObject *args);
extern PyObject *_PyTracemalloc_Holders(TracesObject *self, PyObject *least);
extern PyObject *_PyTracemalloc_Why(TracesObject *self, PyObject *args);

/* --- heapsnapshot.c */
extern PyObject *_PyTracemalloc_WriteHeapSnapshot(TracesObject *self,
                                                  PyObject *write);

/* --- file.c: methods of Traces and of the module */
extern PyObject *_PyTracemalloc_Filter(TracesObject *self, PyObject *filters);
extern PyObject *_PyTracemalloc_FilterLines(TracesObject *self,
                                            PyObject *filters);
extern PyObject *_PyTracemalloc_SelectLines(TracesObject *self,
                                            PyObject *lines);
extern PyObject *_PyTracemalloc_Fold(TracesObject *self, PyObject *args);
extern PyObject *_PyTracemalloc_Select(TracesObject *self, PyObject *keep);
extern PyObject *_PyTracemalloc_Write(TracesObject *self, PyObject *args);
/* What is made when it is first needed, while other threads run: paths that
   are cut to the limit; and single blocks; the graph of a file.  It does not
   change after that, so that it is read without the GIL.  0, or -1 with an
   exception. */
extern int _PyTracemalloc_NeedPaths(TracesObject *self);
extern int _PyTracemalloc_NeedBlocks(TracesObject *self);
extern int _PyTracemalloc_NeedGraph(TracesObject *self);
extern PyObject *_PyTracemalloc_ReadReferences(TracesObject *self,
                                               PyObject *unused);
extern PyObject *_PyTracemalloc_Read(PyObject *module, PyObject *image);
extern PyObject *_PyTracemalloc_ReadKept(PyObject *module, PyObject *image);

/* --- pickle.c: function of the module */
extern PyObject *_PyTracemalloc_ReadPickle(PyObject *module, PyObject *args);

/* --- blocks.c: functions of the module */
extern int _PyTracemalloc_AddBlocks(PyObject *module);

#endif /* !TRACER_TRACES_H */
