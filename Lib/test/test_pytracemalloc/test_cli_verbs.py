"""Verbs on programs that run: status, start, stop, reset-peak, snapshot."""

import json
import os
import re
import sys
import tracemalloc
import unittest

from pytracemalloc.client import Client
from test.test_pytracemalloc.test_remote import (BUSY, RemoteCase,
                                                 skip_without_right)

# Allocates a megabyte for each line that it reads, and lets go of all.
PEAKS = '''
import sys
print('ready', flush=True)
for line in sys.stdin:
    kept = bytes(int(line))
    del kept
    print('done', flush=True)
'''


class VerbCase(RemoteCase):
    """Of a program with a control socket; RemoteVerbTest: without."""

    def setUp(self):
        super().setUp()
        self.process = self.launch(BUSY, *self.options)
        self.target = str(self.process.pid)

    def documents(self, *args):
        return [json.loads(line) for line
                in self.ok(*args, '--json').splitlines()]


class VerbTest(VerbCase):
    options = ['-Xtracemalloc_control=c.sock']

    def test_from_start_to_stop(self):
        pid = self.target
        self.assertRegex(
            self.ok('status', pid),
            rf'\AProcess {pid}: \S+ .*-c .*\n'
            rf'Not traced; start it with: pytracemalloc start {pid}\n'
            r'Process memory: [\d.]+ MiB, tracer: .*\n\Z')
        self.refused(1, f'process {pid} is not traced; start it with',
                     'reset-peak', pid)
        self.assertEqual(self.ok('stop', pid),
                         f'Process {pid} was not traced\n')
        self.assertEqual(self.ok('start', pid),
                         f'Process {pid} is traced now, all frames\n')
        self.assertRegex(self.ok('status', pid),
                         r'\nTraced: [\d.]+ \w+ live, [\d.]+ \w+ at the peak, '
                         r'all frames\n')
        self.assertRegex(self.ok('reset-peak', pid),
                         rf'\AProcess {pid}: the peak was [\d.]+ \w+, and '
                         r'begins again at [\d.]+ \w+\n\Z')
        self.assertRegex(self.ok('stop', pid),
                         rf'\AProcess {pid} is not traced any more; it had '
                         r'[\d.]+ \w+ live, [\d.]+ \w+ at the peak\n\Z')
        self.assertIn('Not traced', self.ok('status', pid))
        self.ok('start', pid, '-n', '1')
        self.assertIn(', 1 frame (all: -X tracemalloc=full)\n',
                      self.ok('status', pid))
        self.end(self.process)

    def test_json(self):
        keys = {'format', 'version', 'pid', 'argv', 'timestamp', 'tracing',
                'traceback_limit', 'traced_memory', 'peak_memory',
                'tracer_memory', 'process_memory'}
        for command, tracing in (('status', False), ('start', True),
                                 ('reset-peak', True), ('status', True),
                                 ('stop', False)):
            with self.subTest(command):
                [document] = self.documents(command, self.target)
                self.assertEqual(document.keys(), keys)
                self.assertEqual(
                    (document['format'], document['pid'],
                     document['tracing'], document['argv'][0]),
                    ('pytracemalloc status', self.process.pid, tracing,
                     sys.executable))
        [document] = self.documents('start', self.target, '--socket', 'n.sock')
        self.assertEqual(document['socket'], os.path.abspath('n.sock'))
        [document] = self.documents('snapshot', self.target, '-o', 'a')
        self.assertEqual(
            document, {'format': 'pytracemalloc snapshot', 'version': 1,
                       'pid': self.process.pid, 'file': os.path.abspath('a'),
                       'size': os.path.getsize('a')})
        tracemalloc.Snapshot.load('a')
        self.end(self.process)


@unittest.skipUnless(hasattr(sys, 'remote_exec'),
                     'sys.remote_exec() is new in 3.14')
class RemoteVerbTest(VerbTest):
    options = []

    def setUp(self):
        skip_without_right(self)
        super().setUp()


class PeakTest(RemoteCase):
    def test_the_peak_begins_again(self):
        process = self.launch(PEAKS, '-Xtracemalloc=5',
                              '-Xtracemalloc_control=c.sock')

        def peak(size):
            process.stdin.write(f'{size}\n')
            process.stdin.flush()
            self.assertEqual(process.stdout.readline(), 'done\n')
            with Client('c.sock') as client:
                return client.ask('status')['peak']

        self.assertGreater(peak(5_000_000), 5_000_000)
        self.assertGreater(peak(1_000_000), 5_000_000)
        self.ok('reset-peak', 'c.sock')
        self.assertLess(peak(1_000_000), 5_000_000)
        self.assertGreater(peak(2_000_000), 2_000_000)


class DirectoryTest(RemoteCase):
    def test_all_of_them(self):
        processes = [self.launch(BUSY, '-Xtracemalloc_control=.')
                     for _ in range(2)]
        pids = {process.pid for process in processes}
        for command, said in (('start', 'is traced now'),
                              ('status', r'\nTraced: '),
                              ('reset-peak', 'begins again at'),
                              ('stop', 'is not traced any more'),
                              ('status', r'\nNot traced; ')):
            with self.subTest(command):
                output = self.ok(command, '.')
                self.assertEqual(
                    {*map(int, re.findall(r'(?m)^Process (\d+)\b', output))},
                    pids)
                self.assertEqual(len(re.findall(said, output)), 2)
                lines = self.ok(command, '.', '--json').splitlines() \
                    if command != 'reset-peak' else []
                self.assertLessEqual({json.loads(line)['pid']
                                      for line in lines}, pids)
        document = json.loads(self.ok('top', '.', '--json'))
        self.assertIsNone(document['pid'])
        self.assertEqual({each['pid'] for each in document['processes']},
                         pids)
        for process in processes:
            self.end(process)

    def test_nobody_there(self):
        for command in 'status', 'start', 'stop', 'reset-peak':
            self.refused(1, 'no program has a control socket there', command,
                         '.')
            self.refused(1, 'no such socket', command, 'nothing.sock')
            self.refused(2, 'the following arguments are required', command)


if __name__ == '__main__':
    unittest.main()
