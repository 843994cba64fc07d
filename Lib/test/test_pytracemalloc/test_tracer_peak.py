"""Who made the peak, and what only the cyclic collector could free."""
import gc
import random
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import Tracing, line_of


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
        self.assertGreaterEqual(garbage[line_of(make_cycles, 2)], 500)
        self.assertEqual(garbage.get(line_of(make_counted, 2), 0), 0)


if __name__ == '__main__':
    unittest.main()
