"""Sockets, links and files that somebody has put where the control socket, or
a snapshot that it is asked for, is to be written.

The program writes nothing else than what it should, and does not wait.
"""

import contextlib
import fcntl
import json
import os
import signal
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

from pytracemalloc.client import Client
from pytracemalloc import control

from test.test_pytracemalloc.control_case import ControlCase

ROOT = os.getuid() == 0
NOBODY = 65534


class SnapshotTest(ControlCase):
    """What the command of this name may write."""

    def setUp(self):
        super().setUp()
        self.server = self.serve()
        tracemalloc.start()
        self.victim = os.path.join(self.directory, 'victim')
        with open(self.victim, 'w') as file:
            file.write('precious')
        self.target = os.path.join(self.directory, 'a.tracemalloc')

    def tearDown(self):
        with open(self.victim, 'rb') as file:
            self.assertEqual(file.read(), b'precious')

    def ask(self, **arguments):
        return control.answer(json.dumps(
            {'command': 'snapshot', 'path': self.target} | arguments
        ).encode())

    def left_over(self):
        return sorted(set(os.listdir(self.directory))
                      - {'c.sock', 'victim', 'a.tracemalloc'})

    def test_link_that_appears_meanwhile(self):
        def take_snapshot(**arguments):
            os.symlink(self.victim, self.target)
            return snapshot

        snapshot = tracemalloc.take_snapshot()
        with mock.patch.object(tracemalloc, 'take_snapshot', take_snapshot):
            self.assertIn('exists', self.ask()['error'])
        self.assertEqual(os.readlink(self.target), self.victim)
        self.assertEqual(self.left_over(), [])

    def test_links_are_not_followed(self):
        for goal in self.victim, os.path.join(self.directory, 'new'):
            os.symlink(goal, self.target)
            for force in False, True:
                answer = self.ask(force=force)
                self.assertRegex(answer['error'], 'exists|not a file')
            self.assertEqual(self.left_over(), [])
            os.unlink(self.target)

    def test_race_for_the_name(self):
        # Somebody changes the name all the time; the program may write its
        # snapshot there or not, and nothing else.
        ended = threading.Event()

        def change():
            while not ended.is_set():
                for make in (lambda: os.symlink(self.victim, self.target),
                             lambda: os.unlink(self.target)):
                    with contextlib.suppress(OSError):
                        make()

        thread = threading.Thread(target=change)
        thread.start()
        try:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                for force in True, False:
                    self.ask(force=force, traces=False)
        finally:
            ended.set()
            thread.join()
        self.assertEqual(self.left_over(), [])

    def test_what_is_no_file(self):
        os.mkfifo(self.target)
        for path in self.target, '/dev/null', '/dev/full', self.directory:
            status = os.stat(path)
            result = []
            thread = threading.Thread(target=lambda: result.append(
                self.ask(path=path, force=True)), daemon=True)
            thread.start()
            thread.join(10)
            self.assertTrue(result, f'{path}: it hangs')
            self.assertIn('error', result[0])
            self.assertEqual(stat.S_IFMT(os.stat(path).st_mode),
                             stat.S_IFMT(status.st_mode))
        self.assertEqual(self.left_over(), [])

    def test_overwritten_file_keeps_its_mode(self):
        with open(self.target, 'w') as file:
            os.fchmod(file.fileno(), 0o600)
        self.assertIn('exists', self.ask()['error'])
        self.assertNotIn('error', self.ask(force=True))
        self.assertEqual(stat.S_IMODE(os.stat(self.target).st_mode), 0o600)
        tracemalloc.Snapshot.load(self.target)
        self.assertEqual(self.left_over(), [])

    def test_nothing_is_left_of_a_failure(self):
        with mock.patch.object(tracemalloc, 'take_snapshot') as take:
            take.return_value = mock.Mock(metadata={}, traces=None)
            self.assertIn('error', self.ask())
        with mock.patch.object(os, 'fsync', side_effect=OSError(28, 'Full')):
            self.assertEqual(self.ask()['error'], f'{self.target}: Full')
        self.assertFalse(os.path.lexists(self.target))
        self.assertEqual(self.left_over(), [])


class PlaceTest(ControlCase):
    """What stands where the socket is to be made."""

    def test_stopped_owner_with_a_full_backlog(self):
        owner = subprocess.Popen(
            [sys.executable, '-c', 'import sys\n'
             'from pytracemalloc import control\n'
             'control.serve(sys.argv[1]); print(flush=True)\n'
             'sys.stdin.read()', self.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(owner.communicate)
        self.addCleanup(owner.send_signal, signal.SIGCONT)
        owner.stdout.readline()
        owner.send_signal(signal.SIGSTOP)
        os.waitpid(owner.pid, os.WUNTRACED)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                self.addCleanup(client.close)
                client.setblocking(False)
                client.connect(self.path)
        start = time.monotonic()
        process = self.python('print("ready")', timeout=20, env=os.environ | {
            'PYTRACEMALLOC_CONTROL': self.path})
        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual(process.stdout, 'ready\n')
        self.assertRegex(process.stderr, r'\A.*c\.sock: .*another program.*'
                                         r'\n\Z')
        self.assertTrue(os.path.exists(self.path))

    def test_two_that_start_at_once(self):
        # The second starts when the first has found that the socket is dead.
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        unlink = os.unlink
        served = []

        def start():
            with contextlib.suppress(OSError):
                served.append(self.serve())

        def start_first(path, **arguments):
            if path == self.path:
                mock.patch.stopall()
                start()
            unlink(path, **arguments)

        mock.patch.object(os, 'unlink', start_first).start()
        self.addCleanup(mock.patch.stopall)
        start()
        self.assertEqual(len(served), 1)
        self.check_alive()
        served[0].close()
        self.assertEqual(os.listdir(self.directory), [])

    def test_many_that_start_at_once(self):
        code = '''
            import sys
            from pytracemalloc import control
            sys.stdin.readline()
            try:
                control.serve(sys.argv[1])
            except OSError as exc:
                print(exc.strerror, flush=True)
            else:
                print('serves', flush=True)
            sys.stdin.read()
            '''
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(self.path)
            programs = [subprocess.Popen(
                [sys.executable, '-c', textwrap.dedent(code), self.path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(5)]
            for program in programs:
                print(file=program.stdin, flush=True)
            lines = [program.stdout.readline() for program in programs]
            self.assertEqual(lines.count('serves\n'), 1, lines)
            owner = programs[lines.index('serves\n')].pid
            with Client(self.path) as client:
                self.assertEqual(client.ask('status')['pid'], owner)
            for line in lines:
                if line != 'serves\n':
                    self.assertEqual(line, f'it is the socket of process '
                                           f'{owner}\n')
            for program in programs:
                program.communicate()
            self.assertEqual(os.listdir(self.directory), [])

    def test_lock_of_a_program_that_is_stuck(self):
        with open(f'{self.path}.lock', 'w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            start = time.monotonic()
            with self.assertRaisesRegex(OSError, 'stuck'):
                control.serve(self.path)
            self.assertLess(time.monotonic() - start, 5)
        self.serve()              # one that was killed is no obstacle
        self.assertEqual(os.listdir(self.directory), ['c.sock'])

    def test_lock_that_is_something_else(self):
        lock = f'{self.path}.lock'
        victim = os.path.join(self.directory, 'victim')
        for make in (lambda: os.symlink(victim, lock),
                     lambda: os.mkfifo(lock), lambda: os.mkdir(lock)):
            make()
            with self.assertRaises(OSError):
                control.serve(self.path)
            self.assertEqual(os.listdir(self.directory), ['c.sock.lock'])
            if os.path.isdir(lock) and not os.path.islink(lock):
                os.rmdir(lock)
            else:
                os.unlink(lock)

    def test_close_leaves_the_socket_of_another(self):
        server = self.serve()
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            server.close()
            self.assertTrue(os.path.exists(self.path))

    def test_link_in_place_of_the_new_socket(self):
        # The mode of what it leads to stays.
        victim = os.path.join(self.directory, 'victim')
        with open(victim, 'w') as file:
            os.fchmod(file.fileno(), 0o640)

        class Racer(socket.socket):
            def listen(self, *arguments):
                super().listen(*arguments)
                replace()

            def bind(self, path):
                super().bind(path)
                replace()

        def replace():
            with contextlib.suppress(OSError):
                os.unlink(path)
                os.symlink(victim, path)

        path = self.path
        with mock.patch.object(socket, 'socket', Racer):
            with contextlib.suppress(OSError):
                self.serve().close()
        self.assertEqual(stat.S_IMODE(os.stat(victim).st_mode), 0o640)

    def test_mode_does_not_depend_on_the_umask(self):
        before = os.umask(0)
        try:
            self.serve()
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    @unittest.skipUnless(ROOT, 'only root can be another user')
    def test_socket_of_another_user_stays(self):
        os.chmod(self.directory, 0o1777)
        for listens in True, False:
            process = self.python('''
                import socket, sys
                with socket.socket(socket.AF_UNIX) as theirs:
                    theirs.bind(sys.argv[1])
                ''', self.path, user=NOBODY)
            self.assertEqual(process.returncode, 0, process.stderr)
            before = os.lstat(self.path).st_ino
            with self.assertRaisesRegex(OSError, 'socket of user 65534'):
                control.serve(self.path)
            self.assertEqual(os.lstat(self.path).st_ino, before)
            os.unlink(self.path)

    @unittest.skipUnless(ROOT, 'only root can be another user')
    def test_lock_of_another_user(self):
        os.chmod(self.directory, 0o1777)
        process = self.python('''
            import fcntl, sys
            file = open(sys.argv[1] + '.lock', 'w')
            ''', self.path, user=NOBODY)
        self.assertEqual(process.returncode, 0, process.stderr)
        with self.assertRaises(OSError):
            control.serve(self.path)
        self.assertEqual(os.stat(f'{self.path}.lock').st_uid, NOBODY)

if __name__ == '__main__':
    unittest.main()
