"""Programs as the documentation of the standard library shows them.

Each runs as a script, where the documentation says that the application
runs, it does; the output has the documented form.
"""

import os
import re
import tempfile
import textwrap
import unittest

from test.support.script_helper import assert_python_ok

# What an application does: a module, lines that allocate, calls.
APPLICATION = """
    import argparse
    import difflib
    import json

    class Cache:
        def __init__(self):
            self.pages = {}

        def fill(self, count):
            for number in range(count):
                self.pages[number] = self.make(number)

        def make(self, number):
            return [bytes(1000), str(number + 1000)]

    cache = Cache()
    cache.fill(850)
"""

LINE = r"\S.*:\d+: size=[\d.]+ (Ki|Mi)?B, count=\d+, average=[\d.]+ (Ki|Mi)?B"
DIFF = (r"\S.*:\d+: size=[\d.]+ (Ki|Mi)?B \([+-][\d.]+ (Ki|Mi)?B\), "
        r"count=\d+ \([+-]\d+\)(, average=[\d.]+ (Ki|Mi)?B)?")


class ExampleTests(unittest.TestCase):

    def run_program(self, *parts, arguments=()):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'app.py')
            with open(path, 'w') as file:
                file.write("".join(map(textwrap.dedent, parts)))
            _, out, err = assert_python_ok(*arguments, path)
        self.assertEqual(err, b'')
        self.path = path
        return out.decode().splitlines()

    def test_top_10(self):
        title, *lines = self.run_program("""
            import tracemalloc

            tracemalloc.start()
            """, APPLICATION, """
            snapshot = tracemalloc.take_snapshot()
            top_stats = snapshot.statistics('lineno')

            print("[ Top 10 ]")
            for stat in top_stats[:10]:
                print(stat)
            """)
        self.assertEqual(title, "[ Top 10 ]")
        self.assertEqual(len(lines), 10)
        for line in lines:
            self.assertRegex(line, f"^{LINE}$")
        self.assertRegex(
            lines[0], rf"^{re.escape(self.path)}:\d+: size=9\d\d KiB, "
                      r"count=3400, average=\d+ B$")

    def test_differences(self):
        title, *lines = self.run_program("""
            import tracemalloc
            tracemalloc.start()
            """, APPLICATION, """
            snapshot1 = tracemalloc.take_snapshot()
            for key in range(1000):
                cache.pages[-key] = bytes(key)
            snapshot2 = tracemalloc.take_snapshot()

            top_stats = snapshot2.compare_to(snapshot1, 'lineno')

            print("[ Top 10 differences ]")
            for stat in top_stats[:10]:
                print(stat)
            """)
        self.assertEqual(title, "[ Top 10 differences ]")
        self.assertLessEqual(len(lines), 10)
        for line in lines:
            self.assertRegex(line, f"^{DIFF}$")
        self.assertRegex(lines[0], r"size=6\d\d KiB \(\+6\d\d KiB\), "
                                   r"count=\d+ \(\+19\d\d\)")

    def test_traceback_of_the_biggest(self):
        title, *lines = self.run_program("""
            import tracemalloc

            # Store 25 frames
            tracemalloc.start(25)
            """, APPLICATION, """
            snapshot = tracemalloc.take_snapshot()
            top_stats = snapshot.statistics('traceback')

            # pick the biggest memory block
            stat = top_stats[0]
            print("%s memory blocks: %.1f KiB"
                  % (stat.count, stat.size / 1024))
            for line in stat.traceback.format():
                print(line)
            """)
        self.assertRegex(title, r"^\d+ memory blocks: 9\d\d\.\d KiB$")
        # The oldest frame first.
        self.assertEqual([line.strip() for line in lines[1::2]],
                         ["cache.fill(850)",
                          "self.pages[number] = self.make(number)",
                          "return [bytes(1000), str(number + 1000)]"])
        for line in lines[::2]:
            self.assertRegex(line, rf'^  File "{re.escape(self.path)}", '
                                   r'line \d+$')

    def test_pretty_top(self):
        lines = self.run_program("""
            import linecache
            import os
            import tracemalloc

            def display_top(snapshot, key_type='lineno', limit=10):
                snapshot = snapshot.filter_traces((
                    tracemalloc.Filter(False, "<frozen importlib._bootstrap>"),
                    tracemalloc.Filter(False, "<unknown>"),
                ))
                top_stats = snapshot.statistics(key_type)

                print("Top %s lines" % limit)
                for index, stat in enumerate(top_stats[:limit], 1):
                    frame = stat.traceback[0]
                    print("#%s: %s:%s: %.1f KiB"
                          % (index, frame.filename, frame.lineno,
                             stat.size / 1024))
                    line = linecache.getline(frame.filename,
                                             frame.lineno).strip()
                    if line:
                        print('    %s' % line)

                other = top_stats[limit:]
                if other:
                    size = sum(stat.size for stat in other)
                    print("%s other: %.1f KiB" % (len(other), size / 1024))
                total = sum(stat.size for stat in top_stats)
                print("Total allocated size: %.1f KiB" % (total / 1024))

            tracemalloc.start()
            """, APPLICATION, """
            snapshot = tracemalloc.take_snapshot()
            display_top(snapshot)
            """)
        self.assertEqual(lines[0], "Top 10 lines")
        self.assertRegex(lines[1], rf"^#1: {re.escape(self.path)}:\d+: "
                                   r"9\d\d\.\d KiB$")
        self.assertEqual(lines[2],
                         "    return [bytes(1000), str(number + 1000)]")
        ranks = [line.split(':')[0] for line in lines if line[0] == '#']
        self.assertEqual(ranks, [f'#{i}' for i in range(1, 11)])
        self.assertRegex(lines[-2], r"^\d+ other: \d+\.\d KiB$")
        self.assertRegex(lines[-1], r"^Total allocated size: \d+\.\d KiB$")
        self.assertNotIn('_bootstrap>', '\n'.join(lines))

    def test_filters(self):
        lines = self.run_program("""
            import subprocess
            import tracemalloc
            from tracemalloc import Filter

            tracemalloc.start()
            """, APPLICATION, """
            keep = [subprocess.list2cmdline(["a b", str(i)])
                    for i in range(100)]
            snapshot = tracemalloc.take_snapshot()
            for filter in (Filter(True, subprocess.__file__),
                           Filter(False, tracemalloc.__file__),
                           Filter(False, "<unknown>")):
                names = {trace.traceback[0].filename
                         for trace in snapshot.filter_traces([filter]).traces}
                print(sorted(names) == [subprocess.__file__],
                      __file__ in names,
                      tracemalloc.__file__ in names, "<unknown>" in names)
            """)
        self.assertEqual([line.split()[0] for line in lines],
                         ["True", "False", "False"])
        self.assertEqual([line.split()[1] for line in lines],
                         ["False", "True", "True"])
        self.assertEqual(lines[1].split()[2], "False")
        self.assertEqual(lines[2].split()[3], "False")

    def test_traceback_of_an_object(self):
        program = """
            import tracemalloc

            class Object:
                pass

            def f():
                obj = Object()
                return obj

            tracemalloc.start(%s)
            traceback = tracemalloc.get_object_traceback(f())
            print("Traceback (most recent call first):")
            for line in traceback.format(most_recent_first=True):
                print(line)
            for line in traceback:
                print(line)
            """
        lines = self.run_program(program % "25")
        self.assertEqual(lines, [
            "Traceback (most recent call first):",
            f'  File "{self.path}", line 8', "    obj = Object()",
            f'  File "{self.path}", line 12',
            "    traceback = tracemalloc.get_object_traceback(f())",
            f"{self.path}:12", f"{self.path}:8"])
        lines = self.run_program(program % "")
        self.assertEqual(lines[1:], [f'  File "{self.path}", line 8',
                                     "    obj = Object()", f"{self.path}:8"])

    def test_started_with_the_interpreter(self):
        program = """
            import tracemalloc
            print(tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())
            data = [bytes(1000) for i in range(1000)]
            before = tracemalloc.get_traced_memory()
            del data
            after = tracemalloc.get_traced_memory()
            print(before[0] - after[0] > 1_000_000,
                  after[1] >= before[0],
                  tracemalloc.get_tracemalloc_memory() > 0)
            tracemalloc.clear_traces()
            print(tracemalloc.get_traced_memory() < (50_000, 50_000))
            tracemalloc.stop()
            print(tracemalloc.is_tracing(), tracemalloc.get_traced_memory())
            try:
                tracemalloc.take_snapshot()
            except RuntimeError as error:
                print(error)
            """
        self.assertEqual(
            self.run_program(program, arguments=('-X', 'tracemalloc=25')),
            ["True 25", "True True True", "True", "False (0, 0)",
             "the tracemalloc module must be tracing memory allocations to "
             "take a snapshot"])


if __name__ == '__main__':
    unittest.main()
