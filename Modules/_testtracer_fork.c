/* fork() at unexpected places: in a signal handler, at any instruction of the
   tracer; and while another thread keeps the tracer's lock. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_pystate.h"       // HEAD_UNLOCK()
#include "pycore_runtime.h"       // _PyRuntime
#include "pycore_tracer_visit.h"
#include "_testtracer.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>             // setitimer()
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 20

static volatile sig_atomic_t delay;       // microseconds until the next fork
static volatile sig_atomic_t goes_on;     // the child returns from the handler
static volatile sig_atomic_t is_child;
static volatile sig_atomic_t forks, failures;

static int
set_timer(void)
{
    struct itimerval timer = {.it_value.tv_usec = delay};
    return setitimer(ITIMER_REAL, &timer, NULL);
}

static void
on_alarm(int sig)
{
    int saved_errno = errno;
    pid_t pid = fork();
    if (pid == 0) {
        if (!goes_on) {
            _exit(0);
        }
        is_child = 1;
        signal(sig, SIG_DFL);
        alarm(CHILD_SECONDS);
    }
    else {
        int status = -1;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        forks++;
        failures += status != 0;
        set_timer();
    }
    errno = saved_errno;
}

/* fork_at_alarms(usec, goes_on=False): fork so many microseconds from now (0:
   no more) and after each fork, wherever the main thread is, and wait for the
   child, which ends at once or returns from the handler. */
static PyObject *
fork_at_alarms(PyObject *Py_UNUSED(module), PyObject *args)
{
    int usec;
    int go_on = 0;
    if (!PyArg_ParseTuple(args, "i|p:fork_at_alarms", &usec, &go_on)) {
        return NULL;
    }
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    delay = usec;
    goes_on = go_on;
    if (sigaction(SIGALRM, &action, NULL) < 0 || set_timer() < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* How many forks there were, and children that failed. */
static PyObject *
count_forks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return Py_BuildValue("ii", (int)forks, (int)failures);
}

/* Has one of these forks made this process? */
static PyObject *
is_fork_child(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyBool_FromLong(is_child);
}

/* --- While another thread has the lock */

static sem_t locked, done;

static void
keep_lock(const struct tracer_block *Py_UNUSED(block), void *arg)
{
    int *kept = arg;
    if (!*kept) {
        *kept = 1;
        sem_post(&locked);
        while (sem_wait(&done) < 0) {
        }
    }
}

static void *
visit_blocks(void *Py_UNUSED(arg))
{
    int kept = 0;
    (void)_PyTracer_VisitBlocks(keep_lock, &kept);
    return NULL;
}

/* fork_while_locked(): fork(), but another thread has the lock until that is
   over.  Tracing must be on. */
static PyObject *
fork_while_locked(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    pthread_t thread;
    sem_init(&locked, 0, 0);
    sem_init(&done, 0, 0);
    if (pthread_create(&thread, NULL, visit_blocks, NULL)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    while (sem_wait(&locked) < 0) {
    }
    pid_t pid = fork();
    if (pid == 0) {
        HEAD_UNLOCK(&_PyRuntime);         // which the thread took, too
    }
    else {
        sem_post(&done);
        pthread_join(thread, NULL);
    }
    return PyLong_FromLong(pid);
}

PyMethodDef _TestTracer_ForkFunctions[] = {
    {"fork_at_alarms", fork_at_alarms, METH_VARARGS, NULL},
    {"count_forks", count_forks, METH_NOARGS, NULL},
    {"is_fork_child", is_fork_child, METH_NOARGS, NULL},
    {"fork_while_locked", fork_while_locked, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};
