"""A Python that has pytest, which is not in the standard library.

It is installed from PyPI, once, into a virtual environment beside the build,
which also shows that the plugin is found there.
"""
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

REQUIREMENTS = pathlib.Path(__file__).with_name('pytest-requirements.txt')
SECONDS = 300


@functools.cache
def python_with_pytest():
    """Return the interpreter of an environment that has the requirements.

    Raise SkipTest if PyPI is out of reach.
    """
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()
                            + sys.version.encode()).hexdigest()
    if sysconfig.is_python_build():
        place = pathlib.Path(sysconfig.get_config_var('projectbase'),
                             os.pardir, 'pytest').resolve()
    else:
        place = pathlib.Path(tempfile.mkdtemp(), 'pytest')
        unittest.addModuleCleanup(shutil.rmtree, place.parent)
    with open(f'{place}.lock', 'w') as lock:
        # Other test files run at the same time.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        return _environment(place, wanted)


def _environment(place, wanted):
    python, key = place / 'bin' / 'python', place / 'key'
    if not key.exists() or key.read_text() != wanted:
        subprocess.run([sys.executable, '-m', 'venv', '--clear', place],
                       check=True, timeout=SECONDS)
        done = subprocess.run(
            [python, '-m', 'pip', 'install', '--quiet', '--retries', '1',
             '--disable-pip-version-check', '--no-deps', '--require-hashes',
             '--only-binary=:all:', '-r', REQUIREMENTS],
            capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            if 'HASHES' in done.stderr:
                raise AssertionError(done.stderr)
            raise unittest.SkipTest('pip cannot install pytest: '
                                    + done.stderr.strip().rpartition('\n')[2])
        key.write_text(wanted)
    return python
