"""Counters of a site: who made the peak, what was ever allocated, and what
only the cyclic collector could free."""
import gc
import itertools
import random
import sys
import tracemalloc
import unittest

from test.support import check_sanitizer, import_helper
from test.test_pytracemalloc.helpers import (FLAVOUR, SLOW, Tracing, line_of,
                                             stat_at)

_testtracer = import_helper.import_module('_testtracer')


def make_sites(n):
    """Functions with a line each; none of them makes an object."""
    scope = {'step': _testtracer.step}
    exec(compile(''.join(f'def site{i}(): return step()\n'
                         for i in range(n)), 'sites', 'exec'), scope)
    return tuple(scope[f'site{i}'] for i in range(n))


def churn(seed, keep):
    generator = random.Random(seed)
    for i in range(5000):
        n = generator.randrange(3000)
        keep[generator.randrange(300)] = bytes(n) if i % 3 else [0] * (n % 40)
        if generator.randrange(2000) == 0:
            keep.clear()
    keep.clear()


def make_cycles():
    for i in range(500):
        a = [i]
        a.append(a)


def make_counted():
    for i in range(500):
        a = [i, i]


def make_many(n):
    return [x * 0.5 for x in range(n)]


def make_tuples(n):
    a = n
    for i in itertools.repeat(None, n):
        made = a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a
    return made


def make_much(keep, n, byte=b'x'):
    for _ in range(n):
        keep[0] = byte * 470


class PeakTests(unittest.TestCase):

    def test_sites_add_up_to_the_peak(self):
        for nframe in 1, 5, 'full':
            for seed in range(5):
                with self.subTest(nframe=nframe, seed=seed), Tracing(nframe):
                    churn(seed, {})
                    if seed % 2:
                        tracemalloc.reset_peak()
                        churn(seed + 100, {})
                    snapshot = tracemalloc.take_snapshot()
                    current, peak = snapshot.traced_memory
                    self.assertGreater(peak, current + 100_000)
                    for key in 'lineno', 'traceback':
                        self.assertEqual(
                            sum(stat.size for stat
                                in snapshot.peak.statistics(key)), peak)

    def by_site(self, snapshot, nsites):
        sites = {stat.traceback[0].lineno: (stat.size, stat.count)
                 for stat in snapshot.statistics('lineno')
                 if stat.traceback[0].filename == 'sites'}
        return [sites.get(i + 1, (0, 0)) for i in range(nsites)]

    def check_played(self, sites, steps, seed):
        """Peak and sites are those of the slow model that plays along."""
        base = _testtracer.play(sites, steps, seed,
                                tracemalloc.get_traced_memory,
                                tracemalloc.reset_peak)
        snapshot = tracemalloc.take_snapshot()
        total, highest, live, at_peak = _testtracer.get_played()
        self.assertGreater(highest, total)
        self.assertEqual(snapshot.traced_memory[1] - base, highest)
        self.assertEqual(self.by_site(snapshot, len(live)), live)
        self.assertEqual(self.by_site(snapshot.peak, len(live)), at_peak)

    def test_each_site_at_the_peak(self):
        self.check_random_programs(40)

    def test_blocks_resized_where_they_were_made(self):
        self.check_random_programs(1)

    def check_random_programs(self, nsites):
        sites = make_sites(nsites)
        # Functions get what sys.monitoring needs at their first call, if it
        # was ever used.
        with Tracing():
            _testtracer.play(sites, 4000, 1, tracemalloc.get_traced_memory,
                             tracemalloc.reset_peak)
            _testtracer.end_play()
        for nframe in 1, 2, 'full':
            for seed in range(1, 100 if SLOW else 6):
                with self.subTest(nframe=nframe, seed=seed), Tracing(nframe):
                    self.addCleanup(_testtracer.end_play)
                    self.check_played(sites, 2000 * (seed % 5 + 1), seed)
                    self.check_played(sites, 6000, 0)
                    _testtracer.end_play()

    def test_sums_beyond_32_bits(self):
        n = 9_000_000
        size = sys.getsizeof(bytes(470))
        self.assertGreater(n * size, 2 ** 32)
        keep = [None]
        with Tracing():
            make_much(keep, n)
            snapshot = tracemalloc.take_snapshot()
        stat = stat_at(snapshot, *line_of(make_much, 2))
        self.assertEqual((stat.size, stat.count), (size, 1))
        self.assertEqual((stat.total_size, stat.total_count), (n * size, n))
        self.assertEqual((stat.peak_size, stat.peak_count), (2 * size, 2))

    @unittest.skipIf(FLAVOUR == 'ignore', 'not seen')
    @unittest.skipIf(check_sanitizer(thread=True), 'too slow')
    def test_sums_of_a_free_list_beyond_32_bits(self):
        n = 22_000_000
        with Tracing():
            made = make_tuples(n)
            snapshot = tracemalloc.take_snapshot()
        size = sys.getsizeof(made)
        self.assertGreater(n * size, 2 ** 32)
        stat = stat_at(snapshot, *line_of(make_tuples, 3))
        self.assertEqual((stat.size, stat.count), (size, 1))
        self.assertEqual((stat.total_size, stat.total_count), (n * size, n))

    @unittest.skipUnless(
        SLOW, 'takes half a gigabyte: make check-all runs it')
    def test_peak_of_very_many_blocks(self):
        n = 17_000_000              # more than 24 bits hold
        with Tracing():
            make_many(n).clear()
            make_many(10)
            snapshot = tracemalloc.take_snapshot()
        stat = stat_at(snapshot.peak, *line_of(make_many, 1))
        self.assertGreater(stat.count, n)
        self.assertLess(stat.count, n + 10)
        self.assertGreater(stat.size, n * sys.getsizeof(0.5))

    def test_garbage_is_what_the_collector_freed(self):
        with Tracing():
            gc.collect()
            gc.disable()
            self.addCleanup(gc.enable)
            make_cycles()
            make_counted()
            gc.collect()
            statistics = tracemalloc.take_snapshot().statistics(
                'lineno', order='garbage_count')
        garbage = {(stat.traceback[0].filename, stat.traceback[0].lineno):
                   stat.garbage_count for stat in statistics}
        # Unless hooks see it, what was on a free list is not new.
        self.assertGreaterEqual(garbage[line_of(make_cycles, 2)],
                                400 if FLAVOUR == 'ignore' else 500)
        self.assertEqual(garbage.get(line_of(make_counted, 2), 0), 0)


if __name__ == '__main__':
    unittest.main()
