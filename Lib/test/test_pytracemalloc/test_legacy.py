"""The API of pytracemalloc 0.9.1: classes, functions, command, examples."""

import gc
import io
import os
import pickle
import re
import sys
import time
import unittest
from test.support import os_helper
from test.support.script_helper import assert_python_ok

import tracemalloc

GROW = """
blocks = [bytes(10_000) for _ in range(1000)]
"""


def run(code, application=GROW, **environ):
    """Run a script; return lines of stdout and all of stderr."""
    with open("script.py", "w") as script:
        script.write(code.replace("# ... run your application ...",
                                  application))
    _, out, err = assert_python_ok("script.py", **environ)
    return out.decode().splitlines(), err.decode()


# Waits in vain, 30 seconds, if the condition does not come.
WAIT = """
import time
end = time.monotonic() + 30
while not (%s) and time.monotonic() < end:
    [object() for _ in range(1000)]
"""

DISPLAY_TOP = """
import tracemalloc
tracemalloc.enable()
top = tracemalloc.DisplayTop(25)
top.start(60)
# ... run your application ...
"""

DISPLAY_TOP_LOG = """
import tracemalloc
tracemalloc.enable()
log = open("tracemalloc.log", "a")
top = tracemalloc.DisplayTop(25, file=log)
top.start(60)
# ... run your application ...
log.close()
"""

TAKE_SNAPSHOT = """
import tracemalloc
tracemalloc.enable()
take_snapshot = tracemalloc.TakeSnapshot()
# take_snapshot.filename_template = "/tmp/trace-$pid-$timestamp.pickle"
take_snapshot.start(60.0)
# ... run your application ...
"""

EXPLICIT = """
import tracemalloc
tracemalloc.enable()
# ... run your application ...
filename = 'explicit.pickle'
snapshot = tracemalloc.Snapshot.create()
snapshot.write(filename)
"""


class ExampleTests(unittest.TestCase):

    def setUp(self):
        self.enterContext(os_helper.temp_cwd())

    def test_as_written(self):
        # A minute passes in no test: nothing is displayed, nothing fails.
        for code in DISPLAY_TOP, DISPLAY_TOP_LOG, TAKE_SNAPSHOT, EXPLICIT:
            self.assertEqual(run(code), ([], ""))

    def test_display_top(self):
        lines, err = run(DISPLAY_TOP.replace("60", "1"),
                         GROW + "import io; out = io.StringIO()\n"
                         "show = top.stream.write\n"
                         "top.stream = out\n"
                         + WAIT % "out.getvalue().count('Top 25') == 2"
                         + "show(out.getvalue())\n")
        self.assertEqual(err, "")
        self.assertRegex(lines[0], r"^[-\d]{10} [:\d]{8}: Top 25 allocations "
                                   r"per file$")
        self.assertRegex(lines[1], r"^#1: \.\.\./.*/script\.py: size=9 MiB, "
                                   r"count=\d+, average=\d+ (B|KiB)$")
        titles = [line for line in lines if "Top 25" in line]
        self.assertRegex(titles[1],
                         r"per file \(compared to [-\d]{10} [:\d]+\)")
        totals = [line for line in lines if line.startswith("Total ")]
        self.assertRegex(totals[0], r"^Total Python memory: size=9 MiB, count=")
        self.assertRegex(totals[1], r"^Total process memory: size=\d+ MiB "
                                    r"\(ignore tracemalloc: \d+ [KM]iB\)$")

    def test_take_snapshot(self):
        run(TAKE_SNAPSHOT.replace("60.0", "1.0"), GROW + "import os\n"
            + WAIT % "os.path.exists('tracemalloc-0002.pickle')")
        _, out, err = assert_python_ok(
            "-m", "tracemalloc", "tracemalloc-0001.pickle",
            "tracemalloc-0002.pickle")
        self.assertEqual(err, b"")
        lines = out.decode().splitlines()
        self.assertIn("Top 10 allocations per file", lines[0])
        self.assertRegex(lines[1], r"script\.py: size=9 MiB, count=")
        self.assertIn("compared to", out.decode())

    def test_explicit(self):
        run(EXPLICIT)
        _, out, err = assert_python_ok("-m", "tracemalloc", "-l", "-n", "1",
                                       "explicit.pickle")
        lines = out.decode().splitlines()
        self.assertIn("Top 1 allocations per file and line", lines[0])
        self.assertRegex(lines[1], r"^#1: .*/script\.py:5: size=9 MiB, count=")
        # Nothing of the snapshot itself; the keys of a dictionary, perhaps.
        self.assertRegex(lines[-2], r"^Total Python memory: size=9 MiB, ")
        for line in lines[2:-2]:
            self.assertRegex(line, r"^1 more: size=\d+ B, count=1,")

    def test_environment_variable(self):
        lines, err = run("import tracemalloc\n"
                         "tracemalloc.DisplayTop(5).display()\n",
                         PYTRACEMALLOC="1")
        self.assertEqual(err, "tracemalloc enabled\n")
        self.assertIn("Top 5 allocations per file", lines[0])
        self.assertRegex(lines[1], r"^#1: <?.*>?: size=\d+ KiB, count=\d+, av")
        self.assertRegex(lines[6], r"^\d+ more: size=")


class Case(unittest.TestCase):

    def setUp(self):
        tracemalloc.enable()
        self.addCleanup(tracemalloc.disable)


class FunctionTests(Case):

    def test_enable(self):
        self.assertTrue(tracemalloc.is_enabled())
        tracemalloc.enable()
        tracemalloc.disable()
        self.assertFalse(tracemalloc.is_enabled())
        self.assertFalse(tracemalloc.is_tracing())
        tracemalloc.disable()

    def test_disabled_at_exit(self):
        code = ("import atexit, tracemalloc\n"
                "atexit.register(lambda: print(tracemalloc.is_enabled()))\n"
                "tracemalloc.enable()\n")
        _, out, _ = assert_python_ok("-c", code)
        self.assertEqual(out.strip(), b"False")

    def test_traceback_limit(self):
        self.addCleanup(tracemalloc.set_traceback_limit, 1)
        tracemalloc.set_traceback_limit(5)
        self.assertEqual(tracemalloc.get_traceback_limit(), 5)
        tracemalloc.disable()
        tracemalloc.enable()
        self.assertEqual(tracemalloc.get_traceback_limit(), 5)
        for limit in 0, -1, 65536:
            with self.assertRaisesRegex(ValueError, "number of frames"):
                tracemalloc.set_traceback_limit(limit)
        with self.assertRaises(TypeError):
            tracemalloc.set_traceback_limit("x")
        self.assertTrue(tracemalloc.is_enabled())

    def test_version(self):
        self.assertRegex(tracemalloc.__version__, r"^\d+\.\d+\.\d+$")
        self.assertIn("(pytracemalloc %s " % tracemalloc.__version__,
                      sys.version)

    @unittest.skipUnless(os.path.exists("/proc/self/statm"), "needs /proc")
    def test_process_memory(self):
        # In a process of its own: memory that other tests have given back
        # to an allocator may still be resident.
        assert_python_ok("-c", """if 1:
            import tracemalloc
            before = tracemalloc.get_process_memory()
            assert before > 1024 ** 2, before
            block = b"x" * 100_000_000
            more = tracemalloc.get_process_memory() - before
            assert abs(more - len(block)) < 20_000_000, more
        """)

    def test_filters(self):
        self.addCleanup(tracemalloc.clear_filters)
        keep = bytes(5000)
        tracemalloc.add_include_filter(__file__)
        self.assertEqual(tracemalloc.Snapshot.create().stats.keys(),
                         {__file__})
        tracemalloc.add_exclude_filter("*")
        self.assertEqual(tracemalloc.Snapshot.create().stats, {})
        self.assertEqual(len(tracemalloc.get_filters()), 2)
        tracemalloc.clear_filters()
        tracemalloc.add_filter(tracemalloc.Filter(False, __file__))
        self.assertNotIn(__file__, tracemalloc.Snapshot.create().stats)
        with self.assertRaises(TypeError):
            tracemalloc.add_filter("*.py")
        with self.assertRaises(TypeError):
            tracemalloc.add_include_filter(3)
        del keep


class TimerTests(Case):

    def setUp(self):
        super().setUp()
        self.addCleanup(tracemalloc.stop_timer)
        self.calls = []

    def wait(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            [object() for _ in range(1000)]

    def test_repeats(self):
        tracemalloc.start_timer(1, lambda *args, **kw:
                                self.calls.append((args, kw)), (1,), {"a": 2})
        self.wait(lambda: len(self.calls) == 2)
        self.assertEqual(self.calls, [((1,), {"a": 2})] * 2)

    def test_replaced_and_stopped(self):
        tracemalloc.start_timer(60, print)
        tracemalloc.start_timer(60, len)
        task, = tracemalloc.get_tasks()
        self.assertIs(task.func, len)
        tracemalloc.stop_timer()
        tracemalloc.stop_timer()
        self.assertEqual(tracemalloc.get_tasks(), [])

    def test_disable_stops(self):
        tracemalloc.start_timer(60, print)
        tracemalloc.disable()
        self.assertEqual(tracemalloc.get_tasks(), [])

    def test_bad_arguments(self):
        tracemalloc.start_timer(60, print)
        for delay in 0, -1, 0.5:
            with self.assertRaises(ValueError):
                tracemalloc.start_timer(delay, print)
        with self.assertRaises(TypeError):
            tracemalloc.start_timer(1, 3)
        # The old timer stands.
        self.assertEqual(len(tracemalloc.get_tasks()), 1)
        tracemalloc.disable()
        with self.assertRaisesRegex(RuntimeError, "enable"):
            tracemalloc.start_timer(1, print)


class SnapshotTests(Case):

    def test_needs_tracing(self):
        tracemalloc.disable()
        with self.assertRaises(RuntimeError):
            tracemalloc.Snapshot.create()

    def test_attributes(self):
        block = bytes(50_000)
        snapshot = tracemalloc.Snapshot.create()
        self.assertEqual(snapshot.pid, os.getpid())
        self.assertTrue(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
                                 str(snapshot.timestamp)))
        size, count = snapshot.stats[__file__][block_line(block)]
        self.assertEqual((size, count), (sys.getsizeof(block), 1))
        self.assertGreater(snapshot.process_memory, 1024 ** 2)
        self.assertIsNone(snapshot.user_data)

    def test_user_data(self):
        def callback():
            return [("Video memory", "size", 234902)]

        for snapshot in (
                tracemalloc.Snapshot.create(callback),
                tracemalloc.Snapshot.create(user_data_callback=callback)):
            self.assertEqual(snapshot.user_data, callback())
        with os_helper.temp_cwd():
            snapshot.write("data.pickle")
            self.assertEqual(
                tracemalloc.Snapshot.load("data.pickle").user_data, callback())
        with self.assertRaisesRegex(ValueError, "must be 'size'"):
            tracemalloc.Snapshot.create(lambda: [("x", "int", 1)])
        with self.assertRaises(TypeError):
            tracemalloc.Snapshot.create(lambda: [("x", "size", "1")])

    def test_filter_filenames(self):
        block = bytes(50_000)
        snapshot = tracemalloc.Snapshot.create()
        snapshot.filter_filenames(__file__, True)
        self.assertEqual(list(snapshot.stats), [__file__])
        snapshot.filter_filenames(["nothing", "*test_leg*"], False)
        self.assertEqual(snapshot.stats, {})
        del block

    def test_old_pickle(self):
        data = {"format_version": 1, "timestamp": "2013-06-01 18:51:48",
                "pid": 7, "process_memory": 11 * 1024 ** 2,
                "stats": {"/a/b/c/d.py": {1: (5, 1), None: (6, 2)}},
                "user_data": [("Video memory", "size", 2048)]}
        with os_helper.temp_cwd():
            with open("old.pickle", "wb") as file:
                pickle.dump(data, file)
            snapshot = tracemalloc.Snapshot.load("old.pickle")
            self.assertEqual(snapshot.stats, data["stats"])
            _, out, _ = assert_python_ok("-m", "tracemalloc", "old.pickle")
        self.assertEqual(out.decode().splitlines(), [
            "2013-06-01 18:51:48: Top 10 allocations per file",
            "#1: .../b/c/d.py: size=11 B, count=3, average=3 B",
            "Total Python memory: size=11 B, count=3, average=3 B",
            "Video memory: size=2048 B",
            "Total process memory: size=11 MiB"])


def block_line(block):
    return tracemalloc.get_object_traceback(block)[0].lineno


class DisplayTopTests(Case):

    def setUp(self):
        super().setUp()
        self.file = io.StringIO()
        self.top = tracemalloc.DisplayTop(2, file=self.file)

    def lines(self):
        return self.file.getvalue().splitlines()

    def test_defaults(self):
        top = tracemalloc.DisplayTop(count=3)
        self.assertIs(top.stream, sys.stdout)
        self.assertEqual(top.top_count, 3)
        self.assertEqual(top.filename_parts, 3)
        self.assertTrue(top.show_size and top.show_count and top.show_average
                        and top.compare_with_previous)
        self.assertFalse(top.show_lineno)
        self.assertIsNone(top.user_data_callback)
        self.assertFalse(self.top.color)

    def test_compact(self):
        block = bytes(10_000_000)
        self.top.show_count = self.top.show_average = False
        self.top.display()
        self.assertRegex(self.lines()[1], r"^#1: .*/test_legacy\.py: 9 MiB$")
        self.assertRegex(self.lines()[-1], r"^Total process memory: \d+ MiB ")
        del block

    def test_user_data(self):
        values = iter([1000, 3000])
        self.top.user_data_callback = lambda: [("Video", "size", next(values))]
        self.top.display()
        self.top.display()
        self.assertIn("Video: size=1000 B", self.lines())
        self.assertIn("Video: size=3000 B (+2000 B)", self.lines())

    def test_compare_with_first(self):
        self.top.compare_with_previous = False
        blocks = []
        for _ in range(3):
            self.top.display()
            blocks.append(bytes(10_000_000))
        self.assertIn("size=19 MiB (+19 MiB)", self.file.getvalue())

    def test_cleanup_filename(self):
        self.assertEqual(self.top.cleanup_filename("/a/b/c/d.pyc"),
                         ".../b/c/d.py")

    def test_start_and_stop(self):
        self.top.start(60)
        self.assertEqual(len(tracemalloc.get_tasks()), 1)
        self.top.stop()
        self.assertEqual(tracemalloc.get_tasks(), [])


class TakeSnapshotTests(Case):

    def test_template(self):
        take_snapshot = tracemalloc.TakeSnapshot()
        self.assertEqual(take_snapshot.filename_template,
                         "tracemalloc-$counter.pickle")
        take_snapshot.user_data_callback = lambda: [("x", "size", 1)]
        with os_helper.temp_cwd():
            for name in "tracemalloc-0001.pickle", "tracemalloc-0002.pickle":
                snapshot, filename = take_snapshot.take_snapshot()
                self.assertEqual(filename, name)
                loaded = tracemalloc.Snapshot.load(name)
                self.assertEqual(loaded.stats, snapshot.stats)
                self.assertEqual(loaded.user_data, [("x", "size", 1)])


class DisplayGarbageTests(Case):

    def test_display(self):
        self.addCleanup(gc.set_debug, gc.get_debug())
        self.addCleanup(gc.garbage.clear)
        file = io.StringIO()
        display = tracemalloc.DisplayGarbage(file)
        gc.garbage.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        cycle = ["garbage"]
        cycle.append(cycle)
        address = id(cycle)
        del cycle
        display.display()
        self.assertRegex(file.getvalue(), re.compile(
            r"^UNCOLLECTABLE OBJECT: .*test_legacy\.py:\d+: \[id 0x%x\] "
            r"\['garbage', \[.*\]\] \(\d+ B\)$" % address, re.MULTILINE))
        before = file.getvalue()
        display.display()
        self.assertEqual(file.getvalue(), before)
        display.cumulative = True
        display.format_object = lambda obj: "(object)"
        display.display()
        self.assertIn("[id 0x%x] (object) (" % address, file.getvalue())


if __name__ == "__main__":
    unittest.main()
