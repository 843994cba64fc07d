"""bin/pytracemalloc of virtual environments, whoever makes them."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

from test.test_pytracemalloc import fetched
from test.test_pytracemalloc.command_case import CommandCase

STOCK = pathlib.Path(sys.executable).parents[1] / 'unpatched/obj/python'
APP = 'import packed, sys; print(sys.prefix, packed.name)'


class EnvironmentCase(CommandCase):
    def call_command(self, path, *args, **environment):
        return subprocess.run([path, *args], capture_output=True, text=True,
                              env=os.environ | environment)

    def add_package(self, environment):
        """Install a package there, as pip does."""
        [packages] = pathlib.Path(environment).glob('lib/*/site-packages')
        (packages / 'packed.py').write_text(
            f'name = {os.path.basename(environment)!r}\n')

    def check_command(self, environment, **variables):
        """It runs programs with the packages of its environment."""
        path = os.path.abspath(environment)
        done = self.call_command(f'{environment}/bin/pytracemalloc', 'run',
                                 '-fqo', 'a.tracemalloc', '-c', APP,
                                 **variables)
        self.assertEqual(
            (done.returncode, done.stdout, done.stderr),
            (0, f'{path} {os.path.basename(environment)}\n', ''))
        done = self.call_command(f'{environment}/bin/pytracemalloc', 'report',
                                 'a.tracemalloc', '--top', '1')
        self.assertIn('Traced memory: ', done.stdout)


class VenvTest(EnvironmentCase):
    """What `python -m venv` writes."""

    def make(self, name, *options):
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip',
                        *options, name], check=True)
        self.add_package(name)

    def test_command(self):
        for name, options in (('env', []), ('copies', ['--copies']),
                              ("a 'strange' name; $HOME", [])):
            with self.subTest(name):
                self.make(name, *options)
                self.check_command(name)
        # Its own packages, whichever environment is active.
        self.check_command('env', VIRTUAL_ENV=os.path.abspath('copies'))

    def test_as_the_installed_one(self):
        self.make('env')
        command = 'env/bin/pytracemalloc'
        done = self.call_command(command, '--version')
        self.assertEqual(done.stdout, self.ok('--version'))
        done = self.call_command(command, 'report')
        self.assertEqual((done.returncode, done.stderr), (
            2, 'pytracemalloc: the following arguments are required: FILE '
               '(see pytracemalloc report --help)\n'))
        # What lies about is not imported, nor what PYTHONPATH says.
        self.write('pytracemalloc.py', 'raise SystemExit("wrong one")')
        done = self.call_command(command, '--version',
                                 PYTHONPATH=self.directory)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_upgrades(self):
        """The file holds nothing that a new interpreter would change."""
        self.make('env')
        command = pathlib.Path('env/bin/pytracemalloc')
        before = command.read_text()
        subprocess.run([sys.executable, '-m', 'venv', '--upgrade',
                        '--without-pip', 'env'], check=True)
        self.assertEqual(command.read_text(), before)
        self.check_command('env')
        text = before.replace(os.path.abspath('env'), '')
        self.assertNotIn(sys.base_prefix, text)
        self.assertNotIn(sysconfig.get_python_version(), text)
        # One that was there before has none, until it is made again.
        command.unlink()
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', 'env'],
                       check=True)
        self.check_command('env')

    def test_a_python_without_a_tracer(self):
        self.make('env')
        other = STOCK if STOCK.exists() else shutil.which('python3')
        if other is None or pathlib.Path(other).samefile(sys.executable):
            self.skipTest('needs another Python')
        for name in 'python', 'python3':
            path = pathlib.Path('env/bin', name)
            path.unlink()
            path.symlink_to(other)
        home = os.path.dirname(os.path.realpath(other))
        pathlib.Path('env/pyvenv.cfg').write_text(f'home = {home}\n')
        done = self.call_command('env/bin/pytracemalloc', 'run', 'app.py')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r'\Apytracemalloc: \S+ has no tracer; '
                                      r'make the environment again .*\n\Z')


class LinkTest(EnvironmentCase):
    """A link to the installed command, where other tools make environments."""

    def setUp(self):
        super().setUp()
        # As Tools/install writes it.
        command = self.write('bin/pytracemalloc', (
            f'#!{sys.executable} -I\nimport sys\n'
            f'from pytracemalloc.cli import main\nsys.exit(main())\n'))
        os.chmod(command, 0o755)

    def link(self, environment):
        path = f'{environment}/bin/pytracemalloc'
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(os.path.abspath('bin/pytracemalloc'), path)
        self.add_package(environment)

    def test_environment_of_the_link(self):
        for name in 'one', 'two':
            subprocess.run([sys.executable, '-m', 'venv', '--without-pip',
                            name], check=True)
            self.link(name)
        self.check_command('one')
        self.check_command('one', VIRTUAL_ENV=os.path.abspath('two'))
        # By PATH, as a shell finds it.
        done = subprocess.run(
            ['pytracemalloc', 'run', '-fqo', 'a.tracemalloc', '-c', APP],
            capture_output=True, text=True, env=os.environ | {
                'PATH': f'{os.path.abspath("two/bin")}:{os.environ["PATH"]}'})
        self.assertEqual(done.stdout, f'{os.path.abspath("two")} two\n')

    def test_a_link_elsewhere(self):
        """As in ~/bin: the active environment counts."""
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', 'env'],
                       check=True)
        self.add_package('env')
        os.makedirs('home/bin')
        os.symlink(os.path.abspath('bin/pytracemalloc'),
                   'home/bin/pytracemalloc')
        done = self.call_command(
            'home/bin/pytracemalloc', 'run', '-fqo', 'a.tracemalloc', '-c',
            APP, VIRTUAL_ENV=os.path.abspath('env'))
        self.assertEqual((done.stdout, done.stderr),
                         (f'{os.path.abspath("env")} env\n', ''))

    def check_tool(self, *command):
        name = os.path.basename(command[0])
        subprocess.run([*command, sys.executable, name], check=True)
        self.link(name)
        self.check_command(name)

    def test_virtualenv(self):
        tool = fetched.environment('venv') / 'bin' / 'virtualenv'
        self.check_tool(tool, '--no-seed', '-q', '-p')

    @unittest.skipUnless(shutil.which('uv'), 'needs uv')
    def test_uv(self):
        self.check_tool('uv', 'venv', '-q', '-p')


if __name__ == '__main__':
    unittest.main()
