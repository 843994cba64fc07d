"""Native memory: every call of the malloc family, by Python line.

The oracle is a plain model: the sizes that were asked for.  ctypes calls the
functions of the C library as any library does, through the dynamic linker;
threads that Python does not know run malloc() or free() as their function.
"""
import ctypes
import mmap
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

import _tracemalloc
from test import support
from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import (
    FREE_THREADED, SANITIZED, line_of)

_testcapi = import_helper.import_module('_testcapi')
_testtracer = import_helper.import_module('_testtracer')

libc = ctypes.CDLL(None, use_errno=True)
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p


def function(name, result, *arguments):
    found = libc[name]
    found.restype, found.argtypes = result, arguments
    return found


malloc = function('malloc', POINTER, SIZE)
calloc = function('calloc', POINTER, SIZE, SIZE)
realloc = function('realloc', POINTER, POINTER, SIZE)
reallocarray = function('reallocarray', POINTER, POINTER, SIZE, SIZE)
free = function('free', None, POINTER)
aligned_alloc = function('aligned_alloc', POINTER, SIZE, SIZE)
memalign = function('memalign', POINTER, SIZE, SIZE)
valloc = function('valloc', POINTER, SIZE)
posix_memalign = function('posix_memalign', ctypes.c_int,
                          ctypes.POINTER(POINTER), SIZE, SIZE)
c_mmap = function('mmap', POINTER, POINTER, SIZE, ctypes.c_int, ctypes.c_int,
                  ctypes.c_int, ctypes.c_long)
munmap = function('munmap', ctypes.c_int, POINTER, SIZE)
mremap = function('mremap', POINTER, POINTER, SIZE, SIZE, ctypes.c_int)
FAILED = POINTER(-1).value
PAGE = mmap.PAGESIZE
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MAYMOVE = 1


def map_pages(n, prot=READ_WRITE, flags=ANONYMOUS):
    return c_mmap(None, n * PAGE, prot, flags, -1, 0)


def run_thread(name, argument):
    """Let a thread that Python does not know call a function of one
    argument, and return its result."""
    number = ctypes.c_ulong()
    address = ctypes.cast(libc[name], POINTER)
    if libc.pthread_create(ctypes.byref(number), None, address,
                           POINTER(argument)):
        raise OSError('no thread')
    result = POINTER()
    libc.pthread_join(number, ctypes.byref(result))
    return result.value


def native_traces():
    """What a snapshot has of native memory: {size: place}."""
    return {trace.size: (trace.traceback[-1].filename,
                         trace.traceback[-1].lineno)
            for trace in tracemalloc.take_snapshot().traces
            if trace.domain == tracemalloc.NATIVE_DOMAIN}


def run_python(*args, **environment):
    return script_helper.assert_python_ok(*args, **environment)


class NativeCase(unittest.TestCase):
    nframe = 25

    def setUp(self):
        run_thread('malloc', 0)   # what the first thread of C code needs
        tracemalloc.start(self.nframe, native=True)
        self.addCleanup(tracemalloc.stop)
        self.live()

    def live(self):
        return tracemalloc.get_native_memory()[0]

    def check_tables(self):
        self.assertIsNone(_testtracer.fault())


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class BlockTests(NativeCase):

    def test_family(self):
        pointer = POINTER()
        before = self.live()
        blocks = []
        for size, make in (
                (1001, lambda: malloc(1001)),
                (3 * 1007, lambda: calloc(3, 1007)),
                (2003, lambda: realloc(None, 2003)),
                (7 * 403, lambda: reallocarray(None, 7, 403)),
                (4096, lambda: aligned_alloc(64, 4096)),
                (5003, lambda: memalign(64, 5003)),
                (6007, lambda: valloc(6007)),
                (7001, lambda: (posix_memalign(pointer, 64, 7001),
                                pointer.value)[1])):
            had = self.live()
            block = make()
            self.assertEqual(self.live() - had, size)
            blocks.append(block)
            self.assertEqual(native_traces()[size][0], __file__)
        for block in blocks:
            free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_line(self):
        def take():
            first = malloc(123_457)
            return first, calloc(1, 123_459)
        blocks = take()
        traces = native_traces()
        self.assertEqual(traces[123_457], line_of(take, 1))
        self.assertEqual(traces[123_459], line_of(take, 2))
        for block in blocks:
            free(block)
        self.assertFalse({123_457, 123_459} & set(native_traces()))

    def test_realloc(self):
        before = self.live()
        block = malloc(100)
        for size in 1000, 100_000, 3_000_000, 50, 4000:
            block = realloc(block, size)
            self.assertEqual(self.live() - before, size)
        ctypes.set_errno(0)
        self.assertIsNone(realloc(block, 1 << 62))
        self.assertIsNone(reallocarray(block, 1 << 40, 1 << 40))
        self.assertEqual(self.live() - before, 4000)
        free(block)
        self.assertEqual(self.live(), before)
        self.assertIsNone(malloc(1 << 62))
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_peak(self):
        tracemalloc.reset_peak()
        before, peak = tracemalloc.get_native_memory()
        self.assertEqual(before, peak)
        free(malloc(10_000_000))
        now, peak = tracemalloc.get_native_memory()
        self.assertEqual((now, peak - before), (before, 10_000_000))
        tracemalloc.reset_peak()
        self.assertEqual(tracemalloc.get_native_memory(), (before, before))

    def test_play(self):
        """Any order of calls, in several threads, leaves what the model has,
        and what the C library has."""
        def play(seed):
            rng = random.Random(seed)
            blocks = {}
            for _ in range(3000):
                size = rng.choice([1, 24, 100, 600, 5000, 200_000])
                choice = rng.random()
                if choice < 0.4 or not blocks:
                    blocks[malloc(size)] = size
                elif choice < 0.5:
                    blocks[calloc(3, size)] = 3 * size
                elif choice < 0.6:
                    blocks[memalign(64, size)] = size
                elif choice < 0.8:
                    block = rng.choice(list(blocks))
                    del blocks[block]
                    blocks[realloc(block, size)] = size
                else:
                    block = rng.choice(list(blocks))
                    del blocks[block]
                    free(block)
            left.append(blocks)

        left = []
        threads = [threading.Thread(target=play, args=(seed,))
                   for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = {block: size for blocks in left
                for block, size in blocks.items()}
        own = {}
        for trace in tracemalloc.take_snapshot().traces:
            if (trace.domain == tracemalloc.NATIVE_DOMAIN
                    and trace.traceback[-1].filename == __file__):
                own[trace.size] = own.get(trace.size, 0) + 1
        model = {}
        for size in left.values():
            model[size] = model.get(size, 0) + 1
        self.assertEqual({size: own.get(size) for size in model}, model)
        before = self.live()
        for block in left:
            free(block)
        self.assertEqual(before - self.live(), sum(left.values()))
        self.check_tables()

    def test_clear_and_stop(self):
        block = malloc(1_000_003)
        tracemalloc.clear_traces()
        self.assertLess(self.live(), 1_000_000)
        other = malloc(2_000_003)
        self.assertIn(2_000_003, native_traces())
        free(block)               # unknown by now
        self.assertIn(2_000_003, native_traces())
        tracemalloc.stop()
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        free(other)
        tracemalloc.start()
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        block = malloc(1_000_003)
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        free(block)

    def test_start_later(self):
        tracemalloc.stop()
        tracemalloc.start(3)
        kept = bytes(100_003)
        tracemalloc.start(native=True)
        self.assertEqual(tracemalloc.get_traceback_limit(), 3)
        before = self.live()
        block = malloc(10_007)
        self.assertEqual(self.live() - before, 10_007)
        free(block)
        self.assertIsNotNone(tracemalloc.get_object_traceback(kept))

    def test_address_is_used_again(self):
        """A block that was freed in a way that is not seen leaves a record;
        the next block at its address takes its place."""
        block = malloc(5003)
        tracemalloc.stop()
        tracemalloc.start(native=True)
        self.assertNotIn(5003, native_traces())
        free(block)
        self.check_tables()

    def test_prune(self):
        tracemalloc.stop()
        tracemalloc.start(50, native=True)
        block = malloc(400_009)
        for _ in range(3):
            _tracemalloc._prune_soon()
            exec('free(malloc(10)); [object() for i in range(3)]', globals())
        self.assertEqual(native_traces()[400_009][0], __file__)
        self.check_tables()
        free(block)

    def test_no_memory(self):
        """Without memory for the tracer, calls work and are not counted."""
        before = self.live()
        _tracemalloc._set_nomemory(1)
        try:
            blocks = [malloc(77) for _ in range(5000)]
            maps = [map_pages(1) for _ in range(300)]
        finally:
            _tracemalloc._set_nomemory(0)
        for block in blocks:
            free(block)
        for address in maps:
            munmap(address, PAGE)
        self.assertNotIn(None, blocks)
        self.assertEqual(self.live(), before)
        self.check_tables()


class BlockTestsOneFrame(BlockTests):
    nframe = 1


class BlockTestsWholeStack(BlockTests):
    nframe = 'full'


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class OnceTests(NativeCase):
    """Nothing counts twice, and what was there before stays as it was."""

    def test_domains(self):
        before = self.live()
        kept = [bytearray(1_000_003), bytes(700), [None] * 5000,
                bytes(3_000_000)]
        kept[0].extend(bytes(2_000_000))
        objects = [object() for _ in range(100_000)]
        self.assertLess(self.live() - before, 5000)
        del kept, objects
        self.assertLess(abs(self.live() - before), 5000)

    def test_raw(self):
        api = ctypes.pythonapi
        raw_malloc = api.PyMem_RawMalloc
        raw_malloc.restype, raw_malloc.argtypes = POINTER, [SIZE]
        api.PyMem_RawRealloc.restype = POINTER
        api.PyMem_RawRealloc.argtypes = POINTER, SIZE
        api.PyMem_RawFree.argtypes = [POINTER]
        raw_malloc(1)
        before = self.live()
        block = raw_malloc(1_000_003)
        block = api.PyMem_RawRealloc(block, 2_000_003)
        self.assertEqual(self.live(), before)
        api.PyMem_RawFree(block)
        self.assertEqual(self.live(), before)

    def test_track(self):
        tracemalloc.reset_peak()
        before, peak = tracemalloc.get_native_memory()
        traced, _ = tracemalloc.get_traced_memory()
        block = malloc(3_000_001)
        _testcapi.tracemalloc_track(389047, block, 3_000_001)
        self.assertEqual(tracemalloc.get_native_memory(), (before, peak))
        self.assertGreaterEqual(tracemalloc.get_traced_memory()[0] - traced,
                                3_000_001)
        traces = [trace for trace in tracemalloc.take_snapshot().traces
                  if trace.size == 3_000_001]
        self.assertEqual([trace.domain for trace in traces], [389047])
        _testcapi.tracemalloc_untrack(389047, block)
        free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_own_domain(self):
        """Nobody else can use it."""
        block = malloc(1_000_003)
        before = self.live()
        with self.assertRaises(RuntimeError):
            _testcapi.tracemalloc_track(tracemalloc.NATIVE_DOMAIN, 16, 1000)
        _testcapi.tracemalloc_untrack(tracemalloc.NATIVE_DOMAIN, block)
        self.assertEqual(self.live(), before)
        free(block)
        self.check_tables()

    def test_hidden(self):
        """What looks at a program is not counted."""
        tracemalloc.take_snapshot()
        before = self.live()
        kept = tracemalloc.take_snapshot()
        with tempfile.TemporaryDirectory() as directory:
            kept.dump(os.path.join(directory, 'x'))
        kept.statistics('lineno')
        self.assertLess(self.live() - before, 20_000)

    def test_sums(self):
        """Traced memory and its blocks are the same with native memory."""
        code = textwrap.dedent('''
            import sys, tracemalloc
            def work():
                kept = [bytes(n) for n in range(0, 3000, 7)]
                kept += [{n: [str(n)]} for n in range(1000)]
                return kept
            work()
            tracemalloc.start(10, native=sys.argv[1] == '1')
            blocks = sys.getallocatedblocks()
            kept = work()
            stats = [0, 0]
            traces = tracemalloc.take_snapshot().traces
            for trace in traces:
                if trace.domain != tracemalloc.NATIVE_DOMAIN:
                    if 'string' in trace.traceback[-1].filename:
                        stats[0] += trace.size
                        stats[1] += 1
            print(*stats)
            ''')
        without, with_native = (run_python('-c', code, on).out
                                for on in ('0', '1'))
        self.assertEqual(with_native, without)
        self.assertNotEqual(without.split()[0], b'0')


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class MappingTests(NativeCase):

    def pages(self):
        return (self.live() - self.before) / PAGE

    def setUp(self):
        super().setUp()
        map_pages(1)
        self.before = self.live()

    def test_parts(self):
        address = map_pages(10)
        self.assertEqual(self.pages(), 10)
        munmap(address, 2 * PAGE)
        self.assertEqual(self.pages(), 8)
        munmap(address + 8 * PAGE, 2 * PAGE)
        self.assertEqual(self.pages(), 6)
        munmap(address + 4 * PAGE, PAGE)
        self.assertEqual(self.pages(), 5)
        self.assertLessEqual({2 * PAGE, 3 * PAGE}, set(native_traces()))
        munmap(address, 10 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.assertEqual(munmap(address + 1, PAGE), -1)
        self.check_tables()

    def test_several_at_once(self):
        address = map_pages(20)
        for i in range(0, 20, 2):
            munmap(address + i * PAGE, PAGE)
        self.assertEqual(self.pages(), 10)
        again = c_mmap(address, 20 * PAGE, READ_WRITE,
                       ANONYMOUS | 0x10, -1, 0)       # MAP_FIXED
        self.assertEqual((again, self.pages()), (address, 20))
        munmap(address, 20 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.check_tables()

    def test_mremap(self):
        address = map_pages(4)
        address = mremap(address, 4 * PAGE, 9 * PAGE, MAYMOVE)
        self.assertEqual(self.pages(), 9)
        address = mremap(address, 9 * PAGE, 3 * PAGE, 0)
        self.assertEqual(self.pages(), 3)
        self.assertEqual(mremap(address, 3 * PAGE, 1 << 60, MAYMOVE), FAILED)
        self.assertEqual(self.pages(), 3)
        munmap(address, 3 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.check_tables()

    def test_what_is_no_memory(self):
        reserved = map_pages(100, 0)
        self.assertEqual(self.pages(), 0)
        munmap(reserved, 100 * PAGE)
        with open(__file__, 'rb') as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
                self.assertLess(self.pages(), 1)
        own = mmap.mmap(-1, 7 * PAGE)
        self.assertGreaterEqual(self.pages(), 7)
        own.close()
        self.assertLess(self.pages(), 1)
        self.check_tables()


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class ThreadTests(NativeCase):

    def test_native_thread(self):
        before = self.live()
        block = run_thread('malloc', 1_000_003)
        self.assertEqual(self.live() - before, 1_000_003)
        traceback, = (trace.traceback for trace
                      in tracemalloc.take_snapshot().traces
                      if trace.size == 1_000_003)
        self.assertEqual([(frame.filename, frame.function)
                          for frame in traceback[-2:]],
                         [(__file__, 'ThreadTests.test_native_thread'),
                          (__file__, 'run_thread')])
        self.assertEqual(traceback[-1].lineno, line_of(run_thread, 5)[1])
        run_thread('free', block)
        self.assertEqual(self.live(), before)
        block = malloc(2_000_003)
        run_thread('free', block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def make_library(self, code):
        """Compile a library, or skip the test."""
        compiler = sysconfig.get_config_var('CC')
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, 'library.so')
        try:
            subprocess.run(
                [*compiler.split(), '-shared', '-fPIC', '-O1', '-x', 'c', '-',
                 '-o', path, '-lpthread'], input=code, text=True, check=True,
                capture_output=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            self.skipTest(f'no compiler: {exc}')
        return ctypes.CDLL(path)

    def test_where_a_thread_was_made(self):
        """A thread takes a block whenever it is told to, and another thread
        that it makes does; numbers of nodes change in between."""
        tracemalloc.stop()
        tracemalloc.start(50, native=True)
        library = self.make_library('''
            #include <pthread.h>
            #include <semaphore.h>
            #include <stdlib.h>
            static sem_t go, done;
            static pthread_t threads[2];
            static size_t size;
            void *block;
            static void *second(void *unused) {
                block = malloc(size + 2);
                return NULL;
            }
            static void *first(void *unused) {
                for (;;) {
                    sem_wait(&go);
                    if (size == 0) return NULL;
                    block = malloc(size);
                    pthread_create(&threads[1], NULL, second, NULL);
                    pthread_join(threads[1], NULL);
                    sem_post(&done);
                }
            }
            void begin(void) {
                sem_init(&go, 0, 0);
                sem_init(&done, 0, 0);
                pthread_create(&threads[0], NULL, first, NULL);
            }
            void take(size_t n) {
                size = n;
                sem_post(&go);
                if (n != 0) sem_wait(&done);
                else pthread_join(threads[0], NULL);
            }''')
        library.take.argtypes = [SIZE]

        def begin():
            library.begin()
        begin()
        library.take(500_003)
        _tracemalloc._prune_soon()
        exec('[object() for i in range(3)]', globals())
        library.take(600_003)
        traces = native_traces()
        for size in 500_003, 500_005, 600_003, 600_005:
            self.assertEqual(traces[size], line_of(begin, 1))
        self.check_tables()
        tracemalloc.stop()
        library.take(700_003)     # what was known of the thread is forgotten
        tracemalloc.start(native=True)
        library.take(800_003)
        self.assertEqual(native_traces()[800_003], ('<unknown>', 0))
        library.take(0)

    def test_without_the_gil(self):
        """ctypes gives the GIL up: the line is that of the caller, in any
        thread."""
        def take(size):
            blocks.append(malloc(size))
        blocks = []
        threads = [threading.Thread(target=take, args=(900_001 + i,))
                   for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        traces = native_traces()
        for i in range(5):
            self.assertEqual(traces[900_001 + i], line_of(take, 1))
        for block in blocks:
            free(block)

    @unittest.skipIf(FREE_THREADED, 'without the GIL malloc() is in use')
    @unittest.skipUnless(hasattr(signal, 'setitimer'), 'needs setitimer()')
    def test_handler_of_a_signal(self):
        """malloc() is the handler, and its argument 14.  The program takes
        small blocks alone, so that no malloc() is interrupted."""
        code = textwrap.dedent('''
            import ctypes, signal, tracemalloc, _testtracer
            libc = ctypes.CDLL(None)
            tracemalloc.start(50, native=True)
            libc.signal(signal.SIGALRM, ctypes.cast(libc.malloc,
                                                    ctypes.c_void_p))
            def down(n):
                return [n, (n,)] if n == 0 else [down(n - 1), {}]
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
            for _ in range(20_000):
                down(12)
            signal.setitimer(signal.ITIMER_REAL, 0)
            sizes = [trace.size for trace in tracemalloc.take_snapshot().traces
                     if trace.domain == tracemalloc.NATIVE_DOMAIN]
            print(sizes.count(signal.SIGALRM) > 3, _testtracer.fault())
            ''')
        self.assertEqual(run_python('-c', code).out.split(),
                         [b'True', b'None'])

    @support.requires_fork()
    def test_fork(self):
        block = malloc(1_000_003)
        stop = threading.Event()

        def churn():
            while not stop.is_set():
                free(malloc(1000))

        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    try:
                        good = _tracemalloc.is_tracing()
                        before = tracemalloc.get_native_memory()[0]
                        good &= before >= 1_000_003
                        free(block)
                        own = malloc(2_000_003)
                        good &= (tracemalloc.get_native_memory()[0] - before
                                 == 1_000_000)
                        good &= own is not None
                        good &= _testtracer.fault() is None
                        os._exit(not good)
                    finally:
                        os._exit(3)
                support.wait_process(pid, exitcode=0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        free(block)
        self.check_tables()

    def test_exit_with_threads(self):
        """Threads that allocate while the interpreter ends."""
        code = textwrap.dedent('''
            import ctypes, threading, time, tracemalloc
            tracemalloc.start('full', native=True)
            libc = ctypes.CDLL(None)
            def churn():
                while True:
                    libc.usleep(1)
            for _ in range(4):
                threading.Thread(target=churn, daemon=True).start()
            number = ctypes.c_ulong()
            for _ in range(20):
                libc.pthread_create(ctypes.byref(number), None,
                                    ctypes.cast(libc.malloc, ctypes.c_void_p),
                                    ctypes.c_void_p(100))
            ''')
        for _ in range(3):
            self.assertEqual(run_python('-c', code).err, b'')


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class LibraryTests(NativeCase):

    def test_sqlite(self):
        sqlite3 = import_helper.import_module('sqlite3')

        def fill(connection):
            connection.executemany('insert into t values (?)', rows)
        rows = [('x' * 1000,)] * 3000
        with sqlite3.connect(':memory:') as connection:
            connection.execute('create table t (x)')
            fill(connection)
            stats = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.DomainFilter(True, tracemalloc.NATIVE_DOMAIN)]
            ).statistics('lineno')
        connection.close()
        largest = stats[0]
        self.assertEqual((largest.traceback[0].filename,
                          largest.traceback[0].lineno), line_of(fill, 1))
        self.assertGreater(largest.size, 3_000_000)

    def test_zlib(self):
        zlib = import_helper.import_module('zlib')
        before = self.live()
        compressor = zlib.compressobj(9)
        # Its window, hash tables and buffer: 256 KiB; CPython's zlib module
        # takes them from the raw domain.
        self.assertLess(self.live() - before, 10_000)
        del compressor

    def test_statistics(self):
        block = malloc(50_000_017)
        snapshot = tracemalloc.take_snapshot()
        self.assertIn('native', [str(stat.traceback[0].filename) for stat
                                 in snapshot.statistics('domain')])
        largest = snapshot.statistics('lineno')[0]
        self.assertEqual(largest.size // 1000, 50_000)
        self.assertIn('<native>', [stat.traceback[0].filename for stat
                                   in snapshot.statistics('type')])
        self.assertGreaterEqual(snapshot.metadata['native_memory'],
                                50_000_017)
        only = snapshot.filter_traces([tracemalloc.DomainFilter(
            False, tracemalloc.NATIVE_DOMAIN)])
        self.assertLess(only.statistics('lineno')[0].size, 50_000_000)
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'x')
            snapshot.dump(path)
            loaded = tracemalloc.Snapshot.load(path)
        self.assertEqual(loaded.statistics('domain'),
                         snapshot.statistics('domain'))
        sums = tracemalloc.take_snapshot(traces=False)
        self.assertEqual(sums.statistics('lineno')[0].size // 1000, 50_000)
        free(block)


class StartTests(unittest.TestCase):
    SHOW = textwrap.dedent('''
        import ctypes, tracemalloc
        libc = ctypes.CDLL(None)
        libc.malloc(5_000_003)
        print(tracemalloc.get_native_memory()[0] > 5_000_000)
        ''')

    def show(self, *options, **environment):
        return run_python(*options, '-c', self.SHOW, **environment).out

    @unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
    def test_options(self):
        self.assertEqual(self.show('-X', 'tracemalloc'), b'False\n')
        self.assertEqual(self.show('-X', 'tracemalloc_native'), b'False\n')
        on = '-X', 'tracemalloc', '-X', 'tracemalloc_native'
        self.assertEqual(self.show(*on), b'True\n')
        self.assertEqual(self.show('-X', 'tracemalloc',
                                   PYTRACEMALLOC_NATIVE='1'), b'True\n')
        self.assertEqual(self.show('-X', 'tracemalloc',
                                   PYTRACEMALLOC_NATIVE='0'), b'False\n')
        self.assertEqual(self.show(*on[:-1], 'tracemalloc_native=0',
                                   PYTRACEMALLOC_NATIVE='1'), b'False\n')

    @unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
    def test_command(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'x.tracemalloc')
            for options, native in ((), 0), (('--native',), 1):
                result = run_python('-m', 'pytracemalloc', 'run', *options,
                                    '-fo', path, '-c', self.SHOW)
                self.assertEqual(result.out, b'True\n' if native
                                 else b'False\n')
                self.assertEqual(result.err.count(b'Native memory: 4.8 MiB'),
                                 native)
                report = run_python('-m', 'pytracemalloc', 'report', path,
                                    '--by', 'domain').out
                self.assertEqual(len(re.findall(
                    rb'\n4\.8 MiB +\d+ +[\d.]+ [KM]iB  native\n', report)),
                    native)
                self.assertEqual(report.count(b'\nNative memory: 4.8 MiB'),
                                 native)

    def test_arguments(self):
        for arguments in {'nframe': 3}, {'native': True, 'x': 1}:
            with self.assertRaises(TypeError):
                tracemalloc.start(**arguments)
        with self.assertRaises(ValueError):
            tracemalloc.start(0, native=True)
        self.assertFalse(tracemalloc.is_tracing())
        tracemalloc.start(native=False)
        tracemalloc.stop()

    @unittest.skipUnless(SANITIZED, 'needs a sanitizer')
    def test_sanitizer(self):
        with self.assertRaisesRegex(RuntimeError, 'a sanitizer'):
            tracemalloc.start(native=True)
        self.assertFalse(tracemalloc.is_tracing())

    def test_embedding(self):
        """A program that embeds Python has its own malloc()."""
        program = os.path.join(os.path.dirname(sys.executable), 'Programs',
                               '_testembed')
        if not (sysconfig.is_python_build() and os.path.exists(program)):
            self.skipTest('needs a build directory')
        code = ('import tracemalloc\n'
                'try:\n    tracemalloc.start(native=True)\n'
                'except RuntimeError as exc:\n'
                '    print(exc, tracemalloc.is_tracing())\n'
                'tracemalloc.start(); print(tracemalloc.is_tracing())')
        environment = {**os.environ, 'PYTRACEMALLOC_NATIVE': '1',
                       'PYTHONPATH': os.pathsep.join(sys.path)}
        result = subprocess.run(
            [program, 'test_repeated_init_exec', code], text=True,
            capture_output=True, env=environment, cwd=os.path.dirname(
                sys.executable))
        self.assertIn('malloc() of this program', result.stdout)
        self.assertIn(' False\nTrue\n', result.stdout)
        self.assertIn('tracemalloc: native memory cannot be traced',
                      result.stderr)


if __name__ == '__main__':
    unittest.main()
