"""The census and the check of the patches notice what they are there for."""
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
TOOLS = TOP / 'Tools'
SERIES = sysconfig.get_python_version()
QUEUE = TOP / 'patches' / SERIES
BUILD = pathlib.Path(sysconfig.get_config_h_filename()).parents[1]

# In a tree with hooks: a file, a text, what it becomes, the complaints.
FREE_LISTS = (
    ('Objects/floatobject.c', '_PyTracer_PARK_HOT(FLOAT', 'ignore(',
     'Objects/floatobject.c _PyFloat_ExactDealloc PARK_HOT FLOAT: 0 of 1',
     'Objects/floatobject.c: parks without unparking'),
    ('Python/context.c', '_PyTracer_UNPARK_GC(', '// _PyTracer_UNPARK_GC(',
     '_context_alloc UNPARK_GC CONTEXT: 0 of 1'),
    ('Objects/listobject.c', '_PyTracer_UNPARK_HOT(LIST, op',
     '_PyTracer_UNPARK_HOT(LIST, op); _PyTracer_UNPARK_HOT(LIST, op',
     'PyList_New UNPARK_HOT LIST: 2 of 1'),
    ('Objects/setobject.c', '#include "Python.h"',
     '#include "Python.h"\nstatic int set_numfree;',
     'Objects/setobject.c: set_numfree looks like a free list'),
)
# In a queue.
HEADERS = (
    ('hook-deque.patch', 'X-Hooks: 2', 'X-Hooks: 3',
     'X-Hooks says 3, the patch adds 2'),
    ('hook-deque.patch', 'Forwarded: ', 'Forwarded: perhaps ',
     'Forwarded is '),
    ('hook-deque.patch', 'Description:', 'About:', 'no Description field'),
    ('hook-deque.patch', 'Last-Update: ', 'Last-Update: on ',
     'Last-Update is not a date'),
    ('hook-deque.patch', '+++ b/Modules/_collectionsmodule.c',
     '+++ b/Python/generated_cases.c.h', 'is generated; patch its source'),
    ('hook-deque.patch', '+        _PyTracer_PARK(',
     '+#include "pycore_tracer.h"\n+        _PyTracer_PARK(',
     'Modules/_collectionsmodule.c need not include a header of ours'),
    ('series', 'hook-deque.patch\n', '', 'hook-deque.patch: not in series'),
)


def replace(path, old, new):
    text = path.read_text(encoding='utf-8')
    if old not in text:
        raise AssertionError(f'{path} has no {old!r}')
    path.write_text(text.replace(old, new, 1), encoding='utf-8')


@unittest.skipUnless(TOOLS.is_dir() and sysconfig.is_python_build(),
                     'needs the repository and its build')
class NoticeTests(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        global census, patch_check
        sys.path.insert(0, str(TOOLS))
        try:
            import census
            import patch_check
        finally:
            sys.path.remove(str(TOOLS))

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def copy_queue(self):
        return shutil.copytree(QUEUE, self.folder / 'patches' / SERIES)

    def tree(self):
        """A tree of the files that the queue touches, not patched yet, with
        tools and a queue of its own."""
        self.copy_queue()
        shutil.copytree(TOOLS, self.folder / 'Tools', symlinks=True,
                        ignore=lambda *names: ['corpus', '__pycache__'])
        shutil.copytree(BUILD / 'stock', self.folder / 'build' / 'src')
        return self.folder / 'build'

    def apply(self):
        return subprocess.run(
            [self.folder / 'Tools' / 'apply', SERIES, self.folder / 'build'],
            capture_output=True, text=True)

    def test_census(self):
        tree = self.folder / 'src'
        for path in census.sources(BUILD / 'src'):
            copy = tree / path.relative_to(BUILD / 'src')
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        file = QUEUE / 'census.txt'
        self.assertEqual(census.check(tree, file), [])
        for name, old, new, *complaints in FREE_LISTS:
            replace(tree / name, old, new)
        found = '\n'.join(census.check(tree, file))
        for name, old, new, *complaints in FREE_LISTS:
            for complaint in complaints:
                with self.subTest(complaint):
                    self.assertIn(complaint, found)

    def test_headers(self):
        self.assertEqual(patch_check.lint_queue(QUEUE), [])
        queue = self.copy_queue()
        for name, old, new, complaint in HEADERS:
            with self.subTest(complaint):
                text = (queue / name).read_text(encoding='utf-8')
                replace(queue / name, old, new)
                self.assertIn(complaint,
                              '\n'.join(patch_check.lint_queue(queue)))
                (queue / name).write_text(text, encoding='utf-8')

    def test_stale_hunk(self):
        self.tree()
        result = self.apply()
        self.assertEqual(result.returncode, 0, result.stderr)
        shutil.rmtree(self.folder)
        build = self.tree()
        replace(build / 'src' / 'Modules' / '_collectionsmodule.c',
                'numfreeblocks++', 'numfreeblocks += 1')
        result = self.apply()
        self.assertEqual(result.returncode, 1)
        self.assertIn('hook-deque.patch: Modules/_collectionsmodule.c, hunk',
                      result.stderr)

    def test_edited_tree(self):
        build = self.tree()
        self.assertEqual(self.apply().returncode, 0)
        queue = self.folder / 'patches' / SERIES
        self.assertEqual(patch_check.check_refresh(SERIES, build, queue), [])
        with open(build / 'src' / 'Objects' / 'floatobject.c', 'a') as file:
            file.write('static int edited;\n')
        found, = patch_check.check_refresh(SERIES, build, queue)
        self.assertRegex(found, r'\.patch: not canonical, or its file was '
                                r'edited')

    def test_generated_files(self):
        tree = self.folder / 'src'
        names = {name for row in patch_check.GENERATED for name in row[1:]}
        for name in {*names, 'Python/bytecodes.c'}:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUILD / 'src' / name, tree / name)
        (tree / 'Tools').symlink_to(BUILD / 'src' / 'Tools')
        self.assertEqual(patch_check.check_generated(tree), [])
        replace(tree / 'Python' / 'generated_cases.c.h', 'NOP', 'POP')
        found, = patch_check.check_generated(tree)
        self.assertIn('Python/generated_cases.c.h: not what tier1_generator',
                      found)


if __name__ == '__main__':
    unittest.main()
