"""The examples of the tracemalloctext document, each in an interpreter of its
own, with an application that grows where the document has a comment."""

import os
import re
import unittest
from test.support import os_helper
from test.support.script_helper import assert_python_ok

GROW = """
blocks = []
for _ in range(30):
    blocks.append([bytes(10_000) for _ in range(100)])
"""

DISPLAY_TOP = """
import tracemalloc
import tracemalloctext
tracemalloc.enable()
# ... run your application ...
tracemalloctext.DisplayTop().display(50)
"""

DISPLAY_TOP_TASK = """
import tracemalloc
import tracemalloctext
task = tracemalloctext.DisplayTopTask(25, group_by='filename')
task.display_top.count = False
task.display_top.average = False
task.display_top.metrics = False
task.set_memory_threshold(5 * 1024 * 1024)
task.set_delay(60)
tracemalloc.enable()
task.schedule()
# ... run your application ...
"""

SNAPSHOT = """
import tracemalloc
import tracemalloctext
tracemalloc.enable()
# ... run your application ...
snapshot = tracemalloctext.Snapshot.create(traces=True)
snapshot.write('snapshot.pickle')
"""

TAKE_SNAPSHOT_TASK = """
import tracemalloc
import tracemalloctext
task = tracemalloctext.TakeSnapshotTask(traces=True)
task.set_memory_threshold(5 * 1024 * 1024)
task.set_delay(60)
tracemalloc.enable()
task.schedule()
# ... run your application ...
"""

METRICS = """
gc.objects process_memory.rss process_memory.vms pymalloc.allocated
pymalloc.blocks pymalloc.fragmentation pymalloc.free pymalloc.max_size
pymalloc.size tracemalloc.arena_size tracemalloc.module.fragmentation
tracemalloc.module.free tracemalloc.module.size tracemalloc.traced.max_size
tracemalloc.traced.size tracemalloc.traces unicode_interned.len
unicode_interned.size
""".split()

VALUE = r"(\d+|\d+ (B|[KMGT]iB)|\d+\.\d%)"


def run(code, application=GROW):
    with open("script.py", "w") as script:
        script.write(code.replace("# ... run your application ...",
                                  application))
    _, out, err = assert_python_ok("script.py")
    return out.decode().splitlines(), err.decode()


def run_module(*args):
    _, out, err = assert_python_ok("-m", "tracemalloctext", *args)
    return out.decode().splitlines(), err.decode()


class ExampleTests(unittest.TestCase):

    def setUp(self):
        self.enterContext(os_helper.temp_cwd())

    def test_display_top(self):
        lines, err = run(DISPLAY_TOP)
        self.assertEqual(err, "")
        self.assertRegex(lines[0], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: Top 50 "
                                   r"allocations per filename and line number$")
        self.assertRegex(lines[1], r"script\.py:\d+: size=28 MiB, "
                                   r"count=30\d\d, average=9 KiB$")
        blank = lines.index("")
        self.assertTrue(lines[blank - 1].startswith("Traced Python memory: "))
        metrics = lines[blank + 1:-1]
        self.assertEqual([line.partition(":")[0] for line in metrics], METRICS)
        for line in metrics:
            self.assertRegex(line, "^[a-z_.]+: %s$" % VALUE)
        self.assertEqual(lines[-1], "")

    def test_display_top_task(self):
        lines, err = run(DISPLAY_TOP_TASK)
        self.assertEqual(err, "")
        titles = [line for line in lines if "Top 25 allocations" in line]
        # 29 MiB in steps of a little more than 5.
        self.assertEqual(len(titles), 5)
        self.assertNotIn("compared to", titles[0])
        for title in titles[1:]:
            self.assertRegex(title, r"per filename \(compared to \d{4}-")
        ours = [line for line in lines if "/script.py: " in line]
        self.assertRegex(ours[0], r"^#1: \.\.\./.*/script\.py: 5 MiB$")
        for line in ours[1:]:
            self.assertRegex(line, r"^#1: .*/script\.py: \d+ MiB "
                                   r"\(\+5 MiB\)$")

    def test_snapshot(self):
        self.assertEqual(run(SNAPSHOT), ([], ""))
        lines, err = run_module("snapshot.pickle")
        self.assertEqual(err, "")
        self.assertRegex(lines[1], r"script\.py:\d+: size=28 MiB, count=")
        names = [line.partition(":")[0] for line in lines]
        self.assertEqual(names[names.index("") + 1:-1], METRICS)

    def test_take_snapshot_task(self):
        self.assertEqual(run(TAKE_SNAPSHOT_TASK), ([], ""))
        names = sorted(os.listdir())
        self.assertEqual(names, ["script.py"] + [
            "tracemalloc-%04d.pickle" % number for number in range(1, 6)])
        lines, err = run_module("-M", "tracemalloc-0001.pickle",
                                "tracemalloc-0002.pickle")
        self.assertEqual(err, "")
        self.assertEqual(lines[-1], "2 snapshots")
        ours = [line for line in lines if line.startswith("#1: ")]
        self.assertRegex(ours[1], r"script\.py:\d+: size=\d+ MiB "
                                  r"\(\+5 MiB\), count=\d+ \(\+\d+\)")

    def test_delay_of_a_task(self):
        # As written but for the delay: a minute is too long for a test.
        code = TAKE_SNAPSHOT_TASK.replace("60", "1")
        run(code, application="""
import os, time
end = time.monotonic() + 30
while not os.path.exists('tracemalloc-0002.pickle'):
    [object() for _ in range(1000)]
    if time.monotonic() > end:
        break
""")
        self.assertIn("tracemalloc-0002.pickle", os.listdir())


class TemplateTests(unittest.TestCase):

    def test_filename_template(self):
        import tracemalloc
        import tracemalloctext
        tracemalloc.enable()
        self.addCleanup(tracemalloc.disable)
        with os_helper.temp_cwd():
            task = tracemalloctext.TakeSnapshotTask(
                "$pid-$timestamp-$counter.x", callback=self.add_metric)
            snapshot, filename = task.take_snapshot()
            self.assertTrue(re.fullmatch(
                r"%s-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-0001\.x" % os.getpid(),
                filename), filename)
            self.assertEqual(task.counter, 2)
            loaded = tracemalloctext.Snapshot.load(filename)
            self.assertEqual(loaded.metrics, snapshot.metrics)
            self.assertEqual(loaded.get_metric("mine"), 7)
            self.assertEqual(len(loaded.traces), 0)
            with self.assertRaisesRegex(ValueError, "already"):
                snapshot.add_metric("mine", 8, "int")
            task.metrics = False
            snapshot, filename = task.take_snapshot()
            self.assertTrue(filename.endswith("-0002.x"))
            self.assertEqual(list(snapshot.metrics), ["mine"])

    def add_metric(self, snapshot):
        snapshot.add_metric("mine", 7, "int")


if __name__ == "__main__":
    unittest.main()
