"""Calls of the malloc family, of other functions of the C library, and of
threads that Python does not know.

ctypes calls the functions as any library does, through the dynamic linker.
"""
import ctypes
import mmap
import tracemalloc
import unittest

from test.support import import_helper, script_helper

_testtracer = import_helper.import_module('_testtracer')

libc = ctypes.CDLL(None, use_errno=True)
SIZE, POINTER = ctypes.c_size_t, ctypes.c_void_p


def function(name, result, *arguments):
    found = libc[name]
    found.restype, found.argtypes = result, arguments
    return found


malloc = function('malloc', POINTER, SIZE)
calloc = function('calloc', POINTER, SIZE, SIZE)
realloc = function('realloc', POINTER, POINTER, SIZE)
reallocarray = function('reallocarray', POINTER, POINTER, SIZE, SIZE)
free = function('free', None, POINTER)
aligned_alloc = function('aligned_alloc', POINTER, SIZE, SIZE)
memalign = function('memalign', POINTER, SIZE, SIZE)
valloc = function('valloc', POINTER, SIZE)
posix_memalign = function('posix_memalign', ctypes.c_int,
                          ctypes.POINTER(POINTER), SIZE, SIZE)
c_mmap = function('mmap', POINTER, POINTER, SIZE, ctypes.c_int, ctypes.c_int,
                  ctypes.c_int, ctypes.c_long)
munmap = function('munmap', ctypes.c_int, POINTER, SIZE)
mremap = function('mremap', POINTER, POINTER, SIZE, SIZE, ctypes.c_int)
FAILED = POINTER(-1).value
PAGE = mmap.PAGESIZE
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MAYMOVE = 1


def map_pages(n, prot=READ_WRITE, flags=ANONYMOUS):
    return c_mmap(None, n * PAGE, prot, flags, -1, 0)


def run_thread(name, argument):
    """Let a thread that Python does not know call a function of one
    argument, and return its result."""
    number = ctypes.c_ulong()
    address = ctypes.cast(libc[name], POINTER)
    if libc.pthread_create(ctypes.byref(number), None, address,
                           POINTER(argument)):
        raise OSError('no thread')
    result = POINTER()
    libc.pthread_join(number, ctypes.byref(result))
    return result.value


def native_traces():
    """What a snapshot has of native memory: {size: place}."""
    return {trace.size: (trace.traceback[-1].filename,
                         trace.traceback[-1].lineno)
            for trace in tracemalloc.take_snapshot().traces
            if trace.domain == tracemalloc.NATIVE_DOMAIN}


def run_python(*args, **environment):
    return script_helper.assert_python_ok(*args, **environment)


class NativeCase(unittest.TestCase):
    nframe = 25

    def setUp(self):
        run_thread('malloc', 0)   # what the first thread of C code needs
        tracemalloc.start(self.nframe, native=True)
        self.addCleanup(tracemalloc.stop)
        self.live()

    def live(self):
        return tracemalloc.get_native_memory()[0]

    def check_tables(self):
        self.assertIsNone(_testtracer.fault())
