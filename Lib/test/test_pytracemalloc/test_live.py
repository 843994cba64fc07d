"""pytracemalloc top as one sits before it: keys, screens, endings."""

import glob
import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
import unittest
from unittest import mock

from pytracemalloc import live
from pytracemalloc.client import Client
from pytracemalloc.live import View
from pytracemalloc.terminal import sparkline
from tracemalloc.sizes import format_size
from test.test_pytracemalloc.terminal import Terminal

PROGRAM = '''\
import sys, time

def grow():
    kept.append(bytes(400_000))

kept = []
small = [bytes(60) for _ in range(5000)]
print('ready', flush=True)
bytes(9_000_000)
while True:
    grow()
    time.sleep(0.05)
'''


class TopTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(os.path.join(self.directory, 'app.py'), 'w') as file:
            file.write(PROGRAM)
        self.program = subprocess.Popen(
            [sys.executable, '-X', 'tracemalloc=2', 'app.py'],
            cwd=self.directory, stdout=subprocess.PIPE, text=True,
            env=os.environ | {'PYTRACEMALLOC_CONTROL': 'c.sock'})
        self.addCleanup(self.stop_program)
        self.assertEqual(self.program.stdout.readline(), 'ready\n')

    def stop_program(self):
        self.program.kill()
        self.program.wait()
        self.program.stdout.close()

    def top(self, interval='1', **options):
        return Terminal('top', str(self.program.pid), '--interval', interval,
                        cwd=self.directory, **options)

    def test_first_page(self):
        with self.top() as terminal:
            page = terminal.wait_for(r'app\.py:4 in grow')
            self.assertEqual(len(page), 24)
            self.assertIn('app.py', page[0])
            self.assertRegex(page[1], r'^traced +\d.*MiB   peak +\d.*MiB')
            self.assertRegex(page[2], r'^process +\d.*iB   tracer +\d.*iB')
            self.assertRegex(page[3], r'^[\d,]+ lines by size, 2 frames')
            self.assertIn('sort', page[-1])
            # From the second page on there are rates, and the line moves.
            page = terminal.wait_for(r'\+\d.*MiB .*app\.py:4 in grow')
            page = terminal.wait_for(r'^traced .*[▁▂▃▄▅▆▇█]{3}$')
            page = terminal.wait_for(r'^process .*[▁▂▃▄▅▆▇█]{3}$')
            self.assertTrue(all(len(line) <= 80 for line in page))
            terminal.type('q')
            self.assertEqual(terminal.end()[0], 0)
            self.assertTrue(terminal.is_restored())

    def test_sort_and_group(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            for order in 'count', 'total', 'peak', 'growth', 'size':
                terminal.type('s')
                terminal.wait_for(f'lines by {order}')
            for group, row in (('files', r'app\.py$'),
                               ('functions', r'app\.py:3 in grow$'),
                               ('modules', ' app$'), ('types', ' bytes$'),
                               ('C function', ' <not native>$'),
                               ('lines', 'in grow$')):
                terminal.type('g')
                page = terminal.wait_for(f'{group} by size')
                self.assertRegex('\n'.join(page), f'(?m){row}')

    def test_sorted_by_count(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('s')
            page = terminal.wait_for('lines by count')
            self.assertRegex('\n'.join(page[5:9]), r'5,0\d\d .*app\.py:7 ')

    def test_filter(self):
        with self.top() as terminal:
            terminal.wait_for('ABCMeta')
            terminal.type('/nothéng\r')
            terminal.wait_for(r'files like \*nothéng\*')
            terminal.type('/x\x7fapp.py\r')
            page = terminal.wait_for(r'files like \*app\.py\*')
            # Above the titles, a line may tell of the next highest moments.
            titles, = (number for number, line in enumerate(page)
                       if line.startswith('      size     rate/s'))
            rows = [line for line in page[titles + 1:-1] if line]
            *rows, rest = rows
            self.assertTrue(rows)
            for row in rows:
                self.assertIn('app.py:', row)
            self.assertRegex(rest, '[KM]iB +all others$')
            terminal.type('/\x1b')
            terminal.wait_for('ABCMeta')

    def test_pause(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('p')
            paused = terminal.wait_for(', paused')
            drawn = len(terminal.output)
            terminal.wait_for(', paused')
            while len(terminal.output) == drawn:
                terminal._read(0.2)
            self.assertEqual(terminal.page(), paused)
            terminal.type('p')
            terminal.wait_for(r'^[\d,]+ lines by size, 2 frames$')

    def test_reset_peak(self):
        with self.top() as terminal:
            page = terminal.wait_for('in grow')
            traced, peak = map(float, (page[1].split()[1], page[1].split()[4]))
            terminal.type('r')
            page = terminal.wait_for('in grow')
            for _ in range(3):
                page = terminal.wait_for('in grow')
            traced, peak = map(float, (page[1].split()[1], page[1].split()[4]))
            self.assertLess(peak - traced, 2)

    def test_snapshot(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('w')
            terminal.wait_for(r'^wrote .*\.tracemalloc, \d')
            [path] = glob.glob(os.path.join(self.directory, '*.tracemalloc'))
            snapshot = tracemalloc.Snapshot.load(path)
            self.assertEqual(snapshot.pid, self.program.pid)

    def test_stop_and_start_tracing(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('t')
            terminal.wait_for('not tracing: press t')
            terminal.wait_for('^traced +0 B   peak +0 B ')
            terminal.type('t')
            terminal.wait_for('line.* by size, all frames$')

    def test_narrow(self):
        for columns in 20, 44, 60, 200:
            with self.top(columns=columns, lines=12) as terminal:
                page = terminal.wait_for('MiB .*in grow$')
                self.assertLessEqual(len(page), 12)
                self.assertLessEqual(max(map(len, page)), columns)

    def test_resized_while_running(self):
        with self.top(interval='60') as terminal:
            terminal.wait_for('in grow')
            terminal.resize(30, 9)
            page = terminal.wait_for('^.{29,30}$')
            while len(page) > 9:
                page = terminal.wait_for('.')
            self.assertLessEqual(max(map(len, page)), 30)

    def test_signals_restore_the_terminal(self):
        for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143),
                                 (signal.SIGHUP, 129)):
            with self.subTest(number), self.top() as terminal:
                terminal.wait_for('in grow')
                os.kill(terminal.process.pid, number)
                status, output = terminal.end()
                self.assertEqual(status, expected)
                self.assertNotIn('Traceback', output)
                self.assertTrue(terminal.is_restored())

    def test_control_c(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('\x03')
            self.assertEqual(terminal.end()[0], 130)
            self.assertTrue(terminal.is_restored())

    def test_stop_and_continue(self):
        with Terminal(program=('sh', '-i'), cwd=self.directory,
                      environment=os.environ | {
                          'P': sys.executable, 'PS1': '$ '}) as terminal:
            terminal.type(f'"$P" -m pytracemalloc top {self.program.pid} '
                          f'--interval 1\n')
            for _ in range(2):
                terminal.wait_for('in grow')
                self.assertFalse(terminal.is_restored())
                terminal.type('\x1a')
                terminal.wait_for('Stopped')
                self.assertTrue(terminal.is_restored())
                terminal.type('echo one; echo "tw""o"\n')
                terminal.wait_for('^two$')
                terminal.resize(60, 12)
                terminal.type('fg\n')
                terminal.wait_for('^traced .*[▁▂▃▄▅▆▇█]$')
            page = terminal.wait_for('in grow')
            self.assertLessEqual(max(map(len, page)), 60)
            self.assertLessEqual(len(page), 12)
            terminal.type('q')
            terminal.type('echo "status=$?"\n')
            terminal.wait_for('status=0$')
            self.assertTrue(terminal.is_restored())

    def test_keys_while_paused(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('p')
            terminal.wait_for(', paused')
            # Sorted and grouped again, not only named so.
            terminal.type('s')
            page = terminal.wait_for('lines by count.*, paused')
            self.assertRegex('\n'.join(page[5:9]), r'5,0\d\d .*app\.py:7 ')
            terminal.type('g')
            page = terminal.wait_for('files by count.*, paused')
            self.assertRegex('\n'.join(page[5:9]), r'(?m)app\.py$')
            terminal.type('q')
            self.assertEqual(terminal.end()[0], 0)

    def test_types_have_no_total(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('ssgggg')
            terminal.wait_for('types by size')
            terminal.type('s')
            terminal.wait_for('types by size')
            terminal.type('s')
            terminal.wait_for('types by growth')

    def test_program_ends(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            self.program.kill()
            status, output = terminal.end()
            self.assertEqual(status, 1)
            self.assertTrue(terminal.is_restored())
            self.assertTrue(output.rstrip().endswith(
                'c.sock: the program has ended'), output[-200:])
            self.assertNotIn('Traceback', output)


class Program:
    """Answers like a program with the rows that it is given."""

    def __init__(self):
        self.rows = {}            # name: size
        self.moments = []
        self.now = 1000.0
        self.limit = 1
        self.root = ''

    def ask(self, command, limit=1000, order=None, **arguments):
        current = sum(self.rows.values())
        answer = {'pid': 12, 'argv': ['python', 'app.py'], 'tracing': True,
                  'traceback_limit': self.limit, 'current': current,
                  'peak': 5000, 'tracer': 99, 'process': current + 1000,
                  'time': self.now}
        if command == 'arenas':
            return {'size': 0, 'used': 0, 'given_back': 0, 'lines': []}
        if command == 'peaks':
            return {'next': self.moments}
        if command == 'statistics':
            self.asked = arguments
            rows = sorted(self.rows.items(), key=lambda item: -item[1])
            answer['groups'] = len(rows)
            answer['rows'] = [[name, size, 1, size, 1, size]
                              for name, size in rows[:limit]]
        return answer


class ViewTest(unittest.TestCase):
    def setUp(self):
        self.program = Program()
        self.view = View(self.program, 2)

    def look(self, seconds, **rows):
        self.program.now += seconds
        self.program.rows = rows
        self.view.refresh()
        return self.view.page(80, 24)

    def test_rates(self):
        self.look(0, a=1000, b=500)
        self.assertEqual(self.view.rates, {})
        page = self.look(2, a=3000, b=500, c=80)
        self.assertEqual(self.view.rates, {'a': 1000, 'b': 0, 'c': 40})
        self.assertRegex(page[5], r'^ +2\.9 KiB +\+1\.0 KiB +1 +2\.9 KiB  a$')
        self.look(4, a=1000, b=700)
        self.assertEqual(self.view.rates, {'a': -500, 'b': 50})

    def test_rows_add_up(self):
        rows = {f'{number:02}': 100 + number for number in range(50)}
        page = self.look(0, **rows)
        *shown, rest = [line for line in page[5:-1] if line]
        self.assertGreater(len(shown), 10)
        self.assertRegex(shown[0], r'^ +149 B .*  49$')
        others = sum(range(100, 150 - len(shown)))
        self.assertEqual(rest.split(), [*format_size(others).split(), 'all',
                                        'others'])
        # Here is room for all.
        page = self.look(2, a=1000)
        self.assertNotIn('all others', '\n'.join(page))

    def test_next_highest_moments(self):
        self.program.moments = [
            [990.0, 4096, [['a.py:1', 2048], ['a.py:2', 100]]],
            [990.0 - 86400, 3072, []]]
        *_, line, titles = self.look(0, a=1000)[:6]
        time_of_day = r'\d\d:\d\d:\d\d'
        self.assertRegex(line, rf'^next +4\.0 KiB at {time_of_day}, '
                               r'\+2\.0 KiB at a\.py:1$')
        self.assertIn('rate/s', titles)
        # There is room for all.
        page = self.view.page(None, None)
        self.assertEqual(page[4], line)
        self.assertRegex(page[5], rf'^next +3\.0 KiB at [\d-]+ '
                                  rf'{time_of_day}$')
        first, second = self.view.document()['next_peaks']
        self.assertEqual(first['more'], [
            {'name': 'a.py:1', 'size_diff': 2048},
            {'name': 'a.py:2', 'size_diff': 100}])
        self.assertEqual((second['traced_memory'], second['more']), (3072, []))
        self.assertLess(second['timestamp'], first['timestamp'])
        # After a reset there are others at once.
        self.program.moments = []
        self.view.obey('r', None)
        self.assertNotIn('next', '\n'.join(self.look(0.1, a=1000)[:5]))

    def test_views(self):
        self.look(0, a=1000)
        asked = []
        for key, state in (('f', ', unfolded'), ('c', ', my code'),
                           ('c', ''), ('f', ', unfolded'), ('f', '')):
            self.view.obey(key, None)
            page = self.look(1, a=1000)
            self.assertRegex(page[3], rf'by size, \w+ frames?{state}$')
            asked.append([self.program.asked[name]
                          for name in ('unfold', 'my_code')])
        self.assertEqual(asked, [[True, False], [False, True], [False, False],
                                 [True, False], [False, False]])

    def test_my_code_has_no_tasks(self):
        self.view.group = 'task'
        self.view.obey('c', None)
        page = self.look(0, a=1000)
        self.assertRegex(page[3], r'^1 task by size, 1 frame$')
        self.assertIn('press g first', page[-1])
        self.view.obey('g', None)
        self.view.obey('c', None)
        self.assertRegex(self.look(1, a=1000)[3], ', my code$')

    def test_keys_between_two_looks_leave_the_rates_alone(self):
        self.look(0, a=1000)
        self.look(0.1, a=1100)    # too soon to say anything
        self.assertEqual(self.view.rates, {})
        self.look(2, a=3100)
        self.assertAlmostEqual(self.view.rates['a'], 1000)
        self.look(0.01, a=3300)   # over what is shown: 2.11 seconds
        self.assertAlmostEqual(self.view.rates['a'], 2300 / 2.11)
        self.assertEqual(list(self.view.history['current']), [1000, 3100])
        self.assertEqual(list(self.view.history['process']), [2000, 4100])

    def test_other_rows_have_no_rates_at_first(self):
        self.look(0, a=1000)
        self.view.obey('g', None)
        self.look(2, b=5000)
        self.assertEqual(self.view.rates, {})
        self.look(2, b=5000)
        self.assertEqual(self.view.rates, {'b': 0})

    def test_row_that_was_not_among_the_largest(self):
        with mock.patch.object(live, '_KEPT_ROWS', 2):
            self.look(0, a=1000, b=900, c=800)
            self.look(2, a=1000, c=950, b=900)
            self.assertEqual(self.view.rates, {'a': 0})

    def test_sorted_by_growth(self):
        self.look(0, a=1000, b=10)
        for _ in range(4):
            self.view.obey('s', None)
        self.look(2, a=1000, b=10)
        page = self.look(2, a=900, b=50)
        self.assertTrue(page[5].endswith('  b'), page)
        self.assertTrue(page[6].endswith('  a'), page)

    def test_sparkline(self):
        with mock.patch.object(live, 'can_encode', lambda *args: True):
            for size in 0, 1000, 2000, 4000, 8000, 4000:
                page = self.look(2, a=size)
        self.assertEqual(page[1][46:], '▁▂▃▅█▅')
        self.assertEqual(page[2][46:], sparkline(
            [1000, 2000, 3000, 5000, 9000, 5000], 34))

    def test_plurals(self):
        page = self.look(0, a=1)
        self.assertEqual(page[3], '1 line by size, 1 frame')
        self.program.limit = 2
        page = self.look(2, a=1, b=1)
        self.assertEqual(page[3], '2 lines by size, 2 frames')
        self.view.obey('g', None)
        self.program.limit = 65535
        self.assertEqual(self.look(2, a=1)[3], '1 file by size, all frames')
        self.assertEqual(self.look(2, a=1, b=1)[3],
                         '2 files by size, all frames')
        self.assertEqual(self.look(2)[3], '0 files by size, all frames')


class SocketTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())

    def top(self, pid):
        return subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'top', '--once', str(pid)],
            capture_output=True, text=True)

    def test_forked_child_has_none(self):
        program = subprocess.Popen(
            [sys.executable, '-c', 'import os, sys\n'
             'if not (pid := os.fork()): sys.stdin.read(); os._exit(0)\n'
             'print(pid, flush=True); os.wait()'],
            env=os.environ | {'PYTRACEMALLOC_CONTROL':
                              os.path.join(self.directory, 'c.sock')},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(program.communicate)
        child = int(program.stdout.readline())
        self.assertEqual(self.top(program.pid).returncode, 0)
        process = self.top(child)
        self.assertEqual((process.returncode, process.stderr), (
            1, f'pytracemalloc: process {child} has no control socket of its '
               f'own; {self.directory}/c.sock is that of process '
               f'{program.pid}\n'))

    def test_process_in_a_container(self):
        # It has other mounts, so that its path does not exist here, and is
        # process 1 there.
        inside = os.path.join(self.directory, 'inside')
        os.mkdir(inside)
        code = 'import sys; print("ready", flush=True); sys.stdin.read()'
        for path in f'{inside}/c.sock', 'c.sock', inside, '.':
            program = subprocess.Popen(
                ['unshare', '-rmpf', 'sh', '-c', f'mount -t tmpfs tmpfs '
                 f'{inside} && cd {inside} && exec "$@"', 'sh',
                 sys.executable, '-X', 'tracemalloc', '-X',
                 f'tracemalloc_control={path}', '-c', code],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True)
            if program.stdout.readline() != 'ready\n':
                self.skipTest('needs leave to use unshare')
            with open(f'/proc/{program.pid}/task/{program.pid}/children',
                      encoding='ascii') as file:
                [pid] = file.read().split()
            self.assertEqual(os.listdir(inside), [])
            process = self.top(pid)
            self.assertEqual((process.returncode, process.stderr), (0, ''))
            self.assertTrue(process.stdout.startswith(f'{pid}  '))
            client = Client.of(pid)
            view = View(client, 1)
            view.refresh()
            view.obey('w', None)
            written = view.message.removeprefix('wrote ').partition(',')[0]
            self.assertTrue(written.startswith(
                f'/proc/{pid}/root/tmp/{pid}-'))
            self.assertEqual(tracemalloc.Snapshot.load(written).pid, 1)
            os.unlink(written)
            client.__exit__()
            program.communicate()


if __name__ == '__main__':
    unittest.main()
