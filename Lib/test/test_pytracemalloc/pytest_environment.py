"""A Python that has pytest, which is not in the standard library.

It is installed from PyPI, once, into a virtual environment beside the build,
which also shows that the plugin is found there.
"""
import functools
import pathlib
import subprocess
import sys
import unittest

from test.test_pytracemalloc.fetched import SECONDS, kept

REQUIREMENTS = pathlib.Path(__file__).with_name('pytest-requirements.txt')


@functools.cache
def python_with_pytest():
    """Return the interpreter of an environment that has the requirements.

    Raise SkipTest if PyPI is out of reach.
    """
    place = kept('pytest', REQUIREMENTS.read_text() + sys.version, _install)
    return place / 'bin' / 'python'


def _install(place):
    subprocess.run([sys.executable, '-m', 'venv', place], check=True,
                   timeout=SECONDS)
    done = subprocess.run(
        [place / 'bin' / 'python', '-m', 'pip', 'install', '--quiet',
         '--retries', '1', '--disable-pip-version-check', '--no-deps',
         '--require-hashes', '--only-binary=:all:', '-r', REQUIREMENTS],
        capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        if 'HASHES' in done.stderr:
            raise AssertionError(done.stderr)
        raise unittest.SkipTest('pip cannot install pytest: '
                                + done.stderr.strip().rpartition('\n')[2])
