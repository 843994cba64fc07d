"""The tests of pytracemalloc; `make check` runs them."""
import os
import sys
import tracemalloc
import unittest
from test.support import load_package_tests, os_helper, swap_attr

# Where the repository is, and whether slow tests run.
OPTIONS = {'PYTRACEMALLOC_TOP', 'PYTRACEMALLOC_SLOW'}


class UntracedSuite(unittest.TestSuite):
    """Tests that run as if nobody had asked for tracing: off here, and in the
    programs that they start."""

    def run(self, result, debug=False):
        limit = tracemalloc.is_tracing() and tracemalloc.get_traceback_limit()
        options = dict(sys._xoptions)
        options.pop('tracemalloc', None)
        with (os_helper.EnvironmentVarGuard() as environment,
              swap_attr(sys, '_xoptions', options)):
            for name in list(environment):
                if name == 'PYTHONTRACEMALLOC' or (
                        name.startswith('PYTRACEMALLOC')
                        and name not in OPTIONS):
                    environment.unset(name)
            tracemalloc.stop()
            try:
                return super().run(result, debug)
            finally:
                if limit:
                    tracemalloc.start(limit)


def load_tests(loader, standard_tests, pattern):
    suite = UntracedSuite()
    return load_package_tests(os.path.dirname(__file__), loader, suite,
                              pattern)
