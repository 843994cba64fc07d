"""Suspected leaks: the programs of Tools/field/suspects are judged right, by
one run, by two snapshots and in the summary of a worker.  `make check-field`
judges them by --every as well, and those that need packages."""

import importlib.util
import os
import pathlib
import sys
import time
import tracemalloc
import unittest

from pytracemalloc import suspects
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import FREE_THREADED

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
JUDGE = TOP / 'Tools' / 'field' / 'judge.py'
# Without the GIL functions, those of generators too, wait for the collector,
# which does not run between the two: they might as well be kept.
UNTOLD = {('sound_generators', 'two snapshots')} if FREE_THREADED else set()


def load_judge():
    spec = importlib.util.spec_from_file_location('judge', JUDGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@unittest.skipUnless(JUDGE.is_file(), 'the programs are not installed')
class ProgramsTest(unittest.TestCase):
    def check_all(self, way, pattern):
        judge = load_judge()
        paths = sorted(judge.FOLDER.glob(pattern))
        self.assertGreaterEqual(len(paths), 10)
        for path in paths:
            for name, wrong in judge.judge(sys.executable, path, way):
                if (path.stem, name) not in UNTOLD:
                    with self.subTest(program=path.stem, judged_by=name):
                        self.assertIsNone(wrong, wrong)

    def test_leaks_by_one_run(self):
        self.check_all('one', 'leak_*.py')

    def test_leaks_in_a_worker_and_by_two_snapshots(self):
        self.check_all('worker', 'leak_*.py')

    def test_sound_programs_by_one_run(self):
        self.check_all('one', 'sound_*.py')

    def test_sound_programs_in_a_worker_and_by_two_snapshots(self):
        self.check_all('worker', 'sound_*.py')


class Grown:
    """A snapshot of a site that held *sizes*, an hour apart."""

    pid = 1
    timestamp = program = None

    def __init__(self, sizes, place=('app.py', 7, 'work')):
        self.growth = [
            [[1.6e9 + 3600 * number, 10 ** 6, 1000 * number, 10 ** 6 * number]
             for number in range(len(sizes))],
            [[*place, *sizes]]]
        self.sizes = sizes
        self.place = place

    def statistics(self, key, order='size'):
        stat = tracemalloc.Statistic(None, self.sizes[-1], 10,
                                     key=self.place[:2])
        return [stat]

    def call_tree(self):
        class tree:
            nodes = [(-1, *self.place, 1, self.sizes[-1], 10)]
        return tree


class RuleTest(unittest.TestCase):
    def suspect(self, sizes):
        return suspects.find(Grown(sizes))

    def test_no_library_is_left_out_by_its_name(self):
        sizes = range(0, 37 * 100_000, 100_000)
        for filename in ('<frozen posixpath>', '<unknown>',
                         '/usr/lib/python3.13/json/decoder.py'):
            found = suspects.find(Grown(sizes, (filename, 90, 'join')))
            self.assertEqual([suspect.place for suspect in found],
                             [(filename, 90, 'join')])

    def test_reason_has_figures(self):
        suspect, = self.suspect(range(0, 37 * 100_000, 100_000))
        self.assertRegex(
            suspect.explain(),
            r'\Agrew in each of 12 intervals, 1\.6 KiB a minute, since '
            r'\d\d:\d\d\Z')

    def test_noise_is_allowed_for(self):
        grows = [100_000 * number + 500_000 * (number % 4 == 1)
                 for number in range(37)]
        suspect, = self.suspect(grows)
        self.assertNotIn('each', suspect.explain())

    def test_what_is_not_suspected(self):
        for name, sizes in {
                'no growth': [10 ** 6] * 37,
                'noise': [10 ** 6 * (number * 7 % 5) for number in range(37)],
                'growth that has ended':
                    [10 ** 5 * min(number, 20) for number in range(37)],
                'one step': [0] * 20 + [10 ** 6] * 17,
                'what comes back':
                    [10 ** 5 * (number % 15) for number in range(37)],
                'small': [100 * number for number in range(37)],
                'few moments': [10 ** 6 * number for number in range(6)],
                'none': [0]}.items():
            with self.subTest(name):
                self.assertEqual(self.suspect(sizes), [])

    def test_begin_and_end_of_the_run_do_not_count(self):
        start = [10 ** 7, 0, 10 ** 7, 0]
        grows = [*start, *range(0, 33 * 10 ** 5, 10 ** 5)]
        snapshot = Grown([*grows, 0])
        moments, _ = snapshot.growth
        moments[-1][1:] = moments[-2][1:]
        self.assertEqual(len(suspects.find(snapshot)), 1)

    def test_imports_are_not_suspected(self):
        sizes = range(0, 37 * 100_000, 100_000)
        place = '<frozen importlib._bootstrap_external>', 784, 'get_code'
        self.assertEqual(suspects.find(Grown(sizes, place)), [])

    def test_without_figures_or_with_damaged_ones(self):
        snapshot = Grown(range(37))
        moments, sites = snapshot.growth
        for growth in (None, {}, [], 'text', [moments], [[], []],
                       [moments, 1], [moments, [[]]],
                       [moments, [['a', 1, 'b', 1]]],
                       [[['a'] * 4] * 37, sites],
                       [[[float('nan')] * 4] * 37, sites],
                       [moments * 1000, sites]):
            with self.subTest(growth=growth):
                snapshot.growth = growth
                self.assertEqual(suspects.find(snapshot), [])
    def test_time_that_no_clock_has(self):
        snapshot = Grown(range(0, 37 * 100_000, 100_000))
        for moment in snapshot.growth[0]:
            moment[0] += 1 << 60
        suspect, = suspects.find(snapshot)
        self.assertTrue(suspect.explain().endswith('an unknown time'))


class GrowthTest(unittest.TestCase):
    def setUp(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

    def grow(self, kept):
        for number in range(20_000):
            kept.append([number])

    def test_snapshot_has_moments(self):
        kept = []
        for _ in range(10):
            self.grow(kept)
        moments, sites = tracemalloc.take_snapshot().growth
        self.assertTrue(3 <= len(moments) <= 33)
        for column in 0, 2, 3:
            values = [moment[column] for moment in moments]
            self.assertEqual(values, sorted(values))
        code = self.grow.__code__
        site, = (site for site in sites
                 if site[0] == code.co_filename
                 and site[1] == code.co_firstlineno + 2)
        self.assertEqual(site[2], code.co_qualname)
        sizes = site[3:]
        self.assertEqual(len(sizes), len(moments))
        # Without the GIL a list has its items twice while it grows.
        twice = sys.getsizeof(kept) if FREE_THREADED else 0
        for before, after in zip(sizes, sizes[1:]):
            self.assertGreaterEqual(after, before - twice)
        self.assertAlmostEqual(sizes[-1], 200_000 * sys.getsizeof([1]),
                               delta=16 * 10 ** 6)

    def test_clear_forgets(self):
        kept = []
        self.grow(kept)
        time.sleep(.05)
        begin = time.time()
        moments, sites = tracemalloc.take_snapshot().growth
        self.assertTrue(any(moment[0] < begin for moment in moments))
        self.assertNotEqual(sites, [])
        tracemalloc.clear_traces()
        moments, sites = tracemalloc.take_snapshot().growth
        self.assertFalse(any(moment[0] < begin for moment in moments))
        self.assertEqual(sites, [])

    def test_snapshot_keeps_it_packed(self):
        kept = []
        self.grow(kept)
        snapshot = tracemalloc.take_snapshot()
        self.assertLess(sys.getsizeof(vars(snapshot)['_growth']), 20_000)
        self.assertEqual(snapshot.filter_traces([]).growth, snapshot.growth)

    def test_file_keeps_it(self):
        kept = []
        self.grow(kept)
        snapshot = tracemalloc.take_snapshot()
        path = os.path.join(os.getcwd(), f'growth.{os.getpid()}')
        self.addCleanup(os.unlink, path)
        snapshot.dump(path)
        self.assertEqual(tracemalloc.Snapshot.load(path).growth,
                         snapshot.growth)


class HolderTest(CommandCase):
    def test_program_has_its_own_re(self):
        """The command's was imported before: re.sub() mixes them up."""
        path = self.write('app.py', '''\
            import re, time
            kept = []
            for number in range(1500):
                kept.append(re.sub('(b)', r'<\\1>', 'ab' * 100))
                time.sleep(.001)
            ''')
        process = command('run', '--references', '-o', 'a', path)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertNotIn('no summary', process.stderr)
        self.assertIn('held by __main__.kept', process.stderr)


if __name__ == '__main__':
    unittest.main()
