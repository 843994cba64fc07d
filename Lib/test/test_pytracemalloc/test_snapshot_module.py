"""What looks at snapshots, built for CPython as it is, 3.11 or later: it finds
in a file what the interpreter that wrote the file finds."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import tracemalloc
from test.support import import_helper
from test.test_pytracemalloc.helpers import program

_testcapi = import_helper.import_module('_testcapi')

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
TOOL = TOP / 'Tools' / 'snapshot-module'
NAMES = [str(pathlib.Path(sys.executable).parents[1]
             / 'unpatched/obj/python'),
         *(f'python3.{minor}' for minor in range(11, 20)), 'python3',
         '/usr/bin/python3']
# Which interpreter is there, and whether it will do.
PROBE = '''
import _tracemalloc, os, sys, sysconfig
headers = {sysconfig.get_path('include'), sysconfig.get_path('platinclude')}
if (sys.version_info >= (3, 11) and not hasattr(_tracemalloc, 'measure')
        and any(os.path.exists(path + '/Python.h') for path in headers)):
    print(os.path.realpath(sys.executable))
'''
# All that can be found in a file, and a file that is written again.
READ = '''
import datetime, os, sys
folder, *names = sys.argv[1:]
if folder:
    sys.path.insert(0, folder)
import _tracemalloc_snapshot as module

def show(name, find, *args):
    try:
        found = find(*args)
        print(name, ascii(sorted(found, key=repr)
                          if isinstance(found, list) else found))
    except Exception as error:
        print(name, type(error).__name__, error)

KEYS = ('filename', 'lineno', 'function', 'traceback', 'type', 'type+lineno',
        'domain', 'address')
class Snapshot:
    state = None

class Traces(Snapshot):
    pass

for name in names:
    with open(name, 'rb') as file:
        image = file.read()
    if name.endswith('.pickle'):
        snapshot = module._read_pickle(image, (Snapshot, Traces,
                                               datetime.datetime))
        print(ascii(snapshot.state['traces'].state))
        continue
    try:
        traces, text, history = module._read_traces(image)
    except ValueError as error:
        print(error)
        continue
    print(text, len(traces), traces._has_blocks)
    for key in KEYS:
        for cumulative in range(2):
            for measure in range(8):
                show(key, traces._group, key, cumulative, measure)
    show('tree', traces._call_tree)
    show('arenas', traces._pinned_arenas, 1.0)
    show('order', traces._order_blocks)
    show('biggest', module._get_biggest_blocks, traces, 50)
    show('traces', traces.__getitem__, slice(None))
    files = traces._filenames()
    matches = bytes(file is not None and 'made' in file for file in files)
    for inclusive in range(2):
        for domain in None, 7:
            left = traces._filter(
                [(bool(inclusive), matches, -1, True, domain)])
            show('filter', left._group, 'lineno', 0, 0)
    again = module.Traces([(0, size, tuple((frame[0], frame[1])
                                           for frame in frames), total)
                           for domain, size, frames, total in traces])
    show('made', again._group, 'traceback', 0, 0)
    fd = os.memfd_create('again')
    traces._write(fd, text, history)
    assert os.pread(fd, len(image) + 1, 0) == image
'''


def find_stock():
    found = {}
    for name in filter(None, map(shutil.which, NAMES)):
        done = subprocess.run([name, '-I', '-c', PROBE], capture_output=True,
                              text=True)
        if done.returncode == 0 and done.stdout:
            found[done.stdout.strip()] = name
    return list(found.values())


def build(tool, python, folder):
    return subprocess.run([tool, python, folder], capture_output=True,
                          text=True, env=os.environ | {'CFLAGS': '-O0'})


def read(python, folder, files):
    done = subprocess.run([python, '-I', '-X', 'utf8', '-c', READ, folder,
                           *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@unittest.skipUnless(TOOL.is_file(), 'needs the repository')
class ModuleCase(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = directory.name

    def write(self, name, limit, **options):
        tracemalloc.start(limit)
        self.addCleanup(tracemalloc.stop)
        _testcapi.tracemalloc_track(7, 0x1000, 1 << 40)
        keep = program(20)
        exec(compile('keep.append([{i: (i,)} for i in range(99)])',
                     'made\udc80', 'exec'))
        gone = [program(5)]
        gone.append(gone)
        del gone
        snapshot = tracemalloc.take_snapshot(**options)
        tracemalloc.stop()
        path = os.path.join(self.folder, name)
        snapshot.dump(path)
        return path, snapshot

    def write_damaged(self, path):
        with open(path, 'rb') as file:
            image = file.read()
        for name, bad in (('cut', image[:-1]), ('other', b'x' * 99),
                          ('changed', image[:500] + b'\0' + image[501:])):
            path = os.path.join(self.folder, name)
            with open(path, 'wb') as file:
                file.write(bad)
            yield path


class StockTests(ModuleCase):

    def test_finds_the_same(self):
        pythons = find_stock()
        if not pythons:
            self.skipTest('no CPython of 3.11 or later here has its headers '
                          '(Debian: python3-dev)')
        path, snapshot = self.write('full', 'full')
        pickled = os.path.join(self.folder, 'x.pickle')
        snapshot.dump(pickled, 'pickle')
        files = [path, pickled, *self.write_damaged(path),
                 self.write('frames', 3)[0],
                 self.write('sums', 5, traces=False)[0]]
        ours = read(sys.executable, '', files)
        sizes = [line for line in ours if line.startswith('lineno ')]
        number, rows = eval(sizes[0].partition(' ')[2],
                            {'_tracemalloc': Frames})
        self.assertEqual(number, len(rows))
        self.assertEqual(sum(row[2] for row in rows),
                         snapshot.traced_memory[0])
        self.assertEqual({(row[0][0], row[0][1]): row[2] for row in rows},
                         {(stat.traceback[0].filename,
                           stat.traceback[0].lineno): stat.size
                          for stat in snapshot.statistics('lineno')})
        for python in pythons:
            with self.subTest(python):
                done = build(TOOL, python, self.folder)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertEqual(read(python, self.folder, files), ours)


class Frames:
    """FrameInfo as its repr() has it."""

    @staticmethod
    def FrameInfo(filename, lineno, **more):
        return filename, lineno


class BuildTests(ModuleCase):

    def test_other_build_is_refused(self):
        top = pathlib.Path(self.folder, 'top')
        for path in TOOL, TOOL.with_name('common.sh'):
            (top / 'Tools').mkdir(parents=True, exist_ok=True)
            shutil.copy(path, top / 'Tools')
        shutil.copytree(TOP / 'Modules/_snapshot', top / 'Modules/_snapshot')
        header = 'Include/internal/pycore_tracer_snapshot.h'
        (top / header).parent.mkdir(parents=True)
        for name in 'graph.h', 'kept.h':
            other = header.replace('snapshot.h', name)
            shutil.copy(TOP / other, top / other)
        text = (TOP / header).read_text()
        name, = re.findall('"(tracemalloc snapshot [1-9][0-9]*)"', text)
        (top / header).write_text(text.replace(name, 'tracemalloc snapshot 0'))
        done = build(top / 'Tools/snapshot-module', sys.executable,
                     self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        done = subprocess.run(
            [sys.executable, '-c', 'import _tracemalloc_snapshot'],
            env=os.environ | {'PYTHONPATH': self.folder},
            capture_output=True, text=True)
        self.assertEqual(done.stderr.splitlines()[-1],
                         'ImportError: _tracemalloc_snapshot is of another '
                         'build than this interpreter (tracemalloc snapshot '
                         f'0, not {name}): install both from one build')

    def names(self):
        """Names that the module of our interpreter looks for in others."""
        import _tracemalloc_snapshot
        done = subprocess.run(['nm', '-Du', _tracemalloc_snapshot.__file__],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [line.split()[-1].partition('@')[0]
                for line in done.stdout.splitlines()]

    def test_needs_nothing_of_the_tracer(self):
        self.assertIn('PyCapsule_GetPointer', self.names())
        self.assertNotRegex(' '.join(self.names()),
                            '_PyTracer|_PySnapshot|_PyTraceM')

    def test_glib_never_ends_the_process(self):
        """As many of its functions do where there is no memory."""
        names = {name for name in self.names() if name.startswith('g_')}
        self.assertIn('g_utf8_validate_len', names)
        self.assertLessEqual({name for name in names
                              if not name.startswith('g_try_')},
                             {'g_free', 'g_random_int', 'g_utf8_validate_len'})

    def test_wrong_interpreters(self):
        old = os.path.join(self.folder, 'old')
        with open(old, 'w') as file:
            file.write('#!/bin/sh\necho "it is older than CPython 3.11" >&2\n'
                       'exit 1\n')
        os.chmod(old, 0o755)
        for python in old, '/nonexistent':
            done = build(TOOL, python, self.folder)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr.splitlines()[-1],
                             f'^pytracemalloc: error: {python} cannot have '
                             f'the module')


if __name__ == '__main__':
    unittest.main()
