"""Views of a snapshot: imports folded, and my code."""

import csv
import glob
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import unittest

from tracemalloc.places import IMPORTS, NOT_MINE
from tracemalloc.views import (HIDDEN, HIDDEN_IF_CALLED, INTERPRETER, LIBRARY,
                               PACKAGE, PROGRAM, SHOWN, Files, check_process,
                               describe_process)
from test.support import swap_attr

from pytracemalloc.client import Client
from pytracemalloc.errors import CommandError
from test.test_pytracemalloc.command_case import CommandCase, command

# Of a process on another machine.
OTHER = {'library': ['/opt/py/lib/python3.13'],
         'packages': ['/home/u/shop/.venv/lib/python3.13/site-packages'],
         'directory': '/home/u/shop', 'command': False}
PROGRAM_TEXT = '''\
import collections, json, colorsys

Point = collections.namedtuple('Point', 'x y')

def load(count):
    return json.loads(json.dumps([[number] * 9 for number in range(count)]))

def plain():
    return [bytes(1000) for number in range(10)]

kept = [load(100), plain(), [Point(float(n), 1) for n in range(50)]]
'''


class FilesTest(unittest.TestCase):
    def test_judged_for_the_traced_process(self):
        files = Files(OTHER)
        for filename, category in (
                ('/opt/py/lib/python3.13/json/decoder.py', LIBRARY),
                ('/opt/py/lib/python3.13/site-packages/x.py', PACKAGE),
                ('/usr/lib/python3/dist-packages/x.py', PACKAGE),
                ('/home/u/shop/.venv/lib/python3.13/site-packages/x.py',
                 PACKAGE),
                ('/home/u/shop/orders.py', PROGRAM),
                # An editable install, and what is called like a library.
                ('/home/u/src/acme/acme/orders.py', PROGRAM),
                ('/home/u/shop/json/decoder.py', PROGRAM),
                ('/home/u/shop/lib/python3.13/decoder.py', PROGRAM),
                ('/opt/py/lib/python3.13x/decoder.py', PROGRAM),
                ('site-packages.py', PROGRAM), ('orders.py', PROGRAM),
                (json.__file__, PROGRAM),      # ours, not of that process
                ('<string>', PROGRAM), ('<frozen os>', INTERPRETER),
                ('<unknown>', INTERPRETER), (IMPORTS, INTERPRETER)):
            self.assertEqual(files.category(filename), category, filename)

    def test_current_directory_is_the_program_s(self):
        for directory in (f'{OTHER["packages"][0]}/acme',
                          '/opt/py/lib/python3.13/test'):
            files = Files(OTHER | {'directory': directory})
            self.assertEqual(files.category(f'{directory}/x.py'), PROGRAM)
            self.assertNotEqual(
                files.category(f'{os.path.dirname(directory)}/x.py'), PROGRAM)

    def test_nothing_is_known_of_the_process(self):
        files = Files(None)
        for filename, category in (
                ('/opt/py/lib/python3.12/json/decoder.py', LIBRARY),
                ('C:\\Python\\Lib\\site-packages\\x.py', PACKAGE),
                (json.__file__, LIBRARY), ('/srv/app/json.py', PROGRAM)):
            self.assertEqual(files.category(filename), category, filename)

    def test_my_code(self):
        for command_, kind in (False, HIDDEN_IF_CALLED), (True, SHOWN):
            files = Files(OTHER | {'command': command_})
            self.assertEqual(files.code_kind('<string>'), kind)
        for filename, kind in (('<stdin>', SHOWN), ('/srv/x.py', SHOWN),
                               ('<doctest x[0]>', SHOWN),
                               ('<attrs generated init x>', HIDDEN_IF_CALLED),
                               ('<frozen posixpath>', HIDDEN),
                               (f'{OTHER["library"][0]}/wave.py', HIDDEN)):
            self.assertEqual(Files(OTHER).code_kind(filename), kind, filename)

    def test_patterns_correct(self):
        files = Files(OTHER, ['*/site-packages/acme/*', '!*/acme/vendor/*',
                              '!/home/u/shop/generated.py'])
        packages = OTHER['packages'][0]
        for filename, kind in ((f'{packages}/acme/x.py', SHOWN),
                               (f'{packages}/acme/vendor/x.py', HIDDEN),
                               (f'{packages}/other/x.py', HIDDEN),
                               ('/home/u/shop/generated.py', HIDDEN),
                               ('/home/u/shop/x.py', SHOWN)):
            self.assertEqual(files.code_kind(filename), kind, filename)

    def test_import_system(self):
        for program in OTHER, None:
            files = Files(program)
            for filename, kind in (
                    ('<frozen importlib._bootstrap_external>', HIDDEN),
                    ('<frozen runpy>', HIDDEN), ('<unknown>', HIDDEN),
                    (f'{files.library[0]}/importlib/__init__.py', HIDDEN),
                    (f'{files.library[0]}/importlib/metadata/__init__.py',
                     SHOWN),
                    # Files of a program may be called like anything.
                    ('/srv/importlib/__init__.py', SHOWN),
                    ('<frozen posixpath>', SHOWN), ('<string>', SHOWN)):
                self.assertEqual(files.import_kind(filename), kind, filename)

    def test_this_process(self):
        files = Files(describe_process())
        self.assertEqual(files.category(json.__file__), LIBRARY)
        self.assertEqual(files.category(os.path.abspath('x.py')), PROGRAM)

    def test_hostile_names(self):
        # None takes more than the time that it takes to read it.
        names = ['lib/python' + '1' * 10**6, '/' * 10**6, '<' * 10**6,
                 'lib/python3' * 10**5, 'site-packages' * 10**5,
                 'x\n/site-packages/' * 10**5]
        start = time.perf_counter()
        for program in None, OTHER, {**OTHER, 'library': ['/' * 10**6] * 64}:
            files = Files(program)
            for name in names:
                files.code_kind(name)
                files.import_kind(name)
        self.assertLess(time.perf_counter() - start, 5)
        self.assertEqual(Files(OTHER).category('x\n/site-packages/y.py'),
                         PACKAGE)

    def test_long_path(self):
        with swap_attr(sys, 'path', [f'/{number}/site-packages'
                                     for number in range(99)]):
            check_process(describe_process())

    def test_directory_that_was_removed(self):
        code = ('import os, tempfile, tracemalloc, json\n'
                'os.chdir(folder := tempfile.mkdtemp())\n'
                'os.rmdir(folder)\n'
                'tracemalloc.start()\n'
                'print(json.dumps(tracemalloc.take_snapshot().program))')
        done = subprocess.run([sys.executable, '-c', code], check=True,
                              capture_output=True, text=True)
        found = json.loads(done.stdout)
        self.assertEqual((found['directory'], found['command']), (None, True))


class FileTest(unittest.TestCase):
    """The description goes with a snapshot."""

    def snapshot(self, **attributes):
        snapshot = tracemalloc.Snapshot([(0, 7, (('a.py', 1),), 1)], 5)
        vars(snapshot).update(attributes)
        return snapshot

    def load(self, snapshot, format='native'):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'x')
            snapshot.dump(path, format)
            return tracemalloc.Snapshot.load(path)

    def test_kept(self):
        for format in 'native', 'pickle':
            for program in OTHER, None:
                self.assertEqual(self.load(self.snapshot(program=program),
                                           format).program, program)

    def test_taken(self):
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start()
        snapshot = tracemalloc.take_snapshot(traces=False)
        self.assertEqual(snapshot.program, describe_process())
        self.assertEqual(snapshot.peak.program, snapshot.program)

    def test_modules_do_not_depend_on_the_reader(self):
        file = '/home/u/src/acme/orders/models.py'
        taken = self.snapshot(traces=tracemalloc.Snapshot(
            [(0, 7, ((file, 1),), 1)], 5).traces)

        def module(**known):
            taken.program = OTHER | known
            read = self.load(taken)
            row, = read.statistics('module')
            return row.traceback[0].filename

        self.assertEqual(module(path=['', '/home/u/src/acme']), 'orders')
        self.assertEqual(module(path=['/home/u/src']), 'acme')
        with swap_attr(sys, 'path', ['/home/u/src']):
            self.assertEqual(module(path=['/home']), 'u')
            # Of an older version.
            self.assertEqual(module(), 'acme')

    def test_files_without_it(self):
        # As those that were written before.
        snapshot = self.snapshot()
        for format in 'native', 'pickle':
            old = self.snapshot()
            del old.__dict__['program']
            old.__class__ = type('Snapshot', (tracemalloc.Snapshot,), {
                '__module__': 'tracemalloc', 'program': None})
            self.assertIsNone(self.load(snapshot, format).program)

    def test_damaged(self):
        for program in (5, [], {}, {**OTHER, 'library': 'x'},
                        {**OTHER, 'packages': [5]},
                        {**OTHER, 'packages': ['/x'] * 65},
                        {**OTHER, 'path': '/x'},
                        {**OTHER, 'directory': 5}, {**OTHER, 'command': 1}):
            with self.assertRaisesRegex(ValueError, 'program'):
                self.load(self.snapshot(program=program))

    def test_copies_share_nothing(self):
        # Blocks stay with the snapshot that was folded until they are used.
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start(5)
        kept = [json.loads('[1.5]') for _ in range(100)]
        folded = tracemalloc.take_snapshot().my_code(['*test_views.py'])
        tracemalloc.stop()
        mine = [trace for trace in folded.traces
                if trace.traceback[-1].filename == __file__]
        self.assertGreaterEqual(len(mine), 200)
        twice = folded.my_code(['*test_views.py'])
        self.assertEqual(list(twice.traces), list(folded.traces))
        for snapshot in folded, twice, self.load(folded):
            self.assertEqual(
                sum(trace.size for trace in snapshot.traces),
                sum(stat.size for stat in snapshot.statistics('lineno')))
        del kept


class RunTest(CommandCase):
    def summary(self, *options):
        path = self.write('app.py', PROGRAM_TEXT)
        done = command('run', '-f', '-n', 'full', '--top', '9', '-o', 'out',
                       *options, path, check=True)
        return done.stderr

    def test_imports_are_folded(self):
        text = self.summary()
        self.assertNotIn('<frozen importlib', text)
        self.assertNotIn('interpreter, no Python frame', text)
        self.assertIn('  interpreter and imports\n', text)
        self.assertIn('app.py:1 in <module>\n', text)
        text = self.summary('--unfold')
        self.assertIn('<frozen importlib._bootstrap_external>', text)
        # The snapshot is whole.
        frames = {frame.filename for trace in
                  tracemalloc.Snapshot.load('out').traces
                  for frame in trace.traceback}
        self.assertIn('<frozen importlib._bootstrap_external>', frames)

    def test_my_code(self):
        for options in ['--my-code'], ['--mine', '*/nowhere/*']:
            text = self.summary(*options)
            self.assertRegex(text, r'app\.py:6 in load > .*decoder\.py:\d+ in '
                                   r'JSONDecoder\.raw_decode\n')
            self.assertIn('  no line of my code', text)
        self.refused(2, '--unfold shows what --my-code', 'run', '--unfold',
                     '--my-code', 'x.py')


class EnvironmentTest(CommandCase):
    """A virtual environment in the current directory, as projects have it."""

    def test_packages_and_editable_installs(self):
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip',
                        '.venv'], check=True)
        [packages] = glob.glob('.venv/lib/python*/site-packages')
        text = 'import json\ndef make(): return json.loads("[1.5, 2.5]")\n'
        for folder in 'src/acme', f'{packages}/wheel':
            os.makedirs(folder)
            with open(f'{folder}/__init__.py', 'w') as file:
                file.write(text)
        # As pip install -e leaves it.
        with open(f'{packages}/__editable__.acme.pth', 'w') as file:
            file.write(os.path.abspath('src') + '\n')
        self.write('app.py', '''\
            import acme, wheel
            first = [acme.make() for number in range(100)]
            second = [wheel.make() for number in range(200)]
            ''')
        subprocess.run(
            [os.path.abspath('.venv/bin/python'), '-m', 'pytracemalloc',
             'run', '-q', '-n', 'full', '-o', 'out', 'app.py'], check=True)
        rows = json.loads(self.ok('report', 'out', '--my-code', '--format',
                                  'json'))['statistics']
        counts = {(os.path.relpath(row['filename']), row['lineno']):
                  row['count'] for row in rows
                  if row['filename'].endswith('.py')}
        self.assertGreaterEqual(counts['src/acme/__init__.py', 2], 300)
        self.assertGreaterEqual(counts['app.py', 3], 600)
        self.assertFalse([name for name, _ in counts if 'wheel' in name])


class TopTest(CommandCase):
    """What lies in a library that the command uses too is shown."""

    def setUp(self):
        super().setUp()
        text = PROGRAM_TEXT.replace('load(100)', 'load(3000)')
        path = self.write('app.py',
                          f'{text}\nprint("ready", flush=True)\ninput()\n')
        program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=25', path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {'PYTRACEMALLOC_CONTROL': 'c.sock'})
        self.addCleanup(program.communicate, '\n')
        program.stdout.readline()

    def rows(self, *options):
        """Return what is above the table, and its rows."""
        lines = self.ok('top', '--once', 'c.sock', *options).splitlines()
        titles = next(number for number, line in enumerate(lines)
                      if line.split()[:2] == ['size', 'rate/s'])
        return '\n'.join(lines[:titles]), '\n'.join(lines[titles + 1:])

    def ask(self, **arguments):
        with Client('c.sock') as client:
            return client.ask('statistics', **arguments)

    def test_views(self):
        head, rows = self.rows()
        self.assertRegex(rows, r'\A.*json/decoder\.py:\d+ in JSONDecoder')
        self.assertNotIn('<frozen importlib', rows)
        self.assertRegex(rows, r'all others\Z')
        head, rows = self.rows('--my-code')
        self.assertIn(', my code', head)
        self.assertRegex(rows, r'\A.*app\.py:6 in load > .*decoder\.py:')
        head, rows = self.rows('--unfold')
        self.assertIn(', unfolded', head)
        self.assertIn('<frozen importlib', rows)
        head, rows = self.rows('--mine', '!*/app.py')
        self.assertRegex(rows, r'\A.*no line of my code > .*decoder\.py:')

    def test_rows_add_up(self):
        for view in {}, {'unfold': True}, {'my_code': True}:
            answer = self.ask(limit=5000, **view)
            self.assertEqual(len(answer['rows']), answer['groups'])
            self.assertEqual(sum(row[1] for row in answer['rows']),
                             answer['current'])

    def test_bad_patterns(self):
        for mine in [5], ['x' * 1025], ['x'] * 65:
            with self.assertRaisesRegex(CommandError, 'mine must be a list'):
                self.ask(mine=mine)


class ViewTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        path = cls.make_app(PROGRAM_TEXT)
        for name, *options in ('new', '-n', 'full'), ('short', '-n', '1'):
            command('run', '-q', *options, '-o',
                    os.path.join(cls.source, name), path, check=True)

    def setUp(self):
        super().setUp()
        self.new, self.short = (os.path.join(self.source, name)
                                for name in ('new', 'short'))

    def rows(self, *args, command='report'):
        text = self.ok(command, *args, '--format', 'json')
        return json.loads(text)['statistics']

    def mine(self, *args, **options):
        return {row['lineno']: row for row in self.rows(*args, **options)
                if row['filename'].endswith('app.py')}

    def test_imports_count_for_the_line_that_imports(self):
        unfolded = self.rows(self.new, '--unfold')
        folded = self.rows(self.new)
        self.assertIn('<frozen importlib._bootstrap_external>',
                      [row['filename'] for row in unfolded])
        names = [row['filename'] for row in folded]
        self.assertFalse([name for name in names if name.startswith('<fr')
                          and 'importlib' in name or name == '<unknown>'])
        self.assertEqual(names.count(IMPORTS), 1)
        self.assertGreater(self.mine(self.new)[1]['size'], 1000)
        for rows in unfolded, folded, self.rows(self.new, '--my-code'):
            self.assertEqual(
                sum(row['size'] for row in rows),
                tracemalloc.Snapshot.load(self.new).traced_memory[0])
        text = self.ok('report', self.new, '--top', '999')
        self.assertIn('Imports are charged to the importing line; --unfold',
                      text)
        self.assertIn('  interpreter and imports\n', text)

    def test_my_code_has_the_library_line_beside_it(self):
        row = self.mine(self.new, '--my-code')[6]
        self.assertTrue(row['origin_filename'].endswith('decoder.py'))
        self.assertEqual(row['origin_function'], 'JSONDecoder.raw_decode')
        self.assertEqual(row['function'], 'load')
        [own] = [row for number, row in
                 self.mine(self.new, '--my-code').items() if number == 9]
        self.assertIsNone(own['origin_filename'])
        self.assertGreater(row['size'], self.mine(self.new)[6]['size'])
        text = self.ok('report', self.new, '--my-code')
        self.assertRegex(text, r'app\.py:6 in load > .*decoder\.py:\d+ in '
                               r'JSONDecoder\.raw_decode\n')
        self.assertRegex(text, r'app\.py:9 in plain\n')
        table = csv.DictReader(io.StringIO(
            self.ok('report', self.new, '--my-code', '--format', 'csv')))
        self.assertIn(row['origin_filename'],
                      [row['origin_filename'] for row in table])
        text = self.ok('report', self.new, '--my-code', '--by', 'traceback')
        self.assertRegex(text, r'app\.py:6 in load\n.*\n'
                               r'    .*decoder\.py:\d+ in JSONDec')

    def test_code_that_was_made_is_its_caller_s(self):
        # That of a named tuple is called '<string>'.
        unfolded = self.rows(self.new, '--unfold')
        self.assertIn('<string>', [row['filename'] for row in unfolded])
        mine = self.rows(self.new, '--my-code')
        self.assertNotIn('<string>', [row['filename'] for row in mine])
        self.assertGreaterEqual(
            self.mine(self.new, '--my-code')[11]['count'], 100)

    def test_program_of_a_command_line(self):
        command('run', '-q', '-o', 'c', '-c',
                'import json\ndef f(): return json.loads("[1.5]")\n'
                'kept = [f() for number in range(50)]', check=True)
        rows = {(row['filename'], row['lineno']): row
                for row in self.rows('c', '--my-code')}
        self.assertGreaterEqual(rows['<string>', 2]['count'], 100)

    def test_patterns(self):
        rows = self.rows(self.new, '--mine', '*/json/*')
        self.assertIn('decoder.py', ' '.join(row['filename'] for row in rows))
        rows = self.rows(self.new, '--mine', '!*/app.py')
        self.assertEqual([row['filename'] for row in rows], [NOT_MINE])

    def test_every_key(self):
        for by in 'file', 'function', 'module', 'type+line', 'traceback':
            rows = self.rows(self.new, '--my-code', '--by', by)
            self.assertEqual(
                sum(row['size'] for row in rows),
                tracemalloc.Snapshot.load(self.new).traced_memory[0])
            self.assertNotIn('decoder.py', str([
                [row[name] for name in row if not name.startswith('origin')]
                for row in rows]))

    def test_diff(self):
        row = self.mine(self.new, self.new, '--my-code', command='diff')[6]
        self.assertEqual((row['size_diff'], row['origin_function']),
                         (0, 'JSONDecoder.raw_decode'))
        command('run', '-q', '-n', 'full', '-o', 'less', '-c', '', check=True)
        text = self.ok('diff', 'less', self.new, '--my-code')
        self.assertRegex(text, r'app\.py:6 in load > .*decoder\.py:\d+ in '
                               r'JSONDecoder\.raw_decode\n')

    def test_diff_names_the_line_that_changed(self):
        def snapshot(**sizes):
            return tracemalloc.Snapshot(
                [(0, size, ((f'/lib/python3.13/{name}.py', 3), ('app.py', 7)),
                  2) for name, size in sizes.items()], 5).my_code()

        large = snapshot(json=9000, wave=10, cgi=500)
        for sizes, size, origin in (
                ({'json': 9000, 'wave': 300}, -210, 'cgi'),
                ({'json': 9000, 'wave': 300, 'cgi': 500}, 290, 'wave'),
                ({'json': 8000, 'wave': 700, 'cgi': 500}, -310, 'json'),
                ({}, -9510, 'json')):
            diff, = snapshot(**sizes).compare_to(large, 'lineno')
            self.assertEqual((diff.size_diff, diff.origin.filename),
                             (size, f'/lib/python3.13/{origin}.py'))

    def test_too_few_frames_to_know(self):
        text = self.ok('report', self.short, '--my-code')
        self.assertIn('Much of the memory has no line of my code in its 1 '
                      'frame; ', text)
        self.assertNotIn('Much of the memory has no line',
                         self.ok('report', self.new, '--my-code'))
        folded = self.rows(self.short)
        self.assertIn(IMPORTS, [row['filename'] for row in folded[:3]])

    def test_both_at_once(self):
        for options in ['--my-code'], ['--mine', 'x']:
            self.refused(2, '--unfold shows what --my-code and --mine fold; '
                            'leave one out', 'report', self.new, '--unfold',
                         *options)


if __name__ == '__main__':
    unittest.main()
