"""What was live at a MemoryError, as `pytracemalloc run` and others show it."""
import json
import os
import random
import tracemalloc
import types
import unittest
from test.test_pytracemalloc.command_case import command
from test.test_pytracemalloc.oom_case import FILL, PRELUDE, OomCase

from pytracemalloc import failed


class ReportTests(OomCase):
    """Commands, and `pytracemalloc run`."""

    PROGRAM = f'''{FILL}
def main():
    limit(150)
    fill(5_000_000)
if len(sys.argv) > 1:
    main()
'''

    def make_file(self):
        self.run_program(f'sys.argv.append(1)\n{self.PROGRAM}')
        return os.path.abspath('app.py')

    def message(self, path):
        return (fr'MemoryError: 4.8 MiB could not be allocated at '
                fr'{path}:{self.line} in fill \(limit of address space '
                fr'[\d.]+ .iB reached\)')

    def test_recover(self):
        path = self.make_file()
        result = command('recover', 'app.oom')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertRegex(result.stdout, fr'''^{self.message(path)}
Stack of the request that failed, most recent call last:
  {path}:\d+ in <module>
  {path}:\d+ in main
  {path}:\d+ in fill
Process \d+ \(.*app\.py\) has ended: .* blocks live then, .* at the peak
Wrote app\.oom\.tracemalloc
$''')
        snapshot = tracemalloc.Snapshot.load('app.oom.tracemalloc')
        self.assertEqual(snapshot.metadata[failed.KEY],
                         self.load()[0].metadata[failed.KEY])

    def test_all_commands_take_the_file(self):
        path = self.make_file()
        result = command('report', 'app.oom', '--top', '1')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        lines = result.stdout.splitlines()
        self.assertRegex(lines[2], fr'^{self.message(path)}$')
        self.assertIn(f'{path}:{self.line} in fill', lines[6])
        self.assertRegex(lines[-1], fr'^  {path}:\d+ in fill$')
        result = command('report', 'app.oom', '--format', 'json')
        request = json.loads(result.stdout)['snapshot']['metadata'][
            'failed_request']
        self.assertEqual(request, self.load()[1])
        result = command('report', 'app.oom', '-o', 'app.html')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        with open('app.html') as file:
            self.assertIn('4.8 MiB could not be allocated at', file.read())
        result = command('diff', 'app.oom', 'app.oom')
        self.assertEqual((result.returncode, result.stderr), (0, ''))

    def run_app(self, *options, text=None):
        self.line = 1 + (PRELUDE + self.PROGRAM).split('\n').index(
            '        live[i] = zero * size           # the line')
        with open('app.py', 'w') as app:
            app.write(PRELUDE + (self.PROGRAM if text is None else text))
        return command('run', '-f', '-o', 'a.tracemalloc', *options, 'app.py',
                       'now')

    def test_run(self):
        result = self.run_app()
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, fr'''(?s)
MemoryError
pytracemalloc: .* live, .* at the peak, .* blocks allocated
.*
Snapshot: a\.tracemalloc
{self.message('.*app.py')}
Live then, .* .iB:
 *\d+ MiB +\d+  .*app\.py:{self.line} in fill
.*
Memory then: a\.oom
$''')
        snapshot, request = self.load('a.oom')
        self.check_stack(request, '<module>', 'main', 'fill')

    def test_run_where_nothing_fails(self):
        result = self.run_app(text='print(os.listdir())')
        self.assertEqual(result.stdout, "['app.py']\n")
        self.assertEqual(sorted(os.listdir()), ['a.tracemalloc', 'app.py'])
        self.assertTrue(result.stderr.endswith('Snapshot: a.tracemalloc\n'))

    def test_run_without(self):
        for options in ['--no-oom'], ['-q', '--no-oom']:
            result = self.run_app(*options)
            self.assertNotIn('MemoryError:', result.stderr)
            self.assertFalse(os.path.exists('a.oom'))

    def test_run_quiet(self):
        result = self.run_app('-q')
        self.assertTrue(result.stderr.endswith('MemoryError\n'))
        self.load('a.oom')

    def test_run_variable(self):
        os.environ['PYTRACEMALLOC_OOM'] = 'mine'
        self.addCleanup(os.environ.pop, 'PYTRACEMALLOC_OOM')
        result = self.run_app()
        self.assertFalse(os.path.exists('a.oom'))
        self.assertTrue(result.stderr.endswith(
            f'Memory then: {os.getcwd()}/mine\n'), result.stderr)
        self.load('mine')

    def test_run_asked(self):
        result = self.run_app('--on-oom')
        self.assertTrue(result.stderr.endswith('Memory then: a.oom\n'))
        for options, message in (
                (['--on-oom', '--no-oom'], 'not allowed with argument'),
                (['--on-oom', '-o', '/dev/null'],
                 '--on-oom needs a file for its name; give one with -o')):
            result = self.run_app(*options)
            self.assertEqual(result.returncode, 2)
            self.assertIn(message, result.stderr)

    def test_run_that_is_killed_later(self):
        """Who waits for the program shows what failed before."""
        text = f'''{self.PROGRAM.replace('    main()', """
    try:
        main()
    except MemoryError:
        os.kill(os.getpid(), 9)""")}
'''
        result = self.run_app(text=text)
        self.assertRegex(result.stderr, fr'''(?s)^pytracemalloc: killed by SIGKILL
.*
Snapshot: a\.tracemalloc
{self.message('.*app.py')}
Live then, .* .iB:
.*
Memory then: a\.oom
$''')
        # What another process has left is none of its.
        result = self.run_app(text='os.kill(os.getpid(), 9)')
        self.assertNotIn('MemoryError', result.stderr)

    def test_run_children(self):
        result = self.run_app('--follow', text=f'''{self.PROGRAM.replace(
            'len(sys.argv) > 1', 'not os.fork()')}
else:
    print(os.wait()[0])
''')
        self.assertEqual(result.returncode, 0)
        pid = result.stdout.strip()
        self.assertRegex(result.stderr, fr'''(?m)^pytracemalloc: process {pid
            }: {self.message('.*app.py')}; a.{pid}.oom$''')
        self.load(f'a.{pid}.oom')
        self.assertFalse(os.path.exists('a.oom'))

    def test_foreign_metadata(self):
        """A snapshot file may say anything of a request."""
        good = {'size': 1, 'reason': None, 'depth': 1, 'stack': [
            {'filename': 'a\x1b[31m', 'lineno': 1, 'function': 'f'}]}
        fits = types.SimpleNamespace(metadata={failed.KEY: good})
        self.assertEqual(failed.line(fits), 'MemoryError: 1 B could not be '
                         r'allocated at a\x1b[31m:1 in f (no limit that the '
                         'process can see)')
        rng = random.Random(5)
        for _ in range(500):
            bad = json.loads(json.dumps(good))
            where = rng.choice([bad, bad['stack'][0]])
            where[rng.choice(list(where))] = rng.choice(
                [None, -1, 'x', [], {}, 1.5, True, [None], 'machine',
                 'data limit', 1 << 80])
            fits.metadata = rng.choice([{failed.KEY: bad}, bad, {}])
            self.assertIsInstance(failed.line(fits), str)
            self.assertIsInstance(failed.stack(fits), list)


if __name__ == '__main__':
    unittest.main()
