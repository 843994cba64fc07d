"""The command as a user types it."""

import contextlib
import csv
import glob
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
import unittest
from unittest import mock

from pytracemalloc import cli, summary
from pytracemalloc.units import format_size, parse_size
from test.test_pytracemalloc.test_pprof import Profile

PROGRAM = '''\
import sys

def load(count):
    return [bytes(1000) for _ in range(count)]

class Cache:
    kept = {}

    def keep(self, name):
        self.kept[name] = load(50)

cache = Cache()
for number in range(20):
    cache.keep(number)
    load(400)
'''


def command(*args, **options):
    """Run the command in a process of its own."""
    options = {'capture_output': True, 'text': True, 'timeout': 120} | options
    return subprocess.run([sys.executable, '-m', 'pytracemalloc', *args],
                          **options)


class CommandCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, 'w') as file:
            file.write(textwrap.dedent(text))
        return path

    def call(self, *args):
        """Call the command here: return (status, stdout, stderr)."""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), \
                contextlib.redirect_stderr(errors):
            try:
                status = cli.main(args)
            except SystemExit as exc:
                status = exc.code
        return status, output.getvalue(), errors.getvalue()

    def ok(self, *args):
        status, output, errors = self.call(*args)
        self.assertEqual((status, errors), (0, ''))
        return output

    def refused(self, status, text, *args):
        """The command ends with one line that has *text*."""
        actual, _, errors = self.call(*args)
        self.assertEqual(actual, status, errors)
        self.assertRegex(errors, text)
        self.assertEqual(errors.count('\n'), 1, errors)


class RunTest(CommandCase):
    def run_program(self, *args, **options):
        """Return (process, snapshot) of a run with the output a.tracemalloc."""
        process = command('run', '-o', 'a.tracemalloc', *args, **options)
        return process, tracemalloc.Snapshot.load('a.tracemalloc')

    def test_summary_and_snapshot(self):
        path = self.write('app.py', PROGRAM)
        process, snapshot = self.run_program(path)
        self.assertEqual((process.returncode, process.stdout), (0, ''))
        self.assertRegex(process.stderr, r'live, .* at the peak, .* blocks')
        leaks = process.stderr.partition('Suspected leaks')[2]
        self.assertNotIn('app.py', leaks)    # 95 % of load() was freed
        self.assertIn('Snapshot: a.tracemalloc\n', process.stderr)
        self.assertEqual(snapshot.traceback_limit, 10)
        top = snapshot.statistics('lineno')[0]
        self.assertEqual((top.traceback[-1].filename,
                          top.traceback[-1].lineno), (path, 4))
        self.assertGreaterEqual(top.size, 20 * 50 * 1000)
        self.assertGreaterEqual(top.total_count, 20 * 450)

    def test_leak_is_suspected(self):
        path = self.write('app.py', '''\
            kept = []
            def leak():
                kept.append(bytes(5000))
            for _ in range(300):
                leak()
            ''')
        process, _ = self.run_program(path)
        leaks = process.stderr.partition('Suspected leaks:')[2]
        self.assertIn('app.py:3 in leak (nearly nothing was freed)', leaks)

    def test_cycles_are_suspected(self):
        path = self.write('app.py', '''\
            import gc
            def cycle():
                ring = [bytes(5000)]
                ring.append(ring)
            for _ in range(300):
                cycle()
            gc.collect()
            ''')
        process, snapshot = self.run_program(path)
        leaks = process.stderr.partition('Suspected leaks:')[2]
        self.assertRegex(leaks, r'1\.\d MiB +6\d\d  .*app.py:3 in cycle '
                                r'\(makes cycles')
        stats = snapshot.statistics('lineno', order='total_count')
        blocks = sum(stat.total_count for stat in stats)
        self.assertIn(f'{blocks:,} blocks allocated', process.stderr)

    def test_arguments_stdin_and_exit_status(self):
        path = self.write('app.py', '''\
            import os, sys
            print(sys.argv, __name__, __file__, sys.path[0], input())
            sys.exit(7)
            ''')
        process, _ = self.run_program(path, '-x', '--help', '-o', 'b',
                                      input='from stdin\n')
        self.assertEqual(process.returncode, 7)
        self.assertEqual(
            process.stdout,
            f"{[path, '-x', '--help', '-o', 'b']} __main__ {path} "
            f"{self.directory} from stdin\n")

    def test_module_and_code(self):
        self.write('app.py', 'import sys; print(sys.argv[1:])')
        process, _ = self.run_program('-m', 'app', '-n', '3')
        self.assertEqual(process.stdout, "['-n', '3']\n")
        process, snapshot = self.run_program(
            '-f', '-n', 'full', '-c', 'import sys; print(sys.argv)', '-q')
        self.assertEqual(process.stdout, "['-c', '-q']\n")
        self.assertGreater(snapshot.traceback_limit, 1000)

    def test_traceback_of_the_program_is_its_own(self):
        path = self.write('app.py', 'def f():\n    1 / 0\nf()\n')
        process, _ = self.run_program('-q', path)
        plain = subprocess.run([sys.executable, path], capture_output=True,
                               text=True)
        self.assertEqual((process.returncode, process.stderr),
                         (plain.returncode, plain.stderr))

    def test_environment_is_its_own(self):
        process, _ = self.run_program(
            '-c', 'import os; print([name for name in os.environ'
                  ' if "TRACEMALLOC" in name])')
        ours = [name for name in os.environ if 'TRACEMALLOC' in name]
        self.assertEqual(process.stdout, f'{ours}\n')

    def test_interrupt_still_reports(self):
        path = self.write('app.py', '''\
            import time
            kept = bytes(1234567)
            print('ready', flush=True)
            time.sleep(60)
            ''')
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-o',
             'a.tracemalloc', path], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn('KeyboardInterrupt', errors)
        self.assertIn('app.py:2', errors)
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertGreater(snapshot.traced_memory[0], 1234567)

    def test_default_name(self):
        path = self.write('app.py', 'pass')
        command('run', '-q', path)
        self.assertRegex(glob.glob('*.tracemalloc')[0],
                         r'^app\.\d+\.tracemalloc$')

    def test_follow(self):
        path = self.write('app.py', '''\
            import multiprocessing, os, subprocess, sys
            def work():
                kept.append(bytes(2_000_000))
            kept = []
            if __name__ == '__main__':
                for method in ('fork', 'spawn'):
                    child = multiprocessing.get_context(method).Process(target=work)
                    child.start()
                    child.join()
                    assert child.exitcode == 0
                if not (pid := os.fork()):
                    work()
                    os._exit(3)
                assert os.waitpid(pid, 0)[1] == 3 << 8
                subprocess.run([sys.executable, '-c', 'kept = bytes(2_000_000)'])
            ''')
        process = command('run', '--follow', '-o', 'a.tracemalloc', path)
        self.assertEqual(process.returncode, 0, process.stderr)
        names = set(glob.glob('a.*tracemalloc')) - {'a.tracemalloc'}
        sizes = [tracemalloc.Snapshot.load(name).traced_memory[1]
                 for name in names]
        self.assertEqual(sum(size > 2_000_000 for size in sizes), 4)
        for name in names:
            self.assertRegex(name, r'^a\.\d+\.tracemalloc$')

    def test_children_are_not_followed_unasked(self):
        path = self.write('app.py', '''\
            import os, subprocess, sys
            if not (pid := os.fork()):
                sys.exit()
            os.waitpid(pid, 0)
            subprocess.run([sys.executable, '-c', 'pass'])
            ''')
        process, _ = self.run_program(path)
        self.assertEqual(glob.glob('*.tracemalloc'), ['a.tracemalloc'])
        self.assertEqual(process.stderr.count('Snapshot:'), 1)

    def test_every(self):
        path = self.write('app.py', '''\
            import time
            end = time.monotonic() + 3.5
            while time.monotonic() < end:
                kept = [bytes(100) for _ in range(1000)]
            ''')
        self.run_program('--every', '1', path)
        names = sorted(glob.glob('a.*.tracemalloc'))
        self.assertGreaterEqual(len(names), 2)
        self.assertEqual(names[0], 'a.0001.tracemalloc')
        tracemalloc.Snapshot.load(names[0])

    def test_on_growth(self):
        path = self.write('app.py', '''\
            kept = []
            for _ in range(400):
                kept.append([bytes(10_000) for _ in range(10)])
            ''')
        self.run_program('--on-growth', '10 MB', path)
        sizes = [tracemalloc.Snapshot.load(name).traced_memory[0]
                 for name in sorted(glob.glob('a.*.tracemalloc'))]
        self.assertGreaterEqual(len(sizes), 3)
        for before, after in zip(sizes, sizes[1:]):
            self.assertGreaterEqual(after - before, 10 << 20)

    def test_refused(self):
        self.write('exists', '')
        for status, text, *args in (
                (1, 'nothing.py: no such file', 'nothing.py'),
                (2, 'no program'),
                (2, '-m needs', '-m'),
                (2, '-n 0: give', '-n', '0', 'x.py'),
                (2, '-n x: give', '-n', 'x', 'x.py'),
                (2, '--every 0: give', '--every', '0', 'x.py'),
                (2, 'not a size', '--on-growth', 'big', 'x.py'),
                (2, 'unrecognized', '--what-is-this', 'x.py'),
                (1, 'exists; overwrite it with -f', '-o', 'exists', '-c', ''),
                (1, 'cannot write to', '-o', '/nowhere/a', '-c', '')):
            with self.subTest(args):
                self.refused(status, text, 'run', *args)

    def test_summary_in_twenty_columns(self):
        process, snapshot = self.run_program('-c', PROGRAM)

        class Narrow(io.StringIO):
            encoding = 'ascii'

            def isatty(self):
                return True

        suspects = summary.Suspects()
        suspects.look_at(snapshot)
        file = Narrow()
        with mock.patch.object(
                shutil, 'get_terminal_size',
                lambda: os.terminal_size((20, 24))):
            summary.write(snapshot, suspects, 3, os.devnull, file)
        self.assertTrue(all(len(line) <= 20 for line in
                            file.getvalue().replace('\\u2026', '.')
                            .splitlines()))


    def test_losses_are_reported(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapshot = tracemalloc.take_snapshot()
        snapshot.metadata |= {'untraced': 1234, 'folded': 56, 'pruned': 789}
        suspects = summary.Suspects()
        suspects.look_at(snapshot)
        out = io.StringIO()
        summary.write(snapshot, suspects, 0, os.devnull, out)
        snapshot.dump('losses.tracemalloc')
        for text in out.getvalue(), self.ok('report', 'losses.tracemalloc'):
            self.assertIn('\nNot traced, for want of memory: 1,234 blocks\n'
                          'Recursion folded: 56 frames\n'
                          'Stacks without live blocks forgotten, not what '
                          'their lines allocated: 789\n', text)


class ReportTest(CommandCase):
    @classmethod
    def setUpClass(cls):
        cls.source = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.source)
        path = os.path.join(cls.source, 'app.py')
        with open(path, 'w') as file:
            file.write(PROGRAM)
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
        for by in ('line', 'file', 'function', 'module', 'type', 'type+line',
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
            'report', 'new.tracemalloc', '--format', 'csv'))))
        stats = self.snapshot.statistics('lineno')
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
                            ('a.pb.gz', b'\x1f\x8b'), ('a.csv', b'line,'),
                            ('a.json', b'{\n "snapshot"'),
                            ('a.speedscope.json', b'{"$schema"'),
                            ('a.txt', b'new.trace'), ('a', b'new.trace')):
            self.ok('report', 'new.tracemalloc', '-o', name)
            with open(name, 'rb') as file:
                self.assertTrue(file.read(20).startswith(start), name)

    def test_filters(self):
        output = self.ok('report', 'new.tracemalloc', '--include', '*/app.py',
                         '--format', 'csv')
        self.assertNotIn('frozen', output)
        self.assertIn('app.py:4', output)
        output = self.ok('report', 'new.tracemalloc', '--exclude',
                         '*/app.py:4', '--format', 'csv')
        self.assertNotIn('app.py:4', output)

    def test_diff(self):
        output = self.ok('diff', 'old.tracemalloc', 'new.tracemalloc')
        self.assertRegex(output.splitlines()[4],
                         r'^\+.* MiB .*app\.py:4 in load$')
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
        command('run', '-q', '-n', '2', '-o', 'two.tracemalloc', '-c', '')
        self.refused(1, 'take both with the same -n', 'diff',
                     'two.tracemalloc', 'new.tracemalloc')

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

    @unittest.skipIf(os.getuid() == 0, 'root reads everything')
    def test_unreadable(self):
        os.chmod('new.tracemalloc', 0)
        self.refused(1, 'Permission denied', 'report', 'new.tracemalloc')

    def test_bad_options(self):
        for status, text, *args in (
                (2, 'unknown key', '--by', 'colour'),
                (2, 'unknown format', '--format', 'gif'),
                (2, 'unknown value', '--what', 'weight'),
                (2, 'from 1 on', '--top', '0'),
                (2, 'live memory only', '--by', 'type', '--what', 'peak'),
                (2, 'cumulative', '--by', 'type', '--cumulative'),
                (1, 'is a directory', '-o', '.'),
                (1, 'No such file', '-o', 'no/such/place.html')):
            with self.subTest(args):
                self.refused(status, text, 'report', 'new.tracemalloc', *args)

    def test_existing_output_is_kept(self):
        self.write('a.html', 'precious')
        self.refused(1, '-f', 'report', 'new.tracemalloc', '-o', 'a.html')
        with open('a.html') as file:
            self.assertEqual(file.read(), 'precious')
        self.ok('report', 'new.tracemalloc', '-f', '-o', 'a.html')
        self.ok('report', 'new.tracemalloc', '-f', '-o', os.devnull)
        self.assertFalse(os.path.isfile(os.devnull))

    def test_closed_pipe(self):
        process = subprocess.run(
            f'"{sys.executable}" -m pytracemalloc report new.tracemalloc '
            f'--format collapsed | true', shell=True, capture_output=True,
            text=True)
        self.assertNotIn('Traceback', process.stderr)
        self.assertLessEqual(process.stderr.count('\n'), 1)

    def test_binary_not_to_a_terminal(self):
        self.assertEqual(self.on_terminal(
            80, 'report', 'new.tracemalloc', '--format', 'pprof', '-o', '-'),
            ['pytracemalloc: this format is binary; give a file with -o'])

    def test_twenty_columns(self):
        for by in 'line', 'traceback', 'type':
            lines = self.on_terminal(20, 'report', 'new.tracemalloc', '--by',
                                     by)
            self.assertGreater(len(lines), 5)
            self.assertLessEqual(max(map(len, lines)), 20)

    def on_terminal(self, columns, *args):
        """Return the lines that appear on a terminal of that width."""
        master, slave = pty.openpty()
        import fcntl
        import struct
        import termios
        fcntl.ioctl(slave, termios.TIOCSWINSZ,
                    struct.pack('4H', 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items()
                       if name not in ('COLUMNS', 'LINES')}
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', *args], stdout=slave,
            stderr=slave, stdin=slave, env=environment)
        os.close(slave)
        output = b''
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                output += data
        os.close(master)
        process.wait()
        return output.decode().splitlines()

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
        for name in ('run', 'report', 'diff', 'top', 'serve', 'completion'):
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
