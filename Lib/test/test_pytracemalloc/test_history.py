"""Memory over time: what is noted, by whom, and what it may cost."""

import contextlib
import ctypes
import gc
import mmap
import os
import signal
import threading
import time
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import (
    FREE_THREADED, SANITIZED, Tracing)
from test.test_pytracemalloc.history_case import (
    MOST, HistoryCase, run, wait_for)


def threads():
    """Names of the threads that are not Python's, by number."""
    found = {}
    for number in os.listdir('/proc/self/task'):
        with contextlib.suppress(OSError):
            with open(f'/proc/self/task/{number}/comm') as file:
                if file.read() == 'tracemalloc\n':
                    found[int(number)] = f'/proc/self/task/{number}'
    return found


class NoteTests(HistoryCase):
    """Each note has what the program would have been told then."""

    def setUp(self):
        super().setUp()
        self.enterContext(Tracing())

    def check_step(self):
        # The first look loads what a look needs.
        self.new_notes(1)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()
        notes = self.new_notes()
        after = tracemalloc.get_traced_memory()
        for note in notes:
            for value in note.traced, note.most_traced, note.peak:
                self.assertGreaterEqual(value, before[0] - 4096)
                self.assertLessEqual(value, after[1] + 4096)
        return notes[-1]

    def test_steps(self):
        self.start()
        keep = []
        notes = [self.check_step()]
        for size in 1_000_000, 100_000, 10_000_000, 3_000_000:
            keep.append(bytearray(size))
            notes.append(self.check_step())
            self.assertAlmostEqual(notes[-1].traced - notes[-2].traced, size,
                                   delta=4096)
        del keep[2]
        notes.append(self.check_step())
        self.assertAlmostEqual(notes[-1].traced - notes[-2].traced,
                               -10_000_000, delta=4096)

    def test_exactly(self):
        """A program that writes down itself what it has."""
        done = run('''
            import time, tracemalloc
            from _tracemalloc import _get_history
            tracemalloc.start()
            tracemalloc.start_history(.002)
            kept, seen = [None] * 8, [None] * 8
            notes = tracemalloc.get_history()

            def look():
                # A busy machine may leave no note in so short a time.
                inside = []
                while not inside:
                    begin = time.time() + .02
                    traced = tracemalloc.get_traced_memory()
                    time.sleep(.1)
                    end = time.time() - .02
                    inside = [(note.traced, note.peak)
                              for note in tracemalloc.get_history()
                              if begin < note.time < end]
                return traced, inside

            look()
            for step, size in enumerate((10, 10 ** 6, 1, 10 ** 7, 10 ** 5)):
                kept[step] = bytearray(size)
                seen[step] = look()
            for traced, inside in filter(None, seen):
                print(max(abs(note[0] - traced[0]) for note in inside) < 500,
                      max(abs(note[1] - traced[1]) for note in inside) < 500)
            ''')
        self.assertEqual((done.stdout.split(), done.stderr), (['True'] * 10,
                                                              ''))

    @unittest.skipIf(FREE_THREADED, "the memory of other threads' heaps")
    def test_blocks(self):
        def wait_for_blocks(number):
            # They are not counted for each note.
            wait_for(lambda: abs(self.new_notes()[-1].blocks - number) <= 100)

        self.start()
        first = self.new_notes()[-1].blocks
        keep = [object() for _ in range(20_000)]
        wait_for_blocks(first + 20_001)
        keep += [bytes(5000) for _ in range(3000)]
        wait_for_blocks(first + 23_001)
        del keep
        wait_for_blocks(first)

    def test_blocks_of_a_large_tree(self):
        """They are counted in parts: none is left out, none counted twice."""
        scope = {}
        exec('\n'.join(f'def f{i}(): return {i}.5 + zero, [{i}]'
                       for i in range(6000)), scope | {'zero': 0}, scope)
        functions = [scope[f'f{i}'] for i in range(6000)]
        for function in functions:
            function.__globals__['zero'] = 0
        keep = [function() for function in functions]
        self.assertGreater(tracemalloc.get_tracer_stats()['nodes'], 12_000)
        self.start()
        blocks = self.new_notes()[-1].blocks
        counted = sum(stat.count for stat in tracemalloc.take_snapshot(
            traces=False).statistics('filename'))
        self.assertAlmostEqual(blocks, counted, delta=100)
        self.assertGreater(blocks, len(keep) * 2)

    def test_collections(self):
        self.start()
        self.addCleanup(gc.enable)
        gc.disable()
        before = self.new_notes()[-1].collections
        for generation, times in (0, 3), (1, 2), (2, 1):
            for _ in range(times):
                gc.collect(generation)
        after = self.new_notes()[-1].collections
        self.assertEqual(
            after, tuple(stats['collections'] for stats in gc.get_stats()))
        self.assertEqual([new - old for new, old in zip(after, before)],
                         [3, 2, 1])

    @unittest.skipIf(SANITIZED, 'memory of its own')
    def test_resident(self):
        """Memory that Python knows nothing of."""
        self.start()
        size = 64 << 20
        before = self.new_notes()[-1]
        with mmap.mmap(-1, size) as area:
            for offset in range(0, size, mmap.PAGESIZE):
                area[offset] = 1
            during = self.new_notes()[-1]
        after = self.new_notes()[-1]
        self.assertAlmostEqual(during.rss - before.rss, size, delta=size / 8)
        self.assertAlmostEqual(after.rss, before.rss, delta=size / 8)
        self.assertLess(during.traced - before.traced, size / 8)

    def test_without_tracing(self):
        tracemalloc.stop()
        self.start()
        for note in self.new_notes():
            self.assertEqual((note.traced, note.peak, note.blocks), (0, 0, 0))
            self.assertGreater(note.rss, 1_000_000)
        with Tracing():
            keep = bytearray(1_000_000)
            self.assertGreater(self.new_notes()[-1].traced, len(keep))
            del keep
        self.assertEqual(self.new_notes()[-1].traced, 0)

    def test_peak_between_notes(self):
        """What nobody saw is in the peak of the next note."""
        self.start(1000)
        tracemalloc.get_history()
        bytearray(20_000_000)
        note = tracemalloc.get_history()[-1]
        self.assertLess(note.traced, 10_000_000)
        self.assertGreater(note.peak, 20_000_000)


class ThreadTests(HistoryCase):
    """The thread: nobody sees it, waits for it, or has to let it run."""

    @unittest.skipIf(SANITIZED, 'has a thread of its own')
    def test_only_if_asked_for(self):
        done = run('''
            import os, tracemalloc
            print(len(os.listdir('/proc/self/task')))
            tracemalloc.start()
            tracemalloc.take_snapshot()
            print(len(os.listdir('/proc/self/task')),
                  tracemalloc.get_history())
            tracemalloc.start_history()
            print(len(os.listdir('/proc/self/task')))
            tracemalloc.stop_history()
            print(len(os.listdir('/proc/self/task')))
            ''')
        self.assertEqual(done.stdout, '1\n1 []\n2\n1\n', done.stderr)

    def test_needs_no_gil(self):
        self.start()
        usleep = ctypes.PyDLL(None).usleep      # with the GIL
        start = time.time()
        usleep(300_000)
        end = time.time()
        notes = [note for note in tracemalloc.get_history()
                 if start < note.time < end]
        self.assertGreater(len(notes), 5)

    def test_signals_are_blocked(self):
        self.start()
        wait_for(threads)
        (path,) = threads().values()
        with open(f'{path}/status') as file:
            blocked, = (int(line.split()[1], 16) for line in file
                        if line.startswith('SigBlk:'))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPROF,
                       signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1):
            self.assertTrue(blocked >> number - 1 & 1, number)
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), set())

    def test_descriptors_are_the_programs(self):
        def opened():
            fd = os.open('/dev/null', os.O_RDONLY)
            os.close(fd)
            return fd, sorted(os.listdir('/proc/self/fd'))
        before = opened()
        self.start()
        wait_for(threads)
        (path,) = threads().values()
        # The thread has no more than one of its own.
        wait_for(lambda: len(os.listdir(f'{path}/fd')) <= 1)
        for _ in range(20):
            self.assertEqual(opened(), before)
            time.sleep(.002)

    def test_closing_all_descriptors(self):
        done = run('''
            import os, time, tracemalloc
            tracemalloc.start_history(.002)
            os.closerange(3, 1000)
            end = time.monotonic() + 60
            with open('/dev/zero', 'rb') as file:
                while (len(notes := tracemalloc.get_history()) <= 5
                       and time.monotonic() < end):
                    time.sleep(.01)
            print(len(notes) > 5, all(note.rss for note in notes))
            ''')
        self.assertEqual((done.stdout, done.stderr), ('True True\n', ''))

    def test_nothing_is_allocated(self):
        with Tracing():
            self.start()
            from _tracemalloc import get_traced_memory
            self.new_notes()
            before, after = [None], [None]
            before[0] = get_traced_memory()
            before[0] = get_traced_memory()
            end = time.monotonic() + .1
            while time.monotonic() < end:
                pass
            after[0] = get_traced_memory()
            self.assertAlmostEqual(after[0][0], before[0][0], delta=200)

    def test_start_and_stop(self):
        self.start()
        self.new_notes()
        tracemalloc.stop_history()
        self.assertEqual(threads(), {})
        kept = tracemalloc.get_history()
        self.assertGreaterEqual(len(kept), 3)
        time.sleep(.02)
        self.assertEqual(tracemalloc.get_history(), kept)
        tracemalloc.stop_history()
        self.start()
        self.start()
        wait_for(lambda: len(threads()) == 1)
        self.assertGreater(tracemalloc.get_history()[0].time, kept[-1].time)

    def test_many_starts(self):
        def work():
            while not stop.is_set():
                self.start(.001)
                tracemalloc.get_history()
                tracemalloc.stop_history()
        stop = threading.Event()
        workers = [threading.Thread(target=work) for _ in range(4)]
        with Tracing():
            for worker in workers:
                worker.start()
            for _ in range(30):
                tracemalloc.take_snapshot(traces=False)
                tracemalloc.clear_traces()
            stop.set()
            for worker in workers:
                worker.join()
        self.assertEqual(threads(), {})

    def test_pruning_and_clearing(self):
        """Nodes get other numbers while they are counted."""
        from _tracemalloc import _prune_soon
        with Tracing(25):
            self.start(.001)
            for i in range(150):
                exec(f'def f(): return [{i}.5 for _ in range(3)]\nf()', {})
                _prune_soon()
                if i % 50 == 49:
                    tracemalloc.clear_traces()
            wait_for(lambda: tracemalloc.get_history()[-1].blocks < 1_000_000)
            for note in tracemalloc.get_history():
                self.assertLess(note.blocks, 1_000_000)

    def test_arguments(self):
        for wrong in 0, -1, .0001, 1e9, float('nan'), float('inf'):
            with self.assertRaisesRegex(ValueError, 'from 1 ms to'):
                tracemalloc.start_history(wrong)
        with self.assertRaises(TypeError):
            tracemalloc.start_history('1')
        self.assertEqual(threads(), {})

    def test_embedded_interpreter_ends(self):
        done = run('''
            import tracemalloc
            tracemalloc.start()
            tracemalloc.start_history(.001)
            ''')
        self.assertEqual((done.returncode, done.stderr), (0, ''))


class CostTests(HistoryCase):

    def used(self, path):
        with open(f'{path}/schedstat') as file:
            return int(file.read().split()[0]) / 1e9

    @unittest.skipIf(SANITIZED, 'its code is slow')
    def test_one_part_in_100(self):
        """However short the interval, and however large the call tree."""
        with Tracing(25):
            scope = {'zero': 0}
            exec('\n'.join(f'def f{i}(): return {i}.5 + zero'
                           for i in range(20_000)), scope)
            keep = [scope[f'f{i}']() for i in range(20_000)]
            self.start(.001)
            wait_for(threads)
            (path,) = threads().values()
            begin, used = time.monotonic(), self.used(path)
            time.sleep(1)
            used = self.used(path) - used
            passed = time.monotonic() - begin
            notes = [note for note in tracemalloc.get_history()]
        self.assertGreater(len(keep) and len(notes), 20)
        # The first count is paid for later.
        self.assertLess(used, passed / 100 + .002)

    @unittest.skipIf(SANITIZED, 'its code is slow')
    def test_ten_times_a_second(self):
        with Tracing():
            tracemalloc.start_history()
            wait_for(threads)
            (path,) = threads().values()
            begin, used = time.monotonic(), self.used(path)
            time.sleep(.5)
            used = self.used(path) - used
            passed = time.monotonic() - begin
        self.assertLess(used, passed / 100 + .001)


class BoundTests(HistoryCase):
    """2048 notes, however long the program runs."""

    def test_halving(self):
        with Tracing():
            self.start(1000)
            from _tracemalloc import _get_history
            spikes, first = [], tracemalloc.get_history()[0]
            for number in range(6 * MOST):
                if number % 700 == 0:
                    spike = bytearray(1_000_000 + 1000 * number)
                    begin = time.time()
                    _get_history()
                    spikes.append((begin, time.time(), len(spike)))
                    del spike
                _get_history()
            notes = tracemalloc.get_history()
        self.assertLessEqual(len(notes), MOST)
        self.assertGreater(len(notes), MOST / 2)
        self.assertEqual(notes[0], first)
        times = [note.time for note in notes]
        self.assertEqual(times, sorted(times))
        # Each maximum is at the place where it was, and nowhere else.
        high = [note for note in notes if note.most_traced > 1_000_000]
        self.assertEqual(len(high), len(spikes))
        for note, (begin, end, size) in zip(high, spikes):
            self.assertAlmostEqual(note.most_traced, size, delta=300_000)
            before = notes[notes.index(note) - 1]
            self.assertLess(before.time, end)
            self.assertGreaterEqual(note.time, begin - .001)
        for note in notes:
            self.assertGreaterEqual(note.most_traced, note.traced)
            self.assertGreaterEqual(note.most_rss, note.rss)

    def test_it_forgets_no_snapshot(self):
        with Tracing():
            self.start(1000)
            from _tracemalloc import _get_history
            for number in range(3 * MOST):
                if number % 300 == 0:
                    tracemalloc.take_snapshot(traces=False)
                _get_history()
            snapshot = tracemalloc.take_snapshot()
        self.assertLessEqual(len(snapshot.history), MOST)
        self.assertEqual(sum(note.snapshots for note in snapshot.history),
                         3 * MOST // 300 + 2)

    def test_memory(self):
        done = run('''
            import tracemalloc
            from _tracemalloc import _get_history
            tracemalloc.start()
            before = tracemalloc.get_tracemalloc_memory()
            tracemalloc.start_history(1000)
            for _ in range(5000):
                _get_history()
            print(tracemalloc.get_tracemalloc_memory() - before)
            ''')
        self.assertLess(int(done.stdout), 200_000, done.stderr)


class ForkTests(unittest.TestCase):

    @unittest.skipIf(SANITIZED, 'has a thread of its own')
    def test_child_begins_anew(self):
        done = run('''
            import os, time, tracemalloc, warnings
            tracemalloc.start()
            tracemalloc.start_history(.002)
            time.sleep(.1)
            old = tracemalloc.get_history()
            forked = time.time()
            if os.fork() == 0:
                time.sleep(.1)
                new = tracemalloc.get_history()
                print(len(new) > 5, new[0].time >= forked - .01, flush=True)
                os._exit(0)
            os.wait()
            time.sleep(.02)
            new = tracemalloc.get_history()
            print(len(new) > len(old), new[0] == old[0], flush=True)
            tracemalloc.stop_history()
            if os.fork() == 0:
                print(tracemalloc.get_history() == [],
                      len(os.listdir('/proc/self/task')), flush=True)
                os._exit(0)
            os.wait()
            ''', '-W', 'always')
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.stdout,
                         'True True\nTrue True\nTrue 1\n')

    def test_threads_are_warned_of(self):
        """Those of the program, as without the tracer."""
        code = '''
            import os, threading, tracemalloc
            {start}
            stop = threading.Event()
            threading.Thread(target=stop.wait).start()
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            stop.set()
            '''
        plain, noting = (
            run(code.format(start=start), '-W', 'always').stderr
            for start in ('', 'tracemalloc.start_history(.001)'))
        for errors in plain, noting:
            self.assertIn('multi-threaded', errors)

    def test_forks_of_threads(self):
        done = run('''
            import os, threading, tracemalloc, warnings
            warnings.simplefilter('ignore')
            tracemalloc.start()
            tracemalloc.start_history(.001)
            def fork():
                for _ in range(15):
                    pid = os.fork()
                    if pid == 0:
                        tracemalloc.get_history()
                        os._exit(7)
                    assert os.waitstatus_to_exitcode(
                        os.waitpid(pid, 0)[1]) == 7
            workers = [threading.Thread(target=fork) for _ in range(4)]
            for worker in workers: worker.start()
            for worker in workers: worker.join()
            print(len(tracemalloc.get_history()) > 1)
            ''')
        self.assertEqual((done.stdout, done.stderr), ('True\n', ''))


class StartUpTests(unittest.TestCase):

    CODE = '''
        import time, tracemalloc
        time.sleep(.2)
        print(len(tracemalloc.get_history()) // 10)
        '''

    def test_option_and_variable(self):
        for options, variables, notes in (
            (('-X', 'tracemalloc_history=0.005'), {}, True),
            ((), {'PYTRACEMALLOC_HISTORY': '.005'}, True),
            (('-X', 'tracemalloc_history'), {}, False),
            (('-E',), {'PYTRACEMALLOC_HISTORY': '.005'}, False),
            ((), {}, False),
        ):
            with self.subTest(options=options, variables=variables):
                done = run(self.CODE, *options, env=variables)
                self.assertEqual(done.stderr, '')
                self.assertEqual(int(done.stdout) > 0, notes)

    def test_wrong_value(self):
        for value in '0', 'x', '-1', '1e99':
            done = run(self.CODE, '-X', f'tracemalloc_history={value}')
            self.assertEqual(done.stdout, '0\n')
            self.assertRegex(done.stderr, r'\Atracemalloc: cannot note memory '
                                          rf'over time: {value}: .*\n\Z')


if __name__ == '__main__':
    unittest.main()
