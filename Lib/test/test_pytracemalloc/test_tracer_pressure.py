"""The tracer without memory: the program goes on, counters stay right."""
import tracemalloc
import unittest

import _tracemalloc
from test.support import import_helper
from test.test_pytracemalloc.helpers import Tracing

_testtracer = import_helper.import_module('_testtracer')


def program(n=60):
    """Allocate at new lines, at new depths, small and big."""
    scope = {}
    keep = []
    for i in range(n):
        exec(compile(f'def f{i}(d):\n'
                     f'    return [d] if d == 0 else [f{i}(d - 1)]\n',
                     f'made{i}', 'exec'), scope)
        keep.append(scope[f'f{i}'](i % 7))
        keep.append(bytearray(600 + i))
    return keep


def objects(depth):
    """As program(), without the compiler: CPython's crashes, traced or not,
    when a request of _PyInstructionSequence_Addop() fails."""
    keep = [depth + 0.5, {'key': [depth]}, bytearray(600 + depth), (depth,)]
    keep.append({i: str(i) for i in range(1000, 1030)})
    if depth:
        keep.append(objects(depth - 1))
    return keep


class PressureTests(unittest.TestCase):

    def tearDown(self):
        _tracemalloc._set_nomemory()
        tracemalloc.stop()

    def test_each_request_of_the_tracer_fails_in_turn(self):
        failed_starts = 0
        for n in range(1, 1000):
            for nframe in 1, 4, 'full':
                tracemalloc.stop()
                _tracemalloc._set_nomemory(n, n + 1)
                try:
                    tracemalloc.start(nframe)
                except MemoryError:
                    failed_starts += 1
                    self.assertFalse(tracemalloc.is_tracing())
                    self.assertEqual(tracemalloc.get_tracemalloc_memory(), 0)
                    continue
                keep = program()
                self.check()
                del keep
                self.check()
            _tracemalloc._set_nomemory()
            if n > 60 and failed_starts:
                break
        self.assertGreater(failed_starts, 0)

    def test_all_requests_fail_from_some_on(self):
        for n in range(1, 60):
            for nframe in 1, 25:
                tracemalloc.stop()
                with Tracing(nframe):
                    _tracemalloc._set_nomemory(n)
                    keep = program(20)
                    _tracemalloc._set_nomemory()
                    self.check()
                    del keep
                    self.check()

    def check(self):
        """Traced memory is the sum of all blocks, each node's that of its."""
        wrong, size, current = _testtracer.check_counters(
            tracemalloc.get_traced_memory)
        self.assertEqual(wrong, 0)
        self.assertEqual(size, current)
        current, peak = tracemalloc.get_traced_memory()
        self.assertGreaterEqual(peak, current)

    def test_untraced_blocks_are_counted(self):
        with Tracing(25):
            _tracemalloc._set_nomemory(1)
            keep = program(3000)
            untraced = tracemalloc.get_tracer_stats()['untraced']
            _tracemalloc._set_nomemory()
            self.assertEqual(len(keep), 6000)
        self.assertGreater(untraced, 0)

    def test_each_request_of_the_program_fails_in_turn(self):
        _testcapi = import_helper.import_module('_testcapi')
        for n in range(1, 400):
            with Tracing(5):
                _testcapi.set_nomemory(n, n + 1)
                try:
                    keep = objects(4)
                except MemoryError:
                    keep = None
                finally:
                    _testcapi.remove_mem_hooks()
                self.check()
                del keep
                self.check()


if __name__ == '__main__':
    unittest.main()
