"""Snapshots made of given traces: grouping, comparing, filtering."""

import gc
import pickle
import random
import unittest

import tracemalloc
from tracemalloc import DomainFilter, Filter, Snapshot

A1, A2, B1, C3 = ('a.py', 1), ('a.py', 2), ('b.py', 1), ('c.py', 3)


def rows(stats):
    return [(str(stat.traceback), stat.size, stat.count) for stat in stats]


class GroupTests(unittest.TestCase):

    def test_recursion_counts_a_block_once(self):
        snapshot = Snapshot([(0, 10, (A1, A2, A1, B1), 4)], 4)
        self.assertEqual(rows(snapshot.statistics('lineno', True)),
                         [('b.py:1', 10, 1), ('a.py:2', 10, 1),
                          ('a.py:1', 10, 1)])
        self.assertEqual(rows(snapshot.statistics('filename', True)),
                         [('b.py:0', 10, 1), ('a.py:0', 10, 1)])

    def test_cumulative_over_siblings(self):
        snapshot = Snapshot([(0, 1, (A1, B1), 2), (0, 2, (A2, B1), 2),
                             (0, 4, (C3, A1, B1), 3), (0, 8, (B1,), 1)], 3)
        self.assertEqual(rows(snapshot.statistics('lineno', True)),
                         [('b.py:1', 15, 4), ('a.py:1', 5, 2),
                          ('c.py:3', 4, 1), ('a.py:2', 2, 1)])
        self.assertEqual(rows(snapshot.statistics('filename', True)),
                         [('b.py:0', 15, 4), ('a.py:0', 7, 3),
                          ('c.py:0', 4, 1)])

    def test_compare_different_limits(self):
        """At the frames that both have: the longer tracebacks are cut."""
        one = Snapshot([(0, 1, (A1,), 3), (0, 4, (C3,), 1)], 1)
        full = Snapshot([(0, 1, (A1, B1), 2), (0, 2, (A1, A2, B1), 3)], 65535)
        for old, new, sign in (one, full, 1), (full, one, -1):
            found = {(str(stat.traceback), sign * stat.size_diff,
                      sign * stat.count_diff)
                     for stat in new.compare_to(old, 'traceback')}
            self.assertEqual(found, {('a.py:1', 2, 1), ('c.py:3', -4, -1)})
            found = {(str(stat.traceback), sign * stat.size_diff)
                     for stat in new.compare_to(old, 'lineno', True)}
            self.assertEqual(found, {('a.py:1', 2), ('c.py:3', -4)})
        # They stay as they are.
        self.assertEqual((one.traceback_limit, full.traceback_limit),
                         (1, 65535))
        self.assertEqual(len(full.traces[1].traceback), 3)
        for limit in 0, None, 1 << 70:
            other = Snapshot([(0, 1, (A1, B1), 2)], limit)
            self.assertEqual(
                [str(stat.traceback) for stat
                 in full.compare_to(other, 'traceback') if stat.count == 1],
                ['b.py:1', 'b.py:1'])

    def test_same_frames_in_different_tuples(self):
        raw = [(0, 1, tuple([A1, B1]), 2), (0, 2, tuple([A1, B1]), 9)]
        snapshot = Snapshot(raw, 2)
        self.assertEqual(snapshot.traces._traces, raw)
        stats = snapshot.statistics('traceback')
        self.assertEqual([(s.size, s.count) for s in stats], [(3, 2)])
        self.assertEqual(len(snapshot.call_tree().nodes), 2)

    def test_line_of_several_functions(self):
        # The class body makes a function, the function a list; another
        # drops all that it makes.
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        names = {}
        exec(compile('class Many:\n'
                     '    def list(self): return [None] * 10000\n'
                     'kept = Many().list()\n'
                     'text = "".join(str(n) for n in range(999))\n'
                     'any(str(n) == "" for n in range(9999))\n',
                     'many.py', 'exec'), names)
        gc.collect()              # without the GIL, functions wait for it
        snapshot = tracemalloc.take_snapshot()
        for order in 'size', 'peak_size', 'total_size':
            functions = {stat.key[1]: stat.traceback[0].function for stat
                         in snapshot.statistics('lineno', order=order)
                         if stat.key[0] == 'many.py'}
            self.assertEqual((functions[2], functions[4]),
                             ('Many.list', '<module>'))
        self.assertEqual(functions[5], '<genexpr>')
        self.assertLess({('many.py', 'Many', 1), ('many.py', 'Many.list', 2)},
                        {stat.key for stat
                         in snapshot.statistics('function')})

    def test_order(self):
        snapshot = Snapshot([(0, 1, (A1,), 1)] * 3 + [(0, 50, (B1,), 1)], 1)
        self.assertEqual(
            rows(snapshot.statistics('lineno', order='count')),
            [('a.py:1', 3, 3), ('b.py:1', 50, 1)])
        self.assertEqual(snapshot.statistics('lineno', order='garbage_size'),
                         [])
        with self.assertRaisesRegex(ValueError, "unknown order: 'weight'"):
            snapshot.statistics('lineno', order='weight')
        with self.assertRaisesRegex(ValueError, r"unknown key_type: \['li"):
            snapshot.statistics(['lineno'])
        with self.assertRaisesRegex(ValueError, "'peak_size' is not known"):
            snapshot.statistics('type', order='peak_size')

    def test_domain_and_address(self):
        snapshot = Snapshot([(7, 5, (A1,), 1), (0, 3, (A1,), 1)], 1)
        self.assertEqual(rows(snapshot.statistics('domain')),
                         [('domain 7', 5, 1), ('domain 0', 3, 1)])
        stats = snapshot.statistics('address')
        self.assertEqual([(s.size, s.count, str(s.traceback)) for s in stats],
                         [(5, 1, 'a.py:1'), (3, 1, 'a.py:1')])
        self.assertEqual(stats[-1:], [stats[1]])
        self.assertEqual(stats, list(stats))
        self.assertEqual(pickle.loads(pickle.dumps(stats)), stats)
        self.assertNotEqual(stats, [stats[1], stats[0]])
        with self.assertRaises(IndexError):
            stats[2]

    def test_paths_are_in_order(self):
        # Names of which none, one or the other is the start of the other;
        # the order of lone surrogates and of what lies beyond 16 bits.
        names = ['a', 'a.py', 'a.pyc', 'b', 'é', '\uffff', '\udc80',
                 '\U0001f600']
        number = random.Random(5).randrange
        raw = []
        for _ in range(3000):
            frames = tuple((names[number(len(names))], number(4))
                           for _ in range(1 + number(4)))
            raw.append((0, 8 * number(3), frames, None))
        snapshot = Snapshot(raw, 4)
        for order in 'size', 'count', 'peak_count':
            stats = snapshot.statistics('traceback', order=order)
            right = sorted(stats, reverse=True, key=lambda stat: (
                getattr(stat, order), stat.size, stat.count, stat.traceback))
            self.assertEqual(stats, right)
        stats = list(snapshot.statistics('address'))
        self.assertEqual(len(stats), 3000)
        self.assertEqual(stats, sorted(
            stats, reverse=True, key=lambda s: (s.size, s.traceback)))
        self.assertEqual(sum(s.size for s in stats), sum(r[1] for r in raw))

    def test_module(self):
        lib = '/usr/lib/python3.13/'
        snapshot = Snapshot([
            (0, 1, ((lib + 'json/decoder.py', 1),), 1),
            (0, 2, ((lib + 'json/scanner.py', 2),), 1),
            (0, 4, ((lib + 'site-packages/numpy/core/x.py', 3),), 1),
            (0, 8, (('<frozen importlib._bootstrap>', 3),), 1),
            (0, 16, (('/home/u/script.py', 3),), 1),
            (0, 32, (('<string>', 3),), 1)], 1)
        self.assertEqual([(s.key, s.size) for s in
                          snapshot.statistics('module')],
                         [('<string>', 32), ('script', 16), ('importlib', 8),
                          ('numpy', 4), ('json', 3)])

    def test_unknown_values_of_blocks(self):
        stat, = Snapshot([(0, 5, (A1,), 1)], 1).statistics('type')
        self.assertEqual((stat.key, stat.total_size), ('<memory>', None))

    def test_compare_by_domain_and_type(self):
        old = Snapshot([(1, 5, (A1,), 1), (2, 5, (A1,), 1)], 1)
        new = Snapshot([(1, 9, (A1,), 1)], 1)
        diffs = new.compare_to(old, 'domain')
        self.assertEqual([(d.key, d.size_diff, d.count_diff) for d in diffs],
                         [('domain 2', -5, -1), ('domain 1', 4, 0)])

    def test_wrong_traces(self):
        for raw in ([5], [(0, 1)], [(0, 1, ())], [(0, 1, (A1, 5))],
                    [(0, 'x', (A1,), 1)], [(0, 1, (('a', 'b'),), 1)], 5):
            with self.subTest(raw=raw), self.assertRaises(TypeError):
                Snapshot(raw, 1)
        for raw in ((-1, 1, (A1,), 1), (0, -1, (A1,), 1), (2**32, 1, (A1,)),
                    (0, 2**64, (A1,), 1), (0, 1, (A1,), 2**40),
                    (0, 1, (('a', -1),), 1), (0, 1, (('a', 2**31),), 1)):
            with self.subTest(raw=raw), self.assertRaises(ValueError):
                Snapshot([raw], 1)


class FilterTests(unittest.TestCase):

    raw = [(0, 1, (A1, B1), 2), (0, 2, (A2, B1), 2), (3, 4, (A1, B1), 2),
           (0, 8, (C3,), 1)]

    def sizes(self, *filters):
        snapshot = Snapshot(self.raw, 2).filter_traces(filters)
        sizes = [trace.size for trace in snapshot.traces]
        # Nodes and blocks tell the same.
        self.assertEqual(sum(s.size for s in snapshot.statistics('lineno')),
                         sum(sizes))
        return sizes

    def test_filters_as_stock(self):
        self.assertEqual(self.sizes(Filter(True, 'a.py')), [1, 2, 4])
        self.assertEqual(self.sizes(Filter(False, 'a.py')), [8])
        self.assertEqual(self.sizes(Filter(True, 'a.py', 2)), [2])
        for lineno in -1, -2**70, 2**31, 2**70:
            self.assertEqual(self.sizes(Filter(True, '*', lineno)), [])
            self.assertEqual(self.sizes(Filter(False, '*', lineno)),
                             [1, 2, 4, 8])
        self.assertEqual(self.sizes(Filter(True, 'b.py')), [])
        self.assertEqual(self.sizes(Filter(True, 'b.py', all_frames=True)),
                         [1, 2, 4])
        self.assertEqual(self.sizes(Filter(False, 'b.py', all_frames=True)),
                         [8])
        self.assertEqual(self.sizes(Filter(True, 'a.py', domain=3)), [4])
        self.assertEqual(self.sizes(Filter(False, 'a.py', domain=3)),
                         [1, 2, 8])
        self.assertEqual(self.sizes(DomainFilter(True, 3)), [4])
        self.assertEqual(self.sizes(Filter(True, 'c.py'),
                                    Filter(True, 'a.py', 2)), [2, 8])
        self.assertEqual(self.sizes(Filter(True, '*.py'),
                                    Filter(False, 'c*'),
                                    DomainFilter(False, 3)), [1, 2])

    def test_filter_of_ones_own(self):
        class Large(tracemalloc.BaseFilter):
            def _match(self, trace):
                return trace[1] >= 4
        self.assertEqual(self.sizes(Large(True)), [4, 8])
        self.assertEqual(self.sizes(Large(True), Filter(True, 'a.py', 2)),
                         [2, 4, 8])

    def test_agrees_with_stock_on_random_filters(self):
        import itertools
        from tracemalloc.filters import _passes
        choices = [Filter(inclusive, pattern, lineno, all_frames, domain)
                   for inclusive in (True, False)
                   for pattern in ('a.py', 'b*')
                   for lineno in (None, 1)
                   for all_frames in (False, True)
                   for domain in (None, 0, 3)]
        for pair in itertools.combinations(choices, 2):
            expected = [trace[1] for trace in self.raw if _passes(pair, trace)]
            self.assertEqual(self.sizes(*pair), expected, pair)


if __name__ == "__main__":
    unittest.main()
