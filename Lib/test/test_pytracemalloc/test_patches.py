"""The census and the check of the patches notice what they are there for."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import unittest

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
TOOLS = TOP / 'Tools'
SERIES = sysconfig.get_python_version()
QUEUE = TOP / 'patches' / SERIES
DEQUE = 'Modules/_collectionsmodule.c'
LISTS = 'Include/internal/pycore_freelist_state.h'
BUILD = pathlib.Path(sysconfig.get_config_h_filename()).parents[1]

# In a tree with hooks: a file, a text, what it becomes, the complaints.
FREE_LISTS = (
    ('Objects/exceptions.c', '_PyTracer_PARK_GC(MEMORY_ERROR', 'ignore(',
     'Objects/exceptions.c MemoryError_dealloc PARK_GC MEMORY_ERROR: 0 of 1',
     'Objects/exceptions.c: parks without unparking'),
    ('Modules/_collectionsmodule.c', '_PyTracer_UNPARK(',
     '// _PyTracer_UNPARK(', 'newblock UNPARK DEQUE_BLOCK: 0 of 1'),
    ('Modules/_lsprof.c', '_PyTracer_PARK(PROFILER, p',
     '_PyTracer_PARK(PROFILER, p); _PyTracer_PARK(PROFILER, p',
     'ptrace_leave_call PARK PROFILER: 2 of 1'),
    ('Objects/setobject.c', '#include "Python.h"',
     '#include "Python.h"\nstatic int set_numfree;',
     'Objects/setobject.c: set_numfree looks like a free list'),
)
# The same where one structure has all free lists.
GENERIC_LISTS = (
    ('Include/internal/pycore_freelist.h', '_PyTracer_PARK_LISTED(',
     'ignore(', 'pycore_freelist.h _PyFreeList_Push PARK_LISTED number: 0 of 1',
     'pycore_freelist.h: parks without unparking'),
    ('Include/internal/pycore_freelist_state.h',
     '    struct _Py_freelist floats;',
     '    struct _Py_freelist bags;\n    struct _Py_freelist floats;',
     'bags is a free list that census.txt does not know'),
    ('Include/internal/pycore_freelist_state.h',
     '    struct _Py_freelist ranges;', '', 'ranges is gone'),
    ('Objects/genobject.c', 'frame->visited = 0;',
     'frame->visited = 0; int seen = frame->visited;',
     'reads the byte of frames that is the mark of the tracer'),
)
FREE_LISTS_313 = (
    ('Objects/floatobject.c', '_PyTracer_PARK_HOT(FLOAT', 'ignore(',
     'Objects/floatobject.c _PyFloat_ExactDealloc PARK_HOT FLOAT: 0 of 1',
     'Objects/floatobject.c: parks without unparking'),
    ('Python/context.c', '_PyTracer_UNPARK_GC(', '// _PyTracer_UNPARK_GC(',
     '_context_alloc UNPARK_GC CONTEXT: 0 of 1'),
    ('Objects/listobject.c', '_PyTracer_UNPARK_HOT(LIST, op',
     '_PyTracer_UNPARK_HOT(LIST, op); _PyTracer_UNPARK_HOT(LIST, op',
     'PyList_New UNPARK_HOT LIST: 2 of 1'),
)
if SERIES == '3.13':
    FREE_LISTS += FREE_LISTS_313
else:
    FREE_LISTS += GENERIC_LISTS
# In all queues.
HEADERS = (
    ('common/hook-deque.patch', 'X-Hooks: 2', 'X-Hooks: 3',
     'X-Hooks says 3, the patch adds 2'),
    ('common/hook-deque.patch', 'Forwarded: ', 'Forwarded: perhaps ',
     'Forwarded is '),
    ('common/hook-deque.patch', 'Description:', 'About:',
     'no Description field'),
    ('common/hook-deque.patch', 'Last-Update: ', 'Last-Update: on ',
     'Last-Update is not a date'),
    ('common/hook-deque.patch', '+++ b/Modules/_collectionsmodule.c',
     '+++ b/Python/generated_cases.c.h', 'is generated; patch its source'),
    ('common/hook-deque.patch', '+        _PyTracer_PARK(',
     '+#include "pycore_tracer.h"\n+        _PyTracer_PARK(',
     'Modules/_collectionsmodule.c need not include a header of ours'),
    ('common/hook-deque.patch', 'X-Hooks: 2', 'X-Hooks: 2\nX-Context: 0',
     "X-Context is '0'"),
    (f'{SERIES}/series', '../common/hook-deque.patch\n',
     '../common/hook-deque.patch\nhook-bag.patch\n',
     f'{SERIES}/hook-bag.patch: named by a series, but not there'),
    (f'{SERIES}/series', '../common/hook-deque.patch\n',
     '../common/hook-deque.patch\nhook-deque.patch\n',
     'two patches are named hook-deque.patch'),
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

    def copy_queues(self):
        return shutil.copytree(TOP / 'patches', self.folder / 'patches')

    def tree(self):
        """A tree of the files that the queue touches, not patched yet, with
        tools and a queue of its own, the only one."""
        for other in self.copy_queues().glob('*/series'):
            if other.parent.name != SERIES:
                shutil.rmtree(other.parent)
        shutil.copytree(TOOLS, self.folder / 'Tools', symlinks=True,
                        ignore=lambda *names: ['corpus', '__pycache__'])
        shutil.copytree(BUILD / 'stock', self.folder / 'build' / 'src')
        return self.folder / 'build'

    def apply(self):
        return self.run_tool('apply', SERIES, self.folder / 'build')

    def run_tool(self, name, *arguments):
        return subprocess.run(
            [self.folder / 'Tools' / name, *arguments], text=True,
            capture_output=True,
            env={**os.environ, 'XDG_CACHE_HOME': str(self.folder / 'cache')})

    def release(self, series, version, edit=None):
        """Lock a release for a series: a tarball of the files that have
        patches, as CPython has them, but for an edit."""
        tree = self.folder / f'Python-{version}'
        shutil.copytree(BUILD / 'stock', tree)
        if edit is not None:
            replace(tree / DEQUE, *edit)
        cache = self.folder / 'cache' / 'pytracemalloc'
        cache.mkdir(parents=True, exist_ok=True)
        tarball = cache / f'Python-{version}.tar.xz'
        with tarfile.open(tarball, 'w:xz') as file:
            file.add(tree, tree.name)
        digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
        lock = self.folder / 'patches' / series / 'upstream.lock'
        lock.write_text(f'{version} {digest} none\n', encoding='utf-8')

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
        self.assertEqual(patch_check.lint_all(TOP / 'patches'), [])
        patches = self.copy_queues()
        shutil.copy(patches / 'common/hook-deque.patch',
                    patches / 'common/hook-bag.patch')
        self.assertEqual(patch_check.lint_all(patches),
                         ['common/hook-bag.patch: no series names it'])
        for name, old, new, complaint in HEADERS:
            with self.subTest(complaint):
                text = (patches / name).read_text(encoding='utf-8')
                replace(patches / name, old, new)
                self.assertIn(complaint,
                              '\n'.join(patch_check.lint_all(patches)))
                (patches / name).write_text(text, encoding='utf-8')

    def test_page(self):
        page = (TOP / 'Doc/internals/patches.rst').read_text(encoding='utf-8')
        table = page.partition('Which series share')[2].partition('How to')[0]
        named = re.findall(r'``([\w-]+\.patch)``', table)
        self.assertEqual(
            {*named},
            {path.name for path in (TOP / 'patches').glob('*/*.patch')})

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
        self.assertIn('error: patches/common/hook-deque.patch: '
                      'Modules/_collectionsmodule.c, hunk', result.stderr)

    def test_edited_tree(self):
        build = self.tree()
        self.assertEqual(self.apply().returncode, 0)
        queue = self.folder / 'patches' / SERIES
        self.assertEqual(patch_check.check_refresh(SERIES, build, queue), [])
        replace(build / 'src' / DEQUE, 'PARK(DEQUE_BLOCK, b, sizeof(block))',
                'PARK(DEQUE_BLOCK, b, 0 + sizeof(block))')
        found, = patch_check.check_refresh(SERIES, build, queue)
        self.assertRegex(found, r'\.patch: not canonical, or its file was '
                                r'edited')

    def test_shared_patch(self):
        # A second series has the patch, and CPython's file is a bit different
        # there, below the hooks.
        build = self.tree()
        patches = self.folder / 'patches'
        (patches / '9.9').mkdir()
        (patches / '9.9' / 'series').write_text(
            '../common/hook-deque.patch  # as elsewhere\n', encoding='utf-8')
        self.release('9.9', '9.9.1',
                     ('\ndeque_pop_impl(', '\ndeque_take_impl('))
        self.release(SERIES, f'{SERIES}.1')
        self.assertEqual(self.apply().returncode, 0)
        shared = patches / 'common' / 'hook-deque.patch'

        # Its line numbers are those of one series, whichever.
        text = re.sub(r'@@ -(\d+),(\d+) \+\d+,', r'@@ -1\1,\2 +1\1,',
                      shared.read_text(encoding='utf-8'))
        shared.write_text(text, encoding='utf-8')
        before = shared.read_bytes()
        result = self.run_tool('refresh', SERIES, build)
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(shared.read_bytes(), before)

        # An edit that suits both is written, one that does not is not.
        file = build / 'src' / DEQUE
        replace(file, '_PyTracer_PARK(DEQUE_BLOCK',
                'b->leftlink = NULL;\n        _PyTracer_PARK(DEQUE_BLOCK')
        result = self.run_tool('refresh', SERIES, build)
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertIn('refreshed patches/common/hook-deque.patch',
                      result.stdout)
        after = shared.read_bytes()
        self.assertIn(b'+        b->leftlink = NULL;\n', after)
        replace(file, '\ndeque_pop_impl(',
                '\n/* The last one. */\ndeque_pop_impl(')
        result = self.run_tool('refresh', SERIES, build)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(
            result.stderr, f'pytracemalloc: error: CPython 9.9.1: patches/'
            f'common/hook-deque.patch: {DEQUE}, hunk 3 does not apply; adapt '
            f'the patch to this CPython; nothing is written\n')
        self.assertEqual(shared.read_bytes(), after)

    def test_context(self):
        build = self.tree()
        self.assertEqual(self.apply().returncode, 0)
        patch = self.folder / 'patches' / 'common' / 'hook-deque.patch'
        self.release(SERIES, f'{SERIES}.1')
        replace(patch, 'X-Hooks: 2', 'X-Hooks: 2\nX-Context: 1')
        result = self.run_tool('refresh', SERIES, build)
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        hunks = re.split('(?m)^@@.*\n', patch.read_text(encoding='utf-8'))[1:]
        self.assertEqual([[line[0] for line in hunk.splitlines()]
                          for hunk in hunks], [[*' + ']] * 2)

    def release_directory(self, *edits):
        """A directory with a release that the lock does not have."""
        source = self.folder / 'source'
        shutil.copytree(BUILD / 'stock', source)
        for name in ('Include/patchlevel.h', LISTS):
            if (BUILD / 'src' / name).exists():
                shutil.copy(BUILD / 'src' / name, source / name)
        text = (source / 'Include/patchlevel.h').read_text()
        version = re.search('define PY_VERSION *"(.*)"', text)[1]
        replace(source / 'Include/patchlevel.h', f'"{version}"',
                f'"{SERIES}.99"')
        for name, old, new in edits:
            replace(source / name, old, new)
        return source

    def vouch(self, *edits):
        """What the steps up to the census say of such a release."""
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        build = self.tree()
        shutil.rmtree(build / 'src')
        source = self.release_directory(*edits)
        said = []
        for tool, *arguments in (('unpack', SERIES, build, source),
                                 ('apply', SERIES, build),
                                 ('vouch', SERIES, build)):
            result = self.run_tool(tool, *map(str, arguments))
            said.append(result.stdout + result.stderr)
            if result.returncode:
                return result.returncode, result.stderr
        # The second time it is known.
        self.assertEqual(self.run_tool('vouch', SERIES, build).stdout, '')
        return 0, said[-1]

    def test_a_release_that_is_not_in_the_lock(self):
        name = f'CPython {SERIES}.99 is not in patches/{SERIES}/upstream.lock'
        status, said = self.vouch()
        self.assertEqual(status, 0, said)
        self.assertEqual(said.count('\n'), 1)
        self.assertIn(f'note: {name}; all patches apply and the census agrees',
                      said)
        status, said = self.vouch((DEQUE, 'numfreeblocks++',
                                   'numfreeblocks += 1'))
        self.assertEqual(status, 1)
        self.assertEqual(
            said, f'pytracemalloc: error: patches/common/hook-deque.patch: '
            f'{DEQUE}, hunk 2 does not apply; adapt the patch to this '
            f'CPython\n')
        status, said = self.vouch((DEQUE, '\ndeque_pop_impl(',
                                   '\nint bag_numfree;\ndeque_pop_impl('))
        self.assertEqual(status, 1)
        self.assertEqual(said.count('\n'), 1)
        self.assertIn(f'error: {name}, and the census: {DEQUE}: bag_numfree '
                      f'looks like a free list', said)

    def test_a_build_that_is_configured_with_another_clone(self):
        build = self.tree()
        self.assertEqual(self.apply().returncode, 0)
        name = 'Python/tracer_clone.c'
        for folder in 'Include', 'Objects', 'Python', 'Modules', 'Programs', \
                'Lib':
            (build / 'src' / folder).mkdir(exist_ok=True)
        for clone in self.folder / 'one', self.folder / 'two':
            shutil.copytree(self.folder / 'Tools', clone / 'Tools')
            (clone / 'Python').mkdir()
            (clone / name).write_text(clone.name, encoding='utf-8')
            result = subprocess.run(
                [clone / 'Tools' / 'overlay', build], text=True,
                capture_output=True,
                env={**os.environ, 'PYTRACEMALLOC_VERSION': '1',
                     'PYTRACEMALLOC_FREELISTS': 'track',
                     'GLIB_CFLAGS': '', 'GLIB_LIBS': ''})
            self.assertEqual((result.returncode, result.stderr), (0, ''))
            self.assertEqual((build / 'src' / name).read_text(), clone.name)

    def test_a_release_is_named_in_the_lock_and_the_page(self):
        self.tree()
        page = self.folder / 'Doc/explanation/series.rst'
        page.parent.mkdir(parents=True)
        shutil.copy(TOP / 'Doc/explanation/series.rst', page)
        lock = self.folder / 'patches' / SERIES / 'upstream.lock'
        before = page.read_text(encoding='utf-8').splitlines()
        locked = lock.read_text(encoding='utf-8')
        added = f'{SERIES}.98', f'{SERIES}.99'
        for version in added:
            result = self.run_tool('lock', version, 'c0ffee')
            self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(lock.read_text(encoding='utf-8'), locked + ''.join(
            f'{version:9}  c0ffee  pool\n' for version in added))
        versions = [line.split()[0] for line in
                    lock.read_text(encoding='utf-8').splitlines()
                    if not line.startswith('#')]
        # One row of the page differs, and nothing else.
        number, = (number for number, line in enumerate(before)
                   if line.startswith(f'{SERIES}  '))
        before[number] = (f'{SERIES:9}{versions[0]:22}'
                          + ', '.join(versions[1:]))
        self.assertEqual(page.read_text(encoding='utf-8').splitlines(),
                         before)

    def test_what_was_built_of_another_source_goes(self):
        """The stock interpreter to compare with, too, which others share."""
        build = self.tree()
        shared = self.folder / 'shared'
        shared.mkdir()
        (build / 'unpatched').symlink_to(shared)
        result = self.run_tool('unpack', SERIES, str(build),
                               str(self.release_directory()))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(os.path.lexists(build / 'unpatched'))
        self.assertTrue(shared.is_dir())

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
