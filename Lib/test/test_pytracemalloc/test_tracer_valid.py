"""What the tracer knows agrees with itself, and a fault in it is found."""
import ctypes
import gc
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc import workload
from test.test_pytracemalloc.helpers import SANITIZED
from test.test_pytracemalloc.native_frames_case import can_unwind

_testtracer = import_helper.import_module('_testtracer')


class ValidTests(unittest.TestCase):

    def setUp(self):
        self.addCleanup(tracemalloc.stop)

    def start(self, nframe):
        tracemalloc.stop()
        tracemalloc.start(nframe)

    def test_no_fault(self):
        for nframe in 1, 3, 25, 'full':
            with self.subTest(nframe=nframe):
                self.start(nframe)
                self.assertIsNone(_testtracer.fault())
                kept = workload.work(0.5, 100)
                self.assertIsNone(_testtracer.fault())
                tracemalloc.reset_peak()
                del kept
                gc.collect()
                self.assertIsNone(_testtracer.fault())
                tracemalloc.take_snapshot()
                self.assertIsNone(_testtracer.fault())
                tracemalloc.clear_traces()
                self.assertIsNone(_testtracer.fault())
        tracemalloc.stop()
        self.assertIsNone(_testtracer.fault())

    def test_faults_are_found(self):
        for nframe in 1, 25, 'full':
            with self.subTest(nframe=nframe):
                self.start(nframe)
                _testtracer.set_window_credit(10 ** 15)
                [bytes(1000) for _ in range(1000)]      # a window that ends
                kept = workload.work(0.5, 100), bytearray(9999)
                missed = [name for name, fault
                          in _testtracer.find_faults().items()
                          if fault is None]
                if nframe == 1:
                    # Its parent is a depth.
                    missed.remove('node.parent')
                self.assertEqual(missed, [])
                self.assertIsNone(_testtracer.fault())
                del kept

    @unittest.skipIf(SANITIZED, 'the sanitizer has the malloc()')
    @unittest.skipUnless(can_unwind(), 'no C stacks are unwound here')
    def test_faults_of_c_stacks_are_found(self):
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.free.argtypes = [ctypes.c_void_p]
        tracemalloc.stop()
        tracemalloc.start(25, native=10)
        kept = workload.work(0.5, 100), bytearray(9999)
        block = libc.malloc(1000)
        self.assertIsNone(_testtracer.fault())
        found = {name: fault for name, fault
                 in _testtracer.find_faults().items() if name[0] == 'C'}
        self.assertEqual(len(found), 6)
        self.assertNotIn(None, found.values())
        self.assertIsNone(_testtracer.fault())
        libc.free(block)
        del kept


if __name__ == '__main__':
    unittest.main()
