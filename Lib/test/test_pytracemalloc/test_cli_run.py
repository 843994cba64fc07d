"""pytracemalloc run: the program is its own, the report is about it."""

import glob
import os
import signal
import subprocess
import sys
import tracemalloc
import unittest

from pytracemalloc import reserve, summary
from test.support import check_sanitizer
from test.test_pytracemalloc.command_case import PROGRAM, CommandCase, command
from test.test_pytracemalloc.helpers import DEBUG_HOOKS, FREE_THREADED


limits_memory = unittest.skipIf(
    not os.path.exists('/proc/self/statm')
    or check_sanitizer(address=True, memory=True, thread=True),
    "needs Linux's count of virtual memory, and no sanitizer, which takes "
    "address space of its own")


class RunTest(CommandCase):
    def run_program(self, *args, **options):
        """Return (process, snapshot) of a run with the output a.tracemalloc."""
        process = command('run', '-o', 'a.tracemalloc', *args, **options)
        return process, tracemalloc.Snapshot.load('a.tracemalloc')

    def test_summary_and_snapshot(self):
        path = self.write('app.py', PROGRAM)
        process, snapshot = self.run_program(path)
        self.assertEqual((process.returncode, process.stdout), (0, ''))
        self.assertRegex(process.stderr, r'live, .* at the peak, .* blocks')
        self.assertIn('Snapshot: a.tracemalloc\n', process.stderr)
        self.assertEqual(snapshot.traceback_limit, 65535)
        top = snapshot.statistics('lineno')[0]
        self.assertEqual((top.traceback[-1].filename,
                          top.traceback[-1].lineno), (path, 4))
        self.assertGreaterEqual(top.size, 20 * 50 * 1000)
        self.assertGreaterEqual(top.total_count, 20 * 450)

    def test_cycles_are_named(self):
        path = self.write('app.py', '''\
            import gc
            def cycle():
                ring = [bytes(5000)]
                ring.append(ring)
            for _ in range(300):
                cycle()
            gc.collect()
            ''')
        process, snapshot = self.run_program(path)
        _, _, cycles = process.stderr.partition(
            'Freed by the cyclic collector:')
        self.assertRegex(cycles, r'\A\n *1\.\d MiB +6\d\d  .*app.py:3 in '
                                 r'cycle\n')
        stats = snapshot.statistics('lineno', order='total_count')
        blocks = sum(stat.total_count for stat in stats)
        self.assertIn(f'{blocks:,} blocks allocated', process.stderr)

    def test_arguments_stdin_and_exit_status(self):
        path = self.write('app.py', '''\
            import os, sys
            print(sys.argv, __name__, __file__, sys.path[0], input())
            sys.exit(7)
            ''')
        process, _ = self.run_program(path, '-x', '--help', '-o', 'b',
                                      input='from stdin\n')
        self.assertEqual(process.returncode, 7)
        self.assertEqual(
            process.stdout,
            f"{[path, '-x', '--help', '-o', 'b']} __main__ {path} "
            f"{self.directory} from stdin\n")

    def test_module_and_code(self):
        self.write('app.py', 'import sys; print(sys.argv[1:])')
        process, _ = self.run_program('-m', 'app', '-n', '3')
        self.assertEqual(process.stdout, "['-n', '3']\n")
        process, snapshot = self.run_program(
            '-f', '-n', 'full', '-c', 'import sys; print(sys.argv)', '-q')
        self.assertEqual(process.stdout, "['-c', '-q']\n")
        self.assertGreater(snapshot.traceback_limit, 1000)

    def test_traceback_of_the_program_is_its_own(self):
        path = self.write('app.py', 'def f():\n    1 / 0\nf()\n')
        process, _ = self.run_program('-q', path)
        plain = subprocess.run([sys.executable, path], capture_output=True,
                               text=True)
        self.assertEqual((process.returncode, process.stderr),
                         (plain.returncode, plain.stderr))

    def test_environment_is_its_own(self):
        process, _ = self.run_program(
            '-c', 'import os; print([name for name in os.environ'
                  ' if "TRACEMALLOC" in name])')
        ours = [name for name in os.environ if 'TRACEMALLOC' in name]
        self.assertEqual(process.stdout, f'{ours}\n')

    def test_interrupt_still_reports(self):
        path = self.write('app.py', '''\
            import time
            kept = bytes(1234567)
            print('ready', flush=True)
            time.sleep(60)
            ''')
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-o',
             'a.tracemalloc', path], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn('KeyboardInterrupt', errors)
        self.assertIn('app.py:2', errors)
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertGreater(snapshot.traced_memory[0], 1234567)

    def test_default_name(self):
        path = self.write('app.py', 'pass')
        command('run', '-q', path)
        self.assertRegex(glob.glob('*.tracemalloc')[0],
                         r'^app\.\d+\.tracemalloc$')

    # Grows by 2 MB at line 3, over a cache whose size does not change.
    GROWS = '''\
        import sys, time
        def grow():
            kept.append(bytearray(100_000))
        def deep(depth):
            return deep(depth - 1) if depth else grow()
        def cache():
            return [bytearray(50_000) for _ in range(100)]
        kept, cached = [], cache()
        for _ in range(int(sys.argv[1])):
            deep(40)
            temporary = [str(number) for number in range(3000)]
            time.sleep(0.01)
        '''

    def numbered(self):
        """Return the numbered snapshots in their order."""
        names = sorted(set(glob.glob('a.*')) - {'a.tracemalloc'})
        self.assertEqual(names, [f'a.{number:04}.tracemalloc' for number
                                 in range(1, len(names) + 1)])
        return [tracemalloc.Snapshot.load(name) for name in names]

    def test_every(self):
        path = self.write('app.py', self.GROWS)
        process, last = self.run_program('--every', '1', path, '350')
        snapshots = self.numbered()
        self.assertGreaterEqual(len(snapshots), 3)
        times = [snapshot.timestamp.timestamp() for snapshot in snapshots]
        for before, after in zip(times, times[1:]):
            self.assertGreaterEqual(after - before, 0.99)
        sizes = [snapshot.traced_memory[0] for snapshot in snapshots]
        self.assertEqual(sizes, sorted(sizes))
        self.assertGreater(last.traced_memory[0], 350 * 100_000)
        # What grew is suspected, what was there from the beginning is not.
        leaks = process.stderr.partition(
            'Suspected leaks (or data still being built):\n')[2]
        self.assertRegex(leaks, r'\A *33\.\d MiB .*app\.py:3 in grow')
        self.assertNotIn('cache', leaks)

    def test_on_growth(self):
        # Without the GIL a list has its items twice while it grows, and it is
        # then that the bound is passed.
        twice = 3000 * 8 if FREE_THREADED else 0
        path = self.write('app.py', self.GROWS)
        process, last = self.run_program('--on-growth', '5 MB', path, '400')
        sizes = [snapshot.traced_memory[0] for snapshot in self.numbered()]
        self.assertGreaterEqual(len(sizes), 7)
        for before, after in zip(sizes, sizes[1:]):
            self.assertGreater(after - before, (5 << 20) - 10_000 - twice)
            self.assertLess(after - before, 6 << 20)

    def test_keep(self):
        path = self.write('app.py', self.GROWS)
        # None of these is a numbered file of this run.
        for name in 'a.1.tracemalloc', 'a.0001.txt', 'b.0001.tracemalloc':
            self.write(name, 'x')
        process = command('run', '--on-growth', '1 MB', '--keep', '3', '-o',
                          'a.tracemalloc', path, '100')
        self.assertEqual(process.returncode, 0, process.stderr)
        names = sorted(glob.glob('a.????.tracemalloc'))
        first, last = (int(name[2:6]) for name in (names[0], names[-1]))
        self.assertEqual(names, [f'a.{number:04}.tracemalloc'
                                 for number in range(last - 2, last + 1)])
        self.assertIn(f'pytracemalloc: {first - 1} of {last} numbered '
                      f'snapshots removed (--keep); left: {names[0]} to '
                      f'{names[-1]}\n', process.stderr)
        for name in names:
            tracemalloc.Snapshot.load(name)
        # Another run, which keeps one, and leaves nothing of this one.
        process = command('run', '--on-growth', '1 MB', '--keep', '1', '-o',
                          'a.tracemalloc', path, '50')
        self.assertIn(f'exists', process.stderr)
        os.unlink('a.tracemalloc')
        process = command('run', '--on-growth', '1 MB', '--keep', '1', '-o',
                          'a.tracemalloc', path, '50')
        self.assertIn(f'{names[0]} exists', process.stderr)
        process, _ = self.run_program('-f', '--on-growth', '1 MB', '--keep',
                                      '1', path, '50')
        self.assertEqual(len(glob.glob('a.????.tracemalloc')), 1)
        self.assertLess(glob.glob('a.????.tracemalloc')[0], names[0])
        self.assertRegex(process.stderr, r'left: a\.\d{4}\.tracemalloc\n')
        self.assertEqual(len(glob.glob('?.*')), 5)

    def test_keep_what_is_not_its_own(self):
        """A file that something else has put there stays."""
        process = command('run', '--on-growth', '1 MB', '--keep', '1', '-o',
                          'a.tracemalloc', '-c', """\
import os
kept = []
def grow():
    [kept.append(bytearray(100_000)) for _ in range(20)]
    [str(number) for number in range(5000)]
grow()
name, = os.listdir()
with open('b', 'w') as file:
    file.write('mine')
os.replace('b', name)
print(name)
grow(); grow()
""")
        self.assertEqual(process.returncode, 0, process.stderr)
        with open(process.stdout.strip()) as file:
            self.assertEqual(file.read(), 'mine')
        self.assertEqual(len(os.listdir()), 3)

    def test_what_is_a_number(self):
        """Process ids are none: those are files of other runs."""
        numbers = '0003', '0017', '0999', '1000', '1001'
        others = '1003', '4242', '12345', '00001', '017', 'x0001', '0001x'
        for number in numbers + others:
            self.write(f'a.{number}.tracemalloc', 'x')
        self.run_program('--on-growth', '1 GB', '-f', '-c', '1')
        self.assertEqual(sorted(os.listdir()), sorted(
            ['a.tracemalloc'] + [f'a.{number}.tracemalloc'
                                 for number in others]))

    def test_keep_needs_something(self):
        for args in ('--keep', '3'), ('--keep', '0', '--every', '9'):
            process = command('run', *args, '-c', '1')
            self.assertEqual(process.returncode, 2)
            self.assertIn('--keep', process.stderr)

    def test_recording_does_not_show_itself(self):
        path = self.write('app.py', self.GROWS)
        _, snapshot = self.run_program('--on-growth', '1 MB', path, '200')
        here = os.path.dirname(tracemalloc.__file__)
        own = sum(stat.size for stat in snapshot.statistics('filename')
                  if here in stat.traceback[0].filename
                  or 'pytracemalloc' in stat.traceback[0].filename)
        self.assertGreater(len(self.numbered()), 10)
        self.assertLess(own, 8_000)

    # Its first line, and then all that it allocates.
    ADDED = """\
        import sys
        modules = sorted(sys.modules)
        import _tracemalloc, gc
        classes = sorted({each.__qualname__ for each in object.__subclasses__()
                          if each.__flags__ & 1 << 9})      # not static
        gc.disable()              # it needs memory itself, at any moment
        with _tracemalloc.measure() as change:
            import json, datetime, threading
            kept = [json.loads('[1, 2, {"a": "b"}]') for i in range(1000)]
        print(modules, classes)
        print(change.current, change.peak, change.total_size,
              change.total_count)
        import datetime, json, tracemalloc
        assert tracemalloc.get_tasks() == []
        """

    def test_nothing_is_added_to_the_program(self):
        # Not where the snapshots go: each would have the import system list
        # the folder of the program again.
        path = self.write('program/app.py', self.ADDED)
        plain = subprocess.run(
            [sys.executable, '-X', 'tracemalloc=10', path],
            capture_output=True, text=True)
        self.assertEqual(plain.stderr, '')
        modules, figures = plain.stdout.splitlines()
        for options in [], ['--follow'], ['--every', '60'], \
                ['--on-growth', '100 KB']:
            with self.subTest(options):
                ran, _ = self.run_program('-f', *options, path)
                ours, figures_ran = ran.stdout.splitlines()
                self.assertEqual(ours, modules)
                self.assertNotIn('json', ours)
                for new, old, bound in zip(map(int, figures_ran.split()),
                                           map(int, figures.split()),
                                           (10 << 10,) * 3 + (100,),
                                           strict=True):
                    self.assertLess(new - old, bound, figures_ran)
                    # Codecs that a debug build looks up are loaded already.
                    if not (FREE_THREADED or hasattr(sys, 'gettotalrefcount')):
                        self.assertLess(old - new, bound, figures_ran)

    def test_whole_tracebacks(self):
        path = self.write('app.py', self.GROWS)
        for frames, expected in (('1', 1), ('5', 5), ('full', 43)):
            _, snapshot = self.run_program('-f', '-n', frames, path, '1')
            depths = [len(trace.traceback) for trace in snapshot.traces
                      if trace.traceback[-1].lineno == 3
                      and trace.traceback[-1].filename == path
                      and trace.size > 100_000]
            self.assertEqual(depths, [expected])

    def test_top(self):
        path = self.write('app.py', self.GROWS)
        for top in '1', '3':
            process, _ = self.run_program('-f', '--top', top, path, '3')
            live = process.stderr.partition('Live at the end:\n')[2]
            live, _, peak = live.partition('At the peak:\n')
            peak = peak.partition('Suspected leaks')[0]
            self.assertEqual((live.count('\n'), peak.count('\n')
                              - peak.count('Snapshot:')),
                             (int(top) + 1, int(top) + 1))
            # What is not listed is one line.
            for lines in live, peak.partition('Snapshot:')[0]:
                self.assertRegex(lines,
                                 r'\n *\S+ \S+ +[\d,]+  [\d,]+ more\n\Z')
            self.assertRegex(live, r'\A *4\.8 MiB +202 .*app\.py:7 in cache')

    def test_peak_has_its_own_sites(self):
        path = self.write('app.py', '''\
            def high():
                return [bytes(1000) for _ in range(5000)]
            high()
            kept = [bytes(1000) for _ in range(500)]
            ''')
        process, _ = self.run_program(path)
        live, _, peak = process.stderr.partition('At the peak:\n')
        self.assertIn('app.py:4', live)
        self.assertNotIn('app.py:2', live)
        self.assertRegex(peak, r'\A *5\.0 MiB +5,0\d\d .*app\.py:2 in high')

    def test_summary_in_twenty_columns(self):
        process, snapshot = self.run_program('-c', PROGRAM)

        text = '\n'.join(summary.make(snapshot, 3, None, 20))
        self.assertTrue(all(len(line) <= 20 for line in text.splitlines()))
        self.assertIn('At the peak:', text)

    def test_losses_are_reported(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapshot = tracemalloc.take_snapshot()
        snapshot.metadata |= {'untraced': 1234, 'folded': 56, 'pruned': 789}
        made = '\n'.join(summary.make(snapshot, 0, None))
        snapshot.dump('losses.tracemalloc')
        for text in made, self.ok('report', 'losses.tracemalloc'):
            self.assertRegex(
                text, r'\nUntraced: 1,234 blocks; .*\nFolded: 56 frames; .*\n'
                r'Pruned: 789 stacks without live blocks; .*\n'
                r'More on these words: man pytracemalloc, Names in reports\n')
            self.assertTrue(all(len(line) < 80 for line in text.splitlines()
                                if line.startswith(('Untraced', 'Folded',
                                                    'Pruned', 'More'))))
        page = self.ok('report', 'losses.tracemalloc', '--format', 'html',
                       '-o', '-')
        self.assertIn('there was no memory to trace them', page)

    def test_names_explain_themselves(self):
        path = self.write('app.py', '''\
            import itertools
            kept = [itertools.tee(range(n)) for n in range(100)]
            text = ['%d' % n for n in range(100)]
            kept += [{n: text} for n in range(100)]
            ''')
        self.run_program(path)
        by_type = self.ok('report', 'a.tracemalloc', '--by', 'type',
                          '--top', '100')
        self.assertRegex(by_type, r'(?m)B  <dict keys>$')
        self.assertRegex(by_type, r'(?m)^<dict keys>: of a dictionary')
        self.assertRegex(by_type, r'(?m)^<memory>: not an object, and the owner')
        self.assertIn('man pytracemalloc, Names in reports\n', by_type)
        lines = self.ok('report', 'a.tracemalloc', '--unfold', '--top', '500')
        self.assertRegex(lines, r'(?m)^interpreter, no Python frame: alloc')
        self.assertNotIn('<memory>', lines)
        app = self.ok('report', 'a.tracemalloc', '--include', '*/app.py')
        self.assertNotIn('More on these words', app)

    def test_references(self):
        path = self.write('app.py', """\
            class Shop:
                pass
            SHOP = Shop()
            SHOP.customers = {'name of %d' % i: [i] for i in range(500)}
            """)
        for options in [], ['--references'], ['--references', '--keys']:
            process, snapshot = self.run_program('-f', *options, path)
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertEqual(snapshot.has_references, bool(options))
            with open('a.tracemalloc', 'rb') as file:
                image = file.read()
            self.assertEqual(b'.customers' in image, '--references' in options)
            self.assertEqual(b'name of 77' in image, '--keys' in options)

    def test_references_of_numbered_snapshots_and_children(self):
        path = self.write('app.py', """\
            import os
            kept = []
            for i in range(3000):
                kept.append(bytes(1000))
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            """)
        process = command('run', '-o', 'a.tracemalloc', '--references',
                          '--follow', '--on-growth', '1MiB', path)
        self.assertEqual(process.returncode, 0, process.stderr)
        names = glob.glob('a.*tracemalloc')
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            self.assertTrue(tracemalloc.Snapshot.load(name).has_references,
                            name)

    def test_no_snapshot(self):
        process = command('run', '--follow', '-o', os.devnull, '-c',
                          'import os\nif not os.fork(): os._exit(0)\n'
                          'os.wait()')
        self.assertEqual(process.returncode, 0)
        self.assertNotIn('Snapshot:', process.stderr)
        self.assertEqual((os.listdir(), glob.glob('/dev/null.*')), ([], []))

    def test_programs_that_leave_little_to_write_on(self):
        environment = os.environ | {'PYTHONUNBUFFERED': ''}
        for code, has_summary in (
                ('import sys; sys.stderr = None', True),
                ('import sys, io; sys.stderr = io.StringIO()', True),
                ('import sys; sys.stderr = sys.stdout', True),
                ('import sys; sys.__stderr__ = None', False),
                ('import sys; sys.stderr.close()', False),
                ('import os; os.close(2)', False),
                ('import os; os.mkdir("d"); os.chdir("d"); os.rmdir("../d")',
                 True),
                ('import os; os.chdir("/")', True),
                ('import sys; sys.setrecursionlimit(100)', True),
                ('import sys; sys.modules.clear()', True)):
            with self.subTest(code):
                process = command('run', '-f', '-o', 'a.tracemalloc', '-c',
                                  code, env=environment)
                self.assertEqual((process.returncode, process.stdout),
                                 (0, ''))
                self.assertEqual('Live at the end' in process.stderr,
                                 has_summary, process.stderr)
                self.assertNotIn('no snapshot', process.stderr)
                if has_summary:
                    self.assertIn('\nSnapshot: a.tracemalloc\n',
                                  process.stderr)
                self.assertEqual(os.listdir(), ['a.tracemalloc'])
                tracemalloc.Snapshot.load('a.tracemalloc')
                os.unlink('a.tracemalloc')

    def test_interrupted_while_it_is_written(self):
        process = command('run', '-o', 'a.tracemalloc', '-c', '''\
import os
fsync = os.fsync
def interrupt(number):
    os.kill(os.getpid(), 2)
    fsync(number)
os.fsync = interrupt
''')
        self.assertEqual((process.returncode, process.stderr), (
            0, f'pytracemalloc: {os.getcwd()}/a.tracemalloc: interrupted '
               f'before it was written\n'))
        self.assertEqual(os.listdir(), [])

    def test_disk_is_full(self):
        process = command('run', '-o', '/dev/full', '-c', 'kept = bytes(9999)')
        self.assertEqual(process.returncode, 0)
        self.assertIn('pytracemalloc: /dev/full: no snapshot: No space left '
                      'on device\n', process.stderr)
        self.assertIn('Live at the end:', process.stderr)
        self.assertNotIn('Traceback', process.stderr)

    def run_without_memory(self, left, *options):
        """Run a program that may have *left* bytes more at its end."""
        path = self.write('app.py', """\
            import resource, sys
            kept = [[i] for i in range(500_000)]
            with open('/proc/self/statm') as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS,
                               (max(0, size + int(sys.argv[1])),) * 2)
            kept.append(sys.argv)
            """)
        return command('run', '-f', '-o', 'a.tracemalloc', *options, path,
                       str(left))

    def check_summary(self, process):
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertRegex(process.stderr, r'(?m)^pytracemalloc: .* live, .* at '
                                         r'the peak')
        self.assertNotRegex(process.stderr, r'(?m): $')
        self.assertNotIn('Traceback', process.stderr)
        self.assertEqual(glob.glob('*.tmp'), [])

    @limits_memory
    @unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks of the map of all')
    def test_no_memory_left(self):
        # What is set aside is enough for all.
        process = self.run_without_memory(0)
        self.check_summary(process)
        self.assertIn('Snapshot: a.tracemalloc\n', process.stderr)
        self.assertNotIn('not enough', process.stderr)
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertGreater(len(snapshot.traces), 500_000)

    @limits_memory
    def test_no_memory_for_single_blocks(self):
        for options in [], ['--no-traces']:
            process = self.run_without_memory((4 << 20) - reserve._SIZE,
                                              *options)
            self.check_summary(process)
            self.assertIn('Live at the end:', process.stderr)
            self.assertIn('app.py:2 in <module>', process.stderr)
            self.assertIn('Snapshot: a.tracemalloc\n', process.stderr)
            self.assertEqual(
                f'pytracemalloc: {os.getcwd()}/a.tracemalloc: not enough '
                f'memory for single blocks; trying the call tree alone, '
                f'as with --no-traces\n' in process.stderr, not options)
            snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
            self.assertGreater(snapshot.traced_memory[0], 40_000_000)
            self.assertEqual(len(snapshot.traces), 0)

    @limits_memory
    @unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks of the map of all')
    def test_no_memory_for_references(self):
        # Objects take more than blocks do.  More is set aside without the GIL.
        left = -(32 << 20) if FREE_THREADED else 0
        process = self.run_without_memory(left, '--references')
        self.check_summary(process)
        self.assertIn(f'pytracemalloc: {os.getcwd()}/a.tracemalloc: not '
                      f'enough memory for references; trying without them\n',
                      process.stderr)
        self.assertIn('Snapshot: a.tracemalloc\n', process.stderr)
        snapshot = tracemalloc.Snapshot.load('a.tracemalloc')
        self.assertFalse(snapshot.has_references)
        self.assertGreater(len(snapshot.traces), 500_000)

    @limits_memory
    def test_no_memory_for_a_snapshot(self):
        process = self.run_without_memory(-(1 << 40))
        self.check_summary(process)

    @limits_memory
    def test_error_without_memory(self):
        path = self.write('app.py', """\
            import resource
            with open('/proc/self/statm') as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
            kept = []
            while True:
                kept.append([bytes(10_000)])
            """)
        process = command('run', '-o', 'a.tracemalloc', path)
        self.assertEqual(process.returncode, 1)
        self.assertIn('MemoryError', process.stderr)
        self.assertIn('Live at the end:', process.stderr)
        self.assertIn('app.py:7 in <module>', process.stderr)
        tracemalloc.Snapshot.load('a.tracemalloc')

    def test_killed_while_it_is_written(self):
        process = command('run', '--no-keep-tree', '--on-growth', '1 MB',
                          '-o', 'a.tracemalloc', '-c', """\
import os
fsync = os.fsync
written = []
def kill(number):
    fsync(number)
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), 9)
os.fsync = kill
kept = []
while True:
    kept.append(bytes(10_000))
""")
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertEqual(sorted(os.listdir()), ['a.0001.tracemalloc',
                                                'a.0002.tracemalloc'])
        # The next run starts again.
        process = command('run', '--on-growth', '1 GB', '-o', 'a.tracemalloc',
                          '-c', '1')
        self.assertEqual(process.returncode, 1)
        self.assertIn('a.0001.tracemalloc exists', process.stderr)
        self.run_program('--on-growth', '1 GB', '-f', '-c', '1')
        self.assertEqual(os.listdir(), ['a.tracemalloc'])

    def test_what_was_left_behind_is_removed(self):
        # As where the file system has no files without a name.
        kill = '''if True:
            import os, sys
            from tracemalloc import whole_file
            whole_file._UNNAMED = 0
            with whole_file.create(sys.argv[1]) as number:
                print(os.listdir(), flush=True)
                if sys.argv[2:]:
                    sys.stdin.read()
                os.kill(os.getpid(), 9)
            '''
        writer = subprocess.Popen(
            [sys.executable, '-c', kill, 'b.tracemalloc', 'wait'], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(writer.communicate)
        writer.stdout.readline()
        busy, = os.listdir()
        for name in 'a.0001.tracemalloc', 'mine':
            subprocess.run([sys.executable, '-c', kill, name],
                           stdout=subprocess.DEVNULL)
        others = 'x.tmp', f'mine.{"0" * 15}g.tmp', f'other.{"0" * 16}.tmp'
        for name in others:
            self.write(name, '')
        self.assertEqual(len(os.listdir()), 6)
        process = command('run', '-o', 'mine', '-c', '1')
        self.assertEqual(process.returncode, 0)
        self.assertEqual(sorted(os.listdir()),
                         sorted([*others, busy, 'mine']))


if __name__ == '__main__':
    unittest.main()
