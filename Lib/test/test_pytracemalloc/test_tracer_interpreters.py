"""Interpreters that come and go, each with a GIL of its own."""
import unittest

from test.support import import_helper, script_helper, threading_helper
from test.test_pytracemalloc.helpers import (
    ALLOCATOR, ALLOCATORS, FREE_THREADED, SLOW)

import_helper.import_module('_interpreters')

SECONDS = 30 if SLOW else 3

# What looks at all pools, over and over, while interpreters end.  In a debug
# build their arenas are unmapped then; else CPython leaves blocks behind.
LOOK = '''
import _interpreters, sys, threading, time, tracemalloc
end = time.monotonic() + float(sys.argv[1])

def come_and_go():
    while time.monotonic() < end:
        _interpreters.destroy(_interpreters.create('isolated'))

threads = [threading.Thread(target=come_and_go) for i in range(3)]
for thread in threads:
    thread.start()
while time.monotonic() < end:
    tracemalloc.start(3)
    for i in range(20):
        tracemalloc.take_snapshot()
    tracemalloc.clear_traces()
    tracemalloc.stop()
for thread in threads:
    thread.join()
'''

# Names, places and nodes are the same for each interpreter; the tables of its
# pools are not, and take 75 KB.  The records of the blocks that CPython leaves
# behind have 24 bytes each; up to three quarters of a power of two are used.
MEMORY = '''
import _interpreters, sys, tracemalloc

def memory(count):
    for i in range(count):
        interpreter = _interpreters.create('isolated')
        assert _interpreters.exec(interpreter, 'kept = [[]] * 9') is None
        _interpreters.destroy(interpreter)
    stats = tracemalloc.get_tracer_stats()
    records = 1024
    while stats['mapped'] > records * 3 // 4:
        records *= 2
    return stats['memory'] - 24 * records

tracemalloc.start(3)
before = memory(20)
after = memory(int(sys.argv[1]))
assert after - before < 50_000, (before, after)
'''

# What an interpreter leaves behind is nobody's any more, but still there.
LEFT = '''
import _interpreters, _testtracer, sys, tracemalloc

CODE = """if 1:
    kept = [[i, float(i), {i: i}, bytearray(i)] for i in range(900)]
    kept.append(kept)
"""

def check(limit):
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)
    assert _testtracer.fault() is None, _testtracer.fault()
    snapshot = tracemalloc.take_snapshot()
    count = sum(stat.count for stat in snapshot.statistics('lineno'))
    assert len(snapshot.traces) == count, (len(snapshot.traces), count)

config, limit = sys.argv[1:]
config = (config if config != 'shared' else
          _interpreters.new_config('isolated', gil='shared'))
tracemalloc.start(int(limit) if limit != 'full' else limit)
for i in range(5):
    kept = [[j] for j in range(100 * i)]
    interpreter = _interpreters.create(config)
    assert _interpreters.exec(interpreter, CODE) is None
    check(limit)
    if i == 2:
        tracemalloc.reset_peak()
    _interpreters.destroy(interpreter)
    check(limit)
    for j in range(1000):
        kept.append([j])
    del kept
    check(limit)
tracemalloc.clear_traces()
check(limit)
tracemalloc.stop()
'''

# What takes part in a test of what the tracer does again, once the last
# interpreter with a GIL of its own has ended.
ONE_GIL = '''
import _interpreters, _tracemalloc, os, sys, time, tracemalloc

def prunes():
    """Are dead nodes given back?  With several GILs they never are."""
    before = tracemalloc.get_tracer_stats()['pruned']
    code = 'def f():\\n    return [[]]\\nf()\\n'
    for i in range(20):
        exec(compile(code, f'dead {i}', 'exec'), {})
    _tracemalloc._prune_soon()
    for i in range(20):
        exec(compile(code, f'made {i}', 'exec'), {})
    return tracemalloc.get_tracer_stats()['pruned'] > before

def walk():
    frame = sys._getframe(1)
    frames = []
    while frame is not None:
        frames.insert(0, (frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return frames

def check():
    frames, kept = walk(), set()
    seen = tracemalloc.get_object_traceback(kept)
    assert [(f.filename, f.lineno) for f in seen] == frames, (seen, frames)

def deep(n, function):
    return function() if n == 0 else deep(n - 1, function)
'''

# How long allocations take that are 25 calls deep.
TIME = '''
def loop():
    start = time.perf_counter()
    for i in range(20_000):
        [i]
    return time.perf_counter() - start

def cost():
    return min(deep(25, loop) for i in range(5))

tracemalloc.start(25)
before = cost()
interpreter = _interpreters.create('isolated')
_interpreters.destroy(interpreter)
after = cost()
assert after < 2 * before, (before, after)
'''
# Frames and a generator that were captured before the others came stay on the
# stack while these come and go; code dies meanwhile, and other code takes its
# place.
CAPTURE = '''
def generate():
    while True:
        check()
        yield

def made(n):
    """A function of its own, that allocates and calls check()."""
    scope = {'check': check}
    exec(compile('\\n' * (n % 5) + 'def f(x):\\n    kept = [x]\\n    check()\\n'
                 '    return f(x - 1) if x else kept\\n', 'made', 'exec'),
         scope)
    return scope['f']

def come_and_go(n):
    check()
    interpreters = [_interpreters.create('isolated') for i in range(n)]
    generator = generate()
    for i in range(30):
        made(i)(i % 4)
        next(generator)
    for interpreter in interpreters:
        assert _interpreters.exec(interpreter, 'kept = [[]] * 9') is None
        _interpreters.destroy(interpreter)
    check()
    for i in range(30):
        made(i)(i % 4)
        next(generator)
    next(outer)

outer = generate()
for limit in 'full', 25, 1:
    tracemalloc.start(limit)
    if limit == 1:
        def check():
            frames, kept = walk(), set()
            seen = tracemalloc.get_object_traceback(kept)
            assert seen[-1].lineno == sys._getframe().f_lineno - 2
    next(outer)
    for n in 1, 2, 0, 3:
        come_and_go(n)
        deep(7, lambda: come_and_go(n))
    assert limit == 1 or prunes()
    tracemalloc.stop()
'''

# Not one that cannot be made, nor one that makes others.
COUNT = '''
tracemalloc.start(25)
assert prunes()
one = _interpreters.create('isolated')
two = _interpreters.create('isolated')
assert not prunes()
_interpreters.destroy(one)
assert not prunes()
code = """if 1:
    import _interpreters
    for i in range(2):
        _interpreters.destroy(_interpreters.create('isolated'))
"""
assert _interpreters.exec(two, code) is None
assert not prunes()
_interpreters.destroy(two)
assert prunes()

config = _interpreters.new_config('isolated',
                                  check_multi_interp_extensions=False)
for i in range(3):
    try:
        _interpreters.create(config)
    except _interpreters.InterpreterError:
        pass
    else:
        raise AssertionError('made')
    assert prunes()

legacy = _interpreters.create('legacy')
assert prunes()
_interpreters.destroy(legacy)

# While tracing is off.
one = _interpreters.create('isolated')
tracemalloc.stop()
_interpreters.destroy(one)
tracemalloc.start(25)
assert prunes()
one = _interpreters.create('isolated')
tracemalloc.stop()
tracemalloc.start(25)
assert not prunes()
_interpreters.destroy(one)
assert prunes()
'''

# The runtime waits for threads that never end, if it has more to do.
END = '''
import _interpreters, sys, threading, tracemalloc
if limit := int(sys.argv[1]):
    tracemalloc.start(limit)
threading._shutdown = lambda: print('waits for threads', flush=True)
left = _interpreters.create('isolated')
'''

# Threads with the one GIL allocate all the time.
THREADS = '''
import threading, _testtracer
end = time.monotonic() + float(sys.argv[1])

def allocate():
    while time.monotonic() < end:
        deep(9, lambda: [[i, float(i), {i: i}, bytearray(i)]
                         for i in range(900)])
        check()

def come_and_go():
    while time.monotonic() < end:
        interpreter = _interpreters.create('isolated')
        assert _interpreters.exec(interpreter, 'kept = [[]] * 9') is None
        _interpreters.destroy(interpreter)
        for i in range(3):
            check()

tracemalloc.start('full')
_testtracer.start_threads(2)
threads = [threading.Thread(target=target)
           for target in [allocate, allocate, come_and_go, come_and_go]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
_testtracer.stop_threads()
assert prunes()
wrong, size, current = _testtracer.check_counters(
    tracemalloc.get_traced_memory)
assert wrong == 0 and size == current, (wrong, size, current)
assert _testtracer.fault() is None, _testtracer.fault()
'''

# Interpreters with GILs of their own ring, while the main one begins and ends
# measures; all of that walks the list of measures.
RING = '''
import _interpreters, sys, threading, tracemalloc

CODE = f"""if 1:
    import time
    end = time.monotonic() + {sys.argv[1]}
    while time.monotonic() < end:
        kept = [[i, {{i: i}}, bytearray(i)] for i in range(300)]
"""
calls = 0
def call():
    global calls
    calls += 1

tracemalloc.start()
task = tracemalloc.Task(call)
task.set_memory_threshold(1000)
task.schedule()
interpreters = [_interpreters.create('isolated') for i in range(2)]
threads = [threading.Thread(target=_interpreters.exec, args=(one, CODE))
           for one in interpreters]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    for i in range(100):
        with tracemalloc.measure() as outer:
            with tracemalloc.measure() as inner:
                kept = [i]
        assert outer.peak >= 0 and outer.total_count >= inner.total_count
for thread in threads:
    thread.join()
for one in interpreters:
    _interpreters.destroy(one)
task.cancel()
assert calls > 10, calls
'''


@threading_helper.requires_working_threading()
class ManyGilsTests(unittest.TestCase):

    def test_a_snapshot_while_an_interpreter_ends(self):
        script_helper.assert_python_ok('-c', LOOK, str(SECONDS),
                                       PYTHONMALLOC=ALLOCATOR)

    def test_tables_do_not_outlive_their_interpreter(self):
        script_helper.assert_python_ok('-c', MEMORY,
                                       str(200 if SLOW else 30),
                                       PYTHONMALLOC=ALLOCATOR)

    def test_what_is_left_behind(self):
        for config in 'isolated', 'shared', 'legacy':
            for limit in '1', '25', 'full':
                for memory in ALLOCATORS:
                    with self.subTest(config=config, limit=limit,
                                      memory=memory):
                        script_helper.assert_python_ok(
                            '-c', LEFT, config, limit, PYTHONMALLOC=memory)

    def test_alarms_and_measures_with_several_gils(self):
        script_helper.assert_python_ok('-c', RING, str(SECONDS),
                                       PYTHONMALLOC=ALLOCATOR)


@threading_helper.requires_working_threading()
class OneGilTests(unittest.TestCase):
    """Once the last such interpreter has ended, all is as before the first."""

    def run_script(self, code, *args):
        script_helper.assert_python_ok('-c', ONE_GIL + code, *args,
                                       PYTHONMALLOC=ALLOCATOR)

    def test_time(self):
        self.run_script(TIME)

    def test_captures(self):
        self.run_script(CAPTURE)

    @unittest.skipIf(FREE_THREADED, 'there is no GIL to count')
    def test_which_interpreters_count(self):
        self.run_script(COUNT)

    def test_interpreters_come_and_go_under_threads(self):
        self.run_script(THREADS, str(SECONDS))

    def test_interpreters_left_at_the_end(self):
        self.run_script("""tracemalloc.start('full')
kept = [_interpreters.create('isolated') for i in range(3)]""")

    def test_the_end_waits_for_threads_once(self):
        for limit in '0', '1', '25':
            with self.subTest(limit=limit):
                out = script_helper.assert_python_ok('-c', END, limit).out
                self.assertEqual(out.splitlines(), [b'waits for threads'])


if __name__ == '__main__':
    unittest.main()
