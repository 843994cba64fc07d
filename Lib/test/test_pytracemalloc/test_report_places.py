"""What has no place in the source: reports say so in words, the interface in
those of the standard library."""
import _thread
import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

import tracemalloc
from pytracemalloc.cli import main
from pytracemalloc.measures import KEYS
from test.support import import_helper
from test.test_pytracemalloc.helpers import Tracing
from tracemalloc.places import name_file, name_parts, name_place

NO_FRAME = 'interpreter, no Python frame'
# What starts with the interpreter is there before the first frame.
DUMP = '''
import sys, tracemalloc
tracemalloc.take_snapshot().dump(sys.argv[1])
'''
# What `top` asks a program for.
ROWS = '''
import json, pytracemalloc.control
ask, types = pytracemalloc.control.COMMANDS['statistics']
print(json.dumps(ask('lineno', limit=10_000, unfold=True)['rows']))
'''

# So does what starts with a thread.
THREADS = '''
import threading
event = threading.Event()
threads = [threading.Thread(target=event.wait) for i in range(20)]
for thread in threads:
    thread.start()
event.set()
'''

# A module's last objects die when main() is through.
SHUT_DOWN = '''
import sys, tracemalloc

class Last:
    def __init__(self):
        self.take = tracemalloc.take_snapshot
        self.path = sys.argv[1]
    def __del__(self):
        self.take().dump(self.path)

last = Last()
'''


def reasons(snapshot):
    """Return {function: blocks ever allocated} where no Python frame is."""
    return {stat.key[1]: stat.total_count
            for stat in snapshot.statistics('function', order='total_count')
            if stat.key[0] == '<unknown>'}


class NameTests(unittest.TestCase):

    def test_names(self):
        for place, text in ((('a.py', 3), 'a.py:3'),
                            (('a.py', 0), 'a.py:0'),
                            (('a.py', 3, 'f'), 'a.py:3 in f'),
                            (('<unknown>', 0), NO_FRAME),
                            (('<unknown>', 0, '<unknown>'), NO_FRAME),
                            (('<unknown>', 0, '<start-up>'),
                             f'{NO_FRAME} (start-up)'),
                            (('<unknown>', 3, 'f'), '<unknown>:3 in f')):
            self.assertEqual(name_place(*place), text)
        self.assertEqual(name_file('<unknown>'), NO_FRAME)
        self.assertEqual(name_file('<string>'), '<string>')
        self.assertEqual(name_parts('a.py', 3, 'f'), ('a.py', 'f'))
        self.assertEqual(name_parts('<unknown>', 0, '<unknown>'),
                         (NO_FRAME, None))


class ReportTests(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.path = os.path.join(directory, 'x.tracemalloc')
        subprocess.run([sys.executable, '-X', 'tracemalloc=3', '-c', DUMP,
                        cls.path], check=True)

    def report(self, *args):
        output = self.path + '.out'
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = main(['report', '--unfold', *args, '-f', '-o', output,
                           self.path])
        self.assertEqual(status, 0, said.getvalue())
        with open(output, 'rb') as file:
            return file.read()

    def check(self, text):
        self.assertIn(NO_FRAME, text)
        self.assertNotIn('<unknown>', text)
        self.assertNotIn('&lt;unknown', text)
        self.assertNotIn(f'{NO_FRAME}:0', text)

    def test_text(self):
        for by in KEYS:
            with self.subTest(by=by):
                text = self.report('--top', '100000', '--by', by).decode()
                if by in ('type', 'address', 'domain', 'native', 'task'):
                    self.assertNotIn('unknown', text)
                else:
                    self.check(text)

    def test_graphs(self):
        for format in 'html', 'flamegraph', 'collapsed', 'speedscope':
            with self.subTest(format):
                self.check(self.report('--format', format).decode())
        with self.subTest('pprof'):
            profile = gzip.decompress(self.report('--format', 'pprof'))
            self.assertIn(NO_FRAME.encode(), profile)
            self.assertNotIn(b'<unknown>', profile)

    def test_json_and_csv_have_the_fields_of_the_interface(self):
        self.assertIn('\n<unknown>,0,',
                      self.report('--format', 'csv').decode())
        rows = json.loads(self.report('--format', 'json'))['statistics']
        self.assertIn(('<unknown>', 0), [(row['filename'], row['lineno'])
                                         for row in rows])

    def test_interface(self):
        snapshot = tracemalloc.Snapshot.load(self.path)
        stats = [stat for stat in snapshot.statistics('lineno')
                 if stat.traceback[0].filename == '<unknown>']
        self.assertEqual([(stat.traceback[0].lineno, str(stat.traceback))
                          for stat in stats], [(0, '<unknown>:0')])
        without = snapshot.filter_traces(
            [tracemalloc.Filter(False, '<unknown>')])
        self.assertEqual(len(snapshot.traces) - len(without.traces),
                         stats[0].count)

    def test_top(self):
        rows = json.loads(subprocess.check_output(
            [sys.executable, '-X', 'tracemalloc=3', '-c', ROWS]))
        names = {name for name, *values in rows}
        self.assertIn(NO_FRAME, {name.split(' (')[0] for name in names})
        self.assertFalse([name for name in names if '<unknown>' in name])

    def test_run(self):
        program = self.path + '.py'
        with open(program, 'w') as file:
            file.write(THREADS)
        result = subprocess.run(
            [sys.executable, '-m', 'pytracemalloc', 'run', '--unfold',
             '--top', '1000', '-o', self.path + '.run', program],
            capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check(result.stderr)

    def test_report_says_which(self):
        sizes = {stat.key[1].strip('<>'): stat.size for stat
                 in tracemalloc.Snapshot.load(self.path).statistics('function')
                 if stat.key[0] == '<unknown>'}
        self.assertLessEqual({'start-up', 'main program'}, sizes.keys())
        # By line, the part that holds most stands for all.
        most = max(sizes, key=sizes.get)
        for by in 'line', 'traceback', 'function':
            text = self.report('--top', '100000', '--by', by).decode()
            for part in 'start-up', 'main program':
                self.assertEqual(f'{NO_FRAME} ({part})' in text,
                                 by == 'function' or part == most, by)
        profile = gzip.decompress(self.report('--format', 'pprof'))
        self.assertIn(f'{NO_FRAME} (start-up)'.encode(), profile)
        rows = json.loads(self.report('--format', 'json', '--by', 'line'))
        self.assertIn(('<unknown>', 0, f'<{most}>'),
                      [(row['filename'], row['lineno'], row['function'])
                       for row in rows['statistics']])


class ReasonTests(unittest.TestCase):
    """What allocates where no Python frame is."""

    def reasons(self, function, nframe):
        with Tracing(nframe):
            function()
            return reasons(tracemalloc.take_snapshot())

    def check(self, reason, function):
        for nframe in 1, 25, 'full':
            with self.subTest(nframe=nframe):
                self.assertEqual(self.reasons(function, nframe).get(reason),
                                 10)

    def test_start(self):
        for nframe in '1', '25', 'full':
            with self.subTest(nframe=nframe), \
                    tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, 'x.tracemalloc')
                subprocess.run([sys.executable, '-X', f'tracemalloc={nframe}',
                                '-c', DUMP, path], check=True)
                found = reasons(tracemalloc.Snapshot.load(path))
                self.assertEqual(found.keys(),
                                 {'<start-up>', '<main program>'})

    def test_end(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'x.tracemalloc')
            subprocess.run([sys.executable, '-X', 'tracemalloc=3', '-c',
                            SHUT_DOWN, path], check=True)
            found = reasons(tracemalloc.Snapshot.load(path))
        self.assertEqual(found.keys(),
                         {'<start-up>', '<main program>', '<shut-down>'})

    def test_thread(self):
        def start():
            for i in range(10):
                # The thread makes an empty set, and no frame.
                _thread.start_joinable_thread(set).join()
        self.check('<thread start>', start)

    def test_thread_of_c_code(self):
        _testcapi = import_helper.import_module('_testcapi')

        def start():
            for i in range(10):
                _testcapi.call_in_temporary_c_thread(set)
        self.check('<thread of C code>', start)

    def test_subinterpreter(self):
        _testcapi = import_helper.import_module('_testcapi')
        found = self.reasons(lambda: _testcapi.run_in_subinterp(''), 25)
        self.assertGreater(found['<subinterpreter>'], 1000)
        self.assertNotIn('<main program>', found)


if __name__ == '__main__':
    unittest.main()
