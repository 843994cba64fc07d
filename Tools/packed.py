"""What the tests of packed interpreters have in common."""
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
