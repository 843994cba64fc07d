"""The progress bar of real commands, on a real terminal."""

import os
import pty
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

from test.test_pytracemalloc.terminal import Terminal

SLOW = 2.5                        # seconds that the pipes below take


class CommandTest(unittest.TestCase):
    """Real commands, on pipes that make them slow."""

    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.path = os.path.join(cls.directory, 'x.tracemalloc')
        subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-q', '-n', '20',
             '-o', cls.path, '-c', 'import unittest, asyncio, http.server'],
            check=True, stdin=subprocess.DEVNULL)

    def pipe(self):
        path = os.path.join(self.directory, self.id().rpartition('.')[2])
        os.mkfifo(path)
        return path

    def in_thread(self, function):
        thread = threading.Thread(target=function)
        thread.start()
        self.addCleanup(thread.join)

    def slow_snapshot(self):
        """A pipe that gives half of a snapshot, and later the rest."""
        path = self.pipe()
        with open(self.path, 'rb') as file:
            data = file.read()

        def feed():
            with open(path, 'wb') as file:
                file.write(data[:1000])
                file.flush()
                time.sleep(SLOW)
                file.write(data[1000:])

        self.in_thread(feed)
        return path

    def slow_reader(self, size):
        """A pipe whose reader sleeps before it reads."""
        path = self.pipe()

        def read():
            with open(path, 'rb') as file:
                time.sleep(SLOW)
                size.append(len(file.read()))

        self.in_thread(read)
        return path

    def test_reading(self):
        with Terminal('report', self.slow_snapshot()) as terminal:
            status, _ = terminal.end()
            output = terminal.output
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r'\rReading test_reading \.\.\.')
        # It is gone before the report begins.
        bars, _, report = output.rpartition('\r\x1b[K')
        self.assertNotIn('Top 10 lines', bars)
        self.assertNotIn('Reading', report)
        self.assertIn('Top 10 lines', report)

    def test_writing(self):
        size = []
        with Terminal('report', self.path, '--by', 'traceback', '--format',
                      'csv', '-o', self.slow_reader(size)) as terminal:
            status, _ = terminal.end()
        self.assertEqual(status, 0)
        self.assertRegex(terminal.output, r'\rWriting test_writing +\d+% #*\.')
        self.assertGreater(size[0], 100_000)

    def test_width_of_the_terminal_that_shows_it(self):
        # Standard output has none here.
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        termios.tcsetwinsize(slave, (24, 40))
        environment = {**os.environ}
        environment.pop('COLUMNS', None)
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'report', self.path,
             '--by', 'traceback', '--format', 'csv', '-o',
             self.slow_reader([])], stdout=subprocess.DEVNULL, stderr=slave,
            env=environment)
        os.close(slave)
        self.assertEqual(process.wait(), 0)
        bar = os.read(master, 10_000).decode().split('\r')[1]
        self.assertIn('Writing', bar)
        self.assertEqual(len(bar.removesuffix('\x1b[K')), 39)

    def test_nothing_without_a_terminal(self):
        done = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'report',
             self.slow_snapshot()], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertNotIn('\r', done.stdout)

    def test_nothing_of_what_is_quick(self):
        with Terminal('report', self.path) as terminal:
            self.assertEqual(terminal.end()[0], 0)
        self.assertNotIn('Reading', terminal.output)


if __name__ == '__main__':
    unittest.main()
