"""Native memory beside what programs do to malloc(), to libraries and to
processes: the program works as without it, and the sums are right."""
import _ctypes
import ctypes
import glob
import os
import resource
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import tracemalloc
import unittest

from test import support
from test.support import import_helper
from test.test_pytracemalloc.helpers import line_of
from test.test_pytracemalloc.native_trust_case import (
    CHURN, POINTER, SIZE, TrustCase)

_testtracer = import_helper.import_module('_testtracer')


def find_library(name):
    """A library of the system, or in LD_LIBRARY_PATH."""
    folders = ['/usr/lib/*-linux-gnu', '/usr/lib64', '/usr/lib',
               *filter(None, os.environ.get('LD_LIBRARY_PATH', '').split(':'))]
    for folder in folders:
        if found := sorted(glob.glob(f'{folder}/{name}.so*')):
            return found[0]
    raise unittest.SkipTest(f'{name} is not installed')


class PreloadTests(TrustCase):
    """Another allocator in front of that of the C library."""

    def check(self, name):
        library = find_library(name)
        self.run_code(CHURN + textwrap.dedent('''
            import os, sqlite3
            with open('/proc/self/maps') as maps:
                assert os.environ['LD_PRELOAD'] in maps.read()
            before = tracemalloc.get_native_memory()[0]
            db = sqlite3.connect(':memory:')
            db.execute('create table t (x)')
            db.executemany('insert into t values (?)', [('x' * 900,)] * 999)
            assert tracemalloc.get_native_memory()[0] - before > 900_000
            if os.fork() == 0:
                db.close()
                os._exit(_testtracer.fault() is not None)
            assert os.wait()[1] == 0
            db.close()
            '''), LD_PRELOAD=os.path.realpath(library))

    def test_jemalloc(self):
        self.check('libjemalloc')

    def test_tcmalloc(self):
        self.check('libtcmalloc_minimal')

    def test_mimalloc(self):
        self.check('libmimalloc')


class AllocatorTests(TrustCase):
    """What the allocator itself says is in use has grown by the blocks that
    the tracer has, to the byte, while SQLite fills a table."""
    BEGIN = textwrap.dedent('''
        import ctypes, sqlite3, tracemalloc
        libc, SIZE = ctypes.CDLL(None), ctypes.c_size_t
        libc.malloc_usable_size.restype = SIZE
        libc.malloc_usable_size.argtypes = [ctypes.c_void_p]
        ''')
    CODE = textwrap.dedent('''
        def look():
            only = tracemalloc.DomainFilter(True, tracemalloc.NATIVE_DOMAIN)
            snapshot = tracemalloc.take_snapshot().filter_traces([only])
            stats = snapshot.statistics('address')
            return (sum(stat.size for stat in stats),
                    sum(libc.malloc_usable_size(stat.key) + BESIDE
                        for stat in stats))

        tracemalloc.start(5, native=True)
        connection = sqlite3.connect(':memory:')
        connection.execute('create table t (x)')
        fill = """insert into t with recursive c(n) as (
                  select 1 union all select n + 1 from c where n < 30000)
                  select printf('%0*d', n % 900, n) from c"""
        in_use(), look()
        sizes, before = look(), tracemalloc.get_native_memory()[0]
        used = in_use()
        connection.execute(fill)
        now = in_use()
        after = tracemalloc.get_native_memory()[0]
        size, blocks = (new - old for old, new in zip(sizes, look()))
        assert after - before == size > 15_000_000, (before, after, size)
        assert now - used == blocks, (used, now, blocks)
        ''')

    def check(self, in_use, beside=0, **environment):
        """*in_use*: code of a function; *beside*: bytes of the allocator beside
        each block.  *environment*: has it keep no blocks for threads."""
        import_helper.import_module('sqlite3')
        self.run_code(self.BEGIN + textwrap.dedent(in_use)
                      + f'\nBESIDE = {beside}\n' + self.CODE, **environment)

    @unittest.skipUnless(hasattr(ctypes.CDLL(None), 'mallinfo2'),
                         'needs mallinfo2()')
    def test_libc(self):
        self.check('''
            class Info(ctypes.Structure):
                _fields_ = [('fields', SIZE * 10)]
            libc.mallinfo2.restype = Info

            def in_use():
                found = libc.mallinfo2().fields
                return found[4] + found[7]       # hblkhd, uordblks
            ''', 8, GLIBC_TUNABLES='glibc.malloc.tcache_count=0')

    def test_jemalloc(self):
        self.check('''
            def in_use():
                size, length = SIZE(), SIZE(8)
                epoch = ctypes.byref(ctypes.c_uint64(1))
                libc.mallctl(b'epoch', None, None, epoch, SIZE(8))
                assert libc.mallctl(b'stats.allocated', ctypes.byref(size),
                                    ctypes.byref(length), None, SIZE(0)) == 0
                return size.value
            ''', LD_PRELOAD=os.path.realpath(find_library('libjemalloc')),
            MALLOC_CONF='tcache:false')

    def test_tcmalloc(self):
        self.check('''
            def in_use():
                size = SIZE()
                assert libc.MallocExtension_GetNumericProperty(
                    b'generic.current_allocated_bytes', ctypes.byref(size))
                return size.value
            ''', LD_PRELOAD=os.path.realpath(
                find_library('libtcmalloc_minimal')))


class LibraryTests(TrustCase):
    CODE = '''
        #include <stdlib.h>
        void *take(size_t size) { return malloc(size); }
        void give(void *block) { free(block); }'''

    def load(self, **options):
        library = ctypes.CDLL(self.compile(self.CODE), **options)
        library.take.restype, library.take.argtypes = POINTER, [SIZE]
        library.give.restype, library.give.argtypes = None, [POINTER]
        return library

    def test_unloaded(self):
        """A block outlives the library that took it."""
        library = self.load()
        self.start()

        def take():
            return library.take(1_000_003)
        block = take()
        _ctypes.dlclose(library._handle)
        self.assertEqual(self.place_of(1_000_003), line_of(take, 1))
        before = self.live()
        ctypes.CDLL(None).free(POINTER(block))
        self.assertEqual(before - self.live(), 1_000_003)

    def test_deep_binding(self):
        """Such a library is not seen; blocks that pass to it or come from
        it leave no harm."""
        library = self.load(mode=os.RTLD_DEEPBIND | os.RTLD_NOW)
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = POINTER, [SIZE]
        self.start()
        before = self.live()
        block = library.take(1_000_003)
        self.assertEqual(self.live(), before)
        libc.free(POINTER(block))
        self.assertEqual(self.live(), before)
        for _ in range(1000):
            # It frees what is traced: the next at the address takes over.
            library.give(libc.malloc(2_000_003))
        self.assertLessEqual(self.live() - before, 2 * 2_000_003)
        self.assertIsNone(_testtracer.fault())


    @unittest.skipUnless(shutil.which('g++'), 'needs g++')
    def test_static_runtime(self):
        """A library that has the runtime of C++ inside."""
        code = """
            #include <vector>
            extern "C" void *make(int n) { return new std::vector<char>(n); }
            extern "C" void end(void *v) { delete (std::vector<char> *)v; }
            """
        library = ctypes.CDLL(self.compile(
            code, '-Wl,-Bstatic', '-lstdc++', '-Wl,-Bdynamic',
            language='c++'))
        library.make.restype, library.end.argtypes = POINTER, [POINTER]
        self.start()

        def make():
            return library.make(1_000_003)
        held = make()
        self.assertEqual(self.place_of(1_000_003), line_of(make, 1))
        before = self.live()
        library.end(held)
        self.assertEqual(before - self.live(), 1_000_003 + 24)


PROGRAM = """
#include <Python.h>
#include <stdlib.h>

static PyObject *
take(PyObject *self, PyObject *size)
{
    return PyLong_FromVoidPtr(malloc(PyLong_AsSize_t(size)));
}
static PyObject *
give(PyObject *self, PyObject *block)
{
    Py_BEGIN_ALLOW_THREADS
    free(PyLong_AsVoidPtr(block));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {
    {"take", take, METH_O}, {"give", give, METH_O}, {NULL}
};
static struct PyModuleDef inside = {
    PyModuleDef_HEAD_INIT, .m_name = "inside", .m_methods = methods
};
static PyObject *
make_inside(void)
{
    return PyModule_Create(&inside);
}
int
main(int argc, char **argv)
{
    PyImport_AppendInittab("inside", make_inside);
    return Py_BytesMain(argc, argv);
}
"""


@unittest.skipUnless(sysconfig.is_python_build(), 'needs the build tree')
class StaticTests(TrustCase):

    def test_extension(self):
        """An extension that is linked into the program, as is libpython, with
        our malloc()."""
        get = sysconfig.get_config_var
        build = os.path.dirname(sysconfig.get_config_h_filename())
        archive = os.path.join(build, get('LIBRARY'))
        if get('Py_ENABLE_SHARED') or not os.path.exists(archive):
            self.skipTest('needs libpython as an archive')
        program = self.link(
            f'-I{sysconfig.get_path("include")}', f'-I{build}',
            f'{build}/Programs/tracer_program.o', archive,
            *shlex.split(' '.join(get(name) or '' for name in (
                'CFLAGS', 'LDFLAGS', 'LINKFORSHARED', 'LIBS', 'SYSLIBS'))))
        code = '''
            import inside, tracemalloc
            tracemalloc.start(10, native=True)
            def take():
                return inside.take(1_000_003)
            block = take()
            trace, = [trace for trace in tracemalloc.take_snapshot().traces
                      if trace.size == 1_000_003]
            assert trace.domain == tracemalloc.NATIVE_DOMAIN
            assert trace.traceback[-1].function == 'take'
            before = tracemalloc.get_native_memory()[0]
            inside.give(block)
            print(before - tracemalloc.get_native_memory()[0])
            '''
        done = subprocess.run(
            [program, '-c', textwrap.dedent(code)], text=True,
            capture_output=True, timeout=300,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path),
                 'PYTHONHOME': sys.prefix})
        self.assertEqual((done.stdout, done.returncode), ('1000003\n', 0),
                         done.stderr)

    def link(self, *options):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        program = os.path.join(folder, 'program')
        compiler = shlex.split(sysconfig.get_config_var('CC'))
        if not shutil.which(compiler[0]):
            self.skipTest(f'no {compiler[0]}')
        source = program + '.c'
        with open(source, 'w') as file:
            file.write(PROGRAM)
        subprocess.run([*compiler, source, '-o', program, *options],
                       check=True, cwd=folder)
        return program


class ProcessTests(TrustCase):

    def test_spawn_and_exec(self):
        self.run_code(CHURN + textwrap.dedent('''
            import os, subprocess, sys
            before = tracemalloc.get_native_memory()[0]
            held = libc.malloc(3_000_003)
            for _ in range(20):
                pid = os.posix_spawn(sys.executable,
                                     [sys.executable, '-Ic', 'pass'],
                                     os.environ)
                assert os.waitpid(pid, 0)[1] == 0
                subprocess.run(['true'], check=True)
            assert (tracemalloc.get_native_memory()[0] - before
                    >= 3_000_003)
            assert _testtracer.fault() is None
            os.execv(sys.executable, [sys.executable, '-c',
                     'import tracemalloc, sys; '
                     'sys.exit(3 + tracemalloc.is_tracing())'])
            '''), status=3)

    def test_crash(self):
        """A crash of the program has its own signal, and leaves a core file
        where it would without us."""
        for end in ('ctypes.string_at(0)', 'libc.abort()',
                    'os.kill(os.getpid(), signal.SIGBUS)'):
            plain = self.end_of(f'import ctypes, os, signal\n'
                                f'libc = ctypes.CDLL(None)\n{end}')
            self.assertTrue(os.WIFSIGNALED(plain))
            self.assertEqual(self.end_of(f'{CHURN}\nimport os, signal\n{end}'),
                             plain)

    def end_of(self, code):
        """Return how wait() says that a program ended."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        program = subprocess.Popen(
            [sys.executable, '-c', code], cwd=folder, stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE,
                                                  (most, most)))
        with program.stderr:
            self.assertEqual(program.stderr.read(), b'')
        _, status = os.waitpid(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        return status


class ThreadTests(TrustCase):

    @support.requires_resource('cpu')
    def test_many_threads(self):
        """32 threads that take and free as fast as they can, some blocks of
        each other."""
        path = self.compile('''
            #include <stdlib.h>
            #include <string.h>
            static void *shared[64];
            void churn(unsigned seed, long n) {
                while (n-- > 0) {
                    seed = seed * 1103515245 + 12345;
                    size_t size = 1 + (seed >> 8) % 3000;
                    char *block = malloc(size);
                    memset(block, 1, size < 64 ? size : 64);
                    if (seed & 0x10000) block = realloc(block, size * 2);
                    free(__atomic_exchange_n(&shared[(seed >> 20) % 64],
                                             block, __ATOMIC_SEQ_CST));
                }
            }
            void end(void) {
                for (int i = 0; i < 64; i++) {
                    free(shared[i]);
                    shared[i] = NULL;
                }
            }''')
        library = ctypes.CDLL(path)
        self.start()
        before = self.live()
        threads = [threading.Thread(target=library.churn, args=(i, 20_000))
                   for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        library.end()
        # What the threads themselves needed may be kept by the C library.
        self.assertLess(abs(self.live() - before), 200_000)
        self.assertIsNone(_testtracer.fault())


if __name__ == '__main__':
    unittest.main()
