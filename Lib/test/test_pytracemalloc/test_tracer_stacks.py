"""Tracebacks are those that the frames gave at the moment of allocation."""
import functools
import sys
import tracemalloc
import unittest
import weakref

from test import support
from test.support import check_sanitizer, import_helper
from test.test_pytracemalloc.fetched import packages
from test.test_pytracemalloc.helpers import Tracing, line_of

found = []                          # (object, its frames by sys._getframe())


class Probe:
    pass


def probe(*unused):
    """Make an object and say where; the line of Probe() comes first."""
    found.append((Probe(), frames(sys._getframe())))    # PROBE
    return 0


PROBE_LINE = probe.__code__.co_firstlineno + 2


def frames(frame):
    result = [(frame.f_code.co_filename, PROBE_LINE)]
    frame = frame.f_back
    while frame is not None:
        result.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return result


def recurse(depth):
    probe()
    if depth:
        recurse(depth - 1)
        probe()


def generate(depth):
    probe()
    yield 1
    if depth:
        yield from generate(depth - 1)
    probe()
    try:
        yield 2
    except KeyError:
        probe()
        yield 3
    finally:
        probe()


def leaf():
    while True:
        probe()
        yield


def chain(depth, lines):
    """Generators in each other, of code that dies with them."""
    scope = {}
    exec('\n' * lines + 'def layer(inner):\n    yield from inner', scope)
    inner = leaf()
    for i in range(depth):
        inner = scope['layer'](inner)
    return inner


async def agenerate():
    probe()
    yield 1
    probe()


async def coroutine(depth):
    probe()
    if depth:
        await coroutine(depth - 1)
    async for item in agenerate():
        probe()


class Finalised:
    def __del__(self):
        probe()


class Built:
    def __init__(self, depth):
        probe()
        self.inner = Built(depth - 1) if depth else None
        probe()


def build():
    for i in range(20):             # specialised calls, after some
        Built(2)


def program():
    recurse(60)
    build()
    for item in generate(10):
        probe()
    thrown = generate(0)
    next(thrown), next(thrown)
    thrown.throw(KeyError)
    thrown.close()
    for lines in range(60):
        if lines % 3 == 0:
            deep = chain(12, lines // 3)
        next(deep)
    shared = generate(3)
    next(shared)
    (lambda: next(shared))()
    functools.reduce(lambda a, b: next(shared, 0), range(3))
    try:
        coroutine(5).send(None)
    except StopIteration:
        pass
    try:
        try:
            recurse(2)
            raise ValueError
        finally:
            probe()
    except ValueError:
        probe()
    for i in range(3):
        exec('def f():\n    probe()\nf()\n\nprobe()', {'probe': probe})

    class Body:
        probe()
        [probe() for i in range(2)]

    sorted([3, 1, 2], key=probe)
    list(map(probe, range(3)))
    Finalised()
    target = Probe()
    reference = weakref.ref(target, probe)
    del target
    return reference, Body


def switching(depth, others):
    probe()
    if depth:
        switching(depth - 1, others)
    for other in others:
        if not other.dead and other is not greenlet.getcurrent():
            other.switch(depth, others)
            probe()
    recurse(depth)


def greenlets():
    for i in range(5):
        others = []
        others += [greenlet.greenlet(switching) for j in range(6)]
        switching(4, others)
        while alive := [other for other in others if not other.dead]:
            alive[0].switch(3, others)
            probe()


def down(depth):
    kept = [depth]
    if depth:
        down(depth - 1)


def from_lines(n, depth):
    """Call down() from n lines, one after the other."""
    scope = {'down': down}
    exec(compile(f'down({depth})\n' * n, 'lines', 'exec'), scope)


def object_below(depth):
    if depth:
        return object_below(depth - 1)
    return Probe()


class RecursionTests(unittest.TestCase):

    def test_nodes_know_only_so_many_callers(self):
        for nframe in 2, 5:
            with self.subTest(nframe=nframe), Tracing(nframe):
                down(0)
                before = tracemalloc.get_tracer_stats()['nodes']
                from_lines(200, 100)
                after = tracemalloc.get_tracer_stats()['nodes']
                # Far fewer than 200 * 100.
                self.assertLess(after - before, 200 * 15 * nframe)

    def test_the_whole_stack_folds_what_is_beyond_a_thousand(self):
        with support.infinite_recursion(2000), Tracing('full'):
            for depth, found in (1000, 1000), (1500, 1000), (999, 999):
                made = object_below(depth)
                frames = list(tracemalloc.get_object_traceback(made))
                lines = [frame.lineno for frame in frames
                         if frame.filename == __file__]
                _, line = line_of(object_below, 2)
                self.assertEqual(lines.count(line), found)
            self.assertGreater(tracemalloc.get_tracer_stats()['folded'], 0)


class StackTests(unittest.TestCase):

    def test_equal_to_the_frames(self):
        self.check(program)

    @unittest.skipIf(check_sanitizer(address=True, thread=True),
                     'sanitizers do not know of stacks that are swapped')
    def test_greenlets_swap_whole_stacks(self):
        global greenlet
        with import_helper.DirsOnSysPath(str(packages('greenlet'))):
            import greenlet
        self.check(greenlets)

    def check(self, program):
        for nframe in 1, 2, 5, 25, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                found.clear()
                program()
                limit = 10_000 if nframe == 'full' else nframe
                for obj, expected in found:
                    traceback = tracemalloc.get_object_traceback(obj)
                    seen = [(frame.filename, frame.lineno)
                            for frame in reversed(traceback)]
                    self.assertEqual(seen, expected[:limit])
                self.assertGreater(len(found), 200)

    def tearDown(self):
        found.clear()


if __name__ == '__main__':
    unittest.main()
