"""The tools that run CPython's test suite in many configurations."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from test.support import requires_subprocess

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
SUITE = TOP / 'Tools' / 'suite'

GOOD = '''\
import unittest

class Tests(unittest.TestCase):
    def test_passes(self):
        pass

    @unittest.skip('reason')
    def test_skipped(self):
        pass

    def test_subtest_skipped(self):
        with self.subTest('with', number=1):
            self.skipTest('reason')
'''
# Whatever happens to be in the folder decides: fails at first, then passes.
BAD = '''\
import os
import unittest

class Tests(unittest.TestCase):
    def test_fails(self):
        self.fail()

    def test_subtest_fails(self):
        with self.subTest(1):
            self.fail()

    def test_unstable(self):
        flag = os.path.join(os.path.dirname(__file__), 'flag')
        if not os.path.exists(flag):
            open(flag, 'w').close()
            self.fail()
'''
CRASH = '''\
import os
import unittest

class Tests(unittest.TestCase):
    def test_ends(self):
        os._exit(7)
'''
ABSENT = '''\
import unittest

raise unittest.SkipTest('reason')
'''


PATHS = '''\
import pathlib
import sys
import unittest

class Tests(unittest.TestCase):
    def test_no_links(self):
        folder = pathlib.Path(sys.executable).parent
        self.assertEqual(folder, folder.resolve())
'''


@requires_subprocess()
class SuiteTest(unittest.TestCase):

    def setUp(self):
        if not (SUITE / 'run.py').is_file():
            raise unittest.SkipTest('needs the repository')
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.folder = pathlib.Path(folder)

    def tool(self, name, *arguments):
        done = subprocess.run([sys.executable, SUITE / name, *arguments],
                              cwd=self.folder, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        self.assertNotIn('Traceback', done.stderr)
        return done


class RunTests(SuiteTest):

    def setUp(self):
        super().setUp()
        self.tests = self.folder / 'tests'
        self.tests.mkdir()
        for name, text in (('good', GOOD), ('bad', BAD), ('crash', CRASH),
                           ('absent', ABSENT)):
            (self.tests / f'test_{name}.py').write_text(text)

    def run_suite(self, *arguments, status=0):
        done = self.tool('run.py', '--python', sys.executable, '--folder',
                         'out', '--testdir', 'tests', 'off', *arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def files(self):
        state = json.loads((self.folder / 'out' / 'off.json').read_text())
        self.assertEqual(state['listed'], 4)
        return state['files']

    def test_outcomes(self):
        done = self.run_suite()
        self.assertIn('test_good: 1 passed, 0 failed, 2 skipped',
                      done.stdout)
        self.assertIn('failed: test_bad.Tests.test_fails', done.stdout)
        files = self.files()
        self.assertEqual(files['test_good']['tests'],
                         {'test_good.Tests.test_passes': 'passed',
                          'test_good.Tests.test_skipped': 'skipped',
                          'test_good.Tests.test_subtest_skipped': 'skipped'})
        self.assertEqual(files['test_bad']['tests'],
                         {'test_bad.Tests.test_fails': 'failed',
                          'test_bad.Tests.test_subtest_fails': 'failed',
                          'test_bad.Tests.test_unstable': 'passed'})
        self.assertEqual(files['test_bad']['unstable'],
                         ['test_bad.Tests.test_unstable'])
        self.assertEqual(files['test_crash']['tests'],
                         {'test.test_crash': 'failed'})
        self.assertEqual(files['test_absent']['tests'],
                         {'test.test_absent': 'skipped'})

    def test_what_is_done_is_not_run_again(self):
        self.run_suite('test_good')
        self.run_suite('test_bad')
        before = self.files()
        self.assertEqual(sorted(before), ['test_bad', 'test_good'])
        done = self.run_suite()
        self.assertNotIn('test_good:', done.stdout)
        self.assertNotIn('test_bad:', done.stdout)
        after = self.files()
        self.assertEqual(len(after), 4)
        self.assertEqual(after | before, after)

    def test_other_trace_runs_all_again(self):
        self.run_suite('test_good')
        done = self.run_suite('test_good', '--trace', '2')
        self.assertIn('test_good: 1 passed', done.stdout)

    def test_build_behind_a_link(self):
        (self.tests / 'test_good.py').write_text(PATHS)
        python = pathlib.Path(sys.executable)
        link = self.folder / 'build'
        link.symlink_to(python.parents[1])
        self.run_suite('test_good', '--python',
                       link / python.parent.name / python.name)
        self.assertEqual(self.files()['test_good']['tests'],
                         {'test_good.Tests.test_no_links': 'passed'})

    def test_time_is_up(self):
        for name in 'bad', 'crash', 'absent':
            (self.tests / f'test_{name}.py').write_text(
                'import time, unittest\n'
                'class Tests(unittest.TestCase):\n'
                '    def test_sleeps(self): time.sleep(1.5)\n')
        done = self.run_suite('--seconds', '1', '--jobs', '1', status=3)
        left = 4 - len(self.files())
        self.assertIn(f'off: {left} files left', done.stdout)
        self.assertGreater(left, 0)
        self.run_suite()
        self.assertEqual(len(self.files()), 4)

    def test_bad_options(self):
        good = ['--python', sys.executable, 'off']
        for arguments, status, message in (
                ([], 2, 'required: name, --python'),
                (['--python', 'nowhere', 'off'], 2, 'no interpreter at'),
                ([*good, 'test_nothing'], 1, 'test_nothing: no such file'),
                (['--python', sys.executable, 'a/b'], 2, 'is not a name'),
                ([*good, '--seconds', '0'], 2, "positive int value: '0'"),
                (['--python', '/bin/false', 'off'], 1, 'does not work')):
            with self.subTest(arguments):
                done = self.tool('run.py', *arguments)
                self.assertEqual(done.returncode, status, done.stderr)
                self.assertIn(message, done.stderr)


class CompareTests(SuiteTest):

    STOCK = {'test_a': {'test.test_a.T.one': 'passed',
                        'test.test_a.T.two': 'passed',
                        'test.test_a.T.three': 'skipped'},
             'test_b': {'test.test_b.T.one': 'failed'}}

    def setUp(self):
        super().setUp()
        self.write('stock', self.STOCK)
        self.list = self.folder / 'list.txt'
        self.list.write_text('# none\n')

    def write(self, name, files, unstable=(), listed=None):
        state = {'name': name, 'resources': 'all',
                 'listed': len(files) if listed is None else listed,
                 'files': {file: {'seconds': 60.0, 'tests': tests,
                                  'unstable': list(unstable)}
                           for file, tests in files.items()}}
        (self.folder / f'{name}.json').write_text(json.dumps(state))

    def compare(self, *arguments):
        return self.tool('compare.py', '--folder', '.', '--differences',
                         'list.txt', *arguments)

    def test_no_difference(self):
        self.write('off', self.STOCK)
        done = self.compare('--doc', 'page.txt')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout,
                         r'(?m)^off +2 +4 +2 +1 +1 +0 +0 +2$')
        self.assertEqual((self.folder / 'page.txt').read_text(), done.stdout)

    def test_each_difference_needs_a_reason(self):
        tests = {'test.test_a.T.one': 'failed', 'test.test_a.T.two': 'skipped',
                 'test.test_a.T.new': 'passed'}
        files = {'test_a': tests, 'test_b': self.STOCK['test_b']}
        self.write('25', files, ['test.test_a.T.two'], 3)
        done = self.compare()
        self.assertEqual(done.returncode, 1)
        self.assertIn('unstable, 25\n    test.test_a.T.two', done.stdout)
        for text in ('25: 1 files are not run yet',
                     '25: test.test_a.T.one: failed, stock: passed; fix it',
                     '25: test.test_a.T.two: skipped, stock: passed',
                     '25: test.test_a.T.new: passed, stock: absent',
                     '25: test.test_a.T.three: absent, stock: skipped'):
            self.assertIn(text, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 5)
        self.write('25', files, ['test.test_a.T.two'])
        self.list.write_text(
            'test.test_a.T.one  25 failed    the reason of one\n'
            'test.test_a.T.two  *  skipped   a reason\n'
            'test.test_a.T.n*   full,25 passed a reason\n'
            'test.test_a.T.*    25 absent    a reason\n')
        done = self.compare()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('the reason of one', done.stdout)

    def test_a_reason_that_nothing_needs(self):
        self.write('off', self.STOCK)
        self.list.write_text('test.test_a.T.one off failed it did once\n')
        done = self.compare()
        self.assertEqual(done.returncode, 1)
        self.assertIn('list.txt, line 1: no run differs so', done.stderr)
        # It may be needed by a run that is not there yet, or not all there.
        self.list.write_text('test.test_a.T.one 25 failed a reason\n')
        self.assertEqual(self.compare().returncode, 0)
        self.write('25', self.STOCK, listed=3)
        self.assertNotIn('no run differs', self.compare().stderr)

    def test_what_one_of_them_has_yet_to_run(self):
        new = {'test_c': {'test.test_c.T.one': 'passed'}}
        self.write('off', self.STOCK | new)
        self.assertIn('off: test.test_c.T.one: passed, stock: absent',
                      self.compare().stderr)
        self.write('stock', self.STOCK, listed=3)
        self.assertNotIn('test_c', self.compare().stderr)
        self.write('stock', self.STOCK | new)
        self.write('off', self.STOCK, listed=3)
        self.assertNotIn('test_c', self.compare().stderr)

    def test_bad_input(self):
        for text, message in (('a b', 'line 1: write TEST CONFIGURATION'),
                              ('a b wrong c', 'OUTCOME one of passed')):
            self.list.write_text(text)
            done = self.compare()
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
        (self.folder / 'stock.json').unlink()
        self.list.write_text('')
        done = self.compare()
        self.assertEqual(done.returncode, 1)
        self.assertIn('has no stock.json', done.stderr)

    def test_list_in_the_repository(self):
        self.write('off', self.STOCK)
        for path in TOP.glob('patches/*/suite-differences.txt'):
            with self.subTest(series=path.parent.name):
                done = self.tool('compare.py', '--folder', '.',
                                 '--differences', path)
                self.assertNotIn('write TEST', done.stderr)


if __name__ == '__main__':
    unittest.main()
