"""Trace memory blocks allocated by Python.

    tracemalloc.start(25)               # frames of each stack, or 'full'
    ...
    snapshot = tracemalloc.take_snapshot()
    for statistic in snapshot.statistics('lineno')[:10]:
        print(statistic)

The functions and classes of the standard library's tracemalloc, and what a
tracer inside the interpreter can tell beyond it: Snapshot.peak, types of
objects, measure(), get_freelist_stats(), get_arena_stats().  Those of
pytracemalloc 0.9.1 are here too.  See also: python -m pytracemalloc --help.
"""

import linecache

# Functions implemented in C.
from _tracemalloc import *
from _tracemalloc import _get_object_traceback
from _tracemalloc_snapshot import _get_traces, get_arena_stats

from tracemalloc.compat091 import *
from tracemalloc.filters import BaseFilter, DomainFilter, Filter
from tracemalloc.frames import Frame, Trace, Traceback, _format_size, _Traces
from tracemalloc.snapshot import CallTree, Snapshot
from tracemalloc.statistic import Statistic, StatisticDiff


def get_object_traceback(obj):
    """Get the Traceback where the Python object *obj* was allocated.

    Return None if tracemalloc is not tracing or did not trace the allocation.
    """
    frames = _get_object_traceback(obj)
    return None if frames is None else Traceback(frames)


def take_snapshot(traces=True):
    """Take a Snapshot of the memory blocks allocated by Python.

    With *traces* false it holds the sums of each call site, but no single
    blocks, and is taken in a time that does not depend on their number.
    """
    if not is_tracing():
        raise RuntimeError("the tracemalloc module must be tracing memory "
                           "allocations to take a snapshot")
    # Called without an argument where one is not needed, as stock does.
    taken = _get_traces() if traces else _get_traces(False)
    return Snapshot(taken, get_traceback_limit())
