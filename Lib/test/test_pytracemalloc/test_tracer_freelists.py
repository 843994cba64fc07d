"""Free lists: what is dropped is not live, what is made again is new."""
import asyncio
import cProfile
import collections
import contextvars
import gc
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import FLAVOUR, Tracing, live_at, line_of

N = 80


def first(make, keep):
    for i in range(N):
        keep[i] = make(i)       # line 2


def second(make, keep):
    for i in range(N):
        keep[i] = make(i)       # line 2


def make_float(i):
    return i + 0.5              # line 1


def make_float_again(i):
    return i + 0.5              # line 1


def make_list(i):
    return []                   # line 1


def make_list_again(i):
    return []                   # line 1


def make_dict(i):
    return {}                   # line 1


def make_dict_again(i):
    return {}                   # line 1


def make_dict_keys(i):
    return {'key': i}           # line 1


def make_dict_keys_again(i):
    return {'key': i}           # line 1


def make_slice(i):
    return slice(i, i)          # line 1


def make_slice_again(i):
    return slice(i, i)          # line 1


def make_context(i):
    return contextvars.Context()    # line 1


def make_context_again(i):
    return contextvars.Context()    # line 1


def make_memory_error(i):
    return MemoryError()        # line 1


def make_memory_error_again(i):
    return MemoryError()        # line 1


MAKERS = {
    'float': (make_float, make_float_again),
    'list': (make_list, make_list_again),
    'dict': (make_dict, make_dict_again),
    'dict_keys': (make_dict_keys, make_dict_keys_again),
    'slice': (make_slice, make_slice_again),
    'context': (make_context, make_context_again),
    'memory_error': (make_memory_error, make_memory_error_again),
}

# CPython has these even when it is built without free lists.
ALWAYS = {'memory_error', 'future_iter'}


class FreelistTests(unittest.TestCase):

    def check(self, name, make, again):
        keep = [None] * N
        with Tracing():
            first(make, keep)
            made = live_at(*line_of(make, 1))
            before = tracemalloc.get_freelist_stats()[name]
            keep[:] = [None] * N
            after = tracemalloc.get_freelist_stats()[name]
            left = live_at(*line_of(make, 1))
            first(again, keep)
            moved = live_at(*line_of(again, 1))
            stays = live_at(*line_of(make, 1))
        if FLAVOUR == 'ignore':
            self.assertEqual(after, (0, 0))
            return
        self.assertGreaterEqual(made, N)
        self.assertEqual(left, 0)
        self.assertEqual(stays, 0)
        self.assertGreaterEqual(moved, N)
        if FLAVOUR == 'track' or name in ALWAYS:
            self.assertGreater(after[0], before[0])
            self.assertGreater(after[1], before[1])
        elif FLAVOUR == 'disable':
            self.assertEqual(after, (0, 0))

    def test_dropped_is_not_live_and_made_again_is_new(self):
        for name, (make, again) in MAKERS.items():
            with self.subTest(name):
                gc.collect()
                self.check(name, make, again)

    def test_tuples_of_each_size(self):
        for size in range(1, 21):
            with self.subTest(size=size):
                scope = {}
                exec(f'def make(i):\n    return ({"i," * size})\n'
                     f'\ndef again(i):\n    return ({"i," * size})\n', scope)
                gc.collect()
                self.check('tuple', scope['make'], scope['again'])

    @unittest.skipIf(FLAVOUR != 'track', 'nothing is parked')
    def test_stats_count_blocks_and_bytes(self):
        with Tracing():
            gc.collect()
            keep = [[] for i in range(N)]
            empty = tracemalloc.get_freelist_stats()['list']
            del keep
            blocks, size = tracemalloc.get_freelist_stats()['list']
        header = 16
        self.assertGreaterEqual(blocks - empty[0], N - 2)
        self.assertEqual(size - empty[1],
                         (blocks - empty[0]) * (list.__basicsize__ + header))

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

    def parked(self, name):
        blocks, size = tracemalloc.get_freelist_stats()[name]
        self.assertEqual(blocks == 0, size == 0)
        return blocks

    def test_deque_blocks(self):
        with Tracing():
            keep = collections.deque(range(64 * 30))
            before = self.parked('deque_block')
            while keep:
                keep.pop()
            after = self.parked('deque_block')
            del keep
            gone = self.parked('deque_block')
        self.assertEqual(before, 0)
        self.assertEqual(gone, 0)
        if FLAVOUR == 'ignore':
            self.assertEqual(after, 0)
        else:
            self.assertGreater(after, 1)

    def test_profiler_contexts(self):
        profile = cProfile.Profile()

        def nest(depth):
            return depth and nest(depth - 1)

        with Tracing():
            profile.enable()
            nest(20)
            profile.disable()
            after = self.parked('profiler')
            profile.clear()
            del profile
            gone = self.parked('profiler')
        self.assertEqual(gone, 0)
        if FLAVOUR == 'ignore':
            self.assertEqual(after, 0)
        else:
            self.assertGreaterEqual(after, 20)

    def test_future_iterators_and_async_generators(self):

        async def numbers():
            for i in range(N):
                yield i

        async def wait():
            loop = asyncio.get_running_loop()
            for i in range(N):
                future = loop.create_future()
                loop.call_soon(future.set_result, i)
                await future
            return [i async for i in numbers()]

        with Tracing():
            self.assertEqual(asyncio.run(wait()), list(range(N)))
            stats = tracemalloc.get_freelist_stats()
        for name in 'async_gen', 'async_gen_asend', 'future_iter':
            blocks, size = stats[name]
            if FLAVOUR == 'track' or (FLAVOUR == 'disable'
                                      and name in ALWAYS):
                self.assertGreater(blocks, 0, name)
                self.assertGreater(size, blocks, name)
            else:
                self.assertEqual((blocks, size), (0, 0), name)


if __name__ == '__main__':
    unittest.main()
