"""What the tests of packed interpreters have in common."""
import shutil
import subprocess

ENVIRONMENT = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root',
               'LANG': 'C.UTF-8'}
# All modules that are programs of their own, and what they are linked with.
IMPORTS = '''
import importlib, os, sysconfig
names = sorted({name.partition('.')[0] for name in
                os.listdir(sysconfig.get_path('stdlib') + '/lib-dynload')})
for name in names:
    importlib.import_module(name)
assert {'_ssl', '_sqlite3', '_ctypes', '_lzma', '_bz2', '_zstd', 'readline',
        '_curses', '_uuid', '_tracemalloc_snapshot'} <= {*names}, names
import hashlib, sqlite3, ssl, zlib, curses
assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)
'''


def run(command, status=0, **options):
    """Return what it printed; it must end with the status."""
    options = {'env': ENVIRONMENT} | options
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != status:
        raise AssertionError(f'{command}: {done.returncode}\n{done.stdout}')
    return done.stdout


def files_with(tree, text):
    """Return the files of the tree that have the text."""
    return [path for path in tree.rglob('*')
            if path.is_file() and not path.is_symlink()
            and text in path.read_bytes()]


def debugging_texts(path):
    """Return what the debugging information of a program names."""
    return run(['readelf', '--decompress', '-p', '.debug_str',
                '-p', '.debug_line_str', path])


class InsideTests:
    """Of an interpreter in the minimal Debian that is the folder `root`.

    inside() runs any program there, python() the interpreter, and command()
    `pytracemalloc`.
    """

    def test_modules(self):
        self.python('-c', IMPORTS)

    def test_environment(self):
        self.python('-m', 'venv', '/tmp/env')
        self.addCleanup(shutil.rmtree, self.root / 'tmp/env')
        self.assertEqual(self.inside('/tmp/env/bin/python', '-c',
                                     'import sys, pip; print(sys.prefix)'),
                         '/tmp/env\n')
        for name in 'pip', 'pytracemalloc':
            self.inside(f'/tmp/env/bin/{name}', '--version')

    def test_traces(self):
        (self.root / 'tmp/app.py').write_text(
            'kept = [bytes(1000) for number in range(1000)]\n')
        for arguments in (['run', '-f', '-o', '/tmp/app.tracemalloc',
                           '/tmp/app.py'], ['report', '/tmp/app.tracemalloc']):
            self.assertIn('/tmp/app.py:1', self.command(*arguments))
