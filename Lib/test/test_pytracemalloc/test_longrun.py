"""The long run of a web service: its figures, and some seconds of it."""

import array
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import types
import unittest
from test import support
from test.support import requires_subprocess
from test.test_pytracemalloc.command_case import heed_signals
from test.test_pytracemalloc.fetched import kept

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
LONGRUN = TOP / 'Tools' / 'longrun'


def load_tool(name):
    """Import a file of the tool, without a lasting change of sys.path."""
    if not (LONGRUN / 'run.py').is_file():
        raise unittest.SkipTest('needs the repository')
    spec = importlib.util.spec_from_file_location(f'longrun_{name}',
                                                  LONGRUN / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages():
    """Return the folder for a run, with the packages in it."""
    servers = load_tool('servers')

    def fill(place):
        try:
            servers.packages(sys.executable, place / 'environment')
        except servers.Failure as error:
            raise unittest.SkipTest(str(error)) from None

    return kept('longrun-test',
                servers.REQUIREMENTS.read_text() + sys.version, fill)


class ReportTests(unittest.TestCase):

    def setUp(self):
        self.report = load_tool('report')

    def figures(self, stock, traced, memory, failures=()):
        options = types.SimpleNamespace(server='s', rate=9.0, frames='full',
                                        snapshots='blocks')
        pair = [types.SimpleNamespace(
                    name=name, latencies=array.array('d', values),
                    times=array.array('d', [step * 60 / len(values)
                                            for step in range(len(values))]),
                    failures=dict(failures))
                for name, values in (('stock', stock), ('traced', traced))]
        samples = [{'pause': 0.001 * step, 'blocks': 5,
                    'tracer': {'memory': size, 'nodes': 7}}
                   for step, size in enumerate(memory)]
        return self.report.Figures(options, 60.0, pair, samples,
                                   array.array('d', [0.0]), [[1024], [2048]],
                                   [0.1, 0.2], 0.3)

    def test_percentile(self):
        values = list(range(1, 1001))
        found = [self.report.percentile(reversed(values), percent)
                 for percent in (50.0, 99.0, 99.9)]
        self.assertEqual(found, [500, 990, 999])
        self.assertEqual(self.report.percentile([7.0], 50.0), 7.0)

    def test_kept_bounds(self):
        stock = [0.010] * 980 + [0.100] * 20
        traced = [0.011] * 980 + [0.120] * 20
        figures = self.figures(stock, traced, [1000] * 60)
        self.assertEqual(figures.missed(), [])
        self.assertIn('50th percentile, ms            10.00     11.00    1.10',
                      figures.table())
        self.assertIn('99th percentile, ms           100.00    120.00    1.20',
                      figures.table())

    def test_missed_latencies(self):
        stock = [0.010] * 1000
        for slow, missed in ((600, ['50th', '99th', '99.9th']),
                             (30, ['99th', '99.9th']), (5, ['99.9th']),
                             (1, [])):
            traced = [0.010] * (1000 - slow) + [0.016] * slow
            lines = self.figures(stock, traced, [1000] * 60).missed()
            self.assertEqual([line.split()[1] for line in lines], missed)

    def test_growth(self):
        stock = [0.010] * 1000
        # What comes before the end of the first sixth does not count.
        memory = [10] * 10 + [1000] * 30 + [1019] * 20
        self.assertEqual(self.figures(stock, stock, memory).missed(), [])
        memory = [1000] * 30 + [1021] * 30
        line, = self.figures(stock, stock, memory).missed()
        self.assertEqual(line, 'the memory of the tracer grew by 2.1%, '
                               'over 2%')

    def test_failures(self):
        stock = [0.010] * 1000
        lines = self.figures(stock, stock, [1000] * 60,
                             {'status 500': 3}).missed()
        self.assertEqual(lines, ['stock: 3 requests: status 500',
                                 'traced: 3 requests: status 500'])


class LoadTests(unittest.TestCase):

    def setUp(self):
        self.load = load_tool('load')

    def test_answer(self):
        whole = b'HTTP/1.1 200 OK\r\nContent-length: 3\r\n\r\nabc'
        for end in range(len(whole)):
            self.assertIsNone(self.load.answer_status(whole[:end]))
        self.assertEqual(self.load.answer_status(whole), 200)

    def test_requests_repeat(self):
        one, two = (self.load.requests(3) for _ in range(2))
        kinds = set()
        for _ in range(1000):
            request = next(one)
            self.assertEqual(request, next(two))
            kinds.add(request.split()[1].split(b'/')[1])
            head, _, body = request.partition(b'\r\n\r\n')
            self.assertIn(b'Content-Length: %d' % len(body), head)
        self.assertEqual(kinds, {b'product', b'page', b'order', b'search',
                                 b'report'})


@requires_subprocess()
@unittest.skipUnless((LONGRUN / 'run.py').is_file(), 'needs the repository')
class RunTests(unittest.TestCase):

    def setUp(self):
        heed_signals(self)
        self.interpreters = ['--stock', sys.executable,
                             '--ours', sys.executable]
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.temporary = pathlib.Path(folder)

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, LONGRUN / 'run.py', *self.interpreters,
             *arguments], env=os.environ | {'TMPDIR': str(self.temporary)},
            text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def children(self, process):
        path = f'/proc/{process.pid}/task/{process.pid}/children'
        return pathlib.Path(path).read_text().split()

    def test_some_seconds(self):
        folder = packages()
        for server, kind in (('aiohttp', 'blocks'), ('wsgi', 'sums')):
            with self.subTest(server):
                process = self.start('--server', server, '--minutes', '0.1',
                                     '--rate', '20', '--snapshots', kind,
                                     '--folder', folder)
                out, err = process.communicate()
                self.assertNotIn('Traceback', err)
                # On a busy machine a bound may be missed, and that is said.
                self.assertEqual(process.returncode,
                                 int('run.py: missed: ' in err), err)
                self.assertIn('99.9th percentile, ms', out)
                found = json.loads((folder / f'{server}.json').read_text())
                for target in found['targets'].values():
                    self.assertEqual(target['failures'], {})
                    self.assertGreater(target['requests'], 60)
                self.assertGreater(found['tracer']['snapshots'], 3)
                self.assertGreater(found['tracer']['nodes'], 50_000)
                self.assertEqual(found['tracer']['blocks'] > 50_000,
                                 kind == 'blocks')
                self.assertEqual((folder / f'{server}.txt').read_text(), out)

    def test_with_a_collector(self):
        done = subprocess.run(
            [sys.executable, LONGRUN / 'scrape.py', '--ours', sys.executable,
             '--minutes', '0.2', '--every', '3', '--folder', packages()],
            env=os.environ | {'TMPDIR': str(self.temporary)}, text=True,
            capture_output=True)
        self.assertNotIn('Traceback', done.stderr)
        self.assertEqual(done.returncode,
                         int('scrape.py: missed: ' in done.stderr), done)
        self.assertNotIn('missed: a profile', done.stderr)
        self.assertRegex(done.stdout, r'99th percentile, ms +[\d.]+ +[\d.]+ ')
        self.assertRegex(done.stdout, r'\n[1-9] profiles, each in \d')

    def test_signals_end_the_services(self):
        folder = packages()
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143),
                               (signal.SIGKILL, -signal.SIGKILL)):
            process = self.start('--folder', folder)
            try:
                while len(self.children(process)) < 2:
                    self.assertIsNone(process.poll())
                services = self.children(process)
                process.send_signal(number)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
                process.communicate()
            self.assertEqual((process.returncode, out, err), (status, '', ''))
            if number != signal.SIGKILL:
                self.assertEqual(list(self.temporary.iterdir()), [])
            for pid in services:
                for _ in support.sleeping_retry(support.SHORT_TIMEOUT):
                    if not self.is_service(pid):
                        break

    def test_interrupt_prints_what_was_measured(self):
        folder = packages()
        process = self.start('--folder', folder, '--rate', '20')
        try:
            while not all(self.orders(name) for name in ('stock', 'traced')):
                self.assertIsNone(process.poll())
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        self.assertEqual(process.returncode, 130, err)
        self.assertNotIn('Traceback', err)
        self.assertRegex(out, r'^aiohttp, 0\.\d+ minutes, 20 requests a second')

    def orders(self, name):
        """How many orders the service has answered."""
        for path in self.temporary.rglob(f'{name}.sqlite'):
            with contextlib.closing(sqlite3.connect(path)) as base:
                try:
                    return base.execute(
                        'SELECT count(*) FROM orders').fetchone()[0]
                except sqlite3.OperationalError:    # no table yet
                    pass
        return 0

    def is_service(self, pid):
        try:
            line = pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
        except OSError:
            return False
        return b'_service.py' in line

    def test_service_that_does_not_start(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            servers = load_tool('servers')
            place = folder / 'environment'
            (place / 'lib' / 'python3' / 'site-packages').mkdir(parents=True)
            (place / 'installed').write_text(
                f'{sys.executable}\n{servers.REQUIREMENTS.read_text()}')
            process = self.start('--folder', folder)
            out, err = process.communicate()
        self.assertEqual((process.returncode, out), (1, ''))
        self.assertEqual(err, 'run.py: stock: the service did not start: '
                              "ModuleNotFoundError: No module named "
                              "'aiohttp'\n")

    def test_bad_options(self):
        for arguments, message in (
                (['--minutes', '0'], '0 is not between 0.05 and 1440'),
                (['--minutes', '9e9'], 'is not between'),
                (['--rate', '1e6'], 'is not between 1 and 2000'),
                (['--server', 'x'], "invalid choice: 'x'"),
                (['--frames', '0'], "'0' is no depth"),
                (['--stock', 'nowhere'], 'no interpreter at nowhere')):
            with self.subTest(arguments):
                process = self.start(*arguments)
                out, err = process.communicate()
                self.assertEqual((process.returncode, out), (2, ''))
                self.assertIn(message, err)


if __name__ == '__main__':
    unittest.main()
