"""References of a service under load: requests do not wait for the walk."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import unittest

from pytracemalloc.client import Client

CLIENTS = 4
ATTEMPTS = 8
SERVICE = '''
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b'%d\\n' % len([{i: [i]} for i in range(20)]))
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
kept = [{i: [i]} for i in range(300_000)]
with Server(('127.0.0.1', 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
'''


class Requests(threading.Thread):
    """One request after the other; the longest since a moment."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.socket = socket.create_connection(('127.0.0.1', port), 60)
        self.longest, self.number, self.ended = 0.0, 0, False
        self.start()

    def run(self):
        with self.socket, self.socket.makefile('rb') as answers:
            while not self.ended:
                began = time.perf_counter()
                self.socket.sendall(b'x\n')
                if answers.readline() != b'20\n':
                    return
                self.longest = max(self.longest, time.perf_counter() - began)
                self.number += 1
                time.sleep(0.001)


@unittest.skipUnless(sys.platform == 'linux', "needs clone() and memfd")
class ServiceTest(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.folder, 'c.sock')
        self.service = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=5', '-X',
             f'tracemalloc_control={self.path}', '-c', SERVICE],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.service.stdout.close)
        self.addCleanup(self.service.wait)
        self.addCleanup(self.service.kill)
        port = int(self.service.stdout.readline())
        self.requests = [Requests(port) for _ in range(CLIENTS)]
        self.addCleanup(self.end)

    def end(self):
        for requests in self.requests:
            requests.ended = True
        for requests in self.requests:
            requests.join()

    def longest(self, client, **kwargs):
        """The longest request while a snapshot is taken, in seconds."""
        for requests in self.requests:
            requests.longest, before = 0.0, requests.number
        client.ask('snapshot', path=self.folder + '/a.tracemalloc',
                   force=True, references=True, **kwargs)
        end = time.monotonic() + 60
        while requests.number == before and time.monotonic() < end:
            time.sleep(0.001)
        return max(requests.longest for requests in self.requests)

    def test_longest_request(self):
        # A busy machine gets a few attempts.
        walk, child = [], []
        with Client(self.path) as client:
            while len(walk) < ATTEMPTS and not (
                    walk and min(child) < min(walk) / 2):
                walk.append(self.longest(client, pause=True))
                child.append(self.longest(client))
        self.assertLess(min(child), min(walk) / 2, (child, walk))
        snapshot = tracemalloc.Snapshot.load(self.folder + '/a.tracemalloc')
        self.assertTrue(snapshot.has_references)
        for requests in self.requests:
            self.assertTrue(requests.is_alive())
            self.assertGreater(requests.number, 10)


if __name__ == '__main__':
    unittest.main()
