"""Native memory beside packages that call C code, or change stacks, in ways of
their own."""
import os
import sysconfig
import tempfile
import textwrap
import unittest

from test.support import check_sanitizer
from test.test_pytracemalloc import fetched
from test.test_pytracemalloc.native_trust_case import CHURN, TrustCase

# What each block is charged to, compared with the lines of frames.
STACKS = CHURN + '''
import sys
sizes, known = iter(range(100_001, 10 ** 7, 8)), {}
held = ctypes.PyDLL(None)['malloc']
held.restype, held.argtypes = ctypes.c_void_p, [SIZE]

def stack():
    frame, lines = sys._getframe(1), []
    while frame is not None:
        lines.append(frame.f_lineno)
        frame = frame.f_back
    return lines[::-1]

def take(rng, n, wait):
    if n > 0:
        return take(rng, n - 1, wait)
    for function in libc.malloc, held, libc.malloc:
        size = next(sizes)
        known[size] = function(size), stack()
    wait(rng)
    size = next(sizes)
    known[size] = libc.malloc(size), stack()

def check_known():
    found = {trace.size: [frame.lineno for frame in trace.traceback]
             for trace in tracemalloc.take_snapshot().traces
             if trace.domain == tracemalloc.NATIVE_DOMAIN}
    for size, (block, lines) in known.items():
        assert found[size] == lines[-10:], (found[size], lines)
    before = tracemalloc.get_native_memory()[0]
    for block, lines in known.values():
        libc.free(block)
    assert before - tracemalloc.get_native_memory()[0] == sum(known)
    assert _testtracer.fault() is None
'''


class WheelCase(TrustCase):

    def run_with(self, name, code):
        return self.run_code(f'import sys; sys.path.append('
                             f'{str(fetched.packages(name))!r})\n{code}')


@unittest.skipIf(check_sanitizer(address=True, thread=True),
                 'sanitizers do not know of stacks that are swapped')
class StackTests(WheelCase):
    """Greenlets change whole stacks under a thread."""

    def test_greenlet(self):
        self.run_with('greenlet', STACKS + textwrap.dedent('''
            import greenlet

            def wait(rng):
                if rng.random() < 0.5:
                    rng.choice(all_of_them).switch()

            def body(*unused):
                rng = random.Random(len(known))
                while len(known) < 1500:
                    take(rng, rng.randrange(15), wait)
                    main.switch()

            main = greenlet.getcurrent()
            all_of_them = [greenlet.greenlet(body) for _ in range(6)]
            while len(known) < 1500:
                random.choice(all_of_them).switch()
            check_known()
            '''))

    def test_gevent(self):
        """Greenlets that wait in gevent's loop, threads of its pool, and what
        it makes of the standard library."""
        self.run_with('gevent', 'from gevent import monkey; '
                      'monkey.patch_all()\n' + STACKS + textwrap.dedent('''
            import gevent, socket, subprocess, threading
            from gevent.pool import Pool
            from gevent.server import StreamServer

            def wait(rng):
                gevent.sleep(rng.choice([0, 0.001]))

            def body(seed):
                rng = random.Random(seed)
                for _ in range(10):
                    take(rng, rng.randrange(15), wait)

            def in_thread(n):
                size = next(sizes)
                known[size] = libc.malloc(size), stack()

            def answer(connection, address):
                connection.sendall(connection.recv(9))

            def ask(n):
                with socket.create_connection(server.address) as client:
                    client.sendall(b'%09d' % n)
                    assert client.recv(9) == b'%09d' % n

            gevent.joinall([gevent.spawn(body, i) for i in range(30)],
                           raise_error=True)
            gevent.get_hub().threadpool.map(in_thread, range(50))
            with StreamServer(('127.0.0.1', 0), answer) as server:
                server.start()
                Pool(10).map(ask, range(100))
            assert subprocess.check_output(['echo', 'x']) == b'x\\n'
            thread = threading.Thread(target=body, args=(99,))
            thread.start()
            thread.join()
            check_known()
            '''))


class CffiTests(WheelCase):

    def test_calls_by_name(self):
        """C functions that are called through libffi, without the GIL, and
        that call Python."""
        self.run_with('cffi', textwrap.dedent('''
            import tracemalloc, _testtracer
            from cffi import FFI
            ffi = FFI()
            ffi.cdef("""void *malloc(size_t); void free(void *);
                        void qsort(void *, size_t, size_t,
                                   int (*)(const void *, const void *));""")
            libc = ffi.dlopen(None)
            tracemalloc.start(10, native=True)

            @ffi.callback('int(const void *, const void *)')
            def compare(a, b):
                kept.append(libc.malloc(1_000_003))
                return -1

            def take():
                return ffi.gc(libc.malloc(2_000_003), libc.free)

            def sort():
                libc.qsort(ffi.new('char[2]'), 2, 1, compare)

            kept = []
            held = take()
            sort()
            own = ffi.new('char[3000017]')
            traces = {trace.size: [frame.function for frame in trace.traceback
                                   if frame.function != '<module>']
                      for trace in tracemalloc.take_snapshot().traces
                      if trace.domain == tracemalloc.NATIVE_DOMAIN}
            assert traces[1_000_003] == ['sort', 'compare'], traces
            assert traces[2_000_003] == ['take'], traces
            # Of the interpreter or native, as cffi likes, but not both.
            sizes = [trace.size for trace in tracemalloc.take_snapshot().traces
                     if 3_000_017 <= trace.size < 3_001_000]
            assert len(sizes) == 1, sizes
            before = tracemalloc.get_native_memory()[0]
            del held
            libc.free(kept.pop())
            assert (before - tracemalloc.get_native_memory()[0]
                    == 3_000_006)
            assert _testtracer.fault() is None
            '''))

    def test_compiled(self):
        """A module that cffi has written."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        written = os.path.join(folder, 'taking.c')
        self.run_with('cffi', textwrap.dedent('''
            from cffi import FFI
            ffi = FFI()
            ffi.cdef('void *take(size_t); void give(void *);')
            ffi.set_source('taking', """
                #include <stdlib.h>
                static void *take(size_t size) { return malloc(size); }
                static void give(void *block) { free(block); }""")
            ''') + f'ffi.emit_c_code({written!r})')
        with open(written) as file:
            source = file.read()
        path = self.compile(
            source, f'-I{sysconfig.get_path("include")}',
            f'-I{os.path.dirname(sysconfig.get_config_h_filename())}',
            name='taking.so')
        self.run_with('cffi', textwrap.dedent(f'''\
            sys.path.insert(0, {os.path.dirname(path)!r})
            import threading, tracemalloc, _testtracer
            from taking import ffi, lib
            tracemalloc.start(10, native=True)

            def work():
                for _ in range(1000):
                    lib.give(lib.take(5000))
                kept.append(lib.take(1_000_003))

            def find():
                return [trace.traceback[-1].function
                        for trace in tracemalloc.take_snapshot().traces
                        if trace.size == 1_000_003]

            kept = []
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            # What cffi has for a thread may be freed meanwhile, too.
            assert find() == ['work'] * 8, find()
            for block in kept: lib.give(block)
            assert find() == [], find()
            assert _testtracer.fault() is None
            '''))


if __name__ == '__main__':
    unittest.main()
