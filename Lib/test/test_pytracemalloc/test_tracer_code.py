"""Code objects that die, a call tree that grows with them, positions."""
import ast
import dis
import json
import tracemalloc
import unittest

from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import FREE_THREADED, SLOW, Tracing

import_helper.import_module('resource')
import_helper.import_module('_testtracer')


# With so little address space there is room for 16384 nodes, instead of four
# million: then blocks belong to the caller of their line.
FULL = '''
import _testtracer, _tracemalloc, json, resource, sys, tracemalloc

def made(i):
    scope = {}
    exec(compile('def f():\\n    return [{1}, {1: 2}]\\nkept = f()', f'{i}',
                 'exec'), scope)
    return scope['kept']

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)

with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20),
                                        resource.RLIM_INFINITY))
_tracemalloc.start(json.loads(sys.argv[1]))     # imports nothing
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
kept = []
for i in range(20_000):
    obj = made(i)
    if i % 7 == 0:
        kept.append(obj)
stats = tracemalloc.get_tracer_stats()
assert stats['nodes'] == 16384 and stats['untraced'] == 0, stats
assert stats['folded'] > 1000, stats
check()
assert tracemalloc.get_object_traceback(kept[0][0])[-1].filename == '0'
assert tracemalloc.get_object_traceback(kept[-1][0])
snapshot = tracemalloc.take_snapshot()
assert len(snapshot.traces) == sum(
    stat.count for stat in snapshot.statistics('lineno'))
del kept, obj
check()
'''


class DyingCodeTests(unittest.TestCase):

    def again(self, name):
        scope = {}
        exec(compile('def f():\n    return {1}\nkeep = f()', name, 'exec'),
             scope)
        return scope['keep']

    def test_recreated_code_shares_its_nodes(self):
        with Tracing(10):
            keep = [self.again('dying') for i in range(50)]
            before = tracemalloc.get_tracer_stats()
            keep += [self.again('dying') for i in range(2000)]
            after = tracemalloc.get_tracer_stats()
            for obj in keep:
                frames = list(tracemalloc.get_object_traceback(obj))
                self.assertEqual((frames[-1].filename, frames[-1].lineno),
                                 ('dying', 2))
        self.assertLess(after['nodes'] - before['nodes'], 60)
        self.assertLess(after['locations'] - before['locations'], 30)

    @unittest.skipUnless(SLOW, 'takes a minute: make check-all runs it')
    def test_a_million_code_objects(self):
        with Tracing(10):
            for i in range(1000):
                self.again('dying')
            before = tracemalloc.get_tracer_stats()
            for i in range(1_000_000):
                self.again('dying')
            after = tracemalloc.get_tracer_stats()
        for what, more in ('nodes', 50), ('locations', 50), ('memory', 1 << 20):
            self.assertLess(after[what] - before[what], more, what)

    def test_each_new_name_costs_a_few_bytes(self):
        # Two code objects, three lines that allocate.
        n = 20_000
        with Tracing(10):
            self.again('first')
            before = tracemalloc.get_tracemalloc_memory()
            for i in range(n):
                self.again(f'dying {i}')
            after = tracemalloc.get_tracemalloc_memory()
        # Without pools each block has a record, of 32 bytes and more.
        self.assertLess(after - before, (1000 if FREE_THREADED else 500) * n)

    def test_no_more_nodes(self):
        for nframe in 1, 4, 'full':
            with self.subTest(nframe=nframe):
                script_helper.assert_python_ok('-c', FULL, json.dumps(nframe))


class PositionTests(unittest.TestCase):
    """The frame's lines and columns are those of the call that allocates."""

    def position(self, source, first_line=1):
        """What the tracer says and what ast says, of make(...)."""
        tree = ast.parse(source)
        ast.increment_lineno(tree, first_line - 1)
        call = next(node for node in ast.walk(tree)
                    if isinstance(node, ast.Call))
        with Tracing(2):
            scope = {'make': lambda *args: object()}
            exec(compile(tree, 'position', 'exec'), scope)
            traces = tracemalloc.take_snapshot().traces
            block = tracemalloc.get_object_traceback(scope['kept'])
        frame = next(trace.traceback[0] for trace in traces
                     if trace.traceback == block)
        self.assertEqual(frame.filename, 'position')
        return ((frame.lineno, frame.end_lineno, frame.colno,
                 frame.end_colno),
                (call.lineno, call.end_lineno, call.col_offset,
                 call.end_col_offset))

    def test_what_fits_and_what_does_not(self):
        for lines in 0, 1, 1021, 1022, 1023, 1024, 5000:
            with self.subTest(lines=lines):
                self.assertEqual(*self.position(
                    'kept = make(' + '\n' * lines + ')'))
        for columns in 0, 65520, 65521, 65522, 65523, 65524, 70_000:
            with self.subTest(columns=columns):
                self.assertEqual(*self.position(
                    'kept = make(' + ' ' * columns + ')'))
                self.assertEqual(*self.position(
                    'kept = ' + ' ' * columns + 'make()'))
        for line in (1 << 22) - 2, (1 << 22) - 1, 1 << 22, 1 << 30:
            with self.subTest(line=line):
                self.assertEqual(*self.position('kept = make()', line))
                self.assertEqual(*self.position('kept = make(\n)', line))

    def test_a_line_grows_beyond_what_fits(self):
        # Two allocations, the second of them longer.
        source = 'make(); kept = make(' + '\n' * 3000 + ')'
        said, call = self.position(source)
        self.assertEqual(said, (1, 3001, 0, 1))

    def test_many_that_do_not_fit(self):
        with Tracing(1):
            scope = {}
            exec(compile(''.join(f'a{i} = {{{i},' + ' ' * 70_000 + '}\n'
                                 for i in range(300)), 'wide', 'exec'), scope)
            for i in range(300):
                block = tracemalloc.get_object_traceback(scope[f'a{i}'])
                self.assertEqual(block[0].lineno, i + 1)
            stats = tracemalloc.take_snapshot().statistics('lineno')
            ends = [stat.traceback[0].end_colno for stat in stats
                    if stat.traceback[0].filename == 'wide']
        self.assertGreaterEqual(len(ends), 300)
        self.assertGreater(min(ends), 70_000)


class LineTableTests(unittest.TestCase):
    """code.replace() takes any bytes for a table."""

    CODE = compile('made += {0},\n' * 60, 'table', 'exec')

    def lines(self, table, nframe=1):
        code = self.CODE.replace(co_linetable=table)
        scope = {'made': []}
        with Tracing(nframe):
            exec(code, scope)
            return [tracemalloc.get_object_traceback(obj)[-1].lineno
                    for obj in scope['made']]

    def test_a_table_that_is_cut(self):
        table = self.CODE.co_linetable
        # Too long for pymalloc: the C library's checkers see its end.
        self.assertGreater(len(table), 512)
        calls = [instruction.offset // 2
                 for instruction in dis.get_instructions(self.CODE)
                 if instruction.opname == 'BUILD_SET']
        starts = [i for i, byte in enumerate(table) if byte & 0x80]
        ends = [*starts[1:], len(table)]
        for size in range(len(table) + 1):
            units = sum((table[start] & 7) + 1
                        for start, end in zip(starts, ends) if end <= size)
            self.assertEqual(self.lines(table[:size]),
                             [line if call < units else 0
                              for line, call in enumerate(calls, 1)], size)

    def test_an_empty_table(self):
        for nframe in 1, 25, 'full':
            self.assertEqual(self.lines(b'', nframe), [0] * 60)

    def test_numbers_of_any_length(self):
        # Two lines on, in a number with bits that no line needs; then one
        # that does not end.
        units = len(self.CODE.co_code) // 2
        number = bytes([0x44, 0x40, 0x40, 0x40, 0x40, 0x40])
        for high in 0, 1, 63:
            table = b'\xe8' + number + bytes([high]) + b'\xef\0' * units
            self.assertEqual(self.lines(table), [3] * 60)
        self.assertEqual(self.lines(b'\xef' + b'\x7f' * 1000), [0] * 60)
        self.assertEqual(self.lines(b'\xf7' + b'\x7f' * 1000), [0] * 60)


if __name__ == '__main__':
    unittest.main()
