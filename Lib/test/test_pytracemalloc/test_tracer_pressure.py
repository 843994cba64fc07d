"""The tracer without memory: the program goes on, counters stay right."""
import tracemalloc
import unittest

import _tracemalloc
from test.support import check_sanitizer, import_helper, script_helper
from test.test_pytracemalloc.helpers import (
    CRASHES_WITHOUT_MEMORY, FREE_THREADED, Tracing, program)

_testcapi = import_helper.import_module('_testcapi')
_testtracer = import_helper.import_module('_testtracer')

NEVER = 1 << 30


def objects(depth):
    """As program(), without the compiler: CPython's crashes, traced or not,
    when a request of _PyInstructionSequence_Addop() fails.  Nor is anything
    appended: a debug build of 3.14 ends the process if that fails."""
    keep = [depth + 0.5, {'key': [depth]}, bytearray(600 + depth), (depth,)]
    keep += [{i: str(i) for i in range(1000, 1030)}]
    keep[2] += bytes(3000)        # moves
    if depth:
        keep += [objects(depth - 1)]
    return keep


class PressureCase(unittest.TestCase):

    def tearDown(self):
        _tracemalloc._set_nomemory()
        tracemalloc.stop()

    def check(self):
        """Traced memory is the sum of all blocks, each node's that of its."""
        wrong, size, current = _testtracer.check_counters(
            tracemalloc.get_traced_memory)
        self.assertEqual(wrong, 0)
        self.assertEqual(size, current)
        current, peak = tracemalloc.get_traced_memory()
        self.assertGreaterEqual(peak, current)


class OwnMemoryTests(PressureCase):
    """The tracer gets no memory."""

    def test_each_request_fails_in_turn(self):
        for nframe in 1, 4, 'full':
            with self.subTest(nframe=nframe):
                # One that failed is often tried again: no block is untraced.
                self.sweep(nframe, 1)
                self.assertGreater(self.sweep(nframe, 3), 10)

    def sweep(self, nframe, width):
        # 800 take six seconds under ThreadSanitizer, for each of 60 requests;
        # 200 take one, for each of 30.
        functions = 200 if check_sanitizer(thread=True) else 800
        failed_starts = untraced = 0
        requests = n = 1
        while n <= requests:
            tracemalloc.stop()
            _tracemalloc._set_nomemory(n, n + width)
            try:
                tracemalloc.start(nframe)
            except MemoryError:
                failed_starts += 1
                self.assertFalse(tracemalloc.is_tracing())
                self.assertEqual(tracemalloc.get_tracemalloc_memory(), 0)
                requests += 1
            else:
                keep = program(functions)
                self.check()
                del keep
                requests = _tracemalloc._set_nomemory()
                self.check()
                untraced += tracemalloc.get_tracer_stats()['untraced'] > 0
            n += 1
        self.assertGreater(failed_starts, 10)
        return untraced

    def test_all_requests_fail_from_some_on(self):
        for n in range(1, 60):
            for nframe in 1, 25:
                with Tracing(nframe):
                    _tracemalloc._set_nomemory(n)
                    keep = program(20)
                    _tracemalloc._set_nomemory()
                    self.check()
                    del keep
                    self.check()

    def test_clear_traces_fails(self):
        # What cannot be made again stops tracing: no crash, no wrong count.
        n = requests = 1
        while n <= requests:
            with Tracing(3):
                keep = program(5)
                _tracemalloc._set_nomemory(n, n + 1)
                tracemalloc.clear_traces()
                requests = _tracemalloc._set_nomemory()
                if tracemalloc.is_tracing():
                    self.check()
                else:
                    self.assertEqual(tracemalloc.get_traced_memory(), (0, 0))
                    self.assertEqual(tracemalloc.get_tracemalloc_memory(), 0)
                    requests += 1
                del keep
            n += 1
        self.assertGreater(n, 10)

    def test_untraced_blocks_are_counted(self):
        with Tracing(25):
            _tracemalloc._set_nomemory(1)
            keep = program(3000)
            untraced = tracemalloc.get_tracer_stats()['untraced']
            _tracemalloc._set_nomemory()
            self.assertEqual(len(keep), 6000)
            _testcapi.tracemalloc_track(5, 1, 1)
            _tracemalloc._set_nomemory(1)
            with self.assertRaises(RuntimeError):
                for address in range(1, 100_000):
                    _testcapi.tracemalloc_track(5, address, 1)
            more = tracemalloc.get_tracer_stats()['untraced']
        self.assertGreater(untraced, 6000)
        self.assertGreater(more, untraced)

    @unittest.skipIf(FREE_THREADED, 'mimalloc has no pools')
    def test_a_pool_without_a_table(self):
        # Its blocks are untraced, but for those that are tracked: these have
        # a record in the map, where their free looks.
        script_helper.assert_python_ok('-c', NO_TABLE, PYTHONMALLOC='pymalloc')


@unittest.skipIf(CRASHES_WITHOUT_MEMORY, 'CPython 3.15.0rc1 crashes there')
class ProgramMemoryTests(PressureCase):
    """The program gets no memory: from the tracer, or from below it."""

    def tearDown(self):
        super().tearDown()
        _testcapi.remove_mem_hooks()
        _testtracer.unwrap_raw()

    def sweep(self, begin, end):
        """Each request fails in turn."""
        failures = 0
        for n in range(1, 5000):
            begin(n)
            try:
                keep = objects(4)
            except MemoryError:
                keep = None
                failures += 1
            finally:
                end()
            self.check()
            if keep is not None and n > failures + 20:
                break
            del keep
            self.check()
        else:
            self.fail('the sweep does not end')
        self.assertGreater(failures, 20)

    def test_above_the_tracer(self):
        for nframe in 1, 5, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                self.sweep(lambda n: _testcapi.set_nomemory(n, n + 1),
                           _testcapi.remove_mem_hooks)

    def never_fail(self):
        while True:
            try:
                return _testcapi.set_nomemory(NEVER)
            except MemoryError:
                pass              # a tuple of arguments; only one fails

    def test_below_the_general_functions(self):
        for nframe in 1, 5, 'full':
            tracemalloc.stop()
            _testcapi.set_nomemory(NEVER)
            with self.subTest(nframe=nframe), Tracing(nframe):
                self.sweep(lambda n: _testcapi.set_nomemory(n, n + 1),
                           self.never_fail)
            _testcapi.remove_mem_hooks()

    @unittest.skipIf(FREE_THREADED,
                     'mimalloc asks nothing of the raw domain')
    def test_below_the_fused_functions(self):
        _testtracer.wrap_raw()
        for nframe in 1, 5, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                self.sweep(lambda n: _testtracer.fail_raw(n, n + 1),
                           _testtracer.fail_raw)

    def fail_to_grow(self, *call, size=2000):
        """A traced block cannot grow; what was and is known of it."""
        more = bytes(600)
        grows = bytearray(size)
        before = self.traces(size)
        _testtracer.fail_raw(1, 2, *call)
        try:
            grows.extend(more)
        except MemoryError:
            _testtracer.fail_raw()
        else:
            self.fail('there was memory')
        self.check()
        after = self.traces(size)
        self.assertEqual(len(grows), size)
        return before, after

    def traces(self, size):
        """Of the block of fail_to_grow(), with the byte at its end."""
        return [trace for trace in tracemalloc._get_traces()
                if trace[1] == size + 1 and trace[2][0][0] == __file__]

    @unittest.skipIf(FREE_THREADED,
                     'mimalloc asks nothing of the raw domain')
    def test_a_failed_realloc_is_undone(self):
        _testtracer.wrap_raw()
        for size in 2000, 300:
            with self.subTest(size=size), Tracing(2):
                before, after = self.fail_to_grow(size=size)
                self.check()
                self.assertEqual(len(before), 1)
                self.assertEqual(before, after)

    @unittest.skipIf(FREE_THREADED,
                     'mimalloc asks nothing of the raw domain')
    def test_a_failed_realloc_while_traces_are_cleared(self):
        _testtracer.wrap_raw()
        with Tracing(2):
            before, after = self.fail_to_grow(
                _tracemalloc.clear_traces)
            self.check()
        self.assertEqual(len(before), 1)
        self.assertEqual(after, [])

    @unittest.skipIf(FREE_THREADED, 'mimalloc has no pools')
    def test_no_arena(self):
        # What pymalloc cannot serve comes from the raw domain: small blocks
        # that no pool holds.  For good, so in a process of its own.
        script_helper.assert_python_ok('-c', NO_ARENA, PYTHONMALLOC='pymalloc')


NO_TABLE = '''
import _testcapi, _testtracer, _tracemalloc, tracemalloc
from _testinternalcapi import _PyTraceMalloc_GetTraceback as get_traceback
from test.test_pytracemalloc.helpers import FLAVOUR

old = [object() for i in range(500_000)]
addresses = [id(obj) for obj in old]
floats = [i + 0.5 for i in range(500_000)]

def track(address):
    try:
        _testcapi.tracemalloc_track(0, address, 16)
    except RuntimeError:
        return 0
    return 1

def parked():
    return tracemalloc.get_freelist_stats()['float'][0]

tracemalloc.start()
track(8)                          # the node is there
del floats[::10_000]              # that of the free list, too
_tracemalloc._set_nomemory(1)
tracked = sum(map(track, addresses[::50]))
before = parked()
del floats[::5_000]
after = parked()
untraced = tracemalloc.get_tracer_stats()['untraced']
_tracemalloc._set_nomemory()
# A block of a pool without a table has room in the map, which gets full.
assert 0 < tracked < 9000, tracked
assert untraced >= 10_000 - tracked, (tracked, untraced)
del old
for address in addresses[::50]:
    assert get_traceback(0, address) is None
again = [i + 0.25 for i in range(1000)]
if FLAVOUR == 'track':
    assert after - before < 50 and parked() < 3, (before, after, parked())
wrong, size, current = _testtracer.check_counters(
    tracemalloc.get_traced_memory)
assert wrong == 0 and size == current, (wrong, size, current)
'''

NO_ARENA = '''
import _testtracer, tracemalloc
from test.test_pytracemalloc.helpers import FLAVOUR

def work():
    return [[i + 0.5, {i: i}, (i,), slice(i), str(i)] for i in range(20_000)]

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)

def live():
    return sum(trace[2][0] == ('<string>', 6)
               for trace in tracemalloc._get_traces())

for nframe in 1, 5, 'full':
    tracemalloc.start(nframe)
    mapped = tracemalloc.get_tracer_stats()['mapped']
    kept = [] + work()
    _testtracer.fail_arenas(True)
    kept += work()
    assert tracemalloc.get_tracer_stats()['mapped'] > mapped + 80_000
    check()
    assert live() > 200_000, live()
    del kept[::2]
    check()
    _testtracer.fail_arenas(False)
    kept += work()
    check()
    del kept[:]
    check()
    assert live() == 0 or FLAVOUR == 'ignore', live()
    assert tracemalloc.get_tracer_stats()['untraced'] == 0
    tracemalloc.stop()
'''


if __name__ == '__main__':
    unittest.main()
