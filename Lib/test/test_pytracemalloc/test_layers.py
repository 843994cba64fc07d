"""Imports and includes point downward, and a program that traces imports
little."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
import xml.etree.ElementTree
from test.support.script_helper import assert_python_ok

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
TOOL = TOP / 'Tools' / 'layers.py'
PACKAGES = 'tracemalloc', 'pytracemalloc', 'tracemalloctext'

# A file, a line for its end, what is said of it.
WRONG = (
    ('tracemalloc/filters.py', 'import pytracemalloc.client',
     'imports pytracemalloc.client, of a layer above'),
    ('tracemalloc/frames.py', 'def f():\n    from tracemalloctext import text',
     'imports tracemalloctext.text, of a layer above'),
    ('pytracemalloc/loop.py', 'from tracemalloctext import DisplayTop',
     'imports tracemalloctext, of a layer above'),
    ('tracemalloc/files.py', 'from tracemalloc.snapshot import Snapshot',
     'a circle: tracemalloc.snapshot > tracemalloc.files > '
     'tracemalloc.snapshot'),
    ('pytracemalloc/units.py',
     'class A:\n    def f(self):\n        import pytracemalloc.cli',
     'pytracemalloc.units > pytracemalloc.cli > '),
    ('tracemalloc/task.py', 'from tracemalloc import Filter',
     'imports its own package'),
)
# A file of the tracer, lines for its end, what is said of it.
WRONG_INCLUDES = (
    ('Python/tracer_tree.c', '#include "pycore_tracer_count.h"',
     'includes pycore_tracer_count.h, of a layer above'),
    ('Objects/tracer_pymalloc_short.c.h',
     '#  include "pycore_tracer_install.h"',
     'includes pycore_tracer_install.h, of a layer above'),
    ('Include/internal/pycore_tracer_state.h',
     '#include "pycore_tracer_memory.h"',
     'includes pycore_tracer_memory.h, of a layer above'),
    ('Python/tracer_new.c', '', 'tracer_new.c: is in no layer'),
    ('Python/tracer_stack.c', '#if PY_VERSION_HEX >= 0x030e0000\n#endif',
     'a condition on PY_VERSION_HEX'),
    ('Modules/_tracemalloc_take.c', '# ifdef Py_GIL_DISABLED\n# endif',
     'a condition on Py_GIL_DISABLED'),
)
# What the standard library's tracemalloc imports, and six modules.
COUNT = '''
import sys
import atexit
handlers = atexit._ncallbacks()
import {}
print(len(sys.modules))
assert atexit._ncallbacks() == handlers
'''
STOCK = ('collections.abc, functools, fnmatch, linecache, os.path, pickle, '
         '_tracemalloc')

LOADED = '''
import sys, tracemalloc
assert "_tracemalloc_snapshot" not in sys.modules
tracemalloc.{}
assert "_tracemalloc_snapshot" in sys.modules
'''

# Where a module could register something, before and after its use.
REGISTERED = '''
import atexit, codecs, copyreg, gc, os, pickle, re, signal, sys, threading
def registered():
    return (atexit._ncallbacks(), dict(copyreg.dispatch_table),
            gc.callbacks[:], sys.meta_path[:], sys.path_hooks[:],
            sys.excepthook, sys.unraisablehook, threading.excepthook,
            threading._threading_atexits[:], sys.gettrace(), sys.getprofile(),
            [signal.getsignal(number) for number in signal.valid_signals()])
before = registered()
import tracemalloc
tracemalloc.start()
snapshot = tracemalloc.take_snapshot()
snapshot.statistics('lineno')
snapshot.dump(os.devnull)
pickle.dumps(snapshot)
tracemalloc.stop()
for old, new in zip(before, registered(), strict=True):
    assert old == new, (old, new)
'''

# A module that is slow to find, a thread that may look for it, and a fork.
FORK = '''
import os, signal, sys, threading, time, tracemalloc

class Slow:
    def find_spec(name, path, target=None):
        if name == "json":
            time.sleep(1)

assert "json" not in sys.modules
sys.meta_path.insert(0, Slow)
thread = threading.Thread(target=tracemalloc.start)
thread.start()
time.sleep(0.3)
child = os.fork()
if not child:
    signal.alarm(30)
    tracemalloc.stop()
    tracemalloc.start()
    assert "json" in sys.modules
    tracemalloc.take_snapshot()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
assert tracemalloc.is_tracing()
tracemalloc.take_snapshot().dump(os.devnull)
'''


@unittest.skipUnless(TOOL.is_file(), 'needs the repository')
class LayersTests(unittest.TestCase):

    def check(self, folder):
        return subprocess.run([sys.executable, TOOL, folder],
                              capture_output=True, text=True)

    def test_repository(self):
        done = self.check(TOP)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, '', ''))

    def test_wrong_imports_are_noticed(self):
        for path, line, problem in WRONG:
            with self.subTest(path, line=line), \
                    tempfile.TemporaryDirectory() as folder:
                for package in PACKAGES:
                    shutil.copytree(TOP / 'Lib' / package,
                                    pathlib.Path(folder, 'Lib', package))
                self.check_added(folder, pathlib.Path('Lib', path), line,
                                 problem)

    def check_added(self, folder, path, line, problem):
        with open(pathlib.Path(folder, path), 'a') as file:
            file.write(f'\n{line}\n')
        done = self.check(folder)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(problem, done.stdout)

    def test_wrong_includes_are_noticed(self):
        for path, line, problem in WRONG_INCLUDES:
            with self.subTest(path, line=line), \
                    tempfile.TemporaryDirectory() as folder:
                for name in 'Python', 'Objects', 'Include', 'Modules':
                    shutil.copytree(TOP / name, pathlib.Path(folder, name))
                shutil.copytree(TOP / 'Lib' / 'tracemalloc',
                                pathlib.Path(folder, 'Lib', 'tracemalloc'))
                self.check_added(folder, path, line, problem)

    def test_no_packages(self):
        done = self.check(TOP / 'Doc')
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r'Doc: no Lib with [a-z, ]+\n$')


@unittest.skipUnless(TOOL.is_file(), 'needs the repository')
class MapTests(unittest.TestCase):
    """The drawing of the layers shows all files, and who uses whom."""

    def draw(self, folder=TOP):
        code = (f'import sys; sys.path.append({str(TOOL.parent)!r})\n'
                f'import map, pathlib\n'
                f'print(map.Drawing(pathlib.Path({str(folder)!r})).draw())')
        return subprocess.run([sys.executable, '-X', 'utf8', '-c', code],
                              capture_output=True, encoding='utf-8')

    def parse(self, *args):
        done = self.draw(*args)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return xml.etree.ElementTree.fromstring(done.stdout)

    def titles(self, *args):
        return [title.text
                for title in self.parse(*args).iterfind('.//{*}title')]

    def test_each_file_once(self):
        shown = []
        for title in self.titles():
            if '\n' in title:
                shown += title.partition('\n')[0].split(', ')
        files = [*(TOP / 'Python').glob('*.c'),
                 *(TOP / 'Programs').glob('*.c'),
                 *(TOP / 'Objects').glob('*.h'),
                 *(TOP / 'Include' / 'internal').glob('*.h'),
                 *(TOP / 'Modules').glob('_tracemalloc*.c'),
                 *(TOP / 'Modules' / '_snapshot').glob('*.[ch]'),
                 *(TOP / 'Modules' / '_symbols').glob('*.c'),
                 *(path for package in PACKAGES
                   for path in (TOP / 'Lib' / package).rglob('*.py'))]
        self.assertEqual(sorted(shown),
                         sorted(str(path.relative_to(TOP)) for path in files))

    def test_boxes_are_in_their_rows(self):
        drawing = self.parse()
        rects = [(rect.get('class').split()[0],
                  [float(rect.get(name))
                   for name in ('x', 'y', 'width', 'height')])
                 for rect in drawing.iterfind('.//{*}rect')]
        rows = [place for kind, place in rects if kind == 'row']
        for kind, (x, y, width, height) in rects:
            if kind == 'box':
                self.assertTrue(any(
                    left < x and x + width < left + wide
                    and top < y and y + height < top + high
                    for left, top, wide, high in rows), (x, y, width))
        width, height = map(float, (drawing.get('width'),
                                    drawing.get('height')))
        self.assertLessEqual(max(y + high for _, y, _, high in rows), height)
        self.assertLess(max(x + wide for x, _, wide, _ in rows), width)

    def test_uses(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in 'Python', 'Objects', 'Include', 'Modules':
                shutil.copytree(TOP / name, pathlib.Path(folder, name))
            for name in PACKAGES:
                shutil.copytree(TOP / 'Lib' / name,
                                pathlib.Path(folder, 'Lib', name))
            before = self.titles(folder)
            with open(pathlib.Path(folder, 'Python/tracer_index.c'),
                      'a') as file:
                file.write('#include "pycore_tracer_interp.h"\n')
            after = self.titles(folder)
            changed = '\n\n'.join(set(after) - set(before))
            self.assertEqual(changed.count('\n\n'), 2, changed)
            self.assertRegex(changed, r'tracer_index.c\nuses .*\binterp\b')
            self.assertRegex(changed,
                             r'tracer_interp.h\nuses .*\nused by .*\bindex\b')
            dot = re.compile(r'memory of .* uses shared .*: (\d+) times')
            counts = [int(dot.search('\n'.join(titles))[1])
                      for titles in (before, after)]
            self.assertEqual(counts[1], counts[0] + 1)

    def test_a_file_of_no_layer(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in 'Python', 'Objects', 'Include', 'Modules', 'Lib':
                pathlib.Path(folder, name).mkdir()
            pathlib.Path(folder, 'Modules/_tracemalloc.c').write_text(
                '#include "pycore_tracer_new.h"\n')
            done = self.draw(folder)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, 'map.py: new: in no layer; put it into '
                                      'one of layers.py\n')


class ImportTests(unittest.TestCase):

    def test_few_modules_and_no_handlers(self):
        stock, ours = (int(assert_python_ok('-c', COUNT.format(names))[1])
                       for names in (STOCK, 'tracemalloc'))
        self.assertLessEqual(ours, stock + 1 + 6)     # itself

    def test_what_looks_at_snapshots_is_loaded_before_the_first(self):
        for first in 'start()', 'enable()', 'Snapshot([], 1)':
            assert_python_ok('-c', LOADED.format(first))

    def test_nothing_is_registered(self):
        assert_python_ok('-c', REGISTERED)

    def test_no_thread_imports_while_others_fork(self):
        assert_python_ok('-W', 'ignore', '-c', FORK)

    def test_the_interface_alone_is_listed(self):
        code = ('import tracemalloc, types\n'
                'names = dir(tracemalloc)\n'
                'public = [name for name in names if name[0] != "_"]\n'
                'assert {"control", "http", *tracemalloc.__all__} '
                '== {*public}, public\n'
                'for name in names:\n'
                '    value = getattr(tracemalloc, name)\n'
                '    assert name in ("control", "http") or not isinstance('
                'value, types.ModuleType), name\n'
                'assert sorted(set(names)) == dir(tracemalloc)\n'
                'import pytracemalloc.control, pytracemalloc.http\n'
                'assert tracemalloc.control is pytracemalloc.control\n'
                'assert tracemalloc.http is pytracemalloc.http\n')
        assert_python_ok('-c', code)

    def test_no_such_name(self):
        with self.assertRaisesRegex(
                AttributeError,
                "^module 'tracemalloc' has no attribute 'nothing'$"):
            tracemalloc.nothing


if __name__ == '__main__':
    unittest.main()
