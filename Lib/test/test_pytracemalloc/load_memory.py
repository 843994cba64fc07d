"""How much memory a process takes to load a snapshot file, good or bad."""

import os
import subprocess
import sys
import unittest
from test.support import check_sanitizer

CHILD = """if True:
    import sys, tracemalloc
    def resident(name):
        with open('/proc/self/status') as file:
            return int(file.read().split(name + ':')[1].split()[0]) * 1024
    before = resident('VmRSS')
    try:
        tracemalloc.Snapshot.load(sys.argv[1])
    except ValueError:
        pass
    print(resident('VmHWM') - before)
"""


def counts_memory(test):
    """Decorate a test that calls check_memory()."""
    test = unittest.skipUnless(os.path.exists('/proc/self/status'),
                               "needs Linux's count of resident memory")(test)
    return unittest.skipIf(
        check_sanitizer(address=True, memory=True, thread=True),
        'a sanitizer takes memory of its own')(test)


def check_memory(case, path, limit, message=None):
    """At most *limit* bytes more than before, and no other error."""
    child = subprocess.run([sys.executable, '-c', CHILD, path],
                           capture_output=True, text=True)
    case.assertEqual((child.returncode, child.stderr), (0, ''))
    case.assertLess(int(child.stdout), limit, message)
