"""pprof profiles in Go's own tools: totals, labels, differences."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
import unittest
import urllib.request
from pathlib import Path

from pytracemalloc.reporters import Subject
from pytracemalloc.reporters.pprof import PprofReporter
from test.test_pytracemalloc import support
from test.test_pytracemalloc.go import HAS_GO, Program, Web, pprof
from test.test_pytracemalloc.native_frames_case import (
    FramesCase, compile_library)

COLUMNS = (('inuse_space', 0), ('inuse_objects', 1), ('alloc_space', 2),
           ('alloc_objects', 3))


def total(output):
    """Return (what is shown, of what) of a report of pprof."""
    shown, of = re.search(r'accounting for (-?\d+)B?, .* of (\d+)B? total',
                          output).groups()
    return int(shown), int(of)


def rows(output):
    """{function: (flat, cumulative)} of pprof -top."""
    return {name: (int(flat), int(cumulative)) for flat, cumulative, name in
            re.findall(r'^ *(-?\d+)B? +\S+ +\S+ +(-?\d+)B? +\S+  (.+)$',
                       output, re.MULTILINE)}


def tags(output):
    """{label: value} of pprof -tags, which old versions give a fraction."""
    return {name: int(value) for value, name in
            re.findall(r'^ *(\d+)(?:\.0)?B \(.*?\): (.+)$', output,
                       re.MULTILINE)}


@unittest.skipUnless(HAS_GO, 'needs go')
class NativeTest(FramesCase):
    """C frames: mappings of their files, which Go's tool looks into."""

    def record(self):
        """Return the path of a library, and of a snapshot in which it has
        memory."""
        library = compile_library(
            self.directory, 'six', '#include <stdlib.h>\n'
            '__attribute__((noinline)) static void *\n'
            'six(int n) { return malloc(n); }\n'
            'void *take(int n) { return six(n); }\n',
            '-Wl,--build-id', '-fno-optimize-sibling-calls', '-g')
        output = os.path.join(self.directory, 'x.tracemalloc')
        subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-q',
             '--native-frames', '5', '-o', output, '-c', 'import ctypes\n'
             f'kept = ctypes.CDLL({library!r}).take(2_000_003)\n'],
            check=True, stdin=subprocess.DEVNULL, capture_output=True)
        return library, output

    def report(self, snapshot):
        path = snapshot + '.pb.gz'
        subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'report', snapshot,
             '--format', 'pprof', '-o', path], check=True)
        return path

    def build_id(self, snapshot):
        trace, = (trace for trace in
                  tracemalloc.Snapshot.load(snapshot).traces
                  if trace.size == 2_000_003)
        return trace.traceback.native[-1].build_id

    def test_names(self):
        library, snapshot = self.record()
        profile = self.report(snapshot)
        raw = pprof('-raw', profile)
        self.assertRegex(
            raw, r'(?m)^\d+: 0x0/0xf+/0x0 '
            rf'{re.escape(library)} {self.build_id(snapshot)} \[FN\]')
        found = rows(pprof('-top', profile))
        self.assertEqual(found['six'], (2_000_003, 2_000_003))
        self.assertEqual(found['take'], (0, 2_000_003))
        self.assertRegex(pprof('-top', '-lines', profile),
                         r'six \S+/six\.c:3\n')

    @unittest.skipUnless(shutil.which('addr2line'), 'needs addr2line')
    def test_names_are_found_later(self):
        """By Go's tool, where the report was made without the library."""
        library, snapshot = self.record()
        os.rename(library, library + '.away')
        profile = self.report(snapshot)
        self.assertNotIn('six', rows(pprof('-top', profile)))
        os.rename(library + '.away', library)
        self.assertEqual(rows(pprof('-top', profile))['six'],
                         (2_000_003, 2_000_003))
        # Not those of another build.
        compile_library(self.directory, 'six', 'int six(void) { return 6; }',
                        '-Wl,--build-id')
        self.assertNotIn('six', rows(pprof('-top', profile)))


@unittest.skipUnless(HAS_GO, 'needs go')
class FileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())

    def profile(self, *snapshots):
        number, path = tempfile.mkstemp('.pb.gz', dir=self.directory)
        with open(number, 'wb') as file:
            PprofReporter().write(Subject(*snapshots), file)
        return path

    def test_totals(self):
        path = self.profile(support.Snapshot())
        for name, column in COLUMNS:
            with self.subTest(name):
                output = pprof('-top', f'-sample_index={name}', path)
                want = support.totals(support.NODES)[column]
                self.assertEqual(total(output), (want, want))
        output = pprof('-top', path)
        self.assertIn('Type: inuse_space', output)
        self.assertEqual(rows(output), {
            'Shop.load': (5007, 5007), '_run_code': (900, 900),
            '<module>': (100, 5107), 'main': (0, 5007)})

    def test_totals_of_a_real_program(self):
        path = os.path.join(self.directory, 'real.tracemalloc')
        subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-q', '-n', 'full',
             '-o', path, '-c', 'import json, threading\n'
             'kept = [{n: str(n)} for n in range(5000)]\n'
             'def work(): kept.append(bytearray(10**6))\n'
             't = threading.Thread(target=work); t.start(); t.join()'],
            check=True, stdin=subprocess.DEVNULL, capture_output=True)
        snapshot = tracemalloc.Snapshot.load(path)
        profile = self.profile(snapshot)
        nodes = snapshot.call_tree().nodes
        for name, column in COLUMNS:
            self.assertEqual(
                total(pprof('-top', '-nodecount=100000', '-nodefraction=0',
                            f'-sample_index={name}', profile))[1],
                sum(node[5 + column] for node in nodes), name)
        output = pprof('-top', '-tagfocus=type=bytearray', profile)
        self.assertGreaterEqual(rows(output)['work'][0], 10**6)
        self.assertIn('work', pprof('-tags', profile))

    def test_lines(self):
        output = pprof('-top', '-lines', self.profile(support.Snapshot()))
        self.assertEqual(rows(output)['Shop.load /app/shop.py:9'],
                         (2007, 2007))

    def test_types(self):
        path = self.profile(support.Snapshot())
        output = pprof('-top', '-tagfocus=type=dict', path)
        self.assertEqual(total(output), (2900, 6007))
        self.assertEqual(total(pprof('-top', '-tagignore=type=dict', path)),
                         (6007 - 2900, 6007))
        self.assertEqual(tags(pprof('-tags', path)), {
            'MainThread': 6007, 'dict': 2900, 'list': 2000, 'str': 900})

    def test_threads(self):
        path = self.profile(support.Snapshot(support.THREADS, ()))
        self.assertEqual(
            total(pprof('-top', '-tagfocus=thread=work', path)), (107, 1015))
        self.assertEqual(tags(pprof('-tags', path)),
                         {'MainThread': 900, 'work': 107})

    def test_difference(self):
        old = support.older()
        old.types = [(2, 'dict', 900, 9)]
        new = support.Snapshot()
        difference = self.profile(new, old)
        ours = pprof('-top', difference)
        theirs = pprof('-top', f'-diff_base={self.profile(old)}',
                       self.profile(new))
        self.assertEqual(total(ours), (6007 - 2613, 2613))
        self.assertEqual(total(ours), total(theirs))
        self.assertEqual(rows(ours), rows(theirs))
        self.assertEqual(rows(ours)['gone'], (-60, -60))
        based = pprof('-top', f'-base={self.profile(old)}', self.profile(new))
        self.assertEqual(rows(based), rows(ours))
        self.assertEqual(
            total(pprof('-top', '-tagfocus=type=dict', difference))[0],
            2900 - 900)

    def test_web(self):
        self.addCleanup(urllib.request.urlcleanup)
        path = self.profile(support.Snapshot())
        with Web(path) as url:
            def page(name):
                with urllib.request.urlopen(f'{url}/ui/{name}') as answer:
                    return answer.read().decode()

            for name, column in COLUMNS:
                top = page(f'top?si={name}')
                want, table = re.search(r'makeTopTable\( *(\d+) *, (\[.*\])\)',
                                        top).groups()
                self.assertEqual(int(want),
                                 support.totals(support.NODES)[column])
                self.assertEqual(sum(row['Flat'] for row in json.loads(table)),
                                 int(want))
            self.assertIn('Shop.load', page('flamegraph'))
            self.assertIn('2900B', page('peek?f=load&tf=type=dict'))

    def test_merge(self):
        merged = os.path.join(self.directory, 'merged.pb.gz')
        path = self.profile(support.Snapshot())
        pprof('-proto', f'-output={merged}', path, path)
        self.assertEqual(total(pprof('-top', merged)), (2 * 6007, 2 * 6007))


@unittest.skipUnless(HAS_GO, 'needs go')
class CollectorTest(unittest.TestCase):
    """Our endpoint, scraped by Go."""

    @classmethod
    def setUpClass(cls):
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        source = Path(__file__).with_name('collector.go').read_text()
        cls.collector = Program(source, directory)

    def setUp(self):
        # Blocks of many types come and go at the same lines.
        code = ('import itertools, time\n'
                'kept = []\n'
                'def churn():\n'
                '    for n in itertools.count():\n'
                '        kept.append({n: [str(n)]})\n'
                '        if n % 1000 == 999: time.sleep(.01); kept.clear()\n'
                'churn()')
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'serve', '-c', code],
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.url = re.search(r'http://\S+?/', process.stderr.readline())[0]

    def test_scrapes(self):
        for name, default in (('heap', 'inuse_space'),
                              ('allocs', 'alloc_space')):
            result = json.loads(self.collector.run(
                f'{self.url}debug/pprof/{name}'))
            with self.subTest(name, **result):
                self.assertEqual(result['default'], default)
                # Each stack is one sample, told apart by addresses alone,
                # known again in the next scrape.
                self.assertEqual(result['samples'], result['stacks'])
                self.assertEqual(result['samples'], result['names'])
                self.assertGreater(result['known'], result['samples'] // 2)
                self.assertEqual(result['shrunk'], [])
                self.assertEqual(result['merged'],
                                 list(map(sum, zip(*result['totals']))))
                self.assertEqual((result['period'], result['periodType']),
                                 (1, 'space'))
                self.assertAlmostEqual(result['time'] / 1e9, time.time(),
                                       delta=60)

    def test_pprof_reads_the_address(self):
        for name in 'heap', 'allocs':
            output = pprof('-top', f'{self.url}debug/pprof/{name}')
            self.assertIn('churn', output)
        output = pprof('-top', '-sample_index=alloc_space', '-seconds=1',
                       f'{self.url}debug/pprof/heap')
        self.assertIn('Duration: 1', output)
        self.assertIn('churn', output)


if __name__ == '__main__':
    unittest.main()
