"""Attacks on the control socket by clients that send anything, or never read.

Nothing that a client sends may end the thread, or keep it from others.
"""

import contextlib
import json
import os
import random
import resource
import socket
import string
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import unittest
from unittest import mock

from pytracemalloc import control

from test.support import Py_DEBUG
from test.test_pytracemalloc.control_case import ControlCase
from test.test_pytracemalloc.helpers import SANITIZED


class RequestTest(ControlCase):
    """What one client sends."""

    HUGE = b'1' + b'0' * 30

    def setUp(self):
        super().setUp()
        self.server = self.serve()

    def test_the_thread_lives_on(self):
        for line in (b'{"command":"start","frames":%b}' % self.HUGE,
                     b'{"command":"start","frames":-%b}' % self.HUGE,
                     b'{"command":"start","frames":1e999}',
                     b'{"command":"start","frames":NaN}',
                     b'{"command":"start","frames":-Infinity}',
                     b'{"command":"start","frames":' + b'9' * 5000 + b'}',
                     b'{"command":"start","frames":true}',
                     b'{"command":"start","frames":2147483648}',
                     b'{"command":"start","frames":"\\ud800"}',
                     b'{"command":"statistics","limit":%b}' % self.HUGE,
                     b'{"command":"statistics","limit":false}',
                     b'{"command":"native","limit":%b}' % self.HUGE,
                     b'{"command":"native","key":"lineno"}',
                     b'{"command":"native","order":"peak_size"}',
                     b'{"command":"native","include":[1]}',
                     b'{"command":"statistics","include":[1]}',
                     b'{"command":"statistics","include":[["a"]]}',
                     b'{"command":"statistics","include":["%b"]}'
                     % (b'a' * 2000),
                     b'{"command":"statistics","include":[%b"a"]}'
                     % (b'"a",' * 64),
                     b'{"command":"snapshot","path":"/\\u0000"}',
                     b'{"command":"snapshot","path":"/\\ud800"}',
                     b'{"command":"snapshot","path":"/%b"}' % (b'x' * 5000),
                     b'{"command":"snapshot","path":{}}',
                     b'{"command":"\\ud800"}', b'{"\\ud800":1}',
                     b'{"command":"status","\\udcff":1}',
                     b'[' * 60_000, b'{"a":' * 12_000, b'[{},' * 15_000,
                     b'{"command":' + b'[' * 60_000, b'\x00' * 60_000,
                     b'"' * 60_000, b'\xff' * 60_000, b'1' * 60_000):
            with self.subTest(line[:60]):
                problem = self.ask_raw(line)['error']
                self.assertNotIn('\n', problem)
                self.assertLessEqual(len(problem), 1100)
                self.check_alive()

    @unittest.skipIf(SANITIZED or Py_DEBUG, 'such a build needs larger stacks')
    def test_small_stacks(self):
        # JSON in C recurses on a stack whose size the program has chosen.
        process = self.python('''
            import json, socket, sys, threading, tracemalloc
            from pytracemalloc import control
            threading.stack_size(64 << 10)
            server = control.serve(sys.argv[1])
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(sys.argv[1])
                lines = client.makefile('rb')
                for request in (b'[' * 60_000, b'{"a":' * 12_000,
                                b'{"command": "start", "frames": '
                                + b'[' * 30_000 + b']' * 30_000 + b'}',
                                b'{"command": "start"}',
                                b'{"command": "statistics"}'):
                    client.sendall(request + b'\\n')
                    answer = json.loads(lines.readline())
                    print('error' in answer)
            ''', os.path.join(self.directory, 'small.sock'))
        self.assertEqual((process.returncode, process.stdout.split()), (
            0, ['True'] * 3 + ['False'] * 2), process.stderr)

    def test_random_requests(self):
        # Whatever comes, answer() returns an answer, soon.
        tracemalloc.start()
        source = RandomRequests(self.directory, 20260517)
        end = time.monotonic() + 10
        for _ in range(3000):
            line = source.line()
            start = time.monotonic()
            answer = control.answer(line)
            self.assertLess(time.monotonic() - start, 5, line)
            self.assertIsInstance(answer, dict, line)
            self.assertIsInstance(answer.get('error', ''), str, line)
            self.assertNotIn('\n', answer.get('error', ''), line)
            json.dumps(answer, allow_nan=False)
            if start > end:
                break
        self.assertEqual(os.listdir(source.untouched), ['file'])
        with open(os.path.join(source.untouched, 'file')) as file:
            self.assertEqual(file.read(), 'precious')

    def test_whatever_a_command_raises(self):
        for exc in (ZeroDivisionError('a\nb'), OverflowError(), SyntaxError(),
                    StopIteration(), AssertionError(), UnicodeError(),
                    EOFError(), ImportError(), LookupError(), Warning()):
            with mock.patch.object(tracemalloc, 'take_snapshot',
                                   side_effect=exc):
                tracemalloc.start()
                answer = self.ask_raw(b'{"command": "statistics"}')
            self.assertEqual(list(answer), ['error'])
        with mock.patch.object(sys, 'orig_argv', [object()]):
            self.assertIn('plain data', self.ask_raw(b'{"command": "status"}')[
                'error'])
        self.check_alive()

    def test_patterns_that_are_hard_to_match(self):
        tracemalloc.start()
        for pattern in ('*a' * 400, '*[!z]' * 200, '?*' * 400, '[a-' * 300,
                        '*' * 1000 + 'b', '**?[[]*' * 100):
            request = {'command': 'statistics', 'include': [pattern] * 55}
            start = time.monotonic()
            self.ask_raw(json.dumps(request).encode())
            self.assertLess(time.monotonic() - start, 5, pattern[:20])


class RandomRequests:
    """Requests that are nearly right, and some that are not."""

    def __init__(self, directory, seed):
        self.random = random.Random(seed)
        self.untouched = os.path.join(directory, 'untouched')
        os.mkdir(self.untouched)
        file = os.path.join(self.untouched, 'file')
        with open(file, 'w') as stream:
            stream.write('precious')
        link, fifo = (os.path.join(directory, name)
                      for name in ('link', 'fifo'))
        os.symlink(file, link)
        os.mkfifo(fifo)
        self.paths = ['', 'a', '/', directory, f'{directory}/new', link, fifo,
                      '/dev/null', '/dev/full', '/proc/self/mem/x',
                      '/nowhere/a', f'{file}/a', '\0', '/\ud800']

    def line(self):
        command = self.random.choice(list(control.COMMANDS))
        _, arguments = control.COMMANDS[command]
        request = {'command': command} | {
            name: self.argument(name) for name in arguments
            if self.random.random() < .6}
        if self.random.random() < .1:
            request[self.text()] = self.value(0)
        if self.random.random() < .1:
            request = self.value(0)
        line = bytearray(json.dumps(request).encode())
        if self.random.random() < .2:
            for _ in range(self.random.randrange(1, 4)):
                line[self.random.randrange(len(line))] = \
                    self.random.randrange(256)
        return bytes(line)

    def argument(self, name):
        if self.random.random() < .2:
            return self.value(0)
        known = {'path': self.paths,
                 'frames': [1, 25, 65535, 65536, 0, 'full', 'x'],
                 'key': ['lineno', 'filename', 'function', 'module', 'type',
                         'traceback', 'address', 'domain', 'type+lineno'],
                 'order': ['size', 'count', 'total_size', 'peak_size', 'x'],
                 'limit': [0, 1, 10, 10_000, 10_001, -1],
                 'include': [['*'], ['*.py', '[', '[a'], [], ['/x']]}
        return self.random.choice(known.get(name, [True, False]))

    def value(self, depth):
        kind = self.random.randrange(9 if depth < 4 else 7)
        if kind == 7:
            return [self.value(depth + 1)
                    for _ in range(self.random.randrange(4))]
        if kind == 8:
            return {self.text(): self.value(depth + 1)
                    for _ in range(self.random.randrange(4))}
        return (None, True, self.random.getrandbits(200) - (1 << 199),
                self.random.choice([float('nan'), float('inf'), -0.0, 1e300]),
                self.random.randrange(-3, 70_000), self.text(),
                self.random.choice(string.punctuation))[kind]

    def text(self):
        return ''.join(self.random.choice('a*[]?/\0\n"\\\ud800\udcff\u202e')
                       for _ in range(self.random.randrange(8)))


class ClientsTest(ControlCase):
    """Many clients, and slow ones."""

    def setUp(self):
        super().setUp()
        self.server = self.serve()

    def fill(self, client):
        """Ask for more than the connection holds, and read nothing."""
        client.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                client.send(b'{"command": "status"}\n' * 1000)

    def test_clients_that_never_read(self):
        self.server.answer_time = 2.0
        clients = [self.connect() for _ in range(100)]
        for client in clients:
            self.fill(client)
        # Very many requests are answered first, slowly under a sanitizer.
        self.check_alive(30 if SANITIZED else 5)
        end = time.monotonic() + 20
        while len(self.server._clients) > 3:      # they are let go
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)
        self.check_alive()

    def test_answers_that_are_not_taken_have_a_bound(self):
        self.server.max_untaken = 100_000
        big = mock.patch.object(control, 'answer', lambda line: {
            'argv': ['x' * 400_000]} if line == b'big' else {'pid': 1})
        with big:
            for _ in range(10):
                client = self.connect()
                client.sendall(b'big\n')
            self.assertEqual(self.ask_raw(b'small'), {'pid': 1})
            self.assertLessEqual(sum(len(client.output) for client
                                     in self.server._clients.values()),
                                 100_000)

    def test_answers_have_a_greatest_length(self):
        with mock.patch.object(control, '_status', lambda: {
                'argv': ['x' * 9_000_000]}), \
                mock.patch.dict(control.COMMANDS, {
                    'status': (lambda: control._status(), {})}):
            self.assertIn('ask for fewer rows', self.ask_raw(
                b'{"command": "status"}')['error'])

    def test_half_requests(self):
        self.server.request_time = 0.5
        clients = [self.connect() for _ in range(50)]
        for client in clients:
            client.sendall(b'{"command": ')
        self.check_alive(0.4)
        for client in clients:
            # A byte now and then gives no more time.
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                client.sendall(b' ')
        for client in clients:
            with client.makefile('rb') as lines:
                self.assertIn('not complete after', json.loads(
                    lines.readline())['error'])
        self.check_alive()

    def test_requests_without_an_end(self):
        client = self.connect()
        client.setblocking(False)
        sent, end = 0, time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(b'x' * 65536)
                self.assertLessEqual(
                    sum(len(client.received) for client
                        in list(self.server._clients.values())), 1 << 17)
        self.check_alive()
        self.assertLess(time.monotonic(), end)

    def test_idle_clients_give_place(self):
        self.server.idle_time = 0.2
        clients = [self.connect() for _ in range(self.server.max_clients)]
        time.sleep(0.4)
        for _ in range(3):
            self.check_alive()
            self.connect()
        with clients[0].makefile('rb') as lines:
            self.assertIn('clients are connected', json.loads(
                lines.readline())['error'])
        # The one that does something keeps its own.
        clients[-1].sendall(b'{"command": "status"}\n')
        self.assertIn(b'pid', clients[-1].recv(1000))

    def test_thousand_connections(self):
        threads = threading.active_count()
        self.server.idle_time = 0.05
        clients = []
        while len(clients) < 500:
            with contextlib.suppress(BlockingIOError):    # all at once
                clients.append(self.connect())
                clients.append(self.connect())
                clients.pop(0).close()
            time.sleep(0.001)
            self.assertLessEqual(len(self.server._clients), 260)
        self.check_alive()
        self.assertEqual(threading.active_count(), threads)

    def test_program_that_closes_descriptors(self):
        # As daemons do.  The thread must not go round in circles.
        process = subprocess.run([sys.executable, '-c', textwrap.dedent('''
            import contextlib, os, socket, sys
            from pytracemalloc import control
            server = control.serve(sys.argv[1])
            os.closerange(3, 100)
            # A newcomer wakes the thread, unless that has noticed already; the
            # number of its descriptor may be one that the thread closes.
            with contextlib.suppress(OSError), \\
                    socket.socket(socket.AF_UNIX) as newcomer:
                newcomer.connect(sys.argv[1])
            server._thread.join(10)
            assert not server._thread.is_alive()
            '''), self.path + '2'], capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stderr), (0, ''))

    def test_no_descriptor_is_left(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        waiting = self.connect()
        self.check_alive()        # by now it is accepted
        late = socket.socket(socket.AF_UNIX)
        self.addCleanup(late.close)
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (len(os.listdir('/proc/self/fd')) - 1, limits[1]))
        late.connect(self.path)
        late.sendall(b'{"command": "status"}\n')
        # Who is connected is served meanwhile.
        waiting.settimeout(0.5)
        waiting.sendall(b'{"command": "status"}\n')
        self.assertIn(b'pid', waiting.recv(1000))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        late.settimeout(5)
        self.assertIn(b'pid', late.recv(1000))

if __name__ == '__main__':
    unittest.main()
