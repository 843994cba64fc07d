/* The results of the analysis of a graph as Python objects. */

#ifndef TRACER_GRAPH_ROWS_H
#define TRACER_GRAPH_ROWS_H

#include "traces.h"
#include "graph.h"

/* The analysis, made when it is first asked for; NULL with an exception. */
extern struct snapshot_heap *_PyTracemalloc_GetHeap(TracesObject *self);
/* (kind, type or None, name or None, FrameInfo of its line or None, size,
   retained, address, number, where): where a frame is, or the code of a
   function, (filename, line) of str or None. */
extern PyObject *_PyTracemalloc_GraphObject(TracesObject *self,
                                            uint32_t object);
/* (number of the step, name or None) */
extern PyObject *_PyTracemalloc_GraphStep(TracesObject *self, uint32_t step);
extern PyObject *_PyTracemalloc_TextOrNone(TracesObject *self,
                                           uint32_t string);

#endif /* !TRACER_GRAPH_ROWS_H */
