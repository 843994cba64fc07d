"""Packages of PyPI for the benchmark, pinned, in a private environment.

It lies in the cache beside CPython's tarballs and is made by the stock
interpreter; the caller reports what cannot be installed.
"""

import hashlib
import os
import pathlib
import subprocess

from measure import last_line


def cache():
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return pathlib.Path(base) / 'pytracemalloc'


def environment(stock):
    """Return the interpreter of the private environment, made if needed.

    Each stock interpreter has one.  Raises OSError or
    subprocess.SubprocessError.
    """
    key = hashlib.sha256(stock.encode()).hexdigest()[:12]
    place = cache() / 'bench-environments' / key
    python = place / 'bin' / 'python'
    complete = place / 'complete'
    if not (complete.exists() and python.exists()):
        subprocess.run([stock, '-m', 'venv', '--clear', str(place)],
                       check=True, capture_output=True, timeout=300)
        complete.touch()
    return str(python)


def install(python, requirements, *options):
    """Install with pip; return None, or why not, in a line."""
    command = [python, '-m', 'pip', 'install', '--quiet',
               '--disable-pip-version-check', *options, *requirements]
    try:
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=600)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return last_line(str(exc))
    return None if done.returncode == 0 else last_line(done.stderr)


def install_apart(python, requirements, place):
    """Install into a directory of its own, once; return as install().

    What is there already, and complete, is left as it is.
    """
    listed = place / 'installed.txt'
    wanted = '\n'.join(requirements)
    if listed.exists() and listed.read_text() == wanted:
        return None
    why = install(python, requirements, '--prefer-binary', '--upgrade',
                  '--target', str(place))
    if why is None:
        listed.write_text(wanted)
    return why
