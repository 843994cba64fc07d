"""What the tracer knows agrees with itself, and a fault in it is found."""
import gc
import tracemalloc
import unittest

from test.support import import_helper
from test.test_pytracemalloc import workload

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


if __name__ == '__main__':
    unittest.main()
