"""Free lists: what is dropped is not live, what is made again is new."""
import asyncio
import cProfile
import collections
import contextvars
import gc
import re
import sys
import tracemalloc
import unittest
import warnings

from test.support import import_helper
from test.test_pytracemalloc.helpers import (
    FLAVOUR, FREE_THREADED, Tracing, line_of, live_at)

_testtracer = import_helper.import_module('_testtracer')

N = 80

# CPython has these even when it is built without free lists.
ALWAYS = {'memory_error', 'deque_block', 'profiler'}
if sys.version_info < (3, 14):
    ALWAYS.add('future_iter')
# How many of N each keeps.
KEPT = {'slice': 1, 'memory_error': 16, 'deque_block': 16, 'list_iter': 10,
        'tuple_iter': 10, 'range': 6, 'range_iter': 6, 'c_function': 16,
        'c_method': 16, 'method': 20}
# What they hold is never the program's for longer than a call.
INNER = {'tuple', 'profiler', 'object_stack', 'unicode_writer', 'bytes_writer'}
GC_HEADER = 0 if FREE_THREADED else 16


class Kept:
    """N objects; line 1 of the function makes one."""

    def __init__(self, make):
        self.make = make
        self.place = line_of(make, 1)
        self.kept = [None] * N

    def fill(self):
        kept, make = self.kept, self.make
        for i in range(N):
            kept[i] = make(i)

    def drop(self):
        self.kept[:] = [None] * N


class Yielded:
    """N wrappers of what an asynchronous generator yields.  Only who watches
    it yield sees them."""

    def __init__(self, generator):
        self.generator = generator
        self.place = line_of(generator, 2)
        self.kept = []

    def fill(self):
        monitoring = sys.monitoring
        tool, event = 4, monitoring.events.PY_YIELD
        code = self.generator.__code__
        keep = self.kept.append
        monitoring.use_tool_id(tool, 'test')
        monitoring.register_callback(
            tool, event, lambda code, offset, value: keep(value))
        monitoring.set_local_events(tool, code, event)
        try:
            generator = self.generator()
            for i in range(N):
                try:
                    generator.__anext__().send(None)
                except StopIteration:
                    pass
        finally:
            monitoring.set_local_events(tool, code, 0)
            monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)

    def drop(self):
        self.kept.clear()


class Blocks:
    """N blocks of one deque."""

    deque = collections.deque()

    def __init__(self, extend):
        self.extend = extend
        self.place = line_of(extend, 1)

    def fill(self):
        self.extend(self.deque, range(64 * N))

    def drop(self):
        while self.deque:
            self.deque.pop()


def make_float(i):
    return i + 0.5


def make_float_again(i):
    return i + 0.5


def make_list(i):
    return []


def make_list_again(i):
    return []


def make_dict(i):
    return {}


def make_dict_again(i):
    return {}


def make_dict_keys(i):
    return {'key': i}


def make_dict_keys_again(i):
    return {'key': i}


def make_slice(i):
    return slice(i, i)


def make_slice_again(i):
    return slice(i, i)


class Guess:
    """Three items, after a hint of many."""

    def __init__(self, item):
        self.items = iter((item, item, item))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def __length_hint__(self):
        return 1000


def make_shrunk(i):
    return tuple(Guess(i))


def make_shrunk_again(i):
    return tuple(Guess(i))


def make_context(i):
    return contextvars.Context()


def make_context_again(i):
    return contextvars.Context()


def make_memory_error(i):
    return MemoryError()


def make_memory_error_again(i):
    return MemoryError()


def make_future_iter(i):
    return iter(FUTURE)


def make_future_iter_again(i):
    return iter(FUTURE)


def make_asend(i):
    return GENERATOR.asend(None)


def make_asend_again(i):
    return GENERATOR.asend(None)


def make_int(i):
    return BIG + i


def make_int_again(i):
    return BIG + i


def make_shrunk_int(i):
    return HUGE - (HUGE - BIG - i)


def make_list_iter(i):
    return iter(LIST)


def make_list_iter_again(i):
    return iter(LIST)


def make_tuple_iter(i):
    return iter(TUPLE)


def make_tuple_iter_again(i):
    return iter(TUPLE)


def make_range(i):
    return range(i)


def make_range_again(i):
    return range(i)


def make_range_iter(i):
    return iter(RANGE)


def make_range_iter_again(i):
    return iter(RANGE)


def make_c_function(i):
    return LIST.append


def make_c_function_again(i):
    return LIST.append


def make_c_method(i):
    return PATTERN.match


def make_c_method_again(i):
    return PATTERN.match


def make_method(i):
    return GUESS.__next__


def make_method_again(i):
    return GUESS.__next__


def make_complex(i):
    return ONE + IMAGINARY


def make_complex_again(i):
    return ONE + IMAGINARY


async def make_wrapper():
    while True:
        yield None


async def make_wrapper_again():
    while True:
        yield None


def extend(deque, values):
    deque.extend(values)


def extend_again(deque, values):
    deque.extend(values)


class NoLoop:
    """All that a future asks of its event loop."""

    def get_debug(self):
        return False


FUTURE = asyncio.Future(loop=NoLoop())
GENERATOR = make_wrapper()
BIG = 5000
HUGE = 1 << 10_000
LIST = [1, 2]
TUPLE = 1, 2
RANGE = range(3)
PATTERN = re.compile('x')
GUESS = Guess(1)
ONE, IMAGINARY = 1 + 0j, 1j

CASES = {
    'float': (Kept(make_float), Kept(make_float_again)),
    'list': (Kept(make_list), Kept(make_list_again)),
    'dict': (Kept(make_dict), Kept(make_dict_again)),
    'dict_keys': (Kept(make_dict_keys), Kept(make_dict_keys_again)),
    'slice': (Kept(make_slice), Kept(make_slice_again)),
    'context': (Kept(make_context), Kept(make_context_again)),
    'memory_error': (Kept(make_memory_error), Kept(make_memory_error_again)),
    'future_iter': (Kept(make_future_iter), Kept(make_future_iter_again)),
    'async_gen_asend': (Kept(make_asend), Kept(make_asend_again)),
    'async_gen': (Yielded(make_wrapper), Yielded(make_wrapper_again)),
    'deque_block': (Blocks(extend), Blocks(extend_again)),
}
if sys.version_info >= (3, 14):
    CASES |= {
        'int': (Kept(make_int), Kept(make_int_again)),
        'list_iter': (Kept(make_list_iter), Kept(make_list_iter_again)),
        'tuple_iter': (Kept(make_tuple_iter), Kept(make_tuple_iter_again)),
        'range': (Kept(make_range), Kept(make_range_again)),
        'range_iter': (Kept(make_range_iter), Kept(make_range_iter_again)),
        'c_function': (Kept(make_c_function), Kept(make_c_function_again)),
        'c_method': (Kept(make_c_method), Kept(make_c_method_again)),
        'method': (Kept(make_method), Kept(make_method_again)),
    }
if sys.version_info >= (3, 15):
    CASES['complex'] = Kept(make_complex), Kept(make_complex_again)
# Bytes of one.
SIZES = {
    'float': float.__basicsize__,
    'list': list.__basicsize__ + GC_HEADER,
    'dict': dict.__basicsize__ + GC_HEADER,
    'slice': slice.__basicsize__ + GC_HEADER,
    'context': contextvars.Context.__basicsize__ + GC_HEADER,
    'memory_error': MemoryError.__basicsize__ + GC_HEADER,
    'future_iter': type(iter(FUTURE)).__basicsize__ + GC_HEADER,
    'deque_block': (64 + 2) * 8,
    'list_iter': type(iter([])).__basicsize__ + GC_HEADER,
    'tuple_iter': type(iter(())).__basicsize__ + GC_HEADER,
    'range': range.__basicsize__,
    'range_iter': type(iter(range(1))).__basicsize__,
    'c_function': type([].append).__basicsize__ + GC_HEADER,
    'c_method': type([].append).__basicsize__ + 8 + GC_HEADER,
    'method': type(GUESS.__next__).__basicsize__ + GC_HEADER,
    'complex': complex.__basicsize__,
}


def stays(name):
    """Is what is freed put on the free list, in this flavour, and seen?"""
    return FLAVOUR == 'track' or (FLAVOUR == 'disable' and name in ALWAYS)


class FreelistTests(unittest.TestCase):

    def parked(self, name):
        blocks, size = tracemalloc.get_freelist_stats()[name]
        if name in SIZES:
            self.assertEqual(size, blocks * SIZES[name])
        self.assertEqual(blocks == 0, size == 0)
        return blocks

    def check(self, name, first, second):
        with Tracing():
            first.fill()
            made = live_at(*first.place)
            before = self.parked(name)
            first.drop()
            after = self.parked(name)
            left = live_at(*first.place)
            second.fill()
            used = self.parked(name)
            moved = live_at(*second.place)
            stay = live_at(*first.place)
            second.drop()
        if FLAVOUR == 'ignore':
            self.assertEqual((before, after, used), (0, 0, 0))
            return
        self.assertGreaterEqual(made, N)
        self.assertEqual(left, 0)
        self.assertEqual(stay, 0)
        self.assertGreaterEqual(moved, N)
        if stays(name):
            # The test itself takes a few from the lists, and leaves a few.
            kept = KEPT.get(name, N)
            self.assertGreaterEqual(after, kept - kept // 10)
            self.assertGreater(after, before)
            self.assertLess(used, after)
        else:
            self.assertEqual((before, after, used), (0, 0, 0))

    def test_dropped_is_not_live_and_made_again_is_new(self):
        for name, cases in CASES.items():
            with self.subTest(name), warnings.catch_warnings():
                # asend() that nobody awaited
                warnings.simplefilter('ignore', RuntimeWarning)
                gc.collect()
                self.check(name, *cases)

    def test_tuples_of_each_size(self):
        for size in range(1, 21):
            with self.subTest(size=size):
                scope = {}
                exec(f'def make(i):\n    return ({"i," * size})\n'
                     f'\ndef again(i):\n    return ({"i," * size})\n', scope)
                gc.collect()
                self.check('tuple', Kept(scope['make']), Kept(scope['again']))

    def test_tuples_that_have_shrunk(self):
        # From a size that no pool holds to one that is parked.
        gc.collect()
        self.check('tuple', Kept(make_shrunk), Kept(make_shrunk_again))

    def test_each_list_has_a_test(self):
        with Tracing():
            names = set(tracemalloc.get_freelist_stats())
        self.assertEqual(names - INNER, {*CASES})
        self.assertEqual(names & INNER, INNER - {
            *(['unicode_writer'] if sys.version_info < (3, 14) else []),
            *(['bytes_writer'] if sys.version_info < (3, 15) else [])})

    def test_writers(self):
        # One at a time, which is parked when its text is done.
        with Tracing():
            before = tracemalloc.get_freelist_stats()
            text = repr({i: i for i in range(N)})
            stats = tracemalloc.get_freelist_stats()
        self.assertGreater(len(text), N)
        if 'unicode_writer' in stats:
            self.assertEqual(stats['unicode_writer'][0],
                             int(FLAVOUR == 'track'), before)
        if 'bytes_writer' in stats:
            self.assertLessEqual(stats['bytes_writer'][0], 1)

    @unittest.skipIf(sys.version_info < (3, 14), 'no free list of ints')
    def test_ints_that_no_pool_holds(self):
        # They had many digits once, and are parked with their whole blocks.
        self.check('int', Kept(make_shrunk_int), Kept(make_int_again))
        held = [make_int(i) for i in range(2 * N)]      # the list is empty
        with Tracing():
            kept = [make_shrunk_int(i) for i in range(N)]
            del kept
            blocks, size = tracemalloc.get_freelist_stats()['int']
            used = [make_int(i) for i in range(N)]
            wrong, live, current = _testtracer.check_counters(
                tracemalloc.get_traced_memory)
            del used
        del held
        self.assertEqual(wrong, 0)
        self.assertEqual(live, current)
        if stays('int'):
            self.assertGreater(size, (N - N // 10) * HUGE.bit_length() // 8)
        else:
            self.assertEqual((blocks, size), (0, 0))

    def test_profiler_contexts(self):
        # Its blocks live as long as the calls that they are made for.
        profile = cProfile.Profile()
        seen = []

        def nest(depth):
            return nest(depth - 1) if depth else look()

        def nest_again(depth):
            return nest_again(depth - 1) if depth else look()

        def look():
            seen.append([live_at(*line_of(function, 0))
                         for function in (nest, nest_again)])
            return self.parked('profiler')

        def run(function):
            profile.enable()
            used = function(N)
            profile.disable()
            return used, look()

        with Tracing():
            used, after = run(nest)
            again_used, again_after = run(nest_again)
            del profile
            gone = self.parked('profiler')
        if FLAVOUR == 'ignore':
            self.assertEqual((used, after, again_used, again_after, gone),
                             (0, 0, 0, 0, 0))
            return
        # The profile itself has a few blocks of each function.
        self.assertEqual([[live > 3 for live in both] for both in seen],
                         [[True, False], [False, False],
                          [False, True], [False, False]])
        self.assertGreaterEqual(min(seen[0][0], seen[2][1]), N)
        self.assertGreaterEqual(min(after, again_after), N)
        self.assertLess(max(used, again_used), 5)
        self.assertEqual(gone, 0)

    @unittest.skipIf(FREE_THREADED, 'the collector has object stacks')
    def test_an_object_stack_and_hamt_have_nothing_parked(self):
        # The chunks of object stacks belong to the collector without the GIL,
        # and HAMT nodes have no free list in 3.13.
        with Tracing():
            keep = contextvars.copy_context()
            for i in range(N):
                keep.run(contextvars.ContextVar(f'v{i}').set, i)
            del keep
            gc.collect()
            stats = tracemalloc.get_freelist_stats()
        self.assertEqual(stats['object_stack'], (0, 0))
        self.assertNotIn('hamt', stats)


if __name__ == '__main__':
    unittest.main()
