"""A process that is looked at by its socket, or over HTTP, beside one that is
not.

Looked at each 100 ms for a minute if PYTRACEMALLOC_SLOW=1, else some times in a
row.  What the program allocates depends on nothing but its input.
"""

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import unittest
import urllib.request

from pytracemalloc.client import Client
from test.test_pytracemalloc.helpers import (
    DEBUG_HOOKS, FLAVOUR, HEAPS_OF_THREADS, SANITIZED, SLOW, WORK_WHEN_TOLD)

LOOKS = 600 if SLOW else 24
PROFILES = 60 if SLOW else 5
INTERVAL = 0.1 if SLOW else 0     # seconds

PROGRAM = '''
import gc, os, tracemalloc
gc.disable()

def deep(n, i):
    return deep(n - 1, i) if n else [i, {i: str(i)}, bytearray(20)]

def work(n):
    for i in range(n):
        kept.append([i, float(i), {i: str(i)}, bytearray(i), deep(i % 40, i)])
        temporary = [bytearray(900), {i}, "a" * i]
    del kept[::2]

kept = []
base = [deep(i % 50, i) for i in range(200_000)]
''' + WORK_WHEN_TOLD
QUERIES = 'heap', 'allocs', 'heap?seconds=1'
KEYS = 'lineno', 'traceback', 'type', 'function', 'type+lineno', 'domain'
# What the interpreter's cache of attributes alone has kept since start-up.
CACHED = 8000


def resident_memory(process):
    with open(f'/proc/{process}/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@unittest.skipIf(FLAVOUR == 'ignore', 'what was on a free list is traced')
class LookingTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'seen.tracemalloc')

    def run_program(self, limit, look):
        """Return what the program says, its resident memory, and the peak
        before and after all looks of the second half."""
        socket = os.path.join(self.directory, 'c.sock')
        with subprocess.Popen(
                [sys.executable, f'-Xtracemalloc={limit}',
                 f'-Xtracemalloc_control={socket}', '-c', PROGRAM], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | {'PYTHONHASHSEED': '0'}) as process:
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), 'ready\n')
            with Client(socket) as client:
                for number in range(LOOKS):
                    if look:
                        look(client, number)
                        time.sleep(INTERVAL)
                    process.stdin.write('200')
                    process.stdin.flush()
                    self.assertEqual(process.stdout.readline(), 'done\n')
                resident = resident_memory(process.pid)
                peaks = [self.peak(client) for _ in range(2)]
            said = process.communicate()[0].splitlines()
        self.assertEqual(process.returncode, 0)
        return said, resident, peaks

    def run_http(self, looks):
        """Return what a program says whose profile is asked for, and its
        resident memory."""
        serve = ('from pytracemalloc import http\n'
                 'server = http.serve()\nprint(server.url, flush=True)\n')
        with subprocess.Popen(
                [sys.executable, '-Xtracemalloc=25', '-c',
                 serve + PROGRAM], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | {'PYTHONHASHSEED': '0'}) as process:
            self.addCleanup(process.kill)
            url = process.stdout.readline().strip()
            self.assertEqual(process.stdout.readline(), 'ready\n')
            for _ in range(PROFILES):
                for query in QUERIES if looks else ():
                    with urllib.request.urlopen(
                            f'{url}debug/pprof/{query}') as answer:
                        self.assertEqual(answer.read(2), b'\x1f\x8b')
                process.stdin.write('200')
                process.stdin.flush()
                self.assertEqual(process.stdout.readline(), 'done\n')
            resident = resident_memory(process.pid)
            said = process.communicate()[0].splitlines()
        self.assertEqual(process.returncode, 0)
        return said, resident

    def test_profiles_change_nothing(self):
        alone, resident = self.run_http(False)
        seen, resident_seen = self.run_http(True)
        self.compare(seen, alone)
        self.compare_resident(resident_seen, resident)

    def look(self, client, number):
        client.ask('status')
        client.ask('statistics', key=KEYS[number % len(KEYS)])
        client.ask('native')
        if number % 10 == 0:
            client.ask('snapshot', path=self.path, force=True)
        elif number % 10 == 5:    # as often as top asks for them
            client.ask('arenas')
            client.ask('peaks')
            client.ask('rss')

    def peak(self, client):
        """The report of the peak, before and after more looks."""
        client.ask('snapshot', path=self.path, force=True)
        snapshot = tracemalloc.Snapshot.load(self.path)
        for number in range(len(KEYS)):
            self.look(client, number)
        return snapshot.traced_memory[1], [
            (stat.traceback, stat.peak_size, stat.peak_count)
            for stat in snapshot.statistics('traceback', order='peak_size')]

    def test_nothing_changes(self):
        for limit in ('1', '25') if SLOW else ('25',):
            with self.subTest(limit=limit):
                alone, resident, _ = self.run_program(limit, None)
                seen, resident_seen, peaks = self.run_program(limit, self.look)
                self.compare(seen, alone)
                self.assertEqual(*peaks)
                self.compare_resident(resident_seen, resident)

    def compare_resident(self, seen, alone):
        if SLOW:
            print(f'{self.id()}: {alone} and {seen} bytes resident')
        if not DEBUG_HOOKS and not SANITIZED:
            self.assertLess(seen, alone * 1.01 + HEAPS_OF_THREADS)
            self.assertGreater(seen, alone * 0.99)

    def compare(self, seen, alone):
        self.assertGreater(len(seen), PROFILES)
        lost = 0
        for new, old in zip(seen, alone, strict=True):
            *new, new_size, new_count = map(int, new.split())
            *old, old_size, old_count = map(int, old.split())
            self.assertEqual((new_size, new_count), (old_size, old_count))
            # What leaves a cache is freed a moment sooner, or later.
            lost += max(abs(a - b) for a, b in zip(new, old))
        self.assertLess(lost, CACHED)


if __name__ == '__main__':
    unittest.main()
