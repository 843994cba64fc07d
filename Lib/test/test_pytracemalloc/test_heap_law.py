"""The heap as a graph: no object has fewer references than lead to it, and few
have more that nobody can name.

heap_law.py is the program that looks while it runs.
"""

import json
import pathlib
import subprocess
import sys
import unittest

from test.test_pytracemalloc.helpers import FREE_THREADED

import _testtracer

HERE = pathlib.Path(__file__).parent

LOAD = """
import _testtracer, json, sys
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps(_testtracer.heap_law()))
"""
MODULES = ('asyncio', 'ast', 'concurrent.futures', 'ctypes', 'dataclasses',
           'decimal', 'email.message', 'enum', 'http.server', 'json',
           'logging.config', 'multiprocessing', 'pickle', 'typing',
           'unittest.mock', 'xml.etree.ElementTree', 'zipfile')


def run(*command):
    return subprocess.run([sys.executable, '-E', *command],
                          capture_output=True, text=True, timeout=300)


class LawTests(unittest.TestCase):
    def test_program(self):
        done = run(HERE / 'heap_law.py')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        found = json.loads(done.stdout)
        self.assertGreaterEqual(found['places'], 50)

    def test_modules(self):
        done = run('-c', LOAD, *MODULES)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        found = json.loads(done.stdout)
        self.assertEqual(found['broken types'], {})
        self.assertGreater(found['objects'], 50_000)
        # What nobody can name: references that C code has.
        self.assertLess(found['surplus'], found['mortal'] * 0.01,
                        found['surplus types'])

    def test_help_in_tests(self):
        # One of these tests compares a help text.
        done = run('-m', 'test.test_pytracemalloc.law_in_tests', '1',
                   'test_sqlite3.test_cli', 'test_heap_law_no_such_file')
        own, missing, error = done.stdout.splitlines()
        if 'skipped' in own:
            self.skipTest(own)
        self.assertRegex(own, ': [1-9][0-9]* tests, 0 errors, 0 failures; ')
        self.assertIn(': 1 tests, 1 errors, 0 failures; ', missing)
        self.assertRegex(error, '^    .*test_heap_law_no_such_file: .*Error: ')
        self.assertEqual((done.returncode, done.stderr), (0, ''))

    @unittest.skipIf(FREE_THREADED, "classes are not counted")
    def test_instances_and_functions(self):
        class Held:
            pass

        class Slots:
            __slots__ = 'first', '__private'

        class MoreSlots(Slots):
            __slots__ = 'second', '__weakref__'

        class Plain(Slots):
            pass

        class Text(str):
            pass

        def make(cls, *names):
            made = cls()
            for name in names:
                setattr(made, name, Held())
            return made

        def function(first=Held(), *, second: Held() = Held()):
            return kept

        kept = [make(Slots, 'first', '_Slots__private'),
                make(MoreSlots, 'first', 'second'),
                make(Plain, 'first', 'second'), make(Plain, 'third'),
                make(Plain, *(f'attribute_{i}' for i in range(99))),
                make(Text, 'first'), make(Exception, 'first'),
                make(Plain, 'second').__init__, function, property(Held())]
        for has_dict in make(Plain, 'second'), make(Text, 'first'), function:
            has_dict.more = Held()
            kept += has_dict, has_dict.__dict__
        # A name that is not immortal.
        kept[-7].__set_name__(Plain, ''.join(['na', 'me']))
        found = _testtracer.heap_law()
        self.assertEqual(found['broken types'], {})
        self.assertNotIn('Held', found['surplus types'])

    @unittest.skipIf(FREE_THREADED, "classes are not counted")
    def test_hidden_reference(self):
        class Held:
            pass

        held = Held()
        before = _testtracer.heap_law()['surplus types']
        _testtracer.leak_reference(held)
        after = _testtracer.heap_law()['surplus types']
        _testtracer.drop_reference(held)
        self.assertNotIn('Held', before)
        self.assertEqual(after.get('Held'), 1)

    @unittest.skipIf(FREE_THREADED, "classes are not counted")
    def test_broken_law_is_seen(self):
        held = [object()] * 3
        _testtracer.drop_reference(held[0])
        try:
            broken = _testtracer.heap_law()['broken types']
        finally:
            _testtracer.leak_reference(held[0])
        self.assertEqual(broken, {'object': 1})


if __name__ == '__main__':
    unittest.main()
