"""Resident memory by owner: compared with what the kernel, pymalloc and the C
library say themselves."""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import (
    DEBUG_HOOKS, FREE_THREADED, HAS_ARENAS, SANITIZED)

MIB = 1 << 20
ON = '-Xtracemalloc=1'
# A page at a time: what a process says of itself.
SAY = '''
import _tracemalloc, json, os, sys, tracemalloc

def rollup(proc='/proc/self'):
    """What the kernel counts, without a change of it."""
    fd = os.open(proc + '/smaps_rollup', os.O_RDONLY)
    try:
        text = os.read(fd, 65536)
    finally:
        os.close(fd)
    return int(text[text.index(b'Rss:') + 4:].split(None, 1)[0]) * 1024

def say(what):
    print(json.dumps(what), flush=True)
'''


def run(program, *options, env={}, check=True):
    """What a program says, as values, and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, '-I', *options, '-c', SAY + textwrap.dedent(program)],
        capture_output=True, text=True, env={**os.environ, **env})
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def size_of(rows, owner, name=None, state=None):
    return sum(size for kind, text, what, count, size in rows
               if kind == owner and name in (None, text)
               and state in (None, what))


def count_of(rows, owner, name):
    return sum(count for kind, text, what, count, size in rows
               if kind == owner and name == text)


def needs(path):
    return unittest.skipUnless(os.path.exists(path), f'there is no {path}')


@unittest.skipIf(SANITIZED, 'a sanitizer maps terabytes of its own')
class RssTests(unittest.TestCase):

    @needs('/proc/self/smaps_rollup')
    def test_rows_are_the_kernels_figure(self):
        # The kernel is asked before and after, until nothing changed between.
        program = '''
        import threading, zlib, decimal
        wait = threading.Event()
        for i in range(3):
            threading.Thread(target=wait.wait, daemon=True).start()
        keep = [bytes(100) for i in range(100_000)], b'x' * (20 << 20)
        del keep[0][::3]
        for i in range(200):
            before = rollup()
            result = _tracemalloc._rss()
            rows, total, own, lacks, *rest = result
            if before == rollup():
                say([total - own == before, lacks, total,
                     sum(row[4] for row in rows)])
        '''
        for options in (), (ON,), ('-Xtracemalloc=full',):
            with self.subTest(options=options):
                said, _ = run(program, *options)
                self.assertTrue(said, 'the process never came to rest')
                for same, lacks, total, rows in said:
                    self.assertEqual(rows, total)
                    self.assertEqual(lacks, 0)
                self.assertIn(True, [same for same, *rest in said])

    def test_mapping_that_ends_within_a_page(self):
        # As where an emulator tells of larger pages than the kernel has.
        said, _ = run('''
        import ctypes, mmap, tempfile
        memory = mmap.mmap(-1, 4 * mmap.PAGESIZE)
        memory[:] = b'x' * len(memory)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        end = begin + 2 * mmap.PAGESIZE + 512
        for files in [], ['pagemap'], ['pagemap', 'mem']:
            with tempfile.TemporaryDirectory() as folder:
                for name in files:
                    os.symlink(f'/proc/self/{name}', f'{folder}/{name}')
                with open(f'{folder}/smaps', 'w') as file:
                    file.write(f'{begin:x}-{end:x} rw-p 00000000 00:00 0 \\n'
                               f'Rss: {3 * mmap.PAGESIZE // 1024} kB\\n')
                rows, total, *rest = _tracemalloc._rss(folder)
                say([sum(row[4] for row in rows), total,
                     3 * mmap.PAGESIZE])
        ''')
        for rows, total, wanted in said:
            self.assertEqual((rows, total), (wanted, wanted))

    def test_child_of_a_fork(self):
        # All its pages are shared with the parent, and so may be page zero.
        said, _ = run('''
        keep = [bytes(100) for i in range(100_000)]
        if (pid := os.fork()) == 0:
            rows, total, *rest = _tracemalloc._rss()
            say([rows, total])
            os._exit(0)
        os.waitpid(pid, 0)
        ''')
        rows, total = said[0]
        self.assertEqual(sum(row[4] for row in rows), total)
        self.assertGreater(size_of(rows, 'mimalloc' if FREE_THREADED
                                   else 'pymalloc'), 10 * MIB)

    def test_threads_have_stacks(self):
        # In a debug build, 200 levels do not fit in half of the latter.
        for size in 0, 512 * 1024:
            with self.subTest(size=size):
                said, _ = run(f'''
                import functools, threading
                wait, ready = threading.Event(), threading.Semaphore(0)
                say(_tracemalloc._rss()[0])

                def deep(n):
                    # Each level is a call from C.
                    if n:
                        return functools.reduce(lambda x, y: deep(n - 1), '12')
                    ready.release()
                    wait.wait()

                threading.stack_size({size})
                for depth in 0, 0, 0, 200:
                    threading.Thread(target=deep, args=[depth]).start()
                    ready.acquire()
                say(_tracemalloc._rss()[0])
                wait.set()
                ''')
                before, after = said
                name = 'other threads'
                self.assertEqual(count_of(after, 'stack', name)
                                 - count_of(before, 'stack', name), 4)
                frames = 'frames of Python functions'
                self.assertGreaterEqual(count_of(after, 'stack', frames)
                                        - count_of(before, 'stack', frames),
                                        4)
                idle = 4 * 4 * 1024
                self.assertGreater(size_of(after, 'stack', name)
                                   - size_of(before, 'stack', name), 2 * idle)

    def test_large_blocks_are_mappings(self):
        size = 64 * MIB
        said, _ = run(f'''
        say(_tracemalloc._rss()[0])
        keep = b'x' * {size}
        say(_tracemalloc._rss()[0])
        ''', env={'PYTHONMALLOC': 'malloc'} if not FREE_THREADED else {})
        before, after = said
        owner, name = (('mimalloc', None) if FREE_THREADED else
                       ('malloc', 'blocks with a mapping of their own'))
        more = size_of(after, owner, name) - size_of(before, owner, name)
        self.assertGreaterEqual(more, size)
        self.assertLess(more, size + (MIB if FREE_THREADED else 16 * 1024))

    @unittest.skipIf(FREE_THREADED, 'small blocks are in mimalloc')
    def test_heap_of_malloc(self):
        # Blocks below the size of those that are mappings, every other freed.
        said, _ = run('''
        def work():
            keep = [bytearray(b'x' * 10_000) for i in range(4000)]
            say(_tracemalloc._rss()[0])
            del keep[::2]
            say(_tracemalloc._rss()[0])
        import threading
        work()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        ''')
        # The second heap is another arena of malloc()'s, that of the thread.
        for i, heaps in (0, 1), (2, 2):
            full, half = said[i:i + 2]
            live = [size_of(rows, 'malloc', 'heap', 'live')
                    for rows in (full, half)]
            slack = [size_of(rows, 'malloc', 'heap', 'slack')
                     for rows in (full, half)]
            self.assertGreater(live[0], 40_000_000)
            self.assertAlmostEqual(live[0] - live[1], 20_000_000,
                                   delta=MIB)
            self.assertAlmostEqual(slack[1] - slack[0], 20_000_000,
                                   delta=MIB)

    @unittest.skipUnless(HAS_ARENAS, 'without the GIL there are no arenas')
    @unittest.skipIf(DEBUG_HOOKS, 'debug hooks make blocks larger')
    def test_arenas_are_as_pymalloc_says(self):
        # All pages of the arenas are made resident, so that what pymalloc
        # counts is what is resident.
        program = '''
        import ctypes, _testtracer
        keep = [(i,) for i in range(300_000)] + [object()] * 10
        del keep[100:250_000:2]
        stats = tracemalloc.get_arena_stats()
        size = stats['bytes'] // stats['arenas']
        populate = ctypes.CDLL(None, use_errno=True).madvise
        look = _tracemalloc._rss
        arenas = None
        # Until there is no new arena meanwhile.
        while arenas != (arenas := _testtracer.get_arenas()):
            if any(populate(ctypes.c_void_p(address), ctypes.c_size_t(size), 23)
                   for address in arenas):
                say(ctypes.get_errno())
                sys.exit()
            # After some rounds each makes what the last one did.
            for i in range(20):
                parked = tracemalloc.get_freelist_stats()
                used = tracemalloc.get_arena_stats()['used']
                rows = look()[0]
        sys._debugmallocstats(); rows = look()[0]
        assert arenas == _testtracer.get_arenas()
        say([rows, used, parked, size * len(arenas)])
        '''
        for options in (), (ON,):
            with self.subTest(options=options):
                said, stats = run(program, *options)
                if isinstance(said[0], int):
                    self.skipTest(f'madvise: {os.strerror(said[0])}')
                self.compare_arenas(stats, *said[0], traced=bool(options))

    def compare_arenas(self, stats, rows, used, parked, size, traced):
        found = {state: size for kind, name, state, count, size in rows
                 if kind == 'pymalloc'}
        self.assertEqual(sum(found.values()), size)
        self.assertEqual('parked' in found, traced)
        if traced:
            # In 3.13, what the first call has for itself goes to no free list.
            self.assertIn(used - found['live'] - found['parked'],
                          (0,) if sys.version_info >= (3, 14) else (0, 48))
            blocks, size = map(sum, zip(*parked.values()))
            self.assertGreaterEqual(found['parked'], size)
            self.assertLess(found['parked'], size + 16 * blocks)
            return                # pymalloc says nothing below the tracer

        def pymalloc(line):
            return int(re.search(rf'{line}.*= +([\d,]+)', stats)[1]
                       .replace(',', ''))
        self.assertEqual(found['live'],
                         pymalloc('# bytes in allocated blocks'))
        self.assertEqual(
            found['free'] + found['never used'],
            pymalloc('# bytes in available blocks')
            + pymalloc(r'\d+ unused pools')
            + pymalloc('# bytes lost to arena alignment'))
        self.assertEqual(found['overhead'],
                         pymalloc('# bytes lost to pool headers')
                         + pymalloc('# bytes lost to quantization'))

    @unittest.skipUnless(HAS_ARENAS, 'without the GIL there are no arenas')
    def test_arenas_of_another_interpreter(self):
        said, _ = run('''
        from test.support import import_helper
        interpreters = import_helper.import_module('_interpreters')
        say(_tracemalloc._rss()[0])
        other = interpreters.create('isolated')
        interpreters.exec(other, 'keep = [(i,) for i in range(200_000)]')
        say(_tracemalloc._rss()[0])
        ''')
        before, after = said
        self.assertGreater(size_of(after, 'pymalloc')
                           - size_of(before, 'pymalloc'), 10 * MIB)

    @unittest.skipUnless(sysconfig.is_python_build(), 'needs a compiler')
    def test_a_look_allocates_nothing(self):
        # malloc() and its like are those of a library that counts.
        compiler = shlex.split(sysconfig.get_config_var('CC'))
        if shutil.which(compiler[0]) is None:
            self.skipTest(f'no {compiler[0]}')
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        source, library = (os.path.join(folder, name)
                           for name in ('count.c', 'count.so'))
        with open(source, 'w') as file:
            file.write('''
                #include <stddef.h>
                void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t),
                     *__libc_realloc(void *, size_t);
                static _Thread_local int counting;
                static int calls;
                void begin(void) { counting = 1; calls = 0; }
                int end(void) { counting = 0; return calls; }
                void *malloc(size_t n)
                { calls += counting; return __libc_malloc(n); }
                void *calloc(size_t n, size_t size)
                { calls += counting; return __libc_calloc(n, size); }
                void *realloc(void *p, size_t n)
                { calls += counting; return __libc_realloc(p, n); }
                ''')
        done = subprocess.run([*compiler, '-shared', '-fPIC', source, '-o',
                               library], capture_output=True)
        if done.returncode:
            self.skipTest('the C library has no __libc_malloc()')
        said, _ = run(f'''
        import ctypes, _testtracer
        count = ctypes.CDLL({library!r})
        begin, end = count.begin, count.end
        look, none = _testtracer.look_at_rss, (lambda: None)

        def calls(function):
            # ctypes, and what else is between, are counted as well.
            begin()
            function()
            return end()

        def blocks(function):
            before = sys.getallocatedblocks()
            function()
            return sys.getallocatedblocks() - before

        keep = [bytes(100) for i in range(100_000)]
        for function in none, look, lambda: bytes(10_000):
            for i in range(3):
                calls(function), blocks(function)
            say([calls(function), blocks(function)])
        sizes = [0] * 5
        for i in range(5):
            sizes[i] = tracemalloc.get_tracemalloc_memory()
            ok = look()
        say(sizes[3:] + [ok])
        ''', ON, env={'LD_PRELOAD': library})
        nothing, look, block, (memory, memory_after, ok) = said
        self.assertEqual(look, nothing)
        if not FREE_THREADED:
            self.assertGreater(block[0], nothing[0])     # it does count
        self.assertEqual(memory_after, memory)
        self.assertTrue(ok)

    @unittest.skipIf(DEBUG_HOOKS, 'asserts take longer')
    def test_it_is_quick(self):
        # 50 ms for each GiB, of the processor's time.  What else the machine
        # does makes memory slower, for the kernel as well: it is not to take
        # four times as long as the kernel's own list either.
        said, _ = run('''
        import time
        keep = [(str(i), [i]) for i in range(2_500_000)]

        def seconds(function):
            start = time.thread_time()
            function()
            return time.thread_time() - start

        def read():
            fd = os.open('/proc/self/smaps', os.O_RDONLY)
            while os.read(fd, 65536):
                pass
            os.close(fd)

        look = kernel = 1e9
        total = _tracemalloc._rss()[1]
        for i in range(40):
            look = min(look, seconds(_tracemalloc._rss))
            kernel = min(kernel, seconds(read))
        say([look, kernel, total])
        ''', ON)
        look, kernel, total = said[0]
        self.assertGreater(total, 400 * MIB)
        self.assertLessEqual(look, max(0.050 * total / 2**30, 4 * kernel))


    @unittest.skipIf(DEBUG_HOOKS, 'asserts take longer')
    def test_terabytes_that_are_reserved(self):
        # As Go, Java and sanitizers do; one page of it is touched.
        said, _ = run('''
        import ctypes, time
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = ([ctypes.c_void_p, ctypes.c_size_t]
                              + [ctypes.c_int] * 3 + [ctypes.c_long])

        def seconds():
            start = time.thread_time()
            rows, total, *rest = _tracemalloc._rss()
            taken = time.thread_time() - start
            assert sum(row[4] for row in rows) == total
            return taken

        reserve = 0x4022          # private, anonymous, without a reserve
        p = libc.mmap(None, 1 << 42, 3, reserve, -1, 0)
        if p == 2**64 - 1:
            sys.exit()
        ctypes.memset(p + (1 << 41), 1, 1)
        say(min(seconds() for i in range(10)))
        ''')
        if not said:
            self.skipTest('no address space')
        self.assertLess(said[0], .2)


@unittest.skipIf(SANITIZED, 'a sanitizer maps terabytes of its own')
class OtherThreadsTests(unittest.TestCase):
    """The kernel is asked while other threads go on."""

    # The list of mappings comes from a pipe, and so from another thread.
    PIPE = textwrap.dedent('''
        import faulthandler, shutil, tempfile, threading
        faulthandler.dump_traceback_later(60, exit=True)
        folder = tempfile.mkdtemp()
        pipe = folder + '/smaps'
        os.mkfifo(pipe)
        looked = []
        looker = threading.Thread(
            target=lambda: looked.append(_tracemalloc._rss(folder)))
        looker.start()
        with open(pipe, 'wb') as to, open('/proc/self/smaps', 'rb') as file:
            between()
            to.write(file.read())
        looker.join()
        shutil.rmtree(folder)
        say(looked[0][:2])
        ''')

    def test_they_run(self):
        said, _ = run('between = bool\n' + self.PIPE, ON)
        rows, total = said[0]
        self.assertEqual(sum(row[4] for row in rows), total)
        if HAS_ARENAS:
            self.assertGreater(size_of(rows, 'pymalloc'), MIB)

    def test_child_of_a_fork_meanwhile(self):
        """It does not keep files by which its parent can be read."""
        said, _ = run(textwrap.dedent('''
        import time, warnings
        warnings.simplefilter('ignore')

        def between():
            time.sleep(.2)        # until the other thread has opened it, too
            if (pid := os.fork()) == 0:
                to.close()        # a copy of the pipe
                names = []
                for fd in os.listdir('/proc/self/fd'):
                    try:
                        names.append(os.readlink('/proc/self/fd/' + fd))
                    except OSError:
                        pass      # that of the list
                say([pipe in names, len(tracemalloc.rss().rows)])
                os._exit(0)
            os.waitpid(pid, 0)
        ''') + self.PIPE, ON)
        (kept, rows), (_, total) = said
        self.assertFalse(kept)
        self.assertGreater(rows, 5)
        self.assertGreater(total, 0)

    def test_they_map_and_unmap(self):
        said, _ = run('''
        import mmap, threading
        stop = False

        def arenas():
            while not stop:
                keep = [(i,) for i in range(200_000)]

        def mappings():
            while not stop:
                keep = [mmap.mmap(-1, 1 << 20) for i in range(20)]
                for mapping in keep:
                    mapping[::4096] = bytes(256)

        threads = [threading.Thread(target=target)
                   for target in (arenas, mappings)]
        for thread in threads:
            thread.start()
        for i in range(20):
            rows, total, *rest = _tracemalloc._rss()
            say([sum(row[4] for row in rows), total])
        stop = True
        for thread in threads:
            thread.join()
        ''', ON)
        self.assertEqual(len(said), 20)
        for rows, total in said:
            self.assertEqual(rows, total)


class MissingTests(unittest.TestCase):
    """What the kernel, or who runs the process, does not show."""

    def proc(self, *names):
        """A directory with some files of /proc/self."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for name in names:
            os.symlink(f'/proc/self/{name}', os.path.join(folder, name))
        return folder

    def rss(self, *names, options=()):
        said, _ = run(f'''
        keep = [(i,) for i in range(200_000)], b'x' * (8 << 20)
        from tracemalloc.resident import ResidentMemory, _look
        rss = ResidentMemory(*_look({self.proc(*names)!r}))
        say([rss.rows, rss.total, rss.unexplained, rss.notes, str(rss)])
        ''', *options)
        rows, total, unexplained, notes, text = said[0]
        self.assertEqual(sum(row[4] for row in rows), total)
        for note in notes:
            self.assertNotIn('\n', note)
            self.assertIn(note, text)
        return rows, total, unexplained, notes

    @unittest.skipIf(SANITIZED, "a sanitizer's own memory is not explained")
    def test_pagemap(self):
        rows, total, unexplained, notes = self.rss('smaps', 'mem',
                                                   options=[ON])
        self.assertRegex('\n'.join(notes), r'\Apagemap .*\Z')
        self.assertLess(unexplained, total / 20)

    def test_memory(self):
        rows, total, unexplained, notes = self.rss('smaps', 'pagemap',
                                                   options=[ON])
        self.assertRegex('\n'.join(notes), r'\A/proc/self/mem .*\Z')
        self.assertGreater(unexplained, 0)

    def test_smaps(self):
        rows, total, unexplained, notes = self.rss('statm', options=[ON])
        self.assertRegex('\n'.join(notes), r'\Asmaps .*\Z')
        if HAS_ARENAS:
            self.assertGreater(size_of(rows, 'pymalloc'), 10 * MIB)
        self.assertGreater(unexplained, 8 * MIB)

    def test_all(self):
        rows, total, unexplained, notes = self.rss(options=[ON])
        self.assertRegex('\n'.join(notes), r'\Athere is no /proc: .*\Z')
        self.assertEqual(unexplained, 0)
        self.assertLessEqual({row[0] for row in rows},
                             {'pymalloc', 'stack', 'tracer'})


class ObjectTests(unittest.TestCase):

    def test_attributes(self):
        rss = tracemalloc.rss()
        self.assertIsInstance(rss, tracemalloc.ResidentMemory)
        self.assertEqual(rss.sum('unexplained'), rss.unexplained)
        self.assertEqual(sum(row.size for row in rss.rows), rss.total)
        for row in rss.rows:
            self.assertIsInstance(row, tracemalloc.ResidentRow)
            self.assertGreater(row.size, 0)
        self.assertEqual([row.size for row in rss.rows],
                         sorted((row.size for row in rss.rows), reverse=True))
        self.assertEqual(sum(map(rss.sum, {row.owner for row in rss.rows})),
                         rss.total)

    def test_names_cannot_obey(self):
        rss = tracemalloc.ResidentMemory(
            [('code', '/tmp/\x1b[2J\nlib', '', 1, 4096),
             ('code', 'b', '', 1, 1)], 4097)
        self.assertNotIn('\x1b', str(rss))
        self.assertEqual(len(str(rss).splitlines()), 4)

    def test_a_file_is_mapped(self):
        import mmap
        with tempfile.NamedTemporaryFile(suffix=' é') as file:
            file.write(b'x' * MIB)
            file.flush()
            for flags, owner in ((mmap.MAP_PRIVATE, 'file'),
                                 (mmap.MAP_SHARED, 'shared')):
                with mmap.mmap(file.fileno(), MIB, flags) as mapped:
                    self.assertEqual(mapped[:].count(b'x'), MIB)
                    sizes = [(row.owner, row.size) for row
                             in tracemalloc.rss().rows
                             if row.name == file.name]
                    self.assertEqual(sizes, [(owner, MIB)])

    def test_looking_is_not_traced(self):
        if tracemalloc.is_tracing():
            self.skipTest('tests run traced')
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        tracemalloc.rss()
        with tracemalloc.measure() as looking:
            for i in range(10):
                tracemalloc.rss()
        self.assertLess(looking.total_size, 2000)


if __name__ == '__main__':
    unittest.main()
