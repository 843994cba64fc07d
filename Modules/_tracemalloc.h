/* What the files of the module _tracemalloc offer each other.  GIL held. */

#ifndef Py_TRACEMALLOC_MODULE_H
#define Py_TRACEMALLOC_MODULE_H

#include "pycore_tracer_snapshot.h"       // struct snapshot_note

/* Add what each file defines to the module _tracemalloc; -1 with an
   exception on error. */
extern int _PyTracemalloc_AddTasks(PyObject *module);
extern int _PyTracemalloc_AddMetrics(PyObject *module);
extern int _PyTracemalloc_AddMeasure(PyObject *module);
extern int _PyTracemalloc_AddArenas(PyObject *module);
extern int _PyTracemalloc_AddTake(PyObject *module);
extern int _PyTracemalloc_AddHide(PyObject *module);
extern int _PyTracemalloc_AddApart(PyObject *module);
extern int _PyTracemalloc_AddHistory(PyObject *module);
extern int _PyTracemalloc_AddImport(PyObject *module);
extern int _PyTracemalloc_AddRss(PyObject *module);
extern int _PyTracemalloc_AddLibraries(PyObject *module);

/* {free list: (blocks, bytes)}; NULL with an exception. */
extern PyObject *_PyTracemalloc_ParkedDict(uint64_t (*parked)[2]);

/* The notes as one object; NULL with an exception. */
extern PyObject *_PyTracemalloc_HistoryBytes(
    const struct snapshot_note *notes, uint32_t n);

#endif /* !Py_TRACEMALLOC_MODULE_H */
