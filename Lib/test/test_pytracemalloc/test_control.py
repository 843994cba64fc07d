"""The control socket, in this process and in one that opted in."""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
from unittest import mock

from tracemalloc import control

from pytracemalloc.client import Client, find_socket
from pytracemalloc.errors import CommandError


class ControlCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.path = os.path.join(directory.name, 'c.sock')


class ServerTest(ControlCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(tracemalloc.stop)
        self.server = control.serve(self.path)
        self.addCleanup(self.server.close)

    def raw(self, data):
        """Send bytes, return all that comes back."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            with client.makefile('rb') as lines:
                return lines.read()

    def test_only_the_owner_may_connect(self):
        mode = os.stat(self.path).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_other_users_are_refused(self):
        with mock.patch.object(control, '_is_allowed', lambda client: False), \
                Client(self.path) as client:
            with self.assertRaisesRegex(CommandError, 'alone'):
                client.ask('status')

    def test_refusal_that_comes_before_the_request(self):
        with mock.patch.object(control, '_is_allowed', lambda client: False), \
                Client(self.path) as client:
            # Until the answer is there, the request has not been sent.
            client._socket.recv(1, socket.MSG_PEEK)
            with self.assertRaisesRegex(CommandError, 'alone'):
                client.ask('status')

    def test_peer_of_another_user(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertTrue(control._is_allowed(ours))
            with mock.patch.object(os, 'geteuid', lambda: 54321):
                self.assertEqual(control._is_allowed(ours),
                                 os.getuid() == 0)

    def test_start_status_stop(self):
        with Client(self.path) as client:
            self.assertFalse(client.ask('status')['tracing'])
            answer = client.ask('start', frames=3)
            self.assertEqual((answer['tracing'], answer['traceback_limit']),
                             (True, 3))
            self.assertEqual(answer['pid'], os.getpid())
            self.assertFalse(client.ask('stop')['tracing'])

    def test_statistics(self):
        with Client(self.path) as client:
            client.ask('start')
            kept = [bytes(10_000) for _ in range(100)]
            answer = client.ask('statistics', limit=3)
            self.assertLessEqual(len(answer['rows']), 3)
            name, size, count, *_ = answer['rows'][0]
            self.assertIn(f'{__file__}:', name)
            self.assertGreaterEqual(size, 1_000_000)
            self.assertEqual(count, len(kept) + 2)    # the list, its items
            for key in ('filename', 'function', 'module', 'type'):
                rows = client.ask('statistics', key=key)['rows']
                self.assertIsInstance(rows[0][0], str)
            rows = client.ask('statistics', include=['/nowhere/*'])['rows']
            self.assertEqual(rows, [])

    def test_reset_peak(self):
        with Client(self.path) as client:
            client.ask('start')
            bytes(1 << 20)
            self.assertGreater(client.ask('status')['peak'], 1 << 20)
            self.assertLess(client.ask('reset_peak')['peak'], 1 << 20)

    def test_snapshot(self):
        target = os.path.join(self.directory, 'a.tracemalloc')
        with Client(self.path) as client:
            client.ask('start')
            answer = client.ask('snapshot', path=target)
            self.assertEqual(answer['size'], os.path.getsize(target))
            self.assertEqual(tracemalloc.Snapshot.load(target).pid,
                             os.getpid())
            with self.assertRaisesRegex(CommandError, 'exists'):
                client.ask('snapshot', path=target)
            with self.assertRaisesRegex(CommandError, 'absolute'):
                client.ask('snapshot', path='a.tracemalloc')

    def test_not_tracing(self):
        with Client(self.path) as client:
            with self.assertRaisesRegex(CommandError, 'tracing'):
                client.ask('statistics')

    def test_bad_requests(self):
        for line in (b'', b'x', b'[]', b'{}', b'7', b'null', b'"a"',
                     b'\xff\xfe', b'{"command": "eval"}',
                     b'{"command": ["x"]}', b'{"command": "status", "x": 1}',
                     b'{"command": "start", "frames": -1}',
                     b'{"command": "start", "frames": "a"}',
                     b'{"command": "statistics", "key": "x"}',
                     b'{"command": "snapshot"}', b'[' * 30_000,
                     b'{"command": "' + b'x' * 70_000 + b'"}'):
            with self.subTest(line[:40]):
                answers = self.raw(line + b'\n').splitlines()
                self.assertIn('error', json.loads(answers[0]))
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], os.getpid())

    def test_silent_client_does_not_block_for_ever(self):
        with mock.patch.object(control, '_IDLE', 0.05), \
                socket.socket(socket.AF_UNIX) as silent:
            silent.connect(self.path)
            with Client(self.path) as client:
                self.assertEqual(client.ask('status')['pid'], os.getpid())

    def test_close_removes_the_socket(self):
        self.server.close()
        self.assertFalse(os.path.exists(self.path))
        self.server._thread.join(10)
        self.assertFalse(self.server._thread.is_alive())

    def test_path_in_use(self):
        with self.assertRaises(OSError):
            control.serve(self.path)
        with Client(self.path) as client:
            client.ask('status')

    @unittest.skipUnless(hasattr(os, 'fork'), 'needs fork')
    def test_fork_leaves_the_socket_to_the_parent(self):
        process = os.fork()
        if not process:
            os._exit(self.server._listener is not None)
        self.assertEqual(os.waitpid(process, 0)[1], 0)
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], os.getpid())


class PathTest(ControlCase):
    def test_directory(self):
        server = control.serve(self.directory)
        self.addCleanup(server.close)
        self.assertEqual(server.path, os.path.join(self.directory,
                                                   f'{os.getpid()}.sock'))

    def test_dead_socket_is_replaced(self):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        with self.assertRaisesRegex(CommandError, 'has ended'):
            Client(self.path)
        server = control.serve(self.path)
        server.close()

    def test_file_is_not_replaced(self):
        with open(self.path, 'w') as file:
            file.write('precious')
        with self.assertRaises(OSError):
            control.serve(self.path)
        with open(self.path) as file:
            self.assertEqual(file.read(), 'precious')

    def test_too_long(self):
        with self.assertRaises(OSError):
            control.serve(os.path.join(self.directory, 'x' * 200))


class OptInTest(ControlCase):
    """A program that was started with the option."""

    CODE = 'import sys; print("ready", flush=True); sys.stdin.read()'

    def start(self, *options, **environment):
        process = subprocess.Popen(
            [sys.executable, *options, '-c', self.CODE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=self.directory,
            env=os.environ | environment)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        return process

    def end(self, process):
        output, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, errors)
        return errors

    def check(self, process):
        path = find_socket(str(process.pid))
        with Client(path) as client:
            self.assertEqual(client.ask('status')['pid'], process.pid)
            self.assertTrue(client.ask('start')['tracing'])
        self.assertEqual(self.end(process), '')
        self.assertFalse(os.path.exists(path))

    def test_option(self):
        self.check(self.start('-X', f'tracemalloc_control={self.path}'))

    def test_option_wins(self):
        self.check(self.start('-X', f'tracemalloc_control={self.path}',
                              PYTRACEMALLOC_CONTROL='/nowhere/c.sock'))

    def test_without_site(self):
        self.check(self.start('-S', '-X',
                              f'tracemalloc_control={self.path}'))

    def test_variable_and_relative_path(self):
        self.check(self.start(PYTRACEMALLOC_CONTROL='r.sock'))

    def test_directory(self):
        self.check(self.start(PYTRACEMALLOC_CONTROL=self.directory))

    def test_environment_ignored(self):
        process = self.start('-E', PYTRACEMALLOC_CONTROL=self.path)
        self.assertFalse(os.path.exists(self.path))
        self.end(process)

    def test_nothing_is_imported_unasked(self):
        output = subprocess.check_output(
            [sys.executable, '-c', 'import sys; print(*sys.modules)'],
            text=True)
        self.assertNotIn('tracemalloc', output)

    def test_unusable_path_is_one_line(self):
        process = self.start(PYTRACEMALLOC_CONTROL='/nowhere/c.sock')
        errors = self.end(process)
        self.assertEqual(errors.count('\n'), 1)
        self.assertIn('/nowhere/c.sock: No such file', errors)

    def test_no_socket(self):
        process = self.start()
        with self.assertRaisesRegex(CommandError, 'tracemalloc_control'):
            find_socket(str(process.pid))
        self.end(process)
        with self.assertRaisesRegex(CommandError, 'no process'):
            find_socket(str(process.pid))

    def test_killed(self):
        process = self.start(PYTRACEMALLOC_CONTROL=self.path)
        with Client(self.path) as client:
            client.ask('status')
            process.kill()
            process.wait()
            with self.assertRaisesRegex(CommandError, 'has ended'):
                client.ask('status')
        process.communicate()


if __name__ == '__main__':
    unittest.main()
