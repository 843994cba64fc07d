"""fork() where nobody expects it: in handlers of signals, and while another
thread keeps the tracer's lock."""
import os
import subprocess
import sys
import unittest

from test.support import check_sanitizer, import_helper, requires_fork
from test.test_pytracemalloc.helpers import ALLOCATOR, SLOW

import_helper.import_module('_testtracer')

SECONDS = 30 if SLOW else 3

# The handler interrupts the main thread anywhere, every 3 ms.
BEGIN = '''
import _testtracer, os, sys, time, tracemalloc
seconds = float(sys.argv[1])
tracemalloc.start(5)

def check():
    wrong, size, current = _testtracer.check_counters(
        tracemalloc.get_traced_memory)
    assert wrong == 0 and size == current, (wrong, size, current)

def while_forking(goes_on, work):
    forks = 0
    end = time.monotonic() + seconds
    _testtracer.fork_at_alarms(3000, goes_on)
    while time.monotonic() < end or forks < 20:
        work()
        forks, failures = _testtracer.count_forks()
        assert failures == 0, (forks, failures)
        if _testtracer.is_fork_child():
            in_child()
            os._exit(0)
    _testtracer.fork_at_alarms(0)

def objects():
    [str(i) for i in range(1000)]
    [bytes(1000) for i in range(100)]

def in_child():
    """Goes on from where its parent was interrupted."""
    check()
    objects()
    assert tracemalloc.take_snapshot().statistics('lineno')
    check()
    tracemalloc.stop()
    assert tracemalloc.get_traced_memory() == (0, 0)
    tracemalloc.start(2)
    objects()
    check()
'''

CHILD_ENDS = '''
while_forking(False, objects)
check()
'''

CHILD_GOES_ON = '''
while_forking(True, objects)
check()
'''

# Eight threads without the GIL keep the lock busy, while the main thread uses
# nothing but the tracer: the C library's own lock of malloc() has this fault.
# These threads do not take the signal: they would go on in the child for ever.
WITH_THREADS = '''
import signal
from _testcapi import tracemalloc_track as track, tracemalloc_untrack as untrack

def tracks():
    for i in range(1000):
        track(78, i, 9)
        untrack(78, i)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
_testtracer.start_threads(8)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
while_forking(sys.argv[2] == 'goes on', tracks)
_testtracer.stop_threads()
check()
'''

KEPT = '''
def child():
    kept = [[i] for i in range(1000)]
    assert not tracemalloc.is_tracing()
    assert tracemalloc.get_traced_memory() == (0, 0)
    assert tracemalloc.get_object_traceback(kept[0]) is None
    objects()
    try:
        tracemalloc.start()
    except RuntimeError as exc:
        assert 'forked' in str(exc), exc
    else:
        raise AssertionError('can start')
    tracemalloc.stop()
    tracemalloc.clear_traces()
    tracemalloc.reset_peak()

pid = _testtracer.fork_while_locked()
if pid == 0:
    status = 1
    try:
        child()
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
objects()
check()
'''


# Sanitizers have locks of their own, and do not stand such a fork.
@requires_fork()
@unittest.skipIf(check_sanitizer(thread=True, address=True),
                 'the sanitizer waits for itself')
class ForkTests(unittest.TestCase):

    def run_script(self, code, *args):
        # A watchdog of its own would be a second thread.
        process = subprocess.run(
            [sys.executable, '-c', BEGIN + code, str(SECONDS), *args],
            env=os.environ | {'PYTHONMALLOC': ALLOCATOR}, text=True,
            stderr=subprocess.PIPE, timeout=SECONDS + 60)
        self.assertEqual((process.returncode, process.stderr), (0, ''))

    def test_in_a_handler(self):
        self.run_script(CHILD_ENDS)

    def test_in_a_handler_and_the_child_goes_on(self):
        self.run_script(CHILD_GOES_ON)

    def test_in_a_handler_while_others_wait(self):
        self.run_script(WITH_THREADS, 'ends')

    def test_in_a_handler_while_others_wait_and_the_child_goes_on(self):
        self.run_script(WITH_THREADS, 'goes on')

    def test_while_another_thread_keeps_the_lock(self):
        self.run_script(KEPT)


if __name__ == '__main__':
    unittest.main()
