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
        cls.blocks = BLOCK.findall((TOP / 'README.md').read_text())
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
        known = (r'\./bootstrap( demo| check)?$|\./configure |make\b'
                 r'|/opt/mypython/bin/(python3|pytracemalloc) '
                 r'|(PY\w+=\w+ )?env/bin/python ')
        for command in self.commands(''):
            self.assertRegex(command, '^(' + known + ')')

    def test_bootstrap_targets(self):
        # `./bootstrap check` is what runs this test.
        targets = [command.split()[1:]
                   for command in self.commands(r'\./bootstrap')]
        self.assertIn(['demo'], targets)
        for target in targets:
            self.check([*DRY_RUN, *target], self.build)

    def test_make_targets(self):
        for command in self.commands('make'):
            self.check(DRY_RUN + shlex.split(command)[1:], self.build)

    def test_configure_and_install(self):
        command, = self.commands(r'\./configure')
        prefix = self.folder / 'mypython'
        configure, make, install = command.replace(
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

    def test_command(self):
        (self.folder / 'app.py').write_text(
            'kept = bytes(2_000_000)\n'
            'class Order: pass\n'
            'order = Order()\n')
        program = '/opt/mypython/bin/pytracemalloc'
        commands = [
            command.replace(program, f'{shlex.quote(sys.executable)}'
                            ' -m pytracemalloc')
            for command in self.commands(program)]
        self.assertEqual(len(commands), 6)
        self.check(commands[0], self.folder)
        shutil.copy(self.folder / 'monday.tracemalloc',
                    self.folder / 'friday.tracemalloc')
        self.check(commands[1], self.folder)
        page = (self.folder / 'monday.html').read_text(encoding='utf-8')
        self.assertIn('app.py', page)
        result = self.check(commands[2], self.folder)
        self.assertIn('Traced memory: 1.9 MiB (+0 B)', result.stdout)
        self.check(commands[3], self.folder)
        result = self.check(commands[4], self.folder)
        self.assertIn('__main__.order -> Order', result.stdout)
        result = self.check(commands[5], self.folder)
        self.assertIn('.kept: bytes', result.stdout)

    def test_python_examples(self):
        examples = [text for kind, text in self.blocks if kind == 'python']
        self.assertTrue(examples)
        for text in examples:
            (self.folder / 'example.py').write_text(text)
            result = self.check([sys.executable, 'example.py'], self.folder)
            self.assertIn('example.py:5', result.stdout)


if __name__ == '__main__':
    unittest.main()
