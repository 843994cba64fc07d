"""Native memory in threads, handlers of signals and forks."""
import ctypes
import os
import signal
import subprocess
import sysconfig
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

import _tracemalloc
from test import support
from test.test_pytracemalloc.helpers import FREE_THREADED, SANITIZED, line_of
from test.test_pytracemalloc.native_case import (
    SIZE, NativeCase, _testtracer, free, malloc, native_traces, run_python,
    run_thread)


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
                          (line_of(run_thread, 5)[0], 'run_thread')])
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


if __name__ == '__main__':
    unittest.main()
