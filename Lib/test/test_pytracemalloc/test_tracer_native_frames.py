"""The C frames of native memory.

The oracle is backtrace() of the C library, which unwinds by other code: C
functions made here call it where they call malloc(), at the end of random
stacks of functions that have frames of all kinds.
"""
import ctypes
import importlib.util
import os
import random
import shutil
import subprocess
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import SANITIZED
from tracemalloc import native

_testtracer = import_helper.import_module('_testtracer')

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

# The frame of this function can have any size, at the same addresses.
FRAME_SOURCE = '''
        .text
        .globl take
        .type take, @function
take:   .cfi_startproc
        subq $SIZE, %rsp
        .cfi_adjust_cfa_offset SIZE
        call malloc@PLT
        addq $SIZE, %rsp
        .cfi_adjust_cfa_offset -SIZE
        ret
        .cfi_endproc
        .size take, .-take
        .section .note.GNU-stack,"",@progbits
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

    def check(self, run, most=100):
        """The frames are those of backtrace(), up to the eval loop."""
        truth = run.truth[:run.found]
        found = frames_of(run.size)
        names = [self.library.name_of(address) for address in truth]
        loop = next((i for i, name in enumerate(names)
                     if name == b'_PyEval_EvalFrameDefault'), len(truth))
        self.assertEqual(self.library.name_of(found[0]), b'bottom')
        self.assertEqual(names[0], b'bottom')
        self.assertEqual(found[1:], truth[1:min(loop, most)],
                         (bytes(run.kinds), names))
        return names[:loop]


class StackTests(FramesCase):

    def check_random(self, *options):
        library = self.load(*options)
        rng = random.Random(str(options))
        runs = []
        first = self.new_run([])
        library.run(ctypes.byref(first))        # backtrace() loads a library
        self.start()
        for _ in range(60):
            run = self.new_run(rng.choices(range(6), k=rng.randrange(12)))
            library.run(ctypes.byref(run))
            runs.append(run)
        known = tracebacks()
        self.assertEqual({run.size for run in runs} - {*known}, set())
        for run in runs:
            names = self.check(run)
            self.assertGreater(len(names), run.n)
            self.free(run.block)
        self.free(first.block)
        self.assertIsNone(_testtracer.fault())

    def test_optimized(self):
        self.check_random('-O2')

    def test_not_optimized(self):
        self.check_random('-O0')

    def test_frame_pointers(self):
        self.check_random('-O2', '-fno-omit-frame-pointer')

    def test_small(self):
        self.check_random('-Os', '-fcf-protection=full')

    def test_limit(self):
        library = self.load('-O1')
        for most in 1, 2, 7:
            self.start(most)
            run = self.new_run([0] * 9)
            library.run(ctypes.byref(run))
            self.assertEqual(len(frames_of(run.size)), most)
            self.check(run, most)
            self.free(run.block)
            tracemalloc.stop()

    def test_none(self):
        library = self.load()
        for native in True, 5:
            self.start(native)
            run = self.new_run([0])
            library.run(ctypes.byref(run))
            python = tracebacks()[run.size]
            self.assertEqual(bool(python.native), native == 5)
            self.assertEqual(python[-1].filename, __file__)
            self.free(run.block)
            tracemalloc.stop()

    def test_interleaved(self):
        """C frames are those above the innermost Python frame alone."""
        library = self.load('-O2')
        self.start()
        runs = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def compare(a, b):
            run = self.new_run([4, 1, 0])
            library.run(ctypes.byref(run))
            runs.append(run)
            return 0

        pair = (ctypes.c_int * 2)()
        ctypes.CDLL(None).qsort(pair, ctypes.c_size_t(2), ctypes.c_size_t(4),
                                compare)
        run, = runs
        names = self.check(run)
        below = [library.name_of(address)
                 for address in run.truth[len(names):run.found]]
        sorting = b'qsort' if b'qsort' in below else b'qsort_r'
        self.assertIn(sorting, below)
        self.assertNotIn(sorting, names)
        self.assertEqual(tracebacks()[run.size][-1].filename, __file__)
        self.free(run.block)

    def test_threads(self):
        library = self.load('-O2')
        self.start()
        runs = [self.new_run([0, 1, 2, 3, 4] * 3) for _ in range(4)]
        threads = [threading.Thread(target=library.run,
                                    args=(ctypes.byref(run),))
                   for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs:
            self.check(run)
            self.free(run.block)

    def test_thread_of_c(self):
        """Without a Python frame, it is the whole stack."""
        library = self.load('-O2')
        self.start()
        run = self.new_run([2, 4])
        library.run_in_thread(ctypes.byref(run))
        self.check(run)
        self.assertEqual(len(frames_of(run.size)), run.found)
        self.free(run.block)

    def test_other_stack(self):
        library = self.load()
        library.on_other_stack.restype = ctypes.c_void_p
        self.start()
        for _ in range(3):
            block = library.on_other_stack()
            self.assertEqual(frames_of(1000117), [])
            self.free(block)

    def test_unloaded(self):
        """A library at the addresses of one that was unloaded has rules of its
        own."""
        import _ctypes
        self.start()
        callers = []
        bases = set()
        for size in 24, 104, 24, 56:
            path = compile_library(self.directory, 'frame',
                                   FRAME_SOURCE.replace('SIZE', str(size)),
                                   '-nostdlib', suffix='.s')
            handle = _ctypes.dlopen(path, 0)
            take = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(
                _ctypes.dlsym(handle, 'take'))
            self.size += 1
            block = take(self.size)
            first, *rest = frames_of(self.size)
            bases.add(first)
            callers.append(rest)
            self.free(block)
            del take
            _ctypes.dlclose(handle)
        if len(bases) > 1:
            self.skipTest('the libraries were at different addresses')
        self.assertEqual(callers, [callers[0]] * 4)
        self.assertGreater(len(callers[0]), 2)

    def test_file(self):
        library = self.load('-O2')
        self.start()
        run = self.new_run([0, 4])
        library.run(ctypes.byref(run))
        snapshot = tracemalloc.take_snapshot()
        path = os.path.join(self.directory, 'x')
        snapshot.dump(path)
        loaded = tracemalloc.Snapshot.load(path)
        self.assertEqual(loaded.traces, snapshot.traces)
        frame = tracebacks()[run.size].native[-1]
        self.assertEqual(frame.module, library._name)
        self.assertEqual(frame.address, frames_of(run.size)[0])
        same = [trace.traceback for trace in loaded.traces
                if trace.size == run.size]
        self.assertEqual(same[0].native[-1], frame)
        # Sums are as they were: a pickle has no C frames.
        for key in 'lineno', 'traceback', 'type', 'domain':
            self.assertEqual(loaded.statistics(key), snapshot.statistics(key))
        snapshot.dump(path, format='pickle')
        pickled = tracemalloc.Snapshot.load(path)
        self.assertEqual(pickled.statistics('traceback'),
                         snapshot.statistics('traceback'))
        self.free(run.block)


CXX_SOURCE = r'''
#include <string>
#include <vector>
namespace shop {
template <typename T> struct Cart {
    __attribute__((noinline)) T *fill(int n) { return new T[n]; }
};
}
extern "C" void *fill(int n) { return shop::Cart<char>().fill(n) ; }
extern "C" void *text(int n) { return new std::string(n, 'x'); }
'''
SIX = "__attribute__((noinline)) void *six(int n) { return malloc(n); }\n"


@unittest.skipUnless(importlib.util.find_spec('_tracemalloc_symbols'),
                     'built without elfutils')
class NameTests(FramesCase):

    def groups(self, snapshot=None):
        snapshot = snapshot or tracemalloc.take_snapshot()
        return {stat.key: stat.size for stat in snapshot.statistics('native')}

    @unittest.skipUnless(shutil.which('c++'), 'needs a C++ compiler')
    def test_cxx(self):
        path = compile_library(self.directory, 'cxx', CXX_SOURCE, '-O2', '-g',
                               '-fno-optimize-sibling-calls',
                               suffix='.cc', cc='c++')
        library = ctypes.CDLL(path)
        library.fill.restype = library.text.restype = ctypes.c_void_p
        library.text(10)
        self.start()
        library.fill(1_000_003)
        library.text(2_000_003)
        found = self.groups()
        self.assertEqual(found['shop::Cart<char>::fill (cxx.so)'], 1_000_003)
        snapshot = tracemalloc.take_snapshot()
        self.assertEqual(sum(found.values()) // 100_000,
                         sum(snapshot.traced_memory[:1]
                             + (tracemalloc.get_native_memory()[0],))
                         // 100_000)
        frames = tracebacks()[1_000_003].native
        self.assertEqual(frames[-1].function, 'operator new')
        self.assertEqual(os.path.basename(frames[-2].filename), 'cxx.cc')
        self.assertEqual(frames[-2].lineno, 6)
        self.assertEqual(frames[-3].function, 'fill')
        self.assertTrue(str(frames[-2]).endswith('fill (cxx.so)'))

    def test_hidden_and_stripped(self):
        source = ('#include <stdlib.h>\nstatic ' + SIX
                  + 'void *take(int n) { void *p = six(n); return p; }\n')
        for options, name in ((), 'six'), (('-s',), None):
            path = compile_library(self.directory, f'n{name}', source,
                                   '-fno-optimize-sibling-calls', *options)
            take = ctypes.CDLL(path).take
            self.start()
            take(1_000_003)
            frame = tracebacks()[1_000_003].native[-1]
            self.assertEqual((frame.module, frame.lineno), (path, 0))
            self.assertIn(frame.function, (name, 'take') if name is None
                          else (name,))
            tracemalloc.stop()

    def test_another_build(self):
        source = '#include <stdlib.h>\n' + SIX
        options = '-Wl,--build-id', '-fno-optimize-sibling-calls'
        path = compile_library(self.directory, 'six', source, *options)
        library = ctypes.CDLL(path)
        self.start()
        library.six(1_000_003)
        snapshot = tracemalloc.take_snapshot()
        self.assertEqual(len(tracebacks()[1_000_003].native[-1].build_id), 40)
        os.unlink(path)
        compile_library(self.directory, 'six', source + 'int more;\n',
                        *options)
        name, = [key for key, size in self.groups(snapshot).items()
                 if size == 1_000_003]
        self.assertRegex(name, r'^six\.so\+0x[0-9a-f]+$')
        self.assertIn(f'{path}: it is another build than the one that ran',
                      native.find_faults())

    def test_no_file(self):
        for path in '/dev/zero', '/nowhere', self.directory, __file__:
            frame = native.NativeFrame((path, '', 0x1234, 0))
            self.assertIsNone(frame.function)
            self.assertEqual((frame.filename, frame.lineno), (None, 0))
            self.assertEqual(str(frame),
                             f'{os.path.basename(path)}+0x1234')
        self.assertGreater(len(native.find_faults()), 3)

    def test_report(self):
        path = compile_library(
            self.directory, 'six', '#include <stdlib.h>\n' + SIX,
            '-fno-optimize-sibling-calls')
        with open(os.path.join(self.directory, 'app.py'), 'w') as file:
            file.write(f'import ctypes\nsix = ctypes.CDLL({path!r}).six\n'
                       'blocks = [six(2_000_000) for _ in range(5)]\n')
        output = os.path.join(self.directory, 'x.tracemalloc')
        script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'run', '-q', '--native-frames', '5', '-o',
            output, file.name)
        text = script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'report', '--by', 'native', output).out
        self.assertRegex(text, rb'\n *9\.5 MiB +5 +1\.9 MiB +six \(six\.so\)\n')
        self.assertIn(b'<not native>: the blocks of the interpreter', text)


class ArgumentTests(FramesCase):

    def test_numbers(self):
        for number in -1, 101, 2**31, -2**70:
            with self.assertRaises((ValueError, OverflowError)):
                tracemalloc.start(native=number)
            self.assertFalse(tracemalloc.is_tracing())
        tracemalloc.start(native=0)
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))

    def test_options(self):
        code = textwrap.dedent('''
            import ctypes, tracemalloc
            ctypes.CDLL(None).malloc(1_000_003)
            print([len(trace.traceback.native)
                   for trace in tracemalloc.take_snapshot().traces
                   if trace.size == 1_000_003])
            ''')
        on = '-X', 'tracemalloc', '-X'
        for options, environment, n in (
                ((*on, 'tracemalloc_native=3'), {}, 3),
                ((*on, 'tracemalloc_native'), {}, 0),
                ((*on, 'tracemalloc_native=yes'), {}, 0),
                (on[:2], {'PYTRACEMALLOC_NATIVE': '2'}, 2),
                ((*on, 'tracemalloc_native'), {'PYTRACEMALLOC_NATIVE': '2'},
                 0)):
            found = script_helper.assert_python_ok(
                *options, '-c', code, **environment).out
            self.assertEqual(found, b'[%d]\n' % n, options)


if __name__ == '__main__':
    unittest.main()
