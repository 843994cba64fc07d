"""Every block of code of the documentation does what the page says.

Each page is run from top to bottom in a process and an empty directory of
its own, under the interpreter tested: Doc/**/*.rst and *.md, but for README.md
and howto/container.rst, which have tests of their own. The commands python,
python3, pytracemalloc and pytest are that interpreter's, as are those of
/opt/mypython/bin and env/bin; make and ./bootstrap only look whether there are
such targets, and ./configure configures. Blocks are written as

    .. code-block:: python      runs; all of a page share their names. What
                                follows `::` is the same. With >>> it is
                                compared as a doctest.
    .. code-block:: text        what the block before printed.
    .. code-block:: console     each line after "$ " is run by one shell, in
                                which "> " and a backslash continue a line;
                                the lines after it are its output, both
                                streams. It must end with 0 unless the next
                                line shows $?. After & the output is waited
                                for.
    .. code-block:: sh          a script; each command must end with 0.
    .. code-block:: none        a synopsis of `pytracemalloc COMMAND` or
                                `python -m MODULE`: it has these options.
    .. code-block:: json, toml  can be parsed.
    .. code-block:: c           whole functions; compiles with Python.h
                                included.
    .. testsetup::              Python that runs, and that no reader sees.

A block of any language with `:caption: NAME` is written to that file, which
another block must use. How output is compared is said in docs_output.py:
"..." stands for anything, and numbers are exact.

What cannot be run has a comment before it, which says why, and so have numbers
that cannot be the same on each machine:

    .. not run: needs a registry            <!-- not run: ... --> in Markdown
    .. varies 1.2 300: resident memory is the system's

Both are counted, and must stay few.
"""
import concurrent.futures
import functools
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from test.support import requires_subprocess

from test.test_pytracemalloc.docs_blocks import blocks_of
from test.test_pytracemalloc.docs_output import matches
from test.test_pytracemalloc.helpers import (
    FLAVOUR, FREE_THREADED, SANITIZED)
from test.test_pytracemalloc.pytest_environment import python_with_pytest

BLOCKS_LEFT_OUT = 77

TOP = pathlib.Path(os.environ.get('PYTRACEMALLOC_TOP', ''))
# `make image-check` runs this one: it needs a container engine.
CONTAINER = TOP / 'Doc' / 'howto' / 'container.rst'
PAGES = sorted([*(path for path in (TOP / 'Doc').glob('**/*.rst')
                  if path != CONTAINER),
                *(path for path in TOP.glob('*.md')
                  if path.name != 'README.md')]
               if (TOP / 'Doc').is_dir() else [])
HAVE_PAGES = PAGES and sysconfig.is_python_build()
# They show the resident memory of processes.
RESIDENT = {TOP / 'Doc' / 'tutorial' / name
            for name in ('peak.rst', 'rss.rst')}
# Sizes differ from one series to the next, and without the GIL: these are of
# what is built when nothing else is asked for.
SERIES = (3, 14)
AS_DESCRIBED = (FLAVOUR == 'track' and not hasattr(sys, 'gettotalrefcount')
                and sys.version_info[:2] == SERIES and not FREE_THREADED)


@functools.cache
def python():
    """The interpreter, with pytest if it can be had."""
    try:
        return python_with_pytest()
    except unittest.SkipTest:
        return sys.executable


def compile_library(executable):
    """Once for all pages: who has to compile a module allocates more."""
    subprocess.run(
        [executable, '-m', 'compileall', '-q', '-x',
         '/(test|idlelib|turtledemo|ensurepip|site-packages)/',
         os.path.dirname(os.__file__)], check=True, env=environment(),
        stdin=subprocess.DEVNULL)


def environment():
    """Without what is set for the tests: it changes what is imported."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith('PYTHON')}


def run_page(path):
    with tempfile.TemporaryDirectory() as scratch:
        return subprocess.run(
            [python(), '-m', 'test.test_pytracemalloc.docs_page',
             path, scratch], stdin=subprocess.DEVNULL, text=True,
            capture_output=True, timeout=300, env=environment())


@requires_subprocess()
@unittest.skipUnless(HAVE_PAGES, 'needs the repository and its build')
@unittest.skipUnless(AS_DESCRIBED, 'the figures shown are not those of debug'
                     ' builds, other free-list flavours, other series or'
                     ' builds without the GIL')
class PageTests(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        compile_library(python())
        pool = concurrent.futures.ThreadPoolExecutor(2)
        cls.addClassCleanup(pool.shutdown, cancel_futures=True)
        cls.results = {path: pool.submit(run_page, path)
                       for path in PAGES}

    def check(self, path):
        if SANITIZED and path in RESIDENT:
            self.skipTest('a sanitizer takes memory of its own')
        result = self.results[path].result()
        if result.returncode == BLOCKS_LEFT_OUT:
            self.skipTest('passed, but without the blocks that need pytest, '
                          'which cannot be installed')
        if result.returncode:
            self.fail(result.stdout + result.stderr)

    def test_few_blocks_are_not_run(self):
        blocks = [block for path in PAGES for block in blocks_of(path)]
        # Those of a notebook run in a kernel.
        left_out = [block for block in blocks if block.not_run
                    and 'test_ipython' not in block.not_run]
        self.assertLess(len(left_out) * 10, len(blocks),
                        [block.not_run for block in left_out])
        varying = [block.varying for block in blocks if block.varying]
        self.assertLess(len(varying) * 7, len(blocks), varying)


def add_tests():
    for path in PAGES:
        name = '_'.join(path.relative_to(TOP).with_suffix('').parts)

        def test(self, path=path):
            self.check(path)
        setattr(PageTests, 'test_' + re.sub(r'\W', '_', name).lower(), test)


add_tests()


# A good block of each kind, and a bad one.
GOOD_PAGE = """\
.. testsetup::

   import os

A script::

   name = os.path.basename('/a/b')
   print(name)

.. code-block:: text

   b

>>> name
'b'

.. code-block:: python
   :caption: program.py
   :linenos:

   import sys
   print('ready', flush=True)
   sys.exit(int(sys.argv[1]))

.. code-block:: console

   $ export STATUS=3
   $ python program.py $STATUS
   ready
   $ echo $?
   3
   $ (sleep 0.2; /opt/mypython/bin/python3 program.py 0) &
   ready
   $ make check; ./bootstrap check

.. varies 8 1,000: two machines may differ, and this reason needs
   a second line

.. code-block:: console

   $ echo 7 of 7 and 1,100 of 2,000
   8 of 8 and 1,000 of 2,000

.. code-block:: sh

   test -f program.py
   pytracemalloc --version

.. code-block:: none

   pytracemalloc report [--by KEY] FILE

.. code-block:: json

   {"a": 1}

.. code-block:: c

   static PyObject *
   answer(PyObject *self, PyObject *args)
   {
       return PyLong_FromLong(42);
   }

.. not run: needs a registry

.. code-block:: yaml

   a: 1
"""
BAD_BLOCKS = {
    """.. code-block:: python

   1 / 0
""": 'ZeroDivisionError',
    """>>> 1
2
""": 'expected',
    """.. code-block:: console

   $ echo a
   b
""": 'echo a: expected',
    """.. code-block:: console

   $ false
""": 'exit status 1',
    """.. code-block:: sh

   exit 3
""": 'exit status 3',
    """.. code-block:: console

   $ make nothing
""": 'no target nothing',
    """.. code-block:: text

   a
""": 'nothing before this',
    """.. code-block:: none

   pytracemalloc report --colour
""": 'has no --colour',
    """.. code-block:: json

   {"a": 1,}
""": 'trailing comma',
    """.. code-block:: c

   int f(void) { return missing; }
""": 'undeclared',
    """.. code-block:: yaml

   a: 1
""": 'no test for yaml',
    """.. code-block:: python
   :caption: alone.py

   pass
""": 'not used',
    """.. parsed-literal::

   a
""": 'write this as a code-block',
    """.. code-block:: console

   $ echo 100
   101
""": 'echo 100: expected',
    """.. varies 100: the echo

.. code-block:: console

   $ echo 200; echo 301
   200
   300
""": "not there: {'100'}",
    """.. varies 100: the echo

.. code-block:: console

   $ echo 200; echo 301
   100
   300
""": 'echo 200; echo 301: expected',
    """.. contents:: :local:
""": 'the theme shows the contents',
}


@requires_subprocess()
@unittest.skipUnless(HAVE_PAGES, 'needs the repository and its build')
class BlockTests(unittest.TestCase):
    """What is wrong on a page is noticed."""

    def run_text(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, 'page.rst')
            path.write_text(text)
            result = run_page(path)
        return result.returncode, result.stdout + result.stderr

    def test_good(self):
        self.assertEqual(self.run_text(GOOD_PAGE), (0, '\n'))

    def test_bad(self):
        for text, complaint in BAD_BLOCKS.items():
            with self.subTest(text):
                status, output = self.run_text(text)
                self.assertEqual(status, 1)
                self.assertIn(complaint, output)


class OutputTests(unittest.TestCase):
    """Output that differs is noticed."""

    def test_same(self):
        for expected, found in [
                ('a  b', 'a b\n'), ('a ... d', 'a b c d'),
                ('a\n...\nd', 'a\nb\nc\nd'), ('a\n...\nd', 'a\nd'),
                ('...', ''), ('1,000 KiB', '1,000 KiB'), ('3.13.5', '3.13.5'),
                ('at 2026-11-20 23:05:46', 'at 2031-01-02 03:04:05')]:
            with self.subTest(expected=expected, found=found):
                self.assertTrue(matches(expected, found))

    def test_different(self):
        for expected, found in [
                ('a b', 'a c'), ('a', ''), ('', 'a'), ('a\n...\nd', 'a\nb'),
                ('1,000 KiB', '1,001 KiB'), ('20.0 MiB', '20.1 MiB'),
                ('1.0', '1.00'), ('7', '17'), ('a.py:700', 'a.py:701'),
                ('a ... d', 'a b\nc d'), ('1 MiB', '1 KiB')]:
            with self.subTest(expected=expected, found=found):
                self.assertFalse(matches(expected, found))

    def test_varying(self):
        varying = {'1,000', '7', '2.5'}
        for expected, found, result in [
                ('1,000 KiB', '1,200 KiB', True),
                ('1,000 KiB', '1,201 KiB', False),
                ('1,000 KiB', '800 KiB', True), ('7', '8', True),
                ('7', '9', False), ('2.5', '3.5', True), ('2.5', '1', False),
                ('a 7 b 8', 'a 6 b 8', True), ('a 7 b 8', 'a 7 b 9', False),
                ('7 KiB', '7 MiB', False), ('11,000', '11,001', False)]:
            with self.subTest(expected=expected, found=found):
                self.assertEqual(matches(expected, found, varying), result)


if __name__ == '__main__':
    unittest.main()
