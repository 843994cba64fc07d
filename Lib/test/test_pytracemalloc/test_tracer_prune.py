"""Pruning of the call tree: nodes without live blocks are given back, and
nothing else changes."""
import json
import os
import subprocess
import sys
import unittest

from test.support import check_sanitizer, import_helper
from test.test_pytracemalloc.helpers import ALLOCATOR, FLAVOUR, SLOW

import_helper.import_module('_testtracer')

# What the oracle may not find.  Without hooks, objects from free lists keep
# the trace of those before them.
WRONG = ['unknown', 'size', 'kind', 'missing', 'counted']
if FLAVOUR != 'ignore':
    WRONG += ['parked', 'place', 'path']

SEEDS, STEPS = (20, 5000) if SLOW else (2, 1000)
PAUSE = 0.0005                      # seconds
if check_sanitizer(thread=True):
    # Pruning takes longer than that there, and the program would hardly go on.
    SEEDS, STEPS, PAUSE = 1, 500, 0.02

# Beside the oracle, see test_tracer_oracle, while another thread has the tree
# pruned again and again.
ORACLE = '''
import _testtracer, _tracemalloc, gc, json, sys, threading, time
from test.test_pytracemalloc import workload

where, nframe, seed, steps, pause = sys.argv[1], *map(json.loads,
                                                      sys.argv[2:])
depth = 900 if nframe == 'full' else nframe
sys.setswitchinterval(1e-5)
if where == 'above':
    _tracemalloc.start(nframe)
    _testtracer.install(depth)
else:
    _testtracer.install(depth)
    _testtracer.start_above(_tracemalloc.start, nframe)

stopped = False

def prune():
    while not stopped:
        _tracemalloc._prune_soon()
        time.sleep(pause)

thread = threading.Thread(target=prune)
thread.start()
kept = workload.everything(seed, steps)
seen = _testtracer.compare()
del kept
gc.collect()
again = _testtracer.compare()
stopped = True
thread.join()
print(json.dumps([seen, again, _tracemalloc.get_tracer_stats()]))
'''

# 2 ** 19 paths of generated functions with blocks of their own at the end of
# each, over a million nodes; one block in a thousand stays.  The peak comes
# first, from paths whose blocks are all dead later.
TREE = '''
import gc, json, tracemalloc

LEVELS = 19
source = 'def f0(leaf, path):\\n    leaf(path)\\n'
for i in range(1, LEVELS + 1):
    source += (f'def f{i}(leaf, path):\\n'
               f'    f{i - 1}(leaf, path * 2)\\n'
               f'    f{i - 1}(leaf, path * 2 + 1)\\n')
scope = {}
exec(compile(source, '<tree>', 'exec'), scope)

def leaf(path):
    small = [path]
    if path % 1000 == 0:
        live[path] = small, bytearray(1000)
    if path % 100 == 0:
        bytearray(2000)
        small.append(small)

def mountain(path):
    held.append(bytes(100_000))
    held.append([path])

live = {}
held = []
gc.disable()
tracemalloc.clear_traces()
scope['f9'](mountain, 0)
held.clear()
scope[f'f{LEVELS}'](leaf, 0)
gc.collect()
snapshot = tracemalloc.take_snapshot()
rows = {}
for stat in snapshot.statistics('lineno'):
    frame = stat.traceback[0]
    if frame.filename in ('<string>', '<tree>'):
        rows[f'{frame.filename}:{frame.lineno}'] = [
            stat.size, stat.count, stat.total_size, stat.total_count,
            stat.peak_size, stat.peak_count,
            stat.garbage_size, stat.garbage_count]
# Of what is dead now, too.
for stat in snapshot.peak.statistics('lineno'):
    frame = stat.traceback[0]
    if frame.filename in ('<string>', '<tree>'):
        rows[f'peak of {frame.filename}:{frame.lineno}'] = [stat.size,
                                                            stat.count]
paths = []
for path, (small, large) in live.items():
    # Of f0, f1 and so on: a level has three lines, of which a bit of the path
    # says one.
    calls = [2] + [3 * i + 1 + (path >> i - 1 & 1)
                   for i in range(1, LEVELS + 1)]
    for block in small, large:
        frames = list(tracemalloc.get_object_traceback(block))[-2::-1]
        lines = [frame.lineno for frame in frames]
        paths.append(lines[:len(calls)] == calls[:len(lines)])
print(json.dumps([rows, len(paths), all(paths), snapshot.metadata,
                  tracemalloc.get_tracer_stats()]))
'''


def run(script, *args, options=()):
    result = subprocess.run(
        [sys.executable, *options, '-c', script, *args], text=True,
        capture_output=True,
        env=os.environ | {'PYTHONHASHSEED': '1', 'PYTHONMALLOC': ALLOCATOR})
    if result.returncode or result.stderr:
        raise AssertionError(result.stderr or f'exit {result.returncode}')
    return json.loads(result.stdout)


class PruneTests(unittest.TestCase):

    def test_what_is_alive_stays_as_it_is(self):
        for where in 'above', 'below':
            for nframe in 2, 25, 'full':
                for seed in range(SEEDS):
                    with self.subTest(where=where, nframe=nframe, seed=seed):
                        *reports, stats = run(
                            ORACLE, where, json.dumps(nframe), str(seed),
                            str(STEPS), str(PAUSE))
                        for seen in reports:
                            for what in WRONG:
                                self.assertEqual(seen[what], 0, (what, seen))
                        self.assertGreater(stats['pruned'], 300)
                        self.assertEqual(stats['untraced'], 0)

    def test_each_line_keeps_its_counts(self):
        # With one frame there is no tree, and nothing to prune.
        rows, npaths, right, metadata, stats = run(
            TREE, options=['-X', 'tracemalloc=1'])
        self.assertGreater(npaths, 1000)
        self.assertTrue(right)
        self.assertEqual(stats['pruned'], 0)
        self.assertGreater(max(size for size, *rest in rows.values()),
                           51_000_000)
        for nframe in 25, 'full':
            with self.subTest(nframe=nframe):
                pruned = run(TREE, options=['-X', f'tracemalloc={nframe}'])
                self.assertEqual(pruned[0], rows)
                self.assertEqual(pruned[1], npaths)
                # There a list may have the trace of one before it.
                self.assertTrue(pruned[2] or FLAVOUR == 'ignore')
                stats = pruned[4]
                self.assertGreater(stats['pruned'], 1_000_000)
                self.assertEqual(pruned[3]['pruned'], stats['pruned'])
                self.assertLess(stats['nodes'], 1_100_000)
                self.assertEqual(stats['untraced'], 0)
                self.assertEqual(stats['folded'], 0)


if __name__ == '__main__':
    unittest.main()
