"""The Python stack of native memory, in threads with the GIL and without it,
in generators and beside interpreters with a GIL of their own."""
import ctypes
import random
import sys
import threading
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc.helpers import SANITIZED
from test.test_pytracemalloc.native_case import (
    POINTER, SIZE, NativeCase, free, malloc)

# As malloc(), but the caller keeps the GIL.
attached_malloc = ctypes.PyDLL(None)['malloc']
attached_malloc.restype, attached_malloc.argtypes = POINTER, [SIZE]


def stack_here():
    """The stack of the caller, the oldest first."""
    frame, places = sys._getframe(1), []
    while frame is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return places[::-1]


class Wanderer:
    """Calls itself and resumes generators at random, and takes blocks at
    all depths, each of another size."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.sizes = iter(range(100_000 + seed, 10_000_000, 8))
        self.known = {}
        self.generators = [self.generator() for _ in range(3)]
        self.running = []

    def take(self):
        return self.random.choice((malloc, attached_malloc))

    def generator(self):
        while True:
            take, size = self.take(), next(self.sizes)
            self.known[size] = take(size), stack_here()
            if self.random.random() < 0.3:
                self.step(30)
            yield

    def resume(self):
        free = [one for one in self.generators if one not in self.running]
        if free:
            self.running.append(free[0])
            next(free[0])
            self.running.remove(free[0])

    def step(self, depth):
        for _ in range(self.random.randrange(1, 4)):
            if len(self.known) > 600:
                return
            choice = self.random.random()
            if choice < 0.4 and depth < 40:
                self.step(depth + 1)
            elif choice < 0.5 and depth < 40:
                [self.step(depth + 1) for _ in range(2)]
            elif choice < 0.7:
                self.resume()
            elif choice < 0.8:
                {i: [i] for i in range(3)}
            else:
                # Many blocks in one call, and then without others between.
                for take in malloc, self.take(), malloc:
                    size = next(self.sizes)
                    self.known[size] = take(size), stack_here()


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class StackTests(NativeCase):
    """The stack of a block is the stack of its call, to the line."""

    def check_stacks(self, wanderers):
        found = {trace.size: [(frame.filename, frame.lineno)
                              for frame in trace.traceback]
                 for trace in tracemalloc.take_snapshot().traces
                 if trace.domain == tracemalloc.NATIVE_DOMAIN}
        frames = 0 if self.nframe == 'full' else self.nframe
        for wanderer in wanderers:
            self.assertGreater(len(wanderer.known), 300)
            for size, (block, stack) in wanderer.known.items():
                self.assertEqual(found[size], stack[-frames:])
                free(block)
        self.check_tables()

    def wander(self, seed):
        wanderer = Wanderer(seed)
        while len(wanderer.known) < 400:
            wanderer.step(0)
        return wanderer

    def test_one_thread(self):
        self.check_stacks([self.wander(1)])

    def test_threads(self):
        found = []
        threads = [threading.Thread(
            target=lambda seed: found.append(self.wander(seed)),
            args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 4)
        self.check_stacks(found)

    def test_several_gils(self):
        interpreters = import_helper.import_module('_interpreters')
        number = interpreters.create('isolated')
        try:
            first = self.wander(1)
        finally:
            interpreters.destroy(number)
        self.check_stacks([first, self.wander(2)])


class StackTestsFewFrames(StackTests):
    nframe = 2


class StackTestsWholeStack(StackTests):
    nframe = 'full'


if __name__ == '__main__':
    unittest.main()
