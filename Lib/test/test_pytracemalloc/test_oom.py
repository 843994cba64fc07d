"""The call tree when a request for memory failed: -X tracemalloc_oom."""
import os
import random
import signal
import subprocess
import sys
import time
import unittest
from test.test_pytracemalloc.helpers import ALLOCATORS, FREE_THREADED
from test.test_pytracemalloc.kept_programs import line_of
from test.test_pytracemalloc.oom_case import (
    FILL, HUGE, MIB, PRELUDE, OomCase)

from _tracemalloc_snapshot import _read_kept
from pytracemalloc import failed, kept
from pytracemalloc.errors import CommandError


class TreeTests(OomCase):
    """The tree is what was live when the request failed."""

    def check_fill(self, size, mib, *options, limit='10', what='AS', **more):
        result = self.run_program(f'''{FILL}
limit({mib}, resource.RLIMIT_{what})
try:
    fill({size})
except MemoryError:
    counted = count
    live.clear()
    print(counted)
''', *options, limit=limit, **more)
        snapshot, request = self.check(result)
        blocks, counted = self.live_at(snapshot), int(result.stdout)
        # Nor was there memory to trace the last small ones.
        untraced = snapshot.metadata.get('untraced', 0)
        self.assertIn(counted - blocks[0], range(untraced + 1))
        self.assertEqual(blocks[1], blocks[0] * request['size'])
        self.assertEqual(request['size'], size + bytes(0).__sizeof__())
        self.assertEqual(request['stack'][-1], {
            'filename': os.path.abspath('app.py'), 'lineno': self.line,
            'function': 'fill'})
        self.assertEqual(request['domain'], 'object')
        self.assertGreater(snapshot.traced_memory[0], (mib - 70) * MIB)
        return request

    def test_limits(self):
        for size, mib in (1_000_000, 80), (100_000, 160), (5 << 20, 400):
            with self.subTest(size=size, mib=mib):
                request = self.check_fill(size, mib)
                self.assertEqual(request['reason'], 'address limit')
                self.assertEqual(request['depth'], 2)
                free = request['address_limit'] - request['address_space']
                self.assertLess(free, size + (64 * MIB if FREE_THREADED
                                              else 2 * MIB))

    def test_small_blocks(self):
        self.check_fill(1000 if FREE_THREADED else 300, 80)

    def test_frames(self):
        for limit in '1', '2', 'full':
            with self.subTest(limit):
                request = self.check_fill(1_000_000, 80, limit=limit)
                # The stack of the request is whole all the same.
                self.check_stack(request, '<module>', 'fill')

    def test_allocators(self):
        for name in ALLOCATORS:
            with self.subTest(name):
                self.check_fill(1_000_000, 80, env=os.environ
                                | {'PYTHONMALLOC': name})

    def test_data_limit(self):
        request = self.check_fill(1_000_000, 80, what='DATA')
        self.assertEqual(request['reason'], 'data limit')
        self.assertIsNone(request['address_limit'])

    def test_list_comprehension(self):
        result = self.run_program('''
def make():
    global count
    block = zero * 100_000              # the line
    count += 1
    return block
limit(100)
try:
    live = [make() for i in range(10_000)]
except MemoryError:
    print(count)
''')
        snapshot, request = self.check(result)
        self.assertEqual(self.live_at(snapshot)[0], int(result.stdout))
        self.assertEqual(request['stack'][-1]['function'], 'make')

    def test_recursion(self):
        result = self.run_program('''
def deep():
    global count
    block = zero * 2_000_000            # the line
    count += 1
    deep()
limit(150)
try:
    deep()
except MemoryError:
    print(count)
''', limit='full')
        snapshot, request = self.check(result)
        count = int(result.stdout)
        self.assertEqual(self.live_at(snapshot)[0], count)
        self.assertEqual(request['depth'], count + 2)
        names = {frame['function'] for frame in request['stack'][1:]}
        self.assertEqual(names, {'deep'})
        self.assertEqual(len(request['stack']), min(count + 2, 256))

    def test_block_that_grows(self):
        """The old block is live: a request that fails changes nothing."""
        result = self.run_program('''
limit(300)
grown = bytearray()
try:
    while True:
        grown += bytes(30_000_000)      # the line
except MemoryError:
    print(len(grown))
''')
        snapshot, request = self.check(result)
        count, size = self.live_at(snapshot)
        self.assertGreater(size, int(result.stdout))
        self.assertGreater(request['size'], 30_000_000)

    @unittest.skipIf(FREE_THREADED, 'what mimalloc has reserved comes first')
    def test_peak(self):
        """The highest moment is not that of the request."""
        result = self.run_program(f'''{FILL}
before = [zero * 1_000_000 for i in range(300)]
before.clear()
others = [zero * 1_000_000 for i in range(9)]
limit(90)
try:
    fill(1_000_000)
except MemoryError:
    pass
''')
        snapshot, request = self.check(result)
        current, peak = snapshot.traced_memory
        self.assertLess(current, 250_000_000)
        self.assertGreater(peak, 300_000_000)


class WhereTests(OomCase):
    def test_threads(self):
        """Each fills a line of its own."""
        result = self.run_program('''
text = """
def fill(number):
    count = 0
    mine = [None] * 5000
    try:
        while True:
            mine[count] = zero * 1_000_000
            count += 1
    except MemoryError:
        os.write(1, b"%d %d\\\\n" % (number, count))
"""
threads = []
for number in range(4):
    scope = {'zero': zero, 'os': os}
    exec(compile(text, f'thread{number}', 'exec'), scope)
    threads.append(threading.Thread(target=scope['fill'], args=(number,)))
limit(400)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
''')
        snapshot, request = self.check(result)
        counts = dict(map(int, line.split())
                      for line in result.stdout.splitlines())
        self.assertEqual(sorted(counts), [0, 1, 2, 3])
        name = request['stack'][-1]['filename']
        self.assertEqual(request['stack'][0]['function'],
                         'Thread._bootstrap')
        # That thread was here; the others went on, until theirs failed.
        for number, count in counts.items():
            blocks, _ = line_of(snapshot, f'thread{number}', 7)
            self.assertLessEqual(blocks, count + 1)
            if name == f'thread{number}':
                self.assertEqual(blocks, count)

    def check_raw(self, functions, text):
        result = self.run_program(f'''
limit(100)
malloc = ctypes.{functions}.PyMem_RawMalloc
malloc.restype = ctypes.c_void_p
malloc.argtypes = [ctypes.c_size_t]
held = zero * 1_000_000                 # the line
def ask():
    for size in 50_000_000, 150_000_000:
        print(malloc(size) is None)
{text}
''')
        self.assertEqual(result.stdout, 'False\nTrue\n')
        snapshot, request = self.check(result)
        self.assertEqual(self.live_at(snapshot)[0], 1)
        self.assertEqual((request['domain'], request['size']),
                         ('raw', 150_000_000))
        self.assertEqual(request['stack'][-1]['function'], 'ask')

    def test_raw(self):
        self.check_raw('pythonapi', 'ask()')

    def test_raw_without_the_gil(self):
        self.check_raw('CDLL(None)', 'ask()')

    def test_raw_in_a_thread(self):
        self.check_raw('CDLL(None)', 'thread = threading.Thread(target=ask)\n'
                                     'thread.start(); thread.join()')

    def test_thread_without_python(self):
        result = self.run_program('''
libc = ctypes.CDLL(None)
function = ctypes.cast(libc.PyMem_RawMalloc, ctypes.c_void_p)
thread = ctypes.c_ulong()
limit(100)
libc.pthread_create(ctypes.byref(thread), None, function,
                    ctypes.c_void_p(150_000_000))
libc.pthread_join(thread, None)
''')
        snapshot, request = self.check(result)
        self.assertEqual((request['stack'], request['depth']), ([], 0))
        self.assertEqual(failed.line(snapshot).split(' (')[0],
                         'MemoryError: 143 MiB could not be allocated')

    def test_interpreter(self):
        result = self.run_program('''
import _interpreters
id = _interpreters.create()
limit(200)
error = _interpreters.exec(id, """if True:
    def fill():
        live = []
        while True:
            live.append(bytes(1_000_000))
    try:
        fill()
    except MemoryError:
        print('caught')
""")
_interpreters.destroy(id)
''')
        self.assertEqual(result.stdout, 'caught\n', result.stderr)
        snapshot, request = self.check(result)
        self.assertEqual(request['stack'][-1]['function'], 'fill')
        self.assertGreater(snapshot.traced_memory[0], 50_000_000)

    def test_forked_child(self):
        result = self.run_program(f'''{FILL}
limit(100)
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    print(pid, os.listdir())
else:
    try:
        fill(1_000_000)
    except MemoryError:
        with open('counted', 'w') as file:
            print(count, file=file)
        os._exit(0)
''')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        pid = result.stdout.split()[0]
        self.assertIn("'app.oom'", result.stdout)
        self.assertNotIn('app.oom', os.listdir())
        snapshot, request = self.load(f'app.oom.{pid}')
        self.assertEqual(snapshot.pid, int(pid))
        with open('counted') as file:
            self.assertEqual(self.live_at(snapshot)[0], int(file.read()))

    def test_forked_child_of_which_none_failed(self):
        result = self.run_program('''
for i in range(3):
    if not os.fork():
        os._exit(0)
    os.wait()
''')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(os.listdir(), ['app.py'])

    def test_tracer_itself(self):
        """What is not traced is not the program's."""
        result = self.run_program(f'''
try:
    _tracemalloc._hidden(bytearray)({HUGE})
except MemoryError:
    pass
''')
        self.assertEqual((result.returncode, result.stderr), (0, ''))
        self.assertEqual(os.listdir(), ['app.py'])


class FileTests(OomCase):
    """The file, and the program that goes on."""

    def test_exception_goes_its_way(self):
        result = self.run_program(f'{FILL}limit(100)\nfill(5_000_000)\n')
        self.assertEqual(result.returncode, 1)
        lines = result.stderr.splitlines()
        self.assertEqual((lines[0], lines[-1]), (
            'Traceback (most recent call last):', 'MemoryError'))
        self.assertNotIn('tracemalloc:', result.stderr)
        self.load()

    def test_nothing_failed(self):
        result = self.run_program(
            'print(os.path.getsize("app.oom"), _tracemalloc._kept_oom())')
        self.assertEqual((result.stdout, result.stderr), ('0 None\n', ''))
        self.assertEqual(os.listdir(), ['app.py'])

    def test_empty_file_is_taken_over(self):
        self.run_program('os._exit(0)')
        self.assertEqual(os.path.getsize('app.oom'), 0)
        with self.assertRaisesRegex(CommandError, 'no request for memory has '
                                                  'failed'):
            kept.load('app.oom')
        self.run_program('')
        self.assertEqual(os.listdir(), ['app.py'])

    def test_environment(self):
        for options, left in ((), ['by-name']), (('-E',), []):
            result = subprocess.run(
                [sys.executable, *options, '-X', 'tracemalloc', '-c',
                 'import os; os._exit(0)'],
                env=os.environ | {'PYTRACEMALLOC_OOM': 'by-name'})
            self.assertEqual((result.returncode, os.listdir()), (0, left))
            for name in left:
                os.unlink(name)

    def test_stop_and_start(self):
        result = self.run_program('''
def fail(size):
    try:
        bytearray(size)
    except MemoryError:
        pass
limit(100)
fail(1 << 50)
print(_tracemalloc._kept_oom() == os.path.abspath('app.oom'))
tracemalloc.clear_traces()
print(os.path.getsize('app.oom') > 0)
tracemalloc.stop()
fail(2 << 50)
tracemalloc.start()
fail(3 << 50)
''')
        self.assertEqual(result.stdout, 'True\nTrue\n')
        snapshot, request = self.check(result)
        self.assertEqual(request['size'], (3 << 50) + 1)
        snapshot, request = self.load('app.oom.previous')
        self.assertEqual(request['size'], (1 << 50) + 1)

    def test_program_closes_all_files(self):
        result = self.run_program(f'''{FILL}
os.closerange(3, 5000)
mine = os.open('mine', os.O_WRONLY | os.O_CREAT)
for number in range(3, 300):
    if number != mine:
        os.dup2(mine, number)
limit(100)
try:
    fill(1_000_000)
except MemoryError:
    print(count)
''')
        self.assertEqual(os.path.getsize('mine'), 0)
        snapshot, request = self.check(result)
        self.assertEqual(self.live_at(snapshot)[0], int(result.stdout))

    def test_with_a_kept_tree(self):
        result = self.run_program(f'''{FILL}
limit(300)
try:
    fill(1_000_000)
except MemoryError:
    live.clear()
os._exit(0)
''', '-X', 'tracemalloc_file=tree.kept')
        snapshot, request = self.check(result)
        after, known = kept.load('tree.kept')
        self.assertIsNone(known['failure'])
        self.assertGreater(snapshot.traced_memory[0],
                           after.traced_memory[0] + 100_000_000)

    def check_not_written(self, problem, text='', file='app.oom', **more):
        result = self.run_program(f'{FILL}{text}\nlimit(100)\n'
                                  f'try:\n    fill(1_000_000)\n'
                                  f'except MemoryError: print("on")\n'
                                  f'try:\n    fill(1_000_000)\n'
                                  f'except MemoryError: print("on")\n',
                                  file=file, **more)
        path = file if file[0] == '/' else f'{os.getcwd()}/{file}'
        self.assertEqual((result.returncode, result.stdout), (0, 'on\non\n'))
        self.assertEqual(result.stderr,
                         f'tracemalloc: {path}: {problem}; the call tree at a '
                         f'failed request is not written\n')
        self.assertNotIn('app.oom', os.listdir())

    def test_no_file(self):
        os.mkdir('folder')
        with open('diary', 'w') as file:
            file.write('dear diary')
        for name, problem in (
                ('missing/x', 'no such folder'),
                ('folder', 'it is a folder'),
                ('/dev/null', 'it is there, and is no kept call tree'),
                ('diary', 'it is there, and is no kept call tree'),
                ('x' * 300, 'the name is too long'),
                ('/proc/x', 'no such folder')):
            with self.subTest(name):
                self.check_not_written(problem, file=name)
        with open('diary') as file:
            self.assertEqual(file.read(), 'dear diary')

    def test_too_long_a_name(self):
        result = self.run_program('', file='x/' * 3000)
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r'^tracemalloc: (x/)+: the name is '
                                        r'too long; there is no file\n$')

    def test_limit_of_files(self):
        self.check_not_written(
            'the limit for the size of a file (ulimit -f)', '''
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
''')

    def test_removed(self):
        """Another file is made."""
        result = self.run_program(f'''{FILL}
os.closerange(3, 5000)
os.unlink('app.oom')
limit(100)
try:
    fill(1_000_000)
except MemoryError:
    pass
''')
        self.check(result)

    def run_on_small_disk(self, size, text):
        if subprocess.run(['unshare', '-m', 'true'],
                          capture_output=True).returncode:
            self.skipTest('cannot mount here')
        os.mkdir('disk')
        with open('app.py', 'w') as file:
            file.write(f'{PRELUDE}{FILL}limit(100)\n{text}')
        result = subprocess.run(
            ['unshare', '-m', 'sh', '-c', f'mount -t tmpfs -o size={size} '
             'none disk && exec "$0" -X tracemalloc -X '
             'tracemalloc_oom=disk/app.oom app.py', sys.executable],
            capture_output=True, text=True)
        if 'mount:' in result.stderr:
            self.skipTest('cannot mount here')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, f'tracemalloc: {os.getcwd()}/disk/'
                         f'app.oom: no room on its file system; the call '
                         f'tree at a failed request is not written\n')
        return result.stdout

    TRY = '''
try:
    fill(1_000_000)
except MemoryError: print("on")
'''

    def test_full_disk(self):
        self.assertEqual(self.run_on_small_disk('40k', self.TRY), 'on\n')

    def test_disk_without_room_for_another(self):
        """The first file is left."""
        self.assertEqual(self.run_on_small_disk('1M', f'''{self.TRY}
def read():
    for i in range(len(live)):
        live[i] = None
    with open('disk/app.oom', 'rb') as file:
        return file.read()
before = read()
with open('disk/rest', 'wb', buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
time.sleep(1.1)
{self.TRY}
print(before == read(), sorted(os.listdir('disk')))
'''), "on\non\nTrue ['app.oom', 'rest']\n")

    def test_moved(self):
        """What somebody has put elsewhere is left as it is."""
        result = self.run_program(f'''{FILL}limit(100){self.TRY}
os.rename('app.oom', 'mine.oom')
time.sleep(1.1)
{self.TRY}
''')
        self.assertEqual(self.check(result)[1]['number'], 2)
        self.assertEqual(self.load('mine.oom')[1]['number'], 1)
        self.assertEqual(sorted(os.listdir()),
                         ['app.oom', 'app.py', 'mine.oom'])


class HostileTests(OomCase):

    def test_bits_of_the_header(self):
        """Damaged files: one line, never a crash."""
        self.run_program(f'{FILL}limit(100)\nfill(1_000_000)\n')
        with open('app.oom', 'rb') as file:
            image = bytearray(file.read())
        wrong = 0
        for bit in range(8 * 100, 8 * 400):
            image[bit // 8] ^= 1 << bit % 8
            try:
                traces, known = _read_kept(image)
                traces._call_tree()
            except ValueError as error:
                self.assertRegex(str(error), r'^[^\n]+ at offset \d+$')
                wrong += 1
            image[bit // 8] ^= 1 << bit % 8
        self.assertGreater(wrong, 100)

    def test_killed_while_it_is_written(self):
        """At any moment: the file is whole, or none."""
        program = f'''{FILL}
for i in range(1000):
    exec(f'def f{{i}}(): return zero * 2\\nlive[i] = f{{i}}()')
limit(100)
print('ready', flush=True)
fill(1_000_000)
'''
        whole = 0
        rng = random.Random(3)
        for _ in range(10):
            with open('app.py', 'w') as file:
                file.write(PRELUDE + program)
            with subprocess.Popen(
                    [sys.executable, '-X', 'tracemalloc=10', '-X',
                     'tracemalloc_oom=app.oom', 'app.py'],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
                run.stdout.readline()
                while not os.path.getsize('app.oom') and run.poll() is None:
                    pass
                for _ in range(rng.randrange(3000)):
                    pass
                run.send_signal(signal.SIGKILL)
            with open('app.oom', 'rb') as file:
                image = file.read()
            if image[:1] == b'\x89':
                self.assertIsNotNone(_read_kept(image)[1]['failure'])
                whole += 1
            else:
                self.assertRaises(ValueError, _read_kept, image)
            os.unlink('app.oom')

    def test_killed_while_it_is_replaced(self):
        """The first tree is left, or the second one is whole."""
        with open('app.py', 'w') as file:
            file.write(f'''{PRELUDE}{FILL}
for i in range(1000):
    exec(f'def f{{i}}(): return zero * 2\\nlive[i] = f{{i}}()')
limit(100)
while True:
    try:
        fill(1_000_000)
    except MemoryError:
        print('failed', flush=True)
        time.sleep(1.01)
''')
        for _ in range(3):
            with subprocess.Popen(
                    [sys.executable, '-X', 'tracemalloc=10', '-X',
                     'tracemalloc_oom=app.oom', 'app.py'],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
                run.stdout.readline()
                end = time.monotonic() + 30
                while (not os.path.exists(f'app.oom.{run.pid}.tmp')
                       and time.monotonic() < end):
                    pass
                run.send_signal(signal.SIGKILL)
                self.assertLess(time.monotonic(), end)
            self.load()
            for name in os.listdir():
                if name != 'app.py':
                    os.unlink(name)


if __name__ == '__main__':
    unittest.main()
