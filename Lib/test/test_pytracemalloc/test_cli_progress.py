"""A bar on the terminal while something takes over a second."""

import io
import os
import re
import sys
import time
import unittest
from unittest import mock

from pytracemalloc.reporters.collapsed import CollapsedReporter
from pytracemalloc.terminal import Progress
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.terminal import Terminal


class Screen(io.StringIO):
    def __init__(self, columns=40):
        super().__init__()
        self.columns = columns

    def isatty(self):
        return True

    def lines(self):
        return [line.removesuffix('\x1b[K')
                for line in self.getvalue().split('\r')[1:]]


class ProgressTest(unittest.TestCase):
    def run_progress(self, screen, delay=0.02, items=range(20)):
        size = os.terminal_size((screen.columns, 24))
        with mock.patch('shutil.get_terminal_size', lambda: size), \
                Progress('Reading a.tracemalloc', screen, delay) as progress:
            for _ in progress.track(items):
                time.sleep(0.03)
        return screen.lines()

    def test_bar(self):
        lines = self.run_progress(Screen())
        self.assertGreater(len(lines), 3)
        *drawn, last = lines
        self.assertEqual(last, '')
        shares = []
        for line in drawn:
            self.assertLess(len(line), 40)
            found = re.fullmatch(r'Reading a\.tracemalloc +(\d+)% (#*\.*)',
                                 line)
            if found:             # not after the last item
                shares.append(int(found[1]))
                self.assertAlmostEqual(
                    100 * found[2].count('#') / len(found[2]), shares[-1],
                    delta=10)
        self.assertEqual(shares, sorted(shares))
        self.assertGreater(shares[-1], 30)

    def test_twenty_columns(self):
        for line in self.run_progress(Screen(20)):
            self.assertLess(len(line), 20)

    def test_what_cannot_be_counted(self):
        screen = Screen()
        with Progress('Reading', screen, 0.02):
            end = time.monotonic() + 30
            while not screen.getvalue() and time.monotonic() < end:
                time.sleep(0.02)
        self.assertEqual(screen.lines()[0], 'Reading ...')

    def test_nothing_before_a_second(self):
        self.assertEqual(Progress('').delay, 1.0)
        self.assertEqual(self.run_progress(Screen(), 60, range(3)), [])

    def test_nothing_without_a_terminal(self):
        file = io.StringIO()
        with Progress('Reading', file, 0) as progress:
            list(progress.track(range(9)))
            time.sleep(0.05)
        self.assertEqual(file.getvalue(), '')

    def test_terminal_that_goes_away(self):
        class Closing(Screen):
            def write(self, text):
                raise OSError(5, 'Input/output error')
        self.run_progress(Closing())


class ReportTest(CommandCase):
    def test_slow_reports(self):
        command('run', '-q', '-o', 'a.tracemalloc', '-c', 'kept = bytes(9)')

        def write(self, subject, file):
            for number in subject.track(range(30)):
                file.write(f'line {number}\n')
                time.sleep(0.05)

        for args in (['report', 'a.tracemalloc'],
                     ['diff', 'a.tracemalloc', 'a.tracemalloc']):
            for output in [], ['-o', 'out', '-f']:
                screen = Screen()
                with mock.patch.object(CollapsedReporter, 'write', write), \
                        mock.patch.object(sys, 'stderr', screen):
                    stdout = io.StringIO()
                    with mock.patch.object(sys, 'stdout', stdout):
                        from pytracemalloc import cli
                        status = cli.main([*args, '--format', 'collapsed',
                                           *output])
                self.assertEqual(status, 0)
                self.assertRegex(screen.lines()[0],
                                 r'Writing out +\d+% #' if output else
                                 r'Reading a.tracemalloc +\d+% #')
                self.assertEqual(screen.lines()[-1], '')
                if not output:
                    self.assertEqual(stdout.getvalue().count('\n'), 30)

    def test_end_of_a_run(self):
        # A snapshot that takes over a second to write.
        self.write('app.py', '''\
            import os, time
            fsync = os.fsync
            def slow(number):
                time.sleep(1.5)
                fsync(number)
            os.fsync = slow
            ''')
        for options, shown in ([], True), (['-c', 'import app, os; '
                                            'os._exit(0)'], False):
            with Terminal('run', '-fo', 'a.tracemalloc',
                          *options or ['app.py']) as terminal:
                status, output = terminal.end()
            self.assertEqual(status, 0)
            self.assertEqual('Writing a.tracemalloc ...' in output, shown)
            self.assertIn('Snapshot: a.tracemalloc', output)

    def test_program_has_no_module_because_of_it(self):
        process = command('run', '-qo', os.devnull, '-c',
                          'import sys; print("threading" in sys.modules)')
        self.assertEqual(process.stdout, 'False\n')


if __name__ == '__main__':
    unittest.main()
