"""Modules that are imported lazily: what they allocate shows the line that
uses them first, and not the one that names them."""

import os
import subprocess
import sys
import tempfile
import tracemalloc
import unittest

HEAVY = '''\
table = [bytes(1000) for _ in range(200)]

def look():
    return len(table)
'''
# The module is named at line 2, another at line 3; both are used later.
PROGRAM = '''\
import sys, tracemalloc
lazy import heavy
lazy from heavy2 import look
lazy import difflib
assert not {'heavy', 'heavy2', 'difflib'} & {*sys.modules}
tracemalloc.take_snapshot().dump(sys.argv[1])

def first():
    return heavy.look()

def second():
    return look()

def third():
    return difflib.SequenceMatcher

first()
first()
second()
third()
tracemalloc.take_snapshot().dump(sys.argv[2])
'''
FIRST, SECOND, THIRD = 9, 12, 15          # lines of the uses
CALLS = {FIRST: 17, SECOND: 19, THIRD: 20}


@unittest.skipIf(sys.version_info < (3, 15),
                 'lazy imports (PEP 810) are new in 3.15')
class LazyImportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        files = []
        for name, text in (('heavy.py', HEAVY), ('heavy2.py', HEAVY),
                           ('app.py', PROGRAM)):
            files.append(os.path.join(directory, name))
            with open(files[-1], 'w') as file:
                file.write(text)
        cls.heavy, cls.heavy2, cls.app = files
        outputs = [os.path.join(directory, f'{name}.tracemalloc')
                   for name in ('before', 'after')]
        subprocess.run([sys.executable, '-X', 'tracemalloc=25', cls.app,
                        *outputs], check=True)
        cls.before, cls.after = map(tracemalloc.Snapshot.load, outputs)

    def sizes(self, snapshot, filename):
        """{line: live bytes} of a file."""
        return {stat.traceback[0].lineno: stat.size
                for stat in snapshot.statistics('lineno')
                if stat.traceback[0].filename == filename}

    def test_before_the_first_use(self):
        lines = self.sizes(self.before.fold_imports(), self.app)
        for line in 2, 3, 4:
            self.assertLess(lines.get(line, 0), 1000)
        for snapshot in self.before, self.before.fold_imports():
            self.assertEqual(self.sizes(snapshot, self.heavy), {})

    def test_the_module_is_called_by_the_line_of_first_use(self):
        for heavy, line in (self.heavy, FIRST), (self.heavy2, SECOND):
            stats = [stat for stat in
                     self.after.fold_imports().statistics('traceback')
                     if stat.traceback[-1].filename == heavy
                     and stat.traceback[-1].lineno == 1]
            self.assertGreater(sum(stat.size for stat in stats), 200_000)
            for stat in stats:
                places = [(frame.filename, frame.lineno)
                          for frame in stat.traceback]
                self.assertEqual(places, [(self.app, CALLS[line]),
                                          (self.app, line), (heavy, 1)])

    def test_folded_imports_count_for_the_line_of_first_use(self):
        # Code objects, the module and its dictionary.
        lines = self.sizes(self.after.fold_imports(), self.app)
        before = self.sizes(self.before.fold_imports(), self.app)
        for line in FIRST, SECOND:
            self.assertGreater(lines[line], before.get(line, 0) + 1000)
        for line in 2, 3, 4:
            self.assertLess(lines.get(line, 0), 1000)
        # The second use has nothing to import.
        self.assertNotIn(18, lines)

    def test_my_code(self):
        # A module of the library: all of it is that line's.
        lines = self.sizes(self.after.my_code(), self.app)
        self.assertGreater(lines[THIRD], 50_000)
        self.assertLess(lines.get(4, 0), 1000)

    def test_sums_stay(self):
        for view in self.after.fold_imports(), self.after.my_code():
            self.assertEqual(
                sum(stat.size for stat in view.statistics('lineno')),
                sum(stat.size for stat in self.after.statistics('lineno')))


if __name__ == '__main__':
    unittest.main()
