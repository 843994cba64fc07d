"""Attacks on the HTTP endpoint: other sites, floods, requests without an end.

The program is a process of its own; its memory and its threads are read from
outside while it is attacked, and it must go on.
"""

import contextlib
import random
import re
import resource
import select
import socket
import subprocess
import sys
import textwrap
import time
import tracemalloc
import unittest
from unittest import mock

from pytracemalloc import http
from test.test_pytracemalloc.helpers import SANITIZED

PROGRAM = '''
    import sys, tracemalloc
    from pytracemalloc import http
    tracemalloc.start()
    server = http.serve(host=sys.argv[1], hosts=sys.argv[2:])
    print(server.port, flush=True)
    sys.stdin.read()
    '''
GET = b'GET /debug/pprof/%b HTTP/1.1\r\nHost: localhost\r\n\r\n'


class Program:
    """A program with the endpoint."""

    def __init__(self, host='127.0.0.1', *names):
        self.process = subprocess.Popen(
            [sys.executable, '-c', textwrap.dedent(PROGRAM), host, *names],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def end(self):
        self.process.communicate()
        return self.process.returncode

    def connect(self):
        connection = socket.create_connection(('127.0.0.1', self.port), 30)
        return connection

    def ask(self, request):
        """Return (status, the whole answer)."""
        with self.connect() as connection:
            connection.sendall(request)
            return parse(read_all(connection))

    def figure(self, name):
        with open(f'/proc/{self.process.pid}/status') as file:
            return int(re.search(rf'(?m)^{name}:\s+(\d+)', file.read())[1])


def read_all(connection):
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            parts.append(data)
    return b''.join(parts)


def parse(answer):
    match = re.match(rb'HTTP/1\.\d (\d{3}) ', answer)
    return (int(match[1]) if match else None), answer


class HostileCase(unittest.TestCase):
    host, names = '127.0.0.1', ()

    def setUp(self):
        self.program = Program(self.host, *self.names)
        self.addCleanup(self.program.end)

    def check_alive(self, seconds=5):
        start = time.monotonic()
        status, answer = self.program.ask(GET % b'heap')
        self.assertEqual(status, 200, answer[:200])
        self.assertLess(time.monotonic() - start, seconds)
        self.assertIsNone(self.program.process.poll())


class HostTest(HostileCase):
    GOOD = ['localhost', 'LOCALHOST:80', 'localhost.', '127.0.0.1:6060',
            '127.1.2.3', '[::1]:80', '[::1]']
    BAD = ['evil.example', 'evil.example:80', 'localhost.evil.example',
           'evil.localhost', '127.0.0.1.evil.example', 'xlocalhost', '', ' ',
           'localhost@evil.example', 'evil.example@localhost', 'local host',
           'localhost, evil.example', '[evil.example]', '127.1', '2130706433',
           '0x7f000001', '127.0.0.1:80:80', 'localhost:80/', '*', 'x' * 1000]
    REMOTE = ['10.0.0.1', '192.0.2.7:6060', '[2001:db8::1]:80']

    def status_of(self, host, version='1.1', path='/debug/pprof/heap'):
        head = '' if host is None else f'Host: {host}\r\n'
        status, answer = self.program.ask(
            f'GET {path} HTTP/{version}\r\n{head}\r\n'.encode())
        if status != 200:
            self.assertNotIn(b'\x1f\x8b', answer)
            head, _, body = answer.partition(b'\r\n\r\n')
            self.assertEqual(body.count(b'\n'), 1)
        return status

    def check(self, good, bad):
        for host in good:
            self.assertEqual(self.status_of(host), 200, host)
        for host in bad:
            self.assertEqual(self.status_of(host), 403, host)

    def test_of_a_loopback_server(self):
        self.check(self.GOOD, self.BAD + self.REMOTE)
        for path in '/', '/debug/pprof/', '/debug/pprof/heap?seconds=600':
            self.assertEqual(self.status_of('evil.example', path=path), 403)

    def test_host_that_is_missing_or_there_twice(self):
        self.assertEqual(self.status_of(None), 400)
        # No browser asks so.
        self.assertEqual(self.status_of(None, '1.0'), 200)
        for hosts in ('localhost\r\nHost: localhost',
                      'localhost\r\nhost: evil.example'):
            self.assertEqual(self.status_of(hosts), 400)

    def test_whole_url(self):
        heap = '/debug/pprof/heap'
        for url, host, status in (
                (f'http://localhost{heap}', 'localhost', 200),
                (f'http://evil.example{heap}', 'localhost', 403),
                (f'http://localhost{heap}', 'evil.example', 403),
                (f'http://u@localhost{heap}', 'localhost', 403),
                (f'//evil.example{heap}', 'localhost', 404),
                (f'https://localhost{heap}', 'localhost', 400),
                ('http://[::1', 'localhost', 400),
                ('*', 'localhost', 400), ('localhost:80', 'localhost', 400)):
            with self.subTest(url):
                self.assertEqual(self.status_of(host, path=url), status)


class AllowedHostTest(HostTest):
    names = 'shop.example', 'Other.Example.'

    def test_of_a_loopback_server(self):
        self.check(self.GOOD + ['shop.example', 'SHOP.example:6060',
                                'other.example'],
                   self.BAD + self.REMOTE + ['sub.shop.example'])


class OpenHostTest(HostTest):
    host = ''

    def test_of_a_loopback_server(self):
        # Of other machines an address is as good; a name is not.
        self.check(self.GOOD + self.REMOTE, self.BAD)


class AnyHostTest(HostTest):
    names = '*',

    def test_of_a_loopback_server(self):
        self.check(self.GOOD + self.REMOTE + ['evil.example'], ['a b', '[x]'])

    def test_whole_url(self):
        self.assertEqual(self.status_of('a.example', path=(
            'http://b.example/debug/pprof/heap')), 200)


class FloodTest(HostileCase):
    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 1500:
            self.skipTest('needs 1,500 open files')
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE,
                        (soft, hard))
        super().setUp()
        self.check_alive()        # all is imported
        self.memory = self.program.figure('VmRSS')

    def check_bounds(self, threads, memory):
        """*threads*: beside the main one and the server's; *memory*: KiB
        more than before."""
        self.assertLessEqual(self.program.figure('Threads'), 2 + threads)
        if not SANITIZED:
            self.assertLessEqual(self.program.figure('VmRSS') - self.memory,
                                 memory)

    def open(self, count, request):
        connections = []
        for _ in range(count):
            connection = self.program.connect()
            self.addCleanup(connection.close)
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
            connections.append(connection)
        return connections

    def test_thousand_that_wait(self):
        start = time.monotonic()
        connections = self.open(1000, GET % b'heap?seconds=600')
        waiting, refused = [], 0
        while len(waiting) + refused < 1000:
            answered = select.poll()
            for connection in connections:
                answered.register(connection, select.POLLIN)
            if not (ready := dict(answered.poll(5000))):
                waiting = connections
                break
            for connection in connections[:]:
                if connection.fileno() in ready:
                    status, answer = parse(read_all(connection))
                    self.assertEqual(status, 503)
                    self.assertIn(b'\r\nRetry-After: 10\r\n', answer)
                    connections.remove(connection)
                    connection.close()
                    refused += 1
            self.check_bounds(8, 20_000)
        self.assertEqual((len(waiting), refused), (8, 992))
        self.assertLess(time.monotonic() - start, 30)
        self.check_alive()        # profiles of now are made meanwhile
        for connection in waiting:
            connection.close()
        end = time.monotonic() + 10
        while self.program.figure('Threads') > 2:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        status, _ = self.program.ask(GET % b'heap?seconds=1')
        self.assertEqual(status, 200)

    def test_half_requests(self):
        for half in b'', b'GET /deb', GET[:-2] % b'heap':
            connections = self.open(400, half)
            self.check_bounds(1, 20_000)
            time.sleep(1.1)       # then they lose their places
            self.check_alive()
            for connection in connections:
                connection.close()
        self.check_alive()

    def test_bytes_that_drip(self):
        [connection] = self.open(1, b'GET / HTTP/1.1\r\n')
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < 30:
                connection.sendall(b'A: b\r\n')
                if select.select([connection], [], [], 0.2)[0]:
                    break
        self.assertLess(time.monotonic() - start, 15)
        self.assertEqual(parse(read_all(connection))[0], 408)
        self.check_alive()

    def test_gigabyte_of_headers(self):
        for line in b'A: ' + b'x' * 1000 + b'\r\n', b'x' * 1000, b'\0' * 1000:
            [connection] = self.open(1, b'GET / HTTP/1.1\r\nHost: x\r\n')
            sent, start = 0, time.monotonic()
            block = line * 1000
            with contextlib.suppress(ConnectionError):
                while sent < 1 << 30:
                    sent += connection.send(block)
                    self.check_bounds(1, 10_000)
            self.assertLess(time.monotonic() - start, 10)
            self.check_alive()

    def test_answers_that_are_not_read(self):
        connections = self.open(200, GET % b'heap')
        self.check_bounds(8, 40_000)
        end = time.monotonic() + 20
        while self.program.ask(GET % b'heap')[0] != 200:
            self.assertLess(time.monotonic(), end)
        for connection in connections:
            status, _ = parse(read_all(connection))
            self.assertIn(status, (200, 503))


class RequestTest(HostileCase):
    def test_bad_requests(self):
        host = b'Host: localhost\r\n\r\n'
        for request, status in (
                (b'\r\n\r\n', 400), (b'GET\r\n\r\n', 400),
                (b'GET /\r\n\r\n', 400), (b'get / HTTP/1.1\r\n' + host, 400),
                (b'GET / HTTP/2.0\r\n' + host, 400),
                (b'GET / HTTP/1.10\r\n' + host, 400),
                (b'GET  / HTTP/1.1\r\n' + host, 400),
                (b'GET / x HTTP/1.1\r\n' + host, 400),
                (b'\x16\x03\x01\x02\x00\x01' + b'\r\n\r\n', 400),
                (b'GET /%b HTTP/1.1\r\n' % (b'x' * 5000) + host, 414),
                (b'GET / HTTP/1.1\r\n' + b'A: b\r\n' * 5000 + host, 431),
                (b'GET / HTTP/1.1\r\nA: %b\r\n' % (b'x' * 17_000) + host,
                 431),
                (b'POST / HTTP/1.1\r\nContent-Length: 5\r\n' + host + b'12345',
                 405),
                (b'%b / HTTP/1.1\r\n' % (b'X' * 1000) + host, 400),
                (b'GET /?%b HTTP/1.1\r\n' % (b'a=1&' * 30) + host, 400),
                (b'GET /debug/pprof/heap?seconds=%b HTTP/1.1\r\n'
                 % b'\xd9\xa1' + host, 400),
                (b'GET / HTTP/1.1\n' + b'Host: localhost\n\n', 200),
                (b'GET / HTTP/1.0\r\n\r\n' + b'GET /x HTTP/1.0\r\n\r\n', 200)):
            with self.subTest(request[:40]):
                found, answer = self.program.ask(request)
                self.assertEqual(found, status, answer)
                self.assertEqual(answer.count(b'HTTP/1.1 '), 1)
        self.check_alive()

    def test_head_has_no_body(self):
        for path, host, status in (('/', 'localhost', 200),
                                   ('/', 'evil.example', 403),
                                   ('/x', 'localhost', 404)):
            found, answer = self.program.ask(
                f'HEAD {path} HTTP/1.1\r\nHost: {host}\r\n\r\n'.encode())
            self.assertEqual(found, status)
            self.assertTrue(answer.endswith(b'\r\n\r\n'))


class UnderstandTest(unittest.TestCase):
    """In this process, without a network."""

    def test_random_requests(self):
        source = random.Random(20260517)
        words = [b'GET', b'HEAD', b' ', b'/', b'debug/pprof/heap', b'\r\n',
                 b'Host:', b'localhost', b'HTTP/1.1', b'HTTP/1.0', b'?', b'&',
                 b'seconds=', b'9', b'%00', b'%', b':', b'[', b']', b'\0',
                 b'\xff', b'@', b'http://', b'gc', b'=', b'#', b';', b'\n']
        server = http.serve()
        self.addCleanup(server.close)
        for _ in range(20_000):
            head = b''.join(source.choices(words, k=source.randrange(12)))
            if source.random() < .7:
                head = (b'GET /' + head.replace(b' ', b'').replace(b'\n', b'')
                        + b' HTTP/1.1\r\nHost: localhost')
            with contextlib.suppress(http.Problem):
                server._understand(head)

    def test_no_name_is_looked_up(self):
        # A resolver that does not answer would hold up the program.
        def fail(*arguments):
            raise AssertionError('a name is looked up')

        with mock.patch.multiple(socket, getfqdn=fail, gethostbyaddr=fail,
                                 gethostbyname=fail, getaddrinfo=fail,
                                 getnameinfo=fail):
            http.serve().close()

    def test_whatever_a_profile_raises(self):
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start()
        server = http.serve()
        self.addCleanup(server.close)
        for exc, status in ((MemoryError(), 503), (RuntimeError('x'), 503),
                            (OverflowError('a\nb\ud800'), 500)):
            with mock.patch.object(tracemalloc, 'take_snapshot',
                                   side_effect=exc), \
                    socket.create_connection((server.host, server.port),
                                             30) as connection:
                connection.sendall(GET % b'heap')
                found, answer = parse(read_all(connection))
            self.assertEqual(found, status)
            self.assertEqual(answer.partition(b'\r\n\r\n')[2].count(b'\n'), 1)
        self.assertEqual(server._counts, {False: 0, True: 0})


if __name__ == '__main__':
    unittest.main()
