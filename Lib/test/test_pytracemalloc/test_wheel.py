"""The files of the package that only reads snapshots: ours, but for imports.

`make check-wheel` tests the package itself.
"""

import ast
import os
import pathlib
import subprocess
import sys
import tempfile
import tracemalloc
import unittest

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
TOOL = TOP / 'Tools' / 'wheel' / 'assemble.py'
MOVED = {'tracemalloc', '_tracemalloc', '_tracemalloc_snapshot'}


def assemble(tool, folder, version='1.2.3'):
    return subprocess.run([sys.executable, '-B', tool, folder, version],
                          capture_output=True, text=True)


def imported(source):
    """Yield the name of each module that is imported."""
    for node in ast.walk(ast.parse(source, feature_version=(3, 11))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@unittest.skipUnless(TOOL.is_file(), 'needs the repository')
class AssembleTests(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)

    def test_only_imports_change(self):
        done = assemble(TOOL, self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        changed = 0
        library = self.folder / 'Lib/pytracemalloc'
        for path in sorted((TOP / 'Lib').glob('*tracemalloc/**/*.*')):
            package, *inner = path.relative_to(TOP / 'Lib').parts
            inner = pathlib.Path(*inner)
            if (package == 'tracemalloctext' or '__pycache__' in path.parts
                    or (package == 'tracemalloc'
                        and inner.stem in ('__init__', '__main__'))):
                continue
            place = library / (inner if package == 'pytracemalloc'
                               else package / inner)
            old = path.read_text().splitlines()
            new = place.read_text().splitlines()
            self.assertEqual(len(old), len(new), path)
            for line, moved in zip(old, new):
                if line != moved:
                    changed += 1
                    self.assertRegex(line, r'^ *(from|import) _?tracemalloc')
                    self.assertIn('from pytracemalloc', moved)
        self.assertGreater(changed, 150)

    def test_imports_stay_inside(self):
        assemble(TOOL, self.folder)
        for path in (self.folder / 'Lib').rglob('*.py'):
            for name in imported(path.read_text()):
                root = name.partition('.')[0]
                self.assertNotIn(root, MOVED, path)
                self.assertNotEqual(root, 'tracemalloctext', path)

    def test_version(self):
        assemble(TOOL, self.folder, tracemalloc.__version__)
        for name in 'pyproject.toml', 'Lib/pytracemalloc/_tracemalloc.py':
            text = (self.folder / name).read_text()
            self.assertRegex(text, rf'(?m)^(__)?version(__)? = '
                                   rf'[\'"]{tracemalloc.__version__}[\'"]$')
            self.assertNotIn('@VERSION@', text)


if __name__ == '__main__':
    unittest.main()
