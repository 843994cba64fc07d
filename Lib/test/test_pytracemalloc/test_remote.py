"""start and snapshot of programs that run already and have no socket."""

import ctypes
import glob
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
import unittest

from pytracemalloc.client import Client
from pytracemalloc.processes import describe_denial
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import FLAVOUR

STOCK = pathlib.Path(sys.executable).parents[1] / 'unpatched/obj/python'
PR_CAPBSET_DROP = 24
# Executes Python code all the time, and says what a signal asks for.
BUSY = '''
import signal, threading, time
kept, ends = [], []
signal.signal(signal.SIGUSR1, lambda *_: ends.append(1))
print('ready', flush=True)
while not ends:
    kept.append(bytes(10_000))
    del kept[:-100]
    time.sleep(0.001)
print(len(kept), threading.active_count(), flush=True)
'''
# Sums as looks find and leave them, twice: the first imports modules, which
# takes the place of what tables of the interpreter have.  The loop allocates
# nothing.
SUMS = '''
import gc, signal, sys, tracemalloc
gc.disable()
sys._clear_internal_caches()
ended = False
def end(*_):
    global ended
    ended = True
signal.signal(signal.SIGUSR1, end)
for number in range(2):
    with tracemalloc.measure() as measure:
        print('ready', flush=True)
        while not ended:
            pass
    print(measure.current, measure.peak, measure.total_size,
          measure.total_count, flush=True)
    ended = False
'''
BLOCKED = '''
import os
print('ready', flush=True)
os.read(0, 1)
for number in range(100_000):
    pass
print('ended', flush=True)
'''


def skip_without_right(case):
    """Some containers forbid even to look into one's own children."""
    child = subprocess.Popen(['sleep', '100'])
    try:
        os.close(os.open(f'/proc/{child.pid}/mem', os.O_RDWR))
    except PermissionError:
        case.skipTest('may not write into the memory of other processes')
    finally:
        child.kill()
        child.wait()


class RemoteCase(CommandCase):
    def watch_requests(self):
        """Have requests left where nothing may stay behind."""
        self.requests = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.requests, 0o755)        # other users may enter
        previous, tempfile.tempdir = tempfile.tempdir, self.requests
        self.addCleanup(setattr, tempfile, 'tempdir', previous)
        self.addCleanup(
            lambda: self.assertEqual(os.listdir(self.requests), []))

    def launch(self, code, *options, python=sys.executable, **keywords):
        process = subprocess.Popen(
            [python, *options, '-c', code], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        return process

    def launch_blocked(self, code, *options):
        """Return a process that waits in a system call by now."""
        process = self.launch(code, *options)
        state = None
        while state != 'S':
            time.sleep(0.01)
            with open(f'/proc/{process.pid}/stat') as file:
                state = file.read().rpartition(') ')[2][0]
        return process

    def end(self, process):
        """Return what it says at its end, on standard output."""
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate()
        self.assertEqual((process.returncode, errors), (0, ''))
        return output


@unittest.skipIf(hasattr(sys, 'remote_exec'), 'needs no socket from 3.14 on')
class OldSeriesTest(RemoteCase):
    def test_it_says_so(self):
        process = self.launch(BUSY)
        for name in 'start', 'snapshot':
            self.refused(1, rf'process {process.pid} has no control socket; '
                         r'start it with .*Python 3\.14 and later',
                         name, str(process.pid))
        self.end(process)


class SocketTest(RemoteCase):
    """Where there is a socket, that is what is used, in every series."""

    def test_start_and_snapshot(self):
        process = self.launch(BUSY, '-Xtracemalloc_control=c.sock')
        for target in str(process.pid), 'c.sock':
            self.refused(1, f'process {process.pid} is not traced; start it '
                            f'with: pytracemalloc start {process.pid}',
                         'snapshot', target)
        self.assertEqual(self.ok('start', str(process.pid), '-n', 'full'),
                         f'Process {process.pid} is traced now, all frames\n')
        self.assertEqual(
            self.ok('start', 'c.sock'),
            f'Process {process.pid} was traced already, all frames\n')
        time.sleep(0.05)
        self.ok('snapshot', 'c.sock', '-o', 'app.tracemalloc')
        snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
        self.assertGreater(snapshot.traced_memory[0], 10_000)
        self.refused(1, 'exists; overwrite it with -f', 'snapshot', 'c.sock',
                     '-o', 'app.tracemalloc')
        self.ok('snapshot', 'c.sock', '-o', 'app.tracemalloc', '-f',
                '--no-traces')
        snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
        self.assertEqual(len(snapshot.traces), 0)
        for options in ['--keys'], ['--pause']:
            self.ok('snapshot', 'c.sock', '-o', 'app.tracemalloc', '-f',
                    '--references', *options)
            snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
            self.assertTrue(snapshot.has_references)
        self.end(process)

    def test_directory(self):
        processes = [self.launch(BUSY, '-Xtracemalloc_control=.',
                                 '-Xtracemalloc') for _ in range(2)]
        output = self.ok('snapshot', '.')
        for process in processes:
            self.assertRegex(output, rf'(?m)^Wrote .*/{process.pid}-[\d-]+\.'
                                     r'tracemalloc, \d')
        self.refused(2, '-o is for one process', 'snapshot', '.', '-o', 'x')
        self.refused(2, 'leave out --no-traces', 'snapshot', '.',
                     '--references', '--no-traces')
        self.refused(2, 'add --references', 'snapshot', '.', '--keys')
        self.refused(2, 'add --references', 'snapshot', '.', '--pause')
        self.refused(2, '--socket is for one', 'start', '.', '--socket', 'x')
        for process in processes:
            self.end(process)


@unittest.skipUnless(hasattr(sys, 'remote_exec'),
                     'sys.remote_exec() is new in 3.14')
class RemoteTest(RemoteCase):
    def setUp(self):
        super().setUp()
        skip_without_right(self)
        self.watch_requests()

    def test_start_and_snapshot(self):
        process = self.launch(BUSY)
        pid = str(process.pid)
        self.refused(1, f'process {pid} is not traced; start it with: '
                        f'pytracemalloc start {pid}', 'snapshot', pid)
        self.assertEqual(self.ok('start', pid, '-n', '3'),
                         f'Process {pid} is traced now, 3 frames\n')
        self.assertEqual(self.ok('start', pid),
                         f'Process {pid} was traced already, 3 frames\n')
        files = set()
        while not files:          # the program may not have run on
            time.sleep(0.2)
            self.assertRegex(
                self.ok('snapshot', pid, '-fo', 'app.tracemalloc'),
                r'^Wrote .*/app\.tracemalloc, [\d.]+ \w+\n$')
            snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
            files = {stat.traceback[0].filename
                     for stat in snapshot.statistics('filename')}
        self.assertEqual(files, {'<string>'})
        self.assertFalse(snapshot.has_references)
        self.ok('snapshot', pid, '-fo', 'app.tracemalloc', '--references')
        snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
        self.assertTrue(snapshot.has_references)
        # No thread of ours has stayed.
        self.assertEqual(self.end(process), '100 1\n')

    def test_socket_for_later(self):
        process = self.launch(BUSY)
        output = self.ok('start', str(process.pid), '--socket', 'c.sock')
        self.assertRegex(output, r'\nIt serves .*/c\.sock\n$')
        with Client('c.sock') as client:
            self.assertTrue(client.ask('status')['tracing'])
        # From now on that is what is used: no time is needed.
        self.assertIn('was traced already',
                      self.ok('start', str(process.pid), '--wait', '1'))
        self.end(process)
        self.assertFalse(os.path.exists('c.sock'))

    @unittest.skipIf(FLAVOUR == 'ignore', 'what was on a free list is traced')
    def test_looking_changes_nothing(self):
        first, later = zip(*(self.sums(looks) for looks in (0, 3)))
        self.assertEqual(first[0][2:], first[1][2:])
        self.assertEqual(*later)

    def sums(self, looks):
        process = self.launch(SUMS, '-Xtracemalloc=5')
        said = []
        for _ in range(2):
            if said:
                self.assertEqual(process.stdout.readline(), 'ready\n')
            for _ in range(looks):
                self.ok('snapshot', str(process.pid), '-fo', 'a.tracemalloc')
            process.send_signal(signal.SIGUSR1)
            said.append([*map(int, process.stdout.readline().split())])
        return said

    def test_other_scripts_are_traced(self):
        # The name alone tells ours.
        path = self.write('script.py', 'import sys\n'
                                       'sys.kept = bytes(100_000)\n')
        process = self.launch(BUSY, '-Xtracemalloc=5')
        sys.remote_exec(process.pid, path)
        time.sleep(0.5)
        self.ok('snapshot', str(process.pid), '-o', 'a.tracemalloc')
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertIn(sys.getsizeof(bytes(100_000)),
                      [trace.size for trace in snapshot.traces])
        self.end(process)

    def test_blocked(self):
        process = self.launch_blocked(BLOCKED)
        self.refused(1, f'process {process.pid} has executed no Python code '
                        f'in its main thread for 1 s, so the request was '
                        f'withdrawn',
                     'start', str(process.pid), '--wait', '1')
        self.assertEqual(process.communicate('x'), ('ended\n', ''))

    def test_blocked_for_a_while(self):
        process = self.launch_blocked(BLOCKED + 'os.read(0, 1)')
        with subprocess.Popen(
                [sys.executable, '-m', 'pytracemalloc', 'start',
                 str(process.pid), '--wait', '60'], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=os.environ | {'TMPDIR': self.requests}) as starter:
            self.wait_for_request()
            process.stdin.write('x')
            process.stdin.flush()
            output, errors = starter.communicate()
        self.assertEqual((output, errors), (
            f'Process {process.pid} is traced now, all frames\n', ''))
        self.assertEqual(process.communicate('x'), ('ended\n', ''))

    def wait_for_request(self):
        """Return the directory of a request when the process is told."""
        while not (names := glob.glob('tracemalloc-*',
                                      root_dir=self.requests)):
            time.sleep(0.01)
        directory = os.path.join(self.requests, names[0])
        while len(os.listdir(directory)) < 2:
            time.sleep(0.01)
        time.sleep(0.5)
        return directory

    def test_who_asked_has_gone(self):
        # By Control-C the request is withdrawn; after SIGKILL it comes to
        # nothing, and the program removes it.
        for number, left in (signal.SIGINT, 0), (signal.SIGKILL, 1):
            process = self.launch_blocked(BLOCKED, '-Xtracemalloc')
            with subprocess.Popen(
                    [sys.executable, '-m', 'pytracemalloc', 'snapshot',
                     str(process.pid), '-o', 'late.tracemalloc'],
                    env=os.environ | {'TMPDIR': self.requests},
                    stderr=subprocess.PIPE) as asker:
                self.wait_for_request()
                asker.send_signal(number)
                asker.communicate()
            self.assertEqual(len(os.listdir(self.requests)), left)
            self.assertEqual(process.communicate('x'), ('ended\n', ''))
            self.assertEqual(os.listdir(self.requests), [])
        self.assertFalse(os.path.exists('late.tracemalloc'))

    def test_only_the_user_can_read_the_request(self):
        process = self.launch_blocked(BLOCKED)
        with subprocess.Popen(
                [sys.executable, '-m', 'pytracemalloc', 'start',
                 str(process.pid)], stderr=subprocess.PIPE,
                env=os.environ | {'TMPDIR': self.requests}) as asker:
            directory = self.wait_for_request()
            self.assertEqual(os.stat(directory).st_mode & 0o777, 0o700)
            script = os.path.join(directory, 'tracemalloc-request.py')
            self.assertEqual(os.stat(script).st_mode & 0o777, 0o400)
            asker.send_signal(signal.SIGINT)
            asker.communicate()
        process.communicate('x')

    def test_ends_meanwhile(self):
        process = self.launch_blocked(
            BLOCKED.replace('for', 'os._exit(0)\nfor'))
        with subprocess.Popen(
                [sys.executable, '-m', 'pytracemalloc', 'start',
                 str(process.pid), '--wait', '60'], text=True,
                stderr=subprocess.PIPE, env=os.environ
                | {'TMPDIR': self.requests}) as starter:
            self.wait_for_request()
            process.kill()
            process.wait()
            _, errors = starter.communicate()
        self.assertEqual(errors, f'pytracemalloc: process {process.pid} has '
                                 f'ended\n')

    def test_not_for_it(self):
        sleeper = subprocess.Popen(['sleep', '100'])
        self.addCleanup(sleeper.wait)
        self.addCleanup(sleeper.kill)
        while os.path.basename(os.readlink(
                f'/proc/{sleeper.pid}/exe')) == os.path.basename(
                    os.path.realpath(sys.executable)):
            time.sleep(0.01)      # until exec()
        self.refused(1, f'process {sleeper.pid} does not run Python', 'start',
                     str(sleeper.pid))
        ended = subprocess.Popen(['true'])
        ended.wait()
        self.refused(1, f'there is no process {ended.pid}', 'start',
                     str(ended.pid))

    @unittest.skipUnless(STOCK.is_file(), 'needs `make stock`')
    def test_stock(self):
        process = self.launch(BUSY, python=STOCK)
        self.refused(1, f'process {process.pid} runs a Python without this '
                        f'tracer, .*; run the program with {sys.executable}',
                     'start', str(process.pid))
        self.end(process)

    def test_switched_off(self):
        for options, variables in (
                (['-Xdisable-remote-debug'], {}),
                ([], {'PYTHON_DISABLE_REMOTE_DEBUG': '1'})):
            process = self.launch(BUSY, *options, env=os.environ | variables)
            self.refused(1, 'remote debugging is not enabled in the remote '
                            'process; start it with -X tracemalloc_control',
                         'start', str(process.pid))
            self.end(process)
        process = self.launch(BUSY)
        answer = command('start', str(process.pid),
                         env=os.environ | {'PYTHON_DISABLE_REMOTE_DEBUG': '1'})
        self.assertRegex(answer.stderr, r'^pytracemalloc: process \d+ cannot '
                         r'be reached: remote debugging is not enabled; .*\n$')
        self.end(process)

    def test_module_of_the_same_name(self):
        # What the program cannot import, the command says.
        self.write('pytracemalloc.py', '')
        process = self.launch(BUSY)
        self.refused(1, 'it cannot answer: ModuleNotFoundError', 'start',
                     str(process.pid))
        self.end(process)


@unittest.skipUnless(hasattr(sys, 'remote_exec'),
                     'sys.remote_exec() is new in 3.14')
@unittest.skipUnless(os.geteuid() == 0, 'only root can be another user')
class OtherUserTest(RemoteCase):
    def setUp(self):
        super().setUp()
        skip_without_right(self)
        os.chmod(self.directory, 0o755)
        self.watch_requests()

    def test_root_may(self):
        process = self.launch(BUSY, user=65534)
        self.assertIn('is traced now', self.ok('start', str(process.pid)))
        self.refused(1, 'Permission denied', 'snapshot', str(process.pid))
        os.mkdir('theirs')
        os.chown('theirs', 65534, -1)
        self.ok('snapshot', str(process.pid), '-o', 'theirs/a.tracemalloc')
        self.assertEqual(os.stat('theirs/a.tracemalloc').st_uid, 65534)
        self.end(process)

    def test_others_may_not(self):
        process = self.launch(BUSY)
        answer = command('start', str(process.pid), user=65534)
        self.assertEqual(answer.returncode, 1)
        self.assertEqual(
            answer.stderr, f'pytracemalloc: process {process.pid} belongs to '
                           f'another user; run this as that user or root\n')
        self.end(process)

    def test_without_the_right(self):
        # Root of a container that may not trace, and a process that may more.
        libc = ctypes.CDLL(None)
        process = self.launch(BUSY)

        def drop():
            for capability in range(64):
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

        answer = command('start', str(process.pid), preexec_fn=drop)
        self.assertEqual(answer.returncode, 1)
        self.assertEqual(answer.stderr,
                         f'pytracemalloc: {describe_denial(process.pid)}\n')
        self.assertIn('CAP_SYS_PTRACE', answer.stderr)
        self.end(process)

    @unittest.skipIf(sys.executable.startswith('/tmp/'),
                     'the interpreter itself is in /tmp')
    def test_tmp_of_its_own(self):
        # As a service with PrivateTmp=, or a container that shares a volume.
        code = ('import ctypes\nlibc = ctypes.CDLL(None)\n'
                'CLONE_NEWNS, MS_PRIVATE_REC = 0x20000, 0x44000\n'
                'assert not libc.unshare(CLONE_NEWNS)\n'
                'assert not libc.mount(None, b"/", None, MS_PRIVATE_REC, '
                'None)\n'
                'assert not libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)\n'
                + BUSY)
        process = self.launch(code)
        self.assertIn('is traced now', self.ok('start', str(process.pid)))
        output = self.ok('snapshot', str(process.pid))
        path = output.split()[1].rstrip(',')
        self.assertRegex(path, rf'^/proc/{process.pid}/root/tmp/'
                               rf'{process.pid}-.*\.tracemalloc$')
        tracemalloc.Snapshot.load(path)
        self.end(process)


if __name__ == '__main__':
    unittest.main()
