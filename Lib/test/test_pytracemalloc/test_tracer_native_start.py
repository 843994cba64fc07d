"""Native memory of libraries, in reports, and how its tracing is started."""
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc.helpers import SANITIZED, line_of
from test.test_pytracemalloc.native_case import (
    NativeCase, free, malloc, run_python)


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
        # With a sanitizer, the native memory is refused first.
        with self.assertRaises(ValueError):
            tracemalloc.start(0, native=not SANITIZED)
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
