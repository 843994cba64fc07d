"""JSON is what its schema says, and CSV has the same keys."""

import csv
import io
import json
import os
import pathlib
import subprocess
import unittest

from pytracemalloc.measures import BLOCK_KEYS, KEYS, MEASURES
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.pytest_environment import python_with_pytest

SCHEMA = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''), 'Doc',
                      'library', 'report.schema.json')
# argv: the schema; standard input: a list of documents.  Prints the numbers of
# those that are wrong, and why.
VALIDATE = '''
import fastjsonschema, json, sys
with open(sys.argv[1]) as file:
    validate = fastjsonschema.compile(json.load(file))
for number, document in enumerate(json.load(sys.stdin)):
    try:
        validate(document)
    except fastjsonschema.JsonSchemaException as exc:
        print(number, exc.message)
'''


def faults(documents):
    """Return a line for each document that is not what the schema says."""
    done = subprocess.run(
        [python_with_pytest(), '-c', VALIDATE, SCHEMA],
        input=json.dumps(documents), capture_output=True, text=True,
        check=True)
    return done.stdout


class JsonTests(CommandCase):

    @classmethod
    def setUpClass(cls):
        if not SCHEMA.is_file():
            raise unittest.SkipTest('needs the repository')
        path = cls.make_app()
        for name in 'old', 'new':
            command('run', '-q', '-o', os.path.join(cls.source, name), path,
                    check=True)

    def document(self, *args):
        return json.loads(self.ok(*args, '--format', 'json'))

    def documents(self):
        old, new = (os.path.join(self.source, name) for name in ('old', 'new'))
        for by in KEYS:
            for what in MEASURES:
                if by in BLOCK_KEYS and what not in ('size', 'count'):
                    continue
                for command_line in (('report', new), ('diff', old, new)):
                    yield *command_line, '--by', by, '--what', what

    def test_schema(self):
        documents = [self.document(*args) for args in self.documents()]
        self.assertGreater(len(documents), 50)
        self.assertEqual(faults(documents), '')

    def test_the_schema_notices(self):
        path = os.path.join(self.source, 'new')
        wrong = []
        for change in (
                lambda document: document.update(version=1),
                lambda document: document.update(more=1),
                lambda document: document.pop('by'),
                lambda document: document['snapshot'].pop('pid'),
                lambda document: document['statistics'][0].pop('lineno'),
                lambda document: document['statistics'][0].pop('peak_size'),
                lambda document: document['statistics'][0].update(line='a:1'),
                lambda document: document['statistics'][0].update(size='1'),
                lambda document: document['statistics'][0].update(size=-1)):
            document = self.document('report', path)
            change(document)
            wrong.append(document)
        self.assertEqual(
            [line.partition(' ')[0]
             for line in faults(wrong).splitlines()],
            [str(number) for number in range(len(wrong))])

    def test_history(self):
        path = os.path.join(self.source, 'slow')
        command('run', '-q', '-o', path, '-c', 'import time\n'
                'keep = bytearray(5_000_000); time.sleep(1.2)\n'
                'del keep; bytearray(9_000_000)', check=True)
        document = self.document('report', path)
        self.assertEqual(faults([document]), '')
        history = document['history']
        self.assertEqual({len(column) for column in history.values()},
                         {len(history['time'])})
        self.assertEqual(max(history['highest_traced']),
                         document['snapshot']['peak_memory'])
        self.assertEqual(history['traced'][-1],
                         document['snapshot']['traced_memory'])
        self.assertEqual(history['snapshots'][-1], 1)
        del history['blocks']
        self.assertNotEqual(faults([document]), '')

    def test_csv_has_the_same_keys_and_values(self):
        for args in self.documents():
            with self.subTest(args[-4:], command=args[0]):
                rows = list(csv.DictReader(io.StringIO(self.ok(
                    *args, '--format', 'csv'))))
                groups = self.document(*args)['statistics']
                self.assertEqual(len(rows), len(groups))
                for row, group in zip(rows, groups):
                    if 'traceback' in group:
                        self.assertIsNotNone(row.pop('traceback'))
                        del group['traceback']
                    self.assertEqual(row, {
                        key: '' if value is None else str(value)
                        for key, value in group.items()})

    def test_fields_of_each_key(self):
        path = os.path.join(self.source, 'new')
        for by, fields in (
                ('line', ['filename', 'lineno', 'function']),
                ('file', ['filename']),
                ('function', ['filename', 'function', 'first_lineno']),
                ('task', ['filename', 'function', 'first_lineno']),
                ('module', ['module']), ('type', ['type']),
                ('type+line', ['type', 'filename', 'lineno']),
                ('traceback', ['traceback']), ('address', ['address']),
                ('domain', ['domain'])):
            with self.subTest(by):
                group = self.document('report', path, '--by', by)
                self.assertEqual([*group['statistics'][0]][:-8], fields)

    def test_most_recent_call_last(self):
        path = os.path.join(self.source, 'new')
        args = ('report', path, '--by', 'traceback', '--include', '*/app.py:4')
        frames = self.document(*args)['statistics'][0]['traceback']
        functions = [frame['function'] for frame in frames]
        self.assertEqual(functions[-3:], ['<module>', 'Cache.keep', 'load'])
        text = self.ok(*args, '--top', '1')
        self.assertRegex(text, r'(?s) in <module>\n.* in Cache\.keep\n'
                               r'.* in load\n')


if __name__ == '__main__':
    unittest.main()
