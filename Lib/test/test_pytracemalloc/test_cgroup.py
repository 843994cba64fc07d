"""The limit of a cgroup's memory: found in files, and watched in a real one."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import unittest

from pytracemalloc import cgroup
from test.test_pytracemalloc.command_case import CommandCase, command
from test.test_pytracemalloc.helpers import SANITIZED

MIB = 1 << 20
near_the_limit = unittest.skipIf(
    SANITIZED, 'a sanitizer takes memory of its own')


class FilesTests(CommandCase):
    """Made-up files: what the kernel writes in containers and elsewhere."""

    def make(self, groups, mounts, **numbers):
        """Files of /proc, and of the folder 'fs'."""
        os.makedirs('proc')
        self.write('proc/cgroup', groups)
        with open('proc/mountinfo', 'w') as file:
            for root, top, rest in mounts:
                path = os.path.join(self.directory, top)
                os.makedirs(path, exist_ok=True)
                path = path.replace(' ', '\\040')
                file.write(f'31 23 0:28 {root} {path} rw - {rest}\n')
        for path, (limit, usage) in numbers.items():
            version = 1 if path.startswith('one') else 2
            names = cgroup._FILES[version]
            folder = os.path.join('fs', path)
            self.write(os.path.join(folder, names[0]), f'{limit}\n')
            self.write(os.path.join(folder, names[1]), f'{usage}\n')

    def find(self):
        return cgroup.find_limit('proc')

    V2 = [('/', 'fs/two', 'cgroup2 cgroup2 rw')]
    V1 = [('/', 'fs/one', 'cgroup cgroup rw,memory')]

    def test_version_2(self):
        self.make('0::/a/b\n', self.V2, **{
            'two/a/b': ('max', 7), 'two/a': (500 * MIB, 9), 'two': ('max', 9)})
        folder = os.path.join(self.directory, 'fs/two/a')
        self.assertEqual(self.find(), (
            folder, 500 * MIB, f'{folder}/memory.current',
            f'{folder}/memory.events', f'{folder}/memory.pressure', None))

    def test_the_lowest_limit_counts(self):
        self.make('0::/a/b\n', self.V2, **{
            'two/a/b': (300 * MIB, 7), 'two/a': (500 * MIB, 9)})
        self.assertEqual(self.find().limit, 300 * MIB)
        self.write('fs/two/a/memory.max', f'{200 * MIB}')
        self.assertEqual(self.find().limit, 200 * MIB)

    def test_limit_that_slows_down(self):
        """It is one, but nothing is killed there."""
        self.make('0::/a\n', self.V2, **{'two/a': (500 * MIB, 9)})
        self.write('fs/two/a/memory.high', f'{400 * MIB}\n')
        self.assertEqual(self.find().limit, 400 * MIB)
        self.assertEqual(cgroup.find_limit('proc', kills=True).limit,
                         500 * MIB)
        self.write('fs/two/a/memory.high', 'max\n')
        self.assertEqual(self.find().limit, 500 * MIB)

    def test_version_1(self):
        self.make('5:cpu,cpuacct:/x\n4:memory:/a\n0::/y\n', self.V1, **{
            'one/a': (100 * MIB, 7), 'one': (9223372036854771712, 9)})
        folder = os.path.join(self.directory, 'fs/one/a')
        self.assertEqual(self.find(), (
            folder, 100 * MIB, f'{folder}/memory.usage_in_bytes', None,
            None, f'{folder}/cgroup.event_control'))

    def test_namespaces(self):
        """What is mounted begins below the top, or is not above us."""
        for groups, root in (('0::/docker/12ab', '/docker/12ab'),
                             ('0::/../../x', '/'), ('0::/elsewhere', '/a'),
                             ('0::/', '/')):
            with self.subTest(groups):
                self.make(groups + '\n', [(root, 'fs/two', 'cgroup2 c rw')],
                          two=(64 * MIB, 5))
                self.assertEqual(self.find().directory,
                                 os.path.join(self.directory, 'fs/two'))
                os.rename('proc', f'proc{len(os.listdir())}')

    def test_spaces(self):
        self.make('0::/a b\n', [('/', 'fs/two', 'cgroup2 c rw')],
                  **{'two/a b': (64 * MIB, 5)})
        self.assertEqual(self.find().limit, 64 * MIB)

    def test_nothing_to_be_seen(self):
        self.assertIsNone(cgroup.find_limit('nowhere'))
        self.make('0::/a\n', self.V2)
        self.assertIsNone(self.find())
        for limit, usage in (('max', 5), ('', 5), ('x', 5), ('-1', 5),
                             ('0', 5), (1 << 63, 5), (MIB, ''), (MIB, 'x')):
            self.write('fs/two/a/memory.max', f'{limit}')
            self.write('fs/two/a/memory.current', f'{usage}')
            self.assertIsNone(self.find(), limit)
        self.write('fs/two/a/memory.current', '5')
        self.assertIsNotNone(self.find())
        for wrong in '', 'x', '0:/a', '0::', ':::::', '0::a':
            self.write('proc/cgroup', wrong)
            self.find()
        self.write('proc/cgroup', '0::/a\n')
        for wrong in '', 'x\n', '1 2 3 4 5 6 - \n', '- - - - - - - - -\n':
            self.write('proc/mountinfo', wrong)
            self.assertIsNone(self.find())


# Rewrites the files of a made-up cgroup of version 2, as the kernel does.
EVENTS = '''\
import time, tracemalloc
from _tracemalloc import _limit_passed
from tracemalloc.task import Task
def write(name, text):
    with open(name, 'r+') as file:
        file.write(text)
def pause():
    end = time.monotonic() + .4
    while time.monotonic() < end:
        str(end)
tracemalloc.start()
found = []
task = Task(lambda: found.append(_limit_passed(0)))
task.set_memory_threshold(1 << 50)
task.schedule()
assert not task._trigger.watch_limit('usage', 'events', None, None, 1000)
tracemalloc.start_history(100)
for what in (('usage', ' 999'), ('usage', '1000'), ('usage', ' 940'),
             ('usage', '1001'), ('usage', ' 900'),
             ('events', 'low 0\\nhigh 7\\nmax 6\\n'), ('usage', ' 901'),
             ('events', 'low 0\\nhigh 9\\nmax 6\\n')):
    pause()
    write(*what)
pause()
print(*found)
'''


class EventsTests(CommandCase):

    def test_version_2(self):
        """1000, then 1001 as 940 is not low enough to count again, and at
        last the event, when less is used again."""
        self.write('usage', ' 100\n')
        self.write('events', 'low 0\nhigh 7\nmax 5\n')
        done = subprocess.run([sys.executable, '-c', EVENTS],
                              capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ('1000 1000\n', ''))


def own_group(version=1):
    """Return the folder of this process's memory cgroup, in which others can
    be made; None: there is no such."""
    for found, directory, _ in cgroup._directories('/proc/self'):
        if found == version and os.access(directory, os.W_OK):
            return directory
    return None


def has_pressure():
    """Are there groups of version 2 that report pressure?"""
    group = own_group(2)
    return group and os.path.exists(f'{group}/memory.pressure')


# Reads sizes in MiB, and has so much: mapped, which Python does not see, or
# allocated; or so much more.
PROGRAM = '''\
import mmap, sys, time
kept, more = None, []
def map(size):
    area = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        area[offset] = 1
    return area
print('ready', flush=True)
for line in sys.stdin:
    kind, size = line.split()
    size = int(size) << 20
    if kind == 'more':
        more.append(map(size))
    else:
        kept = None
        more.clear()
    if kind == 'map':
        kept = map(size)
    elif kind == 'allocate':
        kept = [bytearray(1 << 20) for _ in range(size >> 20)]
    end = time.monotonic() + .5
    while time.monotonic() < end:
        [str(number) for number in range(100)]
    print('done', flush=True)
'''


class RealGroups(CommandCase):
    """Each test has a real memory cgroup of version 1, with a limit."""

    def setUp(self):
        super().setUp()
        self.group = self.make_group(own_group())
        with open(f'{self.group}/memory.limit_in_bytes', 'w') as file:
            file.write(str(self.LIMIT * MIB))

    def make_group(self, parent):
        group = os.path.join(parent, f'test-{os.getpid()}')
        try:
            os.mkdir(group)
        except OSError as error:
            self.skipTest(f'no cgroup can be made: {error}')
        self.addCleanup(self.remove, group)
        return group

    def remove(self, group):
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(group)
                return
            time.sleep(.05)
        os.rmdir(group)


@unittest.skipUnless(own_group(), 'needs cgroups of version 1 that may be '
                                  'made')
class LimitTests(RealGroups):

    LIMIT = 256

    def enter(self):
        with open(f'{self.group}/cgroup.procs', 'w') as file:
            file.write('0')

    def start(self, *options):
        path = self.write('app.py', PROGRAM)
        process = subprocess.Popen(
            [sys.executable, '-m', 'pytracemalloc', 'run', '-o',
             'a.tracemalloc', '--warn-at', '60%', *options, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=self.enter)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), 'ready\n')
        return process

    def do(self, process, what):
        process.stdin.write(what + '\n')
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), 'done\n')

    def warnings(self, process):
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        return re.findall(r'^pytracemalloc: the cgroup is near its limit: '
                          r'(\d+) MiB of 256 MiB; (\S+)$', errors, re.M)

    @near_the_limit
    def test_memory_that_python_does_not_see(self):
        process = self.start()
        self.do(process, 'map 60')
        self.do(process, 'map 180')
        found = self.warnings(process)
        self.assertEqual([name for _, name in found], ['a.0001.tracemalloc'])
        self.assertGreaterEqual(int(found[0][0]), 153)
        snapshot = tracemalloc.Snapshot.load('a.0001.tracemalloc')
        self.assertEqual(snapshot.metadata['cgroup'],
                         f'{found[0][0]} MiB of 256 MiB')
        self.assertEqual(len([note for note in snapshot.history
                              if note.snapshots]), 1)

    @near_the_limit
    def test_allocations(self):
        process = self.start()
        self.do(process, 'allocate 60')
        self.do(process, 'allocate 180')
        (_, name), = self.warnings(process)
        # It is taken before all of it is there.
        snapshot = tracemalloc.Snapshot.load(name)
        self.assertGreater(snapshot.traced_memory[0], 60 * MIB)
        self.assertLess(snapshot.traced_memory[0], 182 * MIB)

    @near_the_limit
    def test_once_a_passing(self):
        process = self.start()
        for what in 'map 180', 'more 10', 'map 60', 'map 180', 'map 60':
            self.do(process, what)
        self.assertEqual([name for _, name in self.warnings(process)],
                         ['a.0001.tracemalloc', 'a.0002.tracemalloc'])

    @near_the_limit
    def test_before_it_is_killed(self):
        process = self.start()
        self.do(process, 'allocate 170')
        with contextlib.suppress(OSError):
            process.stdin.write('allocate 600\n')
            process.stdin.flush()
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertIn('a.0001.tracemalloc', os.listdir())
        tracemalloc.Snapshot.load('a.0001.tracemalloc')

    def test_between_two_looks(self):
        """The kernel tells of what the thread has not seen."""
        done = subprocess.run([sys.executable, '-c', BLIPS, self.group, '1'],
                              preexec_fn=self.enter, capture_output=True,
                              text=True)
        self.assertEqual(done.stderr, '')
        self.assertGreaterEqual(int(done.stdout), 18)

    @near_the_limit
    def test_child_processes(self):
        path = self.write('fork.py', '''\
            import mmap, os, sys, time
            pid = os.fork()
            if pid:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            kept = mmap.mmap(-1, 180 << 20)
            for offset in range(0, len(kept), 4096):
                kept[offset] = 1
            end = time.monotonic() + 1
            while time.monotonic() < end:
                [str(number) for number in range(100)]
            ''')
        done = command('run', '--follow', '-o', 'a.tracemalloc', '--warn-at',
                       '60%', path, preexec_fn=self.enter)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r'near its limit: .*; '
                                      r'a\.\d+\.0001\.tracemalloc\n')


# Passes the bound for a few ms, again and again, and says how often that was
# noticed.
BLIPS = '''\
import mmap, sys, time, tracemalloc
from _tracemalloc import _limit_passed
from tracemalloc.task import Task
usage, control = (f'{sys.argv[1]}/{name}' for name in
                  ('memory.usage_in_bytes', 'cgroup.event_control'))
tracemalloc.start()
with open(usage) as file:
    bound = int(file.read()) + (16 << 20)
found = []
task = Task(lambda: found.append(_limit_passed(0)))
task.set_memory_threshold(1 << 50)
task.schedule()
task._trigger.watch_limit(usage, None, None, sys.argv[2] and control, bound)
tracemalloc.start_history(100)
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
for _ in range(20):
    mmap.mmap(-1, 20 << 20, flags=flags).close()
    end = time.monotonic() + .08
    while time.monotonic() < end:
        str(end)
print(len([usage for usage in found if usage >= bound]))
'''


# Reads pages of a file that is larger than the limit, in no order: what was
# used a moment ago has to be read again.  Says what was reported.
THRASH = '''\
import os, random, sys, time, tracemalloc
from _tracemalloc import _limit_passed
from tracemalloc.task import Task
usage, pressure, path, limit = sys.argv[1:]
tracemalloc.start()
found = []
def note():
    found.append(_limit_passed(0))
task = Task(note)
task.set_memory_threshold(1 << 50)
task.schedule()
error = task._trigger.watch_limit(usage, None, pressure, None, 1 << 50)
assert not error, error
tracemalloc.start_history(100)
end = time.monotonic() + 60
file = os.open(path, os.O_RDONLY)
pages = os.fstat(file).st_size >> 12
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
while not found and time.monotonic() < end:
    os.pread(file, 4096, random.randrange(pages) << 12)
print(len(found), 0 < found[0] <= int(limit) if found else None)
'''


@unittest.skipUnless(own_group() and has_pressure(), 'needs cgroups of both '
                     'versions that may be made, and their pressure')
class PressureTests(RealGroups):
    """A real group of version 1 has the limit, one of version 2 reports."""

    LIMIT = 48

    def setUp(self):
        super().setUp()
        self.second = self.make_group(own_group(2))

    def enter(self):
        for group in self.group, self.second:
            with open(f'{group}/cgroup.procs', 'w') as file:
                file.write('0')

    @near_the_limit
    def test_pressure(self):
        with open('large', 'wb') as file:
            for _ in range(3 * self.LIMIT // 2):
                file.write(bytes(MIB))
            # What is in the cache belongs to the group that has put it there.
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        done = subprocess.run(
            [sys.executable, '-c', THRASH,
             f'{self.group}/memory.usage_in_bytes',
             f'{self.second}/memory.pressure', 'large', str(self.LIMIT * MIB)],
            preexec_fn=self.enter, capture_output=True, text=True)
        self.assertEqual(done.stderr, '')
        self.assertEqual(done.stdout, '1 True\n')


class OptionTests(CommandCase):

    def test_wrong_values(self):
        for value in '90', '0%', '100%', '-5%', 'x%', '%', 'nan%':
            done = command('run', f'--warn-at={value}', '-c', '1')
            self.assertEqual(done.returncode, 2)
            self.assertIn(f'--warn-at {value}: give a part of the limit, '
                          f'such as 90%', done.stderr)
        done = command('run', '--warn-at', '90%', '--no-history', '-c', '1')
        self.assertEqual(done.returncode, 2)
        self.assertIn('leave one out', done.stderr)

    @unittest.skipIf(cgroup.find_limit(), 'there is a limit here')
    def test_no_limit(self):
        done = command('run', '-q', '-o', 'x', '--warn-at', '90%', '-c',
                       'print("runs")')
        self.assertEqual((done.returncode, done.stdout), (0, 'runs\n'))
        self.assertEqual(done.stderr, 'pytracemalloc: --warn-at: no cgroup of '
                         'this process has a limit of memory that can be '
                         'seen\n')


if __name__ == '__main__':
    unittest.main()
