"""Tests of the wheel that `make wheel` has built.

    check.py BUILD [TEST...]

It is installed for each stock CPython, from 3.11 on, that is found here or
named in STOCK, a list of programs.  There, each command of the tables below
says of files that our interpreter has recorded what that one says, byte for
byte.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import unittest
import zipfile

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
DIST = BUILD / 'wheel' / 'dist'
TOP = pathlib.Path(__file__).resolve().parents[2]
NAMES = [*os.environ.get('STOCK', '').split(),
         str(BUILD / 'unpatched/obj/python'),
         *(f'python3.{minor}' for minor in range(11, 20)), 'python3',
         '/usr/bin/python3']
PROBE = '''
import _tracemalloc, os, sys, sysconfig
if (sys.version_info >= (3, 11) and not hasattr(_tracemalloc, 'measure')
        and not sysconfig.get_config_var('Py_GIL_DISABLED')):
    print('%s.%s' % sys.version_info[:2], os.path.realpath(sys.executable))
'''
MAIN = '''\
import sys

from pytracemalloc.cli import main

sys.exit(main())
'''
APP = '''\
import json
import sys


class Basket:
    def __init__(self, number):
        self.items = json.loads('{"a": [1, 2, %d]}' % number)


CATALOGUE = {number: Basket(number) for number in range(int(sys.argv[1]))}
if sys.argv[2:]:
    print('ready', flush=True)
    sys.stdin.read()
'''
# Commands that print, and those that write the file `out`.
PRINTED = '''\
report monday
report monday --by type --what count
report monday --by traceback --top 3
report monday --by task
report monday --by module --what peak --cumulative
report monday --by holder
report monday --json
report monday --format csv
report monday --format collapsed
report friday --by type --what retained
report friday --by holder --top 40
report friday --my-code
report native --by domain
report monday friday
report stock.pickle
report monday --what peak --fail-above 1KiB
report killed.kept
report nothing
report damaged
report newer
diff monday friday
diff monday friday --by holder
diff monday friday --json
why friday app.py:10
why friday Basket --dot
why friday Basket --json
why monday app.py:10
rss monday
rss monday --all
rss monday --json
recover killed.kept -f -o out
completion bash
'''.splitlines()
WRITTEN = '''\
report monday --format html
report friday --by holder --format html
report monday friday --format html
diff monday friday --format html
report monday --format flamegraph
report monday --format speedscope
report monday --format pprof
report friday --format heapsnapshot
report friday --format dot
'''.splitlines()
# What needs the tracer says so.
REFUSED = 'run app.py 1', 'serve app.py 1', 'demo'


def find_stock():
    """Return {version: program}."""
    found = {}
    for program in filter(None, map(shutil.which, NAMES)):
        done = subprocess.run([program, '-I', '-c', PROBE],
                              capture_output=True, text=True)
        version, _, path = done.stdout.strip().partition(' ')
        if done.returncode == 0 and version:
            found.setdefault(version, path)
    return found


def environment():
    """Variables that could change what is said, left out."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(('PYTHON', 'PYTRACEMALLOC'))}


def make_home(folder):
    """Make the library of our interpreter look like an installed one: where
    a file lies tells of which module it is."""
    library = folder / 'lib' / ('python' + sysconfig.get_python_version())
    library.mkdir(parents=True)
    for path in (BUILD / 'src/Lib').iterdir():
        (library / path.name).symlink_to(path)
    modules = (BUILD / 'obj/pybuilddir.txt').read_text()
    (library / 'lib-dynload').symlink_to(BUILD / 'obj' / modules)
    return folder


class Interpreter:
    """One that has the package; says what its command says."""

    def __init__(self, program, folder, **variables):
        self.program = program
        self.command = [program, '-sP', folder / 'main.py']
        self.folder = folder
        self.options = {'cwd': folder, 'env': environment() | variables}

    def __call__(self, line):
        """Return (status, standard output, standard error, what is in the
        file out)."""
        out = self.folder / 'out'
        out.unlink(missing_ok=True)
        done = subprocess.run([*self.command, *line.split()],
                              capture_output=True, **self.options)
        return (done.returncode, done.stdout, done.stderr,
                out.read_bytes() if out.exists() else None)


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise AssertionError(f'{" ".join(map(str, command))}: '
                             f'{done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout


def record(ours, folder):
    """Make the files of which the commands tell."""
    (folder / 'app.py').write_text(APP)
    command = [*ours.command, 'run', '-q']
    options = ours.options
    run([*command, '-o', 'monday', 'app.py', '1000'], **options)
    run([*command, '--references', '-o', 'friday', 'app.py', '3000'],
        **options)
    run([*command, '--native', '-o', 'native', 'app.py', '10'], **options)
    run([ours.program, '-c', 'import sys, tracemalloc; '
                     'tracemalloc.Snapshot.load("monday").dump('
                     '"stock.pickle", "pickle")'], **options)
    image = (folder / 'monday').read_bytes()
    (folder / 'damaged').write_bytes(image[:-9])
    (folder / 'newer').write_bytes(
        image[:8] + (99).to_bytes(8, 'little') + image[16:])
    # Killed together with the command that would recover the file.
    with subprocess.Popen([*command, '--keep-tree=killed.kept', '-o', 'x',
                           'app.py', '500', 'wait'], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, start_new_session=True,
                          **options) as process:
        process.stdout.readline()
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)


class WheelCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        wheels = [*DIST.glob('*.whl')]
        cls.assertEqual(cls(), len(wheels), 1, f'{DIST} has no wheel; '
                        f'run `make wheel`')
        cls.wheel, = wheels
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / 'main.py').write_text(MAIN)


class StockTests(WheelCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stock = {}
        for version, program in find_stock().items():
            cls.stock[version] = cls.install(version, program)
        if not cls.stock:
            raise unittest.SkipTest('no stock CPython of 3.11 or later')
        cls.ours = Interpreter(str(BUILD / 'obj' / 'python'), cls.folder,
                               PYTHONHOME=str(make_home(cls.folder / 'home')))
        record(cls.ours, cls.folder)

    @classmethod
    def install(cls, version, program):
        place = cls.folder / version
        run([program, '-m', 'venv', '--without-pip', place])
        run([sys.executable, '-m', 'pip', '--python', place / 'bin/python',
             '--disable-pip-version-check', 'install', '--no-index',
             '--no-deps', '--quiet', cls.wheel])
        return Interpreter(place / 'bin' / 'python', cls.folder)

    def test_says_the_same(self):
        for line in [*PRINTED, *(f'{line} -o out' for line in WRITTEN)]:
            wanted = self.ours(line)
            self.assertTrue(wanted[1] or wanted[2] or wanted[3], line)
            self.assertNotIn(b'Traceback', wanted[2], line)
            for version, stock in self.stock.items():
                with self.subTest(line, version=version):
                    for name, ours, theirs in zip(
                            ('status', 'output', 'errors', 'file'),
                            wanted, stock(line)):
                        self.assertEqual(theirs, ours, name)

    def test_newer_file(self):
        for version, stock in self.stock.items():
            status, output, errors, _ = stock('report newer')
            self.assertEqual((status, output), (1, b''))
            self.assertRegex(errors, rb'newer: of a newer version of the '
                                     rb'format than \d+ \(read it with .*\)')
            self.assertEqual(errors.count(b'\n'), 1)

    def test_needs_the_tracer(self):
        for version, stock in self.stock.items():
            for line in REFUSED:
                with self.subTest(line, version=version):
                    status, output, errors, _ = stock(line)
                    self.assertEqual((status, output), (1, b''))
                    self.assertRegex(
                        errors.decode(), r'^pytracemalloc: (\w+): .*/python '
                        r'has no tracer; install the interpreter of '
                        r'pytracemalloc, and use its command\n$')

    def test_leaves_tracemalloc_alone(self):
        for version, stock in self.stock.items():
            found = run([stock.program, '-I', '-c', '''
import pytracemalloc.cli, pytracemalloc.tracemalloc as ours
snapshot = ours.Snapshot.load('monday')
print(len(snapshot.statistics('lineno')) > 0)
import tracemalloc
tracemalloc.start()
print(type(tracemalloc.take_snapshot()) is tracemalloc.Snapshot,
      tracemalloc.Snapshot is ours.Snapshot, hasattr(tracemalloc, 'measure'))
try:
    from pytracemalloc.tracemalloc.history import start_history
    start_history()
except RuntimeError as error:
    print(error)
'''], cwd=self.folder)
            self.assertEqual(found, '''\
True
True False False
_start_history() needs the tracer, which this Python does not have; use the \
interpreter of pytracemalloc
''', version)

    def test_command(self):
        version = re.search(r'-([\d.]+)-', self.wheel.name)[1]
        for stock in self.stock.values():
            command = stock.program.with_name('pytracemalloc')
            self.assertRegex(run([command, '--version']),
                             rf'^pytracemalloc {version}, Python 3\.')
            self.assertEqual(run([command, 'report', 'monday'],
                                 cwd=self.folder),
                             self.ours('report monday')[1].decode())


class ContentTests(WheelCase):

    def setUp(self):
        with zipfile.ZipFile(self.wheel) as wheel:
            self.names = wheel.namelist()
            wheel.extractall(self.folder / 'content')
        self.module, = self.folder.glob('content/pytracemalloc/*.so')

    def test_name(self):
        """One wheel for all series and for distributions of some years."""
        self.assertRegex(self.wheel.name,
                         r'-cp311-abi3-manylinux_2_\d+_\w+\.whl$')
        self.assertEqual({name.split('/')[0] for name in self.names},
                         {'pytracemalloc',
                          '-'.join(self.wheel.name.split('-')[:2])
                          + '.dist-info'})

    def test_stable_abi(self):
        """All names of CPython's are of its stable ABI of 3.11."""
        with open(BUILD / 'src/Misc/stable_abi.toml', 'rb') as file:
            abi = tomllib.load(file)
        known = {name for kind in ('function', 'data')
                 for name, entry in abi[kind].items()
                 if tuple(map(int, entry['added'].split('.'))) <= (3, 11)}
        used = {line.split()[-1] for line in
                run(['nm', '-D', '--undefined-only',
                     self.module]).splitlines()}
        used = {name for name in used if re.match('_?Py', name)}
        self.assertIn('PyModule_Create2', used)
        self.assertEqual(used - known, set())

    def test_needs_only_the_c_library(self):
        needed = re.findall(r'\(NEEDED\).*\[(.*)\]',
                            run(['readelf', '-d', self.module]))
        # Thread-local variables of arm64 are found by the loader.
        self.assertLessEqual(set(needed), {'libc.so.6', 'libm.so.6',
                                           'libpthread.so.0',
                                           'ld-linux-aarch64.so.1'})
        shown = run(['nm', '-D', '--defined-only', self.module])
        self.assertEqual([line.split()[-1] for line in shown.splitlines()],
                         ['PyInit__tracemalloc_snapshot'])

    def test_licences(self):
        texts = ' '.join(path.read_text() for path in
                         self.folder.glob('content/*/licenses/*'))
        self.assertIn('MIT License', texts)
        self.assertIn('GNU LESSER GENERAL PUBLIC LICENSE', texts)

    def test_no_paths_of_this_machine(self):
        for path in self.folder.glob('content/**/*.*'):
            if path.is_file():
                self.assertNotIn(os.fsencode(BUILD), path.read_bytes(), path)


if __name__ == '__main__':
    unittest.main()
