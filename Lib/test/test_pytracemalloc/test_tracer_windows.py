"""The highest moments of a run: the peak, and the next highest ones that
consist of something else."""
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import unittest

from _tracemalloc import _prune_soon
from test.support import import_helper
from test.test_pytracemalloc.helpers import (ALLOCATORS, SLOW, Tracing,
                                             line_of)
from test.test_pytracemalloc.test_tracer_peak import make_sites

_testtracer = import_helper.import_module('_testtracer')

UNLIMITED = 10 ** 15              # ns


def nothing():
    pass


def make_bytes(n):
    return [bytes(1000) for _ in range(n)]


def make_strings(n):
    return [str(i) * 200 for i in range(n)]


def make_lists(n):
    return [[i, i, i] * 40 for i in range(n)]


def make_dicts(n):
    return [{i: str(i)} for i in range(n)]


def make_sets(n):
    return [{i, i + 1, i + 2} for i in range(n)]


def place(snapshot):
    """Which function has most of the snapshot?"""
    return snapshot.statistics('lineno')[0].traceback[0].lineno


def line(function):
    return line_of(function, 1)[1]


class WindowTests(unittest.TestCase):

    def run_phases(self, *phases):
        """Hold what each phase makes for a moment, then all at once not."""
        sizes = []
        for make, n in phases:
            kept = make(n)
            sizes.append(tracemalloc.get_traced_memory()[0])
            del kept
        return sizes

    def peaks(self, *phases, nframe=1):
        with Tracing(nframe):
            _testtracer.set_window_credit(UNLIMITED)
            self.run_phases(*phases)
            self.assertIsNone(_testtracer.fault())
            snapshot = tracemalloc.take_snapshot()
        self.check(snapshot)
        return snapshot

    def check(self, snapshot):
        """The moments are in their order, and their lines add up."""
        sizes = [peak.traced_memory[0] for peak in snapshot.peaks]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(sizes[0], snapshot.traced_memory[1])
        for peak, size in zip(snapshot.peaks, sizes):
            for key in 'lineno', 'traceback':
                self.assertEqual(sum(stat.size for stat
                                     in peak.statistics(key)), size)
            self.assertLessEqual(peak.timestamp, snapshot.timestamp)
        highest = snapshot.peak.statistics('traceback')
        self.assertEqual(snapshot.peaks[0].statistics('traceback'), highest)
        for peak, more in zip(snapshot.peaks[1:],
                              snapshot._more_than_at_peak(), strict=True):
            self.assertEqual(more, sorted(
                [stat for stat in peak.compare_to(snapshot.peak, 'lineno')
                 if stat.size_diff > 0],
                key=lambda stat: -stat.size_diff))

    def test_two_maxima(self):
        for nframe in 1, 3, 25, 'full':
            for phases in (((make_bytes, 1000), (make_strings, 1000)),
                           ((make_strings, 1000), (make_bytes, 1000))):
                with self.subTest(nframe=nframe, phases=phases):
                    snapshot = self.peaks(*phases, nframe=nframe)
                    peaks = snapshot.peaks
                    self.assertEqual(len(peaks), 2)
                    self.assertEqual({place(peak) for peak in peaks},
                                     {line(make) for make, _ in phases})

    def test_within_five_percent(self):
        snapshot = self.peaks((make_bytes, 1000), (make_strings, 1015))
        higher, lower = [peak.traced_memory[0] for peak in snapshot.peaks]
        self.assertGreater(lower, 0.5 * higher)
        snapshot = self.peaks((make_bytes, 1000), (make_bytes, 990),
                              (make_lists, 1000))
        self.assertEqual(len(snapshot.peaks), 2)

    def test_one_that_is_the_same_counts_once(self):
        snapshot = self.peaks(*[(make_bytes, n) for n
                                in (900, 1000, 950, 1000, 990, 800)])
        self.assertEqual(len(snapshot.peaks), 1)
        # The later of two that are alike takes the place of the first.
        snapshot = self.peaks((make_bytes, 1000), (make_lists, 1000),
                              (make_bytes, 1010))
        self.assertEqual(len(snapshot.peaks), 2)

    def test_a_common_part(self):
        """What both hold does not make them one."""
        with Tracing():
            _testtracer.set_window_credit(UNLIMITED)
            base = make_sets(4000)
            half = tracemalloc.get_traced_memory()[0] // 1080
            self.run_phases((make_bytes, half), (make_strings, 2 * half),
                            (make_bytes, half))
            snapshot = tracemalloc.take_snapshot()
            del base
        self.check(snapshot)
        self.assertEqual(len(snapshot.peaks), 2)

    def test_more_than_four(self):
        makes = [make_bytes, make_strings, make_lists, make_dicts, make_sets]
        sizes = {}
        for make in makes:
            with Tracing():
                [size] = self.run_phases((make, 1000))
            sizes[make] = size
        phases = [(make, 1000 * 2_000_000 // sizes[make] + 20 * i)
                  for i, make in enumerate(makes)]
        for i in range(10):
            random.Random(i).shuffle(phases)
            with self.subTest(order=i), Tracing():
                _testtracer.set_window_credit(UNLIMITED)
                heights = self.run_phases(*phases)
                snapshot = tracemalloc.take_snapshot()
            self.check(snapshot)
            wanted = [line(make) for _, (make, _) in
                      sorted(zip(heights, phases), key=lambda pair: -pair[0])]
            self.assertEqual([place(peak) for peak in snapshot.peaks],
                             wanted[:4])

    def test_half_as_high(self):
        snapshot = self.peaks((make_bytes, 1000), (make_bytes, 10),
                              (make_lists, 100), (make_dicts, 10))
        self.assertEqual(len(snapshot.peaks), 1)

    def test_no_fall(self):
        """Memory that only rises is one window."""
        with Tracing():
            kept = make_bytes(500), make_lists(100), make_strings(500)
            snapshot = tracemalloc.take_snapshot()
            del kept
        self.check(snapshot)
        self.assertEqual(len(snapshot.peaks), 1)

    def test_time(self):
        with Tracing():
            _testtracer.set_window_credit(UNLIMITED)
            before = datetime.datetime.now()
            self.run_phases((make_bytes, 2000))
            between = datetime.datetime.now()
            time.sleep(.05)
            self.run_phases((make_strings, 3000))
            after = datetime.datetime.now()
            snapshot = tracemalloc.take_snapshot()
        first, second = sorted(peak.timestamp for peak in snapshot.peaks)
        slack = datetime.timedelta(milliseconds=20)
        self.assertLessEqual(before - slack, first)
        self.assertLessEqual(first, between + slack)
        self.assertLessEqual(between, second + slack)
        self.assertLessEqual(second, after + slack)

    def test_reset_and_clear(self):
        for forget in tracemalloc.reset_peak, tracemalloc.clear_traces:
            with self.subTest(forget=forget.__name__), Tracing():
                _testtracer.set_window_credit(UNLIMITED)
                self.run_phases((make_bytes, 1000), (make_strings, 1000))
                forget()
                self.assertIsNone(_testtracer.fault())
                current, peak = tracemalloc.get_traced_memory()
                self.assertEqual(current, peak)
                self.run_phases((make_lists, 100))
                snapshot = tracemalloc.take_snapshot()
            self.check(snapshot)
            self.assertEqual([place(peak) for peak in snapshot.peaks],
                             [line(make_lists)])

    def test_looking_changes_nothing(self):
        with Tracing():
            _testtracer.set_window_credit(UNLIMITED)
            self.run_phases((make_bytes, 1000), (make_strings, 1000))
            kept = make_lists(1000)
            first = tracemalloc.take_snapshot()
            second = tracemalloc.take_snapshot()
            del kept
        self.assertEqual(len(first.peaks), 3)
        for one, other in zip(first.peaks, second.peaks, strict=True):
            self.assertEqual(one.traced_memory, other.traced_memory)
            self.assertEqual(one.statistics('traceback'),
                             other.statistics('traceback'))

    def test_views_and_files(self):
        snapshot = self.peaks((make_bytes, 1000), (make_strings, 1000),
                              nframe=25)
        wanted = [peak.statistics('traceback') for peak in snapshot.peaks]
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'snapshot')
            snapshot.dump(path)
            loaded = tracemalloc.Snapshot.load(path)
            loaded.dump(path)
            again = tracemalloc.Snapshot.load(path)
        for other in loaded, again:
            self.check(other)
            self.assertEqual([peak.statistics('traceback')
                              for peak in other.peaks], wanted)
            self.assertEqual([peak.timestamp for peak in other.peaks],
                             [peak.timestamp for peak in snapshot.peaks])
        self.check(snapshot.fold_imports())
        self.check(snapshot.my_code())
        kept = snapshot.filter_traces([tracemalloc.Filter(
            True, __file__, line(make_bytes))])
        higher, lower = [sum(stat.size for stat in peak.statistics('lineno'))
                         for peak in kept.peaks]
        self.assertGreater(max(higher, lower), 1_000_000)
        self.assertLess(min(higher, lower), 1000)

    def test_threads(self):
        """What other threads do meanwhile is in the sums as well."""
        with Tracing():
            _testtracer.set_window_credit(UNLIMITED)
            threads = [threading.Thread(target=self.run_phases, args=[
                (make, 200) for make in (make_bytes, make_lists) * 5])
                for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertIsNone(_testtracer.fault())
            snapshot = tracemalloc.take_snapshot()
        self.check(snapshot)


# With allocators of other kinds, with a GIL more, in the child of a fork.
PROGRAM = '''
import json, os, sys, tracemalloc
from test.test_pytracemalloc import test_tracer_windows as windows

def show():
    windows._testtracer.set_window_credit(windows.UNLIMITED)
    for make, n in phases:
        make(n)
    if windows._testtracer.fault() is None:
        found = json.dumps([windows.place(peak) for peak
                            in tracemalloc.take_snapshot().peaks])
        os.write(1, f'{found}\\n'.encode())      # at once, as two write

phases = ((windows.make_bytes, 1000), (windows.make_lists, 1200),
          (windows.make_bytes, 900), (windows.make_strings, 1700))
tracemalloc.start(int(sys.argv[2]))
if sys.argv[1] == 'interpreter':
    import _interpreters
    interpreter = _interpreters.create('isolated')
    tracemalloc.clear_traces()    # it may take more memory than a phase
if sys.argv[1] == 'fork':
    phases[0][0](phases[0][1])
    child = os.fork()
    show()
    if child:
        os.waitpid(child, 0)
else:
    show()
if sys.argv[1] == 'interpreter':
    _interpreters.destroy(interpreter)
'''


class ElsewhereTests(unittest.TestCase):

    def run_program(self, how, **environment):
        for nframe in '1', '25':
            with self.subTest(how=how, nframe=nframe, **environment):
                done = subprocess.run(
                    [sys.executable, '-c', PROGRAM, how, nframe], text=True,
                    capture_output=True, env=os.environ | environment)
                self.assertEqual(done.stderr, '')
                lines = done.stdout.splitlines()
                self.assertEqual(len(lines), 2 if how == 'fork' else 1)
                for found in lines:
                    self.assertEqual(
                        sorted(json.loads(found)),
                        [line(make_bytes), line(make_strings),
                         line(make_lists)])

    def test_allocators(self):
        for name in ALLOCATORS:
            self.run_program('plain', PYTHONMALLOC=name)

    def test_interpreter_with_its_own_gil(self):
        self.run_program('interpreter')

    def test_fork(self):
        self.run_program('fork')


class ModelTests(unittest.TestCase):
    """Programs of up-and-down phases at random: each moment is what a log of
    all moments has."""

    SITES = 40

    def setUp(self):
        self.sites = make_sites(self.SITES)
        self.addCleanup(_testtracer.set_phase, 0, 0, 0)
        self.addCleanup(_testtracer.log_play, False)
        self.addCleanup(_testtracer.end_play)
        # Functions get what sys.monitoring needs at their first call, if it
        # was ever used.
        with Tracing():
            self.play(400, 1)
            _testtracer.end_play()

    def play(self, steps, seed=0):
        _testtracer.play(self.sites, steps, seed,
                         tracemalloc.get_traced_memory, nothing)

    def play_phases(self, seed):
        """Return the highest moment of each phase: (traced memory, sums)."""
        generator = random.Random(seed)
        highest = []
        begin = _testtracer.get_log()
        self.play(1, seed)
        for _ in range(generator.randrange(2, 9)):
            if generator.randrange(2):
                _prune_soon()
            _testtracer.set_phase(10 * generator.randrange(4), 10,
                                  generator.randrange(900, 1800))
            self.play(4000)
            end = _testtracer.get_log()
            highest.append(_testtracer.get_highest(begin, end))
            begin = end
        return highest

    def keep(self, moments):
        """The rule, in words of its own."""
        kept = []
        for moment in moments:
            higher = [other for other in kept if other[0] >= moment[0]]
            if not all(self.is_another(moment, other) for other in higher):
                continue
            lower = [other for other in kept if other[0] < moment[0]
                     and self.is_another(other, moment)]
            kept = [*higher, moment, *lower][:4]
            kept = [other for other in kept if other[0] >= kept[0][0] // 2]
        return kept

    def is_another(self, lower, higher):
        alone = sum(max(0, ours[0] - theirs[0])
                    for ours, theirs in zip(lower[1], higher[1]))
        return alone > lower[0] // 8

    def by_site(self, snapshot):
        sites = {stat.traceback[0].lineno: (stat.size, stat.count)
                 for stat in snapshot.statistics('lineno')
                 if stat.traceback[0].filename == 'sites'}
        return [sites.get(i + 1, (0, 0)) for i in range(self.SITES)]

    def check(self, seed):
        _testtracer.log_play(True)
        _testtracer.set_window_credit(UNLIMITED)
        wanted = self.keep(self.play_phases(seed))
        self.assertIsNone(_testtracer.fault())
        snapshot = tracemalloc.take_snapshot()
        peaks = snapshot.peaks
        self.assertEqual([self.by_site(peak) for peak in peaks],
                         [sums for _, sums in wanted])
        self.assertEqual(self.by_site(snapshot.peak), wanted[0][1])
        return len(peaks)

    def test_random_phases(self):
        numbers = set()
        for nframe in 1, 2, 25, 'full':
            for seed in range(1, 60 if SLOW else 9):
                with self.subTest(nframe=nframe, seed=seed), Tracing(nframe):
                    numbers.add(self.check(seed))
                    _testtracer.end_play()
        self.assertEqual(numbers, {1, 2, 3, 4} & numbers)
        self.assertGreater(len(numbers), 2)


class CostTests(unittest.TestCase):

    def test_nobody_looks_without_credit(self):
        with Tracing():
            _testtracer.set_window_credit(-UNLIMITED)
            make_bytes(1000)
            for i in range(100):
                make_strings(1000)
                make_lists(500)
            snapshot = tracemalloc.take_snapshot()
        self.assertEqual([place(peak) for peak in snapshot.peaks],
                         [line(make_bytes)])

    def test_quick_waves(self):
        """They use up the credit, and earn less than they would need."""
        with Tracing():
            for i in range(1000):
                (make_bytes, make_lists)[i % 2](300)
            self.assertLess(_testtracer.set_window_credit(0), 5_000_000)
            self.assertIsNone(_testtracer.fault())
            snapshot = tracemalloc.take_snapshot()
        self.assertEqual(sum(stat.size for stat in
                             snapshot.peak.statistics('lineno')),
                         snapshot.traced_memory[1])

    def test_without_credit_the_peak_is_exact(self):
        sites = make_sites(40)
        self.addCleanup(_testtracer.set_phase, 0, 0, 0)
        self.addCleanup(_testtracer.log_play, False)
        self.addCleanup(_testtracer.end_play)
        for seed in range(1, 6):
            with self.subTest(seed=seed), Tracing(5):
                _testtracer.log_play(True)
                _testtracer.set_window_credit(-UNLIMITED)
                for rising in 1000, 1500, 1200:
                    _testtracer.set_phase(0, 40, rising)
                    _testtracer.play(sites, 3500, seed,
                                     tracemalloc.get_traced_memory, nothing)
                    self.assertIsNone(_testtracer.fault())
                highest, sums = _testtracer.get_highest(
                    0, _testtracer.get_log())
                snapshot = tracemalloc.take_snapshot()
                self.assertAlmostEqual(snapshot.traced_memory[1], highest,
                                       delta=1000)
                self.assertEqual(ModelTests.by_site(ModelTests,
                                                    snapshot.peak), sums)
                _testtracer.end_play()


if __name__ == '__main__':
    unittest.main()
