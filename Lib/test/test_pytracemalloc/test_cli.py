"""The command as a user types it."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import unittest

from pytracemalloc.units import parse_size
from tracemalloc.sizes import format_size
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.test_pprof import Profile


class ReportTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app()
        for name, code in (('new', path), ('old', None)):
            command('run', '-q', '-o',
                    os.path.join(cls.source, f'{name}.tracemalloc'),
                    *([code] if code else ['-c', 'pass']))

    def setUp(self):
        super().setUp()
        for name in ('old.tracemalloc', 'new.tracemalloc'):
            shutil.copy(os.path.join(self.source, name), name)
        self.snapshot = tracemalloc.Snapshot.load('new.tracemalloc')

    def test_text(self):
        output = self.ok('report', 'new.tracemalloc', '--top', '3')
        self.assertIn('Top 3 lines by live memory:', output)
        self.assertRegex(output, r'\d[\d.]* [KM]iB +[\d,]+ +1\.\d KiB  '
                                 r'\S+app\.py:4 in load\n')
        self.assertIn(' more\n', output)
        self.assertTrue(output.endswith('  total\n'))

    def test_every_key_and_value(self):
        for by in ('line', 'file', 'function', 'module', 'task', 'type',
                   'type+line',
                   'traceback', 'address', 'domain', 'lineno', 'filename'):
            for what in ('size', 'count', 'peak', 'total', 'garbage'):
                if what not in ('size', 'count') and by in (
                        'type', 'type+line', 'address', 'domain'):
                    continue
                for name in ('text', 'csv', 'json'):
                    with self.subTest(by=by, what=what, format=name):
                        output = self.ok('report', 'new.tracemalloc', '--by',
                                         by, '--what', what, '--format',
                                         name)
                        self.assertGreater(len(output), 20)

    def test_traceback_shows_source(self):
        output = self.ok('report', 'new.tracemalloc', '--by', 'traceback',
                         '--top', '1')
        self.assertIn('        return [bytes(1000)', output)
        self.assertIn('    self.kept[name] = load(50)', output)

    def test_csv_adds_up(self):
        rows = list(csv.DictReader(io.StringIO(self.ok(
            'report', 'new.tracemalloc', '--format', 'csv', '--unfold'))))
        stats = self.snapshot.statistics('lineno', order='total_size')
        self.assertEqual(sum(int(row['size']) for row in rows),
                         sum(stat.size for stat in stats))
        self.assertEqual(len(rows), len(stats))

    def test_json(self):
        document = json.loads(self.ok('report', 'new.tracemalloc',
                                      '--format', 'json', '--by', 'type'))
        self.assertEqual(document['snapshot']['pid'], self.snapshot.pid)
        sizes = {row['type']: row['size'] for row in document['statistics']}
        self.assertGreaterEqual(sizes['bytes'], 1_000_000)

    def test_pprof_to_the_byte(self):
        self.ok('report', 'new.tracemalloc', '-o', 'heap.pb.gz')
        with open('heap.pb.gz', 'rb') as file:
            totals = Profile(file.read()).totals()
        stats = self.snapshot.statistics('lineno', order='total_size')
        self.assertEqual(totals, [
            sum(getattr(stat, name) for stat in stats)
            for name in ('total_count', 'total_size', 'count', 'size')])
        self.assertEqual(totals[3], self.snapshot.traced_memory[0])

    def test_formats_beside_the_snapshot(self):
        for name, suffix in (('html', 'html'), ('flamegraph', 'svg'),
                             ('pprof', 'pb.gz'),
                             ('speedscope', 'speedscope.json')):
            with self.subTest(name):
                output = self.ok('report', 'new.tracemalloc', '--format',
                                 name)
                self.assertEqual(output, f'Wrote new.{suffix}\n')
                self.assertGreater(os.path.getsize(f'new.{suffix}'), 100)
                self.refused(1, 'exists', 'report', 'new.tracemalloc',
                             '--format', name)
                self.ok('report', 'new.tracemalloc', '--format', name, '-f')

    def test_suffix_says_the_format(self):
        for name, start in (('a.html', b'<!DOCTYPE html>'), ('a.svg', b'<?x'),
                            ('a.pb.gz', b'\x1f\x8b'),
                            ('a.csv', b'filename,lineno,'),
                            ('a.json', b'{\n "format": '),
                            ('a.speedscope.json', b'{"$schema"'),
                            ('a.txt', b'new.trace'), ('a', b'new.trace')):
            self.ok('report', 'new.tracemalloc', '-o', name)
            with open(name, 'rb') as file:
                self.assertTrue(file.read(20).startswith(start), name)

    def test_filters(self):
        output = self.ok('report', 'new.tracemalloc', '--include', '*/app.py',
                         '--format', 'csv')
        self.assertNotIn('frozen', output)
        self.assertIn('app.py,4,', output)
        output = self.ok('report', 'new.tracemalloc', '--exclude',
                         '*/app.py:4', '--format', 'csv')
        self.assertNotIn('app.py,4,', output)

    def test_diff(self):
        output = self.ok('diff', 'old.tracemalloc', 'new.tracemalloc')
        self.assertRegex(output.splitlines()[5],
                         r'^ *\+.* MiB .*app\.py:4 in load$')
        for name in ('html', 'flamegraph', 'pprof', 'speedscope', 'csv',
                     'json', 'collapsed'):
            self.ok('diff', 'old.tracemalloc', 'new.tracemalloc',
                    '--format', name)
        with open('new-diff.pb.gz', 'rb') as file:
            profile = Profile(file.read())
        old = tracemalloc.Snapshot.load('old.tracemalloc')
        self.assertEqual(
            profile.totals()[3],
            self.snapshot.traced_memory[0] - old.traced_memory[0])

    def test_different_limits(self):
        """They are cut to the frames that all of them have."""
        program = ('def inner(): return [bytes(1000) for _ in range(100)]\n'
                   'def outer(): return inner()\n'
                   'kept = [outer(), outer()]')
        for name, frames in ('all', ()), ('one', ('-n', '1')), \
                ('two', ('-n', '2')):
            command('run', '-q', *frames, '-o', name, '-c', program,
                    check=True)
        self.assertEqual(tracemalloc.Snapshot.load('all').traceback_limit,
                         65535)
        for files, lowest in ((('one', 'all'), 1), (('all', 'two'), 2),
                              (('all', 'all'), 65535),
                              (('all', 'two', 'one'), 1)):
            args = ('diff' if len(files) == 2 else 'report', *files, '--by',
                    'traceback', '--include', '<string>')
            with self.subTest(files):
                output = self.ok(*args)
                self.assertEqual(
                    re.findall(r'Compared at (.*), all that (\w+) has\n',
                               output),
                    [] if lowest > 2 else [
                        ('1 frame', 'one') if lowest == 1
                        else ('2 frames', 'two')])
                document = json.loads(self.ok(*args, '--format', 'json'))
                groups = [group for group in document['statistics'] if
                          group['traceback'][-1]['function'] == 'inner']
                self.assertEqual([len(group['traceback']) for group in groups],
                                 [min(lowest, 3)] * len(groups))
                # The same stacks, not those of one that went and another.
                self.assertEqual(len(groups), 1)
                if len(files) == 2:
                    self.assertEqual(groups[0]['size_diff'], 0)
                    self.assertEqual(document['old']['traceback_limit'],
                                     document['snapshot']['traceback_limit'])

    def test_one_frame_says_how_to_have_all(self):
        subprocess.run([sys.executable, '-X', 'tracemalloc', '-c',
                        'import tracemalloc\nkept = bytes(100_000)\n'
                        'tracemalloc.take_snapshot().dump("one")'],
                       check=True)
        self.assertEqual(tracemalloc.Snapshot.load('one').traceback_limit, 1)
        said = 'record all with -X tracemalloc=full'
        for options in ['--by', 'traceback'], ['--cumulative']:
            self.assertIn(f'\nEach traceback has 1 frame; {said}\n',
                          self.ok('report', 'one', *options))
            self.assertNotIn(said, self.ok('report', 'new.tracemalloc',
                                           *options))
        self.assertNotIn(said, self.ok('report', 'one'))
        text = subprocess.check_output([sys.executable, '--help-xoptions'],
                                       text=True)
        self.assertIn('(default: 1; full: all)', text)

    def test_stock_pickle(self):
        self.snapshot.dump('stock.pickle', format='pickle')
        self.assertIn('app.py:4', self.ok('report', 'stock.pickle'))
        self.ok('report', 'stock.pickle', '-o', 'a.html')

    def test_bad_files(self):
        self.write('empty', '')
        self.write('text', 'not a snapshot')
        with open('new.tracemalloc', 'rb') as file:
            data = file.read()
        for size in (3, 100, len(data) // 2, len(data) - 1):
            with open(f'cut{size}', 'wb') as file:
                file.write(data[:size])
            self.refused(1, 'not a whole snapshot', 'report', f'cut{size}')
        self.refused(1, 'empty', 'report', 'empty')
        self.refused(1, 'not a whole snapshot', 'report', 'text')
        self.refused(1, 'No such file', 'report', 'nothing')
        self.refused(1, 'directory', 'report', '.')
        self.refused(1, 'No such file', 'diff', 'nothing', 'new.tracemalloc')

    def test_existing_output_is_kept(self):
        self.write('a.html', 'precious')
        self.refused(1, '-f', 'report', 'new.tracemalloc', '-o', 'a.html')
        with open('a.html') as file:
            self.assertEqual(file.read(), 'precious')
        self.ok('report', 'new.tracemalloc', '-f', '-o', 'a.html')
        self.ok('report', 'new.tracemalloc', '-f', '-o', os.devnull)
        self.assertFalse(os.path.isfile(os.devnull))

    def test_strange_names(self):
        code = 'x = [bytes(9000) for _ in range(9)]\n'
        script = self.write('run.py', f'''\
            exec(compile({code!r}, "a\\x1b[31m\\n<b>\\udc80.py", "exec"))''')
        command('run', '-q', '-o', 's.tracemalloc', script)
        for name in ('text', 'collapsed', 'flamegraph'):
            self.ok('report', 's.tracemalloc', '--format', name, '-o',
                    f's.{name}')
            with open(f's.{name}', encoding='utf-8') as file:
                text = file.read()
            self.assertNotIn('\x1b', text)
            self.assertIn('a\\x1b[31m\\n', text)


class OtherTest(CommandCase):
    def test_help_has_examples(self):
        for name in ('run', 'report', 'diff', 'why', 'top', 'serve', 'push',
                     'completion'):
            status, output, _ = self.call(name, '--help')
            self.assertEqual(status, 0)
            self.assertIn('examples:', output)
            self.assertNotIn('%(prog)s', output)

    def test_no_command(self):
        self.refused(2, 'required: COMMAND')
        self.refused(2, 'invalid choice', 'analyse')

    def test_top(self):
        self.refused(1, 'no process', 'top', '999999999')
        self.refused(1, 'is the program running', 'top', './nothing.sock')
        self.write('file', '')
        self.refused(1, 'file: ', 'top', 'file')

    def test_top_once(self):
        process = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=2', '-c',
             'import sys; kept = bytes(7_000_000); '
             'print("ready", flush=True); sys.stdin.read()'],
            env=os.environ | {'PYTRACEMALLOC_CONTROL': 'c.sock'},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        for target in ('c.sock', str(process.pid)):
            output = self.ok('top', target)
            self.assertIn('traced ', output)
            self.assertRegex(output, r'6\.7 MiB .*<string>:1 in <module>')
        process.communicate()
        self.refused(1, 'no process', 'top', str(process.pid))

    def test_sizes(self):
        for text, size in (('300', 300), ('24 MB', 24 << 20), ('1.5GiB',
                           3 << 29), ('500 kib', 500 << 10), ('2K', 2048)):
            self.assertEqual(parse_size(text), size)
        for text in ('', 'MB', '-1', '1 i', '1 XB', '1e9', '1 MB MB'):
            self.assertRaises(ValueError, parse_size, text)
        for size, text in ((0, '0 B'), (999, '999 B'), (1024, '1.0 KiB'),
                           (-2048, '-2.0 KiB'), (5 << 60, '5.0 EiB')):
            self.assertEqual(format_size(size), text)


if __name__ == '__main__':
    unittest.main()
