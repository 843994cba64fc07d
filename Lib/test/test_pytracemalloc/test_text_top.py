"""DisplayTop: the outputs of the document, differences, groups."""

import io
import sys
import textwrap
import unittest
from datetime import datetime

import tracemalloc
import tracemalloctext

KIB = 1024
MIB = 1024 ** 2
DATE = datetime(2013, 10, 3, 11, 34, 39)

LIB = "/home/user/cpython/Lib/"
OURS = "/home/user/tracemalloc/Lib/"
BOOTSTRAP = "<frozen importlib._bootstrap>"


def spread(size, count, *frames):
    """Make `count` traces of `size` bytes in all."""
    share, left = divmod(size, count)
    return ([(0, share, frames, len(frames))] * (count - 1)
            + [(0, share + left, frames, len(frames))])


def make_snapshot(traces, limit=1, date=DATE):
    snapshot = tracemalloc.Snapshot(traces, limit)
    snapshot.timestamp = date
    return snapshot


class Case(unittest.TestCase):

    maxDiff = None

    def setUp(self):
        self.display_top = tracemalloctext.DisplayTop()
        self.file = io.StringIO()

    def check(self, expected):
        self.assertEqual(self.file.getvalue(),
                         textwrap.dedent(expected).lstrip("\n"))


class DocumentTests(Case):
    """The three examples at the top of the document."""

    def test_cumulative_by_filename(self):
        files = [LIB + "test/regrtest.py", LIB + "unittest/suite.py",
                 BOOTSTRAP, "/home/user/cpython/test/support/__init__.py",
                 OURS + "runpy.py"]
        frames = [(name, 1) for name in files]
        traces = []
        # Nested calls: the second file holds what the third allocates, ...
        for depth, size in ((1, 255), (2, 94), (3, 52), (4, 98), (5, 55)):
            path = frames[:6 - depth][::-1]
            traces += spread(size * MIB, 10, *path)
        for number in range(1330):
            traces += spread(822 * MIB // 1330 + 1, 2, ("m%d.py" % number, 1))
        top = self.display_top
        top.count = top.average = False
        top.display_snapshot(make_snapshot(traces, 25), 5, "filename",
                             cumulative=True, file=self.file)
        self.check("""
            2013-10-03 11:34:39: Cumulative top 5 allocations per filename
            #1: .../Lib/test/regrtest.py: 554 MiB
            #2: .../Lib/unittest/suite.py: 499 MiB
            #3: <frozen importlib._bootstrap>: 401 MiB
            #4: .../test/support/__init__.py: 349 MiB
            #5: .../tracemalloc/Lib/runpy.py: 255 MiB
            1330 more: 822 MiB
            """)

    def test_by_address(self):
        blocks = {0x805e7010: 80 * MIB + 100 * KIB, 0x9b531010: 12 * MIB,
                  0x1a9b2838: 1536 * KIB, 0x19dbfd88: 253 * KIB,
                  0xa9fdcf0: 252 * KIB}
        stats = {address: (size, 1) for address, size in blocks.items()}
        small = 645844
        left = 59_700_000
        for number in range(small):
            size = left // (small - number)
            left -= size
            stats[0x1000 + number * 16] = (size, 1)
        grouped = tracemalloctext.GroupedStats(DATE, stats, "address")
        self.display_top.count = False
        self.display_top.display_top_stats(grouped, 5, self.file)
        self.check("""
            2013-10-03 11:34:39: Top 5 allocations per address
            #1: memory block 0x805e7010: size=80 MiB
            #2: memory block 0x9b531010: size=12 MiB
            #3: memory block 0x1a9b2838: size=1536 KiB
            #4: memory block 0x19dbfd88: size=253 KiB
            #5: memory block 0xa9fdcf0: size=252 KiB
            645844 more: size=56 MiB, average=92 B
            Traced Python memory: size=151 MiB, average=245 B
            """)

    def test_by_line_with_metrics(self):
        rows = [(OURS + "lzma.py", 120, 93 * MIB, 13),
                (BOOTSTRAP, 704, 26_100_000, 357474),
                (LIB + "unittest/case.py", 496, 2997 * KIB, 7942),
                (OURS + "linecache.py", 127, 2054 * KIB, 26474),
                (LIB + "test/test_datetime.py", 32, 1248 * KIB, 27),
                (BOOTSTRAP, 274, 989 * KIB, 12989),
                (LIB + "test/test_zipfile.py", 1319, 858 * KIB, 5),
                (LIB + "test/test_enumerate.py", 150, 852 * KIB, 29607),
                (LIB + "unittest/case.py", 306, 309 * KIB, 2504),
                (LIB + "test/test_zipfile.py", 1508, 307 * KIB, 12)]
        traces = []
        for filename, lineno, size, count in rows:
            traces += spread(size, count, (filename, lineno))
        for number in range(51150):
            count = 5 if number < 4202 else 4
            traces += spread(493, count, ("rest.py", number + 1))
        snapshot = make_snapshot(traces)
        for name, value, format in (
                ("unicode_interned.size", 1536 * KIB, "size"),
                ("gc.objects", 2688709, "int"),
                ("process_memory.rss", 828 * MIB, "size"),
                ("process_memory.vms", 887 * MIB, "size"),
                ("pymalloc.allocated", 277 * MIB, "size"),
                ("pymalloc.blocks", 5125645, "int"),
                ("pymalloc.fragmentation", 0.042, "percent"),
                ("pymalloc.free", 12 * MIB, "size"),
                ("pymalloc.max_size", 563 * MIB, "size"),
                ("pymalloc.size", 294 * MIB, "size"),
                ("tracemalloc.arena_size", 294 * MIB, "size"),
                ("tracemalloc.module.fragmentation", 0.192, "percent"),
                ("tracemalloc.module.free", 14 * MIB, "size"),
                ("tracemalloc.module.size", 77 * MIB, "size"),
                ("tracemalloc.traced.max_size", 182 * MIB, "size"),
                ("tracemalloc.traced.size", 151 * MIB, "size"),
                ("tracemalloc.traces", 645849, "int"),
                ("unicode_interned.len", 48487, "int")):
            snapshot.add_metric(name, value, format)
        self.display_top.display_snapshot(snapshot, 10, file=self.file)
        self.check("""
            2013-10-03 11:34:39: Top 10 allocations per filename and line number
            #1: .../tracemalloc/Lib/lzma.py:120: size=93 MiB, count=13, average=7 MiB
            #2: <frozen importlib._bootstrap>:704: size=24 MiB, count=357474, average=73 B
            #3: .../Lib/unittest/case.py:496: size=2997 KiB, count=7942, average=386 B
            #4: .../tracemalloc/Lib/linecache.py:127: size=2054 KiB, count=26474, average=79 B
            #5: .../Lib/test/test_datetime.py:32: size=1248 KiB, count=27, average=46 KiB
            #6: <frozen importlib._bootstrap>:274: size=989 KiB, count=12989, average=77 B
            #7: .../Lib/test/test_zipfile.py:1319: size=858 KiB, count=5, average=171 KiB
            #8: .../Lib/test/test_enumerate.py:150: size=852 KiB, count=29607, average=29 B
            #9: .../Lib/unittest/case.py:306: size=309 KiB, count=2504, average=126 B
            #10: .../Lib/test/test_zipfile.py:1508: size=307 KiB, count=12, average=25 KiB
            51150 more: size=24 MiB, count=208802, average=120 B
            Traced Python memory: size=151 MiB, count=645849, average=245 B

            gc.objects: 2688709
            process_memory.rss: 828 MiB
            process_memory.vms: 887 MiB
            pymalloc.allocated: 277 MiB
            pymalloc.blocks: 5125645
            pymalloc.fragmentation: 4.2%
            pymalloc.free: 12 MiB
            pymalloc.max_size: 563 MiB
            pymalloc.size: 294 MiB
            tracemalloc.arena_size: 294 MiB
            tracemalloc.module.fragmentation: 19.2%
            tracemalloc.module.free: 14 MiB
            tracemalloc.module.size: 77 MiB
            tracemalloc.traced.max_size: 182 MiB
            tracemalloc.traced.size: 151 MiB
            tracemalloc.traces: 645849
            unicode_interned.len: 48487
            unicode_interned.size: 1536 KiB

            """)


def old_snapshot():
    return make_snapshot(
        spread(30, 3, ("a.py", 2)) + spread(2, 1, ("a.py", 5))
        + spread(66, 1, ("b.py", 1)) + spread(7, 1, ("<unknown>", 0)),
        date=datetime(2013, 9, 12, 15, 16, 17))


def new_snapshot():
    return make_snapshot(
        spread(30, 3, ("a.py", 2)) + spread(5002, 2, ("a.py", 5))
        + spread(400, 1, ("c.py", 578)),
        date=datetime(2013, 9, 12, 15, 16, 50))


class DifferenceTests(Case):

    def display(self, snapshot, *args, **kw):
        self.file.seek(0)
        self.file.truncate()
        self.display_top.display_snapshot(snapshot, *args, file=self.file,
                                          **kw)

    def test_first(self):
        self.display(old_snapshot(), 3)
        self.check("""
            2013-09-12 15:16:17: Top 3 allocations per filename and line number
            #1: b.py:1: size=66 B, count=1, average=66 B
            #2: a.py:2: size=30 B, count=3, average=10 B
            #3: ???:?: size=7 B, count=1, average=7 B
            1 more: size=2 B, count=1, average=2 B
            Traced Python memory: size=105 B, count=6, average=17 B
            """)

    def test_by_line(self):
        self.display(old_snapshot(), 3)
        self.display(new_snapshot(), 3)
        self.check("""
            2013-09-12 15:16:50: Top 3 allocations per filename and line number (compared to 2013-09-12 15:16:17)
            #1: a.py:5: size=5002 B (+5000 B), count=2 (+1), average=2501 B
            #2: c.py:578: size=400 B (+400 B), count=1 (+1), average=400 B
            #3: b.py:1: size=0 B (-66 B), count=0 (-1)
            2 more: size=30 B (-7 B), count=3 (-1), average=10 B
            Traced Python memory: size=5432 B (+5327 B), count=6 (+0), average=905 B
            """.replace("5432 B", "5 KiB").replace("+5327 B", "+5 KiB"))

    def test_compact_by_filename(self):
        self.display_top.count = self.display_top.average = False
        self.display(old_snapshot(), 2, "filename")
        self.display(new_snapshot(), 2, "filename")
        self.check("""
            2013-09-12 15:16:50: Top 2 allocations per filename (compared to 2013-09-12 15:16:17)
            #1: a.py: 5032 B (+5000 B)
            #2: c.py: 400 B (+400 B)
            2 more: 0 B (-73 B)
            Traced Python memory: 5 KiB (+5 KiB)
            """)

    def test_metrics(self):
        old, new = old_snapshot(), new_snapshot()
        old.add_metric("process_memory.rss", 1024, "size")
        old.add_metric("gone", 1, "int")
        new.add_metric("process_memory.rss", 1500, "size")
        new.add_metric("added", 0.5, "percent")
        self.display_top.count = self.display_top.average = False
        self.display(old, 1, "filename")
        self.display(new, 1, "filename")
        self.assertEqual(self.file.getvalue().splitlines()[-5:], [
            "Traced Python memory: 5 KiB (+5 KiB)",
            "",
            "added: 50.0%",
            "process_memory.rss: 1500 B (+476 B)",
            ""])

    def test_compare_to_first(self):
        self.display_top.compare_to_previous = False
        first, second = old_snapshot(), new_snapshot()
        self.display(first)
        kept = self.display_top.previous_top_stats
        self.display(second)
        self.assertIs(self.display_top.previous_top_stats, kept)
        self.display(first)
        self.assertIn("#1: b.py:1: size=66 B (+0 B), count=1 (+0)",
                      self.file.getvalue())

    def test_other_groups_do_not_compare(self):
        self.display(old_snapshot(), 3, "line")
        self.display(new_snapshot(), 3, "filename")
        self.assertNotIn("compared to", self.file.getvalue())
        with self.assertRaisesRegex(ValueError, "do not compare"):
            new_snapshot().top_by("line").compare_to(
                old_snapshot().top_by("filename"))

    def test_color(self):
        self.display_top.color = True
        self.display(old_snapshot(), 1)
        self.assertIn("#1: \x1b[36mb.py:1\x1b[0m: size=\x1b[1;33m66 B\x1b[0m,",
                      self.file.getvalue())

    def test_only_count(self):
        self.display_top.size = self.display_top.average = False
        self.display(old_snapshot(), 1)
        self.assertIn("#1: b.py:1: count=1\n", self.file.getvalue())

    def test_nothing_at_all(self):
        self.display(make_snapshot([]))
        self.check("""
            2013-10-03 11:34:39: Top 10 allocations per filename and line number
            Traced Python memory: size=0 B, count=0
            """)


class BlockTests(Case):
    """Blocks by address, which are looked at in C."""

    def setUp(self):
        super().setUp()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.blocks = [bytes(size) for size in range(5000, 5300)]
        self.snapshot = tracemalloc.Snapshot.create(traces=True,
                                                    metrics=False)

    def test_biggest(self):
        lines = self.snapshot.top_by("address").compare_to()
        found = {key: size for _, size, _, _, key in lines.differences}
        for block in self.blocks:
            self.assertEqual(found[id(block)], sys.getsizeof(block))
        self.assertEqual(len(lines), len(found))
        self.assertEqual(lines.total(),
                         (0, sum(found.values()), 0, len(found)))
        for count in 0, 1, 2, 7, 299, len(found), len(found) + 1:
            # The general way, by sorting all.
            other = tracemalloctext.StatsDiff(list(lines.differences), None,
                                              lines.new_stats)
            other.sort()
            self.assertEqual(lines.top(count), other.differences[:count])

    def test_same_as_statistics(self):
        self.assertEqual(
            self.snapshot.top_by("address").stats,
            {stat.key: (stat.size, stat.count)
             for stat in self.snapshot.statistics("address")})

    def test_compare(self):
        new = bytes(90_000)
        gone = self.blocks.pop()
        address, lost = id(gone), sys.getsizeof(gone)
        del gone
        other = tracemalloc.Snapshot.create(traces=True)
        diff = other.top_by("address").compare_to(
            self.snapshot.top_by("address"))
        size = sys.getsizeof(new)
        self.assertEqual(diff.top(1), [(size, size, 1, 1, id(new))])
        self.assertIn((-lost, 0, -1, 0, address), diff.differences)

    def test_no_traces(self):
        snapshot = tracemalloc.Snapshot.create(traces=False)
        with self.assertRaisesRegex(ValueError, "no traces .* traces=True"):
            snapshot.top_by("address")


class GroupTests(unittest.TestCase):

    def test_unknown_group(self):
        with self.assertRaisesRegex(ValueError, "unknown group 'color': use "
                                                "one of line, filename, "):
            old_snapshot().top_by("color")
        with self.assertRaisesRegex(ValueError, "unknown group"):
            tracemalloctext.GroupedStats(DATE, {}, "lines")
        with self.assertRaisesRegex(ValueError, "unknown group"):
            tracemalloctext.DisplayTop().display(group_by="lines")

    def test_keys(self):
        self.assertEqual(new_snapshot().top_by("line").stats, {
            ("a.py", 2): (30, 3), ("a.py", 5): (5002, 2),
            ("c.py", 578): (400, 1)})
        self.assertEqual(new_snapshot().top_by("filename").stats, {
            "a.py": (5032, 5), "c.py": (400, 1)})

    def test_cumulative_needs_frames(self):
        traces = spread(10, 1, ("a.py", 1), ("b.py", 2))
        grouped = make_snapshot(traces, 1).top_by("filename", cumulative=True)
        self.assertFalse(grouped.cumulative)
        grouped = make_snapshot(traces, 2).top_by("filename", cumulative=True)
        self.assertTrue(grouped.cumulative)
        self.assertEqual(grouped.stats, {"a.py": (10, 1), "b.py": (10, 1)})

    def test_stats_diff(self):
        old, new = old_snapshot().top_by("line"), new_snapshot().top_by("line")
        diff = new.compare_to(old)
        self.assertIs(diff.old_stats, old)
        self.assertIs(diff.new_stats, new)
        self.assertEqual(diff.total()[:2], (5327, 5432))
        top = diff.top(2)
        diff.sort()
        self.assertEqual(diff.differences[:2], top)
        self.assertEqual(top, [(5000, 5002, 1, 2, ("a.py", 5)),
                               (400, 400, 1, 1, ("c.py", 578))])

    def test_equal_groups_with_mixed_keys(self):
        stats = {None: (1, 1), "a.py": (1, 1), "b.py": (1, 1)}
        grouped = tracemalloctext.GroupedStats(DATE, stats, "filename")
        diff = grouped.compare_to()
        diff.sort()
        self.assertEqual({row[4] for row in diff.differences}, set(stats))


if __name__ == "__main__":
    unittest.main()
