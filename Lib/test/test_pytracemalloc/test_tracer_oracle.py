"""The tracer beside an allocator that keeps its own books of every block.

Above the tracer the oracle calls the functions that are installed while
tracing, unchanged; below, the tracer uses its general ones.  Equal must be,
block by block, address, size, domain and frames; what is parked, free list by
free list; and the counters of each node and the blocks that have it.
"""
import json
import os
import subprocess
import sys
import unittest

from test.support import check_sanitizer, import_helper
from test.test_pytracemalloc.helpers import ALLOCATOR, ALLOCATORS, FLAVOUR, SLOW

import_helper.import_module('_testtracer')

STEPS = 20_000 if SLOW else 2_000
# With two it takes twenty minutes under ThreadSanitizer.
SEEDS = 20 if SLOW else 1 if check_sanitizer(thread=True) else 2

COMPARE = '''
import _testtracer, _tracemalloc, gc, json, sys
from test.test_pytracemalloc import workload

where, nframe, seeds, steps = sys.argv[1], *map(json.loads, sys.argv[2:])
gc.collect()
if where == 'above':
    _tracemalloc.start(nframe)
if where == 'below':
    _testtracer.install(900 if nframe == 'full' else nframe)
    _testtracer.start_above(_tracemalloc.start, nframe)
else:
    _testtracer.install(900 if nframe == 'full' else nframe)

def report():
    print(json.dumps([_testtracer.compare(),
                      _testtracer.count_blocks(sys.getallocatedblocks),
                      _tracemalloc.get_tracer_stats()]))

report()
for seed in range(seeds):
    kept = workload.everything(seed, steps)
    report()
    del kept
    gc.collect()
    report()
'''

# The tracer's requests for memory fail now and then, while code is made, run
# and dropped.
FAIL = '''
import _testtracer, _tracemalloc, json, random, sys
from test.test_pytracemalloc import workload

nframe, seed, rounds = map(json.loads, sys.argv[1:])
_tracemalloc.start(nframe)
_testtracer.install(900 if nframe == 'full' else nframe)
rng = random.Random(seed)
kept = []
for i in range(rounds):
    first = rng.randrange(1, 5)
    last = rng.choice([0, first + 1, first + rng.randrange(1, 50)])
    _tracemalloc._set_nomemory(first, last)
    kept.append(workload.work(rng.random(), rng.randrange(100)))
    for j in range(rng.randrange(30)):
        exec(compile(f'def f():\\n return [{j}.5, [], bytearray({j * 20})]\\n'
                     f'kept.append(f())', f'made {rng.random()}', 'exec'))
    if rng.randrange(4) == 0:
        kept.clear()
    _tracemalloc._set_nomemory()
    print(json.dumps([_testtracer.compare(),
                      _tracemalloc.get_tracer_stats()['untraced']]))
'''

COUNT = '''
import gc, json, sys, tracemalloc
from test.test_pytracemalloc import workload

# What finalizers allocate counts where the collector happens to run: it runs
# where the program asks for it.
gc.disable()
tracemalloc.start(json.loads(sys.argv[1]))
scope = {'__name__': 'sites'}
with open(workload.__file__) as file:
    code = compile(file.read(), 'workload copy', 'exec')
exec(code, scope)
kept = scope['work'](5, 1500)
snapshot = tracemalloc.take_snapshot()
rows = {}
for stat in snapshot.statistics('lineno'):
    frame = stat.traceback[0]
    if frame.filename == 'workload copy':
        rows[frame.lineno] = stat.total_size, stat.total_count
print(json.dumps(rows))
'''


def run(program, *args, options=(), **env):
    result = subprocess.run(
        [sys.executable, *options, '-c', program, *args], text=True,
        capture_output=True,
        env=os.environ | {'PYTHONHASHSEED': '1', 'PYTHONMALLOC': ALLOCATOR}
        | env)
    if result.returncode or result.stderr:
        raise AssertionError(result.stderr or f'exit {result.returncode}')
    return [json.loads(line) for line in result.stdout.splitlines()]


class OracleTests(unittest.TestCase):

    def check(self, where, nframe, options=()):
        reports = run(COMPARE, where, json.dumps(nframe), str(SEEDS),
                      str(STEPS), options=options)
        self.assertEqual(len(reports), 1 + 2 * SEEDS)
        unexplained = set()
        for seen, counts, stats in reports:
            all_blocks, live, parked, old, big_old_freed = counts
            unexplained.add(all_blocks - live - parked - old + big_old_freed)
            for what in 'unknown', 'size', 'kind', 'missing', 'counted':
                self.assertEqual(seen[what], 0, (what, seen))
            if FLAVOUR != 'ignore':
                self.assertEqual(seen['parked'], 0, seen)
                self.assertEqual(seen['place'], 0, seen)
                if where != 'start' or not stats['folded']:
                    self.assertEqual(seen['path'], 0, seen)
            self.assertEqual(stats['untraced'], 0)
        # What is left: the big blocks from before tracing, as many each time.
        self.assertEqual(len(unexplained), 1, reports)
        self.assertGreaterEqual(unexplained.pop(), 0)
        most = max(seen['paths'] for seen, *rest in reports)
        self.assertGreater(most, 1000)
        if FLAVOUR == 'track':
            self.assertGreater(max(report[1][2] for report in reports), 100)

    def test_fused_functions(self):
        for nframe in 1, 3, 25, 'full':
            with self.subTest(nframe=nframe):
                self.check('above', nframe)

    def test_general_functions(self):
        for nframe in 1, 25, 'full':
            with self.subTest(nframe=nframe):
                self.check('below', nframe)

    def test_from_the_start_of_the_interpreter(self):
        for nframe in 1, 25, 'full':
            with self.subTest(nframe=nframe):
                self.check('start', nframe,
                           ['-X', f'tracemalloc={nframe}'])


class PressureTests(unittest.TestCase):

    def test_what_is_traced_is_right(self):
        for nframe in 1, 5, 'full':
            for seed in range(1, 1 + SEEDS):
                with self.subTest(nframe=nframe, seed=seed):
                    reports = run(FAIL, json.dumps(nframe), str(seed), '100')
                    for seen, untraced in reports:
                        for what in 'unknown', 'size', 'kind', 'counted':
                            self.assertEqual(seen[what], 0, (what, seen))
                        if FLAVOUR != 'ignore':
                            self.assertEqual(seen['path'], 0, seen)
                        self.assertLessEqual(seen['missing'], untraced)
                    self.assertGreater(reports[-1][1], 0)


class BothWaysTests(unittest.TestCase):
    """The same program, traced by the fused and by the general functions."""

    # What is allocated, that is: when cycles die is the collector's choice.

    def test_same_counts_at_each_site(self):
        for nframe in 1, 25:
            fused, = run(COUNT, str(nframe))
            self.assertGreater(len(fused), 80)
            for malloc in {*ALLOCATORS[1:], 'debug'}:
                with self.subTest(nframe=nframe, malloc=malloc):
                    general, = run(COUNT, str(nframe), PYTHONMALLOC=malloc)
                    self.assertEqual(general, fused)


if __name__ == '__main__':
    unittest.main()
