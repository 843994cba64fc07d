"""What native memory does not show: allocators inside libraries, and libraries
that call another malloc()."""
import _ctypes
import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
import unittest

from pytracemalloc.words import format_native
from test.support import script_helper
from test.test_pytracemalloc.fetched import environment
from test.test_pytracemalloc.native_trust_case import TrustCase
from tracemalloc import unseen

# It answers as jemalloc does, and has hidden functions as in a wheel.
JEMALLOC = '''
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
int statistics = 1, broken = 0;
static size_t live = 1000003;
static const char *version = "5.3.0";
void *keep(void) { return mmap; }

static int
give(void *value, size_t *size, const void *from, size_t length)
{
    if (broken || *size != length) {
        return 22;
    }
    memcpy(value, from, length);
    return 0;
}
__attribute__((used)) static int
_inner_mallctl(const char *name, void *value, size_t *size, void *set,
               size_t set_size)
{
    size_t page = 4096, pages = 300;
    if (strcmp(name, "version") == 0) {
        return give(value, size, &version, sizeof(version));
    }
    if (strcmp(name, "epoch") == 0) {
        return set_size == sizeof(uint64_t) ? 0 : 22;
    }
    if (strcmp(name, "stats.allocated") == 0 && statistics) {
        return give(value, size, &live, sizeof(live));
    }
    if (strcmp(name, "arenas.page") == 0) {
        return give(value, size, &page, sizeof(page));
    }
    if (strcmp(name, "stats.arenas.4096.pactive") == 0) {
        return give(value, size, &pages, sizeof(pages));
    }
    return 2;
}
void say_version(const char *text) { version = text; }
'''
MESSAGES = '''
#include <stdio.h>
#include <sys/mman.h>
void *keep(void) { return mmap; }
void say(void) { fputs("<jemalloc>: Error in mmap\\n", stderr); }
'''
CALLS = '''
#include <stdlib.h>
void *take(size_t size) { return malloc(size); }
'''


class UnseenCase(TrustCase):

    def find(self, path):
        """{name: live} of a library."""
        return {found.name: found.live
                for found in tracemalloc.get_unseen_allocators()
                if found.library == path}


class LibraryTests(UnseenCase):

    def test_jemalloc(self):
        path = self.compile(JEMALLOC)
        library = ctypes.CDLL(path)
        self.assertEqual(self.find(path), {'jemalloc': 1_000_003})
        statistics = ctypes.c_int.in_dll(library, 'statistics')
        statistics.value = 0
        self.assertEqual(self.find(path), {'jemalloc': 300 * 4096})
        text = ctypes.create_string_buffer(b'4.5.0')
        library.say_version(text)
        self.assertEqual(self.find(path), {'jemalloc': None})
        text.value = b'5.9.9'
        self.assertEqual(self.find(path), {'jemalloc': 300 * 4096})
        ctypes.c_int.in_dll(library, 'broken').value = 1
        self.assertEqual(self.find(path), {'jemalloc': None})

    def test_another_file(self):
        """Nothing is called by an address of another file."""
        path = self.compile(JEMALLOC)
        ctypes.CDLL(path)
        shutil.copy(path, path + '.new')
        with open(path + '.new', 'r+b') as file:
            file.seek(40)         # where the sections are
            file.write(bytes(8))
        os.replace(path + '.new', path)
        self.assertEqual(self.find(path), {})
        os.unlink(path)
        self.assertEqual(self.find(path), {})

    def test_loaded_again(self):
        """Another library with the name and address of one that is gone."""
        path = self.compile(JEMALLOC)
        library = ctypes.CDLL(path)
        self.assertEqual(self.find(path), {'jemalloc': 1_000_003})
        _ctypes.dlclose(library._handle)
        self.assertEqual(self.find(path), {})
        os.unlink(path)
        os.rename(self.compile(JEMALLOC.replace('_mallctl', '_otherone')),
                  path)
        ctypes.CDLL(path)
        self.assertEqual(self.find(path), {})

    def test_other_symbols(self):
        for symbol, name in (('_mi_malloc_generic', 'mimalloc'),
                             ('tc_malloc', 'tcmalloc'),
                             ('rpmalloc_initialize', 'rpmalloc')):
            path = self.compile('#include <sys/mman.h>\n'
                                'void *keep(void) { return mmap; }\n'
                                f'void {symbol}(void) {{}}')
            ctypes.CDLL(path)
            self.assertEqual(self.find(path), {name: None})
            # One that is used and not defined is not inside.
            path = self.compile('#include <sys/mman.h>\n'
                                'void *keep(void) { return mmap; }\n'
                                f'__attribute__((weak)) void {symbol}(void);\n'
                                f'void *use(void) {{ return {symbol}; }}')
            ctypes.CDLL(path)
            self.assertEqual(self.find(path), {})

    def test_without_symbols(self):
        path = self.compile(MESSAGES, '-s')
        ctypes.CDLL(path)
        self.assertEqual(self.find(path), {'jemalloc': None})

    def test_plain(self):
        """Libraries that call our malloc(), before the first call and after
        it, or that have only a pointer to another one."""
        decimal = importlib.import_module('_decimal')
        for options in [], ['-Wl,-z,now'], ['-Wl,-z,lazy'], ['-fno-plt']:
            path = self.compile(CALLS, *options)
            library = ctypes.CDLL(path)
            self.assertEqual(self.find(path), {}, options)
            library.take(10)
            self.assertEqual(self.find(path), {}, options)
        self.assertEqual(self.find(decimal.__file__), {})

    def test_deep_binding(self):
        for options in ['-Wl,-z,now'], ['-fno-plt']:
            path = self.compile(CALLS, *options)
            ctypes.CDLL(path, mode=os.RTLD_DEEPBIND | os.RTLD_NOW)
            self.assertEqual(self.find(path), {unseen.OTHER: None}, options)


class ReportTests(UnseenCase):

    def take(self):
        """Have some native memory."""
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        self.addCleanup(libc.free, ctypes.c_void_p(libc.malloc(10)))

    def test_snapshot(self):
        path = self.compile(JEMALLOC)
        library = ctypes.CDLL(path)
        self.assertIsNotNone(library)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapshot = tracemalloc.take_snapshot()
        self.assertNotIn(unseen.KEY, snapshot.metadata)
        tracemalloc.stop()
        self.start()
        self.take()
        file = path + '.tracemalloc'
        tracemalloc.take_snapshot().dump(file)
        snapshot = tracemalloc.Snapshot.load(file)
        line = 'Not seen inside library.so: jemalloc, 977 KiB live'
        self.assertIn(line, format_native(snapshot))
        report = script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'report', file).out.decode()
        self.assertIn(f'\n{line}\n', report)

    def test_hostile(self):
        """A file may have anything there."""
        self.start()
        self.take()
        snapshot = tracemalloc.take_snapshot()
        plain = format_native(snapshot)[:1]
        for value in (5, 'x', {}, None, [[]], [[1, 2, 3]], [['a', 'b', -1]],
                      [['a', 'b', 1.5]], [['a', 'b', True]], ['abc', 'ab'],
                      [None], [['a', 'b']]):
            with self.subTest(value=value):
                snapshot.metadata[unseen.KEY] = value
                found = format_native(snapshot)
                self.assertEqual(found[:1], plain)
                self.assertLessEqual(len(found), 2)
        snapshot.metadata[unseen.KEY] = [['/x/\x1b[31m.so', 'y\n', 5]]
        self.assertIn('Not seen inside', format_native(snapshot)[1])


class WheelTests(UnseenCase):

    def test_wheels(self):
        """Two allocators inside packages, and what these say themselves."""
        python = environment('rss') / 'bin' / 'python'
        done = subprocess.run(
            [python, '-c', textwrap.dedent('''
                import json, os, tracemalloc
                tracemalloc.start(5, native=True)
                import numpy, polars, pyarrow
                from lxml import etree
                keep = [polars.DataFrame({'a': range(5_000_000)}),
                        pyarrow.array(range(2_000_000))]
                found = {(os.path.basename(row.library), row.name): row.live
                         for row in tracemalloc.get_unseen_allocators()}
                print(json.dumps([
                    [*found.items()], keep[0].estimated_size(),
                    pyarrow.total_allocated_bytes(),
                    pyarrow.default_memory_pool().backend_name]))
                ''')], capture_output=True, text=True, check=True)
        rows, polars, arrow, backend = json.loads(done.stdout)
        live = {name: size for (library, name), size in rows
                if library.startswith('libarrow.so')}
        self.assertEqual(live[backend], arrow)
        self.assertGreaterEqual(arrow, 16_000_000)
        size, = [size for (library, name), size in rows
                 if 'polars' in library and name == 'jemalloc']
        self.assertTrue(polars <= size <= polars * 1.1, (polars, size))
        # All others call our malloc().
        self.assertEqual({library.split('.')[0] for (library, _), size in rows
                          if 'polars' not in library}, {'libarrow'})


if __name__ == '__main__':
    unittest.main()
