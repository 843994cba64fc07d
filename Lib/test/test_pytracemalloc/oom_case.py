"""Programs that run out of memory, and what they must have written then."""

import os
import subprocess
import sys
import textwrap
import unittest
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.helpers import FREE_THREADED, SANITIZED
from test.test_pytracemalloc.kept_programs import line_of

from pytracemalloc import failed, kept

# What a program may have beyond what it has, and what it counts.
PRELUDE = '''\
import ctypes, os, resource, sys, threading, time, _tracemalloc, tracemalloc
def limit(mib, what=resource.RLIMIT_AS):
    with open('/proc/self/statm') as file:
        pages = file.read().split()[0 if what == resource.RLIMIT_AS else 5]
    size = int(pages) * resource.getpagesize() + (mib << 20)
    resource.setrlimit(what, (size, size))
zero = bytes(1)
EXTRA = bytes(0).__sizeof__()
live = [None] * 2_000_000
count = 0
'''
# One block a line, and no other.
FILL = '''
def fill(size):
    global count
    for i in range(len(live)):
        live[i] = zero * size           # the line
        count += 1
'''
HUGE = 1 << 50
MIB = 1 << 20
# More than mimalloc has reserved for itself, which is 1 GiB.
LARGE = (1200 if FREE_THREADED else 150) * MIB


@unittest.skipIf(SANITIZED, 'its memory has no limit')
class OomCase(CommandCase):
    def run_program(self, text, *options, limit='10', file='app.oom',
                    **arguments):
        text = PRELUDE + textwrap.dedent(text)
        self.line = 1 + next((
            number for number, line in enumerate(text.split('\n'))
            if '# the line' in line), 0)
        with open('app.py', 'w') as app:
            app.write(text)
        arguments = {'capture_output': True, 'text': True,
                     'timeout': 120} | arguments
        return subprocess.run(
            [sys.executable, '-X', f'tracemalloc={limit}', '-X',
             f'tracemalloc_oom={file}', *options, 'app.py'], **arguments)

    def load(self, path='app.oom'):
        """Return the snapshot, and what is known of the request."""
        snapshot, known = kept.load(path)
        self.assertFalse(known['runs'])
        self.assertFalse(known['incomplete'])
        return snapshot, snapshot.metadata[failed.KEY]

    def check(self, result, status=0, path='app.oom'):
        self.assertEqual((result.returncode, result.stderr), (status, ''))
        return self.load(path)

    def check_stack(self, request, *expected):
        """The newest functions of the stack; all are of app.py."""
        stack = request['stack']
        self.assertEqual([frame['function'] for frame in stack],
                         list(expected))
        for frame in stack:
            self.assertTrue(frame['filename'].endswith('app.py'))

    def live_at(self, snapshot):
        return line_of(snapshot, os.path.abspath('app.py'), self.line)
