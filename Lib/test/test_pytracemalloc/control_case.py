"""A control socket in this process, for tests of it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
import unittest

from pytracemalloc.client import Client
from pytracemalloc import control


class ControlCase(unittest.TestCase):
    def setUp(self):
        self.addCleanup(tracemalloc.stop)
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'c.sock')

    def serve(self, path=None):
        """A server that is gone, and its thread, after the test."""
        server = control.serve(path or self.path)
        self.addCleanup(server._thread.join, 60)
        self.addCleanup(server.close)
        return server

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(30)
        client.connect(self.path)
        return client

    def ask_raw(self, data):
        """Send one request as it is, return the answer."""
        client = self.connect()
        client.sendall(data + b'\n')
        with client.makefile('rb') as lines:
            return json.loads(lines.readline())

    def check_alive(self, seconds=5):
        """A client of good will is served, and soon."""
        start = time.monotonic()
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], os.getpid())
        self.assertLess(time.monotonic() - start, seconds)

    def python(self, code, *arguments, **options):
        return subprocess.run(
            [sys.executable, '-c', textwrap.dedent(code), *arguments],
            capture_output=True, text=True, **{'timeout': 60} | options)
