"""What tests of trust in native memory have in common: programs that run in a
process of their own."""
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import tracemalloc
import unittest

from test.test_pytracemalloc.helpers import SANITIZED

SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
# Takes, resizes and frees in four threads; what is left is known.
CHURN = '''
import ctypes, random, threading, tracemalloc, _testtracer
libc = ctypes.CDLL(None)
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p
for function in libc.malloc, libc.realloc, libc.aligned_alloc, libc.calloc:
    function.restype = POINTER
libc.malloc.argtypes = [SIZE]
libc.realloc.argtypes = [POINTER, SIZE]
libc.aligned_alloc.argtypes = libc.calloc.argtypes = [SIZE, SIZE]
libc.free.argtypes = [POINTER]
libc.free.restype = None

def churn(seed):
    rng, blocks = random.Random(seed), {}
    for _ in range(2000):
        size = rng.choice([1, 8, 16, 24, 100, 4000, 300_000])
        choice = rng.randrange(5)
        if choice == 0:
            blocks[libc.malloc(size)] = size
        elif choice == 1:
            blocks[libc.aligned_alloc(64, size * 64)] = size * 64
        elif choice == 2:
            blocks[libc.calloc(3, size)] = 3 * size
        elif blocks:
            block = rng.choice(list(blocks))
            del blocks[block]
            if choice == 3:
                blocks[libc.realloc(block, size)] = size
            else:
                libc.free(block)
    left.append(blocks)

tracemalloc.start(10, native=True)
left = []
threads = [threading.Thread(target=churn, args=(i,)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
before = tracemalloc.get_native_memory()[0]
for blocks in left:
    for block in blocks: libc.free(block)
after = tracemalloc.get_native_memory()[0]
assert before - after == sum(sum(one.values()) for one in left)
assert _testtracer.fault() is None
'''




@unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
class TrustCase(unittest.TestCase):

    def run_code(self, code, status=0, **environment):
        result = subprocess.run(
            [sys.executable, '-c', textwrap.dedent(code)], text=True,
            capture_output=True, env=os.environ | environment, timeout=300)
        self.assertEqual((result.stderr, result.returncode), ('', status))
        return result.stdout

    def start(self):
        tracemalloc.start(25, native=True)
        self.addCleanup(tracemalloc.stop)

    def live(self):
        return tracemalloc.get_native_memory()[0]

    def place_of(self, size):
        frame, = (trace.traceback[-1] for trace
                  in tracemalloc.take_snapshot().traces
                  if trace.size == size
                  and trace.domain == tracemalloc.NATIVE_DOMAIN)
        return frame.filename, frame.lineno

    def compile(self, code, *options, name='library.so', language='c'):
        """Return the path of a library, or skip the test."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, name)
        compiler = shlex.split(sysconfig.get_config_var('CC'))
        if not shutil.which(compiler[0]):
            self.skipTest(f'no {compiler[0]}')
        subprocess.run([*compiler, '-shared', '-fPIC', '-x', language, '-',
                        '-x', 'none', *options, '-o', path],
                       input=code, text=True, check=True)
        return path
