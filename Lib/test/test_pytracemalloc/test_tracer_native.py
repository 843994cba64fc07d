"""Native memory: every call of the malloc family, by Python line.

The oracle is a plain model: the sizes that were asked for.
"""
import ctypes
import mmap
import os
import random
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

import _tracemalloc
from test.support import import_helper
from test.test_pytracemalloc.helpers import SANITIZED, line_of
from test.test_pytracemalloc.native_case import (
    ANONYMOUS, FAILED, MAYMOVE, PAGE, POINTER, READ_WRITE, SIZE,
    NativeCase, aligned_alloc, c_mmap, calloc, free, malloc, map_pages,
    memalign, mremap, munmap, native_traces, posix_memalign, realloc,
    reallocarray, run_python, valloc)

_testcapi = import_helper.import_module('_testcapi')


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class BlockTests(NativeCase):

    def test_family(self):
        pointer = POINTER()
        before = self.live()
        blocks = []
        for size, make in (
                (1001, lambda: malloc(1001)),
                (3 * 1007, lambda: calloc(3, 1007)),
                (2003, lambda: realloc(None, 2003)),
                (7 * 403, lambda: reallocarray(None, 7, 403)),
                (4096, lambda: aligned_alloc(64, 4096)),
                (5003, lambda: memalign(64, 5003)),
                (6007, lambda: valloc(6007)),
                (7001, lambda: (posix_memalign(pointer, 64, 7001),
                                pointer.value)[1])):
            had = self.live()
            block = make()
            self.assertEqual(self.live() - had, size)
            blocks.append(block)
            self.assertEqual(native_traces()[size][0], __file__)
        for block in blocks:
            free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_line(self):
        def take():
            first = malloc(123_457)
            return first, calloc(1, 123_459)
        blocks = take()
        traces = native_traces()
        self.assertEqual(traces[123_457], line_of(take, 1))
        self.assertEqual(traces[123_459], line_of(take, 2))
        for block in blocks:
            free(block)
        self.assertFalse({123_457, 123_459} & set(native_traces()))

    def test_realloc(self):
        before = self.live()
        block = malloc(100)
        for size in 1000, 100_000, 3_000_000, 50, 4000:
            block = realloc(block, size)
            self.assertEqual(self.live() - before, size)
        ctypes.set_errno(0)
        self.assertIsNone(realloc(block, 1 << 62))
        self.assertIsNone(reallocarray(block, 1 << 40, 1 << 40))
        self.assertEqual(self.live() - before, 4000)
        free(block)
        self.assertEqual(self.live(), before)
        self.assertIsNone(malloc(1 << 62))
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_peak(self):
        tracemalloc.reset_peak()
        before, peak = tracemalloc.get_native_memory()
        self.assertEqual(before, peak)
        free(malloc(10_000_000))
        now, peak = tracemalloc.get_native_memory()
        self.assertEqual((now, peak - before), (before, 10_000_000))
        tracemalloc.reset_peak()
        self.assertEqual(tracemalloc.get_native_memory(), (before, before))

    def test_play(self):
        """Any order of calls, in several threads, leaves what the model has,
        and what the C library has."""
        def play(seed):
            rng = random.Random(seed)
            blocks = {}
            for _ in range(3000):
                size = rng.choice([1, 24, 100, 600, 5000, 200_000])
                choice = rng.random()
                if choice < 0.4 or not blocks:
                    blocks[malloc(size)] = size
                elif choice < 0.5:
                    blocks[calloc(3, size)] = 3 * size
                elif choice < 0.6:
                    blocks[memalign(64, size)] = size
                elif choice < 0.8:
                    block = rng.choice(list(blocks))
                    del blocks[block]
                    blocks[realloc(block, size)] = size
                else:
                    block = rng.choice(list(blocks))
                    del blocks[block]
                    free(block)
            left.append(blocks)

        left = []
        threads = [threading.Thread(target=play, args=(seed,))
                   for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = {block: size for blocks in left
                for block, size in blocks.items()}
        own = {}
        for trace in tracemalloc.take_snapshot().traces:
            if (trace.domain == tracemalloc.NATIVE_DOMAIN
                    and trace.traceback[-1].filename == __file__):
                own[trace.size] = own.get(trace.size, 0) + 1
        model = {}
        for size in left.values():
            model[size] = model.get(size, 0) + 1
        self.assertEqual({size: own.get(size) for size in model}, model)
        before = self.live()
        for block in left:
            free(block)
        self.assertEqual(before - self.live(), sum(left.values()))
        self.check_tables()

    def test_clear_and_stop(self):
        block = malloc(1_000_003)
        tracemalloc.clear_traces()
        self.assertLess(self.live(), 1_000_000)
        other = malloc(2_000_003)
        self.assertIn(2_000_003, native_traces())
        free(block)               # unknown by now
        self.assertIn(2_000_003, native_traces())
        tracemalloc.stop()
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        free(other)
        tracemalloc.start()
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        block = malloc(1_000_003)
        self.assertEqual(tracemalloc.get_native_memory(), (0, 0))
        free(block)

    def test_start_later(self):
        tracemalloc.stop()
        tracemalloc.start(3)
        kept = bytes(100_003)
        tracemalloc.start(native=True)
        self.assertEqual(tracemalloc.get_traceback_limit(), 3)
        before = self.live()
        block = malloc(10_007)
        self.assertEqual(self.live() - before, 10_007)
        free(block)
        self.assertIsNotNone(tracemalloc.get_object_traceback(kept))

    def test_address_is_used_again(self):
        """A block that was freed in a way that is not seen leaves a record;
        the next block at its address takes its place."""
        block = malloc(5003)
        tracemalloc.stop()
        tracemalloc.start(native=True)
        self.assertNotIn(5003, native_traces())
        free(block)
        self.check_tables()

    def test_prune(self):
        tracemalloc.stop()
        tracemalloc.start(50, native=True)
        block = malloc(400_009)
        for _ in range(3):
            _tracemalloc._prune_soon()
            exec('free(malloc(10)); [object() for i in range(3)]', globals())
        self.assertEqual(native_traces()[400_009][0], __file__)
        self.check_tables()
        free(block)

    def test_no_memory(self):
        """Without memory for the tracer, calls work and are not counted."""
        before = self.live()
        _tracemalloc._set_nomemory(1)
        try:
            blocks = [malloc(77) for _ in range(5000)]
            maps = [map_pages(1) for _ in range(300)]
        finally:
            _tracemalloc._set_nomemory(0)
        for block in blocks:
            free(block)
        for address in maps:
            munmap(address, PAGE)
        self.assertNotIn(None, blocks)
        self.assertEqual(self.live(), before)
        self.check_tables()


class BlockTestsOneFrame(BlockTests):
    nframe = 1


class BlockTestsWholeStack(BlockTests):
    nframe = 'full'


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class OnceTests(NativeCase):
    """Nothing counts twice, and what was there before stays as it was."""

    def test_domains(self):
        before = self.live()
        kept = [bytearray(1_000_003), bytes(700), [None] * 5000,
                bytes(3_000_000)]
        kept[0].extend(bytes(2_000_000))
        objects = [object() for _ in range(100_000)]
        self.assertLess(self.live() - before, 5000)
        del kept, objects
        self.assertLess(abs(self.live() - before), 5000)

    def test_raw(self):
        api = ctypes.pythonapi
        raw_malloc = api.PyMem_RawMalloc
        raw_malloc.restype, raw_malloc.argtypes = POINTER, [SIZE]
        api.PyMem_RawRealloc.restype = POINTER
        api.PyMem_RawRealloc.argtypes = POINTER, SIZE
        api.PyMem_RawFree.argtypes = [POINTER]
        raw_malloc(1)
        before = self.live()
        block = raw_malloc(1_000_003)
        block = api.PyMem_RawRealloc(block, 2_000_003)
        self.assertEqual(self.live(), before)
        api.PyMem_RawFree(block)
        self.assertEqual(self.live(), before)

    def test_track(self):
        tracemalloc.reset_peak()
        before, peak = tracemalloc.get_native_memory()
        traced, _ = tracemalloc.get_traced_memory()
        block = malloc(3_000_001)
        _testcapi.tracemalloc_track(389047, block, 3_000_001)
        self.assertEqual(tracemalloc.get_native_memory(), (before, peak))
        self.assertGreaterEqual(tracemalloc.get_traced_memory()[0] - traced,
                                3_000_001)
        traces = [trace for trace in tracemalloc.take_snapshot().traces
                  if trace.size == 3_000_001]
        self.assertEqual([trace.domain for trace in traces], [389047])
        _testcapi.tracemalloc_untrack(389047, block)
        free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_own_domain(self):
        """Nobody else can use it."""
        block = malloc(1_000_003)
        before = self.live()
        with self.assertRaises(RuntimeError):
            _testcapi.tracemalloc_track(tracemalloc.NATIVE_DOMAIN, 16, 1000)
        _testcapi.tracemalloc_untrack(tracemalloc.NATIVE_DOMAIN, block)
        self.assertEqual(self.live(), before)
        free(block)
        self.check_tables()

    def test_hidden(self):
        """What looks at a program is not counted."""
        tracemalloc.take_snapshot()
        before = self.live()
        kept = tracemalloc.take_snapshot()
        with tempfile.TemporaryDirectory() as directory:
            kept.dump(os.path.join(directory, 'x'))
        kept.statistics('lineno')
        self.assertLess(self.live() - before, 20_000)

    def test_sums(self):
        """Traced memory and its blocks are the same with native memory."""
        code = textwrap.dedent('''
            import sys, tracemalloc
            def work():
                kept = [bytes(n) for n in range(0, 3000, 7)]
                kept += [{n: [str(n)]} for n in range(1000)]
                return kept
            work()
            tracemalloc.start(10, native=sys.argv[1] == '1')
            blocks = sys.getallocatedblocks()
            kept = work()
            stats = [0, 0]
            traces = tracemalloc.take_snapshot().traces
            for trace in traces:
                if trace.domain != tracemalloc.NATIVE_DOMAIN:
                    if 'string' in trace.traceback[-1].filename:
                        stats[0] += trace.size
                        stats[1] += 1
            print(*stats)
            ''')
        without, with_native = (run_python('-c', code, on).out
                                for on in ('0', '1'))
        self.assertEqual(with_native, without)
        self.assertNotEqual(without.split()[0], b'0')


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class MappingTests(NativeCase):

    def pages(self):
        return (self.live() - self.before) / PAGE

    def setUp(self):
        super().setUp()
        map_pages(1)
        self.before = self.live()

    def test_parts(self):
        address = map_pages(10)
        self.assertEqual(self.pages(), 10)
        munmap(address, 2 * PAGE)
        self.assertEqual(self.pages(), 8)
        munmap(address + 8 * PAGE, 2 * PAGE)
        self.assertEqual(self.pages(), 6)
        munmap(address + 4 * PAGE, PAGE)
        self.assertEqual(self.pages(), 5)
        self.assertLessEqual({2 * PAGE, 3 * PAGE}, set(native_traces()))
        munmap(address, 10 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.assertEqual(munmap(address + 1, PAGE), -1)
        self.check_tables()

    def test_several_at_once(self):
        address = map_pages(20)
        for i in range(0, 20, 2):
            munmap(address + i * PAGE, PAGE)
        self.assertEqual(self.pages(), 10)
        again = c_mmap(address, 20 * PAGE, READ_WRITE,
                       ANONYMOUS | 0x10, -1, 0)       # MAP_FIXED
        self.assertEqual((again, self.pages()), (address, 20))
        munmap(address, 20 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.check_tables()

    def test_mremap(self):
        address = map_pages(4)
        address = mremap(address, 4 * PAGE, 9 * PAGE, MAYMOVE)
        self.assertEqual(self.pages(), 9)
        address = mremap(address, 9 * PAGE, 3 * PAGE, 0)
        self.assertEqual(self.pages(), 3)
        self.assertEqual(mremap(address, 3 * PAGE, 1 << 60, MAYMOVE), FAILED)
        self.assertEqual(self.pages(), 3)
        munmap(address, 3 * PAGE)
        self.assertEqual(self.pages(), 0)
        self.check_tables()

    def test_what_is_no_memory(self):
        reserved = map_pages(100, 0)
        self.assertEqual(self.pages(), 0)
        munmap(reserved, 100 * PAGE)
        with open(__file__, 'rb') as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
                self.assertLess(self.pages(), 1)
        own = mmap.mmap(-1, 7 * PAGE)
        self.assertGreaterEqual(self.pages(), 7)
        own.close()
        self.assertLess(self.pages(), 1)
        self.check_tables()


if __name__ == '__main__':
    unittest.main()
