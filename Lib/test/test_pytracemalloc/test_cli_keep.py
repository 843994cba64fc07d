"""`pytracemalloc run` waits for its program: the snapshot of one that was
killed, and that nobody else notices who waits."""
import contextlib
import errno
import json
import os
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
import unittest
from unittest import mock

from test.support import captured_stderr
from test.test_pytracemalloc import kept_programs
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import FREE_THREADED, SANITIZED
from test.test_pytracemalloc.terminal import Terminal

from pytracemalloc import keeping, kept
from pytracemalloc.cgroup import Kills
from pytracemalloc.foreign import read_rss
from pytracemalloc.recording import MEMORY

PROGRAM = '''\
import faulthandler, os, signal, subprocess, sys, time

def load(count):
    return [bytes(1000) for _ in range(count)]

live = load(3000)
'''
# Until somebody ends it.
SLEEP = 'print("ready", flush=True)\nwhile True: time.sleep(0.05)\n'
GROUPS = '/sys/fs/cgroup/memory', '/sys/fs/cgroup'


class KeepTreeTests(CommandCase):
    def run_app(self, end, *options, **arguments):
        self.write('app.py', PROGRAM + end)
        return command('run', '--top', '1', '-f', '-o', 'app.tracemalloc',
                       *options, 'app.py', **arguments)

    def check(self, result, status, how, blocks=3000):
        self.assertEqual(result.returncode, status, result.stderr)
        lines = result.stderr.splitlines()
        if how is not None:
            self.assertEqual(lines[0], f'pytracemalloc: {how}')
        self.assertEqual(lines[-1], 'Snapshot: app.tracemalloc')
        snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
        found, _ = kept_programs.line_of(
            snapshot, os.path.abspath('app.py'), 4)
        self.assertIn(found, range(blocks, blocks + 10))
        self.assertEqual([name for name in os.listdir()
                          if name.endswith('.kept')], [])
        return snapshot

    def test_killed(self):
        result = self.run_app('os.kill(os.getpid(), signal.SIGKILL)')
        snapshot = self.check(result, -signal.SIGKILL, 'killed by SIGKILL')
        self.assertIn('app.py', snapshot.metadata['recovered']['command'])

    def test_a_reason_is_never_empty(self):
        options = {'keep_tree': MEMORY, 'output': 'a', 'kills': Kills().counts}
        for exc, reason in ((MemoryError(), 'not enough memory'),
                            (OSError(), 'OSError()'),
                            (OSError(errno.EIO, 'bad disk'), 'bad disk')):
            with mock.patch.object(kept, 'load', side_effect=exc), \
                    captured_stderr() as stderr:
                keeping.write_missing(json.dumps(options), [(0, True)], 0)
            self.assertEqual(stderr.getvalue(),
                             f'pytracemalloc: a: no snapshot: {reason}\n')

    @unittest.skipIf(SANITIZED, 'the sanitizer ends it with a report')
    def test_crash(self):
        self.check(self.run_app('faulthandler._sigsegv()'), -signal.SIGSEGV,
                   'killed by SIGSEGV')

    def test_another_program(self):
        result = self.run_app(
            'os.execv(sys.executable, [sys.executable, "-c", "exit(4)"])')
        self.check(result, 4, 'ended as another program (os.execv), with '
                              'status 4')
        result = self.run_app(
            'os.execv("/bin/sh", ["sh", "-c", "kill -9 $$"])', '--keep-tree')
        self.check(result, -9, 'ended as another program (os.execv), killed '
                               'by SIGKILL')

    def test_another_program_that_is_not_there(self):
        result = self.run_app("""
for names in ('/no/such', ['x']), (3, ['x'], {}):
    try:
        (os.execv if len(names) == 2 else os.execve)(*names)
    except OSError:
        pass
os.abort()""")
        self.check(result, -signal.SIGABRT, 'killed by SIGABRT')

    def test_threads(self):
        for end, number in (('faulthandler._sigsegv()', signal.SIGSEGV),
                            ('os.abort()', signal.SIGABRT),
                            ('os.kill(os.getpid(), 9)', signal.SIGKILL)):
            with self.subTest(end):
                result = self.run_app(f"""
import threading
def allocate():
    while True:
        [bytes(500) for _ in range(100)]
for i in range(3):
    threading.Thread(target=allocate, daemon=True).start()
threading.Thread(target=lambda: (time.sleep(0.1), {end})).start()
time.sleep(30)
""")
                self.check(result, -number, f'killed by {number.name}')

    def test_file(self):
        """It is there when the command is killed as well."""
        result = self.run_app('os.kill(os.getppid(), 9); time.sleep(30)',
                              '--keep-tree=tree')
        self.assertEqual((result.returncode, result.stderr), (-9, ''))
        result = command('recover', 'tree', '-o', 'app.tracemalloc')
        self.assertEqual(result.returncode, 0, result.stderr)
        snapshot = tracemalloc.Snapshot.load('app.tracemalloc')
        self.assertIn(kept_programs.line_of(
            snapshot, os.path.abspath('app.py'), 4)[0], range(3000, 3010))

    def test_not_kept(self):
        result = self.run_app('os.kill(os.getpid(), 9)', '--no-keep-tree')
        self.assertEqual((result.returncode, result.stderr), (-9, ''))
        self.assertEqual(os.listdir(), ['app.py'])
        result = self.run_app('print(os.getppid())', '--no-keep-tree', '-q')
        self.assertEqual(int(result.stdout), os.getpid())

    def test_ends_that_write_a_snapshot(self):
        for end, status in (('', 0), ('sys.exit(3)', 3), ('os._exit(5)', 5),
                            ('os.kill(os.getpid(), signal.SIGTERM)', -15)):
            with self.subTest(end):
                result = self.run_app(end)
                self.check(result, status, None)
                self.assertNotIn('killed', result.stderr)

    def test_quiet(self):
        result = self.run_app('os.kill(os.getpid(), 9)', '-q')
        self.assertEqual((result.returncode, result.stderr), (-9, ''))
        self.assertTrue(os.path.exists('app.tracemalloc'))

    def test_killed_while_it_forks(self):
        result = self.run_app('''
for i in range(3):
    pid = os.fork()
    if not pid:
        own = load(100 * (i + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
''', '--follow')
        pids = result.stdout.split()
        self.assertEqual(len(pids), 3, result.stderr)
        for i, pid in enumerate(pids):
            self.assertIn(f'pytracemalloc: process {pid}: ', result.stderr)
            snapshot = tracemalloc.Snapshot.load(f'app.{pid}.tracemalloc')
            found, _ = kept_programs.line_of(
                snapshot, os.path.abspath('app.py'), 4)
            self.assertIn(found, range(100 * (i + 1), 100 * (i + 1) + 4))

    def test_signals_are_sent_on(self):
        # A signal that comes right before a call blocks is noticed after it.
        sleep = 'while True: time.sleep(0.05)'
        for number, end in (
                (signal.SIGTERM, sleep),
                (signal.SIGUSR1, 'signal.signal(signal.SIGUSR1, lambda *_:'
                                 f' sys.exit(9)); print(1, flush=True)\n'
                                 f'{sleep}')):
            self.write('app.py', f'{PROGRAM}print(0, flush=True)\n{end}\n')
            with subprocess.Popen(
                    [sys.executable, '-m', 'pytracemalloc', 'run',
                     '-q', '-f', '-o', 'app.tracemalloc', 'app.py'],
                    stdout=subprocess.PIPE) as program:
                for _ in range(1 + end.count('print')):
                    program.stdout.readline()
                program.send_signal(number)
                self.assertEqual(program.wait(),
                                 9 if number == signal.SIGUSR1 else -number)
            self.assertTrue(os.path.exists('app.tracemalloc'))

    def test_no_file(self):
        result = command('run', '--keep-tree', '-o', '/dev/null', '-c', '1')
        self.assertEqual(result.returncode, 2)
        self.assertIn('--keep-tree needs a file', result.stderr)

    def test_no_room(self):
        result = self.run_app('os._exit(3)', preexec_fn=lambda: (
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))))
        self.assertEqual(
            result.stderr.splitlines()[0], 'tracemalloc: memory for the call '
            'tree: the limit for the size of a file (ulimit -f); the call '
            'tree is not kept')
        self.check(result, 3, None)

    def test_killed_worker(self):
        """Its tree is not held until the program ends."""
        result = self.run_app("""
for i in range(2):
    if not (pid := os.fork()):
        if i == 0:
            own = load(100)
            os.kill(os.getpid(), 9)
        os._exit(0)
    time.sleep(0.5)      # until it is known that it has a tree
    os.waitpid(pid, 0)
    print(pid, flush=True)
while not any('process' in line for line in open('errors')):
    time.sleep(0.05)
print('written', flush=True)
os.kill(os.getpid(), 9)
""", '--follow', capture_output=False, stdout=subprocess.PIPE,
                              stderr=open('errors', 'w'))
        killed, ended, written = result.stdout.split()
        snapshot = tracemalloc.Snapshot.load(f'app.{killed}.tracemalloc')
        found, _ = kept_programs.line_of(
            snapshot, os.path.abspath('app.py'), 4)
        self.assertIn(found, range(100, 104))
        self.assertTrue(os.path.exists(f'app.{ended}.tracemalloc'))

    def test_no_answer(self):
        """Who holds the trees is stopped: a line says that there is none."""
        result = self.run_app("""
os.kill(os.getppid(), signal.SIGSTOP)
pid = os.fork()
if not pid:
    print(os.getpid(), os.getppid(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os.kill(os.getppid(), signal.SIGCONT)
print(os.getppid())
""", '--follow')
        child, _, holder = result.stdout.split()
        self.assertIn(f'pytracemalloc: process {child}: the call tree is not '
                      f'kept: process {holder} has not answered within a '
                      f'second\n', result.stderr)
        self.assertEqual(result.returncode, 0)

    def test_out_of_memory(self):
        """In a control group with a limit, which the kernel enforces."""
        group = self.make_group(200 << 20)
        result = self.run_app(
            'more = []\nwhile True: more.append(bytearray(b"x") * 100_000)',
            preexec_fn=lambda: self.enter(group))
        self.check(result, -signal.SIGKILL,
                   'killed by SIGKILL (out of memory: cgroup limit 200 MiB '
                   'reached)')

    def make_group(self, limit):
        for root, name in zip(GROUPS, ('memory.limit_in_bytes', 'memory.max')):
            group = os.path.join(root, f'test_keep_{os.getpid()}')
            with contextlib.suppress(OSError):
                os.mkdir(group)
                self.addCleanup(os.rmdir, group)
                with open(os.path.join(group, name), 'w') as file:
                    file.write(str(limit))
                return group
        self.skipTest('this user may not make a control group with a limit')

    @staticmethod
    def enter(group):
        with open(os.path.join(group, 'cgroup.procs'), 'w') as file:
            file.write('0')


class HolderTests(CommandCase):
    """The process that waits, beside the program."""

    def start(self, text, *options, **arguments):
        """Start a program, and wait until it is ready."""
        self.write('app.py', PROGRAM + text)
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-f', '-q', '-o',
             'app.tracemalloc', *options, 'app.py'], stdout=subprocess.PIPE,
            text=True, **arguments)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process, process.stdout.readline().split()

    @unittest.skipIf(SANITIZED, 'a sanitizer has memory of its own')
    def test_it_is_small(self):
        process, _ = self.start(SLEEP)
        with open(f'/proc/{process.pid}/smaps_rollup') as file:
            anonymous = next(int(line.split()[1]) for line in file
                             if line.startswith('Anonymous:'))
        self.assertLess(anonymous, 10_000 if FREE_THREADED else 5000)

    def test_program_ends_with_it(self):
        process, (pid,) = self.start(f'print(os.getpid()); {SLEEP}'
                                     .replace('"ready"', '""'))
        process.kill()
        end = os.pidfd_open(int(pid))
        self.addCleanup(os.close, end)
        self.assertTrue(select.select([end], [], [], 30)[0])

    def test_files(self):
        """The program has none that others would not have, and where it closes
        its output there is an end."""
        process, files = self.start("""
links = [os.readlink(f'/proc/self/fd/{name}') for name in
         os.listdir('/proc/self/fd') if int(name) < 200
         and os.path.exists(f'/proc/self/fd/{name}')]
print(*[link for link in links if 'memfd' in link], flush=True)
os.close(1)
sys.stdin.read()
""", stdin=subprocess.PIPE)
        self.assertEqual(files, [])
        self.assertEqual(process.stdout.read(), '')
        self.assertIsNone(process.poll())
        process.communicate()

    def test_service(self):
        """A service manager means the process that it has started."""
        self.write('app.py', 'import os\nprint(os.environ["LISTEN_PID"] == '
                             'str(os.getpid()), os.environ["WATCHDOG_PID"])')
        start = ('export LISTEN_PID=$$ WATCHDOG_PID=7; exec "$@"', '-',
                 sys.executable, '-m', 'pytracemalloc', 'run', '-o', 'app')
        result = subprocess.run(['sh', '-c', *start, 'app.py'], text=True,
                                capture_output=True)
        self.assertEqual(result.stdout, 'True 7\n', result.stderr)

    def test_service_that_notifies(self):
        with_socket = os.environ | {'NOTIFY_SOCKET': '/no/such'}
        for options, waits in ((), False), (('--keep-tree',), True):
            self.write('app.py', 'import os; print(os.getppid())')
            result = command('run', '-f', '-o', 'app', *options, 'app.py',
                             env=with_socket)
            self.assertEqual(int(result.stdout) != os.getpid(), waits)
            self.assertEqual('NOTIFY_SOCKET' in result.stderr, not waits)

    def test_ignored_child_signal(self):
        self.write('app.py', 'import os, signal; print(signal.getsignal('
                             'signal.SIGCHLD).name, flush=True); os._exit(5)')
        result = command('run', '-q', '-o', 'app', 'app.py', preexec_fn=lambda:
                         signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assertEqual((result.returncode, result.stdout), (5, 'SIG_IGN\n'))

    def test_looked_at_by_its_process_id(self):
        process, (pid, _) = self.start(f'print(os.getpid(), end=" "); {SLEEP}')
        result = command('rss', '--json', str(process.pid))
        self.assertEqual(json.loads(result.stdout)['pid'], int(pid),
                         result.stderr)
        # And by who cannot ask.
        owners = {row.owner: row for row in read_rss(int(pid), '').rows}
        self.assertEqual(owners['tracer'].name, 'tables')
        self.assertNotIn('pytracemalloc', owners['shared'].name
                         if 'shared' in owners else '')

    def test_kept_tree_is_the_tracers(self):
        for options in (), ('--keep-tree',):
            process, (rows,) = self.start("""
import json, tracemalloc
print(json.dumps([row[:2] for row in tracemalloc.rss().rows
                  if 'tree' in row[1] or 'kept' in row[1]]).replace(' ', ''),
      flush=True)
""", *options)
            self.assertEqual(json.loads(rows), [])
            process.wait()

    def test_first_process_of_a_container(self):
        """It has orphans, and does not die of signals."""
        start = ['unshare', '--pid', '--fork', '--mount-proc']
        if subprocess.run([*start, 'true'], capture_output=True).returncode:
            self.skipTest('this user may not make a namespace')
        self.write('app.py', PROGRAM + """
subprocess.run(['sh', '-c', 'sleep 0.1 & exit'])
time.sleep(0.5)
print(os.getppid(), *[name for name in os.listdir('/proc') if name.isdigit()
                      and 'zombie' in open(f'/proc/{name}/status').read()])
sys.stdout.flush()
os.kill(os.getpid(), 9)
""")
        result = subprocess.run(
            [*start, sys.executable, '-m', 'pytracemalloc', 'run', '-o', 'app',
             'app.py'], capture_output=True, text=True)
        self.assertEqual(result.stdout, '1\n')
        self.assertEqual(result.returncode, 128 + 9)
        self.assertIn('killed by SIGKILL', result.stderr)


class TerminalTests(CommandCase):
    def test_terminal_goes(self):
        """The kernel tells the leader of the session alone."""
        self.write('app.py', """
import os, signal, time
def handle(*_):
    with open('ended', 'w') as file:
        file.write('by SIGHUP')
    os._exit(0)
signal.signal(signal.SIGHUP, handle)
print('started', flush=True)
while True:
    time.sleep(0.05)
""")
        with Terminal('run', '-q', '-o', 'app', 'app.py') as terminal:
            terminal.wait_for('started')
            os.close(terminal.slave)
            os.close(terminal.master)
            self.assertEqual(terminal.process.wait(60), 0)
            terminal.slave, terminal.master = os.pipe()
        self.assertTrue(os.path.exists('ended'))

    def test_keys(self):
        """In a shell, with job control."""
        self.write('app.py', """
import os, signal, sys, time
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'continued\\n'))
signal.signal(signal.SIGINT, lambda *_: (print('interrupted'), sys.exit(3)))
print('started', flush=True)
while True:
    time.sleep(0.05)
""")
        shell = ('sh', '-im')
        run = shlex.join([sys.executable, '-m', 'pytracemalloc', 'run', '-q',
                          '-o', 'app', 'app.py'])
        with Terminal(program=shell,
                      environment=os.environ | {'PS1': '$ '}) as terminal:
            terminal.type(f'{run}\n')
            terminal.wait_for('started')
            terminal.type('\x1a')
            terminal.wait_for('Stopped|Suspended')
            terminal.type('fg\n')
            terminal.wait_for('continued')
            terminal.type('\x1a')
            time.sleep(0.5)
            terminal.type('bg\n')
            time.sleep(0.5)
            terminal.type('jobs\n')
            terminal.wait_for('Running')
            terminal.type('fg\n')
            time.sleep(0.5)
            terminal.type('\x03')
            terminal.wait_for('interrupted')
            terminal.type('echo th"u"s $?\n')
            terminal.wait_for('thus 3')
            self.assertEqual(
                sum('interrupted' in line for line in terminal.page()), 1)


if __name__ == '__main__':
    unittest.main()
