"""The call tree outlives its process: -X tracemalloc_file, and recover."""
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import tracemalloc
import unittest
from test.test_pytracemalloc import kept_programs
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import FREE_THREADED, SANITIZED, SLOW
from test.test_pytracemalloc.kept_programs import sums_of

from _tracemalloc_snapshot import _read_kept
from pytracemalloc import kept

# Much of everything: deep and shallow, small and big, garbage, a peak before.
WORK = '''
import faulthandler, os, sys, threading, _tracemalloc, tracemalloc
def deep(n):
    return [bytearray(n * 100)] if n == 0 else [deep(n - 1), bytearray(n * 99)]
def work():
    for i in range(40):
        held = [deep(i) for j in range(5)]
    rings = [[] for i in range(2000)]
    for ring in rings:
        ring.append(ring)
    return held
kept = work()
'''
# The last thing that is done but for the line below it; the first snapshot
# makes what the second one finds.
DUMP = '''
tracemalloc.take_snapshot(traces=False).dump('dumped')
tracemalloc.take_snapshot(traces=False).dump('dumped')
'''


class KeepCase(CommandCase):
    def run_program(self, text, *options, limit='25', file='tree.kept',
                    **arguments):
        arguments = {'capture_output': True, 'text': True,
                     'timeout': 120} | arguments
        return subprocess.run(
            [sys.executable, '-X', f'tracemalloc={limit}', '-X',
             f'tracemalloc_file={file}', *options, '-c',
             textwrap.dedent(text)], **arguments)

    def check_tree(self, least=500):
        """The kept tree is what was dumped, but for what the last line did;
        it may have freed a block or two that were older."""
        snapshot, known = kept.load('tree.kept')
        expected = tracemalloc.Snapshot.load('dumped')
        sums, wanted = sums_of(snapshot), sums_of(expected)
        freed = 0
        for key in sums.keys() | wanted.keys():
            after, before = sums.get(key), wanted.get(key)
            if after != before and before is not None:
                self.assertEqual(after[2:], before[2:], key)
                freed += before[1] - after[1]
        self.assertIn(freed, range(4))
        self.assertLess(len(sums.keys() - wanted.keys()), 3)
        self.assertGreater(len(sums), least)
        self.assertEqual(snapshot.traced_memory[1], expected.traced_memory[1])
        self.assertEqual(snapshot.traceback_limit, expected.traceback_limit)
        self.assertEqual(snapshot.pid, expected.pid)
        self.assertFalse(known['runs'])
        return known


class EndTests(KeepCase):
    """What a process was when it ended, in each of its ways."""

    def check_end(self, end, status, limit='25'):
        result = self.run_program(f'{WORK}{DUMP}{end}\n', limit=limit)
        self.assertEqual(result.returncode, status, result.stderr)
        known = self.check_tree()
        self.assertFalse(known['incomplete'])
        os.unlink('tree.kept')

    def test_killed(self):
        for limit in '1', '2', '25', 'full':
            with self.subTest(limit):
                self.check_end('os.kill(os.getpid(), 9)', -signal.SIGKILL,
                               limit)

    @unittest.skipIf(SANITIZED, 'the sanitizer handles the signal')
    def test_crash(self):
        self.check_end('faulthandler._sigsegv()',
                       -signal.SIGSEGV, 'full')

    def test_abort(self):
        self.check_end('os.abort()', -signal.SIGABRT)

    def test_exit_at_once(self):
        self.check_end('os._exit(3)', 3)

    def test_normal_end_leaves_nothing(self):
        result = self.run_program(f'{WORK}print(os.listdir())')
        self.assertEqual((result.stdout, result.returncode),
                         ("['tree.kept']\n", 0), result.stderr)
        self.assertEqual(os.listdir(), [])

    def test_stop_and_start(self):
        result = self.run_program(f'''{WORK}
tracemalloc.stop()
print(os.listdir(), _tracemalloc._kept())
tracemalloc.start(7)
print(_tracemalloc._kept() == os.path.abspath('tree.kept'), flush=True)
kept = work()
{DUMP}
os._exit(0)
''')
        self.assertEqual(result.stdout, '[] None\nTrue\n', result.stderr)
        self.check_tree(10)

    def test_clear(self):
        result = self.run_program(f'''{WORK}
tracemalloc.clear_traces()
kept = work()
{DUMP}
os._exit(0)
''')
        self.assertEqual(result.stderr, '')
        self.check_tree(10)

    def test_peak_of_a_window_that_is_over(self):
        result = self.run_program(f'''{WORK}
for i in range(30):
    held = [bytearray(5000 + i) for j in range(1000 - i % 7)]
    other = [bytearray(3000) for j in range(100 * (i % 3))]
    del held, other
kept = None
{DUMP}
os._exit(0)
''')
        self.assertEqual(result.stderr, '')
        self.check_tree()

    def test_counters_that_were_spilled(self):
        result = self.run_program(f'''{WORK}
for i in range(9_000_000):
    held = bytes(500)
{DUMP}
os._exit(0)
''', limit='1')
        self.assertEqual(result.stderr, '')
        self.check_tree()
        self.assertGreater(max(
            sums[2] for sums in sums_of(kept.load('tree.kept')[0]).values()),
            1 << 32)

    def test_pruned(self):
        result = self.run_program(f'''{WORK}
for i in range(9):
    exec(f'def f{{i}}(n): return [f{{i}}(n - 1)] if n else bytes(700)')
    held = eval(f'f{{i}}(20)')
    _tracemalloc._prune_soon()
    exec(f'def g{{i}}(): return [f{{i}}(3)]')
    other = eval(f'g{{i}}()')
assert tracemalloc.get_tracer_stats()['pruned'] > 100
{DUMP}
os._exit(0)
''')
        self.assertEqual(result.stderr, '')
        self.check_tree()

    def test_random_moments(self):
        for seed in range(200 if SLOW else 50):
            with self.subTest(seed=seed):
                kept_programs.kill_one(self.directory, seed)


class ForkTests(KeepCase):
    """The file is the parent's alone."""

    def check_forks(self, text):
        result = self.run_program(f'{WORK}{textwrap.dedent(text)}{DUMP}'
                                  f'os._exit(0)\n', '-Wignore')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.check_tree()
        return result.stdout

    def test_child_counts_on_its_own(self):
        self.assertEqual(self.check_forks('''
            held = bytearray(1 << 20)
            for i in range(5):
                before = tracemalloc.get_traced_memory()[0]
                if not (pid := os.fork()):
                    assert _tracemalloc._kept() is None
                    at_line = lambda line: sum(
                        stat.size for stat in tracemalloc.take_snapshot()
                        .statistics('lineno')
                        if stat.traceback[0].lineno == line
                        and stat.traceback[0].filename == '<string>')
                    del held
                    more = [deep(30) for j in range(100)]
                    after = tracemalloc.get_traced_memory()[0]
                    snapshot = tracemalloc.take_snapshot()
                    total = sum(stat.size for stat in
                                snapshot.statistics('filename'))
                    assert total == snapshot.traced_memory[0]
                    assert after - before > 3_000_000
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            print('right', flush=True)
            '''), 'right\n')

    def test_child_with_a_file_of_its_own(self):
        """What it has inherited is in it, and what it does is not in the
        parent's."""
        result = self.run_program(f"""{WORK}
for i in range(30):
    held = [bytearray(5000 + i) for j in range(1000 - i % 7)]
    del held
pids = []
for i in range(4):
    if not (pid := os.fork()):
        kept += work()
        for j in range(1000):
            exec(f'def f{{j}}(): return bytes(600)\\nkept.append(f{{j}}())')
        assert _tracemalloc._kept().endswith(f'own.{{os.getpid()}}.kept')
        tracemalloc.take_snapshot(traces=False).dump(f'{{os.getpid()}}')
        tracemalloc.take_snapshot(traces=False).dump(f'{{os.getpid()}}')
        os.kill(os.getpid(), 9)
    pids.append(pid)
    kept += work()
    os.waitpid(pid, 0)
print(os.getpid(), *pids, flush=True)
{DUMP}
os._exit(0)
""", '-Wignore', file='own.%p.kept')
        self.assertEqual(result.stderr, '')
        parent, *pids = result.stdout.split()
        self.assertEqual(len(pids), 4)
        os.rename('dumped', parent)
        for pid in parent, *pids:
            os.rename(f'own.{pid}.kept', 'tree.kept')
            os.rename(pid, 'dumped')
            self.check_tree()

    def test_threads_that_fork_with_files(self):
        result = self.run_program(f"""{WORK}
def fork(count):
    for i in range(10):
        if not (pid := os.fork()):
            more = [deep(20) for k in range(10)]
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
threads = [threading.Thread(target=fork, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""", '-Wignore', file='own.%p.kept')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(len(os.listdir()), 30)
        for name in os.listdir():
            snapshot, known = kept.load(name)
            kept_programs.check_sums(snapshot)
            self.assertEqual(name, f'own.{known["pid"]}.kept')

    def test_child_goes_on_while_the_parent_does(self):
        self.check_forks('''
            pids = []
            for i in range(8):
                if not (pid := os.fork()):
                    for j in range(30):
                        more = [deep(20) for k in range(10)]
                    os._exit(0)
                pids.append(pid)
                kept.append(work())
            for pid in pids:
                assert os.waitpid(pid, 0)[1] == 0
            ''')

    def test_threads_that_fork(self):
        self.check_forks('''
            failed = []
            def fork():
                for i in range(10):
                    if not (pid := os.fork()):
                        more = [deep(20) for k in range(10)]
                        os._exit(0)
                    if os.waitpid(pid, 0)[1]:
                        failed.append(pid)
            threads = [threading.Thread(target=fork) for i in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed, failed
            ''')

    def test_other_programs(self):
        self.check_forks('''
            import subprocess
            for close in True, False:
                subprocess.run([sys.executable, '-c', 'pass'],
                               close_fds=close, check=True)
            subprocess.run([sys.executable, '-c', 'pass'], check=True,
                           preexec_fn=lambda: deep(30))
            os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c',
                                      'pass'], os.environ), 0)
            ''')

    def test_child_that_looks_at_the_heap(self):
        self.check_forks('''
            for i in range(2):
                tracemalloc.take_snapshot(references=True, pause=False)
            ''')

    def test_exec(self):
        result = self.run_program(f'''{WORK}{DUMP}
os.execv(sys.executable, [sys.executable, '-c', 'print("other")'])''')
        self.assertEqual((result.stdout, result.stderr), ('other\n', ''))
        self.assertTrue(self.check_tree()['replaced'])
        result = command('recover', 'tree.kept')
        self.assertIn(' has ended as another program (os.execv): ',
                      result.stdout)


class FileTests(KeepCase):
    """Which file it is, and what may be wrong with it."""

    def check_message(self, message, text='pass', **arguments):
        result = self.run_program(
            f'import tracemalloc; assert tracemalloc.is_tracing(); {text}',
            **arguments)
        self.assertEqual((result.returncode, result.stdout), (0, ''),
                         result.stderr)
        self.assertEqual(result.stderr, message)

    def test_environment(self):
        for options, left in ((), ['by-name']), (('-E',), []):
            result = subprocess.run(
                [sys.executable, *options, '-X', 'tracemalloc', '-c',
                 'import os; os._exit(0)'],
                env=os.environ | {'PYTRACEMALLOC_FILE': 'by-name'})
            self.assertEqual((result.returncode, os.listdir()), (0, left))
            for name in left:
                os.unlink(name)

    def test_started_later(self):
        subprocess.run([sys.executable, '-X', 'tracemalloc_file=a', '-c',
                        'import os, tracemalloc; print(os.listdir());'
                        'tracemalloc.start(); os._exit(0)'])
        self.assertEqual(kept.load('a')[1]['limit'], 1)

    def test_foreign_file(self):
        for content in b'x', b'dear diary' * 1000:
            with open('tree.kept', 'wb') as file:
                file.write(content)
            self.check_message(
                f'tracemalloc: {self.here()}/tree.kept: it is there, and is '
                f'no kept call tree; the call tree is not kept\n')
            with open('tree.kept', 'rb') as file:
                self.assertEqual(file.read(), content)

    def here(self):
        return os.getcwd()

    def test_no_file(self):
        os.mkdir('folder')
        os.symlink('elsewhere', 'link')
        for name, reason in (
                ('missing/x', 'no such folder'),
                ('folder', 'it is a folder'),
                ('link', 'it is a symbolic link'),
                ('/dev/null', 'it is there, and is no kept call tree'),
                ('/proc/x', 'no such folder')):
            with self.subTest(name):
                path = name if name[0] == '/' else f'{self.here()}/{name}'
                self.check_message(f'tracemalloc: {path}: {reason}; the call '
                                   f'tree is not kept\n', file=name)
        self.assertEqual(sorted(os.listdir()), ['folder', 'link'])

    def test_tree_of_before_is_not_lost(self):
        for text in 'x = 1', 'x = 2':
            self.run_program(f'import os; {text}; os._exit(0)')
        self.assertIn('x = 2', kept.name_command(kept.load('tree.kept')[1]))
        self.assertIn('x = 1', kept.name_command(
            kept.load('tree.kept.previous')[1]))

    def test_two_processes(self):
        result = self.run_program(
            f'{WORK}import subprocess\n'
            f'subprocess.run([sys.executable, "-X", "tracemalloc", "-X",'
            f' "tracemalloc_file=tree.kept", "-c", "import os;'
            f' print(os.getpid(), flush=True); os._exit(0)"]){DUMP}'
            f'os._exit(0)\n')
        self.assertEqual(result.stderr, '')
        other = int(result.stdout)
        self.check_tree()
        self.assertEqual(kept.load(f'tree.kept.{other}')[1]['pid'], other)

    def test_while_it_runs(self):
        with subprocess.Popen(
                [sys.executable, '-X', 'tracemalloc', '-X',
                 'tracemalloc_file=tree.kept', '-c', WORK + 'print("ready",'
                 ' flush=True); sys.stdin.read()'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            program.stdout.readline()
            snapshot, known = kept.load('tree.kept')
            self.assertTrue(known['runs'])
            self.assertGreater(snapshot.traced_memory[0], 100_000)
            program.stdin.close()

    def test_program_closes_all_files(self):
        result = self.run_program(f'''{WORK}
os.closerange(3, 5000)
with open('mine', 'wb') as mine:
    for number in range(3, 300):
        os.dup2(mine.fileno(), number)
    for i in range(6000):
        exec(f'def f{{i}}(): return bytes(600)\\nkept.append(f{{i}}())')
{DUMP}
os._exit(0)
''')
        self.assertEqual(result.stderr, '')
        self.assertGreater(os.path.getsize('tree.kept'), 2 << 20)
        self.assertEqual(os.path.getsize('mine'), 0)
        self.check_tree()

    def test_file_is_removed(self):
        result = self.run_program(f'''{WORK}
os.closerange(3, 5000)
os.unlink('tree.kept')
for i in range(6000):
    exec(f'def f{{i}}(): return bytes(600)\\nkept.append(f{{i}}())')
assert os.listdir() == []
''')
        self.assertEqual(result.stderr, f'tracemalloc: {self.here()}/tree.kept:'
                         f' no such folder; what is new in the call tree is '
                         f'not kept from now on\n')
        self.assertEqual(os.listdir(), [])


GROW = '''
def grow():
    for i in range(14000):
        exec(f'def f{i}(): return bytes(600)\\nkept.append(f{i}())')
grow()
'''


class FullTests(KeepCase):
    """There is no room for the file: the program goes on."""

    def test_limit_at_the_start(self):
        result = self.run_program(
            'import tracemalloc; print(tracemalloc.is_tracing())',
            preexec_fn=lambda: _limit_files(1 << 19))
        self.assertEqual((result.returncode, result.stdout), (0, 'True\n'))
        self.assertEqual(result.stderr, f'tracemalloc: {os.getcwd()}/tree.kept:'
                         f' the limit for the size of a file (ulimit -f); '
                         f'the call tree is not kept\n')
        self.assertEqual(os.listdir(), [])

    def test_limit_later(self):
        result = self.run_program(f'''{WORK}
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
{GROW}
snapshot = tracemalloc.take_snapshot()
assert sum(stat.size for stat in snapshot.statistics('filename')) \\
    == snapshot.traced_memory[0]
os._exit(0)
''')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, f'tracemalloc: {os.getcwd()}/tree.kept:'
                         f' the limit for the size of a file (ulimit -f); '
                         f'what is new in the call tree is not kept from now '
                         f'on\n')
        self.check_incomplete()

    def check_incomplete(self, path='tree.kept'):
        snapshot, known = kept.load(path)
        self.assertTrue(known['incomplete'])
        self.assertGreater(known['missing'], 0)
        self.assertGreater(sum(
            stat.size for stat in snapshot.statistics('lineno')
            if stat.traceback[0].filename == '<string>'),
            # Without the GIL each place has rare counters, too.
            100_000 if FREE_THREADED else 500_000)
        kept_programs.check_sums(snapshot)
        result = command('recover', path, '-o', 'out')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r'\nIncomplete: the file could not '
                         r'grow, [\d,]+ call paths are missing\n')

    def test_file_system_is_full(self):
        """A tmpfs of 2 MiB, in a name space of its own."""
        text = f'{WORK}before = bytearray(12345)\n{GROW}os._exit(0)\n'
        script = '''
            mount -t tmpfs -o size=2m none "$1" || exit 99
            "$2" -X tracemalloc=25 -X "tracemalloc_file=$1/tree.kept" -c "$3"
            status=$?
            cp "$1/tree.kept" tree.kept
            exit $status'''
        os.mkdir('small')
        unshare = shutil.which('unshare')
        if unshare is None:
            self.skipTest('needs unshare')
        result = subprocess.run(
            [unshare, '-rm', 'sh', '-c', script, 'sh', os.path.abspath('small'),
             sys.executable, text], capture_output=True, text=True)
        if result.returncode == 99 or 'unshare' in result.stderr:
            self.skipTest('this system lets nobody mount a tmpfs')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn('tree.kept: no room on its file system; what is new in '
                      'the call tree is not kept from now on\n', result.stderr)
        self.check_incomplete()


def _limit_files(size):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class HostileTests(KeepCase):
    """Damaged files: one line, never a crash."""

    def setUp(self):
        super().setUp()
        self.run_program(f'{WORK}os._exit(0)')
        with open('tree.kept', 'rb') as file:
            self.image = file.read()

    def is_wrong(self, image):
        """Is it refused?  If not, grouping it must do no harm."""
        try:
            traces, known = _read_kept(image)
        except ValueError as error:
            self.assertRegex(str(error), r'^[^\n]+ at offset \d+$')
            return True
        traces._call_tree()
        return False

    def test_cut(self):
        for size in (0, 1, 7, 8, 100, 8191, 8192, 196607, 196608, 262144,
                     len(self.image) - (2 << 20)):
            with self.subTest(size=size):
                self.assertTrue(self.is_wrong(self.image[:max(size, 0)]))

    def flip_bits(self, first, last):
        wrong = 0
        image = bytearray(self.image)
        for bit in range(8 * first, 8 * last):
            image[bit // 8] ^= 1 << bit % 8
            wrong += self.is_wrong(image)
            image[bit // 8] ^= 1 << bit % 8
        return wrong

    def test_bits_of_the_header(self):
        self.assertGreater(self.flip_bits(0, 130), 150)

    def test_bits_of_the_directory(self):
        self.assertGreater(self.flip_bits(8192, 8192 + 16 * 8), 50)

    def test_random_bytes(self):
        rng = random.Random(7)
        for _ in range(100):
            image = bytearray(self.image)
            for _ in range(rng.choice((1, 20, 3000))):
                image[rng.randrange(rng.choice((300, len(image))))] = \
                    rng.randrange(256)
            self.is_wrong(image)

    def test_command(self):
        for path, text in (('missing', 'No such file or directory'),
                           ('.', 'Is a directory'),
                           ('/dev/null', 'not a file'),
                           (__file__, 'not a kept call tree at offset 0')):
            result = command('recover', path)
            self.assertEqual((result.returncode, result.stdout), (1, ''))
            self.assertIn(text, result.stderr)
            self.assertEqual(result.stderr.count('\n'), 1, result.stderr)

    def test_recover(self):
        result = command('recover', 'tree.kept')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertRegex(result.stdout, r'^Process \d+ \(.*\) has ended: .* '
                         r'live, .* at the peak\nWrote tree.tracemalloc\n$')
        again = command('recover', 'tree.kept')
        self.assertEqual(again.returncode, 1)
        self.assertIn('tree.tracemalloc exists', again.stderr)
        report = command('report', 'tree.tracemalloc')
        self.assertEqual(report.returncode, 0, report.stderr)
        self.assertIn('deep', report.stdout)


if __name__ == '__main__':
    unittest.main()
