"""Without a GIL: threads that run at the same time.

What they share, what they free of each other, and what the main thread does to
the tracer meanwhile; and that nothing of ours switches the GIL on.
"""
import unittest

from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import FREE_THREADED, SLOW

import_helper.import_module('_testtracer')

SECONDS = 30 if SLOW else 2

IMPORT = '''
import importlib, pkgutil, sys
import _testtracer, _tracemalloc, _tracemalloc_snapshot
import pytracemalloc, tracemalloc, tracemalloctext
for package in tracemalloc, pytracemalloc:
    for module in pkgutil.walk_packages(package.__path__,
                                        package.__name__ + '.'):
        if not module.name.endswith('__main__'):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as exc:
                print(exc)        # pytest, for one
assert not sys._is_gil_enabled()
'''

# Each of 32 threads makes objects, hands some over and drops those of others.
THREADS = '''
import sys, threading, time
from test.test_pytracemalloc import workload

end = threading.Event()
shared = [None] * 1000
errors = []

def work(number):
    try:
        for i in range(1 << 30):
            if end.is_set():
                return
            made = workload.work(number + i, 50)
            for j in range(0, 1000, 7):
                shared[(i + j) % 1000] = [made, number, i]
    except BaseException as exc:
        errors.append(exc)
        raise

threads = [threading.Thread(target=work, args=(i,)) for i in range(32)]

def start():
    for thread in threads:
        thread.start()

def stop():
    end.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
'''

# The books of the oracle, at instants while all run, and at the end.
ORACLE = THREADS + '''
import _testtracer, _tracemalloc, gc

limit, seconds = sys.argv[1], float(sys.argv[2])
limit = limit if limit == 'full' else int(limit)
_tracemalloc.start(limit)
_testtracer.install(900 if limit == 'full' else limit)
start()

def check():
    seen = _testtracer.compare()
    for what in ('unknown', 'size', 'kind', 'missing', 'parked', 'counted',
                 'place', 'path'):
        assert seen[what] == 0, (what, seen)
    return seen['live']

ends = time.monotonic() + seconds
most = 0
try:
    while time.monotonic() < ends:
        most = max(most, check())
        time.sleep(0.05)
finally:
    stop()
assert most > 10_000, most
assert check() > 1000
shared.clear()
gc.collect()
check()
all_blocks, live, parked, old, freed = _testtracer.count_blocks(
    sys.getallocatedblocks)
assert all_blocks == live + parked + old - freed, (
    all_blocks, live, parked, old, freed)
assert _tracemalloc.get_tracer_stats()['untraced'] == 0
'''

# What the main thread does is whole for all others: they find no table half
# made, and what a snapshot shows adds up.
SWITCH = THREADS + '''
import _testtracer, random, tracemalloc

limit, seconds = sys.argv[1], float(sys.argv[2])
limit = limit if limit == 'full' else int(limit)
rng = random.Random(5)
tracemalloc.start(limit)
start()

def look():
    snapshot = tracemalloc.take_snapshot()
    count = sum(stat.count for stat in snapshot.statistics('lineno'))
    assert len(snapshot.traces) == count, (len(snapshot.traces), count)
    size = sum(stat.size for stat in snapshot.statistics('type'))
    assert size == snapshot.traced_memory[0], (size, snapshot.traced_memory)

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)
    assert _testtracer.fault() is None, _testtracer.fault()

def restart():
    tracemalloc.stop()
    assert tracemalloc.get_traced_memory() == (0, 0)
    tracemalloc.start(limit)

def measure():
    with tracemalloc.measure() as memory:
        time.sleep(0.01)
    assert memory.peak >= memory.current and memory.total_count > 0

ends = time.monotonic() + seconds
try:
    while time.monotonic() < ends:
        rng.choice([look, check, restart, measure, tracemalloc.reset_peak,
                    tracemalloc.clear_traces,
                    tracemalloc.get_freelist_stats])()
finally:
    stop()
check()
look()
'''

# One snapshot, that all threads ask; one measure, that all begin and end.
SHARED = '''
import threading, tracemalloc

tracemalloc.start(5)
kept = [[str(i), {i: i}] for i in range(3000)]
snapshot = tracemalloc.take_snapshot()
measure = tracemalloc.measure()
failed = []
barrier = threading.Barrier(16)

def ask(number):
    try:
        barrier.wait()
        for i in range(len(snapshot.traces) - number):
            trace = snapshot.traces[i + number]
            assert trace.size > 0 and trace.traceback[-1].lineno > 0
        by = ['lineno', 'traceback', 'type', 'filename'][number % 4]
        counts.add(sum(s.count for s in snapshot.statistics(by)))
        try:
            with measure:
                measure.peak
        except RuntimeError as exc:
            assert 'running already' in str(exc), exc
    except BaseException as exc:
        failed.append(exc)
        raise

counts = set()
threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
assert counts == {len(snapshot.traces)}, counts
'''

# Triggers of tasks, set and taken back by all threads.
TASKS = THREADS + '''
import tracemalloc

called = []
tracemalloc.start()

def schedule(number):
    for i in range(200):
        task = tracemalloc.Task(called.append, number)
        task.set_memory_threshold(20_000 * (i % 3 + 1))
        task.schedule()
        if i % 2:
            task.cancel()

start()
schedulers = [threading.Thread(target=schedule, args=(i,)) for i in range(8)]
for thread in schedulers:
    thread.start()
ends = time.monotonic() + 30
while any(thread.is_alive() for thread in schedulers) or not called:
    if time.monotonic() > ends:
        break
    time.sleep(0.001)
stop()
for thread in schedulers:
    thread.join()
assert called
tracemalloc.cancel_tasks()
'''

# Each allocation walks the whole stack.  What is folded there, at a place that
# stands on it a thousand times, costs no more than what is not.
DEEP = '''
import sys, time, tracemalloc

sys.setrecursionlimit(10_000)

def one(n):
    return n and one(n - 1)

def even(n):
    return n and odd(n - 1)

def odd(n):
    return n and even(n - 1)

def seconds(limit):
    tracemalloc.start(limit)
    start = time.process_time()
    one(2500)
    even(3500)
    tracemalloc.stop()
    return time.process_time() - start

folded, whole = seconds('full'), seconds(65535)
assert folded < 4 * whole + 1, (folded, whole)
'''


@unittest.skipUnless(FREE_THREADED, 'this build has a GIL')
class FreeThreadedTests(unittest.TestCase):

    def run_script(self, code, *args):
        return script_helper.assert_python_ok('-c', code, *args,
                                              PYTHON_GIL='0')

    def test_imports_do_not_switch_the_gil_on(self):
        script_helper.assert_python_ok('-c', IMPORT)

    def test_beside_the_oracle(self):
        for limit in '1', '25', 'full':
            with self.subTest(limit=limit):
                self.run_script(ORACLE, limit, str(SECONDS))

    def test_the_main_thread_switches(self):
        for limit in '1', '25', 'full':
            with self.subTest(limit=limit):
                self.run_script(SWITCH, limit, str(SECONDS))

    def test_one_snapshot_and_one_measure_for_all(self):
        self.run_script(SHARED)

    def test_tasks(self):
        self.run_script(TASKS)

    def test_deep_recursion(self):
        self.run_script(DEEP)


if __name__ == '__main__':
    unittest.main()
