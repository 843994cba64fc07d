"""--help: it names every option, and its examples do what they say."""

import argparse
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import unittest

from pytracemalloc import cli
from pytracemalloc.commands import COMMANDS
from pytracemalloc.reporters import ALL_FORMATS
from test.test_pytracemalloc.command_case import PROGRAM, CommandCase, command
from test.test_pytracemalloc.otlp_case import (
    formats_here, import_messages, start_receiver)

# What is not ours, and the programs of the examples.
FILES = {
    'bin/pytracemalloc': '#!/bin/sh\nexec PYTHON -m pytracemalloc "$@"\n',
    'bin/python': '#!/bin/sh\nexec PYTHON "$@"\n',
    'bin/go': '#!/bin/sh\n[ "$1" = tool ] && [ "$2" = pprof ]\n',
    'bin/flamegraph.pl': '#!/bin/sh\ngrep -c ";"\n',
    'bin/dot': '#!/bin/sh\ngrep -c digraph\n',
    'app.py': PROGRAM,
    'server.py': PROGRAM,
    'pytest.py': PROGRAM,
}


def parsers():
    """Return {command: its parser, '': the parser of them all}."""
    parser = cli.make_parser()
    [action] = [action for action in parser._actions
                if isinstance(action, argparse._SubParsersAction)]
    return {'': parser} | action.choices


def examples(parser):
    """Yield the commands of the help's end, without what they explain."""
    text = parser.format_help().partition('\nexamples:\n')[2]
    for line in text.splitlines():
        yield re.split(r' {3,}', line.strip())[0]


class HelpTest(CommandCase):
    def test_every_option_is_explained(self):
        for name, parser in parsers().items():
            output = self.ok(*name.split(), '--help')
            for action in parser._actions:
                with self.subTest(command=name, option=action.dest):
                    for flag in action.option_strings:
                        self.assertRegex(output, rf'(?m)^ +(\S+, )?{flag}\b')
                    self.assertTrue(action.help or action.choices)

    def test_commands(self):
        output = self.ok('--help')
        for name, parser in parsers().items():
            if name:
                self.assertRegex(output, rf'(?m)^ +{name} +\w')
            self.assertIn('examples:', parser.format_help())
            self.assertNotIn('%(prog)', parser.format_help())
        self.assertEqual(set(parsers()) - {''}, set(COMMANDS))

    def test_version(self):
        self.assertRegex(self.ok('--version'),
                         r'^pytracemalloc \d+\.\d+\.\d+, Python 3\.\d+\.\d+')

    def test_no_traceback_in_a_narrow_terminal(self):
        process = command('run', '--help',
                          env=os.environ | {'COLUMNS': '20'})
        self.assertEqual((process.returncode, process.stderr), (0, ''))


class ExampleTest(CommandCase):
    def setUp(self):
        super().setUp()
        for name, text in FILES.items():
            path = self.write(name, text.replace(
                'PYTHON', shlex.quote(sys.executable)))
            os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        os.makedirs('.zfunc')
        os.makedirs('.config/fish/completions')
        for name in 'app', 'old', 'new', 'monday', 'friday':
            command('run', '-q', '-o', f'{name}.tracemalloc', 'app.py',
                    check=True)
        command('run', '-q', '--references', '-o', 'held.tracemalloc',
                'app.py', check=True)
        for option, code in (('file=killed.kept', 'import os; os._exit(0)'),
                             ('oom=app.oom', 'try: bytearray(1 << 50)\n'
                                             'except MemoryError: pass')):
            subprocess.run([sys.executable, '-X', 'tracemalloc', '-X',
                            f'tracemalloc_{option}', '-c', code], check=True)

    def test_examples(self):
        with socket.create_server(('127.0.0.1', 0)) as probe:
            port = probe.getsockname()[1]
        replaced = {'1234': str(self.start_watched()), '6060': str(port),
                    '/run/app.sock': 'c.sock',
                    '/run/late.sock': '.config/late.sock',
                    '/run/shop': '.',
                    'http://collector:4318': start_receiver(self).url}
        packages = ('otlp' in formats_here(self, ALL_FORMATS)
                    and import_messages(self))
        environment = os.environ | {
            'HOME': self.directory, 'PYTHONPATH': packages or '',
            'OTEL_EXPORTER_OTLP_ENDPOINT': replaced['http://collector:4318'],
            'PATH': f'{self.directory}/bin:{os.environ["PATH"]}'}
        seen = []
        for name, parser in parsers().items():
            for line in examples(parser):
                seen.append(line)
                # The first example makes the socket of the others.
                line = line.replace('PYTRACEMALLOC_CONTROL=/run/app.sock',
                                    'PYTRACEMALLOC_CONTROL=new.sock')
                for old, new in replaced.items():
                    line = line.replace(old, new)
                if re.search(r' why |--by holder|--what retained|'
                             r'heapsnapshot|dot', line):
                    line = re.sub(r'(app|old|new)\.tracemalloc',
                                  'held.tracemalloc', line)
                if ' push ' in line:
                    if not packages:
                        continue
                    line += ' --once' if '--once' not in line else ''
                if '-o app.tracemalloc' in line:
                    os.unlink('app.tracemalloc')      # it makes it again
                with self.subTest(command=name, example=line):
                    process = subprocess.run(
                        ['bash', '-euo', 'pipefail', '-c', line],
                        env=environment, capture_output=True, text=True)
                    self.assertEqual(process.returncode, 0, process.stderr)
                    self.assertNotIn('Traceback', process.stderr)
            for made in ('app.svg', 'app.html'):
                if os.path.exists(made):
                    os.unlink(made)
        self.assertGreater(len(seen), 25)
        for command_name in COMMANDS:
            self.assertTrue(any(f'pytracemalloc {command_name}' in line
                                for line in seen), command_name)
        for name in 'heap.pb.gz', 'grown.html', 'new-diff.svg', \
                'grown.pb.gz', '.zfunc/_pytracemalloc':
            self.assertGreater(os.path.getsize(name), 100)


if __name__ == '__main__':
    unittest.main()
