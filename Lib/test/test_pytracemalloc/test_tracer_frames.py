"""Frames that extensions make, compiled with CPython's own headers."""
import functools
import random
import sys
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc import test_tracer_stacks
from test.test_pytracemalloc.helpers import Tracing

_testtracer = import_helper.import_module('_testtracer')

FUNCTIONS = 12
LIMITS = {5: 5, 25: 25, 'full': sys.maxsize}
LINES = 4                         # of each, below its first

# Two functions whose first instructions are the same, on other lines.
CALLERS = '''\
def first():
    return make()
def second():

    return make()
'''


class Probe:
    pass


def below():
    pass


class Program:
    """Functions that call the next ones, or keep an object, at random: between
    two of these objects nothing else is allocated."""

    def __init__(self, seed):
        choose = random.Random(seed).choice
        self.made = []
        self.calls = []
        for i in range(FUNCTIONS):
            next_ones = range(i + 1, min(i + 4, FUNCTIONS))
            self.calls.append([choose([None, *next_ones])
                               for line in range(LINES)])
        self.scope = {'keep': self.made.append, 'make': Probe}
        for i, calls in enumerate(self.calls):
            lines = [f'def f{i}():']
            for called in calls:
                lines.append('    keep(make())' if called is None
                             else f'    f{called}()')
            exec(compile('\n'.join(lines), f'function {i}', 'exec'),
                 self.scope)

    def call_below(self):
        """Each second function is called by a frame that is linked in by
        hand, and so is what makes the objects."""
        for i in range(0, FUNCTIONS, 2):
            name = f'f{i}'
            self.scope[name] = functools.partial(
                _testtracer.call_below, self.function(i), self.scope[name])
        self.scope['make'] = functools.partial(_testtracer.call_below, below,
                                               Probe)

    def function(self, i):
        scope = {}
        exec(compile('def by_hand():\n    pass', f'by hand {i}', 'exec'), scope)
        return scope['by_hand']

    def paths(self, i=0, path=(), by_hand=False):
        """Yield (file, line), oldest first, for each object."""
        if by_hand and i % 2 == 0:
            path += (f'by hand {i}', 1),
        for lineno, called in enumerate(self.calls[i], 2):
            here = path + ((f'function {i}', lineno),)
            if called is not None:
                yield from self.paths(called, here, by_hand)
            elif by_hand:
                yield here + ((__file__, below.__code__.co_firstlineno),)
            else:
                yield here

    def check(self, test, limit, by_hand=False):
        self.scope['f0']()
        paths = list(self.paths(by_hand=by_hand))
        test.assertEqual(len(self.made), len(paths))
        test.assertGreater(len(paths), 1000)
        wrong = 0
        for obj, path in zip(self.made, paths):
            traceback = tracemalloc.get_object_traceback(obj)
            seen = [(frame.filename, frame.lineno) for frame in traceback]
            # Above the program there is this test.
            n = min(len(path), limit)
            wrong += seen[-n:] != list(path[-n:])
        test.assertEqual((wrong, len(paths)), (0, len(paths)))


class EvaluatorTests(test_tracer_stacks.StackTests):
    """PEP 523: the interpreter runs another frame than it has made."""

    def check(self, program):
        _testtracer.evaluate_frames(True)
        try:
            super().check(program)
        finally:
            frames = _testtracer.evaluate_frames(False)
        self.assertGreater(frames, 1000)

    def test_one_function_after_the_other(self):
        scope = {'Probe': Probe}
        exec('def make():\n'
             '    return Probe()\n' + CALLERS, scope)
        for nframe in 2, 25, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                _testtracer.evaluate_frames(True)
                try:
                    made = [scope[name]() for i in range(200)
                            for name in ('first', 'second')]
                finally:
                    _testtracer.evaluate_frames(False)
                lines = [tracemalloc.get_object_traceback(obj)[-2].lineno
                         for obj in made]
                self.assertEqual(lines, [4, 7] * 200)

    def test_random_calls(self):
        for nframe in LIMITS:
            with self.subTest(nframe=nframe), Tracing(nframe):
                program = Program(1)
                _testtracer.evaluate_frames(True)
                try:
                    program.check(self, LIMITS[nframe])
                finally:
                    _testtracer.evaluate_frames(False)


class CompiledTests(unittest.TestCase):
    """Frames that are linked in by hand, and never run."""

    def test_random_calls(self):
        for nframe in LIMITS:
            with self.subTest(nframe=nframe), Tracing(nframe):
                program = Program(1)
                program.call_below()
                program.check(self, LIMITS[nframe], by_hand=True)

    def test_an_object_made_right_below(self):
        # No frame of the interpreter is above the one made by hand.
        scope = {'make': functools.partial(_testtracer.call_below,
                                           below, Probe)}
        exec(CALLERS, scope)
        for nframe in 2, 25, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                made = [scope[name]() for i in range(200)
                        for name in ('first', 'second')]
                lines = [tracemalloc.get_object_traceback(obj)[-2].lineno
                         for obj in made]
                self.assertEqual(lines, [2, 5] * 200)


if __name__ == '__main__':
    unittest.main()
