"""Wrappers that somebody installs over the tracer's functions."""
import unittest

from test.support import import_helper, script_helper

import_helper.import_module('_testtracer')

BEGIN = '''
import _testtracer, os, sys, tracemalloc

def objects():
    """Of all domains, big and small."""
    files = [open(os.devnull) for i in range(9)]
    return files, [[str(i), float(i), {i: i}, bytes(1000)]
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

# An alarm over functions that were wrapped while there was none.  Nothing here
# comes from a free list, whose hooks nobody wraps, or is big.
RING = '''
kind, limit = sys.argv[1], int(sys.argv[2])
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
for domain in 'mem', 'obj':
    _testtracer.wrap(domain)
for i in range(2):
    rings()
for domain in 'mem', 'obj':
    _testtracer.unwrap(domain)
rings()
kept = objects()
check()
'''


class WrapperTests(unittest.TestCase):

    def run_script(self, code, *args, memory='pymalloc'):
        script_helper.assert_python_ok('-c', BEGIN + code, *args,
                                       PYTHONMALLOC=memory)

    def test_put_back_after_stop(self):
        for domain in 'raw', 'mem', 'obj':
            for memory in 'pymalloc', 'pymalloc_debug', 'malloc':
                for limit in '1', '25':
                    with self.subTest(domain=domain, memory=memory,
                                      limit=limit):
                        self.run_script(PUT_BACK, domain, limit,
                                        memory=memory)

    def test_below(self):
        for domain in 'raw', 'mem', 'obj':
            for memory in 'pymalloc', 'pymalloc_debug', 'malloc':
                with self.subTest(domain=domain, memory=memory):
                    self.run_script(BELOW, domain, memory=memory)

    def test_an_alarm_above(self):
        for kind in 'more', 'less', 'delay':
            for limit in '1', '25':
                with self.subTest(kind=kind, limit=limit):
                    self.run_script(RING, kind, limit)


if __name__ == '__main__':
    unittest.main()
