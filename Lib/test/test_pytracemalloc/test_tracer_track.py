"""PyTraceMalloc_Track() and Untrack(), above all on blocks of pymalloc.

test_tracer_orders compares them with a rule, step by step; here is what else
a block must survive that an entry of its pool cannot hold.
"""
import ctypes
import gc
import os
import sys
import tempfile
import tracemalloc
import unittest

import _tracemalloc
from test import support
from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import (
    ALLOCATOR, DEBUG_HOOKS, FLAVOUR, FREE_THREADED, Tracing)

_testcapi = import_helper.import_module('_testcapi')
_testinternalcapi = import_helper.import_module('_testinternalcapi')
_testtracer = import_helper.import_module('_testtracer')

get_traceback = _testinternalcapi._PyTraceMalloc_GetTraceback
track = _testcapi.tracemalloc_track
untrack = _testcapi.tracemalloc_untrack
POOL_SIZE = 1 << 14                 # see pycore_obmalloc.h


def sizes(*wanted):
    """Of all traces, those that are wanted."""
    return sorted(trace.size for trace in tracemalloc.take_snapshot().traces
                  if trace.size in wanted)


class TrackTests(unittest.TestCase):

    def check_counters(self):
        wrong, live, current = _testtracer.check_counters(
            tracemalloc.get_traced_memory)
        self.assertEqual((wrong, live), (0, current))
        self.assertIsNone(_testtracer.fault())

    def tearDown(self):
        tracemalloc.stop()

    def test_address_0(self):
        with Tracing(), tempfile.TemporaryDirectory() as directory:
            track(5, 0, 100)
            snapshot = tracemalloc.take_snapshot()
            path = os.path.join(directory, 'x')
            snapshot.dump(path)
            for seen in snapshot, tracemalloc.Snapshot.load(path):
                self.assertEqual([trace.size for trace in seen.traces
                                  if trace.domain == 5], [100])
            untrack(5, 0)
            self.assertFalse([trace for trace in tracemalloc._get_traces()
                              if trace[0] == 5])

    def test_twice(self):
        with Tracing(2):
            track(5, 0x1234, 100)
            track(5, 0x1234, 30)
            self.assertEqual([trace[1] for trace in tracemalloc._get_traces()
                              if trace[0] == 5], [30])
            untrack(5, 0x1234)
            untrack(5, 0x1234)
            self.assertIsNone(get_traceback(5, 0x1234))

    def test_free_forgets_a_small_block(self):
        # With and without the GIL.
        for size in 16, 10, 0, 10_000:
            for release_gil in 0, 1:
                with self.subTest(size=size, release_gil=release_gil), \
                     Tracing(2):
                    old = object()
                    address = id(old)
                    tracemalloc.clear_traces()
                    self.assertIsNone(get_traceback(0, address))
                    track(0, address, size, release_gil)
                    self.assertIsNotNone(get_traceback(0, address))
                    untrack(0, address, release_gil)
                    self.assertIsNone(get_traceback(0, address))
                    track(0, address, size, release_gil)
                    self.check_counters()
                    del old
                    self.assertIsNone(get_traceback(0, address))
                    self.check_counters()

    def test_snapshot(self):
        obj, other, big = object(), object(), bytes(50_000)
        with Tracing(), tempfile.TemporaryDirectory() as directory:
            track(0, id(obj), 12_345)
            track(0, id(other), 0)
            track(0, id(big), 54_321)
            path = os.path.join(directory, 'x')
            tracemalloc.take_snapshot().dump(path)
            for snapshot in (tracemalloc.take_snapshot(),
                             tracemalloc.Snapshot.load(path)):
                self.assertEqual(sorted(
                    trace.size for trace in snapshot.traces
                    if trace.size in (0, 12_345, 54_321)), [0, 12_345, 54_321])
                self.assertEqual(sum(
                    stat.size for stat in snapshot.statistics('lineno')),
                    snapshot.traced_memory[0])

    def test_clear(self):
        obj = object()
        with Tracing():
            track(0, id(obj), 12_345)
            tracemalloc.clear_traces()
            self.assertIsNone(get_traceback(0, id(obj)))
            del obj
            self.check_counters()

    @unittest.skipIf(FLAVOUR != 'track', 'free lists are not traced')
    def test_free_lists(self):
        # What is parked is nobody's; what comes back has its own size.
        with Tracing():
            number = float('1.5')
            address = id(number)
            track(0, address, 12_345)
            self.check_counters()
            del number
            self.check_counters()
            self.assertEqual(sizes(12_345), [])
            track(0, address, 23_456)
            self.check_counters()
            self.assertEqual(sizes(23_456), [23_456])
            number = float('2.5')
            if id(number) == address:
                self.assertEqual(sizes(23_456), [])
            del number
            self.check_counters()

    def test_free_lists_drained_past_the_tracer(self):
        api = ctypes.pythonapi
        allocators = [[ctypes.create_string_buffer(5 * 8) for domain in 'rmo']
                      for when in range(2)]

        def swap(to, of):
            for domain in range(3):
                api.PyMem_GetAllocator(domain, allocators[of][domain])
                if to is not None:
                    api.PyMem_SetAllocator(domain, allocators[to][domain])

        def make():
            return [[i, {i: i}, (i, [i]), i * 0.5] for i in range(5000)]

        swap(None, 0)
        with Tracing(5):
            for i in range(3):
                kept = make()
                del kept
                swap(0, 1)
                gc.collect()
                kept = make()
                swap(1, 0)
                self.check_counters()
                del kept
                self.check_counters()
                kept = make()
                self.check_counters()
            del kept
            self.check_counters()
            snapshot = tracemalloc.take_snapshot()
            self.assertEqual(
                sum(stat.size for stat
                    in snapshot.peak.statistics('lineno')),
                snapshot.traced_memory[1])

    def test_prune(self):
        def tracked(depth):
            if depth:
                return tracked(depth - 1)
            for obj, size in (small, 12_345), (nothing, 0), (fits, 10):
                track(0, id(obj), size)

        small, nothing, fits = object(), object(), object()
        with Tracing(25):
            tracked(20)
            for i in range(200):
                exec(compile('def f(): return {0}\nf()', f'gone {i}', 'exec'))
            before = [get_traceback(0, id(obj))
                      for obj in (small, nothing, fits)]
            _tracemalloc._prune_soon()
            for i in range(1000):
                exec(compile('def f(): return {0}\nf()', f'gone {i}', 'exec'))
            self.assertGreater(tracemalloc.get_tracer_stats()['pruned'], 0)
            self.assertEqual([get_traceback(0, id(obj))
                              for obj in (small, nothing, fits)], before)
            self.assertEqual(sizes(0, 12_345), [0, 12_345])
            self.check_counters()

    @unittest.skipUnless(hasattr(os, 'fork'), 'needs fork')
    def test_fork(self):
        obj = object()
        with Tracing():
            track(0, id(obj), 12_345)
            pid = os.fork()
            if pid == 0:
                try:
                    address = id(obj)
                    assert get_traceback(0, address) is not None
                    del obj
                    assert get_traceback(0, address) is None
                    self.check_counters()
                    os._exit(0)
                finally:
                    os._exit(1)
            support.wait_process(pid, exitcode=0)
            self.assertEqual(sizes(12_345), [12_345])

    @unittest.skipIf(FREE_THREADED,
                     'mimalloc asks nothing of the raw domain')
    def test_failed_realloc(self):
        # In a process of its own: raw requests are to fail.
        script_helper.assert_python_ok('-c', FAILED_REALLOC,
                                       PYTHONMALLOC=ALLOCATOR)

    def test_no_memory(self):
        objects = [bytes(2 + i % 400) for i in range(5000)]
        with Tracing(5):
            track(8, 8, 8)
            _tracemalloc._set_nomemory(1)
            failed = 0
            for obj in objects:
                for size in 3, 0, 12_345:
                    try:
                        track(0, id(obj), size)
                    except RuntimeError:
                        failed += 1
            _tracemalloc._set_nomemory()
            self.assertGreater(failed, 0)
            self.check_counters()
            del objects, obj
            self.check_counters()
            self.assertEqual(sizes(12_345), [])

    @unittest.skipIf(FREE_THREADED, 'mimalloc has no pools')
    @unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
    def test_what_is_left_at_the_end_of_a_pool(self):
        # Too small for a block, but a multiple of their size from the first;
        # the tables of these pools are full to the last entry.
        for size in 336, 496:
            with self.subTest(size=size), Tracing():
                objects = [bytes(size - sys.getsizeof(b''))
                           for i in range(200)]
                before = [tracemalloc.get_object_traceback(obj)
                          for obj in objects]
                pools = {id(obj) & -POOL_SIZE for obj in objects}
                first = id(objects[0]) % POOL_SIZE % size
                ends = [pool + first + (POOL_SIZE - first) // size * size
                        for pool in pools]
                for end in ends:
                    track(0, end, 12_345)
                self.assertEqual(sizes(12_345), [12_345] * len(pools))
                self.assertEqual([tracemalloc.get_object_traceback(obj)
                                  for obj in objects], before)
                self.check_counters()
                for end in ends:
                    untrack(0, end)
                del objects
                self.check_counters()

    def test_other_interpreters(self):
        import_helper.import_module('_interpreters')
        for gil in 'shared', 'own':
            with self.subTest(gil=gil):
                script_helper.assert_python_ok('-c', OTHER_INTERPRETER, gil,
                                               PYTHONMALLOC=ALLOCATOR)


FAILED_REALLOC = '''
import _testcapi, _testtracer, ctypes, tracemalloc
from _testinternalcapi import _PyTraceMalloc_GetTraceback as get_traceback

api = ctypes.pythonapi
for name, result, arguments in (
        ('PyObject_Malloc', ctypes.c_void_p, [ctypes.c_size_t]),
        ('PyObject_Free', None, [ctypes.c_void_p]),
        ('PyObject_Realloc', ctypes.c_void_p,
         [ctypes.c_void_p, ctypes.c_size_t])):
    getattr(api, name).restype = result
    getattr(api, name).argtypes = arguments
_testtracer.wrap_raw()
tracemalloc.start()
for size in 0, 12_345, 100:
    block = api.PyObject_Malloc(470)
    _testcapi.tracemalloc_track(0, block, size)
    _testtracer.fail_raw(1, 1000)
    moved = api.PyObject_Realloc(block, 50_000)
    _testtracer.fail_raw()
    assert moved is None, moved
    assert get_traceback(0, block) is not None
    wrong, live, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and live == current, (size, wrong, live, current)
    block = api.PyObject_Realloc(block, 50_000)
    assert [trace.size for trace in tracemalloc.take_snapshot().traces
            if trace.size in (12_345, 50_000)] == [50_000]
    api.PyObject_Free(block)
    wrong, live, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and live == current, (size, wrong, live, current)
'''

# Blocks of a size that nobody else asks for.
OTHER_INTERPRETER = '''
import _interpreters, _testcapi, _testtracer, os, sys, tracemalloc
from _testinternalcapi import _PyTraceMalloc_GetTraceback as get_traceback

SIZE = sys.getsizeof(b'') + 411

def run(code):
    assert (error := _interpreters.exec(interpreter, code)) is None, error

def make():
    """Address of a new object of the interpreter."""
    run(f'import os; obj = bytes(411)\\n'
        f'os.write({write}, str(id(obj)).encode())')
    return int(os.read(read, 100))

def check(address, size):
    assert (get_traceback(0, address) is None) == (size is None), size
    seen = [trace.size for trace in tracemalloc.take_snapshot().traces
            if trace.size in (SIZE, 5000, 333, 4444)]
    assert seen == [size] * (size in (SIZE, 5000, 333, 4444)), (seen, size)
    wrong, live, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and live == current, (size, wrong, live, current)

read, write = os.pipe()
interpreter = _interpreters.create(
    _interpreters.new_config('isolated', gil=sys.argv[1]))
run('import os; obj = bytes(411); del obj')
tracemalloc.start()
for size in 5000, 0, 333:
    address = make()
    check(address, SIZE)
    _testcapi.tracemalloc_track(0, address, size)
    check(address, size)
    run('del obj')
    check(address, None)
    _testcapi.tracemalloc_track(0, address, 4444)
    check(address, 4444)
    assert make() == address
    check(address, SIZE)
    _testcapi.tracemalloc_untrack(0, address)
    check(address, None)
    _testcapi.tracemalloc_track(0, address, 333)
    _testcapi.tracemalloc_track(0, address, size)
    check(address, size)
    _testcapi.tracemalloc_untrack(0, address)
    run('del obj')
    # Its pool may have no table, or none any more.
    tracemalloc.clear_traces()
    _testcapi.tracemalloc_track(0, address, size)
    check(address, size)
    assert make() == address
    check(address, SIZE)
    run('del obj')
    check(address, None)
_interpreters.destroy(interpreter)
'''


if __name__ == '__main__':
    unittest.main()
