"""References inside other interpreters: of those that share the GIL."""

import io
import json
import os
import tempfile
import threading
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc.helpers import FREE_THREADED
from test.test_pytracemalloc.test_graph_words import take

import _testtracer

_interpreters = import_helper.import_module('_interpreters')

HELD = '''
class Held:
    pass
KEPT = [Held() for i in range(10)]
more = bytes(1_000_000)
'''
LEFT_OUT = 'perhaps another interpreter, with a GIL of its own'


class InterpreterTest(unittest.TestCase):
    def setUp(self):
        tracemalloc.stop()
        tracemalloc.start(1)
        self.addCleanup(tracemalloc.stop)

    def create(self, kind, code=HELD):
        other = _interpreters.create(kind)
        self.addCleanup(_interpreters.destroy, other)
        self.assertIsNone(_interpreters.exec(other, code))
        return other

    def check(self, other):
        """All of it is seen; the path of the objects is returned."""
        expected = f'interpreter {other}: __main__.KEPT[...] -> Held (10)'
        for pause in True, False:
            snapshot = tracemalloc.take_snapshot(references=True, pause=pause)
            why = snapshot.why(type='Held')
            self.assertEqual([str(path) for path in why.paths], [expected])
        found, = [holder for holder in snapshot.holders().children
                  if holder.what == f'interpreter {other}']
        self.assertGreater(found.retained, 100_000)
        if FREE_THREADED:         # it shares what is not counted
            return snapshot, expected
        self.assertGreater(found.retained, 1_000_000)
        modules, = [holder for holder in found.children
                    if holder.name == 'sys.modules']
        main, = [holder for holder in modules.children
                 if holder.what == 'module __main__']
        self.assertGreater(main.retained, 1_000_000)
        self.assertNotIn(LEFT_OUT, [holder.what for holder in
                                    snapshot.holders(1).children])
        return snapshot, expected

    def test_that_shares_the_gil(self):
        other = self.create('legacy')
        snapshot, expected = self.check(other)
        with tempfile.TemporaryDirectory() as folder:
            snapshot.dump(f'{folder}/a.tracemalloc')
            again = tracemalloc.Snapshot.load(f'{folder}/a.tracemalloc')
        why = again.why(type='Held')
        self.assertEqual([str(path) for path in why.paths], [expected])
        file = io.BytesIO()
        snapshot._write_heapsnapshot(file.write)
        self.assertIn(f'interpreter {other}',
                      json.loads(file.getvalue())['strings'])

    def test_with_a_gil_of_its_own(self):
        other = self.create('isolated')
        if FREE_THREADED:         # the world is stopped
            self.check(other)
            return
        theirs, = [holder for holder in take().holders(1).children
                   if holder.what == LEFT_OUT]
        self.assertGreater(theirs.retained, 1_000_000)

    def test_law(self):
        for kind in 'legacy', 'isolated', 'legacy':
            self.create(kind, HELD + '''
import asyncio, json, re, types
async def wait():
    pass
waiting = wait(), re.compile('a*'), json.loads('{"a": [1]}')
class More(Held, metaclass=type('Meta', (type,), {})):
    __slots__ = 'a'
''')
        found = _testtracer.heap_law(1)
        self.assertEqual(found['broken types'], {})
        self.assertLess(found['surplus'], found['mortal'] * 0.01,
                        found['surplus types'])

    def test_same_name_in_two(self):
        one, two = self.create('legacy'), self.create('legacy')
        paths = [str(path) for path in take().why(type='Held').paths]
        self.assertCountEqual(paths, [
            f'interpreter {other}: __main__.KEPT[...] -> Held (10)'
            for other in (one, two)])

    def test_variable_of_a_function_that_runs(self):
        began, end = os.pipe(), os.pipe()
        code = HELD + f'''
import os
def serve():
    rows = [Held()]
    KEPT.clear()
    os.write({began[1]}, b'x')
    os.read({end[0]}, 1)
serve()
'''
        other = self.create('legacy', 'pass')   # 3.13 wants some
        thread = threading.Thread(target=_interpreters.exec,
                                  args=(other, code))
        thread.start()
        try:
            os.read(began[0], 1)
            path, = take().why(type='Held').paths
        finally:
            os.write(end[1], b'x')
            thread.join()
            for fd in began + end:
                os.close(fd)
        self.assertRegex(str(path), rf'^interpreter {other}: local rows\[0\] '
                                    r'of serve \(.*\) -> Held \(1\)$')

    @unittest.skipIf(FREE_THREADED, "cannot be imported there")
    def test_seen_from_there(self):
        """The main interpreter is the other one there."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        Row = type('Row', (), {'__module__': 'app'})
        row = Row()
        self.create('legacy', HELD + f'''
import os, tracemalloc
snapshot = tracemalloc.take_snapshot(references=True)
text = '|'.join(str(path) for name in ('Held', 'app.Row')
                for path in snapshot.why(type=name).paths)
os.write({writer}, text.encode())
''')
        held, rows = os.read(reader, 9999).decode().split('|')
        self.assertEqual(held, '__main__.KEPT[...] -> Held (10)')
        self.assertRegex(rows, '^interpreter 0: local row of '
                               r'.*test_seen_from_there .* -> app.Row \(1\)$')
        self.assertIsInstance(row, Row)


if __name__ == '__main__':
    unittest.main()
