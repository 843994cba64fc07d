"""--json of every command is what the schema says."""

import json
import os
import signal
import subprocess
import sys
import unittest

from pytracemalloc.cli import make_parser
from pytracemalloc.commands import COMMANDS
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.test_report_json import SCHEMA, faults

# Print nothing that a program would read.
WITHOUT = {'run', 'serve', 'demo', 'push', 'completion'}
PROGRAM = '''\
class Row: pass
rows = [Row() for _ in range(100)]
'''


class DocumentTests(CommandCase):
    @classmethod
    def setUpClass(cls):
        if not SCHEMA.is_file():
            raise unittest.SkipTest('needs the repository')
        path = cls.make_app(PROGRAM)
        for name in 'old', 'new':
            command('run', '-q', '--references', '-o',
                    os.path.join(cls.source, name), path, check=True)

    def commands(self):
        """Yield the arguments of commands that write JSON."""
        old, new = (os.path.join(self.source, name) for name in ('old', 'new'))
        pid = self.start_watched()
        yield from (
            ('report', new), ('report', new, '--by', 'type'),
            ('report', old, new), ('report', new, '--by', 'holder'),
            ('report', new, '--what', 'retained'),
            ('report', new, '--what', 'retained', '--by', 'type+line'),
            ('report', new, '--what', 'retained', '--by', 'function'),
            ('report', new, '--what', 'retained', '--by', 'module'),
            ('diff', old, new), ('diff', old, new, '--by', 'holder'),
            ('diff', old, new, '--my-code', '--by', 'file'),
            ('why', new, 'app.py:2'), ('why', new, 'list'), ('rss', new),
            ('rss', str(pid)), ('top', 'c.sock'), ('top', '.'),
            ('top', 'c.sock', '--my-code'), ('top', '.', '--by', 'native'),
            ('status', 'c.sock'),
            ('snapshot', 'c.sock', '-o', 'a'), ('reset-peak', 'c.sock'),
            ('stop', 'c.sock'), ('top', 'c.sock'), ('status', 'c.sock'),
            ('start', 'c.sock'), ('start', 'c.sock', '--socket', 'd.sock'),
            ('status', '.'), ('recover', 'killed.kept'), ('recover', 'app.oom'))

    def test_every_command(self):
        killed = subprocess.run(
            [sys.executable, '-X', 'tracemalloc=5', '-X',
             'tracemalloc_file=killed.kept', '-c', 'import os, signal\n'
             'kept = [bytes(1000) for _ in range(100)]\n'
             'os.kill(os.getpid(), signal.SIGKILL)'])
        self.assertEqual(killed.returncode, -signal.SIGKILL)
        subprocess.run(
            [sys.executable, '-X', 'tracemalloc', '-X',
             'tracemalloc_oom=app.oom', '-c', 'try: bytearray(1 << 50)\n'
             'except MemoryError: pass'], check=True)
        documents, formats = [], {}
        for args in self.commands():
            with self.subTest(args):
                output = self.ok(*args, '--json')
                # One document, or one a line.
                found = ([json.loads(output)] if output.startswith('{\n') else
                         [json.loads(line) for line in output.splitlines()])
                self.assertEqual([*found[0]][:2], ['format', 'version'])
                formats.setdefault(args[0], found[0]['format'])
                documents += found
        self.assertEqual(faults(documents), '')
        self.assertEqual(formats.keys(), {*COMMANDS} - WITHOUT)
        self.check_the_schema_notices(documents)

    def check_the_schema_notices(self, documents):
        """A key more or less is a fault of each."""
        wrong = [document | {'more': 1} for document in documents]
        for document in documents:
            for key in document:
                if key not in ('rss', 'arenas', 'socket', 'old',
                               'old_traced_memory'):
                    less = dict(document)
                    del less[key]
                    wrong.append(less)
        self.assertEqual(
            [line.partition(' ')[0]
             for line in faults(wrong).splitlines()],
            [str(number) for number in range(len(wrong))])

    def test_every_command_has_the_option(self):
        [action] = [action for action in make_parser()._actions
                    if action.dest == 'command']
        self.assertEqual(
            {name for name, parser in action.choices.items()
             if '--json' in parser._option_string_actions},
            {*COMMANDS} - WITHOUT)

    def test_values(self):
        self.start_watched()
        [status], [top] = ([json.loads(line) for line
                            in self.ok(name, 'c.sock', '--json').splitlines()]
                           for name in ('status', 'top'))
        for key in 'pid', 'argv', 'tracing', 'traceback_limit':
            self.assertEqual(status[key], top[key])
        self.assertEqual(sum(row['size'] for row in top['statistics']),
                         top['traced_memory'])
        self.assertEqual((top['by'], top['view'], top['processes']),
                         ('line', 'folded', []))
        self.assertEqual(len(top['statistics']), top['groups'])
        path = os.path.join(self.source, 'new')
        self.assertEqual(self.ok('report', path, '--json'),
                         self.ok('report', path, '--format', 'json'))


if __name__ == '__main__':
    unittest.main()
