"""Everything at once, at random, for some seconds.

    python -m test.test_pytracemalloc.soak MODE SEED SECONDS [greenlets]

Round by round, threads run programs of all kinds, while others meddle with the
tracer.  When all have ended, what the tracer counts is compared.  MODE is
switch, where the tracer is started, stopped and cleared as well, and the
counters of each node are compared with its blocks; or oracle, where it is
started once, and compared with an allocator that keeps books of its own and
with CPython's number of blocks.  With greenlets, the package is needed.
"""
import asyncio
import gc
import os
import random
import sys
import threading
import time
import tracemalloc
import warnings

import _interpreters
import _testtracer
import _tracemalloc

from test.support import check_sanitizer
from test.test_pytracemalloc import workload

LIMITS = [1, 2, 25, 'full']
IN_INTERPRETER = '''
import threading
def work():
    return [[i, float(i), {i: i}, bytearray(i)] for i in range(200)]
thread = threading.Thread(target=work)
thread.start()
work()
thread.join()
'''


# --- Programs

def objects(rng):
    return workload.work(rng.random(), rng.randrange(200))


def loop(rng):
    return asyncio.run(workload.chat(rng.randrange(20)))


def dying_code(rng):
    """Code objects that take the place of those that have just died."""
    for i in range(rng.randrange(60)):
        scope = {}
        exec(compile('\n' * (i % 7) + f'def f(x):\n    y = [x, {i}.5]\n'
                     '    return y if x == 0 else [f(x - 1), {}]\n',
                     f'made {rng.randrange(20)}', 'exec'), scope)
        scope['f'](i % 5)


def tree(depth, rng):
    """A generator that recurs, and sometimes is left suspended."""
    yield [depth]
    if depth:
        yield from tree(depth - 1, rng)
        if rng.randrange(5):
            yield from tree(depth - 1, rng)
    yield float(depth)


def generators(rng):
    suspended = [tree(rng.randrange(8), rng) for i in range(9)]
    kept = []
    for i in range(rng.randrange(300)):
        kept.append(next(rng.choice(suspended), None))
    return kept, suspended


def recursion(rng):
    def down(n):
        kept = [n]
        if n:
            kept.append(down(n - 1))
        return kept if n % 3 else ({n: n}, kept)
    return down(rng.randrange(200))


def greenlets(rng):
    """Stacks that are swapped whole, at any depth."""
    def body(depth):
        kept = [depth]
        if depth:
            return body(depth - 1), kept
        for i in range(rng.randrange(20)):
            kept.append([float(i)])
            others = [g for g in all_of_them if not g.dead]
            if others:
                rng.choice(others).switch(depth)
            kept.append({i: i})
        return kept
    all_of_them = [greenlet.greenlet(body) for i in range(6)]
    for i in range(30):
        alive = [g for g in all_of_them if not g.dead]
        if alive:
            rng.choice(alive).switch(rng.randrange(9))


def collected(rng):
    for i in range(rng.randrange(50)):
        workload.cycle(i)
    gc.collect(rng.randrange(3))


def interpreter(rng, config='legacy'):
    id = _interpreters.create(config)
    error = _interpreters.exec(id, IN_INTERPRETER)
    assert error is None, error
    _interpreters.destroy(id)


def own_gil(rng):
    interpreter(rng, 'isolated')


def forked(rng):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # Of the threads this one is left; their blocks all are.
            check_counters()
            objects(rng)
            check_counters()
            tracemalloc.stop()
            assert tracemalloc.get_traced_memory() == (0, 0)
            tracemalloc.start(rng.choice(LIMITS))
            objects(rng)
            check_counters()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- Meddling

def look(rng):
    current, peak = tracemalloc.get_traced_memory()
    assert 0 <= current <= peak, (current, peak)


def take(rng):
    try:
        snapshot = tracemalloc.take_snapshot(traces=rng.random() < 0.7)
    except RuntimeError:                # another thread has stopped it
        return
    for stat in snapshot.statistics(rng.choice(['lineno', 'traceback'])):
        assert min(stat.size, stat.count, stat.peak_size, stat.peak_count) >= 0
        assert stat.total_size >= 0 and stat.total_count >= 0


def where(rng):
    kept = [[i] for i in range(10)]
    tracemalloc.get_object_traceback(rng.choice(kept))


def peak(rng):
    tracemalloc.reset_peak()


def prune(rng):
    _tracemalloc._prune_soon()


def collect(rng):
    gc.collect(rng.randrange(3))


def start(rng):
    tracemalloc.start(rng.choice(LIMITS))


def stop(rng):
    tracemalloc.stop()


def clear(rng):
    tracemalloc.clear_traces()


# --- Rounds

def check_counters():
    """The counters of each node are those of its blocks; all tables agree."""
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)
    fault = _testtracer.fault()
    assert fault is None, fault


class Soak:

    def __init__(self, mode, seed, more_programs):
        self.mode = mode
        self.rng = rng = random.Random(seed)
        self.errors = []
        self.unexplained = set()
        self.programs = [objects, loop, dying_code, generators, recursion,
                         collected, *more_programs]
        self.meddling = [look, take, where, peak, prune, collect]
        self.nframe = rng.choice(LIMITS)
        if mode == 'oracle':
            self.programs.append(interpreter)
            tracemalloc.start(self.nframe)
            _testtracer.install(900 if self.nframe == 'full' else self.nframe)
        else:
            self.meddling += [start, stop, clear, start, stop]
            # One of the two: a fork ends other interpreters while they run.
            # ThreadSanitizer does not stand a fork with threads.
            self.own_gil = rng.random() < 0.5 or check_sanitizer(thread=True)
            self.programs.append(own_gil if self.own_gil else forked)

    def run(self, functions, seed, more):
        rng = random.Random(seed)
        try:
            while more():
                rng.choice(functions)(rng)
        except BaseException as exc:
            self.errors.append(exc)
            raise

    def thread(self, functions, more):
        thread = threading.Thread(target=self.run, args=(
            functions, self.rng.random(), more))
        thread.start()
        return thread

    def round(self):
        sys.setswitchinterval(self.rng.choice([0.005, 1e-4, 1e-6]))
        raw = self.mode == 'switch' and self.rng.random() < 0.5
        if raw:
            _testtracer.start_threads(self.rng.randrange(1, 9))
        stop = threading.Event()
        end = time.monotonic() + self.rng.random()
        threads = [self.thread(self.programs, lambda: time.monotonic() < end)
                   for i in range(self.rng.randrange(1, 6))]
        meddlers = [self.thread(self.meddling, lambda: not stop.wait(0.002))
                    for i in range(self.rng.randrange(3))]
        for thread in threads:
            thread.join()
        stop.set()
        for thread in meddlers:
            thread.join()
        if raw:
            _testtracer.stop_threads()
        assert not self.errors, self.errors

    def check(self):
        if self.mode == 'switch':
            if not tracemalloc.is_tracing():
                assert tracemalloc.get_traced_memory() == (0, 0)
            check_counters()
            return
        seen = _testtracer.compare()
        fault = _testtracer.fault()
        assert fault is None, fault
        stats = tracemalloc.get_tracer_stats()
        for what in 'unknown', 'size', 'kind', 'missing', 'counted':
            assert seen[what] == 0, (what, seen)
        if 'freelists=ignore' not in sys.version:
            assert seen['parked'] == seen['place'] == 0, seen
            assert seen['path'] == 0 or stats['folded'], seen
        assert stats['untraced'] == 0, stats
        blocks, live, parked, old, big_old_freed = _testtracer.count_blocks(
            sys.getallocatedblocks)
        self.unexplained.add(blocks - live - parked - old + big_old_freed)
        assert len(self.unexplained) == 1, self.unexplained


def main():
    global greenlet
    mode, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    more_programs = []
    if sys.argv[4:] == ['greenlets']:
        import greenlet
        more_programs.append(greenlets)
    warnings.simplefilter('ignore', DeprecationWarning)   # fork with threads
    # A child that is forked while another thread imports waits forever for the
    # lock of the module, under stock as well.
    tracemalloc._prepare()
    soak = Soak(mode, seed, more_programs)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        soak.round()
        soak.check()
        rounds += 1
    print(mode, seed, soak.nframe, rounds, 'rounds',
          tracemalloc.get_tracer_stats())


if __name__ == '__main__':
    main()
