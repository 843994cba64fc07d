"""pytracemalloc top before a control socket that answers what it likes.

Whatever comes, the command ends soon, with one line that a terminal can show,
and has not kept much of it.
"""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from unittest import mock

from pytracemalloc import cli, client
from pytracemalloc.client import Client
from pytracemalloc.errors import CommandError

ROOT = os.getuid() == 0
NOBODY, OTHER = 65534, 2

STATUS = {'pid': 1, 'argv': ['python', 'app.py'], 'tracing': True,
          'traceback_limit': 1, 'current': 5, 'peak': 6, 'tracer': 7,
          'process': 8, 'time': 1000.5}
STATISTICS = STATUS | {'groups': 1, 'rows': [['a.py:1', 1, 1, 1, 1, 1]]}
ARENAS = {'size': 4, 'used': 2, 'given_back': 1, 'lines': [['b.py:2', 3]]}
PEAKS = {'next': [[999.5, 4, [['c.py:3', 2]]]]}
NATIVE = STATUS | {'groups': 3, 'files': [['/nowhere/a.so', '']],
                   'places': [[0, 0x1234], [0, 0x2000]],
                   'stacks': [[[0, 1], 20, 2], [None, 10, 1], [[], 5, 1]]}
WRONG = (None, True, -1, 1 << 63, 10**400, 0.5, 1e999, float('nan'), '', 'x',
         [], [None], [[]], {}, {'a': 1}, '9' * 100)


class AnswersCase(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(self.directory, 'c.sock')
        self.listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listener.close)
        self.listener.bind(self.path)
        self.listener.listen()

    def serve(self, behave):
        """behave(connection, lines) answers one client from a thread."""
        def run():
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                with connection, connection.makefile('rb') as lines:
                    behave(connection, lines)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def answer(self, *answers):
        """Serve these answers, bytes as they are."""
        def behave(connection, lines):
            for answer, _ in zip(answers, lines):
                if not isinstance(answer, bytes):
                    answer = json.dumps(answer).encode() + b'\n'
                connection.sendall(answer)

        self.serve(behave)

    def top(self, status=1, *options):
        """Return what `pytracemalloc top --once` prints."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = cli.main(['top', '--once', self.path, *options])
        text = out.getvalue() + err.getvalue()
        self.assertEqual(ended, status, text)
        self.assertTrue(text.replace('\n', '').isprintable(), text)
        if status:
            self.assertEqual(out.getvalue(), '')
            self.assertEqual(err.getvalue().count('\n'), 1)
            self.assertTrue(err.getvalue().startswith('pytracemalloc: '))
        return text


class AnswersTest(AnswersCase):
    def test_good_answers(self):
        self.answer(STATUS, ARENAS, PEAKS, STATISTICS)
        self.assertIn('a.py:1', self.top(0))

    def test_values_of_other_types(self):
        for name in STATISTICS:
            for value in WRONG:
                if value in ([],) and name in ('argv', 'rows') or \
                        value is None and name == 'process' or \
                        value is True and name == 'tracing' or \
                        value in (0.5, True) and name == 'time':
                    continue
                with self.subTest(name=name, value=repr(value)[:20]):
                    self.answer(STATUS, ARENAS, PEAKS,
                                STATISTICS | {name: value})
                    self.assertIn('not a tracemalloc control socket',
                                  self.top())
                    if name in STATUS:
                        self.answer(STATUS | {name: value}, STATISTICS)
                        self.top()

    def test_values_that_are_missing(self):
        for name in STATISTICS:
            with self.subTest(name):
                self.answer(STATUS, ARENAS, PEAKS,
                            {key: value for key, value
                             in STATISTICS.items() if key != name})
                self.assertIn('not a tracemalloc control socket', self.top())

    def test_rows_of_other_shapes(self):
        row = STATISTICS['rows'][0]
        for place in range(len(row)):
            for value in WRONG:
                rows = [row[:place] + [value] + row[place + 1:]]
                good = (isinstance(value, str) if place == 0
                        else value is None and place > 2)
                if good:
                    continue
                with self.subTest(place=place, value=repr(value)[:20]):
                    self.answer(STATUS, ARENAS, PEAKS,
                                STATISTICS | {'rows': rows})
                    self.top()
        for rows in ([row[:5]], [row + [1]], [[]], row,
                     [dict(enumerate(row))]):
            with self.subTest(rows=rows):
                self.answer(STATUS, ARENAS, PEAKS, STATISTICS | {'rows': rows})
                self.top()

    def test_moments_of_other_shapes(self):
        moment = PEAKS['next'][0]
        for moments in (*[[moment[:place] + [value] + moment[place + 1:]]
                          for place in range(3) for value in WRONG
                          if not (place == 0 and value in (0.5, True)
                                  or place == 2 and value == [])],
                        [moment] * 4, [moment[:2]], [[]], moment):
            with self.subTest(repr(moments)[:60]):
                self.answer(STATUS, ARENAS, {'next': moments}, STATISTICS)
                self.assertIn('not a tracemalloc control socket', self.top())

    def native(self, status=1, **fields):
        self.answer(STATUS, ARENAS, PEAKS, NATIVE | fields)
        text = self.top(status, '--by', 'native')
        if status:
            self.assertIn('not a tracemalloc control socket', text)
        return text

    def test_good_stacks(self):
        text = self.native(0)
        self.assertRegex(text, r'\n +20 B +2 +a\.so\+0x1234\n'
                               r' +10 B +1 +<not native>\n'
                               r' +5 B +1 +<no C frames>\n')
        self.assertIn('3 C functions', text)
        # What was left out.
        self.assertIn('4 C functions', self.native(0, groups=4))

    def test_stacks_of_other_shapes(self):
        for name in NATIVE:
            for value in WRONG:
                if (name in STATUS or value == [] and name == 'stacks'
                        or value == 1 and name == 'groups'):
                    continue
                with self.subTest(name=name, value=repr(value)[:20]):
                    self.native(**{name: value})
        for name, row, texts in (('files', ['/a', ''], 2),
                                 ('places', [0, 1], 0),
                                 ('stacks', [[0], 1, 1], 0)):
            for place in range(len(row)):
                for value in WRONG:
                    if (isinstance(value, str) and place < texts
                            or name == 'stacks' and value in (None, [])):
                        continue
                    rows = [row[:place] + [value] + row[place + 1:]]
                    with self.subTest(name, value=repr(value)[:20]):
                        self.native(**{name: rows})
            for rows in [row[:-1]], [row + [1]], [[]], row, [None]:
                with self.subTest(name, rows=rows):
                    self.native(**{name: rows})

    def test_numbers_that_lead_nowhere(self):
        self.native(places=[[1, 5], [0, 5]])
        self.native(stacks=[[[0, 2], 1, 1]])
        self.native(stacks=[[[1 << 62], 1, 1]])

    def test_too_many_files_and_frames(self):
        self.native(stacks=[[[0] * 17, 1, 1]])
        self.native(files=[['/nowhere/a.so', '']] * 4097)

    def test_files_that_are_none(self):
        """Nothing is opened but regular files, and nothing is waited for."""
        pipe = os.path.join(self.directory, 'pipe')
        os.mkfifo(pipe)
        for path in (pipe, '/dev/zero', '/', '/a\0b', '/\ud800', '/\udcff', '',
                     'x', '/' + 'x' * 5000, __file__, '/../../dev/tty'):
            for build_id in '', 'ab', '\0', '\ud800', 'x' * 100_000:
                with self.subTest(path[:20], build_id=build_id[:20]):
                    self.native(0, files=[[path, build_id]])

    def test_escape_sequences_of_files(self):
        evil = '/x/\x1b]0;owned\x07\x1b[2J\r\u202e\u2066\x9b31m\x7f\n\ud800'
        self.assertIn('owned', self.native(0, files=[[evil, evil]]))

    def test_errors_of_other_types(self):
        for problem in WRONG:
            if problem is None or isinstance(problem, str):
                continue
            with self.subTest(repr(problem)[:20]):
                self.answer({'error': problem})
                self.assertIn('not a tracemalloc control socket', self.top())

    def test_what_is_no_answer(self):
        for line in (b'\n', b'220 hello\n', b'\xff\xfe\n', b'[]\n', b'7\n',
                     b'null\n', b'"x"\n', b'[' * 100_000 + b'\n',
                     b'{"a":' * 100_000 + b'\n', b'1' * 5000 + b'\n',
                     b'\0' * 1000 + b'\n', b'{}\n{}\n{}\n'):
            with self.subTest(line[:20]):
                self.answer(line)
                self.assertIn('not a tracemalloc control socket', self.top())

    def test_half_an_answer(self):
        for line in b'', b'{', json.dumps(STATUS).encode():
            with self.subTest(line):
                self.answer(line)
                self.assertIn('the program has ended', self.top())

    def test_escape_sequences(self):
        evil = '\x1b]0;owned\x07\x1b[2J\r\u202e\u2066\x9b31m\x7f\n\ud800'
        self.answer({'error': evil})
        self.assertIn('owned', self.top())
        self.answer(
            STATUS | {'argv': ['python', evil]},
            ARENAS | {'lines': [[evil, 3]]},
            {'next': [[1, 2, [[evil, 3]]]]},
            STATISTICS | {'argv': ['python', evil],
                          'rows': [[evil, 1, 1, 1, 1, 1]]})
        self.assertEqual(self.top(0).count('owned'), 4)

    def test_long_error(self):
        self.answer({'error': 'x' * 1_000_000})
        self.assertLess(len(self.top()), 1200)

    def test_flood(self):
        # A gigabyte is sent if it is taken.
        sent = []

        def behave(connection, lines):
            for _ in range(1024):
                connection.sendall(b'x' * (1 << 20))
                sent.append(1)

        self.serve(behave)
        self.assertIn('more than 8388608 bytes', self.top())
        self.assertLess(len(sent), 32)

    def check_given_up(self):
        with mock.patch.object(client, '_TIMEOUT', 0.5):
            start = time.monotonic()
            self.assertIn('stuck or stopped', self.top())
        self.assertLess(time.monotonic() - start, 5)

    def test_silence(self):
        ended = threading.Event()
        self.serve(lambda connection, lines: ended.wait(60))
        self.addCleanup(ended.set)
        self.check_given_up()

    def test_a_byte_now_and_then(self):
        def behave(connection, lines):
            for _ in range(100):
                time.sleep(0.1)
                connection.sendall(b' ')

        self.serve(behave)
        self.check_given_up()

    def test_nobody_accepts(self):
        self.listener.listen(0)
        waiting = socket.socket(socket.AF_UNIX)
        self.addCleanup(waiting.close)
        waiting.connect(self.path)
        self.check_given_up()


class PeerTest(AnswersCase):
    """Whose socket it is, by what the kernel says."""

    def other_program(self):
        """Return the id of a program that names our socket as its own."""
        process = subprocess.Popen(
            ['sleep', '60'], env={'PATH': os.environ['PATH'],
                                  'PYTRACEMALLOC_CONTROL': self.path})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while True:
            with open(f'/proc/{process.pid}/environ') as file:
                if 'PYTRACEMALLOC_CONTROL' in file.read():
                    return process.pid
            time.sleep(0.01)

    def test_process_that_another_one_answers_for(self):
        process = self.other_program()
        self.answer(STATUS | {'pid': process})
        with self.assertRaisesRegex(CommandError, (
                f'process {process} has no control socket of its own; '
                f'{self.path} is that of process {os.getpid()}')):
            with Client.of(str(process)) as client:
                client.ask('status')

    def test_process_id_is_the_kernels(self):
        self.answer(STATUS | {'pid': 1})
        with Client(self.path) as client:
            self.assertEqual(client.ask('status')['pid'], os.getpid())

    def test_nothing_is_sent_to_a_stranger(self):
        heard = []
        self.serve(lambda connection, lines: heard.append(connection.recv(9)))
        process = self.other_program()
        with self.assertRaises(CommandError):
            Client.of(str(process))
        end = time.monotonic() + 10
        while not heard and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(heard, [b''])

    @unittest.skipUnless(ROOT, 'only root can be another user')
    def test_listener_of_another_user(self):
        # The socket is ours by its owner, and nobody listens.
        server = self.start_as(NOBODY, mode=0o755)
        os.chown(self.theirs, 0, 0)
        with self.assertRaisesRegex(CommandError, (
                'the socket belongs to user 0, but user 65534')):
            Client(self.theirs)
        os.chown(self.theirs, NOBODY, NOBODY)
        with Client(self.theirs) as client:       # root may
            self.assertEqual(client.ask('status')['pid'], server.pid)

    @unittest.skipUnless(ROOT, 'only root can be another user')
    def test_socket_where_every_user_may_write(self):
        server = self.start_as(NOBODY, mode=0o1777)
        os.chmod(self.theirs, 0o666)
        link = os.path.join(self.directory, 'link')
        os.symlink('shared/theirs.sock', link)
        for path in self.theirs, link:
            for user in 0, OTHER:
                process = subprocess.run(
                    [sys.executable, '-m', 'pytracemalloc', 'top', '--once',
                     path], capture_output=True, text=True, user=user)
                self.assertEqual(process.returncode, 1)
                self.assertRegex(process.stderr, (
                    r'\Apytracemalloc: .*: the socket belongs to user 65534, '
                    r'in a directory that every user can write to; .*\n\Z'))
        process = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'top', '--once', link],
            capture_output=True, text=True, user=NOBODY)
        self.assertEqual(process.returncode, 0, process.stderr)
        # A process id names the process: the kernel knows who listens.
        with Client.of(str(server.pid)) as client:
            self.assertEqual(client.ask('status')['pid'], server.pid)

    def start_as(self, user, mode):
        os.chmod(self.directory, 0o755)
        shared = os.path.join(self.directory, 'shared')
        os.mkdir(shared)
        os.chown(shared, user, -1)
        os.chmod(shared, mode)
        self.theirs = os.path.join(shared, 'theirs.sock')
        server = subprocess.Popen(
            [sys.executable, '-c', textwrap.dedent('''
                import sys
                print(flush=True)
                sys.stdin.read()
                ''')], user=user, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {'PYTRACEMALLOC_CONTROL': self.theirs})
        self.addCleanup(server.communicate)
        server.stdout.readline()
        return server


if __name__ == '__main__':
    unittest.main()
