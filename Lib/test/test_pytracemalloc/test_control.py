"""The control socket, in this process and in one that opted in."""

import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import unittest
from unittest import mock

from pytracemalloc import c_stacks, control, unix_socket

from pytracemalloc.client import Client, find_socket
from pytracemalloc.errors import CommandError
from pytracemalloc.measures import KEYS
from tracemalloc.places import name_group
from test.test_pytracemalloc.control_case import ControlCase


class ServerTest(ControlCase):
    def setUp(self):
        super().setUp()
        self.server = self.serve()

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
        with mock.patch.object(unix_socket, 'is_peer', lambda *_: False), \
                Client(self.path) as client:
            with self.assertRaisesRegex(CommandError, 'user or root'):
                client.ask('status')

    def test_refusal_that_comes_before_the_request(self):
        with mock.patch.object(unix_socket, 'is_peer', lambda *_: False), \
                Client(self.path) as client:
            # Until the answer is there, the request has not been sent.
            select.select([client._socket], [], [], 30)
            with self.assertRaisesRegex(CommandError, 'user or root'):
                client.ask('status')

    @unittest.skipUnless(os.getuid() == 0, 'only root can be another user')
    def test_real_other_user(self):
        # The server is nobody's; then ours, with its mode opened by hand.
        os.chmod(self.directory, 0o755)
        os.chown(self.directory, 65534, -1)
        code = ('import sys; from pytracemalloc import control; '
                'control.serve(sys.argv[1]); print(flush=True); '
                'sys.stdin.read()')
        theirs = os.path.join(self.directory, 'theirs.sock')
        server = subprocess.Popen([sys.executable, '-c', code, theirs],
                                  user=65534, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(server.communicate)
        server.stdout.readline()
        with Client(theirs) as client:        # root may
            self.assertEqual(client.ask('status')['pid'], server.pid)
        os.chmod(theirs, 0o666)
        for path, user, problem in (
                (theirs, 2, 'the socket belongs to user 65534; run this as '
                            'that user or root'),
                (self.path, 65534, 'permission denied: the socket belongs '
                                   'to another user'),
                (theirs, 65534, None)):
            process = subprocess.run(
                [sys.executable, '-m', 'pytracemalloc', 'top', '--once',
                 path], user=user, capture_output=True, text=True)
            if problem is None:
                self.assertEqual(process.returncode, 0, process.stderr)
                continue
            self.assertEqual(process.returncode, 1)
            self.assertRegex(process.stderr,
                             rf'\Apytracemalloc: .*{problem}\n\Z')
        os.chmod(self.path, 0o666)
        process = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'top', '--once',
             self.path], user=65534, capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stderr), (
            1, f'pytracemalloc: {self.path}: the socket belongs to user '
               f'0; run this as that user or root\n'))
        self.check_alive()

    def test_peer_of_another_user(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertEqual(unix_socket.peer_of(ours),
                             (os.getpid(), os.geteuid()))
            self.assertTrue(unix_socket.is_peer(ours, os.geteuid()))
            self.assertEqual(unix_socket.is_peer(ours, 54321),
                             os.geteuid() == 0)

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
            for key in {*KEYS.values()} - {'native'}:
                rows = client.ask('statistics', key=key)['rows']
                self.assertIsInstance(rows[0][0], str)
            with self.assertRaisesRegex(CommandError, 'request `native`'):
                client.ask('statistics', key='native')
            rows = client.ask('statistics', include=['/nowhere/*'])['rows']
            self.assertEqual(rows, [])

    def test_stacks(self):
        """The largest C stacks, and no more than is asked for."""
        frames = [('/a.so', 'ab', 100 + i, 0) for i in range(20)]
        rows = [((*frames[:i],), None, 10, 1) for i in range(20)]
        packed = c_stacks.pack([(None, None, 5, 1), *rows])
        self.assertEqual(packed['files'], [('/a.so', 'ab')])
        self.assertEqual(packed['places'],
                         [(0, 100 + i) for i in range(16)])
        self.assertEqual([stack for stack, *_ in packed['stacks']],
                         [None, *([*range(min(i, 16))] for i in range(20))])
        with Client(self.path) as client:
            client.ask('start')
            answer = client.ask('native')
            [name, size, count, *_], = answer['rows']
            self.assertEqual(name, '<not native>')
            self.assertEqual((answer['groups'], answer['current']), (1, size))
            self.assertEqual(client.ask('native', limit=0)['rows'], [])
            self.assertEqual(client.ask('native', limit=0)['groups'], 1)
            self.assertEqual(client.ask('native', include=['/x'])['rows'], [])

    def test_peaks(self):
        with Client(self.path) as client:
            client.ask('start')
            begin = time.time()
            [bytes(10_000) for _ in range(500)]
            self.assertEqual(client.ask('peaks'), {'next': []})
            [bytearray(10_000) for _ in range(480)]
            [moment] = client.ask('peaks')['next']
            snapshot = tracemalloc.take_snapshot()
        timestamp, size, [line, *_] = moment
        self.assertGreater(timestamp, begin - 1)
        self.assertLess(timestamp, time.time())
        highest, then = snapshot.peaks
        self.assertEqual(size, then.traced_memory[0])
        [first, *_] = [stat for stat in then.compare_to(highest, 'lineno')
                       if stat.size_diff > 0]
        self.assertEqual(line, [name_group(first, 'lineno'),
                                first.size_diff])
        self.assertGreater(first.size_diff, 4_000_000)

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
            for kind in ({}, {'references': True},
                         {'references': True, 'keys': True},
                         {'references': True, 'pause': True}):
                client.ask('snapshot', path=target, force=True, **kind)
                self.assertEqual(
                    tracemalloc.Snapshot.load(target).has_references,
                    bool(kind))
            with self.assertRaisesRegex(CommandError, 'bad request: '
                                        'references need traces'):
                client.ask('snapshot', path=target, force=True, traces=False,
                           references=True)
            with self.assertRaisesRegex(CommandError, 'absolute'):
                client.ask('snapshot', path='a.tracemalloc')

    def test_no_child(self):
        target = os.path.join(self.directory, 'a.tracemalloc')
        with Client(self.path) as client, mock.patch.object(
                tracemalloc, 'take_snapshot',
                side_effect=ChildProcessError('it was killed')):
            with self.assertRaisesRegex(CommandError,
                                        'it was killed; add --pause'):
                client.ask('snapshot', path=target, references=True)
        self.assertFalse(os.path.exists(target))

    def test_not_tracing(self):
        with Client(self.path) as client:
            with self.assertRaisesRegex(CommandError, 'tracing'):
                client.ask('statistics')

    def test_bad_requests(self):
        for line, reason in (
                (b'', 'Expecting value'), (b'x', 'Expecting value'),
                (b'[]', 'not a JSON object'), (b'{}', 'unknown command'),
                (b'7', 'not a JSON object'), (b'null', 'not a JSON object'),
                (b'"a"', 'not a JSON object'),
                (b'\xff\xfe', 'utf-8'),
                (b'{"command": "eval"}', 'unknown command; use one of '),
                (b'{"command": ["x"]}', 'unknown command'),
                (b'{"command": "status", "x": 1}',
                 "status has no argument 'x'"),
                (b'{"command": "start", "frames": -1}', 'number of frames'),
                (b'{"command": "start", "frames": "a"}', 'number of frames'),
                (b'{"command": "start", "frames": 1.5}',
                 'frames cannot be 1.5'),
                (b'{"command": "statistics"}', 'must be tracing'),
                (b'{"command": "start"}\n'
                 b'{"command": "statistics", "key": "x"}', 'unknown key'),
                (b'{"command": "statistics", "key": null}',
                 'key cannot be null'),
                (b'{"command": "statistics", "limit": -1}', '0 to 10000'),
                (b'{"command": "statistics", "include": "*"}',
                 r'include cannot be "\*"'),
                (b'{"command": "snapshot"}', 'not an absolute path'),
                (b'[' * 30_000, 'nested too deeply'),
                (b'{"command": "' + b'x' * 70_000 + b'"}',
                 'longer than 65536 bytes')):
            with self.subTest(line[:40]):
                answers = self.raw(line + b'\n').splitlines()
                self.assertRegex(json.loads(answers[-1])['error'], reason)
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], os.getpid())

    def test_clients_do_not_wait_for_each_other(self):
        silent, half = self.connect(), self.connect()
        half.sendall(b'{"command": "sta')
        with Client(self.path) as first, Client(self.path) as second:
            for client in first, second, first, second:
                self.assertEqual(client.ask('status')['pid'], os.getpid())
        half.sendall(b'tus"}\n{"command": "status"}\n{"comm')
        with half.makefile('rb') as lines:
            for _ in range(2):
                self.assertEqual(json.loads(lines.readline())['pid'],
                                 os.getpid())
        half.close()              # in the midst of its third request
        silent.close()
        self.check_alive()

    def test_client_that_vanishes(self):
        for data in (b'', b'{"command"', b'{"command": "statistics"}\n',
                     b'{"command": "status"}\n' * 500):
            client = self.connect()
            client.sendall(data)
            client.close()
            self.check_alive()

    def test_client_that_does_not_read(self):
        self.server.answer_time = 0.05
        client = self.connect()
        with contextlib.suppress(OSError):
            while True:           # until the server lets it go
                client.sendall(b'{"command": "status"}\n' * 1000)
        self.check_alive()

    def test_hundred_quick_clients(self):
        failures = []

        def ask():
            try:
                self.check_alive()
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=ask) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        for _ in range(100):
            self.check_alive()
        self.assertEqual(len(os.listdir(self.directory)), 1)

    def test_too_many_clients(self):
        self.server.max_clients = 3
        clients = [Client(self.path) for _ in range(3)]
        for client in clients:
            client.ask('status')
        with Client(self.path) as client:
            with self.assertRaisesRegex(CommandError, '3 clients are'):
                client.ask('status')
        for client in clients:
            client.__exit__()
        self.check_alive()

    def test_program_goes_on_but_for_a_snapshot(self):
        # In processor time of the thread that serves: how much of it passes
        # between two turns of a loop.  The tenth longest gap of at least
        # twenty, because the machine may hold up the loop as well.
        tracemalloc.start(5)
        kept = [[bytes(20)] for _ in range(500_000)]
        before = time.thread_time()
        for _ in range(3):
            tracemalloc.take_snapshot()
        snapshot = (time.thread_time() - before) / 3
        clock = time.pthread_getcpuclockid(self.server._thread.ident)
        code = textwrap.dedent('''\
            import sys
            from pytracemalloc.client import Client
            with Client(sys.argv[1]) as client:
                for _ in range(20):
                    client.ask('snapshot', path=sys.argv[2], force=True)
                    client.ask('statistics')
            ''')
        client = subprocess.Popen([sys.executable, '-c', code, self.path,
                                   self.path + '.tracemalloc'])
        # Not poll() in the loop: who often releases the GIL and takes it
        # again at once leaves the server waiting.
        waiter = threading.Thread(target=client.wait)
        waiter.start()
        gaps, last = [], time.clock_gettime(clock)
        while client.returncode is None:
            now = time.clock_gettime(clock)
            if now - last > 0.001:
                gaps.append(now - last)
            last = now
        waiter.join()
        self.assertEqual(client.returncode, 0)
        self.assertEqual(len(kept), 500_000)
        self.assertLess(sorted(gaps, reverse=True)[9], 3 * snapshot)

    def test_no_memory_is_an_error(self):
        with mock.patch.object(tracemalloc, 'take_snapshot',
                               side_effect=MemoryError):
            answer = json.loads(self.raw(b'{"command": "statistics"}\n'))
        self.assertIn('not have enough memory', answer['error'])

    def test_no_thread_is_left_at_the_end(self):
        done = self.python("""\
            import atexit, sys, threading
            atexit.register(lambda: print(threading.active_count()))
            from pytracemalloc import control, http
            control.serve(sys.argv[1])
            http.serve()
            """, os.path.join(self.directory, 'd.sock'))
        self.assertEqual((done.stdout, done.stderr), ('1\n', ''))

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
        client = self.connect()
        self.check_alive()        # by now the other client is accepted
        end, other_end = os.pipe()
        process = os.fork()
        if not process:
            os.close(other_end)
            os.read(end, 1)       # until the parent has seen enough
            os._exit(self.server._listener is not None)
        self.check_alive()
        self.server.close()
        # It would wait if the child held the connection open.
        self.assertEqual(client.recv(1), b'')
        os.close(other_end)
        os.close(end)
        self.assertEqual(os.waitpid(process, 0)[1], 0)


class PathTest(ControlCase):
    def test_directory(self):
        server = self.serve(self.directory)
        self.assertEqual(server.path, os.path.join(self.directory,
                                                   f'{os.getpid()}.sock'))

    def test_dead_socket_is_replaced(self):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        with self.assertRaisesRegex(CommandError, 'has ended'):
            Client(self.path)
        self.serve()

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
        path, root = find_socket(str(process.pid))
        self.assertEqual(root, '')
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

    def test_command_has_no_socket_of_its_own(self):
        # The variable may be exported in the shell that it is typed in.
        top = [sys.executable, '-m', 'pytracemalloc', 'top', '--once',
               self.path]
        options = {'capture_output': True, 'text': True,
                   'env': os.environ | {'PYTRACEMALLOC_CONTROL': self.path}}
        alone = subprocess.run(top, **options)
        self.assertEqual(alone.returncode, 1)
        self.assertRegex(alone.stderr, r'\A.* no such socket; .*\n\Z')
        process = self.start(PYTRACEMALLOC_CONTROL=self.path)
        beside = subprocess.run(top, **options)
        self.assertEqual((beside.returncode, beside.stderr), (0, ''))
        self.assertIn(f'{process.pid}  ', beside.stdout)
        self.end(process)
        run = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-qo', os.devnull,
             '-c', f'import os; print(os.path.exists({self.path!r}))'],
            **options)
        self.assertEqual((run.stdout, run.stderr), ('True\n', ''))
        self.assertFalse(os.path.exists(self.path))

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
