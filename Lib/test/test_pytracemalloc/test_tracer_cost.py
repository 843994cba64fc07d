"""What an allocation costs does not depend on what it should not."""
import time
import unittest

from test.support import import_helper
from test.test_pytracemalloc.helpers import FREE_THREADED, Tracing

_testcapi = import_helper.import_module('_testcapi')


def ratio(slow, fast, bound, seconds=30):
    """Ratio of the best times of two functions, each of them the best of many
    in turn.  A machine that does other things as well only adds to a time: the
    longer one looks, the nearer it comes.  It is enough to be within bound."""
    best = [float('inf')] * 2
    until = time.monotonic() + seconds
    rounds = 0
    while rounds < 20 or (best[0] > bound * best[1]
                          and time.monotonic() < until):
        for i, function in enumerate((slow, fast)):
            started = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - started)
        rounds += 1
    return best[0] / best[1]


def lines(n, total):
    """A function that makes `total` lists at n lines, one after the other."""
    scope = {}
    exec(compile('def f():\n' + '    x = [None, None]\n' * n, f'{n} lines',
                 'exec'), scope)
    function = scope['f']

    def run():
        for i in range(total // n):
            function()
    return run


def track_below(depth):
    """A function that tracks a block, often, so deep in the stack."""
    track = _testcapi.tracemalloc_track
    scope = {'track': track}
    exec('def recurse(depth):\n'
         '    if depth:\n'
         '        return recurse(depth - 1)\n'
         '    for i in range(1000):\n'
         '        track(7, 8, 9)\n', scope)
    return lambda: scope['recurse'](depth)


class CostTests(unittest.TestCase):

    def test_lines_of_a_function(self):
        few = lines(20, 20_000)
        many = lines(20_000, 20_000)
        for nframe in 1, 25, 'full':
            with self.subTest(nframe=nframe), Tracing(nframe):
                for i in range(60):
                    many()
                self.assertLess(ratio(many, few, 1.5), 1.5)

    @unittest.skipIf(FREE_THREADED, 'each capture walks the whole stack')
    def test_depth_of_what_an_extension_tracks(self):
        with Tracing(25):
            self.assertLess(ratio(track_below(100), track_below(1), 1.1), 1.1)


if __name__ == '__main__':
    unittest.main()
