"""python -m tracemalloc as in 0.9.1, option by option, and the attributes of
its classes that the command sets."""

import io
import os
import re
import sys
import types
import unittest
from datetime import datetime
from unittest import mock
from test.support import os_helper
from test.support.script_helper import assert_python_ok

import tracemalloc
from tracemalloc import DisplayGarbage, DisplayTop, Snapshot, TakeSnapshot

FIRST = [(0, 1000, (('/usr/lib/app/a.py', 2),), 1),
         (0, 600, (('/usr/lib/app/b.py', 7),), 1),
         (0, 60, (('/usr/lib/other.py', 1),), 1)]
MORE = [(0, 1500, (('/usr/lib/app/b.py', 8),), 1)]


def write_snapshot(filename, traces, second):
    snapshot = Snapshot(traces, 1)
    snapshot.timestamp = datetime(2013, 6, 1, 18, 51, second)
    snapshot.pid = 123
    snapshot.write(filename)


class CommandTests(unittest.TestCase):

    def setUp(self):
        self.enterContext(os_helper.temp_cwd())
        for number in range(3):
            write_snapshot('%d.pickle' % number, FIRST + MORE * number,
                           number)

    def display(self, *arguments):
        _, out, err = assert_python_ok('-m', 'tracemalloc', *arguments)
        self.assertEqual(err, b'')
        return out.decode().splitlines()

    def test_one_snapshot(self):
        self.assertEqual(self.display('0.pickle'), [
            '2013-06-01 18:51:00: Top 10 allocations per file',
            '#1: .../lib/app/a.py: size=1000 B, count=1, average=1000 B',
            '#2: .../lib/app/b.py: size=600 B, count=1, average=600 B',
            '#3: .../usr/lib/other.py: size=60 B, count=1, average=60 B',
            'Total Python memory: size=1660 B, count=3, average=553 B'])

    def test_compared_with_the_previous(self):
        lines = self.display('0.pickle', '1.pickle', '2.pickle')
        self.assertEqual([line for line in lines if 'b.py' in line], [
            '#2: .../lib/app/b.py: size=600 B, count=1, average=600 B',
            '#1: .../lib/app/b.py: size=2100 B (+1500 B), count=2 (+1), '
            'average=1050 B',
            '#1: .../lib/app/b.py: size=3600 B (+1500 B), count=3 (+1), '
            'average=1200 B'])
        self.assertIn('2013-06-01 18:51:02: Top 10 allocations per file '
                      '(compared to 2013-06-01 18:51:01)', lines)

    def test_first(self):
        lines = self.display('--first', '0.pickle', '1.pickle', '2.pickle')
        self.assertIn('#1: .../lib/app/b.py: size=3600 B (+3000 B), '
                      'count=3 (+2), average=1200 B', lines)
        self.assertIn('2013-06-01 18:51:02: Top 10 allocations per file '
                      '(compared to 2013-06-01 18:51:00)', lines)

    def test_line_number(self):
        for option in '-l', '--line-number':
            lines = self.display(option, '1.pickle')
            self.assertIn('allocations per file and line', lines[0])
            self.assertEqual(lines[1], '#1: .../lib/app/b.py:8: size=1500 B, '
                                       'count=1, average=1500 B')

    def names(self, *arguments):
        return {re.search(r'(\w+\.py): ', line)[1]
                for line in self.display(*arguments) if line[0] == '#'}

    def test_include_and_exclude(self):
        self.assertEqual(self.names('--include=*/app/*', '0.pickle'),
                         {'a.py', 'b.py'})
        self.assertEqual(self.names('--include', '*/a.py', '--include',
                                    '*/other.py', '0.pickle'),
                         {'a.py', 'other.py'})
        self.assertEqual(self.names('--exclude=*/a.py', '--exclude=*/b.py',
                                    '0.pickle'), {'other.py'})
        self.assertEqual(self.names('--include=*/app/*', '--exclude=*/a.py',
                                    '0.pickle'), {'b.py'})

    def test_what_is_shown(self):
        for options, line in (
                (['-S'], 'count=1, average=1000 B'),
                (['--hide-count'], 'size=1000 B, average=1000 B'),
                (['-A', '-C'], '1000 B'),
                (['--hide-size', '--hide-average'], 'count=1')):
            self.assertEqual(self.display(*options, '0.pickle')[1],
                             '#1: .../lib/app/a.py: ' + line)
        lines = self.display('-P', '1', '-n', '1', '0.pickle')
        self.assertEqual(lines[1:3], [
            '#1: .../a.py: size=1000 B, count=1, average=1000 B',
            '2 more: size=660 B, count=2, average=330 B'])

    def test_color(self):
        self.assertIn('\x1b[', ''.join(self.display('--color', '0.pickle')))
        self.assertNotIn('\x1b[', ''.join(self.display('--no-color',
                                                       '0.pickle')))

    def test_help(self):
        text = '\n'.join(self.display('--help'))
        for option in ('-l, --line-number', '--first', '--include MATCH',
                       '--exclude MATCH', '--color', '--no-color'):
            self.assertIn(option, text)


class Case(unittest.TestCase):

    def setUp(self):
        tracemalloc.enable()
        self.addCleanup(tracemalloc.disable)


class AttributeTests(Case):

    def display(self, **attributes):
        top = DisplayTop(1, file=io.StringIO())
        for name, value in attributes.items():
            self.assertTrue(hasattr(top, name))
            setattr(top, name, value)
        block = bytes(10_000_000)
        top.display()
        del block
        return top.stream.getvalue().splitlines()[1]

    def test_display_top(self):
        name = r'^#1: \.\.\./(\w+/)+test_legacy_command\.py'
        self.assertRegex(self.display(show_lineno=True),
                         name + r':\d+: size=9 MiB, count=\d+, average=')
        self.assertRegex(self.display(show_size=False),
                         name + r': count=\d+, average=\d+ (KiB|MiB|B)$')
        self.assertRegex(self.display(show_average=False),
                         name + r': size=9 MiB, count=\d+$')
        self.assertRegex(self.display(filename_parts=1),
                         r'^#1: \.\.\./test_legacy_command\.py: size=')
        self.assertIn('\x1b[', self.display(color=True))

    def test_garbage_in_color(self):
        import gc
        self.addCleanup(gc.set_debug, gc.get_debug())
        self.addCleanup(gc.garbage.clear)
        display = DisplayGarbage(file=io.StringIO())
        self.assertFalse(display.color)
        display.color = True
        gc.set_debug(gc.DEBUG_SAVEALL)
        cycle = []
        cycle.append(cycle)
        del cycle
        display.display()
        self.assertRegex(display.stream.getvalue(),
                         '\x1b\\[.*UNCOLLECTABLE OBJECT')

    def test_filename_template(self):
        take_snapshot = TakeSnapshot()
        take_snapshot.filename_template = 'trace-$pid-$timestamp-$counter'
        with os_helper.temp_cwd():
            snapshot, filename = take_snapshot.take_snapshot()
            self.assertEqual(os.listdir(), [filename])
        self.assertEqual(filename, 'trace-%d-%s-0001' % (
            os.getpid(), snapshot.timestamp.strftime('%Y-%m-%d-%H-%M-%S')))

    def test_start_and_stop(self):
        take_snapshot = TakeSnapshot()
        take_snapshot.start(60.0)
        self.assertEqual([task.get_delay() for task
                          in tracemalloc.get_tasks()], [60.0])
        take_snapshot.stop()
        self.assertEqual(tracemalloc.get_tasks(), [])

    def test_display_of_a_snapshot(self):
        top = DisplayTop(5, file=io.StringIO())
        Snapshot.create().display(top, show_pid=True)
        self.assertIn('[pid %d]' % os.getpid(), top.stream.getvalue())


class TimerTests(Case):

    def setUp(self):
        super().setUp()
        self.addCleanup(tracemalloc.stop_timer)

    def wait(self, condition):
        end = datetime.now().timestamp() + 30
        while not condition() and datetime.now().timestamp() < end:
            [object() for _ in range(1000)]
        self.assertTrue(condition())

    def test_exception_ends_it(self):
        def fail():
            raise ZeroDivisionError('in the timer')
        reported = []
        with mock.patch('sys.unraisablehook', reported.append):
            tracemalloc.start_timer(1, fail)
            self.wait(lambda: reported)
        self.assertEqual(str(reported[0].exc_value), 'in the timer')
        self.assertEqual(tracemalloc.get_tasks(), [])

    def test_not_called_within_its_own_call(self):
        depths = []

        def work():
            depths.append(0)
            end = datetime.now().timestamp() + 1.5
            while datetime.now().timestamp() < end:
                [object() for _ in range(1000)]
            depths.append(1)
        tracemalloc.start_timer(1, work)
        self.wait(lambda: len(depths) >= 2)
        self.assertEqual(depths, [0, 1])


class ProcessMemoryTests(unittest.TestCase):

    def with_psutil(self, memory_info):
        psutil = types.ModuleType('psutil')
        psutil.Error = OSError
        psutil.Process = lambda: types.SimpleNamespace(
            memory_info=memory_info)
        return mock.patch.dict(sys.modules, psutil=psutil)

    def test_psutil_is_used(self):
        with self.with_psutil(lambda: types.SimpleNamespace(rss=123, vms=4)):
            self.assertEqual(tracemalloc.get_process_memory(), 123)

    def test_psutil_fails(self):
        def memory_info():
            raise OSError
        with self.with_psutil(memory_info):
            self.assertIsNone(tracemalloc.get_process_memory())

    def test_platform_without(self):
        with mock.patch.dict(sys.modules, psutil=None):
            if os.path.exists('/proc/self/statm'):
                self.assertGreater(tracemalloc.get_process_memory(), 1 << 20)
            with mock.patch('builtins.open', side_effect=FileNotFoundError):
                self.assertIsNone(tracemalloc.get_process_memory())


if __name__ == '__main__':
    unittest.main()
