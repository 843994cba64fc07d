"""Hidden threads, which look at what is traced and leave it as it is."""

import os
import subprocess
import sys
import tempfile
import unittest

from pytracemalloc.client import Client
from test.support import script_helper, threading_helper
from test.test_pytracemalloc.helpers import (
    ALLOCATORS, FLAVOUR, FREE_THREADED, WORK_WHEN_TOLD)

# Runs work() in a hidden thread, or shows that it makes a difference.
WORK = '''
import _tracemalloc, gc, sys, threading, tracemalloc
limit = sys.argv[1] if sys.argv[1] == 'full' else int(sys.argv[1])

def work(n=300):
    return [[i, float(i), (i,), {i: i}, {i}, bytes(i), bytearray(2 * i),
             slice(i), str(i)] for i in range(n)]

def state():
    with tracemalloc.measure() as none:
        pass
    return (tracemalloc.get_traced_memory(),
            tracemalloc.get_tracer_stats()['untraced'])
'''

SUMS = WORK + '''
def hidden():
    assert not _tracemalloc._hide_thread(True)
    assert _tracemalloc._hide_thread(True)
    before = state()
    kept = work()
    kept[0].extend(range(1000))
    seen = tracemalloc.get_object_traceback(kept)
    inner = threading.Thread(target=keep, args=(work,))
    inner.start()
    inner.join()
    results.append((before, state(), seen))
    del kept
    results.append(state())
    assert _tracemalloc._hide_thread(False)

def keep(function):
    everything.append(function())

everything = []
work()
tracemalloc.start(limit)
work()
results = [None] * 2
results.clear()
tracemalloc.reset_peak()
hidden()
(before, after, seen), last = results
assert before == after == last, results
assert seen is None
assert tracemalloc.get_object_traceback(everything[0][5]) is None

# Where others ran the same lines, and now: this thread is not hidden.
kept = work()
size, peak = tracemalloc.get_traced_memory()
assert size > 100_000 and peak >= size, (size, peak)
trace = tracemalloc.get_object_traceback(kept)
assert trace[-1].lineno == 6, trace
'''

ACCOUNT = WORK + '''
import _testtracer
from test.support import threading_helper
end = threading.Event()

def look(hide):
    _tracemalloc._hide_thread(hide)
    while not end.is_set():
        shared[:] = work(50)
        tracemalloc.get_traced_memory()
        _tracemalloc._hide_thread(False)
        work(20)
        _tracemalloc._hide_thread(hide)

shared = []
tracemalloc.start(limit)
threads = [threading.Thread(target=look, args=(i % 2 == 0,))
           for i in range(4)]
for thread in threads:
    thread.start()
for i in range(100):
    shared[:] = work(50)
    if i % 10 == 0:
        tracemalloc.clear_traces()
    if i % 25 == 7:
        tracemalloc.stop()
        tracemalloc.start(limit)
    assert _testtracer.fault() is None, _testtracer.fault()
end.set()
for thread in threads:
    thread.join()
wrong, size, current = _testtracer.check_counters(
    tracemalloc.get_traced_memory)
assert wrong == 0 and size == current, (wrong, size, current)
assert _testtracer.fault() is None, _testtracer.fault()
'''

COLLECTOR = WORK + '''
class Cycle:
    def __init__(self):
        self.own = self
    def __del__(self):
        made.append(({1, 2}, threading.get_ident()))

def collecting(phase, info):
    seen_phases[phase] = {phase}, threading.get_ident()

def hidden():
    _tracemalloc._hide_thread(True)
    kept = [[] for i in range(100_000)]
    assert made
    gc.callbacks.remove(collecting)
    own = {1, 2}
    traces.extend(map(tracemalloc.get_object_traceback, (own, made[0][0])))
    _tracemalloc._hide_thread(True)       # it still is
    seen.append(state())
    kept = [work(), {3}]
    seen.append(state())

made, traces, seen = [], [], []
seen_phases = {}
tracemalloc.start(limit)
thread = threading.Thread(target=hidden)
gc.collect()
gc.callbacks.append(collecting)
Cycle()
thread.start()
ident = thread.ident
thread.join()
[(kept, ran_in)] = made
assert ran_in == ident, (ran_in, ident)
assert traces[0] is None and traces[1][-1].lineno == 19, traces
assert seen[0] == seen[1], seen
for phase in 'start', 'stop':
    own, ran_in = seen_phases[phase]
    assert ran_in == ident, (ran_in, ident)
    trace = tracemalloc.get_object_traceback(own)
    assert trace is not None and trace[-1].lineno == 22, (phase, trace)
'''

FORK = WORK + '''
import os
tracemalloc.start(limit)
_tracemalloc._hide_thread(True)
end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
child = os.fork()
if not child:
    kept = work()
    assert tracemalloc.get_object_traceback(kept) is None
    _tracemalloc._hide_thread(False)
    kept = work()
    assert tracemalloc.get_object_traceback(kept) is not None
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
end.set()
thread.join()
'''

# Each way to look from inside of the program.
LOOKS = WORK + '''
import io, os, tempfile
from tracemalloc import Filter, Snapshot
from tracemalloctext import DisplayTop, TakeSnapshotTask
gc.disable()

def callback(snapshot):
    called.append({1, 2})

called = []
filters = [Filter(True, "*")]
stream = io.StringIO()
path = os.path.join(tempfile.mkdtemp(), "a.tracemalloc")
display = DisplayTop()
task = TakeSnapshotTask(path)
task.set_memory_threshold(1 << 40)
tracemalloc.start(limit)
kept = work()
snapshot = tracemalloc.take_snapshot()
looks = {
    "take_snapshot": lambda: tracemalloc.take_snapshot(),
    "traces=False": lambda: tracemalloc.take_snapshot(traces=False),
    "statistics": lambda: snapshot.statistics("traceback"),
    "cumulative": lambda: snapshot.statistics("lineno", cumulative=True),
    "type": lambda: snapshot.statistics("type+lineno"),
    "compare_to": lambda: snapshot.compare_to(snapshot, "lineno"),
    "filter_traces": lambda: snapshot.filter_traces(filters),
    "peak": lambda: snapshot.peak,
    "call_tree": lambda: snapshot.call_tree(),
    "pinned_arenas": lambda: snapshot.pinned_arenas(),
    "fold_imports": lambda: snapshot.fold_imports(),
    "my_code": lambda: snapshot.my_code(),
    "timestamp": lambda: snapshot.timestamp,
    "growth": lambda: snapshot.growth,
    "dump": lambda: snapshot.dump(path),
    "load": lambda: Snapshot.load(path),
    "create": Snapshot.create,
    "top_by": lambda: snapshot.top_by("line"),
    "stats": lambda: snapshot.stats,
    "metrics": lambda: snapshot.metrics,
    "get_object_traceback": lambda: tracemalloc.get_object_traceback(kept),
    "display": lambda: display.display(file=stream),
    "task": lambda: task.take_snapshot(),
    "schedule": lambda: task.schedule(),
    "cancel": lambda: task.cancel(),
}
def changes(look):
    with tracemalloc.measure() as change:
        seen = look()
        del seen
    return (change.current, change.peak, change.total_size,
            change.total_count)

nothing = [changes(lambda: None) for i in range(2)][1]
for name, look in looks.items():
    for i in range(2):            # the first may import, and fill caches
        change = changes(look)
        assert change == nothing, (name, i, change, nothing)

# What a look calls is the program's.
display.display(file=stream, callback=callback)
Snapshot.create(user_data_callback=lambda: called.append({3}) or [])
for made in called:
    assert tracemalloc.get_object_traceback(made) is not None, called
assert len(called) == 2, called
os.unlink(path)
os.rmdir(os.path.dirname(path))
'''

TASK = WORK + '''
from tracemalloc import Task

def called():
    made.append(({1, 2}, threading.get_ident()))

made = []
task = Task(called)
tracemalloc.start(limit)
task.set_memory_threshold(10_000)
task.schedule(1)
kept = work()
[(own, ran_in)] = made
assert ran_in == threading.get_ident()
trace = tracemalloc.get_object_traceback(own)
assert trace is not None and trace[-1].lineno == 18, trace
'''

SIGNAL = WORK + '''
import signal

def handle(number, frame):
    made.append({1, 2})

made = []
signal.signal(signal.SIGUSR1, handle)
tracemalloc.start(limit)
_tracemalloc._hide_thread(True)
signal.raise_signal(signal.SIGUSR1)
own = {1, 2}
trace = tracemalloc.get_object_traceback(made[0])
assert trace is not None and trace[-1].lineno == 18, trace
assert tracemalloc.get_object_traceback(own) is None
'''

CALLABLES = WORK + '''
import copy, inspect, pickle
from _tracemalloc import _hidden, _shown

class Class:
    @_hidden
    def method(self, n=1):
        "Text."
        return self, n, _tracemalloc._hide_thread(True)

    @staticmethod
    @_hidden
    def static(*args, **kwargs):
        return args, kwargs, _tracemalloc._hide_thread(True)

def is_hidden():
    hidden = _tracemalloc._hide_thread(True)
    _tracemalloc._hide_thread(hidden)
    return hidden

def fail():
    raise KeyError(is_hidden())

one = Class()
for i in range(3):
    assert one.method() == (one, 1, True)
    assert one.method(n=5) == (one, 5, True)
    assert Class.method(one, 6) == (one, 6, True)
    assert Class.static(1, *[2], a=3, **{"b": 4}) \\
        == ((1, 2), {"a": 3, "b": 4}, True)
    assert not is_hidden()
assert Class.method.__doc__ == "Text." and Class.method.__name__ == "method"
assert str(inspect.signature(one.method)) == "(n=1)"
assert inspect.isroutine(Class.method)
assert pickle.loads(pickle.dumps(one.method)).__self__.__class__ is Class
assert pickle.loads(pickle.dumps(tracemalloc.take_snapshot)) \\
    is tracemalloc.take_snapshot
assert repr(Class.method).startswith("<function Class.method")
for decorate, hidden in (_hidden, True), (_shown, False):
    assert decorate(is_hidden)() is hidden
    assert not is_hidden()
    try:
        decorate(fail)()
    except KeyError as exc:
        assert exc.args == (hidden,)
    assert not is_hidden()
assert not _hidden(_shown(is_hidden))()
assert _shown(_hidden(is_hidden))()
try:
    _hidden(3)()
except TypeError:
    pass
else:
    assert False
cycle = Class()
cycle.call = _hidden(cycle.method)
ref = __import__("weakref").ref(cycle)
del cycle
gc.collect()
assert ref() is None
'''

# What it allocates depends on nothing but its input.  It is looked at while it
# waits for that.  A name of start-up that the cache of attributes alone still
# has would die when whoever looks takes its place there.
PROGRAM = '''
import gc, os, sys, tracemalloc
gc.disable()

def work(n):
    for i in range(n):
        kept.append([i, float(i), {i: str(i)}, bytearray(i)])
        temporary = [bytearray(900), {i}, "a" * i]
    del kept[::2]

kept = []
sys._clear_internal_caches()
''' + WORK_WHEN_TOLD + '''
own = tracemalloc.Filter(True, "<string>")
snapshot = tracemalloc.take_snapshot().filter_traces([own])
for stat in snapshot.statistics("lineno"):
    print(stat.traceback[-1].lineno, stat.size, stat.count, stat.total_size,
          stat.total_count)
'''
# Without the hooks of free lists, a block of one keeps the trace of who had it
# first, be that the program.
TRACKS = FLAVOUR != 'ignore'
STEPS = 60
WORK_LINES = '7', '8', '9'


@threading_helper.requires_working_threading()
class HiddenThreadTests(unittest.TestCase):

    def run_script(self, code):
        for limit in '1', '25', 'full':
            for allocator in ALLOCATORS:
                with self.subTest(limit=limit, allocator=allocator):
                    script_helper.assert_python_ok(
                        '-c', code, limit, PYTHONMALLOC=allocator)

    @unittest.skipUnless(TRACKS, 'what was on a free list is traced')
    def test_sums(self):
        # Without the GIL the stacks of the collector, 2 KiB each, are of the
        # thread that happens to collect.
        self.run_script('import gc; gc.disable()' * FREE_THREADED + SUMS)

    def test_accounting(self):
        self.run_script(ACCOUNT)

    def test_finalizers_and_callbacks_are_the_program_s(self):
        self.run_script(COLLECTOR)

    @unittest.skipUnless(TRACKS, 'what was on a free list is traced')
    def test_looks_from_inside(self):
        self.run_script(LOOKS)

    def test_functions_of_tasks_are_the_program_s(self):
        self.run_script(TASK)

    def test_signal_handlers_are_the_program_s(self):
        self.run_script(SIGNAL)

    def test_callables(self):
        self.run_script(CALLABLES)

    def test_fork(self):
        self.run_script(FORK)


@unittest.skipUnless(TRACKS, 'what was on a free list is traced')
class LookingTests(unittest.TestCase):
    """A program that is looked at has the sums of one that is not."""

    def run_program(self, limit, look):
        """Return what the program says; call *look* before each step."""
        options = [f'-Xtracemalloc={limit}']
        if self.socket:
            options.append(f'-Xtracemalloc_control={self.socket}')
        with subprocess.Popen(
                [sys.executable, *options, '-c', PROGRAM], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | {'PYTHONHASHSEED': '0'}) as process:
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), 'ready\n')
            for step in range(STEPS):
                if look:
                    look()
                process.stdin.write('30')
                process.stdin.flush()
                self.assertEqual(process.stdout.readline(), 'done\n')
            said = process.communicate()[0].splitlines()
        self.assertEqual(process.returncode, 0)
        return said

    def look(self):
        with Client(self.socket) as client:
            client.ask('status')
            for key in 'lineno', 'traceback', 'type':
                client.ask('statistics', key=key)
            client.ask('snapshot', path=self.path, force=True)

    @unittest.skipIf(FREE_THREADED, 'the stacks of the collector, 2 KiB each, '
                     'are of the thread that happens to collect')
    def test_control_socket(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.socket = os.path.join(directory, 'c.sock')
        self.path = os.path.join(directory, 'seen.tracemalloc')
        for limit in '1', '25', 'full':
            with self.subTest(limit=limit):
                alone = self.run_program(limit, None)
                looked_at = self.run_program(limit, self.look)
                for line in WORK_LINES:
                    self.assertEqual(self.sums(looked_at, line),
                                     self.sums(alone, line))
                self.assertEqual(looked_at[:STEPS + 1], alone[:STEPS + 1])

    def sums(self, said, line):
        rows = [row.split() for row in said[STEPS + 1:]]
        return [row[1:] for row in rows if row[0] == line]

    @unittest.skipIf(FREE_THREADED, 'the stacks of the collector, 2 KiB each, '
                     'are of the thread that happens to collect')
    def test_what_serves_is_not_in_the_way(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        for limit in '1', 'full':
            with self.subTest(limit=limit):
                self.socket = None
                alone = self.run_program(limit, None)
                self.socket = os.path.join(directory, 'c.sock')
                served = self.run_program(limit, None)
                # What the program imports may be there, and was its peak.
                for line in WORK_LINES:
                    self.assertEqual(self.sums(served, line),
                                     self.sums(alone, line))


if __name__ == '__main__':
    unittest.main()
