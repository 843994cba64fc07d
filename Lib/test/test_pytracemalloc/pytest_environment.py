"""A Python that has pytest, which is not in the standard library.

It is in a virtual environment beside the build, which also shows that the
plugin is found there.
"""
from test.test_pytracemalloc.fetched import environment


def python_with_pytest():
    """Return the interpreter of an environment that has the requirements.

    Raise SkipTest if PyPI is out of reach.
    """
    return environment('pytest') / 'bin' / 'python'
