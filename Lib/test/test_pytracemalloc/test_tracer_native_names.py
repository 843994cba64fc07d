"""The names of C functions in reports of native memory."""
import ctypes
import ctypes.util
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
import unittest

from pytracemalloc import control
from pytracemalloc.reporters import html
from pytracemalloc.tree import Tree
from test.support import script_helper
from test.test_pytracemalloc.native_frames_case import (
    FramesCase, compile_library, tracebacks)
from test.test_pytracemalloc.report_page import page_data, render
from tracemalloc import native

CXX_SOURCE = r'''
#include <string>
#include <vector>
namespace shop {
template <typename T> struct Cart {
    __attribute__((noinline)) T *fill(int n) { return new T[n]; }
};
}
extern "C" void *fill(int n) { return shop::Cart<char>().fill(n) ; }
extern "C" void *text(int n) { return new std::string(n, 'x'); }
'''
RUST_SOURCE = r'''
mod cart {
    #[inline(never)]
    pub fn fill(n: usize) -> Vec<u8> {
        let mut kept: Vec<u8> = Vec::new();
        kept.reserve_exact(n);
        kept
    }
}
#[no_mangle]
pub extern "C" fn make(n: usize) -> *mut u8 {
    let mut kept = cart::fill(n);
    let start = kept.as_mut_ptr();
    std::mem::forget(kept);
    start
}
'''
SIX = "__attribute__((noinline)) void *six(int n) { return malloc(n); }\n"


@unittest.skipUnless(importlib.util.find_spec('_tracemalloc_symbols'),
                     'built without elfutils')
class NameTests(FramesCase):

    def groups(self, snapshot=None):
        snapshot = snapshot or tracemalloc.take_snapshot()
        return {stat.key: stat.size for stat in snapshot.statistics('native')}

    @unittest.skipUnless(shutil.which('c++'), 'needs a C++ compiler')
    def test_cxx(self):
        path = compile_library(self.directory, 'cxx', CXX_SOURCE, '-O2', '-g',
                               '-fno-optimize-sibling-calls',
                               suffix='.cc', cc='c++')
        library = ctypes.CDLL(path)
        library.fill.restype = library.text.restype = ctypes.c_void_p
        library.text(10)
        self.start()
        library.fill(1_000_003)
        library.text(2_000_003)
        found = self.groups()
        self.assertEqual(found['shop::Cart<char>::fill (cxx.so)'], 1_000_003)
        snapshot = tracemalloc.take_snapshot()
        self.assertEqual(sum(found.values()) // 100_000,
                         sum(snapshot.traced_memory[:1]
                             + (tracemalloc.get_native_memory()[0],))
                         // 100_000)
        frames = tracebacks()[1_000_003].native
        self.assertEqual(frames[-1].function, 'operator new')
        self.assertEqual(os.path.basename(frames[-2].filename), 'cxx.cc')
        self.assertEqual(frames[-2].lineno, 6)
        self.assertEqual(frames[-3].function, 'fill')
        self.assertTrue(str(frames[-2]).endswith('fill (cxx.so)'))

    def test_hidden_and_stripped(self):
        source = ('#include <stdlib.h>\nstatic ' + SIX
                  + 'void *take(int n) { void *p = six(n); return p; }\n')
        for options, name in ((), 'six'), (('-s',), None):
            path = compile_library(self.directory, f'n{name}', source,
                                   '-fno-optimize-sibling-calls', *options)
            take = ctypes.CDLL(path).take
            self.start()
            take(1_000_003)
            frame = tracebacks()[1_000_003].native[-1]
            self.assertEqual((frame.module, frame.lineno), (path, 0))
            self.assertIn(frame.function, (name, 'take') if name is None
                          else (name,))
            tracemalloc.stop()

    @unittest.skipUnless(shutil.which('objcopy') and shutil.which('xz'),
                         'needs objcopy and xz')
    def test_gnu_debugdata(self):
        """Distributions leave the names of functions in a compressed
        section."""
        path = compile_library(
            self.directory, 'six', '#include <stdlib.h>\nstatic ' + SIX
            + 'void *take(int n) { void *p = six(n); return p; }\n',
            '-fno-optimize-sibling-calls')
        small = os.path.join(self.directory, 'small')
        for command in (
                ['objcopy', '--only-keep-debug', path, small],
                ['objcopy', '-S', '--keep-symbol=six', small],
                ['xz', small], ['objcopy', '-S', path],
                ['objcopy', f'--add-section=.gnu_debugdata={small}.xz',
                 path]):
            subprocess.run(command, check=True)
        take = ctypes.CDLL(path).take
        self.start()
        take(1_000_003)
        frames = tracebacks()[1_000_003].native
        self.assertEqual([frame.function for frame in frames[-2:]],
                         ['take', 'six'])

    @unittest.skipUnless(
        shutil.which('objcopy') and ctypes.util.find_library('debuginfod'),
        'needs objcopy and libdebuginfod')
    def test_debuginfod(self):
        """A server is asked on request; here it is a directory."""
        path = compile_library(
            self.directory, 'six', '#include <stdlib.h>\nstatic ' + SIX
            + 'void *take(int n) { void *p = six(n); return p; }\n',
            '-g', '-Wl,--build-id', '-fno-optimize-sibling-calls')
        take = ctypes.CDLL(path).take
        self.start()
        take(1_000_003)
        output = os.path.join(self.directory, 'x.tracemalloc')
        tracemalloc.take_snapshot().dump(output)
        frame = tracebacks()[1_000_003].native[-1]
        served = os.path.join(self.directory, 'buildid', frame.build_id)
        os.makedirs(served)
        for command in (['objcopy', '--only-keep-debug', path,
                         os.path.join(served, 'debuginfo')],
                        ['objcopy', '-S', path, f'{path}.stripped']):
            subprocess.run(command, check=True)
        # The library is loaded: its file must not change.
        os.replace(f'{path}.stripped', path)
        command = '-m', 'pytracemalloc', 'report', '--by', 'native', output
        environment = {'DEBUGINFOD_URLS': f'file://{self.directory}',
                       'DEBUGINFOD_CACHE_PATH': f'{self.directory}/cache'}
        plain = script_helper.assert_python_ok(*command, **environment).out
        self.assertNotIn(b'six (', plain)
        asked = script_helper.assert_python_ok(
            *command, '--debuginfod', **environment).out
        self.assertIn(b'six (six.so)', asked)
        failed = script_helper.assert_python_failure(
            *command, '--debuginfod', DEBUGINFOD_URLS='')
        self.assertIn(b'set this variable', failed.err)

    @unittest.skipUnless(shutil.which('rustc'), 'needs rustc')
    def test_rust(self):
        for options in [], ['-C', 'symbol-mangling-version=v0']:
            name = f'shop{len(options)}.so'
            source = os.path.join(self.directory, 'shop.rs')
            library = os.path.join(self.directory, name)
            with open(source, 'w') as file:
                file.write(RUST_SOURCE)
            subprocess.run(
                ['rustc', *options, '-Copt-level=1', '--crate-type=cdylib',
                 '-o', library, source], check=True, cwd=self.directory)
            make = ctypes.CDLL(library).make
            make.restype = ctypes.c_void_p
            make.argtypes = [ctypes.c_size_t]
            self.start()
            make(1_000_003)
            found = self.groups()
            self.assertEqual(
                found.get(f'shop::cart::fill ({name})'), 1_000_003, found)
            tracemalloc.stop()

    def test_another_build(self):
        source = '#include <stdlib.h>\n' + SIX
        options = '-Wl,--build-id', '-fno-optimize-sibling-calls'
        path = compile_library(self.directory, 'six', source, *options)
        library = ctypes.CDLL(path)
        self.start()
        library.six(1_000_003)
        snapshot = tracemalloc.take_snapshot()
        self.assertEqual(len(tracebacks()[1_000_003].native[-1].build_id), 40)
        os.unlink(path)
        compile_library(self.directory, 'six', source + 'int more;\n',
                        *options)
        name, = [key for key, size in self.groups(snapshot).items()
                 if size == 1_000_003]
        self.assertRegex(name, r'^six\.so\+0x[0-9a-f]+$')
        self.assertIn(f'{path}: it is another build than the one that ran',
                      native.find_faults())

    def test_no_file(self):
        for path in '/dev/zero', '/nowhere', self.directory, __file__:
            frame = native.NativeFrame((path, '', 0x1234, 0))
            self.assertIsNone(frame.function)
            self.assertEqual((frame.filename, frame.lineno), (None, 0))
            self.assertEqual(str(frame),
                             f'{os.path.basename(path)}+0x1234')
        self.assertGreater(len(native.find_faults()), 3)

    def test_report(self):
        path = compile_library(
            self.directory, 'six', '#include <stdlib.h>\n' + SIX,
            '-fno-optimize-sibling-calls')
        with open(os.path.join(self.directory, 'app.py'), 'w') as file:
            file.write(f'import ctypes\nsix = ctypes.CDLL({path!r}).six\n'
                       'blocks = [six(2_000_000) for _ in range(5)]\n')
        output = os.path.join(self.directory, 'x.tracemalloc')
        script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'run', '-q', '--native-frames', '5', '-o',
            output, file.name)
        text = script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'report', '--by', 'native', output).out
        self.assertRegex(text, rb'\n *9\.5 MiB +5 +1\.9 MiB +six \(six\.so\)\n')
        self.assertIn(b'<not native>: the blocks of the interpreter', text)
        self.check_graphs(output)
        self.check_colors(output)

    def check_colors(self, path):
        """C functions, and no others, have the colours of native code."""
        page = page_data(render(tracemalloc.Snapshot.load(path)))
        strings, native = page['strings'], set()
        for number, function in enumerate(page['frame_functions']):
            category = page['file_categories'][page['frame_files'][number]]
            if category == html._NATIVE:
                native.add(strings[function])
        self.assertLessEqual({'six', 'ffi_call'}, native)
        self.assertNotIn('<module>', native)
        flames = script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'report', path, '--format', 'flamegraph',
            '-o', '-').out.decode()
        boxes = re.findall(r'<title>([^<]*)</title><rect [^>]*'
                           r'fill="hsl\((\d+)', flames)
        self.assertTrue([title for title, _ in boxes
                         if title.startswith('six ')])
        for title, hue in boxes:
            is_python = re.search(r'^all: |:\d+: |interpreter', title)
            self.assertEqual(190 <= int(hue) < 230, not is_python, title)

    def start_app(self, *before, folder=None):
        """Start a program with a control socket in the directory, which may
        find the library in *folder*."""
        path = compile_library(
            self.directory, 'six', '#include <stdlib.h>\n' + SIX,
            '-fno-optimize-sibling-calls', '-Wl,--build-id')
        code = textwrap.dedent(f"""
            import ctypes, shutil, sys
            path = {path!r}
            if folder := {folder!r}:
                path = shutil.copy(path, folder + '/seven.so')
            six = ctypes.CDLL(path).six
            blocks = [six(2_000_000) for _ in range(5)]
            print('ready', flush=True)
            sys.stdin.read()
            """)
        app = subprocess.Popen(
            [*before, sys.executable, '-X', 'tracemalloc', '-X',
             'tracemalloc_native=5', '-c', code], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {'PYTRACEMALLOC_CONTROL': self.directory})
        self.addCleanup(app.communicate)
        return app, app.stdout.readline() == 'ready\n'

    def command(self, *args):
        return script_helper.assert_python_ok('-m', 'pytracemalloc',
                                              *args).out.decode()

    def top(self, target):
        rows = json.loads(self.command(
            'top', '--json', '--by', 'native', target))['statistics']
        return {row['name']: (row['size'], row['count']) for row in rows}

    def test_top(self):
        """What a report says of a snapshot, of the running program, in which
        nothing is looked up."""
        app, _ = self.start_app()
        path = os.path.join(self.directory, 'x')
        self.command('snapshot', '-o', path, str(app.pid))
        rows = json.loads(self.command(
            'report', '--by', 'native', '--top', '99', '--json', path))
        expected = {row['native']: (row['size'], row['count'])
                    for row in rows['statistics']}
        with open(f'/proc/{app.pid}/maps') as maps:
            self.assertNotRegex(maps.read(), 'libdw|tracemalloc_symbols')
        for target in str(app.pid), self.directory:
            found = self.top(target)
            self.assertEqual(found['six (six.so)'], (10_000_000, 5))
            self.assertEqual(found.keys(), expected.keys())
            for name in found.keys() - {'<not native>'}:
                self.assertEqual(found[name], expected[name], name)
        with open(f'/proc/{app.pid}/maps') as maps:
            self.assertNotRegex(maps.read(), 'libdw|tracemalloc_symbols')
        text = self.command('top', '--by', 'native', str(app.pid))
        self.assertRegex(text, r'\n +9\.5 MiB +5 +six \(six\.so\)\n')

    def test_another_build_in_top(self):
        app, _ = self.start_app()
        path = os.path.join(self.directory, 'six.so')
        os.unlink(path)
        compile_library(self.directory, 'six', '#include <stdlib.h>\n' + SIX
                        + 'int more;\n', '-Wl,--build-id')
        text = self.command('top', '--by', 'native', str(app.pid))
        self.assertRegex(text, r' 5 +six\.so\+0x[0-9a-f]+\n')
        self.assertIn(
            f'\n{path}: it is another build than the one that ran\n', text)

    def test_stacks_of_the_same_size(self):
        """The program sends no more of them than it is asked for."""
        names = [f'take{i}' for i in range(9)]
        library = ctypes.CDLL(compile_library(
            self.directory, 'takes', '#include <stdlib.h>\n' + ''.join(
                f'void *{name}(void) {{ return malloc(1000003); }}\n'
                for name in names),
            '-fno-optimize-sibling-calls'))
        self.start()
        for name in names:
            library[name]()
        answer = control.answer(b'{"command": "native", "limit": 5}')
        sizes = [size for stack, size, _ in answer['stacks'] if stack]
        self.assertEqual(sizes[:4], [1_000_003] * 4)
        self.assertEqual(len(answer['stacks']), 5)
        self.assertGreater(answer['groups'], 9)

    def test_top_of_a_container(self):
        """The file of the library is only in the program's root directory."""
        folder = os.path.join(self.directory, 'inside')
        os.mkdir(folder)
        app, is_ready = self.start_app(
            'unshare', '-rmpf', 'sh', '-c',
            f'mount -t tmpfs tmpfs {folder} && exec "$@"', 'sh',
            folder=folder)
        if not is_ready:
            self.skipTest('needs leave to use unshare')
        with open(f'/proc/{app.pid}/task/{app.pid}/children') as file:
            pid = file.read().strip()
        self.assertEqual(os.listdir(folder), [])
        self.assertEqual(self.top(pid)['six (seven.so)'], (10_000_000, 5))
        # Its socket is the one that is in a directory of ours.
        self.assertEqual(self.top(self.directory)['six (seven.so)'],
                         (10_000_000, 5))

    def check_graphs(self, path):
        """C frames stand above the Python frame, and the sums are the same."""
        snapshot = tracemalloc.Snapshot.load(path)
        tree = Tree.from_snapshot(snapshot)
        plain = [*zip(*snapshot.call_tree().nodes)][5:]
        self.assertEqual([sum(column) for column in tree.values.values()],
                         [sum(column) for column in plain])
        for name in tree.values:
            self.assertGreaterEqual(min(tree.values[name]), 0)
        sizes = [0] * len(tree.parents)
        for node, _, size, _ in tree.types:
            sizes[node] += size
        self.assertEqual(sizes, tree.values['size'])
        stack, = [[tree.frame_table[frame][2] for frame in tree.path(node)]
                  for node, frame in enumerate(tree.frames)
                  if tree.frame_table[frame][2] == 'six']
        self.assertIn('<module>', stack[3:])
        self.assertIn('ffi_call', stack)
        graph = script_helper.assert_python_ok(
            '-m', 'pytracemalloc', 'report', path, '--format',
            'collapsed').out
        self.assertRegex(graph, rb'(?m)^app\.py:<module>:3;(.*;)?'
                                rb'six\.so:six 10000000$')
        diff = Tree.from_difference(snapshot, snapshot)
        self.assertEqual(diff.old, diff.values)


if __name__ == '__main__':
    unittest.main()
