"""Threads without the GIL, with tracing started and stopped under them."""
import os
import random
import threading
import time
import tracemalloc
import unittest
import warnings

from test.support import import_helper, threading_helper
from test.test_pytracemalloc.helpers import SLOW, Tracing

_testtracer = import_helper.import_module('_testtracer')

SECONDS = 60 if SLOW else 3


def raw_left():
    """Live blocks of the domain that the threads track."""
    return sum(trace[0] == 77 for trace in tracemalloc._get_traces())


@threading_helper.requires_working_threading()
class ThreadTests(unittest.TestCase):

    def tearDown(self):
        _testtracer.stop_threads()
        tracemalloc.stop()

    def test_start_stop_clear_fork_under_32_threads(self):
        generator = random.Random(1)
        _testtracer.start_threads(32)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            action = generator.randrange(6)
            if action < 2:
                tracemalloc.start(generator.choice([1, 3, 25]))
            elif action == 2:
                tracemalloc.stop()
            elif action == 3:
                tracemalloc.clear_traces()
            elif action == 4 and tracemalloc.is_tracing():
                self.check_fork()
            time.sleep(0.005)
            current, peak = tracemalloc.get_traced_memory()
            self.assertGreaterEqual(current, 0)
            self.assertGreaterEqual(peak, current)

    def check_fork(self):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                keep = [bytearray(100) for i in range(100)]
                seen = tracemalloc.get_object_traceback(keep[0])
                tracemalloc.stop()
                tracemalloc.start()
                status = 0 if seen is not None else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_nothing_is_left(self):
        with Tracing():
            before = tracemalloc.get_tracer_stats()['mapped']
            _testtracer.start_threads(32)
            time.sleep(0.5)
            _testtracer.stop_threads()
            after = tracemalloc.get_tracer_stats()
            self.assertEqual(raw_left(), 0)
            self.assertEqual(after['untraced'], 0)
            self.assertLess(abs(after['mapped'] - before), 50)

    def test_python_threads_start_and_stop(self):
        done = threading.Event()

        def allocate():
            while not done.is_set():
                keep = [[i, float(i), {i: i}] for i in range(100)]
                del keep

        def switch():
            while not done.is_set():
                tracemalloc.start(5)
                tracemalloc.stop()

        threads = [threading.Thread(target=target)
                   for target in [allocate] * 6 + [switch] * 2]
        with threading_helper.start_threads(threads, unlock=done.set):
            time.sleep(SECONDS / 3)
            done.set()
        tracemalloc.stop()
        self.assertEqual(tracemalloc.get_traced_memory(), (0, 0))


if __name__ == '__main__':
    unittest.main()
