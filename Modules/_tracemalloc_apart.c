/* Processes beside the program: _tie_to(), for the one that waits for it, and
   _run_apart(), for one that works on the tracer's data, so that the memory
   for this work is not the program's.

   The program must not see a child that it did not start. wait() skips a child
   that sends no signal when it ends, unless the caller asks for such children
   (__WALL); but only while the child has not executed another program.  So
   there are two processes: one in between, which has the other as its own
   child and waits for it.  Until they end or execute another program, they
   borrow the memory of this process, as with vfork(), and may change only
   their own stacks there.  All signals are blocked meanwhile, as a handler
   would run in both.  If the waiting thread ends, so do they. */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "_tracemalloc.h"

#ifdef __linux__
#  include <errno.h>
#  include <fcntl.h>
#  include <sched.h>              // clone()
#  include <signal.h>
#  include <sys/mman.h>
#  include <sys/prctl.h>
#  include <sys/syscall.h>
#  include <sys/wait.h>           // waitpid()
#  include <unistd.h>
#  ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/asan_interface.h>
#  endif

#define MAX_FILES 3
#define MAX_ARGUMENTS 16
#define STACK_SIZE (64 * 1024)
#define MANY_FILES 65536          // where close_range() is not known

struct apart {
    char *argv[MAX_ARGUMENTS + 1];
    int files[MAX_FILES];         // what are 0, 1 and so on there
    int nfiles;
    char *stacks;                 // of both processes
    sigset_t mask;                // of the thread, before
    int error;                    // errno; 0: it has run
    int status;                   // as waitpid() says
};

/* If SIGCHLD were ignored, there would be no child to wait for. */
static void
reset_handlers(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) == 0
            && (action.sa_handler != SIG_IGN || number == SIGCHLD))
        {
            action = (struct sigaction){.sa_handler = SIG_DFL};
            (void)sigaction(number, &action, NULL);
        }
    }
}

static void
close_from(unsigned first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0) {
        return;
    }
#endif
    for (int fd = (int)first; fd < MANY_FILES; fd++) {
        (void)close(fd);
    }
}

/* First move the descriptors out of the way of their final numbers. */
static int
place_files(struct apart *apart)
{
    for (int i = 0; i < apart->nfiles; i++) {
        apart->files[i] = fcntl(apart->files[i], F_DUPFD, MAX_FILES);
        if (apart->files[i] < 0) {
            return -1;
        }
    }
    for (int i = 0; i < apart->nfiles; i++) {
        if (dup2(apart->files[i], i) < 0) {
            return -1;
        }
    }
    close_from((unsigned)apart->nfiles);
    return 0;
}

/* The program itself, a child of the process in between. */
static int
run_program(void *arg)
{
    struct apart *apart = arg;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (place_files(apart) == 0
        && sigprocmask(SIG_SETMASK, &apart->mask, NULL) == 0)
    {
        execv(apart->argv[0], apart->argv);
    }
    apart->error = errno;
    _exit(127);
}

static int
start(struct apart *apart, int (*run)(void *), char *stack, int flags)
{
    return clone(run, stack, CLONE_VM | CLONE_VFORK | flags, apart);
}

/* Give the stacks back.  No function on them has returned, so a sanitizer would
   take what is mapped there next for their variables. */
static void
free_stacks(struct apart *apart)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(apart->stacks, 2 * STACK_SIZE);
#endif
    munmap(apart->stacks, 2 * STACK_SIZE);
}

/* The process in between: it waits for the other one. */
static int
run_between(void *arg)
{
    struct apart *apart = arg;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    reset_handlers();
    int pid = start(apart, run_program, apart->stacks + STACK_SIZE, SIGCHLD);
    if (pid < 0) {
        apart->error = errno;
    }
    else if (waitpid(pid, &apart->status, 0) < 0) {
        apart->error = errno;
    }
    _exit(0);
}

static int
run(struct apart *apart)
{
    apart->stacks = mmap(NULL, 2 * STACK_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (apart->stacks == MAP_FAILED) {
        return -1;
    }
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &apart->mask);
    int pid = start(apart, run_between, apart->stacks + 2 * STACK_SIZE, 0);
    int error = pid < 0 ? errno : apart->error;
    if (pid >= 0) {
        (void)waitpid(pid, NULL, __WALL);
    }
    pthread_sigmask(SIG_SETMASK, &apart->mask, NULL);
    free_stacks(apart);
    errno = error;
    return error == 0 ? 0 : -1;
}
#endif

PyDoc_STRVAR(run_apart_doc,
"_run_apart($module, argv, files, /)\n--\n\n"
"Run a program in a process that wait() does not see; return its status.\n\n"
"argv: bytes, the path of the program first; files: what are its files 0, 1\n"
"and so on, up to three.");

static PyObject *
run_apart(PyObject *Py_UNUSED(module), PyObject *args)
{
#ifdef __linux__
    struct apart apart = {.error = 0};
    PyObject *argv, *files;
    if (!PyArg_ParseTuple(args, "O!O!:_run_apart", &PyTuple_Type, &argv,
                          &PyTuple_Type, &files))
    {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(argv);
    if (n < 1 || n > MAX_ARGUMENTS || PyTuple_GET_SIZE(files) > MAX_FILES) {
        PyErr_SetString(PyExc_ValueError, "too many arguments or files");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        apart.argv[i] = PyBytes_AsString(PyTuple_GET_ITEM(argv, i));
        if (apart.argv[i] == NULL) {
            return NULL;
        }
    }
    for (; apart.nfiles < PyTuple_GET_SIZE(files); apart.nfiles++) {
        PyObject *file = PyTuple_GET_ITEM(files, apart.nfiles);
        apart.files[apart.nfiles] = PyLong_AsInt(file);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = run(&apart);
    Py_END_ALLOW_THREADS
    return result < 0 ? PyErr_SetFromErrno(PyExc_OSError)
                      : PyLong_FromLong(apart.status);
#else
    errno = ENOSYS;
    return PyErr_SetFromErrno(PyExc_OSError);
#endif
}

PyDoc_STRVAR(tie_to_doc,
"_tie_to($module, pid, /)\n--\n\n"
"If the parent, which has this process id, is killed, kill this process.");

static PyObject *
tie_to(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long pid = PyLong_AsLong(arg);
    if (pid == -1 && PyErr_Occurred()) {
        return NULL;
    }
#ifdef __linux__
    /* It may have gone before it was asked for. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != pid) {
        (void)raise(SIGKILL);
    }
#endif
    Py_RETURN_NONE;
}

static PyMethodDef apart_functions[] = {
    {"_tie_to", tie_to, METH_O, tie_to_doc},
    {"_run_apart", run_apart, METH_VARARGS, run_apart_doc},
    {NULL}
};

int
_PyTracemalloc_AddApart(PyObject *module)
{
    return PyModule_AddFunctions(module, apart_functions);
}
