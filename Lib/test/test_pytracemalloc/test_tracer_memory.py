"""Memory that the tracer takes: pages of any size, few addresses left."""
import json
import tracemalloc
import unittest

import _tracemalloc
from test.support import import_helper, script_helper
from test.test_pytracemalloc.helpers import DEBUG_HOOKS, SANITIZED

import_helper.import_module('resource')

CHUNK_NODES = 4096                  # see pycore_tracer_state.h
NODE_BYTES = 156                    # of a node, in all four arrays


# argv[1]: addresses that are left when tracing starts.
FEW_ADDRESSES = '''
import json, resource, sys, tracemalloc
import _tracemalloc_snapshot      # its libraries are not the tracer's memory

def below(depth):
    return below(depth - 1) if depth else [bytes(10)]

left = json.loads(sys.argv[1])
with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + left, resource.RLIM_INFINITY))
tracemalloc.start(25)
kept = [below(i % 30) for i in range(10_000)]
snapshot = tracemalloc.take_snapshot()
assert sum(trace.size for trace in snapshot.traces) > 10_000 * 100
assert sum(stat.count for stat in snapshot.statistics('traceback')) > 20_000
# Most of the rest is the program's.
kept.append(bytearray(left // 3))
assert tracemalloc.get_tracer_stats()['untraced'] == 0
'''


class PageTests(unittest.TestCase):

    def many_nodes(self, nframe):
        """Allocate at more lines than the first chunk of nodes holds."""
        n = 5 * CHUNK_NODES
        # Sets are on no free list, in whatever flavour.
        code = compile('made += {0},\n' * n, 'many lines', 'exec')
        scope = {'made': []}
        tracemalloc.start(nframe)
        try:
            exec(code, scope)
            stats = tracemalloc.get_tracer_stats()
            lines = [tracemalloc.get_object_traceback(obj)[-1].lineno
                     for obj in scope['made']]
        finally:
            tracemalloc.stop()
        self.assertGreater(stats['nodes'], n)
        self.assertEqual(stats['untraced'], 0)
        self.assertEqual(lines, list(range(1, n + 1)))

    def test_pages_of_any_size(self):
        # Those of arm64 and ppc64le are up to 64 KiB.
        self.addCleanup(_tracemalloc._set_page_size, 0)
        for kib in 4, 16, 64:
            _tracemalloc._set_page_size(kib << 10)
            for nframe in 1, 25:
                with self.subTest(kib=kib, nframe=nframe):
                    self.many_nodes(nframe)


@unittest.skipIf(SANITIZED, 'a sanitizer takes addresses of its own')
@unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
class AddressTests(unittest.TestCase):
    """ulimit -v."""

    def test_most_is_left_to_the_program(self):
        # What a range of so many nodes would take, and the tracer's first
        # tables, which come before it.
        for chunks in 16, 64, 256:
            with self.subTest(chunks=chunks):
                left = chunks * CHUNK_NODES * NODE_BYTES + (1 << 20)
                script_helper.assert_python_ok('-c', FEW_ADDRESSES,
                                               json.dumps(left))


if __name__ == '__main__':
    unittest.main()
