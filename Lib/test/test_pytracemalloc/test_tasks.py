"""Tasks: triggers of the allocator, repetition, cancelling, errors."""

import _tracemalloc
import functools
import gc
import os
import threading
import time
import unittest
import weakref
from test.support import catch_unraisable_exception
from test.support.script_helper import assert_python_ok
from test.test_pytracemalloc.helpers import ALLOCATORS

import tracemalloc
from tracemalloctext import (DisplayTopTask, TakeSnapshotTask, Task,
                             cancel_tasks, get_tasks)

MB = 1024 * 1024


class Case(unittest.TestCase):

    def setUp(self):
        tracemalloc.enable()
        self.addCleanup(tracemalloc.disable)
        self.calls = []

    def note(self, *args, **kw):
        self.calls.append((args, kw))

    def make_task(self, func=None, threshold=MB, **kw):
        task = Task(self.note if func is None else func, **kw)
        task.set_memory_threshold(threshold)
        return task


class AttributeTests(unittest.TestCase):

    def test_function(self):
        task = Task(dict, [("a", 1)], b=2)
        self.assertIs(task.func, dict)
        self.assertEqual(task.func_args, ([("a", 1)],))
        self.assertEqual(task.func_kwargs, {"b": 2})
        self.assertEqual(task.call(), {"a": 1, "b": 2})
        self.assertIsNone(Task(dict).func_kwargs)
        self.assertEqual(Task(dict).call(), {})
        with self.assertRaisesRegex(TypeError, "callable"):
            Task(3)

    def test_repr(self):
        task = Task(functools.partial(print))
        task.set_delay(2)
        self.assertEqual(repr(task), '<Task partial delay=2 '
                                     'memory_threshold=None>')
        # Their function is a method of their own.
        for kind, method in ((DisplayTopTask, 'display'),
                             (TakeSnapshotTask, 'take_snapshot')):
            name = kind.__name__
            self.assertEqual(repr(kind()), f'<{name} {name}.{method} '
                                           'delay=None memory_threshold=None>')

    def test_delay(self):
        task = Task(print)
        self.assertIsNone(task.get_delay())
        task.set_delay(60)
        self.assertEqual(task.get_delay(), 60)
        task.set_delay(None)
        self.assertIsNone(task.get_delay())
        for seconds in (0, -1, 0.5, float("nan"), float("inf"), 10 ** 30):
            with self.assertRaisesRegex(ValueError, "delay must be in range"):
                task.set_delay(seconds)
        with self.assertRaises(TypeError):
            task.set_delay("60")

    def test_memory_threshold(self):
        task = Task(print)
        self.assertIsNone(task.get_memory_threshold())
        task.set_memory_threshold(1)
        self.assertEqual(task.get_memory_threshold(), 1)
        task.set_memory_threshold(None)
        self.assertIsNone(task.get_memory_threshold())
        for size in (0, -1, 10 ** 30):
            with self.assertRaisesRegex(ValueError, "must be in range"):
                task.set_memory_threshold(size)
        for size in (1.0, "1"):
            with self.assertRaises(TypeError):
                task.set_memory_threshold(size)


class ScheduleTests(Case):

    def test_needs_trigger(self):
        with self.assertRaisesRegex(ValueError, r"set_delay\(\) or set_mem"):
            Task(print).schedule()

    def test_needs_tracing(self):
        tracemalloc.disable()
        with self.assertRaisesRegex(RuntimeError, r"tracemalloc\.enable\(\)"):
            self.make_task().schedule()
        self.assertEqual(get_tasks(), [])

    def test_repeat_range(self):
        task = self.make_task()
        for repeat in (0, -1):
            with self.assertRaises(ValueError):
                task.schedule(repeat)
        with self.assertRaises(TypeError):
            task.schedule("2")
        self.assertFalse(task.is_scheduled())

    def test_get_and_cancel(self):
        first, second = self.make_task(), self.make_task()
        first.schedule()
        second.schedule()
        second.schedule()
        self.assertEqual(get_tasks(), [first, second])
        first.cancel()
        first.cancel()
        self.assertFalse(first.is_scheduled())
        self.assertEqual(get_tasks(), [second])
        cancel_tasks()
        self.assertEqual(get_tasks(), [])
        block = bytes(2 * MB)
        self.assertEqual(self.calls, [])
        del block

    def test_disable_cancels(self):
        self.make_task().schedule()
        tracemalloc.disable()
        self.assertEqual(get_tasks(), [])

    def test_without_trigger_is_cancelled(self):
        task = self.make_task()
        task.schedule()
        task.set_memory_threshold(None)
        self.assertFalse(task.is_scheduled())

    def test_holds_callable(self):
        class Owner:
            called = False

            def method(self):
                Owner.called = True

        task = self.make_task(Owner().method)
        task.schedule(repeat=1)
        reference = weakref.ref(task)
        del task
        gc.collect()
        block = bytes(2 * MB)
        self.assertTrue(Owner.called)
        gc.collect()
        self.assertIsNone(reference())
        del block


class ThresholdTests(Case):

    def test_up_and_down(self):
        task = self.make_task(threshold=5 * MB)
        task.schedule()
        blocks = [bytes(MB) for _ in range(4)]
        self.assertEqual(len(self.calls), 0)
        blocks.append(bytes(MB + 100_000))
        self.assertEqual(len(self.calls), 1)
        blocks.append(bytes(4 * MB))
        self.assertEqual(len(self.calls), 1)
        blocks.clear()
        self.assertEqual(len(self.calls), 2)

    def test_within_one_allocation(self):
        seen = []
        task = self.make_task(
            lambda: seen.append(tracemalloc.get_traced_memory()[0]),
            threshold=5 * MB)
        start = tracemalloc.get_traced_memory()[0]
        task.schedule(repeat=1)
        blocks = []
        while not seen:
            blocks.append(bytes(1000))
        self.assertGreater(seen[0] - start, 5 * MB - 10_000)
        self.assertLess(seen[0] - start, 5 * MB + 10_000)

    def test_a_short_peak_counts(self):
        self.make_task().schedule(repeat=1)
        # One call of C code: the block is gone when it returns.
        list(map(len, map(bytes, [2 * MB])))
        self.assertEqual(len(self.calls), 1)

    def test_arguments(self):
        task = Task(self.note, 1, 2, a=3)
        task.set_memory_threshold(MB)
        task.schedule(repeat=1)
        block = bytes(2 * MB)
        self.assertEqual(self.calls, [((1, 2), {"a": 3})])
        del block

    def test_repeat_counts_down(self):
        task = self.make_task()
        task.schedule(repeat=2)
        blocks = [bytes(2 * MB)]
        self.assertTrue(task.is_scheduled())
        blocks.append(bytes(2 * MB))
        self.assertFalse(task.is_scheduled())
        blocks.append(bytes(2 * MB))
        self.assertEqual(len(self.calls), 2)

    def test_threshold_set_while_scheduled(self):
        task = self.make_task(threshold=100 * MB)
        task.schedule()
        task.set_memory_threshold(MB)
        block = bytes(2 * MB)
        self.assertEqual(len(self.calls), 1)
        del block

    def test_many_tasks(self):
        tasks = [self.make_task(threshold=size * MB) for size in (3, 1, 2)]
        called = []
        for task in tasks:
            task.func = called.append
            task.func_args = (task.get_memory_threshold() // MB,)
            task.schedule(repeat=1)
        blocks = []
        for count in ([1], [1, 2], [1, 2, 3]):
            blocks.append(bytes(MB + 10_000))
            self.assertEqual(called, count)

    def test_more_tasks_than_pending_calls(self):
        for _ in range(100):
            self.make_task().schedule(repeat=1)
        block = bytes(2 * MB)
        deadline = time.monotonic() + 30
        while len(self.calls) < 100 and time.monotonic() < deadline:
            pass
        self.assertEqual(len(self.calls), 100)
        del block

    def test_allocation_in_other_thread(self):
        threads = []
        self.make_task(
            lambda: threads.append(threading.current_thread())).schedule(1)
        blocks = []
        thread = threading.Thread(
            target=lambda: blocks.append(bytes(2 * MB)))
        thread.start()
        thread.join()
        while not threads:
            pass
        self.assertEqual(threads, [threading.main_thread()])


class InsideCallTests(Case):

    def test_cancel(self):
        task = self.make_task()

        def cancel():
            self.assertTrue(task.is_scheduled())
            task.cancel()
            self.note()

        task.func = cancel
        task.schedule()
        blocks = [bytes(2 * MB), bytes(2 * MB)]
        self.assertFalse(task.is_scheduled())
        self.assertEqual(len(self.calls), 1)
        del blocks

    def test_schedule(self):
        task = self.make_task()

        def schedule():
            self.note()
            if len(self.calls) == 1:
                task.schedule(repeat=2)

        task.func = schedule
        task.schedule(repeat=1)
        blocks = [bytes(2 * MB) for _ in range(5)]
        self.assertEqual(len(self.calls), 3)
        self.assertFalse(task.is_scheduled())
        del blocks

    def test_not_reentered(self):
        depth = []

        def allocate():
            self.assertEqual(depth, [])
            depth.append(1)
            blocks = [bytes(2 * MB), bytes(2 * MB)]
            depth.pop()
            self.note(len(blocks))

        self.make_task(allocate).schedule(repeat=3)
        blocks = [bytes(2 * MB) for _ in range(3)]
        self.assertEqual(len(self.calls), 3)
        del blocks

    def test_deadline_within_the_call(self):
        def call():
            self.note()
            if len(self.calls) == 1:
                trigger.arm(MB, 0.01)
                end = time.monotonic() + 0.1
                while time.monotonic() < end:
                    [object() for _ in range(100)]

        trigger = _tracemalloc._Trigger(call)
        self.addCleanup(trigger.disarm)
        trigger.arm(MB, None)
        blocks = [bytes(2 * MB)]
        self.assertEqual(len(self.calls), 2)
        del blocks

    def test_threshold_that_the_call_itself_passes(self):
        # Such a task is due again at once: it must not stop the program.
        task = self.make_task(lambda: self.note([None] * 1000), threshold=1)
        task.schedule()
        for _ in range(1000):
            list(range(10))
        task.cancel()
        self.assertGreater(len(self.calls), 0)


class ErrorTests(Case):

    def test_reported_once_and_cancelled(self):
        def fail():
            self.note()
            raise ValueError("task failed")

        task = self.make_task(fail)
        with catch_unraisable_exception() as caught:
            task.schedule()
            block = bytes(2 * MB)
            self.assertIsInstance(caught.unraisable.exc_value, ValueError)
            self.assertIn("tracemalloc task", caught.unraisable.err_msg)
        self.assertFalse(task.is_scheduled())
        more = bytes(2 * MB)
        self.assertEqual(len(self.calls), 1)
        del block, more

    def test_on_stderr(self):
        code = """if 1:
            import tracemalloc, tracemalloctext
            tracemalloc.enable()
            task = tracemalloctext.Task(lambda: 1 / 0)
            task.set_memory_threshold(1000)
            task.schedule()
            blocks = [bytes(10_000) for _ in range(5)]
            print('the program goes on')
        """
        _, out, err = assert_python_ok("-c", code)
        self.assertEqual(out, b"the program goes on\n")
        self.assertEqual(err.count(b"ZeroDivisionError"), 1)
        self.assertIn(b"cancelled", err)

    def test_interrupt_goes_on(self):
        def interrupt():
            raise KeyboardInterrupt

        task = self.make_task(interrupt)
        task.schedule()
        with self.assertRaises(KeyboardInterrupt):
            blocks = [bytes(MB) for _ in range(3)]
        self.assertFalse(task.is_scheduled())


class DelayTests(Case):

    def run_until(self, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            # Objects, not only memory that a free list serves.
            [object() for _ in range(100)]

    def test_not_before_the_delay(self):
        task = Task(lambda: self.calls.append(time.monotonic()))
        task.set_delay(1)
        start = time.monotonic()
        task.schedule(repeat=2)
        self.run_until(lambda: len(self.calls) == 2)
        self.assertEqual(len(self.calls), 2)
        self.assertGreaterEqual(self.calls[0] - start, 1.0)
        self.assertGreaterEqual(self.calls[1] - self.calls[0], 1.0)
        self.assertFalse(task.is_scheduled())

    def test_disabled_delay(self):
        task = Task(self.note)
        task.set_delay(1)
        task.set_memory_threshold(100 * MB)
        task.schedule()
        task.set_delay(None)
        self.run_until(lambda: False, 1.3)
        self.assertEqual(self.calls, [])

    def test_nothing_is_called_without_allocation(self):
        task = Task(self.note)
        task.set_delay(1)
        task.schedule()
        time.sleep(1.2)
        self.assertEqual(self.calls, [])
        self.run_until(lambda: self.calls)
        self.assertEqual(len(self.calls), 1)


class ProcessTests(unittest.TestCase):

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_child_has_no_tasks(self):
        code = """if 1:
            import os, tracemalloc, tracemalloctext
            tracemalloc.enable()
            task = tracemalloctext.Task(lambda: print('called', flush=True))
            task.set_memory_threshold(1_000_000)
            task.schedule(repeat=1)
            pid = os.fork()
            block = bytes(2_000_000)
            if not pid:
                print('child', len(tracemalloctext.get_tasks()), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
        """
        _, out, _ = assert_python_ok("-c", code)
        self.assertEqual(sorted(out.split(b"\n")),
                         [b"", b"called", b"child 0"])

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_child_schedules_tasks_of_its_own(self):
        code = """if True:
            import os, tracemalloc

            def in_child():
                own.schedule()

            os.register_at_fork(after_in_child=in_child)
            tracemalloc.start()
            tasks = [tracemalloc.Task(print, name)
                     for name in ("parent", "child")]
            for task in tasks:
                task.set_memory_threshold(1 << 20)
            tasks[0].schedule()
            own = tasks[1]
            pid = os.fork()
            if not pid:
                block = bytes(2 << 20)
                del block
                assert tracemalloc.get_tasks() == [own]
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert tracemalloc.get_tasks() == [tasks[0]]
            """
        assert_python_ok("-c", code)

    def test_exit_with_tasks(self):
        code = """if 1:
            import tracemalloc, tracemalloctext
            tracemalloc.enable()
            task = tracemalloctext.Task(print, 'called')
            task.set_memory_threshold(1)
            task.set_delay(1)
            tracemalloc.stop()
            tracemalloc.enable()
            task.schedule()
        """
        assert_python_ok("-c", code)

    def test_with_other_allocators(self):
        code = """if 1:
            import time, tracemalloc, tracemalloctext
            calls = []
            tracemalloc.enable()
            for trigger in 'set_delay', 'set_memory_threshold':
                task = tracemalloctext.Task(calls.append, trigger)
                getattr(task, trigger)(1)
                task.schedule(repeat=1)
            end = time.monotonic() + 30
            while len(calls) < 2 and time.monotonic() < end:
                [object() for _ in range(100)]
            print(*calls)
        """
        for allocator in "debug", *ALLOCATORS:
            with self.subTest(allocator):
                _, out, _ = assert_python_ok("-c", code,
                                             PYTHONMALLOC=allocator)
                self.assertEqual(out.split(),
                                 [b"set_memory_threshold", b"set_delay"])


if __name__ == "__main__":
    unittest.main()
