"""Every command of README.md works."""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from test.support import requires_subprocess

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
# Targets are looked for, not made once more from in here.
DRY_RUN = ['make', '--dry-run', '--old-file=all', '--old-file=prepare']
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def figures(name):
    """Return for time and for memory {'mean' or 'worst': {mode: ratio}}."""
    path = TOP / 'Doc' / 'performance' / name
    for part in path.read_text().split('Peak resident memory'):
        rows = {line.split()[0]: line.split() for line in part.splitlines()
                if re.match(r'workload |geometric mean|worst  ', line)}
        modes = rows['workload'][2:]
        yield {'mean': dict(zip(modes, map(float, rows['geometric'][2:]))),
               'worst': dict(zip(modes, map(float, rows['worst'][1:])))}


def run(command, folder, **environment):
    return subprocess.run(command, shell=isinstance(command, str), cwd=folder,
                          env={**os.environ, **environment}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)


@requires_subprocess()
@unittest.skipUnless((TOP / 'README.md').is_file() and
                     sysconfig.is_python_build(),
                     'needs the repository and its build')
class ReadmeTests(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.text = (TOP / 'README.md').read_text()
        cls.blocks = BLOCK.findall(cls.text)
        cls.build = pathlib.Path(
            sysconfig.get_config_h_filename()).parent.parent.parent

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def commands(self, pattern):
        return [line for kind, text in self.blocks if kind == 'sh'
                for line in text.splitlines() if re.match(pattern, line)]

    def check(self, command, folder, **environment):
        result = run(command, folder, **environment)
        self.assertEqual(result.returncode, 0,
                         f'{command}\n{result.stdout}{result.stderr}')
        return result

    def test_every_command_has_a_test(self):
        known = (r'\./bootstrap( check)?$|\./bootstrap && \./configure |make\b'
                 r'|export PATH=/opt/mypython/bin:\$PATH$|pytracemalloc '
                 r'|/opt/mypython/bin/python3 |(PY\w+=\w+ )?env/bin/python ')
        for command in self.commands(''):
            self.assertRegex(command, '^(' + known + ')')

    def test_bootstrap_targets(self):
        # `./bootstrap check` is what runs this test.
        self.assertIn('`./bootstrap demo`', self.text)
        targets = [command.split()[1:]
                   for command in self.commands(r'\./bootstrap( \w+)?$')]
        for target in [['demo'], *targets]:
            self.check([*DRY_RUN, *target], self.build)

    def test_make_targets(self):
        for command in self.commands('make'):
            self.check(DRY_RUN + shlex.split(command)[1:], self.build)

    def test_configure_and_install(self):
        command, = self.commands(r'\./bootstrap && ')
        prefix = self.folder / 'mypython'
        _, configure, make, install = command.replace(
            '/opt/mypython', str(prefix)).split(' && ')
        configure = configure.replace('./configure',
                                      shlex.quote(str(TOP / 'configure')))
        self.check(configure, self.folder)
        for command in make, install:
            result = self.check(DRY_RUN + shlex.split(command)[1:],
                                self.folder)
        self.assertIn(str(prefix), result.stdout)

    def test_running_a_program(self):
        (self.folder / 'app.py').write_text(
            'import sys, tracemalloc\n'
            'assert tracemalloc.is_tracing()\n'
            'print(tracemalloc.get_traceback_limit())\n'
            'assert "pytracemalloc" in sys.version\n')
        create, = self.commands('/opt/mypython/bin/python3')
        # Without pip, which is in CPython's own tests.
        self.check(create.replace('/opt/mypython/bin/python3',
                                  shlex.quote(sys.executable))
                   + ' --without-pip', self.folder)
        limits = [int(self.check(command, self.folder).stdout)
                  for command in self.commands(r'(PY\w+=\w+ )?env/')]
        self.assertEqual(limits[:2], [1, 25])
        self.assertGreater(limits[2], 1000)
        self.assertEqual(limits[3], 25)
        self.assertEqual(len(limits), 5)

    def test_commands_in_sentences(self):
        text = ' '.join(self.text.split())
        commands = set(re.findall(r'`pytracemalloc ([a-z-]+)(?: (--[a-z-]+))?',
                                  text))
        self.assertIn(('diff', '--fail-above'), commands)
        self.assertIn(('start', ''), commands)
        for command, option in commands:
            result = self.check([sys.executable, '-m', 'pytracemalloc',
                                 command, '--help'], self.folder)
            self.assertIn(option, result.stdout)

    def test_command(self):
        (self.folder / 'app.py').write_text(
            'kept = bytes(2_000_000)\n'
            'class Order: pass\n'
            'order = Order()\n')
        (run_it, report, page, run_again, compare, why,
         holders) = (f'{shlex.quote(sys.executable)} -m {command}'
                     for command in self.commands('pytracemalloc '))
        self.assertIn('1.9 MiB live', self.check(run_it, self.folder).stderr)
        self.assertIn('app.py:1', self.check(report, self.folder).stdout)
        self.check(page, self.folder)
        page = (self.folder / 'monday.html').read_text(encoding='utf-8')
        self.assertIn('app.py', page)
        self.check(run_again, self.folder)
        result = self.check(compare, self.folder)
        self.assertIn('Traced memory: 1.9 MiB', result.stdout)
        result = self.check(why, self.folder)
        self.assertIn('__main__.order -> Order', result.stdout)
        result = self.check(holders, self.folder)
        self.assertIn('.kept: bytes', result.stdout)

    def test_output_is_that_of_the_tutorial(self):
        tutorial = (TOP / 'Doc' / 'tutorial' / 'leak.rst').read_text()
        shown = [line.strip() for kind, text in self.blocks if kind == 'text'
                 for line in text.splitlines()]
        self.assertTrue(shown)
        for line in shown:
            self.assertIn(line, tutorial)

    def test_figures_are_those_of_the_benchmark(self):
        """Each row of the table has those of a column of the last run; Fil
        those of the run on 3.13, as the text says."""
        columns = {
            'pytracemalloc, 1 frame': '1',
            'pytracemalloc, whole stacks': 'full',
            'stock `tracemalloc`, 1 frame': 'stock-1',
            'stock `tracemalloc`, 25 frames': 'stock-25',
            'memray': 'memray',
            'memray `--trace-python-allocators`': 'memray-python',
            'Fil': 'fil', 'Scalene': 'scalene'}
        rows = dict(re.findall(r'^\| (.+?) \| ([\d.]+ \| [\d.]+ \| [\d.]+)'
                               r' \|', self.text, re.MULTILINE))
        self.assertEqual(set(rows), set(columns))
        runs = {name: tuple(figures(name)) for name in (
            '3.13/peers.txt', '3.14/workloads.txt')}
        for name, column in columns.items():
            time, memory = runs['3.13/peers.txt' if column == 'fil'
                                else '3.14/workloads.txt']
            self.assertEqual([*map(float, rows[name].split(' | '))], [
                float(f'{value:.3g}') for value in (
                    time['mean'][column], time['worst'][column],
                    memory['mean'][column])], name)

    def test_python_examples(self):
        examples = [text for kind, text in self.blocks if kind == 'python']
        self.assertTrue(examples)
        for text in examples:
            (self.folder / 'example.py').write_text(text)
            result = self.check([sys.executable, 'example.py'], self.folder)
            self.assertIn('example.py:5', result.stdout)


if __name__ == '__main__':
    unittest.main()
