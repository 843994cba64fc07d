/* Threads without the GIL: each exchanges blocks of the raw domain with all
   others. */

#include "Python.h"
#include "_testtracer.h"

#include <pthread.h>
#include <stdatomic.h>

#define SLOTS 4096
#define MAX_THREADS 64

static _Atomic(void *) slots[SLOTS];
static atomic_int running;
static pthread_t threads[MAX_THREADS];
static int nthreads;
static const unsigned int track_domain = 77;

static uint32_t
next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *
hammer(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    while (atomic_load(&running)) {
        size_t size = 1 + next_random(&seed) % 2000;
        void *p = size % 3 ? PyMem_RawMalloc(size) : PyMem_RawCalloc(1, size);
        if (p != NULL && size % 5 == 0) {
            void *q = PyMem_RawRealloc(p, size * 2);
            p = q != NULL ? q : p;
        }
        uintptr_t key = next_random(&seed) % SLOTS;
        (void)PyTraceMalloc_Track(track_domain, key, size);
        PyMem_RawFree(atomic_exchange(&slots[key], p));
        (void)PyTraceMalloc_Untrack(track_domain, next_random(&seed) % SLOTS);
    }
    return NULL;
}

static PyObject *
start_threads(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int n = PyLong_AsInt(arg);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (n < 1 || n > MAX_THREADS || nthreads != 0) {
        PyErr_Format(PyExc_ValueError, "1 to %d threads, once", MAX_THREADS);
        return NULL;
    }
    atomic_store(&running, 1);
    for (; nthreads < n; nthreads++) {
        if (pthread_create(&threads[nthreads], NULL, hammer,
                           (void *)(uintptr_t)(nthreads + 1)))
        {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    Py_RETURN_NONE;
}

/* Join the threads and free all they left. */
static PyObject *
stop_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    atomic_store(&running, 0);
    Py_BEGIN_ALLOW_THREADS
    while (nthreads > 0) {
        pthread_join(threads[--nthreads], NULL);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        PyMem_RawFree(atomic_exchange(&slots[i], NULL));
        (void)PyTraceMalloc_Untrack(track_domain, i);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyMethodDef _TestTracer_ThreadFunctions[] = {
    {"start_threads", start_threads, METH_O, NULL},
    {"stop_threads", stop_threads, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
