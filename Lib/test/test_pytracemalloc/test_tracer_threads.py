"""Threads without the GIL, with tracing started and stopped under them."""
import random
import threading
import time
import tracemalloc
import unittest

from test.support import import_helper, script_helper, threading_helper
from test.test_pytracemalloc.helpers import ALLOCATOR, SLOW

_testtracer = import_helper.import_module('_testtracer')

SECONDS = 60 if SLOW else 3


# 32 threads without the GIL exchange blocks of the raw domain and of one of
# PyTraceMalloc_Track(), Python threads make objects, and the main thread
# switches.  Now and then the 32 end: nothing of theirs may be left.
SWITCH = '''
import _testtracer, os, random, sys, threading, time, tracemalloc, warnings
from test.support import check_sanitizer

warnings.simplefilter('ignore', DeprecationWarning)     # fork with threads
seed, seconds = int(sys.argv[1]), float(sys.argv[2])
rng = random.Random(seed)
did = dict.fromkeys(['start', 'stop', 'clear', 'fork', 'peak', 'look'], 0)
ended = threading.Event()

def objects():
    while not ended.is_set():
        kept = [[i, float(i), {i: i}, bytearray(i)] for i in range(900)]

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (seed, wrong, size, current)

def look():
    _testtracer.stop_threads()
    check()
    left = [trace[:2] for trace in tracemalloc._get_traces()
            if trace[0] == 77 or trace[2][0] == ('<unknown>', 0)]
    assert not left, (seed, left)
    _testtracer.start_threads(32)

def fork():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # The 32 are gone, their blocks are not.
            check()
            kept = [bytearray(100) for i in range(100)]
            assert tracemalloc.get_object_traceback(kept[0])
            check()
            tracemalloc.stop()
            assert tracemalloc.get_traced_memory() == (0, 0)
            tracemalloc.start(5)
            if not check_sanitizer(thread=True):      # which cannot do that
                thread = threading.Thread(target=list, args=[range(1000)])
                thread.start()
                thread.join()
            check()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, (seed, status)

def switch():
    action = rng.choice(['start', 'start', 'stop', 'clear', 'peak', 'fork',
                         'look'])
    if action == 'start':
        tracemalloc.start(rng.choice([1, 3, 25]))
    elif action == 'stop':
        tracemalloc.stop()
    elif action == 'clear':
        tracemalloc.clear_traces()
    elif action == 'peak':
        tracemalloc.reset_peak()
    elif not tracemalloc.is_tracing():
        return
    elif action == 'fork':
        fork()
    elif rng.random() < 0.3:
        look()
    did[action] += 1

_testtracer.start_threads(32)
threads = [threading.Thread(target=objects, daemon=True) for i in range(2)]
for thread in threads:
    thread.start()
end = time.monotonic() + seconds
while time.monotonic() < end:
    switch()
    time.sleep(0.003)
    current, peak = tracemalloc.get_traced_memory()
    assert 0 <= current <= peak, (seed, current, peak)
ended.set()
for thread in threads:
    thread.join()
tracemalloc.start()
look()
_testtracer.stop_threads()
assert min(did.values()) >= seconds // 6, (seed, did)
print(seed, did)
'''

# Each interpreter has a GIL of its own, and threads.
OWN_GIL = '''
import _interpreters, sys, threading, tracemalloc
CODE = """if 1:
    import threading
    def work():
        for i in range(300):
            kept = [bytearray(i), [i] * i, {i: float(i)}, 'x' * i]
    threads = [threading.Thread(target=work) for i in range(3)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
"""
EXACT = """if 1:
    def sized():
        return {bytes(700 + i) for i in range(123)}
    kept = sized()
"""

def live(line):
    """Blocks, by the traces and by the counters."""
    snapshot = tracemalloc.take_snapshot()
    name = '<script>' if sys.version_info >= (3, 14) else '<string>'
    place = tracemalloc.Frame((name, line))
    yield sum(trace.traceback[-1] == place for trace in snapshot.traces)
    yield sum(stat.count for stat in snapshot.statistics('lineno')
              if stat.traceback[0] == place)

def run(number):
    interpreter = _interpreters.create('isolated')
    error = _interpreters.exec(interpreter, CODE)
    assert error is None, error
    _interpreters.destroy(interpreter)

tracemalloc.start(3)
for i in range(2):
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    kept = [bytearray(i) for i in range(1000)]
    for thread in threads:
        thread.join()
    assert [*live(5)] == [0, 0], [*live(5)]

interpreter = _interpreters.create('isolated')
assert _interpreters.exec(interpreter, EXACT) is None
# The set, its table, what is in it.
assert [*live(3)] == [2 + 123] * 2, [*live(3)]
_interpreters.destroy(interpreter)
assert [*live(3)] == [0, 0], [*live(3)]

# What CPython leaves behind with an interpreter, 2753 blocks with stock 3.13.5
# as well, none in a debug build and few in 3.14, is still allocated, counted
# and traced.
def left():
    blocks = sys.getallocatedblocks()
    snapshot = tracemalloc.take_snapshot()
    counted = sum(stat.count for stat in snapshot.statistics('filename'))
    assert counted == len(snapshot.traces), (counted, len(snapshot.traces))
    return blocks, counted

before = left()
for i in range(3):
    interpreter = _interpreters.create('isolated')
    _interpreters.destroy(interpreter)
after = left()
blocks, traced = after[0] - before[0], after[1] - before[1]
assert abs(blocks - traced) < 50, (blocks, traced)
assert (traced > 1000 or hasattr(sys, 'gettotalrefcount')
        or sys.version_info >= (3, 14))
assert tracemalloc.get_tracer_stats()['untraced'] == 0
'''


@threading_helper.requires_working_threading()
class ThreadTests(unittest.TestCase):

    def tearDown(self):
        tracemalloc.stop()

    def test_start_stop_clear_fork_under_32_threads(self):
        seed = random.randrange(1 << 32)
        script_helper.assert_python_ok('-c', SWITCH, str(seed), str(SECONDS),
                                       PYTHONMALLOC=ALLOCATOR)

    def test_interpreters_with_a_gil_of_their_own(self):
        import_helper.import_module('_interpreters')
        script_helper.assert_python_ok('-c', OWN_GIL, PYTHONMALLOC=ALLOCATOR)

    def test_python_threads_start_and_stop(self):
        done = threading.Event()

        def allocate():
            while not done.is_set():
                keep = [[i, float(i), {i: i}] for i in range(100)]
                del keep

        def switch():
            while not done.is_set():
                tracemalloc.start(5)
                tracemalloc.stop()

        threads = [threading.Thread(target=target)
                   for target in [allocate] * 6 + [switch] * 2]
        with threading_helper.start_threads(threads, unlock=done.set):
            time.sleep(SECONDS / 3)
            done.set()
        tracemalloc.stop()
        self.assertEqual(tracemalloc.get_traced_memory(), (0, 0))


if __name__ == '__main__':
    unittest.main()
