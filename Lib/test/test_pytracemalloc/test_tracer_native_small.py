"""Native memory: small blocks, which are known by their addresses, beside
others at the same or neighbouring addresses, and beside all that moves nodes
or asks about one block."""
import ctypes
import os
import random
import threading
import tracemalloc
import unittest

import _tracemalloc
from test import support
from test.support import import_helper
from test.test_pytracemalloc.helpers import SANITIZED, line_of
from test.test_pytracemalloc.native_case import (
    POINTER, SIZE, NativeCase, calloc, free, function, malloc, native_traces,
    realloc)

_testcapi = import_helper.import_module('_testcapi')
_testinternalcapi = import_helper.import_module('_testinternalcapi')

SMALL = 512                       # bytes: larger ones may be in the map
CELL_MAX = 2 ** 19 - 1            # and still larger ones are
EDGE = range(SMALL - 7, SMALL + 9)      # the C library has one size for these


def with_gil(name, result, *arguments):
    found = getattr(ctypes.PyDLL(None), name)
    found.restype, found.argtypes = result, arguments
    return found


malloc_with_gil = with_gil('malloc', POINTER, SIZE)
free_with_gil = with_gil('free', None, POINTER)


def traceback_of(block):
    return _testinternalcapi._PyTraceMalloc_GetTraceback(
        tracemalloc.NATIVE_DOMAIN, block)


@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class SmallTests(NativeCase):

    def test_every_size(self):
        before = self.live()
        blocks = {malloc(size): size for size in range(2 * SMALL)}
        self.assertEqual(self.live() - before, sum(blocks.values()))
        self.check_tables()
        for block, size in blocks.items():
            had = self.live()
            free(block)
            self.assertEqual(had - self.live(), size)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_large_blocks_that_lie_apart(self):
        """No table is made for each of them."""
        before = tracemalloc.get_tracemalloc_memory()
        blocks = [malloc(300_000) for _ in range(60)]
        grown = tracemalloc.get_tracemalloc_memory() - before
        for block in blocks:
            free(block)
        self.assertLess(grown, 256 * 1024)

    def test_model(self):
        """Small and large blocks at addresses that are used again."""
        before = self.live()
        rng = random.Random(5)
        blocks = {}
        for _ in range(5000):
            block = rng.choice(list(blocks)) if len(blocks) > 50 else None
            choice = rng.randrange(4)
            size = rng.choice([0, 1, 15, 16, 17, 100, *EDGE, 5000, 70000,
                               CELL_MAX, CELL_MAX + 1])
            blocks.pop(block, None)
            if block is None:
                blocks[rng.choice((malloc, malloc_with_gil))(size)] = size
            elif choice == 0:
                blocks[realloc(block, size or 1)] = size or 1
            elif choice == 1:
                free_with_gil(block)
                blocks[calloc(size, 1)] = size
            else:
                free(block)
            self.assertEqual(self.live() - before, sum(blocks.values()))
        self.check_tables()
        for block in blocks:
            free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_lines(self):
        """The top frame moves between lines, with and without the GIL."""
        def take():
            blocks = []
            for i in range(20):
                blocks.append(malloc(SMALL - 1))
                blocks.append(malloc_with_gil(SMALL - 3))
                blocks.append(malloc(SMALL - 5))
                blocks.extend(deeper(i))
            return blocks

        def deeper(i):
            yield malloc(SMALL - 7)
            if i % 2:
                yield object() and malloc(SMALL - 9)

        where = {SMALL - 1: line_of(take, 3), SMALL - 3: line_of(take, 4),
                 SMALL - 5: line_of(take, 5), SMALL - 7: line_of(deeper, 1),
                 SMALL - 9: line_of(deeper, 3)}
        blocks = take()
        counts = dict.fromkeys(where, 0)
        for trace in tracemalloc.take_snapshot().traces:
            if (trace.domain == tracemalloc.NATIVE_DOMAIN
                    and trace.size in where):
                frame = trace.traceback[-1]
                self.assertEqual((frame.filename, frame.lineno),
                                 where[trace.size])
                counts[trace.size] += 1
                if len(trace.traceback) > 1 and trace.size < SMALL - 5:
                    frame = trace.traceback[-2]
                    self.assertEqual((frame.filename, frame.lineno),
                                     line_of(take, 6))
        self.assertEqual(list(counts.values()), [20, 20, 20, 20, 10])
        for block in blocks:
            free(block)
        self.check_tables()

    def test_one_block(self):
        def take():
            return malloc(77)
        before = self.live()
        block = take()
        self.assertEqual(traceback_of(block)[0][1], line_of(take, 1)[1])
        self.assertIsNone(traceback_of(block ^ 16))
        self.assertIsNone(traceback_of(block + 1))
        self.assertIsNone(traceback_of((1 << 48) + 16))
        free(block)
        self.assertIsNone(traceback_of(block))
        self.assertEqual(self.live(), before)

    def test_realloc_fails(self):
        before = self.live()
        block = malloc(100)
        self.assertIsNone(realloc(block, 1 << 62))
        self.assertEqual(self.live() - before, 100)
        self.assertIsNotNone(traceback_of(block))
        free(block)
        self.assertEqual(self.live(), before)
        self.check_tables()

    def test_claim(self):
        before = tracemalloc.get_native_memory()
        block = malloc(301)
        _testcapi.tracemalloc_track(389047, block, 301)
        self.assertEqual(tracemalloc.get_native_memory(), before)
        _testcapi.tracemalloc_untrack(389047, block)
        free(block)
        self.assertEqual(tracemalloc.get_native_memory(), before)
        self.check_tables()

    def test_released_unseen(self):
        """The next block at the address takes the place of one that was
        released in a way that is not seen, whatever the sizes."""
        try:
            unseen = function('__libc_free', None, POINTER)
        except AttributeError:
            self.skipTest('not the C library of GNU')
        before = self.live()
        for first in EDGE:
            for second in EDGE:
                block = malloc_with_gil(first)
                unseen(block)
                again = malloc_with_gil(second)
                self.assertEqual(again, block)
                self.assertEqual(self.live() - before, second)
                free(again)
                self.assertEqual(self.live(), before)
        self.check_tables()

    def test_prune(self):
        tracemalloc.stop()
        tracemalloc.start(50, native=True)

        def take():
            return [malloc(SMALL - 1) for _ in range(100)]

        def down(n):
            return object() and n and down(n - 1)
        down(30)                  # nodes that will go
        blocks = take()
        for _ in range(3):
            _tracemalloc._prune_soon()
            exec('free(malloc(10)); [object() for i in range(3)]', globals())
        self.assertGreater(tracemalloc.get_tracer_stats()['pruned'], 20)
        self.check_tables()
        self.assertEqual(native_traces()[SMALL - 1], line_of(take, 1))
        for block in blocks:
            free(block)
        self.assertNotIn(SMALL - 1, native_traces())

    def test_no_memory(self):
        """A small block is in the map, or not traced, if its cells cannot be
        had; it gets none later."""
        tracemalloc.stop()
        blocks = [malloc(40) for _ in range(5000)]
        tracemalloc.start(self.nframe, native=True)
        before = self.live()
        for first in range(1, 9):
            _tracemalloc._set_nomemory(first, first + 1)
            try:
                some = [malloc(40) for _ in range(3000)]
            finally:
                _tracemalloc._set_nomemory(0)
            self.check_tables()
            self.assertIsNone(realloc(some[0], 1 << 62))
            for block in some:
                free(block)
            self.assertEqual(self.live(), before)
            tracemalloc.clear_traces()
            before = self.live()
        for block in blocks:
            free(block)
        self.check_tables()

    def test_threads(self):
        """Each thread frees what others took, with and without the GIL."""
        def work(mine, others):
            for _ in range(1500):
                mine.append(malloc(24) if len(mine) % 2
                            else malloc_with_gil(600))
                try:
                    free(others.pop())
                except IndexError:
                    pass

        self.live()
        lists = [[] for _ in range(4)]
        threads = [threading.Thread(target=work, args=(lists[i - 1], lists[i]))
                   for i in range(4)]
        before = self.live()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.check_tables()
        for blocks in lists:
            for block in blocks:
                free(block)
        self.assertLess(abs(self.live() - before), 20_000)
        mine = {24, 600}
        left = [trace for trace in tracemalloc.take_snapshot().traces
                if trace.domain == tracemalloc.NATIVE_DOMAIN
                and trace.size in mine
                and trace.traceback[-1].filename == __file__]
        self.assertEqual(left, [])

    @support.requires_fork()
    def test_fork(self):
        blocks = [malloc(40) for _ in range(1000)]
        pid = os.fork()
        if pid == 0:
            good = 0
            try:
                before = self.live()
                for block in blocks:
                    free(block)
                good = before - self.live() == 40_000
                self.check_tables()
            finally:
                os._exit(not good)
        support.wait_process(pid, exitcode=0)
        for block in blocks:
            free(block)

    def test_memory(self):
        """A quarter of the memory in which small blocks are."""
        n = 50_000
        blocks = (POINTER * n)()
        before = tracemalloc.get_tracemalloc_memory()
        for i in range(n):
            blocks[i] = malloc(104)
        more = tracemalloc.get_tracemalloc_memory() - before
        self.assertLess(more, n * 112 / 4 + 2_000_000)
        self.assertGreater(more, n * 112 / 4 / 2)
        for block in blocks:
            free(block)


class SmallTestsOneFrame(SmallTests):
    nframe = 1


class SmallTestsWholeStack(SmallTests):
    nframe = 'full'


if __name__ == '__main__':
    unittest.main()
