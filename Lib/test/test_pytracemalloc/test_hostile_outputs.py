"""Links and other files where something is to be written: nothing else is
overwritten, nobody else reads it, and nothing is left half-written."""

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

import tracemalloc
from test.test_pytracemalloc.command_case import CommandCase
from tracemalloc import whole_file

PRECIOUS = 'precious'


class Case(CommandCase):
    def setUp(self):
        super().setUp()
        self.snapshot = tracemalloc.Snapshot([(0, 5, (('a.py', 1),), 1)], 1)
        self.snapshot.dump('in')
        self.write('victim', PRECIOUS)
        self.addCleanup(os.umask, os.umask(0o022))
        # Each writes something else to the name it is given.
        self.writers = [
            lambda path: self.snapshot.dump(path),
            lambda path: self.snapshot.dump(path, 'pickle'),
            lambda path: self.snapshot.write(path),
            lambda path: self.ok('report', 'in', '-f', '-o', path),
            lambda path: self.ok('report', 'in', '-f', '-o', path,
                                 '--format', 'pprof'),
            lambda path: self.ok('diff', 'in', 'in', '-f', '-o', path)]

    def check_victim(self):
        with open('victim') as file:
            self.assertEqual(file.read(), PRECIOUS)

    def check_output(self, path='out'):
        status = os.lstat(path)
        self.assertTrue(stat.S_ISREG(status.st_mode))
        self.assertGreater(status.st_size, 20)
        return stat.S_IMODE(status.st_mode)


class ReplacedTest(Case):
    def test_links(self):
        for target in 'victim', './victim', 'link2', 'out', '/dev/null':
            for write in self.writers:
                with self.subTest(target):
                    os.symlink(target, 'out')
                    if target == 'link2':
                        os.symlink('victim', 'link2')
                    write('out')
                    self.check_victim()
                    self.check_output()
                    os.unlink('out')
                    if target == 'link2':
                        os.unlink('link2')
        self.assertEqual(sorted(os.listdir()), ['in', 'victim'])

    def test_hard_links(self):
        for write in self.writers:
            os.link('victim', 'out')
            write('out')
            self.check_victim()
            self.check_output()
            os.unlink('out')

    def test_modes(self):
        for mask in 0o022, 0o077, 0:
            os.umask(mask)
            for write in self.writers:
                write('out')
                self.assertEqual(self.check_output(), 0o666 & ~mask)
                # One's own file keeps its mode.
                os.chmod('out', 0o640)
                write('out')
                self.assertEqual(self.check_output(), 0o640)
                os.unlink('out')
                # That of a link's target, or of others, is not taken over.
                os.chmod('victim', 0o666)
                os.symlink('victim', 'out')
                write('out')
                self.assertEqual(self.check_output(), 0o666 & ~mask)
                os.unlink('out')

    @unittest.skipUnless(os.getuid() == 0, 'needs root')
    def test_mode_of_a_file_of_somebody_else(self):
        for write in self.writers:
            self.write('out', PRECIOUS)
            os.chmod('out', 0o777)
            os.chown('out', 65534, 65534)
            write('out')
            self.assertEqual(self.check_output(), 0o644)
            self.assertEqual(os.stat('out').st_uid, 0)
            os.unlink('out')

    @unittest.skipUnless(os.getuid() == 0, 'needs root')
    def test_pipe_of_somebody_else(self):
        for write in self.writers:
            os.mkfifo('out')
            os.chown('out', 65534, 65534)
            write('out')
            self.check_output()
            os.unlink('out')

    def test_name_of_the_temporary_file(self):
        """Even one who knew it could not have it there before."""
        for write in self.writers:
            with mock.patch('os.urandom', bytes):
                os.symlink('victim', f'out.{"00" * 8}.tmp')
                try:
                    write('out')
                except (OSError, AssertionError) as exc:
                    self.assertIn('File exists', str(exc))
                else:
                    self.fail('it was there')
            self.check_victim()
            self.assertFalse(os.path.lexists('out'))
            os.unlink(f'out.{"00" * 8}.tmp')

    def test_long_names(self):
        for name in 'x' * 255, '\u6f22' * 85, '\udcff' * 255:
            self.snapshot.dump(name)
            self.check_output(name)
        with self.assertRaises(OSError) as caught:
            self.snapshot.dump('x' * 256)
        self.assertEqual(caught.exception.errno, errno.ENAMETOOLONG)
        self.assertEqual(caught.exception.filename, 'x' * 256)

    def test_directory_that_is_moved(self):
        """The file goes where its name led when it was begun."""
        os.mkdir('ours')
        os.mkdir('theirs')
        self.write('theirs/out', PRECIOUS)

        with mock.patch('tracemalloc.whole_file._keep_mode',
                        lambda *args: (os.rename('ours', 'moved'),
                                       os.symlink('theirs', 'ours'))):
            self.snapshot.dump('ours/out')
        self.check_output('moved/out')
        with open('theirs/out') as file:
            self.assertEqual(file.read(), PRECIOUS)
        self.assertEqual(os.listdir('moved'), ['out'])

    def test_race(self):
        stopped = threading.Event()

        def change():
            number = 0
            while not stopped.is_set():
                number += 1
                name = f'new{number}'
                if number % 3 == 0:
                    os.symlink('victim', name)
                elif number % 3 == 1:
                    os.symlink('/dev/null', name)
                else:
                    self.write(name, 'x')
                os.replace(name, 'out')

        thread = threading.Thread(target=change)
        thread.start()
        written = 0
        ends = time.monotonic() + 3
        try:
            while time.monotonic() < ends:
                self.snapshot.dump('out')
                written += 1
        finally:
            stopped.set()
            thread.join()
        self.check_victim()
        self.assertGreater(written, 5)
        self.assertEqual([name for name in os.listdir()
                          if name.endswith('.tmp')], [])

    def test_what_fails_leaves_nothing(self):
        before = sorted(os.listdir())
        with mock.patch('os.fsync', side_effect=OSError(errno.EIO, 'no')):
            for write in self.writers:
                with self.assertRaises((OSError, AssertionError)):
                    write('out')
        for error in KeyboardInterrupt, MemoryError:
            with mock.patch('os.fsync', side_effect=error), \
                    self.assertRaises(error):
                self.snapshot.dump('out')
        self.assertEqual(sorted(os.listdir()), before)


class SpecialTest(Case):
    def test_what_is_special(self):
        os.mkfifo('pipe')
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind('socket')
        for target, link in (('pipe', 'to_pipe'), ('/dev/null', 'to_null'),
                             ('/dev/stdout', 'to_stdout')):
            os.symlink(target, link)
        for name in ('pipe', 'socket', '/dev/null', '/dev/stdout',
                     '/dev/fd/1', '/proc/self/fd/1', 1):
            self.assertTrue(whole_file.is_special(name), name)
        for name in ('victim', 'nothing', 'to_pipe', 'to_null', 'to_stdout',
                     '.', '/dev', '/dev/shm', '/dev/shm/nothing',
                     '/dev/nothing', '', 'a\0b', 'nothing/x', b'victim'):
            self.assertFalse(whole_file.is_special(name), name)

    def test_pipe_that_became_a_link(self):
        os.symlink('victim', 'pipe')
        with self.assertRaises(OSError) as caught:
            whole_file.open_special('pipe')
        self.assertEqual(caught.exception.errno, errno.ELOOP)

    def run_code(self, code, redirection):
        return subprocess.run(
            ['bash', '-c', f'"$0" -c "$1" {redirection}', sys.executable,
             f'import tracemalloc, sys\n'
             f'snapshot = tracemalloc.Snapshot.load("in")\n{code}'],
            capture_output=True)

    def test_standard_output(self):
        """It is written where standard output is, after what is there."""
        with open('in', 'rb') as file:
            data = file.read()
        for name in '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1', 1:
            for redirection, before in (('>> log', b'before\n'),
                                        ('> log', b'')):
                self.write('log', 'before\n')
                done = self.run_code(
                    f'print("first", flush=True)\n'
                    f'snapshot.dump({name!r})\nprint("last")', redirection)
                self.assertEqual((done.returncode, done.stderr), (0, b''))
                with open('log', 'rb') as file:
                    self.assertEqual(file.read(), before + b'first\n' + data
                                     + b'last\n')
            done = self.run_code(f'snapshot.dump({name!r})', '| cat')
            self.assertEqual(done.stdout, data)
        self.assertTrue(os.path.islink('/dev/stdout'))

    def test_report_on_standard_output(self):
        for name in '/dev/stdout', '/dev/fd/1':
            self.write('log', 'before\n')
            done = subprocess.run(
                ['bash', '-c', f'"$0" -m pytracemalloc report in -o {name} '
                 f'>> log', sys.executable], capture_output=True)
            self.assertEqual((done.returncode, done.stderr), (0, b''))
            with open('log') as file:
                lines = file.read().splitlines()
            self.assertEqual(lines[:2], ['before', 'in'])


if __name__ == '__main__':
    unittest.main()
