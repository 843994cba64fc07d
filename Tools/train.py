"""The training for --enable-optimizations: typical work of an interpreter.

CPython's make runs this with an interpreter that counts, and compiles again by
the counts. CPython's own training never traces an allocation: the compiler
would take the tracer for code that never runs, and make it small, not fast.
So the tests that CPython trains on run here untraced, and a few of them under
the tracer as well, with snapshots taken and compared. Untraced code has by far
the largest share: a branch that tells whether to trace must stay a branch that
is rarely taken.

The same source must give the same counts, or two builds differ. So every job
is a process of its own, single-threaded, with a fixed hash seed, and at fixed
addresses where the system permits it. Clocks, random numbers and process ids
that tests read are replaced. Tests that start threads or
processes, or read the clock, are left out.
"""
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import types
import unittest

UNTRACED = '''
    array base64 binascii binop bisect bytes bz2 cmath codecs collections
    complex dataclasses datetime decimal difflib float fstring functools
    generators hashlib heapq int itertools json long lzma math memoryview
    operator ordered_dict patma pickle pprint re set sqlite3 statistics str
    struct tabnanny xml_etree xml_etree_c'''.split()
TRACED = '''
    binop bisect bytes collections dataclasses deque fstring generators heapq
    json ordered_dict pprint struct'''.split()
CLOCKS = ('monotonic', 'monotonic_ns', 'perf_counter', 'perf_counter_ns',
          'process_time', 'process_time_ns', 'time', 'time_ns')
# Of the clocks, what C code reads.
CLOCK = {*CLOCKS, 'clock_gettime', 'gmtime', 'localtime', 'now', 'sleep',
         'today', 'utcnow'}
LIMITS = '1', '25', 'full'
NUMBER = 4242           # that of the process, as the tests see it


class Tests(unittest.TestSuite):
    """Without tests that read the clock."""

    def addTest(self, test):
        method = getattr(test, getattr(test, '_testMethodName', ''), None)
        if CLOCK.isdisjoint(names_of(getattr(method, '__code__', None))):
            super().addTest(test)


def names_of(code):
    """The names that code uses, that of functions inside it too."""
    if not isinstance(code, types.CodeType):
        return set()
    return set(code.co_names).union(*map(names_of, code.co_consts))


def skip(*args, **kwargs):
    raise unittest.SkipTest('not the same each time')


def make_repeatable():
    seed = random.Random.seed
    random.Random.seed = lambda self, a=None, *version: seed(
        self, NUMBER if a is None else a, *version)
    # The module's own function keeps the method that it was made from.
    random.seed = random._inst.seed
    random.seed()
    os.getpid = lambda: NUMBER
    seconds = itertools.count(10**9)
    for name in CLOCKS:
        setattr(time, name, (lambda: next(seconds) * 10**9)
                if name.endswith('_ns') else (lambda: float(next(seconds))))
    tempfile._name_sequence = map('train{}'.format, itertools.count())
    subprocess.Popen = threading.Thread.start = skip


def run_tests(names):
    """In a process of its own: run tests, the same each time."""
    from test import support
    support.PGO = True
    support.use_resources = {}      # none of the slow ones
    support.verbose = 0
    support.linked_to_musl = lambda: False      # which asks ldd
    make_repeatable()
    loader = unittest.TestLoader()
    loader.suiteClass = Tests
    result = unittest.TestResult()
    before = tracemalloc.is_tracing() and tracemalloc.take_snapshot()
    for name in names:
        loader.loadTestsFromName(f'test.test_{name}').run(result)
        if before:
            look_at_memory(before)


def look_at_memory(before):
    after = tracemalloc.take_snapshot()
    after.statistics('lineno')
    after.compare_to(before, 'traceback')
    tracemalloc.get_traced_memory()
    tracemalloc.get_object_traceback(after)


def command_for(limit, names):
    command = [sys.executable]
    if limit:
        command += ['-X', f'tracemalloc={limit}']
    return [*command, os.path.abspath(__file__), *names]


def fixed_addresses():
    """The prefix of a command that gets the same addresses each time."""
    prefix = ['setarch', '-R']
    if shutil.which('setarch') and not subprocess.run(
            [*prefix, 'true'], stderr=subprocess.DEVNULL).returncode:
        return prefix
    print('note: addresses cannot be fixed here (setarch -R), two builds may '
          'differ in a few instructions')
    return []


def train(scratch):
    # gcc's counts of this process, at other addresses, go elsewhere.
    os.environ['GCOV_PREFIX'] = os.path.join(scratch, 'counts')
    prefix = fixed_addresses()
    keep = 'PATH', 'LD_LIBRARY_PATH', 'LLVM_PROFILE_FILE'
    environment = {name: os.environ[name] for name in keep
                   if name in os.environ}
    # Not seed 0: expat would take that as no seed.
    environment |= {'PYTHONHASHSEED': '1', 'LANG': 'C.UTF-8', 'TZ': 'UTC',
                    # Compiling what has been compiled here before would not
                    # be counted.
                    'PYTHONPYCACHEPREFIX': os.path.join(scratch, 'cache')}
    # What the build itself has counted depends on the order of its steps.
    for counts in pathlib.Path().rglob('*.gcda'):
        counts.unlink()
    for limit, names in [(None, UNTRACED), *((n, TRACED) for n in LIMITS)]:
        start = time.monotonic()
        # It does not matter if a test fails here.
        subprocess.run(
            [*prefix, *command_for(limit, names)], env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=True)
        print(f'trained {f"tracing {limit}" if limit else "untraced"}: '
              f'{time.monotonic() - start:.0f} s', flush=True)


if __name__ == '__main__':
    if len(sys.argv) > 1:
        run_tests(sys.argv[1:])
        sys.exit()
    scratch = os.path.abspath('train.tmp')
    shutil.rmtree(scratch, ignore_errors=True)
    train(scratch)
    shutil.rmtree(scratch)
    # At an orderly end gcc would write there once more.
    sys.stdout.flush()
    os._exit(0)
