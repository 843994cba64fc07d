"""`pytracemalloc run --keep-tree`: the snapshot of a program that was killed."""
import contextlib
import os
import signal
import subprocess
import sys
import tracemalloc
import unittest
from test.test_pytracemalloc import kept_programs
from test.test_pytracemalloc.command_case import CommandCase, command

PROGRAM = '''\
import faulthandler, os, signal, subprocess, sys, time

def load(count):
    return [bytes(1000) for _ in range(count)]

live = load(3000)
'''
GROUPS = '/sys/fs/cgroup/memory', '/sys/fs/cgroup'


class KeepTreeTests(CommandCase):
    def run_app(self, end, *options, **arguments):
        self.write('app.py', PROGRAM + end)
        return command('run', '--keep-tree', '--top', '1', '-f', '-o',
                       'app.tracemalloc', *options, 'app.py', **arguments)

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

    def test_crash(self):
        self.check(self.run_app('faulthandler._sigsegv()'), -signal.SIGSEGV,
                   'killed by SIGSEGV')

    def test_another_program(self):
        result = self.run_app(
            'os.execv(sys.executable, [sys.executable, "-c", "exit(4)"])')
        self.check(result, 4, 'ended at once with status 4, or as another '
                              'program (os.execv)')

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
        # A signal that comes right before a call blocks is heeded after it.
        sleep = 'while True: time.sleep(0.05)'
        for number, end in (
                (signal.SIGTERM, sleep),
                (signal.SIGUSR1, 'signal.signal(signal.SIGUSR1, lambda *_:'
                                 f' sys.exit(9)); print(1, flush=True)\n'
                                 f'{sleep}')):
            self.write('app.py', f'{PROGRAM}print(0, flush=True)\n{end}\n')
            with subprocess.Popen(
                    [sys.executable, '-m', 'pytracemalloc', 'run',
                     '--keep-tree', '-q', '-f', '-o', 'app.tracemalloc',
                     'app.py'], stdout=subprocess.PIPE) as program:
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


if __name__ == '__main__':
    unittest.main()
