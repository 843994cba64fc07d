"""NumPy's arrays in the graph of the heap: what they refer to, and the memory
that belongs to them."""

import json
import os
import subprocess
import sys
import textwrap
import unittest

from test.test_pytracemalloc.fetched import packages
from test.test_pytracemalloc.helpers import FREE_THREADED

# Arrays of all kinds; `Held` are objects that something in Python holds.
ARRAYS = '''
import gc, json, sys, tracemalloc, types
import numpy as np

class Held: pass
class Hidden: pass
class Sub(np.ndarray): pass
class Slim(np.ndarray): __slots__ = ()
class Slots(np.ndarray): __slots__ = 'note',

def objects(n, kind=Held):
    made = np.empty(n, dtype=object)
    made[:] = [kind() for i in range(n)]
    return made

kept = {
    'one': objects(1000), 'empty': np.empty(50, dtype=object),
    'none': np.array([], dtype=object), 'lists': objects(5),
    'table': objects(12).reshape(3, 4).copy(),
    'fortran': np.asfortranarray(objects(12).reshape(3, 4)),
    'single': np.array(Held(), dtype=object),
    'sub': Sub(10, dtype=object), 'slim': Slim(10, dtype=object),
    'slots': Slots((2, 5), dtype=object), 'matrix': np.matrix([[1, 2]]),
    'masked': np.ma.array([1, 2], mask=[0, 1]),
    'record': np.rec.array([(1, 'a')]),
    'numbers': np.arange(10 ** 5), 'texts': np.array(['a', 'bb']),
    'long texts': np.array(['a' * 99], dtype=np.dtypes.StringDType()),
    'bytes': np.frombuffer(bytes(1000), 'u1'),
    'structures': np.zeros(5, dtype=[('a', 'O'), ('b', 'i4')]),
    'strides': np.ndarray((5,), dtype=object, strides=(0,)),
    'dates': np.array(['2020-01-01'], dtype='M8[D]'),
}
for i in range(5):
    kept['lists'][i] = [Held()]
    kept['structures']['a'][i] = Hidden()
for name in 'sub', 'slim':
    kept[name][:] = objects(10)
kept['slots'][:] = objects(10).reshape(2, 5)
kept['slots'].note = Held()
kept['sub'].note = Held()
kept['same'] = np.full(100, kept['one'][0], dtype=object)
kept['view'] = kept['one'][::2]
kept['other way'] = kept['table'].T
kept['broadcast'] = np.broadcast_to(kept['one'][:1], (7,))
kept['as sub'] = kept['one'].view(Sub)
kept['field'] = kept['structures']['a']
kept['row'] = kept['structures'][0]
kept['flat'] = kept['table'].flat
'''
LAW = ARRAYS + '''
import _testtracer
found = _testtracer.heap_law()
print(json.dumps([found['broken types'],
                  found['surplus types'].get('Held', 0),
                  found['surplus types'].get('Hidden', 0)]))
'''
SHOP = '''
import gc, json, sys, tracemalloc, types
import numpy

tracemalloc.start(1)
app = types.ModuleType('app')
app.numpy = numpy
sys.modules['app'] = app
exec(compile("""
class Row: pass
class Table(numpy.ndarray): pass
ROWS = numpy.empty(20, dtype=object)
ROWS[:] = [Row() for i in range(20)]
EVERY_OTHER = ROWS[::2]
TABLE = Table(5, dtype=object)
TABLE[1] = None
TABLE[0] = set()
PRICES = numpy.zeros(10 ** 6)
SINGLE = numpy.zeros((), dtype='V100000')
BOX = numpy.array(Row(), dtype=object)
BOX[()] = [Row() for i in range(100)]
def note():
    return {'a': 1.5}
TABLE.note = note()
""", 'app.py', 'exec'), app.__dict__)

def take():
    gc.collect()
    return tracemalloc.take_snapshot(references=True, pause=True)

def paths(**question):
    return [str(path) for path in snapshot.why(most=9, **question).paths]

def freed(name):
    holder, = [holder for module in take().holders(1).children
               if module.what == 'module app' for holder in module.children
               if holder.name == '.' + name]
    gc.collect()
    # Twice: numbers like these are there the next time.
    before = tracemalloc.get_traced_memory()[0]
    before = tracemalloc.get_traced_memory()[0]
    setattr(app, name, None)
    gc.collect()
    return [holder.retained, before - tracemalloc.get_traced_memory()[0]]

snapshot = take()
'''


def run(program):
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(program)], text=True,
        capture_output=True, timeout=300,
        env=os.environ | {'PYTHONPATH': str(packages('numpy'))})
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


class ArrayTest(unittest.TestCase):
    maxDiff = None

    def test_law(self):
        broken, held, hidden = run(LAW)
        self.assertEqual(broken, {})
        if not FREE_THREADED:     # there, they may not be counted
            self.assertEqual(held, 0)
            # Objects in structures are left out.
            self.assertEqual(hidden, 5)

    def test_paths(self):
        self.assertEqual(run(SHOP + '''
print(json.dumps([paths(site='app.py:5'), paths(site='app.py:9'),
                  paths(site='app.py:15')]))'''), [
            ['app.ROWS[...] -> app.Row (20)'],
            ['app.TABLE[0] -> set (1)'],
            ['app.TABLE.note -> dict (1)']])

    def test_view_has_a_base(self):
        self.assertEqual(run(SHOP + '''
del app.ROWS
snapshot = take()
print(json.dumps(paths(site='app.py:5')))'''), [
            'app.EVERY_OTHER.base[...] -> app.Row (20)'])

    def test_data_belongs_to_its_array(self):
        (size, retained), blocks = run(SHOP + '''
why = snapshot.why(site='app.py:10')
print(json.dumps([[why.size, why.retained], why.blocks]))''')
        self.assertGreaterEqual(size, 8_000_000)
        self.assertEqual(size, retained)
        self.assertEqual(blocks, 0)

    @unittest.skipIf(FREE_THREADED, "some objects are freed later")
    def test_what_is_retained_is_freed(self):
        # Of an array with dimensions, NumPy may keep these for the next.
        for (retained, freed), least in zip(run(SHOP + '''
print(json.dumps([freed('SINGLE'), freed('BOX')]))'''), (100_000, 4_000)):
            self.assertGreater(freed, least)
            self.assertEqual(retained, freed)


if __name__ == '__main__':
    unittest.main()
