"""Native memory beside what programs do to malloc(), to libraries and to
processes: the program works as without it, and the sums are right."""
import _ctypes
import ctypes
import glob
import os
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

from test import support
from test.support import import_helper
from test.test_pytracemalloc import fetched
from test.test_pytracemalloc.helpers import SANITIZED, line_of

_testtracer = import_helper.import_module('_testtracer')

SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
# Takes, resizes and frees in four threads; what is left is known.
CHURN = '''
import ctypes, random, threading, tracemalloc, _testtracer
libc = ctypes.CDLL(None)
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
for function in libc.malloc, libc.realloc, libc.aligned_alloc, libc.calloc:
    function.restype = POINTER
libc.malloc.argtypes = [SIZE]
libc.realloc.argtypes = [POINTER, SIZE]
libc.aligned_alloc.argtypes = libc.calloc.argtypes = [SIZE, SIZE]
libc.free.argtypes = [POINTER]
libc.free.restype = None

def churn(seed):
    rng, blocks = random.Random(seed), {}
    for _ in range(2000):
        size = rng.choice([16, 100, 4000, 300_000])
        choice = rng.randrange(5)
        if choice == 0:
            blocks[libc.malloc(size)] = size
        elif choice == 1:
            blocks[libc.aligned_alloc(64, size * 64)] = size * 64
        elif choice == 2:
            blocks[libc.calloc(3, size)] = 3 * size
        elif blocks:
            block = rng.choice(list(blocks))
            del blocks[block]
            if choice == 3:
                blocks[libc.realloc(block, size)] = size
            else:
                libc.free(block)
    left.append(blocks)

tracemalloc.start(10, native=True)
left = []
threads = [threading.Thread(target=churn, args=(i,)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = tracemalloc.get_native_memory()[0]
for blocks in left:
    for block in blocks: libc.free(block)
after = tracemalloc.get_native_memory()[0]
assert before - after == sum(sum(one.values()) for one in left)
assert _testtracer.fault() is None
'''


def find_library(name):
    """A library of the system, or in LD_LIBRARY_PATH."""
    folders = ['/usr/lib/*-linux-gnu', '/usr/lib64', '/usr/lib',
               *filter(None, os.environ.get('LD_LIBRARY_PATH', '').split(':'))]
    for folder in folders:
        if found := sorted(glob.glob(f'{folder}/{name}.so*')):
            return found[0]
    raise unittest.SkipTest(f'{name} is not installed')


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class TrustCase(unittest.TestCase):

    def run_code(self, code, status=0, **environment):
        result = subprocess.run(
            [sys.executable, '-c', textwrap.dedent(code)], text=True,
            capture_output=True, env=os.environ | environment, timeout=300)
        self.assertEqual((result.stderr, result.returncode), ('', status))
        return result.stdout

    def start(self):
        tracemalloc.start(25, native=True)
        self.addCleanup(tracemalloc.stop)

    def live(self):
        return tracemalloc.get_native_memory()[0]

    def place_of(self, size):
        frame, = (trace.traceback[-1] for trace
                  in tracemalloc.take_snapshot().traces
                  if trace.size == size
                  and trace.domain == tracemalloc.NATIVE_DOMAIN)
        return frame.filename, frame.lineno

    def compile(self, code):
        """Return the path of a library, or skip the test."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, 'library.so')
        compiler = sysconfig.get_config_var('CC').split()
        try:
            subprocess.run([*compiler, '-shared', '-fPIC', '-x', 'c', '-',
                            '-o', path], input=code, text=True, check=True,
                           capture_output=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            self.skipTest(f'no compiler: {exc}')
        return path


class PreloadTests(TrustCase):
    """Another allocator in front of that of the C library."""

    def check(self, name):
        library = find_library(name)
        self.run_code(CHURN + textwrap.dedent('''
            import os, sqlite3
            with open('/proc/self/maps') as maps:
                assert os.environ['LD_PRELOAD'] in maps.read()
            before = tracemalloc.get_native_memory()[0]
            db = sqlite3.connect(':memory:')
            db.execute('create table t (x)')
            db.executemany('insert into t values (?)', [('x' * 900,)] * 999)
            assert tracemalloc.get_native_memory()[0] - before > 900_000
            if os.fork() == 0:
                db.close()
                os._exit(_testtracer.fault() is not None)
            assert os.wait()[1] == 0
            '''), LD_PRELOAD=os.path.realpath(library))

    def test_jemalloc(self):
        self.check('libjemalloc')

    def test_tcmalloc(self):
        self.check('libtcmalloc_minimal')

    def test_mimalloc(self):
        self.check('libmimalloc')


class LibraryTests(TrustCase):
    CODE = '''
        #include <stdlib.h>
        void *take(size_t size) { return malloc(size); }
        void give(void *block) { free(block); }'''

    def load(self, **options):
        library = ctypes.CDLL(self.compile(self.CODE), **options)
        library.take.restype, library.take.argtypes = POINTER, [SIZE]
        library.give.restype, library.give.argtypes = None, [POINTER]
        return library

    def test_unloaded(self):
        """A block outlives the library that took it."""
        library = self.load()
        self.start()

        def take():
            return library.take(1_000_003)
        block = take()
        _ctypes.dlclose(library._handle)
        self.assertEqual(self.place_of(1_000_003), line_of(take, 1))
        before = self.live()
        ctypes.CDLL(None).free(POINTER(block))
        self.assertEqual(before - self.live(), 1_000_003)

    def test_deep_binding(self):
        """Such a library is not seen; blocks that pass to it or come from
        it leave no harm."""
        library = self.load(mode=os.RTLD_DEEPBIND | os.RTLD_NOW)
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = POINTER, [SIZE]
        self.start()
        before = self.live()
        block = library.take(1_000_003)
        self.assertEqual(self.live(), before)
        libc.free(POINTER(block))
        self.assertEqual(self.live(), before)
        for _ in range(1000):
            # It frees what is traced: the next at the address takes over.
            library.give(libc.malloc(2_000_003))
        self.assertLessEqual(self.live() - before, 2 * 2_000_003)
        self.assertIsNone(_testtracer.fault())


class ProcessTests(TrustCase):

    def test_spawn_and_exec(self):
        self.run_code(CHURN + textwrap.dedent('''
            import os, subprocess, sys
            before = tracemalloc.get_native_memory()[0]
            held = libc.malloc(3_000_003)
            for _ in range(20):
                pid = os.posix_spawn(sys.executable,
                                     [sys.executable, '-Ic', 'pass'],
                                     os.environ)
                assert os.waitpid(pid, 0)[1] == 0
                subprocess.run(['true'], check=True)
            assert (tracemalloc.get_native_memory()[0] - before
                    >= 3_000_003)
            assert _testtracer.fault() is None
            os.execv(sys.executable, [sys.executable, '-c',
                     'import tracemalloc, sys; '
                     'sys.exit(3 + tracemalloc.is_tracing())'])
            '''), status=3)

    def test_crash(self):
        """A crash of the program has its own signal."""
        for number in 'SIGSEGV', 'SIGABRT', 'SIGBUS':
            self.run_code(CHURN + textwrap.dedent(f'''
                import os, resource, signal
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.kill(os.getpid(), signal.{number})
                '''), status=-getattr(__import__('signal'), number))


class ThreadTests(TrustCase):

    @support.requires_resource('cpu')
    def test_many_threads(self):
        """32 threads that take and free as fast as they can, some blocks of
        each other."""
        path = self.compile('''
            #include <stdlib.h>
            #include <string.h>
            static void *shared[64];
            void churn(unsigned seed, long n) {
                while (n-- > 0) {
                    seed = seed * 1103515245 + 12345;
                    size_t size = 1 + (seed >> 8) % 3000;
                    char *block = malloc(size);
                    memset(block, 1, size < 64 ? size : 64);
                    if (seed & 0x10000) block = realloc(block, size * 2);
                    free(__atomic_exchange_n(&shared[(seed >> 20) % 64],
                                             block, __ATOMIC_SEQ_CST));
                }
            }
            void end(void) {
                for (int i = 0; i < 64; i++) {
                    free(shared[i]);
                    shared[i] = NULL;
                }
            }''')
        library = ctypes.CDLL(path)
        self.start()
        before = self.live()
        threads = [threading.Thread(target=library.churn, args=(i, 20_000))
                   for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        library.end()
        # What the threads themselves needed may be kept by the C library.
        self.assertLess(abs(self.live() - before), 200_000)
        self.assertIsNone(_testtracer.fault())


class GreenletTests(TrustCase):

    def test_stacks(self):
        """Greenlets change whole stacks under a thread."""
        place = fetched.environment('greenlet')
        folder, = glob.glob(f'{place}/lib/python*/site-packages')
        self.run_code(f'import sys; sys.path.append({folder!r})' + CHURN
                      + textwrap.dedent('''
            import greenlet
            sizes, known = iter(range(100_001, 10 ** 7, 8)), {}
            held = ctypes.PyDLL(None)['malloc']
            held.restype, held.argtypes = ctypes.c_void_p, [SIZE]

            def stack():
                frame, lines = sys._getframe(1), []
                while frame is not None:
                    lines.append(frame.f_lineno)
                    frame = frame.f_back
                return lines[::-1]

            def down(rng, n):
                if n > 0:
                    return down(rng, n - 1)
                for take in libc.malloc, held, libc.malloc:
                    size = next(sizes)
                    known[size] = take(size), stack()
                if rng.random() < 0.5:
                    rng.choice(all_of_them).switch()
                size = next(sizes)
                known[size] = libc.malloc(size), stack()

            def body(*unused):
                rng = random.Random(len(known))
                while len(known) < 1500:
                    down(rng, rng.randrange(15))
                    main.switch()

            main = greenlet.getcurrent()
            all_of_them = [greenlet.greenlet(body) for _ in range(6)]
            while len(known) < 1500:
                random.choice(all_of_them).switch()
            found = {trace.size: [frame.lineno for frame in trace.traceback]
                     for trace in tracemalloc.take_snapshot().traces
                     if trace.domain == tracemalloc.NATIVE_DOMAIN}
            for size, (block, lines) in known.items():
                assert found[size] == lines[-10:], (found[size], lines)
            assert _testtracer.fault() is None
            '''))


if __name__ == '__main__':
    unittest.main()
