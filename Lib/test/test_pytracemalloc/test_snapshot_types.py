"""Types whose layout changes from one series to the next: what belongs to an
object is what sys.getsizeof() says, and nothing of it stays."""

import builtins
import sys
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import (
    DEBUG_HOOKS, FLAVOUR, Tracing)


def sizes_of(make):
    """{type: (size, count)} of the live blocks of a function's own lines."""
    lines = {line for *_, line in make.__code__.co_lines()}
    found = {}
    for stat in tracemalloc.take_snapshot().statistics('type+lineno'):
        name, filename, line = stat.key
        if filename == __file__ and line in lines:
            size, count = found.get(name, (0, 0))
            found[name] = size + stat.size, count + stat.count
    return found


@unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
@unittest.skipIf(FLAVOUR == 'ignore', 'what was on a free list is traced')
class TypeTest(unittest.TestCase):
    def check(self, make, *types):
        """All that make() leaves is a block of each type, and in all as large
        as sys.getsizeof() says; without the object there is nothing."""
        with Tracing():
            made = make()
            found = sizes_of(make)
            self.assertEqual({name: count for name, (_, count)
                              in found.items()}, dict.fromkeys(types, 1))
            self.assertEqual(sum(size for size, _ in found.values()),
                             sys.getsizeof(made))
            del made
            self.assertEqual(sizes_of(make), {})

    def test_bytearray(self):
        def make():
            return bytearray(1000)
        self.check(make, 'bytearray', '<bytearray buffer>')

        def make():
            return bytearray()
        self.check(make, 'bytearray')

        def make():
            return bytearray(b'ab' * 500)[:10]
        self.check(make, 'bytearray', '<bytearray buffer>')

    def test_bytearray_that_grows_and_shrinks(self):
        def make():
            made = bytearray(10)
            made += bytes(5000)
            del made[20:]
            made.extend(range(200))
            del made[:7]
            return made
        self.check(make, 'bytearray', '<bytearray buffer>')

    @unittest.skipUnless(hasattr(bytearray, 'take_bytes'),
                         'bytearray.take_bytes() is new in 3.15')
    def test_bytearray_that_gives_its_bytes_away(self):
        def make():
            return bytearray(10_000)

        with Tracing():
            made = make()
            taken = made.take_bytes()
            self.assertEqual(sizes_of(make), {
                'bytearray': (sys.getsizeof(made), 1),
                'bytes': (sys.getsizeof(taken), 1)})
            del made, taken
            self.assertEqual(sizes_of(make), {})

    @unittest.skipUnless(hasattr(builtins, 'frozendict'),
                         'frozendict is new in 3.15')
    def test_frozendict(self):
        given = {f'key {number}': number for number in range(100)}

        def make():
            return frozendict(given)                            # noqa: F821
        self.check(make, 'frozendict', '<dict keys>')

        def make():
            return frozendict(given) | {1: 2}                   # noqa: F821
        self.check(make, 'frozendict', '<dict keys>')

        class Mine(frozendict):                                 # noqa: F821
            __slots__ = ()

        def make():
            return Mine(given)
        self.check(make, f'{__name__}.{Mine.__qualname__}', '<dict keys>')


if __name__ == '__main__':
    unittest.main()
