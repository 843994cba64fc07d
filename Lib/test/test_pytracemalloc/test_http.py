"""The HTTP endpoint, asked as collectors ask it."""

import os
import subprocess
import tempfile
import threading
import tracemalloc
import unittest
import urllib.error
import urllib.request

from tracemalloc import http

from test.test_pytracemalloc.test_pprof import HAS_GO, Profile


class HttpTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start(5)
        self.server = http.serve()
        self.addCleanup(self.server.close)

    def get(self, path):
        with urllib.request.urlopen(self.server.url + path,
                                    timeout=60) as answer:
            return answer.read()

    def status_of(self, path):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.get(path)
        text = caught.exception.read().decode()
        self.assertEqual(text.count('\n'), 1)
        caught.exception.close()
        return caught.exception.code

    def test_this_machine_alone(self):
        self.assertEqual(self.server.host, '127.0.0.1')
        self.assertEqual(self.server.url,
                         f'http://127.0.0.1:{self.server.port}/')

    def test_heap(self):
        kept = bytes(3_000_000)
        profile = Profile(self.get('debug/pprof/heap'))
        self.assertEqual(profile.strings[profile.messages[14][0]],
                         'inuse_space')
        self.assertTrue(any(
            values[3] >= len(kept) and stack[0][1] == __file__
            for stack, values, _ in profile.samples))

    def test_allocs(self):
        profile = Profile(self.get('debug/pprof/allocs'))
        self.assertEqual(profile.strings[profile.messages[14][0]],
                         'alloc_space')
        for _, (objects, space, live, live_space), _ in profile.samples:
            self.assertGreaterEqual(objects, live)
            self.assertGreaterEqual(space, live_space)

    def test_difference(self):
        before = bytes(5_000_000)
        kept = []
        timer = threading.Timer(0.4, lambda: kept.append(bytes(2_000_000)))
        timer.start()
        profile = Profile(self.get('debug/pprof/heap?seconds=1'))
        timer.join()
        self.assertEqual(profile.messages[10], [1_000_000_000])
        grown = max(values[3] for _, values, _ in profile.samples)
        self.assertGreaterEqual(grown, len(kept[0]))
        self.assertLess(grown, len(before))

    def test_garbage_collection_first(self):
        cycle = [bytes(4_000_000)]
        cycle.append(cycle)
        del cycle
        profile = Profile(self.get('debug/pprof/heap?gc=1'))
        self.assertLess(max(values[3] for _, values, _ in profile.samples),
                        4_000_000)

    def test_index(self):
        for path in ('', 'debug/pprof', 'debug/pprof/'):
            self.assertIn(b'/debug/pprof/allocs', self.get(path))

    def test_bad_requests(self):
        self.assertEqual(self.status_of('debug/pprof/cpu'), 404)
        self.assertEqual(self.status_of('../../etc/passwd'), 404)
        for seconds in ('x', '-1', '601', '1e3', '9' * 5000):
            self.assertEqual(
                self.status_of(f'debug/pprof/heap?seconds={seconds}'), 400)
        tracemalloc.stop()
        self.assertEqual(self.status_of('debug/pprof/heap'), 503)

    def test_port_in_use(self):
        with self.assertRaises(OSError):
            http.serve(self.server.port)

    def test_close_frees_the_port(self):
        server = http.serve()
        server.close()
        http.serve(server.port).close()

    @unittest.skipUnless(HAS_GO, 'needs go')
    def test_go_scrapes_it(self):
        with tempfile.TemporaryDirectory() as directory:
            result = subprocess.run(
                ['go', 'tool', 'pprof', '-top',
                 f'{self.server.url}debug/pprof/heap'],
                capture_output=True, text=True, timeout=120,
                env=os.environ | {'PPROF_TMPDIR': directory})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn('Type: inuse_space', result.stdout)


if __name__ == '__main__':
    unittest.main()
