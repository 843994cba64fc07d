"""Wrappers that somebody installs over the tracer's functions."""
import unittest

from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import ALLOCATOR, ALLOCATORS, SLOW

import_helper.import_module('_testtracer')
SECONDS = 10 if SLOW else 2

BEGIN = '''
import _testtracer, os, sys, tracemalloc

def objects():
    """A set, of which no free list is, and objects of all domains."""
    files = [open(os.devnull) for i in range(9)]
    return set(), files, [[str(i), float(i), {i: i}, bytes(1000)]
                          for i in range(300)]

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)
'''

# It calls functions of the tracer, which would call it again.
PUT_BACK = '''
domain, limit = sys.argv[1], sys.argv[2]
limit = int(limit) if limit != 'full' else limit
tracemalloc.start(limit)
_testtracer.wrap(domain)
tracemalloc.stop()
_testtracer.put_back(domain)
kept = objects()
for i in range(3):
    try:
        tracemalloc.start(limit)
    except RuntimeError as exc:
        assert f'domain {domain} is a wrapper' in str(exc), exc
    else:
        raise AssertionError('started')
    assert not tracemalloc.is_tracing()
before = _testtracer.count_wrapped()
kept = objects()
assert _testtracer.count_wrapped() > before

# The tracer's own functions are no wrapper, and no hindrance.
_testtracer.unwrap(domain)
tracemalloc.start(limit)
kept = objects()
check()
assert tracemalloc.get_object_traceback(kept[0])
tracemalloc.stop()
'''

# Over what was there without the tracer, a wrapper is none of its business.
BELOW = '''
domain = sys.argv[1]
_testtracer.wrap(domain)
for limit in 1, 25, 'full':
    tracemalloc.start(limit)
    kept = objects()
    assert tracemalloc.get_object_traceback(kept[0])
    check()
    tracemalloc.stop()
'''

# An alarm over functions that were wrapped while there was none, or that
# cannot be exchanged as others ask what is installed all the time.  Nothing
# here comes from a free list, whose hooks nobody wraps, or is big.
RING = '''
kind, limit, over = sys.argv[1], int(sys.argv[2]), sys.argv[3]
calls = 0
def call():
    global calls
    calls += 1

def rings():
    before = calls
    task = tracemalloc.Task(call)
    if kind == 'delay':
        task.set_delay(1)
    else:
        task.set_memory_threshold(100_000)
    n = 10 ** 6
    kept = {str(i) for i in range(n, n + 10_000)} if kind == 'less' else set()
    task.schedule(1)
    while calls == before and n < 2 * 10 ** 7:
        n += 1
        text = str(n)
        if kind == 'more':
            kept.add(text)
        elif kept:
            kept.pop()
    task.cancel()
    assert calls == before + 1, (before, calls)

tracemalloc.start(limit)
if over == 'wrapper':
    for domain in 'mem', 'obj':
        _testtracer.wrap(domain)
else:
    _testtracer.start_asking()
for i in range(2):
    rings()
if over == 'wrapper':
    for domain in 'mem', 'obj':
        _testtracer.unwrap(domain)
else:
    _testtracer.stop_asking()
rings()
kept = objects()
check()
'''

# CPython's mutex of the allocators gives up the GIL where it is contended.  A
# thread that waits for it must hold nothing that others need with the GIL.
ASK = '''
import faulthandler, threading, time
faulthandler.dump_traceback_later(60 + 10 * float(sys.argv[2]), exit=True)
what, end = sys.argv[1], time.monotonic() + float(sys.argv[2])

def allocate():
    while time.monotonic() < end:
        kept = [bytearray(1000) for i in range(100)]

def switch():
    tracemalloc.start(5)
    tracemalloc.clear_traces()
    tracemalloc.stop()

def watch():
    task = tracemalloc.Task(print)
    task.set_memory_threshold(10 ** 9)
    task.schedule()
    task.cancel()

def interpreter():
    import _interpreters
    _interpreters.destroy(_interpreters.create('isolated'))

_testtracer.start_asking()
if what != 'switch':
    tracemalloc.start(5)
threads = [threading.Thread(target=allocate) for i in range(3)]
for thread in threads:
    thread.start()
rounds = 0
while rounds < 2 or time.monotonic() < end:
    globals()[what]()
    rounds += 1
for thread in threads:
    thread.join()
_testtracer.stop_asking()
if what != 'switch':
    assert _testtracer.fault() is None, _testtracer.fault()
    check()
'''


class WrapperTests(unittest.TestCase):

    def run_script(self, code, *args, memory=ALLOCATOR):
        script_helper.assert_python_ok('-c', BEGIN + code, *args,
                                       PYTHONMALLOC=memory)

    def test_put_back_after_stop(self):
        for domain in 'raw', 'mem', 'obj':
            for memory in ALLOCATORS:
                for limit in '1', '25':
                    with self.subTest(domain=domain, memory=memory,
                                      limit=limit):
                        self.run_script(PUT_BACK, domain, limit,
                                        memory=memory)

    def test_below(self):
        for domain in 'raw', 'mem', 'obj':
            for memory in ALLOCATORS:
                with self.subTest(domain=domain, memory=memory):
                    self.run_script(BELOW, domain, memory=memory)

    def test_an_alarm_above(self):
        for kind in 'more', 'less', 'delay':
            for limit in '1', '25':
                with self.subTest(kind=kind, limit=limit):
                    self.run_script(RING, kind, limit, 'wrapper')

    def test_an_alarm_while_others_ask_what_is_installed(self):
        for kind in 'more', 'less', 'delay':
            with self.subTest(kind=kind):
                self.run_script(RING, kind, '25', 'asking')

    def test_others_ask_what_is_installed(self):
        for what in 'switch', 'watch', 'interpreter':
            for memory in ALLOCATORS:
                with self.subTest(what=what, memory=memory):
                    self.run_script(ASK, what, str(SECONDS), memory=memory)


if __name__ == '__main__':
    unittest.main()
