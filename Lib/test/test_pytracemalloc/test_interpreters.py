"""Interpreters of the standard library's own interface: what each allocates
shows its lines, counts until it is closed, and then is gone."""

import subprocess
import sys
import tempfile
import unittest

COMMON = '''
import sys, tracemalloc
from concurrent import futures, interpreters

KEPT = 500
SIZE = sys.getsizeof(bytes(3000))

def work(count):                          # as it is there, without globals
    import builtins
    if not hasattr(builtins, 'kept'):
        builtins.kept = []
    builtins.kept += [bytes(3000) for _ in range(count)]
    return count

LINE = work.__code__.co_firstlineno + 4
CODE = 'kept = [bytes(3000) for _ in range(500)]'

def held(filename, line):
    """Blocks of the size that a line holds, and the frames that called it."""
    blocks = [trace for trace in tracemalloc.take_snapshot().traces
              if trace.size == SIZE
              and trace.traceback[-1].filename == filename
              and trace.traceback[-1].lineno == line]
    return len(blocks), {trace.traceback[0].function for trace in blocks}
'''
CLOSED = '''
tracemalloc.start(20)
interpreters.create().close()             # what is imported once, stays
before, _ = tracemalloc.get_traced_memory()
made = [interpreters.create() for _ in range(3)]
for interpreter in made:
    assert interpreter.call(work, KEPT) == KEPT
made[0].exec(CODE)
assert held(__file__, LINE)[0] == 3 * KEPT
assert held('<script>', 1) == (KEPT, {'<module>'})
now, _ = tracemalloc.get_traced_memory()
assert now > before + 4 * KEPT * SIZE
made.pop().close()
assert held(__file__, LINE)[0] == 2 * KEPT
made.pop(0).close()
assert held(__file__, LINE)[0] == KEPT
assert held('<script>', 1)[0] == 0
interpreters.list_all()[-1].close()
assert held(__file__, LINE)[0] == 0
del made, interpreter
after, _ = tracemalloc.get_traced_memory()
assert after - before < KEPT * SIZE // 10, after - before
'''
POOL = '''
if __name__ == '__main__':
    tracemalloc.start(20)
    with futures.InterpreterPoolExecutor(2) as pool:
        assert sum(pool.map(work, [10] * 50)) == KEPT
        count, callers = held(__file__, LINE)
        assert count == KEPT, count
    assert held(__file__, LINE)[0] == 0
'''


@unittest.skipIf(sys.version_info < (3, 14),
                 'concurrent.interpreters is new in 3.14')
class InterpreterTest(unittest.TestCase):
    def run_program(self, code):
        with tempfile.NamedTemporaryFile('w', suffix='.py') as file:
            file.write(COMMON + code)
            file.flush()
            process = subprocess.run([sys.executable, file.name], text=True,
                                     capture_output=True, timeout=300)
        self.assertEqual((process.returncode, process.stderr), (0, ''))

    def test_closed_interpreters_hold_nothing(self):
        self.run_program(CLOSED)

    def test_pool(self):
        self.run_program(POOL)


if __name__ == '__main__':
    unittest.main()
