"""Collapsed stacks beside those of CPython's sampling profiler (3.15): what
takes memory has the names of what takes time."""

import re
import subprocess
import sys
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command

PROGRAM = '''\
import time
kept = []

class Store:
    def work(self, until):
        while time.perf_counter() < until:
            kept.append([bytes(100)])
            del kept[1000:]

def main():
    Store().work(time.perf_counter() + 1)
    (lambda: Store().work(time.perf_counter() + 1))()

main()
'''
# Of the thread, and of what runs the program for the profiler.
BELOW = re.compile(r'^tid:\d+;(<frozen runpy>[^;]*;)*')
STACKS = {
    'app.py:<module>:14;app.py:main:11;app.py:Store.work:7',
    'app.py:<module>:14;app.py:main:12;app.py:main.<locals>.<lambda>:12;'
    'app.py:Store.work:7'}


@unittest.skipIf(sys.version_info < (3, 15),
                 'profiling.sampling is new in 3.15')
class SideBySideTest(CommandCase):
    def stacks(self, path, below=re.compile('')):
        with open(path) as file:
            return {below.sub('', line.rpartition(' ')[0]) for line in file}

    def test_names_are_the_same(self):
        path = self.write('app.py', PROGRAM)
        sampled = subprocess.run(
            [sys.executable, '-m', 'profiling.sampling', 'run', '--collapsed',
             '-o', 'time.collapsed', path], capture_output=True, text=True,
            timeout=120)
        if 'ermission' in sampled.stderr:
            self.skipTest('may not look into other processes')
        self.assertEqual(sampled.returncode, 0, sampled.stderr)
        command('run', '-q', '-n', 'full', '-o', 'app.tracemalloc', path,
                check=True)
        self.ok('report', 'app.tracemalloc', '--unfold', '--what',
                'total', '-o',
                'memory.collapsed')
        both = (self.stacks('time.collapsed', BELOW)
                & self.stacks('memory.collapsed'))
        self.assertLessEqual(STACKS, both)


if __name__ == '__main__':
    unittest.main()
