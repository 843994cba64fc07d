"""Snapshots of the running interpreter: types, peak, measures, arenas."""

import builtins
import gc
import os
import pickle
import threading
import unittest
from test.support import Py_DEBUG, check_sanitizer, import_helper
from test.support.script_helper import assert_python_ok
from test.test_pytracemalloc.helpers import (
    BYTES_WHILE_TAKING, FLAVOUR, HAS_ARENAS)

import tracemalloc
from tracemalloc import Filter, measure, take_snapshot


class Slots:
    __slots__ = ('a', 'b')


class Weak:
    __slots__ = ('a', '__weakref__')


class Plain:
    def __init__(self, value):
        self.value = value


class Ints(int):
    pass


class Lists(list):
    pass


# Of 3.15.
FROZEN_DICTS = [
    (lambda i: builtins.frozendict(a=i), {'frozendict', '<dict keys>'}),
] if hasattr(builtins, 'frozendict') else []


class LiveCase(unittest.TestCase):
    nframe = 1

    def setUp(self):
        tracemalloc.stop()
        tracemalloc.start(self.nframe)
        self.addCleanup(tracemalloc.stop)

    def here(self, snapshot):
        return snapshot.filter_traces([Filter(True, __file__)])


class TypeTests(LiveCase):

    def types_of(self, make, n=3000):
        """Types of the live blocks that a line makes n times; in the flavour
        "ignore" 2000 may come from a free list, unseen."""
        made = [None] * n
        lineno = make.__code__.co_firstlineno
        for i in range(n):
            made[i] = make(i)
        snapshot = take_snapshot().filter_traces(
            [Filter(True, __file__, lineno)])
        return {stat.key: stat.count for stat in snapshot.statistics('type')
                if stat.count >= n - 2000}

    def test_kinds(self):
        name = __name__ + '.'
        for make, expected in (
            (lambda i: (i, i), {'tuple'}),
            (lambda i: i + 10.5, {'float'}),
            (lambda i: 10**30 + i, {'int'}),
            (lambda i: "%d!" % i, {'str'}),
            (lambda i: b"%d!" % i, {'bytes'}),
            (lambda i: [i], {'list', '<list items>'}),
            (lambda i: {i: i}, {'dict', '<dict keys>'}),
            (lambda i: set(range(50)), {'set', '<set table>'}),
            (lambda i: bytearray(20), {'bytearray', '<bytearray buffer>'}),
            (lambda i: bytearray(2000), {'bytearray', '<bytearray buffer>'}),
            (lambda i: (lambda: i), {'function', 'tuple'}),
            (lambda i: Slots(), {name + 'Slots'}),
            (lambda i: Weak(), {name + 'Weak'}),
            (lambda i: Plain.__new__(Plain), {name + 'Plain'}),
            (lambda i: Ints(10**9 + i), {name + 'Ints'}),
            (lambda i: Lists([i]), {name + 'Lists', '<list items>'}),
            (lambda i: threading.Lock(), {'_thread.lock'}),
            (lambda i: iter([]), {'list_iterator'}),
            (lambda i: tuple(range(200)), {'tuple'}),
            *FROZEN_DICTS,
        ):
            with self.subTest(expected=expected):
                found = self.types_of(make)
                for text in expected:
                    self.assertIn(text, found)
                self.assertLessEqual(
                    set(found), expected | {'list', 'int', 'cell', '<raw>'})

    def test_types(self):
        made = [type('T%d' % i, (), {}) for i in range(20)]
        snapshot = self.here(take_snapshot())
        stats = {s.key: s.count for s in snapshot.statistics('type')}
        self.assertGreaterEqual(stats['type'], 20)
        del made

    def test_type_and_line(self):
        made = [(i % 9,) for i in range(3000)]
        stat = self.here(take_snapshot()).statistics('type+lineno')[0]
        self.assertEqual(stat.key[0], 'tuple')
        if FLAVOUR == 'ignore':
            self.assertGreaterEqual(stat.count, 1000)
        else:
            self.assertEqual(stat.count, 3000)
        self.assertIn('tuple at ', str(stat))
        del made

    def test_types_of_another_interpreter(self):
        interpreters = import_helper.import_module('_interpreters')
        made = interpreters.create('legacy')
        try:
            interpreters.exec(made, "class Other: pass\n"
                                    "keep = [Other() for _ in range(100)]")
            stats = {s.key: s.count for s in
                     take_snapshot().statistics('type')}
            if FLAVOUR == 'ignore':
                # A dead bound method on a free list holds its class where
                # the type of an object with a dictionary would be.
                self.assertGreaterEqual(stats.get('Other'), 100)
            else:
                self.assertEqual(stats.get('Other'), 100)
        finally:
            interpreters.destroy(made)

    def test_values_that_hold_classes_are_no_objects(self):
        lists = [[int, str, float, dict] * 4 for i in range(200)]
        stats = {s.key: s.count for s in
                 self.here(take_snapshot()).statistics('type')}
        self.assertGreaterEqual(stats['<list items>'], 100)
        self.assertEqual(stats.get('int', 0) // 100, 0)
        del lists


class MeasureTests(LiveCase):

    def test_snapshot_agrees_with_traced_memory(self):
        snapshot = take_snapshot()
        current, peak = snapshot.traced_memory
        self.assertEqual(sum(t.size for t in snapshot.traces), current)
        self.assertEqual(sum(s.size for s in snapshot.statistics('lineno')),
                         current)
        self.assertEqual(
            sum(s.size for s in snapshot.peak.statistics('lineno')), peak)

    def test_snapshot_does_not_show_itself(self):
        take_snapshot()
        before = take_snapshot()
        after = take_snapshot()
        names = {os.path.basename(d.traceback[0].filename)
                 for d in after.compare_to(before, 'lineno') if d.size_diff}
        self.assertLessEqual(
            names, {'snapshot.py', 'traces.py', '__init__.py',
                    os.path.basename(__file__)})

    def test_peak(self):
        large = bytearray(3_000_000)
        del large
        snapshot = take_snapshot()
        stat = snapshot.peak.statistics('lineno')[0]
        self.assertGreaterEqual(stat.size, 3_000_000)
        self.assertLess(stat.size, 3_001_000)
        self.assertEqual(stat.traceback[0].filename, __file__)
        self.assertEqual(len(snapshot.peak.traces), 0)
        stat = snapshot.statistics('lineno', order='peak_size')[0]
        self.assertGreaterEqual(stat.peak_size, 3_000_000)

    def test_totals(self):
        for i in range(1000):
            bytes(10_000)
        stat = take_snapshot().statistics('lineno', order='total_size')[0]
        self.assertGreaterEqual(stat.total_size, 10_000_000)
        self.assertGreaterEqual(stat.total_count, 1000)
        self.assertLess(stat.size, 100_000)

    def test_garbage(self):
        for i in range(100):
            a = Plain(bytearray(1000))
            a.self = a
        del a
        gc.collect()
        stats = take_snapshot().statistics('lineno', order='garbage_count')
        self.assertGreaterEqual(sum(s.garbage_count for s in stats), 200)

    def test_without_traces(self):
        snapshot = take_snapshot(traces=False)
        self.assertEqual(len(snapshot.traces), 0)
        self.assertTrue(snapshot.statistics('lineno'))
        for key_type in ('type', 'address', 'domain', 'type+lineno'):
            with self.assertRaisesRegex(ValueError, "traces=True"):
                snapshot.statistics(key_type)
        with self.assertRaisesRegex(ValueError, "traces=True"):
            snapshot.filter_traces([tracemalloc.DomainFilter(True, 0)])

    def test_measure(self):
        before = tracemalloc.get_traced_memory()[1]
        with measure() as outer:
            first = bytearray(1_000_000)
            with measure() as inner:
                bytearray(500_100)
                self.assertGreaterEqual(inner.peak, 500_000)
            self.assertLess(inner.peak, 600_000)
            self.assertLess(inner.current, 10_000)
            self.assertGreaterEqual(inner.total_size, 500_000)
        self.assertGreaterEqual(outer.current, 1_000_000)
        self.assertGreaterEqual(outer.peak, 1_500_000)
        self.assertGreaterEqual(outer.total_size, 1_500_000)
        self.assertGreaterEqual(outer.total_count, 2)
        frozen = outer.peak
        del first
        other = bytearray(5_000_000)
        self.assertEqual(outer.peak, frozen)
        self.assertGreater(tracemalloc.get_traced_memory()[1], before)
        del other

    def test_measure_below_an_old_peak(self):
        old = bytearray(4_000_000)
        del old
        peak = tracemalloc.get_traced_memory()[1]
        with measure() as m:
            bytearray(1_000_100)
        self.assertGreaterEqual(m.peak, 1_000_000)
        self.assertLess(m.peak, 1_100_000)
        self.assertEqual(tracemalloc.get_traced_memory()[1], peak)

    def test_measure_misused(self):
        m = measure()
        with m:
            with self.assertRaisesRegex(RuntimeError, "running already"):
                m.__enter__()
        tracemalloc.stop()
        with self.assertRaisesRegex(RuntimeError, "must be tracing"):
            measure().__enter__()

    def test_measure_not_ended(self):
        m = measure()
        m.__enter__()
        del m
        made = [bytearray(100) for i in range(1000)]
        self.assertGreater(tracemalloc.get_traced_memory()[1], 100_000)
        del made


class TruncateTests(LiveCase):
    nframe = 3

    def test_equal_cut_paths_are_one(self):
        def deep(n):
            return bytearray(1000) if n == 0 else deep(n - 1)
        blocks = [deep(n) for n in (5, 6, 7, 20)]
        snapshot = self.here(take_snapshot())
        stat = snapshot.statistics('traceback')[0]
        self.assertEqual(stat.count, 8)     # object and buffer
        self.assertEqual(len(stat.traceback), 3)
        totals = {trace.traceback.total_nframe for trace in snapshot.traces
                  if trace.size >= 1000}
        self.assertEqual(len(totals), 4)
        nodes = snapshot.call_tree().nodes
        for i, (parent, *rest) in enumerate(nodes):
            self.assertLess(parent, i)
        del blocks


class ArenaTests(LiveCase):

    def test_stats(self):
        stats = tracemalloc.get_arena_stats()
        self.assertEqual(stats['bytes'], stats['used'] + stats['fragmented']
                         + stats['overhead'] + stats['free'])
        self.assertEqual(
            stats['used'], sum(c['block_size'] * c['used_blocks']
                               for c in stats['size_classes']))

    @unittest.skipIf(HAS_ARENAS, 'there are arenas')
    def test_none(self):
        stats = tracemalloc.get_arena_stats()
        self.assertEqual(stats.pop('size_classes'), [])
        self.assertEqual(set(stats.values()), {0})
        self.assertEqual(take_snapshot().pinned_arenas(1), [])

    @unittest.skipUnless(HAS_ARENAS, 'without the GIL there are no arenas')
    def test_pinned(self):
        blocks = [(i,) for i in range(200_000)]
        kept = blocks[100_000]
        del blocks
        snapshot = take_snapshot()
        arenas = snapshot.pinned_arenas(0.01)
        pins = [block for arena in arenas for block in arena.traced_blocks]
        self.assertIn((id(kept) - 16, 'tuple'),
                      [(pin.address, pin.type) for pin in pins])
        for arena in arenas:
            self.assertLessEqual(arena.used, arena.size * 0.01)
        every = snapshot.pinned_arenas(1)
        self.assertGreaterEqual(len(every), len(arenas))
        self.assertEqual(len({arena.address for arena in every}), len(every))


class FunctionTests(LiveCase):
    nframe = 5

    def test_function_and_columns(self):
        def make():
            return bytearray(12345)
        block = make()
        snapshot = take_snapshot()
        stat = next(s for s in snapshot.statistics('function')
                    if s.size > 12000)
        frame = stat.traceback[0]
        self.assertTrue(frame.function.endswith('<locals>.make'))
        self.assertEqual(frame.lineno, make.__code__.co_firstlineno)
        trace = next(t for t in snapshot.traces if t.size > 12000)
        frame = trace.traceback[-1]
        self.assertTrue(frame.function.endswith('<locals>.make'))
        self.assertEqual(frame.lineno, make.__code__.co_firstlineno + 1)
        self.assertIsInstance(frame.colno, int)
        self.assertEqual(pickle.loads(pickle.dumps(trace)), trace)
        self.assertNotIn(b'FrameInfo', pickle.dumps(trace))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            plain = pickle.loads(pickle.dumps(frame._frame, protocol))
            self.assertEqual((type(plain), plain), (tuple, frame._frame))
        del block


# Lists that may come from the free list, unseen: nobody knows whose their items
# are then.
UNSEEN = '80' if FLAVOUR == 'ignore' else '0'


class MemoryTests(unittest.TestCase):

    @unittest.skipUnless(os.access('/proc/self/clear_refs', os.W_OK),
                         "needs to reset the peak of resident memory")
    @unittest.skipIf(check_sanitizer(address=True, memory=True, thread=True),
                     "a sanitizer takes memory of its own")
    @unittest.skipIf(Py_DEBUG, "a debug build checks the tables meanwhile")
    def test_memory_while_taking(self):
        """At most 24 bytes a block, or 32 without the GIL."""
        code = """if True:
            import tracemalloc
            def resident(name):
                with open('/proc/self/status') as file:
                    return int(file.read().split(name + ':')[1].split()[0])
            n = 200_000
            bound = %d
            tracemalloc.start(10)
            keep = %s
            tracemalloc.take_snapshot()
            with open('/proc/self/clear_refs', 'w') as file:
                file.write('5')
            before = resident('VmRSS')
            snapshot = tracemalloc.take_snapshot()
            extra = (resident('VmHWM') - before) * 1024
            blocks = len(snapshot.traces)
            assert blocks >= n
            assert extra < bound * blocks + 500_000, extra / blocks
        """
        for heap in ('[(i,) for i in range(n)]',
                     '[bytes(600) for _ in range(n)]',
                     '[[None] * 80 for _ in range(n)]',
                     '[{i: i} for i in range(n)]',
                     '[{} for _ in range(n)]'):
            with self.subTest(heap=heap):
                assert_python_ok('-c', code % (BYTES_WHILE_TAKING, heap))

    def test_large_heap_that_has_grown(self):
        """Room for 4 MiB of each kind of record, and more of it."""
        assert_python_ok('-X', 'tracemalloc', '-c', """if 1:
            import tracemalloc
            keep = [[None] for _ in range(600_000)]
            tracemalloc.take_snapshot()
            keep += [[None] for _ in range(300_000)]
            s = tracemalloc.take_snapshot()
            kinds = {t.key: t.count for t in s.statistics('type')}
            assert kinds['<list items>'] >= 900_000 - UNSEEN, kinds
            """.replace('UNSEEN', UNSEEN))

    def test_heap_of_another_size_each_time(self):
        assert_python_ok('-X', 'tracemalloc=5', '-c', """if 1:
            import tracemalloc
            def check(n, traces):
                keep = [({i: i}, [i] * (i % 200), bytes(i % 800))
                        for i in range(n)]
                s = tracemalloc.take_snapshot(traces=traces)
                stats = s.statistics('traceback')
                assert sum(t.size for t in stats) == s.traced_memory[0]
                if traces:
                    assert sum(t.size for t in s.traces) == s.traced_memory[0]
                    kinds = {t.key: t.count for t in s.statistics('type')}
                    for kind in 'dict', 'tuple', '<dict keys>':
                        assert kinds.get(kind, 0) >= n, (kind, n, kinds)
                    assert kinds.get('<list items>', 0) >= (
                        n * 199 // 200 - UNSEEN), (n, kinds)
            for n in 100, 30_000, 30_000, 100, 31_000, 1000:
                check(n, True)
                check(n, False)
            """.replace('UNSEEN', UNSEEN))


if __name__ == "__main__":
    unittest.main()
