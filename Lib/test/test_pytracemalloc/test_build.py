"""What the build promises of the interpreter it makes."""
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from test.test_pytracemalloc.helpers import FREE_THREADED


TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))


class GLibTests(unittest.TestCase):

    def libraries(self, *code):
        """Libraries of a process at the end of the code."""
        show = 'print(open("/proc/self/maps").read())'
        done = subprocess.run(
            [sys.executable, '-X', 'tracemalloc', '-c',
             '\n'.join([*code, show])], capture_output=True, text=True)
        self.assertEqual(done.stderr, '')
        return set(re.findall(r'/(lib\w+)[^/]*\.so', done.stdout))

    def test_interpreter_is_without(self):
        """Tracing, and the package where nothing is traced."""
        self.assertNotIn('libglib', self.libraries())
        self.assertNotIn('libglib', self.libraries(
            'import _tracemalloc', '_tracemalloc.stop()',
            'import tracemalloc'))
        self.assertIn('libglib', self.libraries(
            'import tracemalloc', 'tracemalloc.take_snapshot()'))

    @unittest.skipUnless((TOP / 'configure').is_file(), 'needs ./configure')
    def test_configure_says_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [(TOP / 'configure').resolve(), '--quiet'], cwd=folder,
                env=os.environ | {'PKG_CONFIG': 'false'},
                capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr,
                         r'^configure: error: GLib 2\.60 or later is missing.*'
                         r'\./bootstrap.*libglib2\.0-dev.*\n$')


class VersionTests(unittest.TestCase):
    SERIES = '%d%d' % sys.version_info[:2]
    ABI = (SERIES + 't' * FREE_THREADED
           + 'd' * hasattr(sys, 'gettotalrefcount'))

    def test_sys_version_names_project_and_flavour(self):
        flavour = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
        version = sysconfig.get_config_var('PYTRACEMALLOC_VERSION')
        self.assertIn(flavour, ('track', 'ignore', 'disable'))
        self.assertRegex(version, r'^\d+\.\d+\.\d+')
        self.assertIn(f'(pytracemalloc {version} freelists={flavour}, ',
                      sys.version)

    def test_platform_understands_sys_version(self):
        self.assertEqual(platform.python_implementation(), 'CPython')
        level = {'alpha': 'a', 'beta': 'b', 'candidate': 'rc'}.get(
            sys.version_info.releaselevel)
        self.assertEqual(platform.python_version(),
                         '%d.%d.%d' % sys.version_info[:3]
                         + (f'{level}{sys.version_info.serial}' if level
                            else ''))
        number, date = platform.python_build()
        self.assertTrue(number.startswith('pytracemalloc '), number)
        self.assertTrue(re.match(r'\w{3} +\d+ \d{4} [\d:]{8}$', date), date)
        self.assertIn(platform.python_compiler(), sys.version)

    def test_pip_understands_sys_version(self):
        result = subprocess.run(
            [sys.executable, '-c',
             'import ensurepip, sys; from pathlib import Path;'
             'bundled = Path(ensurepip.__file__).parent / "_bundled";'
             'sys.path[:0] = map(str, bundled.glob("pip-*.whl"));'
             'from pip._internal.network.session import user_agent;'
             'from pip._vendor.packaging import tags;'
             'user_agent(); print(next(tags.sys_tags()))'],
            capture_output=True, text=True)
        self.assertEqual(result.stderr, '')
        self.assertTrue(
            result.stdout.startswith(f'cp{self.SERIES}-cp{self.ABI}-'),
            result.stdout)

    def test_decimal_is_compiled(self):
        self.assertEqual(
            sysconfig.get_config_var('MODULE__DECIMAL_STATE'), 'yes')

    def test_abi_tag_is_stock(self):
        self.assertTrue(sysconfig.get_config_var('SOABI').startswith(
            f'cpython-{self.ABI}-'))


EMBEDDING = '''
#include <Python.h>

int
main(int argc, char **argv)
{
    return Py_BytesMain(argc, argv);
}
'''


@unittest.skipUnless(sysconfig.is_python_build(), 'needs the build tree')
class EmbeddingTests(unittest.TestCase):

    def test_program_linked_with_the_library(self):
        get = sysconfig.get_config_var
        compiler = shlex.split(get('CC'))
        if not shutil.which(compiler[0]):
            self.skipTest(f'no {compiler[0]}')
        build = pathlib.Path(sysconfig.get_config_h_filename()).parent
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        (folder / 'program.c').write_text(EMBEDDING)
        flags = ' '.join(get(name) or '' for name in (
            'CFLAGS', 'LDFLAGS', 'LINKFORSHARED'))
        libraries = ' '.join(get(name) or '' for name in ('LIBS', 'SYSLIBS'))
        subprocess.run(
            [*compiler, *shlex.split(flags),
             f'-I{sysconfig.get_path("include")}', f'-I{build}', 'program.c',
             '-o', 'program', f'-L{build}', f'-Wl,-rpath,{build}',
             f'-lpython{get("VERSION")}{sys.abiflags}',
             *shlex.split(libraries)], cwd=folder, check=True)
        # Without a home it would look for one where nothing is installed.
        library = (folder / sys.platlibdir
                   / f'python{get("VERSION")}{"t" * FREE_THREADED}')
        (library / 'lib-dynload').mkdir(parents=True)
        (library / 'os.py').symlink_to(os.__file__)
        result = subprocess.run(
            [folder / 'program', '-c', 'import tracemalloc as t; t.start();'
             'kept = bytes(5000); print(t.take_snapshot().traced_memory[0])'],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path),
                 'PYTHONHOME': str(folder)},
            capture_output=True, text=True)
        self.assertEqual(result.stderr, '')
        self.assertGreater(int(result.stdout), 5000)


class FreelistFlavourTests(unittest.TestCase):

    def test_flavour_reached_the_compiler(self):
        flavour = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
        flags = sysconfig.get_config_var('PY_STDMODULE_CFLAGS')
        for name in 'ignore', 'disable':
            self.assertEqual(f'-DPYTRACEMALLOC_FREELISTS_{name.upper()}'
                             in flags, flavour == name)
        if sys.version_info < (3, 14):          # later has no such option
            self.assertEqual(bool(sysconfig.get_config_var('WITH_FREELISTS')),
                             flavour != 'disable')


if __name__ == '__main__':
    unittest.main()
