"""Whatever the tracer can hold, a file can, and reports can show."""

import contextlib
import io
import itertools
import os
import tempfile
import types
import unittest

import tracemalloc
from pytracemalloc.cli import main
from pytracemalloc.reporters import FORMATS
from test.support import import_helper
from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.otlp_case import formats_here
from tracemalloc import Snapshot


def varint(value):
    """A number as line tables have it: six bits a byte, lowest first."""
    groups = [value & 63]
    while value := value >> 6:
        groups[-1] |= 64
        groups.append(value & 63)
    return bytes(groups)


def line_table(*ends):
    """All of a function is on its first line; where that ends is given as
    lines more, column and last column, both plus one."""
    return (b'\xf7\0' + b''.join(map(varint, ends))) * 30


def allocate():
    first = bytearray(100)
    return [first,
            {1: first}]


def codes_on_odd_lines():
    """Yield what code.replace() may be told, with its result."""
    code = allocate.__code__
    for line in (0, 1, 2**22 - 1, 2**22, 2**31 - 5, 2**31 - 3, 2**31 - 2,
                 2**31 - 1):
        yield line, code.replace(co_firstlineno=line)
        for ends in ((0, 0, 0), (5, 1, 65_536), (0, 65_535, 70_000),
                     (1023, 0, 0), (2**31 - 1, 5, 5), (2**31, 5, 5),
                     (2**32 - 1, 5, 5), (0, 2**31, 2**32 - 1),
                     (0, 2**31 - 1, 2**31 + 1)):
            yield (line, *ends), code.replace(co_firstlineno=line,
                                              co_linetable=line_table(*ends))


def details(snapshot):
    return [(trace.size, trace.domain, trace.traceback.total_nframe,
             [(frame.filename, frame.lineno, frame.function, frame.end_lineno,
               frame.colno, frame.end_colno) for frame in trace.traceback])
            for trace in snapshot.traces]


def paths(snapshot):
    """Whole paths with what is known of their ends, in one order."""
    paths = []
    for caller, *rest in snapshot.call_tree().nodes:
        paths.append((paths[caller] if caller >= 0 else ()) + tuple(rest))
    return sorted(paths)


class ExtremeTests(unittest.TestCase):

    def setUp(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(directory, 'x.tracemalloc')

    def trace(self, function, nframe=1):
        with Tracing(nframe):
            kept = function()
            snapshot = tracemalloc.take_snapshot()
        del kept
        return snapshot

    def check(self, snapshot):
        snapshot.dump(self.path)
        again = Snapshot.load(self.path)
        self.assertEqual(details(again), details(snapshot))
        self.assertEqual(paths(again), paths(snapshot))
        for key in 'lineno', 'filename', 'function', 'traceback', 'domain':
            self.assertEqual([(stat.key, stat.size, stat.count)
                              for stat in again.statistics(key)],
                             [(stat.key, stat.size, stat.count)
                              for stat in snapshot.statistics(key)])
        snapshot.dump(self.path, format='pickle')
        self.assertEqual(Snapshot.load(self.path).traces, snapshot.traces)
        return again

    def test_lines(self):
        for nframe in 1, 5:
            for name, code in codes_on_odd_lines():
                with self.subTest(nframe=nframe, code=name):
                    snapshot = self.trace(types.FunctionType(code, {}),
                                          nframe)
                    lines = {trace.traceback[-1].lineno
                             for trace in snapshot.traces
                             if trace.traceback[-1].function == 'allocate'}
                    self.assertTrue(lines)
                    self.assertGreaterEqual(min(lines), 0)
                    self.check(snapshot)

    def test_blocks(self):
        _testcapi = import_helper.import_module('_testcapi')
        addresses = 0, 1, 2**63, 2**64 - 1
        for domain, size in itertools.product((0, 1, 2**31, 2**32 - 1),
                                              (0, 1, 2**32, 2**60)):
            with self.subTest(domain=domain, size=size):
                def track():
                    for address in addresses:
                        _testcapi.tracemalloc_track(domain, address, size)

                again = self.check(self.trace(track))
                self.assertEqual(
                    [trace.size for trace in again.traces
                     if (trace.domain, trace.size) == (domain, size)],
                    [size] * 4)
                only = again.filter_traces(
                    [tracemalloc.DomainFilter(True, domain)])
                self.assertEqual({trace.domain for trace in only.traces},
                                 {domain})

    def test_filters_of_what_cannot_be(self):
        _testcapi = import_helper.import_module('_testcapi')
        with Tracing():
            _testcapi.tracemalloc_track(2**32 - 1, 1, 1)
            snapshot = tracemalloc.take_snapshot()
        for domain in 2**32, 2**64 - 1, 2**70:
            for inclusive in True, False:
                filtered = snapshot.filter_traces(
                    [tracemalloc.DomainFilter(inclusive, domain)])
                self.assertEqual(len(filtered.traces),
                                 0 if inclusive else len(snapshot.traces))

    def test_reports(self):
        formats = formats_here(self, FORMATS)
        for name, code in codes_on_odd_lines():
            self.trace(types.FunctionType(code, {}), 5).dump(self.path)
            for format in formats:
                with self.subTest(code=name, format=format):
                    self.report('--format', format)
        for by in 'line', 'file', 'function', 'traceback', 'domain':
            self.report('--by', by)

    def report(self, *args):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), \
             contextlib.redirect_stderr(said):
            status = main(['report', *args, '-f', '-o', self.path + '.out',
                           self.path])
        self.assertIn(status, (0, None), said.getvalue())
        self.assertGreater(os.path.getsize(self.path + '.out'), 0)


if __name__ == '__main__':
    unittest.main()
