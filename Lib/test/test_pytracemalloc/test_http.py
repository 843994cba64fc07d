"""The HTTP endpoint, asked as collectors ask it."""

import concurrent.futures
import http.client
import os
import socket
import threading
import time
import tracemalloc
import unittest
import urllib.error
import urllib.request

from test.support import captured_stderr, warnings_helper
from pytracemalloc import http as http_endpoint

from test.test_pytracemalloc.test_pprof import Profile


class HttpTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(urllib.request.urlcleanup)
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start(5)
        self.server = http_endpoint.serve()
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
        stacks = {}
        for stack, values, _ in profile.samples:
            stacks.setdefault(tuple(stack), []).append(values)
        for samples in stacks.values():
            objects, space, live, live_space = map(sum, zip(*samples))
            self.assertGreaterEqual(objects, live)
            self.assertGreaterEqual(space, live_space)

    def test_difference(self):
        before = bytes(5_000_000)
        kept = []
        # The first snapshot may take its time, and the second comes later.
        timer = threading.Timer(1.5, lambda: kept.append(bytes(2_000_000)))
        timer.start()
        profile = Profile(self.get('debug/pprof/heap?seconds=2'))
        timer.join()
        self.assertEqual(profile.messages[10], [2_000_000_000])
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

    def ask(self, method, path, **headers):
        connection = http.client.HTTPConnection(self.server.host,
                                                self.server.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()

    def test_as_a_go_program_answers(self):
        # What Go's HTTP client, and so every collector, sends.
        answer, body = self.ask('GET', '/debug/pprof/heap',
                                **{'User-Agent': 'Go-http-client/1.1',
                                   'Accept-Encoding': 'gzip'})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers['Content-Type'],
                         'application/octet-stream')
        self.assertEqual(int(answer.headers['Content-Length']), len(body))
        # The file is gzip, not the answer: a client must not unpack it.
        self.assertIsNone(answer.headers['Content-Encoding'])
        self.assertEqual(body[:2], b'\x1f\x8b')
        for path in ('/debug/pprof/heap?debug=0', '/debug/pprof/allocs/',
                     '/debug/pprof/heap?seconds=0'):
            with self.subTest(path):
                self.assertEqual(self.ask('GET', path)[0].status, 200)

    def test_head(self):
        answer, body = self.ask('HEAD', '/debug/pprof/heap')
        self.assertEqual((answer.status, body), (200, b''))
        self.assertGreater(int(answer.headers['Content-Length']), 100)

    def test_other_methods(self):
        for method in 'POST', 'OPTIONS', 'DELETE':
            answer, _ = self.ask(method, '/debug/pprof/heap')
            self.assertEqual((answer.status, answer.headers['Allow']),
                             (405, 'GET, HEAD'))

    def test_scrapes_at_the_same_time(self):
        kept = bytes(3_000_000)
        paths = ['debug/pprof/heap', 'debug/pprof/allocs',
                 'debug/pprof/heap?seconds=1'] * 3
        with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
            start = time.monotonic()
            profiles = list(map(Profile, pool.map(self.get, paths)))
            self.assertLess(time.monotonic() - start, 30)
        for path, profile in zip(paths, profiles):
            # In a second that was waited for, nothing may have changed.
            largest = max((values[3] for _, values, _ in profile.samples),
                          default=0)
            self.assertEqual(largest >= len(kept), 'seconds' not in path)

    def test_collector_that_goes_away(self):
        with socket.create_connection((self.server.host, self.server.port)
                                      ) as connection:
            connection.sendall(b'GET /debug/pprof/heap?seconds=1 HTTP/1.1\r\n'
                               b'Host: localhost\r\n\r\n')
        with captured_stderr() as stderr:
            time.sleep(1.5)
            self.get('debug/pprof/heap')
        self.assertEqual(stderr.getvalue(), '')

    @unittest.skipUnless(hasattr(os, 'fork'), 'needs fork')
    @warnings_helper.ignore_warnings(category=DeprecationWarning)
    def test_child_leaves_the_port_to_its_parent(self):
        read, write = os.pipe()
        closed, close = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            self.server.close()
            os.close(close)
            os.read(read, 1)                # until the parent has checked
            os._exit(0)
        os.close(read)
        os.close(close)
        try:
            os.read(closed, 1)
            self.assertEqual(self.ask('HEAD', '/debug/pprof/heap')[0].status,
                             200)
            self.server.close()
            http_endpoint.serve(self.server.port).close()
        finally:
            os.close(write)
            os.close(closed)
            os.waitpid(pid, 0)

    def test_index(self):
        for path in ('', 'debug/pprof', 'debug/pprof/'):
            self.assertIn(b'/debug/pprof/allocs', self.get(path))

    def test_bad_requests(self):
        self.assertEqual(self.status_of('debug/pprof/cpu'), 404)
        self.assertEqual(self.status_of('../../etc/passwd'), 404)
        for seconds in ('x', '-1', '601', '1e3', '9' * 4000):
            self.assertEqual(
                self.status_of(f'debug/pprof/heap?seconds={seconds}'), 400)
        tracemalloc.stop()
        self.assertEqual(self.status_of('debug/pprof/heap'), 503)

    def test_port_in_use(self):
        with self.assertRaises(OSError):
            http_endpoint.serve(self.server.port)

    def test_close_frees_the_port(self):
        server = http_endpoint.serve()
        server.close()
        http_endpoint.serve(server.port).close()


if __name__ == '__main__':
    unittest.main()
