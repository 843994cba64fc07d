"""Tests of what `make tarball` has packed; Tools/tarball/check starts them.

BareTests run it inside a minimal Debian, which has neither a compiler nor the
libraries that it was built with.  For arm64 all of this happens in a Debian of
that kind, by an emulator: see Tools/arm64/inside.
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))
from packed import (ENVIRONMENT, IMPORTS, InsideTests, debugging_texts,
                    files_with, run)

BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
WORK = BUILD / 'tarball'
DIST = WORK / 'dist'
MODULE = '''\
#include <Python.h>
static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "built"};
PyMODINIT_FUNC PyInit_built(void) { return PyModule_Create(&def); }
'''
# Wherever it is, sysconfig says so.
PLACES = '''
import json, sys, sysconfig
print(json.dumps([sys.prefix, sysconfig.get_path('include'),
    sysconfig.get_config_h_filename(),
    *map(sysconfig.get_config_var, ('prefix', 'BINDIR', 'LIBDIR', 'LIBPL',
         'INCLUDEPY', 'CONFINCLUDEPY', 'LIBDEST'))]))
'''
# Says under what it runs.
SHOWN = '''
import sys, tracemalloc
print(hasattr(tracemalloc, 'measure'), sys.base_prefix)
'''


class TarballCase(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        tarballs = [path for path in DIST.glob('*.tar.xz')
                    if not path.name.endswith('-debug.tar.xz')]
        cls.assertEqual(cls(), len(tarballs), 1, f'{DIST}: run `make tarball`')
        cls.tarball, = tarballs
        cls.name = cls.tarball.name.removesuffix('.tar.xz')
        folder = tempfile.mkdtemp(dir=cls.parent())
        cls.addClassCleanup(shutil.rmtree, folder)
        run(['tar', '-xJf', cls.tarball, '-C', folder])
        cls.folder = pathlib.Path(folder, cls.name)
        cls.program = cls.folder / 'bin' / 'python3'

    @classmethod
    def parent(cls):
        return None


class PlaceTests(TarballCase):
    """On this machine, which has a compiler."""

    def test_follows_its_place(self):
        for place in self.folder, self.folder.with_name('moved to'):
            if place != self.folder:
                self.folder.rename(place)
                self.addCleanup(place.rename, self.folder)
            for path in json.loads(run([place / 'bin/python3', '-c', PLACES])):
                self.assertEqual(os.path.commonpath([path, place]),
                                 str(place))
            for name in 'pip3', 'pytracemalloc', 'pydoc3':
                run([place / 'bin' / name, '--version' if name != 'pydoc3'
                     else 'bool'])
            details = json.loads(next(place.glob(
                'lib/python3*/build-details.json')).read_text())
            self.assertEqual(details['base_prefix'], '../..')
            for path in (details['base_interpreter'],
                         details['c_api']['headers']):
                self.assertTrue((place / path).exists(), path)

    def test_extension(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, 'built.c').write_text(MODULE)
            pathlib.Path(folder, 'setup.py').write_text(
                'from setuptools import Extension, setup\n'
                'setup(name="built", ext_modules=['
                'Extension("built", ["built.c"])])\n')
            run([self.program, '-m', 'venv', f'{folder}/env'])
            python = f'{folder}/env/bin/python'
            run([python, '-m', 'pip', 'install', '--quiet', 'setuptools'],
                env=os.environ)
            run([python, '-m', 'pip', 'install', '--no-build-isolation',
                 '--no-index', '.'], cwd=folder)
            run([python, '-c', 'import built'])
            if shutil.which('pkg-config'):
                series = run([self.program, '-c', 'import sysconfig; '
                              'print(sysconfig.get_config_var("LDVERSION"))'])
                flags = run(['pkg-config', '--cflags',
                             f'python-{series.strip()}'], env=ENVIRONMENT | {
                                 'PKG_CONFIG_PATH':
                                 str(self.folder / 'lib/pkgconfig')})
                self.assertTrue(pathlib.Path(
                    flags.split()[0].removeprefix('-I'), 'Python.h').exists())

    def test_compiler(self):
        """Extensions are built by what is called so on the user's machine."""
        names = run([self.program, '-c', 'import sysconfig; print(*map('
                     'sysconfig.get_config_var, ("CC", "CXX", "AR", '
                     '"LDSHARED", "LINKCC")))'])
        self.assertNotRegex(names, '-linux-gnu|--sysroot')

    def test_wheels(self):
        """Of PyPI: one for all processors, one with C code for this."""
        with tempfile.TemporaryDirectory() as folder:
            run([self.program, '-m', 'venv', f'{folder}/env'])
            python = f'{folder}/env/bin/python'
            run([python, '-m', 'pip', 'install', '--quiet',
                 '--only-binary=:all:', 'packaging', 'markupsafe'],
                env=os.environ)
            run([python, '-X', 'tracemalloc', '-c', 'import packaging.version;'
                 'from markupsafe import _speedups'])

    def test_debugging_information(self):
        with tempfile.TemporaryDirectory() as folder:
            run(['tar', '-xJf', DIST / f'{self.name}-debug.tar.xz',
                 '-C', folder])
            program = self.program.resolve()
            id, = re.findall('Build ID: (.*)', run(['readelf', '-n', program]))
            path = pathlib.Path(folder, f'{self.name}-debug', '.build-id',
                                id[:2], f'{id[2:]}.debug')
            self.assertIn('.debug_info', run(['readelf', '-S', '-W', path]))
            texts = debugging_texts(path)
            self.assertIn('obmalloc.c', texts)
            self.assertNotIn(str(BUILD.parent), texts)
            self.assertNotIn('.debug_info',
                             run(['readelf', '-S', '-W', program]))

    def test_checksums_and_contents(self):
        lines = (DIST / 'SHA256SUMS').read_text().splitlines()
        self.assertEqual({line.split()[1]: line.split()[0] for line in lines},
                         {path.name: hashlib.sha256(path.read_bytes())
                          .hexdigest() for path in DIST.iterdir()
                          if path.name != 'SHA256SUMS'})
        document = json.loads((DIST / f'{self.name}.spdx.json').read_text())
        names = {package['name'] for package in document['packages']}
        self.assertLessEqual({'pytracemalloc', 'CPython', 'expat'}, names)
        files = []
        for package in document['packages']:
            if package['name'].startswith('debian-'):
                files += package['comment'].removeprefix('has ').split(', ')
                self.assertTrue((
                    self.folder / 'share/licenses'
                    / package['name'].removeprefix('debian-') / 'copyright'
                    ).stat().st_size, package)
        self.assertEqual(sorted(files),
                         sorted(os.listdir(self.folder / 'lib/bundled')))

    def test_no_paths_of_this_machine(self):
        self.assertEqual(files_with(self.folder, os.fsencode(BUILD.parent)),
                         [])


class ToolTests(TarballCase):
    """Tools from PyPI, and pyenv if it is here, find it and use it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.series = run([cls.program, '-c', 'import sys; '
                          'print("%d.%d" % sys.version_info[:2])']).strip()
        cls.tools = WORK / 'environment' / 'bin'
        cls.work = cls.folder.with_name('work')

    def setUp(self):
        self.work.mkdir()
        self.addCleanup(shutil.rmtree, self.work)
        (self.work / 'shown.py').write_text(SHOWN)
        # As in a shell whose PATH has the folder's programs first.
        self.options = {'cwd': self.work, 'env': ENVIRONMENT | {
            'PATH': f'{self.folder}/bin:{ENVIRONMENT["PATH"]}',
            'HOME': str(self.work), 'UV_OFFLINE': '1',
            'UV_PYTHON_DOWNLOADS': 'never', 'UV_NO_CONFIG': '1',
            # Else a process goes on that looks for updates.
            'VIRTUALENV_NO_PERIODIC_UPDATE': '1'}}

    def check(self, output):
        """A program said that it ran under the interpreter of the folder."""
        self.assertIn(f'True {self.folder}\n', output)

    def test_uv(self):
        uv = self.tools / 'uv'
        run([uv, 'venv', '--quiet', '--python', self.program, 'env'],
            **self.options)
        self.check(run(['env/bin/python', 'shown.py'], **self.options))
        # By its version alone.
        found = run([uv, 'python', 'find', self.series], **self.options)
        self.assertTrue(found.startswith(f'{self.folder}/'), found)
        self.check(run([uv, 'run', '--no-project', '--python', self.series,
                        'shown.py'], **self.options))

    def test_virtualenv(self):
        run([self.tools / 'virtualenv', '--quiet', '--no-download',
             '--python', self.program, 'env'], **self.options)
        self.check(run(['env/bin/python', 'shown.py'], **self.options))

    def test_tox(self):
        name = 'py' + self.series.replace('.', '')
        (self.work / 'tox.ini').write_text(
            f'[tox]\nenv_list = {name}\n[testenv]\npackage = skip\n'
            f'commands = python shown.py\n')
        self.check(run([self.tools / 'tox', 'run'], **self.options))

    def test_nox(self):
        (self.work / 'noxfile.py').write_text(
            f'import nox\n@nox.session(python={self.series!r})\n'
            f'def tests(session):\n    session.run("python", "shown.py")\n')
        self.check(run([self.tools / 'nox', '--error-on-missing-interpreters'],
                       **self.options))

    def test_pyenv(self):
        pyenv = shutil.which('pyenv') or os.path.expanduser(
            '~/.pyenv/bin/pyenv')
        if not os.path.exists(pyenv):
            self.skipTest('needs pyenv')
        versions = self.work / 'versions'
        versions.mkdir()
        run(['tar', '-xJf', self.tarball, '-C', versions])
        self.options['env'] |= {'PYENV_ROOT': str(self.work),
                                'PYENV_VERSION': self.name}
        self.assertEqual(run([pyenv, 'versions', '--bare'], **self.options),
                         f'{self.name}\n')
        run([pyenv, 'rehash'], **self.options)
        for program in (f'{self.work}/shims/python', f'{self.work}/shims/'
                        f'python{self.series}'):
            self.assertEqual(run([program, 'shown.py'], **self.options),
                             f'True {versions / self.name}\n')
        run([self.work / 'shims/pytracemalloc', '--version'], **self.options)


class BareTests(InsideTests, TarballCase):

    root = ROOT

    @classmethod
    def parent(cls):
        return ROOT

    @staticmethod
    def inside(*command):
        return run(['chroot', ROOT, *command])

    def packed(self, name, *arguments):
        """Run a program of the tarball."""
        return self.inside(f'/{self.folder.relative_to(ROOT)}/bin/{name}',
                           *arguments)

    def python(self, *arguments):
        return self.packed('python3', *arguments)

    def command(self, *arguments):
        return self.packed('pytracemalloc', *arguments)

    def test_only_its_own_libraries(self):
        """But for those of the C library."""
        self.python('-c', IMPORTS + r'''
import re
place = os.path.realpath(sysconfig.get_config_var('prefix'))
with open('/proc/self/maps') as file:
    paths = {line.split()[5] for line in file if '.so' in line}
other = {path for path in paths if not path.startswith(place)
         and not re.search(r'/(ld|lib(c|m|dl|rt|util|pthread|resolv|nsl))\b',
                           path)}
assert not other, other
''')

    def test_c_frames(self):
        """They need x86-64, and glibc 2.35 where the program runs."""
        self.python('-c', '''
import os, tracemalloc
library = os.confstr('CS_GNU_LIBC_VERSION').split()[1]
try:
    tracemalloc.start(native=5)
except RuntimeError as exc:
    assert 'glibc 2.35 or later' in str(exc), exc
new = tuple(map(int, library.split('.'))) >= (2, 35)
known = new and os.uname().machine == 'x86_64'
assert known == tracemalloc.is_tracing(), library
''')


if __name__ == '__main__':
    unittest.main()
