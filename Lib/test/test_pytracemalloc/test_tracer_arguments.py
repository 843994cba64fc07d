"""What bad input gets: stock's exceptions and messages."""
import pathlib
import re
import subprocess
import sys
import tracemalloc
import unittest

import _tracemalloc
from test.support import import_helper, script_helper
from test.test_pytracemalloc import bad_input
from test.test_pytracemalloc.helpers import ALLOCATORS, Tracing


STOCK = pathlib.Path(sys.executable).parents[1] / 'unpatched/obj/python'


PUT_BACK = '''
import _testcapi, sys, tracemalloc
nframe = int(sys.argv[1])

def make():
    return [[i, {i: i}, bytes(i), float(i)] for i in range(1000)]

tracemalloc.start(nframe)
_testcapi.set_nomemory(1 << 30)
tracemalloc.stop()
_testcapi.remove_mem_hooks()
make()
assert tracemalloc.get_traced_memory() == (0, 0)
tracemalloc.start(nframe)
before = tracemalloc.get_traced_memory()[0]
keep = make()
made = tracemalloc.get_traced_memory()[0] - before
assert 600_000 < made < 1_200_000, made
del keep
left = tracemalloc.get_traced_memory()[0] - before
assert 0 <= left < 100_000, left
tracemalloc.stop()
make()
'''


def run(*args, **env):
    return subprocess.run([sys.executable, *args, '-c', 'pass'],
                          capture_output=True, text=True, env=env)


class ArgumentTests(unittest.TestCase):

    def tearDown(self):
        tracemalloc.stop()

    def test_start(self):
        for nframe in 0, -1, 65536, 70000:
            with self.assertRaisesRegex(
                    ValueError, r'^the number of frames must be in range '
                                r'\[1; 65535\]$'):
                tracemalloc.start(nframe)
        with self.assertRaisesRegex(ValueError, r"65535\] or 'full', not 'x'"):
            tracemalloc.start('x')
        for value in 1.5, None, b'full':
            with self.assertRaises(TypeError):
                tracemalloc.start(value)
        with self.assertRaises(OverflowError):
            tracemalloc.start(1 << 70)
        self.assertFalse(tracemalloc.is_tracing())

    def test_stop_without_start(self):
        tracemalloc.stop()
        tracemalloc.stop()
        tracemalloc.clear_traces()
        tracemalloc.reset_peak()
        self.assertEqual(tracemalloc.get_traced_memory(), (0, 0))

    def test_environment_and_option(self):
        too_big = '70000', str(2**31 - 1)
        for value in 'x', '-1', '1x', '9' * 40, *too_big:
            for variable in 'PYTHONTRACEMALLOC', 'PYTRACEMALLOC':
                result = run(**{variable: value})
                self.assertNotEqual(result.returncode, 0, value)
                if value not in too_big:
                    self.assertIn(f'{variable}: invalid number of frames',
                                  result.stderr)
            result = run('-X', f'tracemalloc={value}')
            self.assertNotEqual(result.returncode, 0, value)
            if value not in too_big:
                self.assertIn('-X tracemalloc=NFRAME: invalid number of',
                              result.stderr)

    def test_traceback_of_anything(self):
        anything = [None, 1, -5, 'x', (), type, type('T', (), {}), len,
                    sys, object(), [], {}, lambda: 0, float, 1 << 99, self]
        with Tracing(3):
            for obj in anything:
                seen = tracemalloc.get_object_traceback(obj)
                self.assertTrue(seen is None or len(seen) <= 3)
            with self.assertRaises(TypeError):
                tracemalloc.get_object_traceback()
        self.assertIsNone(tracemalloc.get_object_traceback(anything))

    def test_functions_put_back_after_stop(self):
        # Who wrapped them while tracing was on puts them back, tracing off.
        import_helper.import_module('_testcapi')
        for nframe in '1', '25':
            for malloc in *ALLOCATORS, 'debug':
                script_helper.assert_python_ok('-c', PUT_BACK, nframe,
                                               PYTHONMALLOC=malloc)

    def test_debug_hooks_tell_where_a_bad_block_is_from(self):
        import_helper.import_module('_testcapi')
        script = 'import _testcapi\n_testcapi.pymem_buffer_overflow()'
        result = script_helper.assert_python_failure(
            '-X', 'tracemalloc=3', '-c', script, PYTHONMALLOC='debug')
        self.assertIn(b'Memory block allocated at (most recent call first):\n'
                      b'  File "<string>", line 2\n', result.err)

    def test_names_with_nul(self):
        # compile() refuses them, code objects do not.
        code = compile('kept = set()', 'before', 'exec').replace(
            co_filename='nul\0file', co_qualname='nul\0function')
        scope = {}
        with Tracing(2):
            exec(code, scope)
            frame = tracemalloc.get_object_traceback(scope['kept'])[-1]
            trace = _tracemalloc._get_object_trace(scope['kept'])
            snapshot = tracemalloc.take_snapshot()
        self.assertEqual(frame.filename, 'nul\0file')
        self.assertEqual([trace[2][0][0], trace[2][0][2]],
                         ['nul\0file', 'nul\0function'])
        self.assertIn('nul\0file', {stat.traceback[0].filename for stat
                                    in snapshot.statistics('lineno')})


@unittest.skipUnless(STOCK.exists(), f'no {STOCK}, which make stock builds')
class SameAsStockTests(unittest.TestCase):
    """A stock interpreter says the same."""

    def both(self, *args, **env):
        """What both interpreters say, and their exit codes."""
        seen = []
        for executable in sys.executable, STOCK:
            result = subprocess.run([executable, *args], text=True, env=env,
                                    capture_output=True)
            # A fatal error shows the number of the thread.
            said = re.sub('0x[0-9a-f]{16}', '0x', result.stderr)
            seen.append((result.returncode, result.stdout, said))
        return seen

    def test_arguments(self):
        ours, stock = self.both(bad_input.__file__)
        self.assertEqual(ours, stock)
        self.assertGreater(len(ours[1].splitlines()), 150)

    def test_environment_and_option(self):
        show = 'import tracemalloc as t; print(t.get_traceback_limit())'
        for value in ('', '0', '1', '65535', '65536', '70000', '-1', 'x', '1x',
                      ' 5', '5 ', '+5', '0x10', '1_0', '9' * 40,
                      str(2**31 - 1), str(2**31), '\u0661', '\xe9'):
            with self.subTest(value=value):
                ours, stock = self.both('-c', show, PYTHONTRACEMALLOC=value)
                self.assertEqual(ours, stock)
                ours, stock = self.both('-X', f'tracemalloc={value}',
                                        '-c', show)
                self.assertEqual(ours, stock)


if __name__ == '__main__':
    unittest.main()
