"""Frees that go past the tracer, and PyTraceMalloc_Track() on what belongs to
the allocators, in any order: the rule is that of stock.

A trace belongs to an address.  What is recorded there last replaces what was
there; a free that the tracer sees, and PyTraceMalloc_Untrack(), remove it.
Nothing else does: not a free past the tracer, nor the end of a pool.
"""
import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import unittest

from test.support import check_sanitizer, import_helper
from test.test_pytracemalloc.helpers import (
    ALLOCATOR, ALLOCATORS, FREE_THREADED, SLOW)

import_helper.import_module('_testtracer')

STOCK = pathlib.Path(sys.executable).parents[1] / 'unpatched/obj/python'
SCRIPT = os.path.join(os.path.dirname(__file__), 'run_orders.py')
RAW, MEMORY, OBJECT = range(3)


# Steps of _testtracer_orders.c.
STEPS = ('malloc', 'malloc_past', 'free', 'free_past', 'realloc', 'track',
         'untrack', 'track_last', 'untrack_last')
POOL, HEADER = 16384, 48


def last_block(address, size):
    """The last one of the pool that has a block of this size."""
    return (address // POOL * POOL + HEADER
            + ((POOL - HEADER) // size - 1) * size)


UNMAPPED = """if 1:
    import ctypes, mmap, tracemalloc
    tracemalloc.start()
    malloc = ctypes.pythonapi.PyObject_Malloc
    malloc.restype = ctypes.c_void_p
    malloc.argtypes = [ctypes.c_size_t]
    size = 40 << 20
    block = malloc(size)
    pages = block // mmap.PAGESIZE * mmap.PAGESIZE
    unmap = ctypes.CDLL(None).munmap
    unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    assert unmap(pages, size) == 0
    stat = tracemalloc.take_snapshot().statistics('type')[0]
    print(stat.size >= size, stat.key)
"""


class Rule:
    """What is traced, by address."""

    def __init__(self):
        self.traced = {}

    def step(self, before, after, what, offset, size):
        if what in ('free', 'realloc'):
            self.traced.pop(before, None)
        if what in ('malloc', 'realloc'):
            self.traced[after] = size
        if what == 'track':
            self.traced[before + offset] = size
        if what == 'untrack':
            self.traced.pop(before + offset, None)
        if what == 'track_last':
            self.traced[last_block(before, offset)] = size
        if what == 'untrack_last':
            self.traced.pop(last_block(before, offset), None)


def several(what, count, *args, first=0):
    return [[what, str(i), *args] for i in range(first, first + count)]


# By the name of what is special.
SMALL = {
    'freed past': [['malloc', 'a', 470], ['free_past', 'a'],
                   ['malloc', 'b', 480], ['free_past', 'b'],
                   ['malloc', 'c', 470], ['free', 'c']],
    'freed past, then taken past': [
        ['malloc', 'a', 470], ['free_past', 'a'], ['malloc_past', 'a', 480],
        ['realloc', 'a', 465], ['realloc', 'a', 100], ['free', 'a']],
    'free': [['malloc', 'a', 470], ['free', 'a'], ['track', 'a', 0, 470],
             ['malloc', 'a', 470], ['free', 'a'], ['track', 'a', 0, 470],
             ['track', 'a', 0, 100], ['untrack', 'a', 0],
             ['track', 'a', 0, 0], ['malloc', 'a', 470], ['free', 'a'],
             ['track', 'a', 0, 10_000], ['malloc', 'a', 470], ['free', 'a']],
    'other sizes': [['malloc', 'a', 470], ['track', 'a', 0, 0],
                    ['track', 'a', 0, 10_000], ['track', 'a', 0, 480],
                    ['track', 'a', 0, 481], ['track', 'a', 0, 1],
                    ['track', 'a', 0, 2**40], ['untrack', 'a', 0],
                    ['untrack', 'a', 0], ['track', 'a', 0, 0], ['free', 'a']],
    'realloc in place': [['malloc', 'a', 470], ['track', 'a', 0, 600],
                         ['realloc', 'a', 480], ['track', 'a', 0, 0],
                         ['realloc', 'a', 470], ['free', 'a']],
    'realloc elsewhere': [['malloc', 'a', 470], ['track', 'a', 0, 600],
                          ['realloc', 'a', 100], ['track', 'a', 0, 700],
                          ['realloc', 'a', 5000], ['track', 'a', 0, 0],
                          ['realloc', 'a', 480], ['free', 'a']],
    'inside': [['malloc', 'a', 470], ['track', 'a', 16, 400],
               ['track', 'a', 100, 0], ['track', 'a', 100, 7], ['free', 'a'],
               ['malloc', 'a', 470], ['untrack', 'a', 16],
               ['untrack', 'a', 100], ['free', 'a']],
    'not traced': [['malloc_past', 'a', 470], ['track', 'a', 0, 400],
                   ['track', 'a', 0, 4000], ['free', 'a'],
                   ['malloc_past', 'a', 470], ['track', 'a', 0, 0],
                   ['free_past', 'a'], ['malloc', 'a', 470], ['free', 'a']],
}
OUTSIDE = {
    'size 0': [['malloc', 'a', 100_000], ['track', 'a', 0, 0],
               ['track', 'a', 0, 5], ['free', 'a'], ['track', 'a', 0, 0],
               ['untrack', 'a', 0]],
    'realloc': [['malloc', 'a', 100_000], ['track', 'a', 0, 0],
                ['realloc', 'a', 200_000], ['track', 'a', 10, 1],
                ['untrack', 'a', 10], ['realloc', 'a', 1000], ['free', 'a']],
    'nothing there': [['malloc', 'a', 0], ['track', 'a', 0, 1],
                      ['free', 'a']],
}
# Those of other domains pass such blocks on to the raw one.
IN_RAW_DOMAIN = {
    'freed past': [['malloc', 'a', 100_000], ['free_past', 'a'],
                   ['malloc', 'a', 100_000], ['free_past', 'a'],
                   ['malloc', 'a', 90_000], ['free', 'a']],
}
POOLS = {
    'freed past': [
        *several('malloc', 200, 500), *several('free_past', 200),
        *several('malloc', 200, 490, first=200)],
    'freed past twice': [
        *several('malloc', 200, 500), *several('free_past', 200),
        *several('malloc', 200, 490, first=200),
        *several('free', 200, first=200),
        *several('malloc', 100, 512), *several('free', 50)],
    # Block 30 of a pool of 512 bytes begins 16 bytes before block 31 of one
    # of 496.
    'inside': [
        *several('malloc', 100, 500),
        *[['track', str(i), 16, size] for i in range(100)
          for size in (9, 9000)],
        *several('free', 100), *several('malloc', 80, 490),
        *several('free', 20)],
    'other sizes': [
        *several('malloc', 200, 500), *several('track', 100, 0, 0),
        *several('track', 100, 0, 2000, first=100),
        *several('free_past', 200), *several('malloc', 200, 490),
        *several('free', 200), *several('malloc', 100, 500),
        *several('free', 70)],
    # The pool of most of them has not come to its last block.
    'not yet blocks': [
        *[step for i in range(100) for step in (
            ['malloc', str(i), 500], ['track_last', str(i), 512, 100])],
        *several('untrack_last', 50, 512), *several('free', 70)],
    'arenas': [
        *several('malloc', 5000, 500), *several('free_past', 5000),
        *several('malloc', 2500, 490), *several('free', 1000)],
}


WAYS = 'malloc', 'malloc', 'free', 'realloc', 'track', 'track', 'untrack'
WAYS_PAST = *WAYS, 'malloc_past', 'free_past'


def random_program(seed, ways, sizes):
    """Blocks come and go, and are tracked meanwhile."""
    rng = random.Random(seed)
    alive, dead = [], []
    for number in range(300):
        what = rng.choice(ways)
        name = str(number)
        if not alive or what.startswith('malloc'):
            alive.append(name)
            yield [what if what == 'malloc_past' else 'malloc', name,
                   rng.choice(sizes)]
        elif what.startswith('free'):
            dead.append(alive.pop(rng.randrange(len(alive))))
            yield [what, dead[-1]]
        elif what == 'realloc':
            yield [what, rng.choice(alive), rng.choice(sizes)]
        else:
            offset = rng.choice([0, 0, 0, 16, 32])
            size = [] if what == 'untrack' else [
                rng.choice([0, 1, 470, 480, 481, 4000])]
            yield [what, rng.choice(alive + dead), offset, *size]
    for name in alive:
        yield ['free', name]


def numbered(program):
    """The steps in the form of _testtracer_orders.c."""
    names = {}
    steps = []
    for what, name, *args in program:
        if what.startswith('untrack'):
            args = *args, 0
        offset, size = (0, 0, *args)[-2:]
        number = names.setdefault(name, len(names))
        steps.append([STEPS.index(what), number, offset, size])
    return steps


# The module for a stock interpreter does not say that it needs none.
NO_GIL = {'PYTHON_GIL': '0'} if FREE_THREADED else {}


def run(command, programs, domain, **env):
    result = subprocess.run(
        [command[0], SCRIPT, str(domain), *command[1:]], text=True,
        capture_output=True, input=json.dumps(programs),
        env=os.environ | {'PYTHONMALLOC': ALLOCATOR} | NO_GIL | env)
    if result.returncode or result.stderr:
        raise AssertionError(result.stderr or f'exit {result.returncode}')
    return [json.loads(line) for line in result.stdout.splitlines()]


class OrderTests(unittest.TestCase):
    command = [sys.executable]

    def check(self, programs, domain, **env):
        """How many addresses were recorded again where a free had gone past
        the tracer."""
        programs = {name: numbered(steps) for name, steps in programs.items()}
        results = run(self.command, list(programs.values()), domain, **env)
        again = 0
        for name, result in zip(programs, results, strict=True):
            with self.subTest(name, domain=domain, **env):
                again += self.check_program(programs[name], result)
        return again

    def check_program(self, steps, results):
        rule = Rule()
        again = 0
        for step, result in zip(steps, results, strict=True):
            what, block, *args = step
            before, after, *seen = result
            again += STEPS[what] == 'malloc' and after in rule.traced
            rule.step(before, after, STEPS[what], *args)
            self.assertEqual(seen, [0, sum(rule.traced.values()), 0],
                             (STEPS[what], *step[1:]))
        return again

    def test_small_blocks(self):
        for domain in OBJECT, MEMORY:
            again = self.check(SMALL, domain)
            # What mimalloc gives out again is its own choice, until a page
            # is full: see test_pools().
            self.assertIn(again, range(7) if FREE_THREADED else [6])

    @unittest.skipIf(check_sanitizer(address=True),
                     'it counts what is mapped itself')
    def test_memory_that_is_gone(self):
        import_helper.import_module('ctypes')
        done = subprocess.run([sys.executable, '-c', UNMAPPED],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, 'True <memory>\n', ''))

    @unittest.skipIf(check_sanitizer(address=True),
                     'a snapshot looks at blocks that were freed past the '
                     'tracer')
    def test_in_general_functions(self):
        # Another allocator below, or the debug hooks: no pool, or none that
        # the tracer sees through them.
        for malloc in ALLOCATORS[1:]:
            self.check(SMALL | OUTSIDE, OBJECT, PYTHONMALLOC=malloc)

    def test_outside_of_pools(self):
        for domain in RAW, OBJECT:
            self.check(OUTSIDE, domain)
        self.check(IN_RAW_DOMAIN, RAW)

    def test_pools(self):
        for domain in OBJECT, MEMORY:
            self.assertGreater(self.check(POOLS, domain), 100)

    def test_at_random(self):
        for domain, ways, sizes in (
                (OBJECT, WAYS_PAST, [465, 470, 480]),
                (MEMORY, WAYS_PAST, [100, 470]),
                (MEMORY, WAYS, [470, 600, 3000]),
                (RAW, WAYS_PAST, [50_000])):
            self.check({f'{sizes}, seed {seed}':
                        random_program(seed, ways, sizes)
                        for seed in range(50 if SLOW else 10)}, domain)


@unittest.skipUnless(STOCK.exists(), f'no {STOCK}, which make bench builds')
class StockOrderTests(OrderTests):
    """The rule is that of a stock interpreter."""

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        source = os.path.join(os.environ.get('PYTRACEMALLOC_TOP', ''),
                              'Modules/_testtracer_orders.c')
        if not os.path.exists(source):
            raise unittest.SkipTest('PYTRACEMALLOC_TOP is not set')
        build = STOCK.parent
        subprocess.run(
            [*shlex.split(sysconfig.get_config_var('CC')), '-shared', '-fPIC',
             '-DTESTTRACER_STOCK', '-I', build, '-I',
             build.parent / 'src/Include', '-o',
             os.path.join(folder, '_testorders.so'), source], check=True)
        cls.command = [STOCK, folder]


if __name__ == '__main__':
    unittest.main()
