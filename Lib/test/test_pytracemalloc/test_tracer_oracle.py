"""The tracer beside an allocator underneath it that keeps its own books."""
import json
import subprocess
import sys
import unittest

from test.support import import_helper
from test.test_pytracemalloc.helpers import FLAVOUR

import_helper.import_module('_testtracer')

PROGRAM = '''
import _testtracer, _tracemalloc, collections, gc, json, random, sys
import threading

class Plain:
    def __init__(self, i):
        self.i = i
        self.other = None

class Slots(list):
    __slots__ = 'x', 'y'

def generator(i):
    for j in range(i % 5):
        yield [j, float(j)]

async def coroutine(i):
    return [i] * (i % 50)

def cycle(i):
    a, b = Plain(i), Plain(-i)
    a.other, b.other = b, a
    return a

def fail(i):
    try:
        raise ValueError(i)
    except ValueError as exc:
        return exc

def run(i):
    try:
        coroutine(i).send(None)
    except StopIteration as stop:
        return stop.value

makers = [
    lambda i: bytes(i), lambda i: bytearray(i), lambda i: [0] * i,
    lambda i: {j: str(j) for j in range(i % 70)},
    lambda i: {j * 1.5 for j in range(i % 40)}, lambda i: tuple(range(i % 30)),
    lambda i: i + 0.5, lambda i: complex(i, i), lambda i: 1 << i,
    lambda i: 'x' * i, lambda i: 'caf\\u00e9' * (i % 99), lambda i: slice(i),
    Plain, lambda i: Slots(range(i % 9)), generator,
    lambda i: list(generator(i)), run, cycle, fail,
    lambda i: collections.deque(range(i % 99)), lambda i: type('T', (), {}),
    lambda i: memoryview(bytes(i)), lambda i: lambda: i,
    lambda i: compile('x = [%d]' % i, 'made', 'exec'),
]

def work(rng, n):
    keep = {}
    for i in range(n):
        keep[rng.randrange(300)] = rng.choice(makers)(rng.randrange(1200))
        if i % 1000 == 0:
            gc.collect()
    return keep

nframe = sys.argv[1]
nframe = int(nframe) if nframe.isdecimal() else nframe
_testtracer.install_oracle()
gc.collect()
kept = slice(1), slice(2)
del kept
_testtracer.start_under(_tracemalloc.start, nframe)
results = []
for seed in range(3):
    rng = random.Random(seed)
    keep = work(rng, 4000)
    thread = threading.Thread(target=work, args=(rng, 1000))
    thread.start()
    thread.join()
    results.append(_testtracer.compare(_tracemalloc.get_traced_memory,
                                       _tracemalloc.get_freelist_stats))
stats = _tracemalloc.get_tracer_stats()
print(json.dumps([results, stats['untraced']]))
'''


class OracleTests(unittest.TestCase):

    def check(self, nframe):
        result = subprocess.run([sys.executable, '-c', PROGRAM, str(nframe)],
                                capture_output=True, text=True)
        self.assertEqual(result.stderr, '')
        rounds, untraced = json.loads(result.stdout)
        self.assertEqual(untraced, 0)
        for current, traced, missing, parked in rounds:
            self.assertEqual(current, traced)
            self.assertGreater(current, 100_000)
            self.assertLessEqual(missing, parked)
            if FLAVOUR != 'track':
                self.assertEqual(missing, 0)

    def test_same_live_blocks_and_bytes(self):
        for nframe in 1, 5, 25, 'full':
            with self.subTest(nframe=nframe):
                self.check(nframe)


if __name__ == '__main__':
    unittest.main()
