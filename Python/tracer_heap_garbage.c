/* Garbage while the collector runs finalizers and callbacks.

   At that time, the objects that the collector has found unreachable are not
   in a generation, but in lists on the stack of the collecting thread.  A
   snapshot that a finalizer takes would see these objects only if something
   else refers to them.  So gc.c tells where the heads of the lists are.
   Without the GIL all objects are visited in their heaps, and none of this is
   called. */

#include "Python.h"
#include "pycore_gc.h"            // PyGC_Head
#include "pycore_pystate.h"       // _PyInterpreterState_GET()
#include "pycore_tracer_heap.h"
#include "pycore_tracer_lock.h"   // _PyTracer_Lock()

#define COLLECTIONS 8             // at a time, of interpreters with own GILs

enum { UNREACHABLE, FINALIZERS, SEEN, NLISTS };

/* A place belongs to an interpreter that is collecting, and is protected by
   its GIL.  Places are taken and given back under the tracer's lock. */
static struct {
    PyInterpreterState *interp;   // NULL: nobody's
    const PyGC_Head *lists[NLISTS];
} collections[COLLECTIONS];

static int
find(const PyInterpreterState *interp)
{
    int i = 0;
    while (i < COLLECTIONS
           && _Py_atomic_load_ptr_relaxed(&collections[i].interp) != interp)
    {
        i++;
    }
    return i;
}

static void
tell(PyThreadState *tstate, int list, const void *head)
{
    int i = find(tstate->interp);
    if (i < COLLECTIONS) {
        collections[i].lists[list] = head;
    }
}

static void
exchange(PyInterpreterState *before, PyInterpreterState *after)
{
    _PyTracer_Lock();
    int i = find(before);
    if (i < COLLECTIONS) {
        _Py_atomic_store_ptr_relaxed(&collections[i].interp, after);
    }
    _PyTracer_Unlock();
}

void
_PyTracer_GarbageFound(PyThreadState *tstate, const void *unreachable,
                       const void *finalizers)
{
    assert(find(tstate->interp) == COLLECTIONS);      // it does not nest
    exchange(NULL, tstate->interp);
    tell(tstate, UNREACHABLE, unreachable);
    tell(tstate, FINALIZERS, finalizers);
    tell(tstate, SEEN, NULL);
}

void
_PyTracer_GarbageSeen(PyThreadState *tstate, const void *seen)
{
    tell(tstate, SEEN, seen);
}

void
_PyTracer_GarbageLeft(PyThreadState *tstate, const void *unreachable)
{
    tell(tstate, UNREACHABLE, unreachable);
    tell(tstate, SEEN, NULL);
}

void
_PyTracer_GarbageGone(PyThreadState *tstate)
{
    exchange(tstate->interp, NULL);
}

/* The lowest bits of a link hold marks of the collector. */
static const PyGC_Head *
next_of(const PyGC_Head *head)
{
    return (const PyGC_Head *)(head->_gc_next & ~(uintptr_t)3);
}

void
_PyTracer_VisitGarbage(PyInterpreterState *interp, gcvisitobjects_t visit,
                       void *arg)
{
    int i = find(interp);
    for (int list = 0; i < COLLECTIONS && list < NLISTS; list++) {
        const PyGC_Head *head = collections[i].lists[list];
        if (head == NULL) {
            continue;
        }
        for (const PyGC_Head *gc = next_of(head); gc != head;
             gc = next_of(gc))
        {
            if (!visit((PyObject *)(gc + 1), arg)) {
                return;
            }
        }
    }
}
