"""Snapshots without memory: MemoryError, and nothing is lost or half done."""

import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

import _tracemalloc
import tracemalloc
from tracemalloc import DomainFilter, Filter, Snapshot
from test import support
from test.support import import_helper
from test.test_pytracemalloc.helpers import (
    CRASHES_WITHOUT_MEMORY, FLAVOUR, HAS_ARENAS, SANITIZED, program)

_testcapi = import_helper.import_module('_testcapi')
_testtracer = import_helper.import_module('_testtracer')
MOST_REQUESTS = 20_000


def recursive(depth):
    return [recursive(depth - 1), {depth: (depth,)}] if depth else bytearray(9)


class PressureCase(unittest.TestCase):

    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'x.tracemalloc')
        tracemalloc.start(5)
        self.addCleanup(tracemalloc.stop)
        self.keep = [recursive(8) for _ in range(3)]

    def take(self):
        snapshot = tracemalloc.take_snapshot()
        snapshot.metadata['note'] = 'x'
        return snapshot

    def sweep(self, operation, check):
        """Each request for memory of the operation fails in turn."""
        operation()               # what is made once is made
        failures = 0
        for n in range(1, MOST_REQUESTS):
            result = None
            with support.catch_unraisable_exception() as caught:
                _testcapi.set_nomemory(n, n + 1)
                try:
                    result = operation()
                except MemoryError:
                    failures += 1
                except SystemError as exc:
                    # Of CPython 3.14 itself, which says nothing when it has
                    # no room for many arguments or items.
                    if (sys.version_info < (3, 14) or str(exc)
                            != "error return without exception set"):
                        raise
                    failures += 1
                finally:
                    _testcapi.remove_mem_hooks()
                # CPython may need memory where something dies.
                if caught.unraisable is not None:
                    self.assertIs(caught.unraisable.exc_type, MemoryError)
            if result is not None:
                check(result)
                # All requests were served, or those that failed can fail.
                if n > failures + 200:
                    break
        else:
            self.fail("the sweep does not end")
        self.assertGreater(failures, 0)


# In 3.13.5 dict.setdefault() goes on when it cannot grow, an object that dies
# without memory leaves its dict behind, and the iterator of a dict's items
# crashes if it cannot get a tuple, which is rare while there are free lists.
@unittest.skipIf(support.Py_DEBUG or FLAVOUR == 'disable',
                 "CPython's own dicts need memory here")
@unittest.skipIf(CRASHES_WITHOUT_MEMORY, 'CPython 3.15.0rc1 crashes there')
class RequestTests(PressureCase):

    def test_take(self):
        lines = len(self.take().statistics('lineno'))

        def check(snapshot):
            self.assertGreaterEqual(len(snapshot.statistics('lineno')), lines)
            self.assertEqual(
                sum(s.count for s in snapshot.statistics('lineno')),
                len(snapshot.traces))
        self.sweep(tracemalloc.take_snapshot, check)
        self.sweep(lambda: tracemalloc.take_snapshot(references=True,
                                                     pause=True), check)

    def test_group(self):
        snapshot = self.take()
        for key in ('filename', 'lineno', 'traceback', 'function', 'module',
                    'type', 'type+lineno', 'domain', 'address'):
            with self.subTest(key=key):
                right = repr(snapshot.statistics(key)[:20])

                def check(stats):
                    self.assertEqual(repr(stats[:20]), right)
                self.sweep(lambda: snapshot.statistics(key), check)

    def test_compare(self):
        old = self.take()
        self.keep.append(recursive(4))
        new = self.take()
        for key in ('lineno', 'traceback', 'type'):
            right = repr(new.compare_to(old, key))

            def check(diffs):
                self.assertEqual(repr(diffs), right)
            self.sweep(lambda: new.compare_to(old, key), check)

    def test_filter(self):
        snapshot = self.take()
        for filters in ([Filter(True, __file__, all_frames=True)],
                        [Filter(False, __file__), DomainFilter(True, 0)]):
            right = len(snapshot.filter_traces(filters).traces)

            def check(filtered):
                self.assertEqual(len(filtered.traces), right)
            self.sweep(lambda: snapshot.filter_traces(filters), check)

    def test_views(self):
        snapshot = self.take()
        tracemalloc.stop()
        operations = [lambda: list(snapshot.traces),
                      lambda: snapshot.call_tree().by_type(),
                      lambda: snapshot.peak.statistics('lineno')]
        if HAS_ARENAS:
            operations.append(lambda: snapshot.pinned_arenas(1))
        for operation in operations:
            right = repr(operation())

            def check(result):
                self.assertEqual(repr(result), right)
            self.sweep(operation, check)

    def test_dump(self):
        snapshot = self.take()
        for format in 'native', 'pickle':
            snapshot.dump(self.path, format)

            def operation():
                snapshot.dump(self.path, format)
                return True

            def check(_):
                with open(self.path, 'rb') as file:
                    self.assertEqual(file.read(), image)
            with open(self.path, 'rb') as file:
                image = file.read()
            self.sweep(operation, check)
            check(None)
            self.assertEqual(os.listdir(self.directory), ['x.tracemalloc'])

    def test_load(self):
        snapshot = self.take()
        for format in 'native', 'pickle':
            snapshot.dump(self.path, format)

            def check(again):
                self.assertEqual(again.traces, snapshot.traces)
            self.sweep(lambda: Snapshot.load(self.path), check)


class OwnMemoryTests(unittest.TestCase):
    """The tracer itself gets no memory while a snapshot is made and used:
    nothing fails, and what could not be traced is counted."""

    def tearDown(self):
        _tracemalloc._set_nomemory()
        tracemalloc.stop()

    def use(self, path):
        keep = program(800)
        snapshot = tracemalloc.take_snapshot()
        self.assertEqual(
            sum(stat.count for stat in snapshot.statistics('lineno')),
            len(snapshot.traces))
        snapshot.statistics('traceback', cumulative=False)
        snapshot.filter_traces([Filter(False, '<unknown>')]).statistics('type')
        for format in 'native', 'pickle':
            snapshot.dump(path, format)
            self.assertEqual(Snapshot.load(path).traces, snapshot.traces)
        tracemalloc.reset_peak()
        keep.append(bytearray(1 << 20))
        del keep
        again = tracemalloc.take_snapshot(traces=False)
        peak = sum(stat.size for stat in again.peak.statistics('lineno'))
        self.assertGreaterEqual(peak, 1 << 20)
        self.assertLessEqual(peak, tracemalloc.get_traced_memory()[1])
        again.compare_to(snapshot, 'lineno')
        return again.metadata.get('untraced', 0)

    def test_each_request_fails_in_turn(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'x')
            for nframe in 1, 4:
                untraced = 0
                n = requests = 1
                while n <= requests:
                    tracemalloc.start(nframe)
                    _tracemalloc._set_nomemory(n, n + 3)
                    untraced += self.use(path)
                    requests = _tracemalloc._set_nomemory()
                    wrong, size, current = _testtracer.check_counters(
                        tracemalloc.get_traced_memory)
                    self.assertEqual((wrong, size), (0, current))
                    tracemalloc.stop()
                    n += 1
                self.assertGreater(untraced, 10)


@unittest.skipIf(SANITIZED, 'a sanitizer takes addresses of its own')
class AddressSpaceTests(unittest.TestCase):
    """The arrays of a snapshot come from the C library: it is that which runs
    out here, at each step of an operation."""

    CHILD = textwrap.dedent("""
        import resource, sys, tracemalloc
        tracemalloc.start(3)
        keep = [[i] for i in range(100_000)]
        snapshot = tracemalloc.take_snapshot()
        path = sys.argv[1]
        snapshot.dump(path)
        right = [(s.size, s.count) for s in snapshot.statistics('lineno')]
        holding = tracemalloc.take_snapshot(references=True)
        holding.dump(path + 'r')
        operations = {
            'take': lambda: tracemalloc.take_snapshot(),
            'type': lambda: tracemalloc.take_snapshot().statistics('type'),
            'traceback': lambda: snapshot.statistics('traceback'),
            'cumulative': lambda: snapshot.statistics('lineno', True),
            'filter': lambda: snapshot.filter_traces(
                [tracemalloc.DomainFilter(True, 0)]),
            'load': lambda: tracemalloc.Snapshot.load(path),
            'dump': lambda: snapshot.dump(path),
            'take references':
                lambda: tracemalloc.take_snapshot(references=True,
                                                  pause=True),
            'load references': lambda: tracemalloc.Snapshot.load(path + 'r'),
            'dump references': lambda: holding.dump(path + 'r'),
            'why': lambda: holding.filter_traces([]).why(type='list'),
            'holders': lambda: holding.filter_traces([]).holders(),
            'retained': lambda: holding.filter_traces([]).retained('type'),
        }
        operation = operations[sys.argv[2]]
        operation()
        failures = 0
        for room in range(0, 200 << 20, 256 << 10):
            with open('/proc/self/statm') as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS,
                               (used + room, resource.RLIM_INFINITY))
            try:
                operation()
                break
            except MemoryError:
                failures += 1
            finally:
                resource.setrlimit(resource.RLIMIT_AS,
                                   (resource.RLIM_INFINITY,) * 2)
        assert right == [(s.size, s.count)
                         for s in snapshot.statistics('lineno')]
        again = tracemalloc.Snapshot.load(path)
        assert len(again.traces) == len(snapshot.traces)
        assert tracemalloc.Snapshot.load(path + 'r').has_references
        print(failures)
    """)

    @unittest.skipUnless(os.path.exists('/proc/self/statm'), 'needs /proc')
    def test_steps(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'x')
            failures = 0
            for name in ('take', 'type', 'traceback', 'cumulative', 'filter',
                         'load', 'dump', 'take references',
                         'load references', 'dump references', 'why',
                         'holders', 'retained'):
                child = subprocess.run(
                    [sys.executable, '-c', self.CHILD, path, name],
                    capture_output=True, text=True)
                self.assertEqual((child.returncode, child.stderr), (0, ''),
                                 name)
                failures += int(child.stdout)
            self.assertGreater(failures, 20)


if __name__ == '__main__':
    unittest.main()
