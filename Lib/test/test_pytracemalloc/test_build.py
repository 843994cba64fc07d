"""What the build promises of the interpreter it makes."""
import platform
import re
import subprocess
import sys
import sysconfig
import unittest


class VersionTests(unittest.TestCase):

    def test_sys_version_names_project_and_flavour(self):
        flavour = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
        version = sysconfig.get_config_var('PYTRACEMALLOC_VERSION')
        self.assertIn(flavour, ('track', 'ignore', 'disable'))
        self.assertRegex(version, r'^\d+\.\d+\.\d+')
        self.assertIn(f'(pytracemalloc {version} freelists={flavour}, ',
                      sys.version)

    def test_platform_understands_sys_version(self):
        self.assertEqual(platform.python_implementation(), 'CPython')
        self.assertEqual(platform.python_version(),
                         '%d.%d.%d' % sys.version_info[:3])
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
        series = '%d%d' % sys.version_info[:2]
        debug = 'd' if hasattr(sys, 'gettotalrefcount') else ''
        self.assertTrue(
            result.stdout.startswith(f'cp{series}-cp{series}{debug}-'),
            result.stdout)

    def test_abi_tag_is_stock(self):
        self.assertRegex(sysconfig.get_config_var('SOABI'),
                         r'^cpython-3\d+d?-')


class FreelistFlavourTests(unittest.TestCase):

    def test_flavour_reached_the_compiler(self):
        flavour = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
        flags = sysconfig.get_config_var('PY_STDMODULE_CFLAGS')
        for name in 'ignore', 'disable':
            self.assertEqual(f'-DPYTRACEMALLOC_FREELISTS_{name.upper()}'
                             in flags, flavour == name)
        self.assertEqual(bool(sysconfig.get_config_var('WITH_FREELISTS')),
                         flavour != 'disable')


if __name__ == '__main__':
    unittest.main()
