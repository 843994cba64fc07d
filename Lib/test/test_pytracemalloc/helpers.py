"""What the tests of the tracer share."""
import os
import sys
import sysconfig
import tracemalloc
from test.support import Py_DEBUG, check_sanitizer

FLAVOUR = sysconfig.get_config_var('PYTRACEMALLOC_FREELISTS')
# Of a debug build, and of -X dev: they make blocks larger.
DEBUG_HOOKS = Py_DEBUG or sys.flags.dev_mode
# Its figures of resident memory and of the stack are not ours.
SANITIZED = check_sanitizer(address=True, memory=True, thread=True)
# CPython 3.15.0rc1 gives up a reference too many where a dictionary cannot be
# made, and crashes a bit later: under its own tracemalloc, too.
CRASHES_WITHOUT_MEMORY = (3, 15) <= sys.version_info < (3, 15, 0, 'final')
# Values of PYTHONMALLOC: where small objects are by default, and all others
# that the build has.  Without the GIL they have to be in mimalloc's heaps.
FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))
ALLOCATOR = 'mimalloc' if FREE_THREADED else 'pymalloc'
ALLOCATORS = (('mimalloc', 'mimalloc_debug') if FREE_THREADED else
              ('pymalloc', 'pymalloc_debug', 'malloc'))
# Heaps of mimalloc have none that get_arena_stats() could tell of.
HAS_ARENAS = not FREE_THREADED
# Of memory for a block while a snapshot is taken: in no pool, each has a record
# of 24 bytes, and one that another object owns is noted in 8 more.
BYTES_WHILE_TAKING = 32 if FREE_THREADED else 24
# Each thread has heaps of its own, and mimalloc keeps some MB that were freed in
# them, however often: 6 MB where reports are made for the control socket, 14 MB
# where 40 profiles are answered over HTTP.
HEAPS_OF_THREADS = 16 << 20 if FREE_THREADED else 0
SLOW = os.environ.get('PYTRACEMALLOC_SLOW') == '1'

# The end of a program that calls its work(n) for each n that it reads, and
# says at last what was traced while it waited for them.
WORK_WHEN_TOLD = '''
def measure(said):
    tracemalloc.reset_peak()
    with tracemalloc.measure() as looking:
        os.write(1, said)
        given = os.read(0, 100)
    looks.append((looking.current, looking.peak, looking.total_size,
                  looking.total_count))
    return given

looks = []
said = b"ready\\n"
while given := measure(said):
    work(int(given))
    said = b"done\\n"
for look in looks:
    print(*look)
'''


def line_of(function, offset):
    """File and line number of the line `offset` below a function's def."""
    code = function.__code__
    return code.co_filename, code.co_firstlineno + offset


def live_at(filename, lineno):
    """Number of live blocks that the snapshot of this moment has at a line."""
    count = 0
    for domain, size, frames, total in tracemalloc._get_traces():
        count += frames[0] == (filename, lineno)
    return count


def stat_at(snapshot, filename, lineno):
    """The one Statistic that a snapshot has of a line."""
    found, = (stat for stat in snapshot.statistics('lineno')
              if (stat.traceback[0].filename, stat.traceback[0].lineno)
              == (filename, lineno))
    return found


def program(n):
    """Allocate at new lines, at new depths, small and big."""
    scope = {}
    keep = []
    for i in range(n):
        exec(compile(f'def f{i}(d):\n'
                     f'    return [d] if d == 0 else [f{i}(d - 1)]\n',
                     f'made{i}', 'exec'), scope)
        keep.append(scope[f'f{i}'](i % 7))
        keep.append(bytearray(600 + i))
    return keep


class Tracing:
    """Trace within a with statement; leave tracing off."""

    def __init__(self, nframe=1):
        self.nframe = nframe

    def __enter__(self):
        tracemalloc.stop()
        tracemalloc.start(self.nframe)

    def __exit__(self, *exc):
        tracemalloc.stop()
