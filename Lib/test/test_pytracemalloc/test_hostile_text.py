"""Foreign names on terminals, in reports and in data for other programs."""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree

from pytracemalloc.reporters import ALL_FORMATS
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.hostile import (
    NASTY, NASTY_TYPE, nasty_graph, nasty_snapshot, text_command)
from test.test_pytracemalloc.otlp_case import Message, import_messages
from test.test_pytracemalloc.terminal import Terminal
from tracemalloc.printable import printable
from tracemalloc.grouped_stats import GROUPS

# A file cannot have all of the names.
FILE = NASTY.replace('\0', '').replace('\ud800', '') + '.tracemalloc'
KEYS = ('line', 'file', 'function', 'module', 'type', 'type+line',
        'traceback', 'address', 'domain')


class PrintableTest(unittest.TestCase):
    def test_what_is_escaped(self):
        codes = [*range(0x20), *range(0x7f, 0xa0), 0x61c, 0x200b, 0x200e,
                 0x200f, *range(0x2028, 0x202f), *range(0x2060, 0x2070),
                 0xd800, 0xdfff, 0xfeff, 0xfff9, 0xe0001, 0x10ffff]
        for code in codes:
            shown = printable(f'x{chr(code)}y')
            self.assertTrue(shown.isascii() and shown.isprintable(), code)
            self.assertEqual(shown.encode().decode('unicode_escape'),
                             f'x{chr(code)}y')

    def test_what_is_not(self):
        for text in ('', 'a b', 'C:\\new', 'h\u00e9 \u65e5\u672c \U0001f40d',
                     '\u05d0\u05d1'):
            self.assertEqual(printable(text), text)
            self.assertEqual(printable(printable(NASTY)), printable(NASTY))


class TextTest(CommandCase):
    """What people read."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.new = nasty_snapshot()
        cls.old = nasty_snapshot(100)

    def setUp(self):
        super().setUp()
        self.old.pid, self.new.pid = 1, 2
        self.old.dump('old')
        self.new.dump(FILE)
        self.new.dump('new')

    def check(self, text, name=None):
        for line in text.split('\n'):
            self.assertTrue(line.isprintable(), ascii(line))
        if name is not None:
            self.assertIn(printable(name), text)

    def test_reports(self):
        for by in KEYS:
            name = {'type': NASTY_TYPE, 'type+line': NASTY_TYPE,
                    'address': None, 'domain': None}.get(by, NASTY)
            for line in (('report', 'new', '--title', NASTY),
                         ('diff', 'old', FILE)):
                with self.subTest(line[0], by=by):
                    self.check(self.ok(*line, '--by', by), name)
        self.check(self.ok('report', FILE, '--format', 'flamegraph'))

    def test_text_commands(self):
        for options in (('-b', '0x1'), ('-t', '-n', '3'), ('-c', '--no-color'),
                        *(('-g', group) for group in GROUPS)):
            with self.subTest(options):
                self.check(text_command(*options, 'old', FILE)[1], FILE)
        for options in (), ('-l',):
            status, text = text_command(*options, 'old', FILE, legacy=True)
            self.assertEqual(status, 0)
            self.check(text, NASTY)

    def test_errors(self):
        name = NASTY_TYPE.encode()
        text = b'X' + len(name).to_bytes(4, 'little') + name
        for image in (b'\x80\4' + text + text + b'\x93)R.',
                      b'c' + name.replace(b'\n', b'') + b'\n'
                      + name.replace(b'\n', b'') + b'\n)R.'):
            with open(FILE, 'wb') as file:
                file.write(image)
            for line in ('report', FILE), ('diff', 'old', FILE):
                status, _, errors = self.call(*line)
                self.assertEqual((status, errors.count('\n')), (1, 1))
                self.check(errors, FILE)
            for legacy in False, True:
                status, text = text_command(FILE, legacy=legacy)
                self.assertEqual((status, text.count('\n')), (1, 1))
                self.check(text, FILE)
        name = NASTY_TYPE         # no command line has all of the names
        for line in (('report', name), ('report', 'new', name),
                     ('report', 'new', '--include', name), ('top', name),
                     ('report', 'new', '-o', f'{name}/x'), (name,),
                     ('run', f'{name}.py'), ('run', '-n', name)):
            _, _, errors = self.call(*line)
            self.assertEqual(errors.count('\n'), 1)
            self.check(errors)
        for line in (name,), ('-n', name, 'new'), ('-g', name, 'new'):
            self.check(text_command(*line)[1])

    def test_summary(self):
        program = (f'import json\n'
                   f'made = {{}}\n'
                   f'exec("def f(): return [[] for _ in range(9999)]", made)\n'
                   f'f = made["f"]\n'
                   f'name = json.loads({ascii(json.dumps(NASTY))})\n'
                   f'f.__code__ = f.__code__.replace('
                   f'co_filename=name, co_qualname=name)\n'
                   f'kept = f()\n')
        for name in 'new.tracemalloc', FILE:
            process = command('run', '-f', '-o', name, '-c', program)
            self.assertEqual(process.returncode, 0)
            self.check(process.stderr, NASTY)

    def test_watching(self):
        environment = {**os.environ, 'PYTRACEMALLOC_CONTROL': './socket'}
        program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc', '-c',
             'import json, sys\n'
             'name = json.loads(sys.argv[1])\n'
             'made = {}\n'
             'exec("def f(): return [[] for _ in range(9999)]", made)\n'
             'made["f"].__code__ = made["f"].__code__.replace('
             'co_filename=name, co_qualname=name)\n'
             'kept = made["f"]()\n'
             'print("ready", flush=True)\n'
             'sys.stdin.read()\n', json.dumps(NASTY), FILE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        with program:
            program.stdout.readline()
            text = self.ok('top', '--once', 'socket')
            program.stdin.close()
        self.check(text, NASTY)
        self.check(text, FILE)

    def test_data_on_a_terminal(self):
        for format in 'json', 'csv', 'collapsed', 'speedscope', 'flamegraph':
            with self.subTest(format), \
                    Terminal('report', 'new', '--format', format,
                             '-o', '-') as terminal:
                self.assertEqual(terminal.end()[0], 0)
                self.check(terminal.output.replace('\r\n', '\n'))

    def test_where_it_was_written(self):
        self.check(self.ok('report', FILE, '--format', 'html'),
                   FILE.removesuffix('.tracemalloc'))


class DataTest(CommandCase):
    """What programs read is exact, and nothing else comes of a name."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.snapshot = nasty_snapshot()

    def setUp(self):
        super().setUp()
        self.snapshot.dump('new')

    def data(self, format, *options):
        self.ok('report', 'new', '--format', format, '-f', '-o', 'out',
                *options)
        with open('out', 'rb') as file:
            return file.read()

    def test_json(self):
        rows = json.loads(self.data('json', '--by', 'function'))['statistics']
        self.assertIn((f'/{NASTY}.py', NASTY, 1),
                      [(row['filename'], row['function'], row['first_lineno'])
                       for row in rows])

    def test_csv(self):
        # No encoding has lone surrogates.
        name = NASTY.replace('\ud800', '\\ud800')
        for by, names in (('file', [f'/{name}.py']),
                          ('function', [f'/{name}.py', name])):
            text = self.data('csv', '--by', by).decode()
            self.assertIn(names, [row[:len(names)] for row in csv.reader(
                io.StringIO(text, newline=''))])

    def test_csv_for_a_spreadsheet(self):
        names = [f'{start}1+1|calc' for start in '=+-@\t\r\n\uff1d\uff0b']
        tracemalloc_snapshot(names + ['a=1', "'b"]).dump('new')
        text = self.data('csv', '--by', 'file').decode()
        self.assertEqual({row[0] for row in csv.reader(
                              io.StringIO(text, newline=''))} - {'filename'},
                         {*(f"'{name}" for name in names), 'a=1', "'b"})

    def test_speedscope(self):
        frames = json.loads(self.data('speedscope'))['shared']['frames']
        self.assertIn({'name': NASTY, 'file': f'/{NASTY}.py', 'line': 2},
                      frames)

    def test_pprof(self):
        data = gzip.decompress(self.data('pprof'))
        self.assertIn(NASTY.encode(errors='backslashreplace'), data)

    def test_otlp(self):
        import_messages(self)
        message = Message(self.data('otlp'))
        self.assertIn(NASTY.encode(errors='backslashreplace').decode(),
                      message.strings)

    def test_collapsed(self):
        lines = self.data('collapsed').decode().split('\n')
        self.assertEqual(lines.pop(), '')
        for line in lines:
            self.assertTrue(line.isprintable() and line.split()[-1].isdigit())
        shown = printable(NASTY).replace(';', ',')
        self.assertTrue(any(shown in line for line in lines))

    def test_flamegraph(self):
        root = xml.etree.ElementTree.fromstring(self.data('flamegraph'))
        titles = [title.text for title in root.iter() if title.text]
        self.assertTrue(any(printable(NASTY) in title for title in titles))

    def test_heapsnapshot(self):
        nasty_graph().snapshot().dump('new')
        strings = json.loads(self.data('heapsnapshot'))['strings']
        for name in (NASTY, f'class {NASTY}.{NASTY}', f'module {NASTY}',
                     f'/{NASTY}.py'):
            self.assertIn(name, strings)

    def test_dot(self):
        nasty_graph().snapshot().dump('new')
        text = self.data('dot').decode()
        text += self.ok('why', 'new', '*:1', '--dot')
        # Names are escaped first; of long ones two halves are left.
        shown = printable(NASTY).replace('\\', '\\\\')
        self.assertIn(f'"module {shown[:20]}', text)
        for line in text.splitlines():
            self.assertTrue(line.isprintable())
            self.assertRegex(re.sub(r'"(\\.|[^"\\])*"', '', line),
                             r'^[\w ={}\[\],>;-]*$')

    def test_every_format_is_here(self):
        self.assertEqual(
            {name.removeprefix('test_') for name in dir(self)}
            & set(ALL_FORMATS), set(ALL_FORMATS) - {'text', 'html'})


def tracemalloc_snapshot(names):
    import tracemalloc
    return tracemalloc.Snapshot([(0, 1, ((name, 1),), 1) for name in names], 1)


if __name__ == '__main__':
    unittest.main()
