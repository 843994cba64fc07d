"""Memory that the tracer takes: pages of any size."""
import tracemalloc
import unittest

import _tracemalloc

CHUNK_NODES = 4096                  # see pycore_tracer_state.h


class PageTests(unittest.TestCase):

    def many_nodes(self, nframe):
        """Allocate at more lines than the first chunk of nodes holds."""
        n = 5 * CHUNK_NODES
        code = compile('made += [{}],\n' * n, 'many lines', 'exec')
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


if __name__ == '__main__':
    unittest.main()
