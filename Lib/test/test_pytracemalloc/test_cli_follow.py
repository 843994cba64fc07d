"""pytracemalloc run --follow: a file for each process."""

import glob
import os
import re
import tracemalloc
import unittest

from test.test_pytracemalloc.command_case import CommandCase, command

# work() allocates on line 6; what a child does comes after the marker.
PROGRAM = '''\
import multiprocessing, os, signal, subprocess, sys, time

kept = []

def work(ending=None):
    kept.append(bytes(2_000_000))
    if ending:
        ending()

def die(number):
    os.kill(os.getpid(), number)
    time.sleep(60)

def killed():
    die(signal.SIGKILL)

def terminated():
    die(signal.SIGTERM)

def hung_up():
    die(signal.SIGHUP)

def exits():
    sys.exit(7)

def leaves():
    os._exit(7)

def fails():
    1 / 0

def grow():
    for _ in range(40):
        work()

def look():
    import tracemalloc
    print(tracemalloc.is_tracing(), signal.getsignal(signal.SIGTERM),
          os._exit, flush=True)

def fork(ending):
    if not (pid := os.fork()):
        work(ending)
        os._exit(0)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def start(method, ending):
    context = multiprocessing.get_context(method)
    child = context.Process(target=work, args=(ending,))
    child.start()
    child.join()
    return child.pid, child.exitcode

def spawn(code):
    child = subprocess.Popen([sys.executable, '-c', code])
    return child.pid, child.wait()

if __name__ == '__main__':
    parent = bytearray(20_000_000)
'''


class FollowTest(CommandCase):
    def follow(self, code, *options):
        """Run PROGRAM with *code*, which prints '(pid, status)' for each
        child; return [(pid, status)], the snapshot files by process id, and
        the error output."""
        body = ''.join(f'    {line}\n' for line in code.splitlines())
        path = self.write('app.py', PROGRAM + body)
        process = command('run', '--follow', '-o', 'a.tracemalloc', *options,
                          path)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(glob.glob('*.tmp'), [])
        children = [tuple(map(int, pair)) for pair in
                    re.findall(r'\((\d+), (-?\d+)\)', process.stdout)]
        files = {}
        for name in glob.glob('a.*.tracemalloc'):
            number = re.fullmatch(r'a\.(\d+)\.tracemalloc', name)
            files[int(number[1])] = tracemalloc.Snapshot.load(name)
        for pid, snapshot in files.items():
            self.assertEqual(snapshot.pid, pid)
        parent = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertNotIn(parent.pid, files)
        self.assertGreater(parent.traced_memory[0], 20_000_000)
        return children, files, process.stderr

    def check_child(self, snapshot, blocks=1):
        """The child's own memory is all there, and nothing of the parent."""
        [size] = [stat.size for stat in snapshot.statistics('lineno')
                  if stat.traceback[-1].filename.endswith('app.py')
                  and stat.traceback[-1].lineno == 6]
        self.assertGreaterEqual(size, blocks * 2_000_000)
        self.assertLess(size, blocks * 2_001_000)
        self.assertGreaterEqual(snapshot.traced_memory[0], size)
        self.assertLess(snapshot.traced_memory[1], size + 10_000_000)

    def test_multiprocessing(self):
        for method in 'fork', 'spawn', 'forkserver':
            with self.subTest(method):
                children, files, errors = self.follow(
                    f'for ending in (None, exits, leaves, fails, terminated,'
                    f' killed):\n'
                    f'    print(start({method!r}, ending), flush=True)\n',
                    '-f')
                self.assertEqual([status for _, status in children],
                                 [0, 7, 7, 1, -15, -9])
                for pid, _ in children:
                    self.check_child(files[pid])
                    self.assertRegex(errors, rf'pytracemalloc: process {pid}:'
                                             rf' .*; a\.{pid}\.tracemalloc\n')
                for pid in files:
                    os.unlink(f'a.{pid}.tracemalloc')

    def test_pool(self):
        for method in 'fork', 'spawn', 'forkserver':
            with self.subTest(method):
                children, files, _ = self.follow(
                    f'context = multiprocessing.get_context({method!r})\n'
                    f'with context.Pool(2) as pool:\n'
                    f'    pool.map(work, [None] * 8, chunksize=1)\n'
                    f'    for child in multiprocessing.active_children():\n'
                    f'        print((child.pid, 0))\n'
                    f'    pool.close()\n'
                    f'    pool.join()\n', '-f')
                self.assertEqual(len(children), 2)
                sizes = [files[pid].traced_memory[0] for pid, _ in children]
                self.assertGreaterEqual(sum(sizes), 8 * 2_000_000)
                for pid in files:
                    os.unlink(f'a.{pid}.tracemalloc')

    def test_pool_that_is_terminated(self):
        # By SIGTERM, at the moment when the workers wait for another task,
        # or write: the file is made of what they have left.
        children, files, _ = self.follow(
            'for _ in range(20):\n'
            '    with multiprocessing.get_context("fork").Pool(2) as pool:\n'
            '        pool.map(work, [None] * 4, chunksize=1)\n'
            '        workers = multiprocessing.active_children()\n'
            '    for child in workers:\n'
            '        print((child.pid, child.exitcode))\n')
        self.assertEqual(len(children), 40)
        self.assertLessEqual({status for _, status in children}, {0, -15})
        # One that had not begun has left nothing; one of each two has worked.
        self.assertLessEqual(set(files), {pid for pid, _ in children})
        self.assertGreaterEqual(len(files), 20)

    def test_fork(self):
        children, files, _ = self.follow(
            'for ending in (None, exits, leaves, terminated, hung_up, '
            'killed):\n    print(fork(ending), flush=True)')
        self.assertEqual([status for _, status in children],
                         [0, 7, 7, -15, -1, -9])
        self.assertEqual(set(files), {pid for pid, _ in children})
        for snapshot in files.values():
            self.check_child(snapshot)

    def test_signal_for_a_child_that_is_not_ready(self):
        path = self.write('app.py', '''\
            import os, signal, time
            statuses = set()
            for _ in range(200):
                if not (pid := os.fork()):
                    time.sleep(60)
                    os._exit(0)
                os.kill(pid, signal.SIGTERM)
                statuses.add(os.waitstatus_to_exitcode(
                    os.waitpid(pid, 0)[1]))
            print(statuses)
            ''')
        for options in [], ['--follow']:
            process = command('run', '-q', '-f', '-o', 'a.tracemalloc',
                              *options, path, timeout=50)
            self.assertEqual(process.stdout, '{-15}\n')

    def test_grandchildren(self):
        children, files, _ = self.follow(
            'def both():\n'
            '    kept.clear()\n'
            '    print(fork(None), flush=True)\n'
            '    kept.append(bytes(10))\n'
            'print(fork(both), flush=True)')
        self.assertEqual(len(children), 2)
        self.assertEqual(set(files), {pid for pid, _ in children})
        self.check_child(files[children[0][0]])
        self.assertLess(files[children[1][0]].traced_memory[0], 2_000_000)

    def test_subprocess(self):
        children, files, _ = self.follow('''\
big = 'kept = bytes(3_000_000); import os, sys; '
print(spawn(big))
print(spawn(big + 'sys.exit(5)'))
print(spawn(big + 'os._exit(6)'))
print(spawn(big + 'os.kill(os.getpid(), 15)'))
print(spawn(big + 'os.execv(sys.executable, [sys.executable, "-c",'
                  ' "kept = bytes(7_000_000)"])'))
print(spawn(big + 'os.execv("/bin/true", ["true"])'))
print(spawn('import subprocess, sys; subprocess.run(["sh", "-c",'
            ' sys.executable + " -c \\'kept = bytes(9_000_000)\\'"])'))''')
        self.assertEqual([status for _, status in children],
                         [0, 5, 6, -15, 0, 0, 0])
        pids = [pid for pid, _ in children]
        for pid in *pids[:4], pids[5]:
            self.assertAlmostEqual(files[pid].traced_memory[0], 3_000_000,
                                   delta=300_000)
        self.assertAlmostEqual(files[pids[4]].traced_memory[0], 7_000_000,
                               delta=300_000)
        # A Python that a shell has started.
        [other] = set(files) - set(pids)
        self.assertAlmostEqual(files[other].traced_memory[0], 9_000_000,
                               delta=300_000)

    def test_growth_of_children(self):
        path = self.write('app.py', PROGRAM + '''\
    for child in (fork(grow), start('spawn', grow)):
        print(*child)
''')
        process = command('run', '--follow', '--on-growth', '10 MB', '-o',
                          'a.tracemalloc', path)
        for line in process.stdout.splitlines():
            pid, status = line.split()
            self.assertEqual(status, '0')
            names = sorted(glob.glob(f'a.{pid}.0*.tracemalloc'))
            self.assertGreaterEqual(len(names), 5)
            self.assertEqual(names[0], f'a.{pid}.0001.tracemalloc')
            self.check_child(tracemalloc.Snapshot.load(
                f'a.{pid}.tracemalloc'), blocks=41)

    def test_not_unasked(self):
        path = self.write('app.py', PROGRAM + '''\
    fork(look), start('fork', look), start('spawn', look)
    print(fork(terminated)[1], spawn('pass')[1])
''')
        process = command('run', '-o', 'a.tracemalloc', path)
        self.assertEqual(glob.glob('*.tracemalloc'), ['a.tracemalloc'])
        self.assertEqual(process.stderr.count('pytracemalloc'), 1)
        self.assertEqual(process.stdout.splitlines(),
                         [f'False 0 {os._exit}'] * 3 + ['-15 0'])


if __name__ == '__main__':
    unittest.main()
