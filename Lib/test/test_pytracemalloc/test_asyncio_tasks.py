"""The task that allocates is named in profiles as asyncio's own tools name
it."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
from collections import Counter
from concurrent.futures import thread     # its code has large blocks

from pytracemalloc.reporters.pprof import encode
from pytracemalloc.tree import Tree
from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.test_pprof import Profile

SIZE = 5000
# Two tasks that wait for a third, in a process that is looked at.
PROGRAM = '''
import asyncio, sys, tracemalloc

kept = []

async def fetch(waited_for):
    kept.append(bytes(5000))
    await waited_for

async def handle(waited_for):
    await fetch(waited_for)

class Store:
    async def load(self):
        await asyncio.sleep(0)
        kept.extend(bytes(5000) for number in range(3))
        tracemalloc.take_snapshot().dump(sys.argv[1])
        print('ready', flush=True)
        await asyncio.to_thread(sys.stdin.readline)

async def main():
    store = asyncio.create_task(Store().load(), name='store')
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(handle(store), name=f'handler {number}')

asyncio.run(main())
'''


def sizes_of(snapshot):
    """{task: bytes} of what is as large as the program's own blocks, by the
    labels of a profile; the groups by task must agree."""
    profile = Profile(encode(Tree.from_snapshot(snapshot)))
    sizes, whole = Counter(), Counter()
    for _, values, labels in profile.samples:
        whole[labels.get('task')] += values[3]
        if labels.get('type') == 'bytes' and values[3] >= SIZE:
            sizes[labels.get('task')] += values[3]
    groups = Counter()
    for stat in snapshot.fold_imports().statistics('task'):
        groups[stat.key[1]] += stat.size
    assert +groups == +whole, (groups, whole)
    return sizes


class LabelTest(unittest.TestCase):
    def setUp(self):
        self.kept = []

    def keep(self):
        self.kept.append(bytes(SIZE))

    def trace(self, main):
        with Tracing(65535):
            asyncio.run(main())
            return sizes_of(tracemalloc.take_snapshot())

    def test_tasks_and_callbacks(self):
        size = sys.getsizeof(bytes(SIZE))

        async def inner():
            self.keep()
            await asyncio.sleep(0)
            self.keep()

        async def outer():
            await inner()

        async def main():
            asyncio.get_running_loop().call_soon(self.keep)
            async with asyncio.TaskGroup() as group:
                group.create_task(outer(), name='a name of its own')
                group.create_task(outer())
            self.keep()

        name = 'LabelTest.test_tasks_and_callbacks.<locals>.'
        self.assertEqual(self.trace(main), {
            f'{name}outer': 4 * size, f'{name}main': size,
            'LabelTest.keep': size})

    def test_tasks_of_the_library(self):
        """A task that runs a coroutine of asyncio is named by the first frame
        that is not asyncio's."""
        size = sys.getsizeof(bytes(SIZE))

        async def inner():
            self.keep()

        async def main():
            await asyncio.create_task(asyncio.wait_for(inner(), 60))
            await asyncio.gather(inner(), inner())

        name = 'LabelTest.test_tasks_of_the_library.<locals>.'
        self.assertEqual(self.trace(main), {f'{name}inner': 3 * size})

    def test_a_loop_in_a_task(self):
        size = sys.getsizeof(bytes(SIZE))

        async def inner():
            self.keep()

        def runs_a_loop():
            self.keep()
            asyncio.run(inner())
            self.keep()

        async def main():
            await asyncio.to_thread(runs_a_loop)

        name = 'LabelTest.test_a_loop_in_a_task.<locals>.'
        self.assertEqual(self.trace(main), {f'{name}inner': size,
                                            None: 2 * size})

    def test_outside_of_a_loop(self):
        with Tracing(65535):
            self.keep()
            found = sizes_of(tracemalloc.take_snapshot())
        self.assertEqual(found, {None: sys.getsizeof(bytes(SIZE))})

    @unittest.skipUnless(hasattr(asyncio, 'format_call_graph'),
                         'asyncio.format_call_graph() is new in 3.14')
    def test_as_in_the_call_graph(self):
        graphs = []

        async def inner():
            self.keep()
            graphs.append(asyncio.format_call_graph())
            await asyncio.sleep(0)

        async def outer():
            await inner()

        async def main():
            await asyncio.create_task(outer())

        [task] = self.trace(main)
        [graph] = graphs
        last = [line for line in graph.splitlines() if 'File' in line
                and line.startswith('  |')][-1]
        self.assertRegex(last, rf' in (async )?{re.escape(task)}\(\)$')


class GroupTest(unittest.TestCase):
    """statistics('task') and report --by task."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.path = os.path.join(directory.name, 'app.tracemalloc')
        cls.kept = []

        async def fills():
            cls.kept.append(bytes(SIZE))

        async def main():
            for number in range(3):
                await asyncio.create_task(fills())
            cls.snapshots.append(tracemalloc.take_snapshot())
            await asyncio.create_task(fills())
            cls.snapshots.append(tracemalloc.take_snapshot())

        cls.snapshots = []
        with Tracing(65535):
            asyncio.run(main())
        cls.snapshots[1].dump(cls.path)
        cls.line = fills.__code__.co_firstlineno
        cls.key = __file__, fills.__qualname__, cls.line

    def test_key_and_sums(self):
        old, new = self.snapshots
        size = sys.getsizeof(bytes(SIZE))
        stats = {stat.key: stat for stat in new.statistics('task')}
        self.assertGreaterEqual(stats[self.key].size, 4 * size)
        self.assertLess(stats[self.key].size, 5 * size)
        self.assertIn(('<no task>', None, 0), stats)
        self.assertEqual(sum(stat.size for stat in stats.values()),
                         new.traced_memory[0])
        changes = {diff.key: diff for diff in new.compare_to(old, 'task')}
        self.assertGreaterEqual(changes[self.key].size_diff, size)
        self.assertLess(changes[self.key].size_diff, 2 * size)
        with self.assertRaisesRegex(ValueError, 'cumulative'):
            new.statistics('task', True)

    def report(self, *args):
        return subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'report', self.path,
             '--by', 'task', *args], capture_output=True, text=True)

    def test_report(self):
        text = self.report('--top', '50').stdout
        self.assertRegex(text, r'Top 50 tasks by live memory:')
        self.assertRegex(text, rf'{re.escape(os.path.basename(__file__))}:'
                               rf'{self.line} in \S+\.fills\n')
        self.assertRegex(text, r' no task\n')

    def test_few_frames(self):
        with Tracing(2):
            asyncio.run(asyncio.sleep(0))
            self.kept.append([bytes(SIZE) for number in range(100)])
            tracemalloc.take_snapshot().dump(self.path + '.few')
            del self.kept[-1]
        text = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'report',
             self.path + '.few', '--by', 'task'],
            capture_output=True, text=True).stdout
        self.assertIn('Much of the memory has no task in its 2 frames; '
                      'record all with -X tracemalloc=full\n', text)

    def test_what_does_not_fit(self):
        for option in '--my-code', '--cumulative':
            done = self.report(option)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, rf'task .*{option}|leave it out')


class ToolTest(unittest.TestCase):
    @unittest.skipIf(sys.version_info < (3, 14),
                     'python -m asyncio ps is new in 3.14')
    def test_as_in_ps(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(directory, 'app.tracemalloc')
        with subprocess.Popen(
                [sys.executable, '-X', 'tracemalloc=full', '-c', PROGRAM,
                 path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True) as process:
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), 'ready\n')
            shown = subprocess.run(
                [sys.executable, '-m', 'asyncio', 'ps', str(process.pid)],
                capture_output=True, text=True)
            process.communicate('\n')
        if shown.returncode and 'ermission' in shown.stderr:
            self.skipTest('may not look into other processes')
        size = sys.getsizeof(bytes(SIZE))
        sizes = sizes_of(tracemalloc.Snapshot.load(path))
        del sizes[None]           # code that was imported
        self.assertEqual(sizes, {'handle': 2 * size, 'Store.load': 3 * size})
        for task in sizes:
            self.assertRegex(shown.stdout, rf'\b{re.escape(task)}\b')


if __name__ == '__main__':
    unittest.main()
