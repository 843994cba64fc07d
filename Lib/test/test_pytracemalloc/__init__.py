"""The tests of pytracemalloc; `make check` runs them."""
import os
from test.support import load_package_tests


def load_tests(*args):
    return load_package_tests(os.path.dirname(__file__), *args)
