"""Profiles that another process makes."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
import unittest.mock
import urllib.request

from pytracemalloc import apart, http
from pytracemalloc.reporters import pprof
from pytracemalloc.tree import Tree
from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.test_pprof import Profile

# Counts what a program sees of its children while its profile is asked for.
WATCH = '''
import os, signal, sys, threading, tracemalloc, urllib.request
from pytracemalloc import http
signals = []
signal.signal(signal.SIGCHLD, lambda *args: signals.append(args))
tracemalloc.start(5)
server = http.serve()
kept = [bytes(100) for i in range(10_000)]
answers = []

def ask():
    for _ in range(3):
        with urllib.request.urlopen(server.url + 'debug/pprof/heap') as file:
            answers.append(len(file.read()))

thread = threading.Thread(target=ask)
thread.start()
seen = 0
while thread.is_alive():
    try:
        os.waitpid(-1, os.WNOHANG)
        seen += 1
    except ChildProcessError:
        pass
    thread.join(0.001)
print(server._apart, seen, len(signals), len(answers), min(answers) > 1000)
'''


def sites(number):
    return [bytes(number) for _ in range(50)]


@unittest.skipUnless(apart.is_possible(), 'no Python to run')
class ApartTest(unittest.TestCase):

    def here(self, new, old, default, seconds):
        tree = (Tree.from_difference(old, new) if old
                else Tree.from_snapshot(new))
        return pprof.encode(tree, default, new.timestamp, seconds,
                            subtract=old is not None)

    def test_the_same_profile(self):
        with Tracing(10):
            first = sites(1000)
            old = tracemalloc.take_snapshot(traces=False)
            second = sites(2000)
            new = tracemalloc.take_snapshot()
        for arguments in ((new, None, 'inuse_space', 0),
                          (new, None, 'alloc_space', 0),
                          (new, old, 'inuse_space', 3)):
            with self.subTest(arguments=arguments[1:]):
                profile = apart.encode(*arguments)
                self.assertEqual(Profile(profile).samples,
                                 Profile(self.here(*arguments)).samples)
                self.assertEqual(profile, self.here(*arguments))
        del first, second

    def test_no_child_of_the_program(self):
        done = subprocess.run([sys.executable, '-c', WATCH], text=True,
                              capture_output=True, timeout=120)
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.stdout.split(),
                         ['True', '0', '0', '3', 'True'])

    def test_files_of_the_program(self):
        """They are not open there, whether they are inherited or not."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'python')
            with open(path, 'w') as file:
                file.write(f'#!/bin/sh\nls -l /proc/$$/fd >{directory}/fds\n')
            os.chmod(path, stat.S_IRWXU)
            number = os.open(path, os.O_RDONLY)
            self.addCleanup(os.close, number)
            os.set_inheritable(number, True)
            with unittest.mock.patch.object(sys, 'executable', path), \
                    Tracing():
                snapshot = tracemalloc.take_snapshot()
                self.assertIsNone(apart.encode(snapshot, None,
                                               'inuse_space', 0))
            with open(f'{directory}/fds') as file:
                files = [line.split()[-1] for line in file
                         if 'memfd' in line]
                file.seek(0)
                self.assertNotIn(f' {number} -> {path}', file.read())
            self.assertEqual(len(files), 2)

    def test_ignored_signals_stay_so(self):
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGCHLD, before)
        with Tracing():
            snapshot = tracemalloc.take_snapshot()
            self.assertIsNotNone(apart.encode(snapshot, None,
                                              'inuse_space', 0))

    def test_where_there_is_no_python(self):
        """The profile is made here."""
        with tempfile.TemporaryDirectory() as directory:
            other = os.path.join(directory, 'server')
            broken = os.path.join(directory, 'python3')
            for path in other, broken:
                with open(path, 'w') as file:
                    file.write('#!/bin/sh\nexit 3\n')
                os.chmod(path, stat.S_IRWXU)
            for path in '', other, broken, os.path.join(directory, 'python'):
                with self.subTest(path=path), \
                        unittest.mock.patch.object(sys, 'executable', path), \
                        Tracing():
                    server = http.serve()
                    self.addCleanup(server.close)
                    self.assertEqual(server._apart, path == broken)
                    with urllib.request.urlopen(
                            server.url + 'debug/pprof/heap') as answer:
                        self.assertGreater(
                            len(Profile(answer.read()).samples), 0)
                    self.assertFalse(server._apart)
        urllib.request.urlcleanup()


if __name__ == '__main__':
    unittest.main()
