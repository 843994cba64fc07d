"""Interpreters that come and go, each with a GIL of its own."""
import unittest

from test.support import import_helper, script_helper, threading_helper
from test.test_pytracemalloc.helpers import SLOW

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
# pools are not, and take 75 KB.
MEMORY = '''
import _interpreters, sys, tracemalloc

def memory(count):
    for i in range(count):
        interpreter = _interpreters.create('isolated')
        assert _interpreters.exec(interpreter, 'kept = [[]] * 9') is None
        _interpreters.destroy(interpreter)
    return tracemalloc.get_tracer_stats()['memory']

tracemalloc.start(3)
before = memory(20)
after = memory(int(sys.argv[1]))
assert after - before < 50_000, (before, after)
'''


@threading_helper.requires_working_threading()
class EndTests(unittest.TestCase):

    def test_a_snapshot_while_an_interpreter_ends(self):
        script_helper.assert_python_ok('-c', LOOK, str(SECONDS),
                                       PYTHONMALLOC='pymalloc')

    def test_tables_do_not_outlive_their_interpreter(self):
        script_helper.assert_python_ok('-c', MEMORY,
                                       str(200 if SLOW else 30),
                                       PYTHONMALLOC='pymalloc')


if __name__ == '__main__':
    unittest.main()
