"""What tests of C frames have in common: a library of C functions, whose stacks
backtrace() of the C library knows, too."""
import ctypes
import os
import shutil
import subprocess
import tempfile
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import SANITIZED

CC = shutil.which('cc')
SOURCE = r'''
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const unsigned char *kinds;
    int n;
    size_t size;
    void *truth[400];
    int found;
    void *block;
};
static __thread struct run *now;
static __thread int depth;
static int step(void);
static volatile int always = 1;

__attribute__((noinline)) int
bottom(void)
{
    now->block = malloc(now->size);
    now->found = backtrace(now->truth, 400);
    return always;
}
__attribute__((noinline)) int
plain(void)
{
    return step() + always;
}
__attribute__((noinline)) int
variable(void)
{
    volatile char *p = alloca(16 + depth * 24);
    p[0] = 1;
    return step() + p[0];
}
__attribute__((noinline)) int
aligned(void)
{
    _Alignas(128) volatile char p[256];
    p[always] = 1;
    return step() + p[always];
}
__attribute__((noinline)) int
both(int n)
{
    _Alignas(64) volatile char p[64];
    volatile char *q = alloca(n * 8);
    p[always] = q[0] = 1;
    return step() + p[always] + q[0];
}
__attribute__((noinline)) int
saves(int a, int b, int c)
{
    int d = a * b, e = b * c, f = a * c;
    int result = step();
    return result + a + b + c + d + e + f;
}
static int
compare(const void *a, const void *b)
{
    step();
    return *(const int *)a - *(const int *)b;
}
__attribute__((noinline)) int
sorted(void)
{
    int pair[] = {always, 0};
    qsort(pair, 2, sizeof(int), compare);
    return pair[0];
}
static int
step(void)
{
    if (depth == now->n) {
        return bottom();
    }
    int result = 0;
    switch (now->kinds[depth++]) {
    case 0: result = plain(); break;
    case 1: result = variable(); break;
    case 2: result = aligned(); break;
    case 3: result = both(depth); break;
    case 4: result = saves(depth, always, 3); break;
    case 5: result = sorted(); break;
    }
    depth--;
    return result;
}
int
run(struct run *r)
{
    struct run *before = now;
    int deep = depth;
    now = r;
    depth = 0;
    int result = step();
    now = before;
    depth = deep;
    return result;
}
void *
run_in_thread(void *r)
{
    pthread_t thread;
    pthread_create(&thread, NULL, (void *(*)(void *))run, r);
    pthread_join(thread, NULL);
    return NULL;
}
const char *
name_of(void *address)
{
    Dl_info info;
    return dladdr((char *)address - 1, &info) ? info.dli_sname : NULL;
}

static void *handled;
static void
handle(int number)
{
    (void)number;
    handled = malloc(1000117);
}
void *
on_other_stack(void)
{
    stack_t stack = {.ss_size = 65536}, old;
    struct sigaction action = {.sa_flags = SA_ONSTACK}, before;
    stack.ss_sp = malloc(stack.ss_size);
    action.sa_handler = handle;
    sigaltstack(&stack, &old);
    sigaction(SIGUSR1, &action, &before);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &before, NULL);
    sigaltstack(&old, NULL);
    free(stack.ss_sp);
    return handled;
}
'''

class Run(ctypes.Structure):
    _fields_ = [('kinds', ctypes.c_char_p), ('n', ctypes.c_int),
                ('size', ctypes.c_size_t), ('truth', ctypes.c_void_p * 400),
                ('found', ctypes.c_int), ('block', ctypes.c_void_p)]


def can_unwind():
    try:
        tracemalloc.start(native=1)
    except RuntimeError:
        return False
    tracemalloc.stop()
    return True


def compile_library(directory, name, source, *options, suffix='.c', cc=CC):
    file = os.path.join(directory, name + suffix)
    with open(file, 'w') as out:
        out.write(source)
    library = os.path.join(directory, name + '.so')
    subprocess.run([cc, '-shared', '-fPIC', *options, '-o', library, file],
                   check=True)
    return library


def tracebacks():
    """{size: traceback} of the native memory in a snapshot."""
    return {trace.size: trace.traceback
            for trace in tracemalloc.take_snapshot().traces
            if trace.domain == tracemalloc.NATIVE_DOMAIN}


def frames_of(size):
    """Addresses, the innermost first."""
    return [frame.address for frame in reversed(tracebacks()[size].native)]


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
@unittest.skipUnless(CC and not SANITIZED and can_unwind(),
                     'needs a compiler, and a system where C stacks are '
                     'unwound')
class FramesCase(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.free = ctypes.CDLL(None).free
        self.free.argtypes = [ctypes.c_void_p]
        self.size = 1_000_003

    def load(self, *options, name='stacks'):
        path = compile_library(self.directory, name, SOURCE, *options)
        library = ctypes.CDLL(path)
        library.name_of.restype = ctypes.c_char_p
        library.name_of.argtypes = [ctypes.c_void_p]
        self.library = library
        return library

    def start(self, native=100):
        tracemalloc.start('full', native=native)
        self.addCleanup(tracemalloc.stop)

    def new_run(self, kinds):
        self.size += 1
        return Run(kinds=bytes(kinds), n=len(kinds), size=self.size)

    def truth(self, run):
        """The frames by backtrace(), up to the eval loop."""
        truth = run.truth[:run.found]
        names = [self.library.name_of(address) for address in truth]
        return truth[:next((i for i, name in enumerate(names)
                            if name == b'_PyEval_EvalFrameDefault'), None)]

    def check(self, run, most=100):
        """The frames are those of backtrace()."""
        truth = self.truth(run)
        found = frames_of(run.size)
        names = [self.library.name_of(address) for address in truth]
        self.assertEqual(self.library.name_of(found[0]), b'bottom')
        self.assertEqual(names[0], b'bottom')
        self.assertEqual(found[1:], truth[1:most], (bytes(run.kinds), names))
        return names
