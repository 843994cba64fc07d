"""python -m tracemalloctext and python -m tracemalloc: options, bad input."""

import os
import pickle
import subprocess
import sys
import unittest
from datetime import datetime
from test.support import os_helper
from test.support.script_helper import spawn_python

import tracemalloc

OLD = [(0, 30, (("/usr/lib/app/a.py", 2),), 1)] * 3 + [
    (0, 66, (("/usr/lib/app/b.py", 1), ("/usr/lib/app/main.py", 7)), 2)]
NEW = OLD + [(0, 5000, (("/usr/lib/app/a.py", 5),
                        ("/usr/lib/app/main.py", 9)), 2)]


def write_snapshot(filename, traces, limit=25, pid=123, second=0):
    snapshot = tracemalloc.Snapshot(traces, limit)
    snapshot.timestamp = datetime(2013, 9, 12, 15, 16, second)
    snapshot.pid = pid
    snapshot.write(filename)


def run(module, *args, user=None, **environ):
    """Return (exit status, lines of stdout, lines of stderr)."""
    process = subprocess.run(
        [sys.executable, "-m", module, *args], capture_output=True, text=True,
        user=user,
        env={**os.environ, "NO_COLOR": "", "TERM": "xterm", **environ})
    return (process.returncode, process.stdout.splitlines(),
            process.stderr.splitlines())


class Case(unittest.TestCase):

    maxDiff = None

    def setUp(self):
        self.enterContext(os_helper.temp_cwd())
        write_snapshot("old.pickle", OLD, second=17)
        write_snapshot("new.pickle", NEW, second=50)

    def display(self, *args):
        status, out, err = run("tracemalloctext", *args)
        self.assertEqual((status, err), (0, []))
        return out

    def check_error(self, status, pattern, *args, module="tracemalloctext",
                    **environ):
        result = run(module, *args, **environ)
        self.assertEqual(result[0], status)
        self.assertEqual(len(result[2]), 1, result[2])
        self.assertRegex(result[2][0], pattern)


class OptionTests(Case):

    def test_default(self):
        self.assertEqual(self.display("old.pickle"), [
            "2013-09-12 15:16:17: Top 10 allocations per filename and line "
            "number",
            "#1: .../lib/app/a.py:2: size=90 B, count=3, average=30 B",
            "#2: .../lib/app/b.py:1: size=66 B, count=1, average=66 B",
            "Traced Python memory: size=156 B, count=4, average=39 B"])

    def test_two_snapshots(self):
        lines = self.display("old.pickle", "new.pickle")
        self.assertIn("#1: .../lib/app/a.py:5: size=5000 B (+5000 B), "
                      "count=1 (+1), average=5000 B", lines)
        self.assertEqual(lines[-1], "2 snapshots")

    def test_formats(self):
        snapshot = tracemalloc.Snapshot.load("new.pickle")
        snapshot.dump("stock.pickle", format="pickle")
        with open("0.9.1.pickle", "wb") as file:
            pickle.dump({"format_version": 1, "pid": 123,
                         "timestamp": "2013-06-01 18:51:48",
                         "stats": {"/usr/lib/app/a.py": {2: (80, 2)}}}, file)
        status, out, err = run("tracemalloctext", "0.9.1.pickle",
                               "old.pickle", "stock.pickle")
        self.assertEqual(status, 0)
        text = "\n".join(out)
        for line in (
                "#1: .../lib/app/a.py:2: size=80 B, count=2, average=40 B",
                "#2: .../lib/app/a.py:2: size=90 B (+10 B), count=3 (+1), "
                "average=30 B",
                "#1: .../lib/app/a.py:5: size=5000 B (+5000 B), count=1 (+1), "
                "average=5000 B",
                "3 snapshots"):
            self.assertIn(line, text)

    def test_first(self):
        lines = self.display("--first", "old.pickle", "new.pickle",
                             "new.pickle")
        self.assertEqual(sum("compared to 2013-09-12 15:16:17" in line
                             for line in lines), 2)

    def test_file(self):
        for option in "-f", "--file":
            self.assertIn("#1: .../lib/app/a.py: size=5090 B, count=4, "
                          "average=1272 B", self.display(option, "new.pickle"))

    def test_number(self):
        for option in ["-n1"], ["--number", "1"]:
            lines = self.display(*option, "old.pickle")
            self.assertIn("Top 1 ", lines[0])
            self.assertEqual(lines[2],
                             "1 more: size=66 B, count=1, average=66 B")

    def test_cumulative(self):
        for option in "-c", "--cumulative":
            lines = self.display(option, "-f", "new.pickle")
            self.assertIn("Cumulative top 10 allocations per filename",
                          lines[0])
            self.assertIn("#2: .../lib/app/main.py: size=5066 B, count=2, "
                          "average=2533 B", lines)
            self.assertNotIn("Traced", "".join(lines))

    def test_filters_of_cumulative_keep_lines(self):
        # b.py:1 was called by main.py, which alone is shown, with all of it.
        for options in ["-i", "*/main.py"], ["-x", "*/[ab].py"]:
            lines = self.display("-c", "-g", "line", *options, "new.pickle")
            self.assertEqual(lines[1:], [
                "#1: .../lib/app/main.py:9: size=5000 B, count=1, "
                "average=5000 B",
                "#2: .../lib/app/main.py:7: size=66 B, count=1, "
                "average=66 B"])
        # What looks at the whole traceback chooses blocks, as before.
        lines = self.display("-c", "-g", "line", "-I", "*/b.py", "new.pickle")
        self.assertIn("b.py:1: size=66 B", "".join(lines))
        self.assertNotIn("main.py:9", "".join(lines))

    def write_real_snapshot(self):
        """Write own.pickle; return the address of its biggest block."""
        tracemalloc.start(2)
        try:
            block = bytes(10_000_000)
            small = bytes(1000)
            tracemalloc.Snapshot.create(traces=True).write("own.pickle")
        finally:
            tracemalloc.stop()
        self.assertEqual(len(small), 1000)
        return id(block)

    def test_address(self):
        address = self.write_real_snapshot()
        for option in "-a", "--address":
            lines = self.display(option, "-n1", "-M", "own.pickle")
            self.assertEqual(lines[1],
                             "#1: memory block 0x%x: size=9 MiB" % address)
            self.assertRegex(lines[2], r"^\d+ more: size=.*, count=.*, aver")

    def test_block(self):
        address = self.write_real_snapshot()
        for option in (["-b", hex(address)], ["--block=%s" % hex(address)],
                       ["-b", str(address)]):
            lines = self.display(*option, "own.pickle")
            self.assertRegex(lines[0], "^....-.*:.*, memory block %s: 9 MiB$"
                                       % hex(address))
            self.assertEqual(lines[1], "Traceback (most recent call first):")
            self.assertRegex(
                lines[2], r'^  File ".*/test_text_command\.py", line \d+, in '
                          r'OptionTests\.write_real_snapshot$')
            self.assertEqual(lines[3], "    block = bytes(10_000_000)")
            self.assertRegex(lines[4], r", in OptionTests\.test_block$")

    def test_traceback(self):
        for option in "-t", "--traceback":
            lines = self.display(option, "-n1", "new.pickle")
            self.assertRegex(lines[1],
                             "^#1: memory block 0x[0-9a-f]+: size=5000 B$")
            self.assertEqual(lines[2:], [
                "Traceback (most recent call first):",
                '  File "/usr/lib/app/a.py", line 5',
                '  File "/usr/lib/app/main.py", line 9',
                "",
                "4 more: size=156 B, count=4, average=39 B"])

    def test_source_line(self):
        with open("app.py", "w") as source:
            source.write("first\n  second\n")
        filename = os.path.abspath("app.py")
        write_snapshot("own.pickle", [(0, 1, ((filename, 2),), 1)])
        self.assertIn("    second", self.display("-t", "own.pickle"))

    def names(self, *args):
        lines = self.display("-SA", *args, "new.pickle")
        return sorted(line.split()[1].split("/")[-1].rstrip(":")
                      for line in lines if line.startswith("#"))

    def test_filters(self):
        for option in "-i", "--include":
            self.assertEqual(self.names(option, "*/a.py"),
                             ["a.py:2", "a.py:5"])
            self.assertEqual(self.names(option, "*/a.py:5"), ["a.py:5"])
            self.assertEqual(self.names(option, "*/main.py"), [])
            self.assertEqual(self.names(option, "*/a.py:5", option, "*/b.py"),
                             ["a.py:5", "b.py:1"])
        for option in "-I", "--include-traceback":
            self.assertEqual(self.names(option, "*/main.py"),
                             ["a.py:5", "b.py:1"])
        for option in "-x", "--exclude":
            self.assertEqual(self.names(option, "*/a.py"), ["b.py:1"])
            self.assertEqual(self.names(option, "*/a.py:5"),
                             ["a.py:2", "b.py:1"])
        for option in "-X", "--exclude-traceback":
            self.assertEqual(self.names(option, "*/main.py"), ["a.py:2"])

    def test_hide(self):
        self.assertEqual(self.display("-S", "-n1", "old.pickle")[1],
                         "#1: .../lib/app/a.py:2: count=3, average=30 B")
        self.assertEqual(self.display("--hide-count", "-n1", "old.pickle")[1],
                         "#1: .../lib/app/a.py:2: size=90 B, average=30 B")
        self.assertEqual(self.display("-C", "-A", "-n1", "old.pickle")[1],
                         "#1: .../lib/app/a.py:2: 90 B")
        self.assertEqual(
            self.display("--hide-size", "--hide-average", "-n1",
                         "old.pickle")[1],
            "#1: .../lib/app/a.py:2: count=3")

    def test_metrics(self):
        snapshot = tracemalloc.Snapshot(OLD, 25)
        snapshot.add_metric("mine", 2048, "size")
        snapshot.write("metric.pickle")
        self.assertIn("mine: 2048 B", self.display("metric.pickle"))
        for option in "-M", "--hide-metrics":
            self.assertNotIn("mine: 2048 B",
                             self.display(option, "metric.pickle"))

    def test_filename_parts(self):
        for option in "-P1", "--filename-parts=1":
            self.assertIn("#1: .../a.py:2: size=90 B, count=3, average=30 B",
                          self.display(option, "old.pickle"))

    def test_color(self):
        self.assertNotIn("\x1b", "".join(self.display("old.pickle")))
        self.assertIn("\x1b[36m.../lib/app/a.py:2\x1b[0m",
                      "".join(self.display("--color", "old.pickle")))
        self.assertNotIn("\x1b",
                         "".join(self.display("--no-color", "old.pickle")))

    def test_group_by(self):
        lines = self.display("-g", "filename", "old.pickle")
        self.assertEqual(lines, self.display("-f", "old.pickle"))
        lines = self.display("--group-by=domain", "old.pickle")
        self.assertIn("allocations per domain", lines[0])

    def test_help(self):
        for module in "tracemalloctext", "tracemalloc":
            for columns in "80", "20":
                status, out, err = run(module, "--help", COLUMNS=columns)
                self.assertEqual((status, err), (0, []))
            for option in ("-n", "--number", "--first", "-S", "--hide-size",
                           "-C", "--hide-count", "-A", "--hide-average",
                           "-P", "--filename-parts", "--color", "--no-color",
                           "examples:"):
                self.assertIn(option, "".join(out))


class BadInputTests(Case):

    def test_usage(self):
        self.check_error(2, r"SNAPSHOT; see .*--help$")
        self.check_error(2, "--color: not allowed with", "--no-color",
                         "--color", "x")
        self.check_error(2, "not allowed with", "-a", "-f", "x")
        self.check_error(2, "must be a positive integer", "-n", "0", "x")
        self.check_error(2, "must be a positive integer", "-P", "-1", "x")
        self.check_error(2, "invalid choice: 'color'", "-g", "color", "x")
        self.check_error(2, "unrecognized arguments: --wrong", "--wrong", "x")

    def test_bad_filter(self):
        for value in "a.py:", "a.py:x", "a.py:0", ":3", "":
            self.check_error(2, "bad filter .*: ", "-i", value, "x")

    def test_bad_address(self):
        for value in "x", "0x", "-5", "1.0", str(2 ** 64):
            self.check_error(2, "bad address .* such as 0x", "--block=" + value,
                             "x")

    def test_missing_file(self):
        for module in "tracemalloctext", "tracemalloc":
            self.check_error(1, "^error: none.pickle: No such file",
                             "none.pickle", module=module)
        self.check_error(1, "^error: .: Is a directory", ".")

    def test_first_file_is_shown(self):
        status, out, err = run("tracemalloctext", "old.pickle", "none.pickle")
        self.assertEqual(status, 1)
        self.assertIn("Top 10", out[0])
        self.assertEqual(len(err), 1)

    def test_unreadable_file(self):
        os.chmod("old.pickle", 0)
        # Root reads all.
        user = 65534 if os.geteuid() == 0 else None
        self.check_error(1, "^error: old.pickle: Permission denied",
                         "old.pickle", user=user)

    def test_damaged_file(self):
        with open("new.pickle", "rb") as file:
            data = file.read()
        for name, content in (("empty", b""), ("cut", data[:-20]),
                              ("bit", data[:40] + bytes([data[40] ^ 1])
                               + data[41:]),
                              ("text", b"hello\n"),
                              ("pickle", b"cos\nsystem\n(S'touch hit'\ntR.")):
            with open(name, "wb") as file:
                file.write(content)
            for module in "tracemalloctext", "tracemalloc":
                self.check_error(1, "^error: %s: ." % name, name,
                                 module=module)
        self.assertFalse(os.path.exists("hit"))

    def test_different_limits_and_processes(self):
        write_snapshot("limit.pickle", NEW, limit=2)
        status, out, err = run("tracemalloctext", "old.pickle",
                               "limit.pickle")
        self.assertEqual((status, len(err)), (0, 1))
        self.assertRegex(err[0], r"^warning: .* limits \(25 and 2\): ")
        write_snapshot("pid.pickle", NEW, pid=124)
        for module in "tracemalloctext", "tracemalloc":
            status, out, err = run(module, "old.pickle", "pid.pickle")
            self.assertEqual((status, len(err)), (0, 1))
            self.assertRegex(err[0], r"^warning: .* processes \(123 and 124\)")
        self.assertIn("[pid 124]", "".join(out))

    def test_snapshot_without_traces(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        tracemalloc.Snapshot.create(traces=False).write("sites.pickle")
        for option in ["-a"], ["-t"], ["-b", "16"], ["-g", "type"]:
            self.check_error(1, "sites.pickle: .* no traces.*traces=True",
                             *option, "sites.pickle")

    def test_no_such_block(self):
        self.check_error(1, "no memory block at address 0x3; list", "-b", "3",
                         "old.pickle")

    def test_damaged_metrics(self):
        snapshot = tracemalloc.Snapshot(OLD, 25)
        for value in 3, ["x"], {"m": 3}, {"m": ["1", "size"]}:
            snapshot.metadata["metrics"] = value
            snapshot.write("metrics.pickle")
            self.check_error(1, "metrics.pickle: damaged snapshot: its metr",
                             "metrics.pickle")

    def test_closed_pipe(self):
        for module in "tracemalloctext", "tracemalloc":
            process = spawn_python("-m", module, "old.pickle",
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            process.stdout.close()
            with process.stderr as stderr:
                self.assertEqual(stderr.read(), b"")
            process.stdin.close()
            self.assertEqual(process.wait(), 1)

    def test_closed_streams(self):
        for module in "tracemalloc", "tracemalloctext":
            for sink, error in (
                    (">&-", "error: standard output: Bad file descriptor\n"),
                    (">&- 2>&-", ""), ("2>&-", "")):
                name = "nowhere" if sink == "2>&-" else "old.pickle"
                process = subprocess.run(
                    ["sh", "-c", '"$0" -m %s %s %s' % (module, name, sink),
                     sys.executable], capture_output=True, text=True)
                self.assertEqual((process.returncode, process.stdout,
                                  process.stderr), (1, "", error))

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            process = subprocess.run(
                [sys.executable, "-m", "tracemalloctext", "old.pickle"],
                stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(process.stderr, b"error: standard output: No space "
                                         b"left on device\n")

    def test_encoding(self):
        write_snapshot("name.pickle", [(0, 5, (("\u00e9\udc80.py", 1),), 1)])
        status, out, err = run("tracemalloctext", "name.pickle",
                               PYTHONIOENCODING="ascii")
        self.assertEqual((status, err), (0, []))
        self.assertIn("#1: \\xe9\\udc80.py:1: ", out[1])


if __name__ == "__main__":
    unittest.main()
