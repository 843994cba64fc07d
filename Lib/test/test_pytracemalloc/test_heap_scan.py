"""Libraries that may hold what only C code holds."""

import io
import json
import subprocess
import sys
import tempfile
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import FREE_THREADED
from test.test_pytracemalloc.made_graphs import (MODULE, PLAIN, SEQUENCE,
                                                 STATE, Graph)
from test.test_pytracemalloc.test_graph_words import ProgramCase, take

import _testtracer

LIBRARY = 'C code (perhaps _testtracer.so)'
LAW = """
import json, sys
for name in sys.argv[1:]:
    __import__(name)
import _testtracer
kept = [[i] for i in range(9)]
_testtracer.keep_reference(kept.pop())
_testtracer.keep_address(kept[0])
print(json.dumps([_testtracer.heap_law(segments) for segments in range(3)]))
"""
MODULES = ('asyncio', 'ctypes', 'decimal', 'http.server', 'json', 'pickle',
           'sqlite3', 'ssl', 'unittest.mock', 'xml.etree.ElementTree')


class LawTest(unittest.TestCase):
    def test_law(self):
        done = subprocess.run([sys.executable, '-E', '-c', LAW, *MODULES],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        without, named, with_hole = json.loads(done.stdout)
        for found in without, named, with_hole:
            self.assertEqual(found['broken'], 0)
        self.assertEqual(without['unnamed'], 0)       # was not counted
        if not FREE_THREADED:
            self.assertLess(named['unnamed'], named['surplus'])
        # Where nothing is, nothing is read.
        self.assertEqual(with_hole['unnamed'], named['unnamed'])


class ProgramTest(ProgramCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(_testtracer.keep_reference, None)
        self.addCleanup(_testtracer.keep_address, None)

    def paths(self, snapshot=None):
        why = (snapshot or take()).why(type='app.Row')
        return [str(path) for path in why.paths]

    def keep(self):
        app = self.run_program('''
            class Row: pass
            row = Row()
            row.more = [bytes(9000)]
            ''')
        row = app.pop('row')
        _testtracer.keep_reference(row)
        return row

    def test_static_variable(self):
        self.keep()
        for pause in True, False:
            snapshot = tracemalloc.take_snapshot(references=True, pause=pause)
            self.assertEqual(self.paths(snapshot),
                             [f'{LIBRARY} -> app.Row (1)'])
        why = snapshot.why(type='app.Row')
        self.assertGreater(why.retained, 9000)
        self.assertEqual(why.paths[0].steps[-2][:2],
                         ('C code', 'perhaps _testtracer.so'))
        library, = [holder for holder in snapshot.holders(1).children
                    if holder.what == 'perhaps _testtracer.so']
        self.assertEqual(str(library), 'C code: perhaps _testtracer.so')
        self.assertIn('app.Row', [held.type for held in library.children])
        file = io.BytesIO()
        snapshot._write_heapsnapshot(file.write)
        self.assertIn('perhaps _testtracer.so',
                      json.loads(file.getvalue())['strings'])

    def test_file(self):
        self.keep()
        snapshot = take()
        with tempfile.TemporaryDirectory() as folder:
            snapshot.dump(f'{folder}/a.tracemalloc')
            again = tracemalloc.Snapshot.load(f'{folder}/a.tracemalloc')
        self.assertEqual(self.paths(again), self.paths(snapshot))
        self.assertEqual(self.paths(again), [f'{LIBRARY} -> app.Row (1)'])

    @unittest.skipIf(FREE_THREADED, "counts are not known")
    def test_never_more_than_is_left_over(self):
        # One that the library keeps, and one that nobody can name.
        row = self.keep()
        _testtracer.leak_reference(row)
        self.addCleanup(_testtracer.drop_reference, row)
        self.assertEqual(_testtracer.heap_law(1)['broken'], 0)
        # An address without a reference is none.
        app = self.run_program('''
            class Row: pass
            rows = [Row()]
            ''')
        _testtracer.keep_reference(None)
        _testtracer.keep_address(app['rows'][0])
        self.assertEqual(_testtracer.heap_law(1)['broken'], 0)
        self.assertIn('app.rows[0] -> app.Row (1)', self.paths())

    def test_variable_is_told_rather_than_a_library(self):
        app = self.run_program('''
            class Row: pass
            row = Row()
            ''')
        _testtracer.keep_reference(app['row'])
        self.assertEqual(self.paths(), ['app.row -> app.Row (1)'])

    def test_gone(self):
        self.keep()
        _testtracer.keep_reference(None)
        self.assertEqual(take().why(type='app.Row').count, 0)

    def test_function_that_runs(self):
        app = self.run_program('''
            import json
            class Row: pass
            def hook(data):
                global snapshot
                snapshot = take()
                return Row()
            json.loads('[{}, {"a": 1}]', object_hook=hook)
            ''', take=take)
        self.assertEqual(self.paths(app['snapshot']), [
            'C code (perhaps a function that runs) -> list[0] -> '
            'app.Row (1)'])


class WordsTest(unittest.TestCase):
    def library(self, *held):
        graph = Graph()
        row = graph.cls('Row')
        graph.module('app', Row=row)
        made = graph.add(PLAIN, type=row, size=100)
        other = graph.cls('Only', module='app')
        module = graph.add(
            MODULE, __dict__=graph.namespace(), __name__=graph.name('hidden'))
        graph.add(STATE, graph.add(SEQUENCE, made), other, module, surplus=1,
                  text='libfoo.so.1')
        return graph.snapshot()

    def test_paths(self):
        why = self.library().why(type='Row')
        self.assertEqual([str(path) for path in why.paths],
                         ['C code (perhaps libfoo.so.1) -> object[0] -> '
                          'Row (1)'])

    def test_classes_stand_below_their_module(self):
        root = self.library().holders(1)
        below = {child.what: [held.what for held in child.children]
                 for child in root.children}
        self.assertEqual(below['perhaps libfoo.so.1'], ['object'])


if __name__ == '__main__':
    unittest.main()
