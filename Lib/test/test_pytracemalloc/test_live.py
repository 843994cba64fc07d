"""pytracemalloc top as one sits before it: keys, screens, endings."""

import glob
import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
import unittest

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
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
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

    def top(self, **options):
        return Terminal('top', str(self.program.pid), '--interval', '1',
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
                               ('lines', 'in grow$')):
                terminal.type('g')
                page = terminal.wait_for(f'{group} by size')
                self.assertRegex('\n'.join(page), f'(?m){row}')

    def test_sorted_by_count(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.type('s')
            page = terminal.wait_for('lines by count')
            self.assertRegex('\n'.join(page[5:8]), r'5,0\d\d .*app\.py:7 ')

    def test_filter(self):
        with self.top() as terminal:
            terminal.wait_for('_compile_bytecode')
            terminal.type('/nothéng\r')
            terminal.wait_for(r'files like \*nothéng\*')
            terminal.type('/x\x7fapp.py\r')
            page = terminal.wait_for(r'files like \*app\.py\*')
            rows = [line for line in page[5:-1] if line]
            self.assertTrue(rows)
            for row in rows:
                self.assertIn('app.py:', row)
            terminal.type('/\x1b')
            terminal.wait_for('_compile_bytecode')

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
            terminal.type('t')
            terminal.wait_for('lines by size, 1 frames')

    def test_narrow(self):
        for columns in 20, 44, 60, 200:
            with self.top(columns=columns, lines=12) as terminal:
                page = terminal.wait_for('MiB .*in grow$')
                self.assertLessEqual(len(page), 12)
                self.assertLessEqual(max(map(len, page)), columns)

    def test_resized_while_running(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            terminal.resize(30, 9)
            page = terminal.wait_for('^.{29,30}$')
            while len(page) > 9:
                page = terminal.wait_for('.')
            self.assertLessEqual(max(map(len, page)), 30)

    def test_interrupt_restores_the_terminal(self):
        with self.top() as terminal:
            terminal.wait_for('in grow')
            os.kill(terminal.process.pid, signal.SIGINT)
            status, output = terminal.end()
            self.assertEqual(status, 130)
            self.assertNotIn('Traceback', output)
            self.assertTrue(terminal.is_restored())

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


if __name__ == '__main__':
    unittest.main()
