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

import _thread
import functools
import linecache

# Functions implemented in C.
import _tracemalloc
from _tracemalloc import (
    NATIVE_DOMAIN, __version__, _get_object_traceback, _hidden, clear_traces,
    get_arena_stats, get_freelist_stats, get_native_memory,
    get_traceback_limit, get_traced_memory, get_tracemalloc_memory,
    get_tracer_stats, get_unicode_interned, is_tracing, measure, reset_peak,
    stop)

from tracemalloc.filters import BaseFilter, DomainFilter, Filter
from tracemalloc.frames import Frame, Trace, Traceback, _format_size
from tracemalloc.snapshot import CallTree, Snapshot, load_files, load_traces
from tracemalloc.statistic import Statistic, StatisticDiff

# What only few programs use is imported on first access, from the module given
# here.
_LATER = {
    'Task': 'tracemalloc.task',
    'add_exclude_filter': 'tracemalloc.snapshot_filters',
    'add_filter': 'tracemalloc.snapshot_filters',
    'add_include_filter': 'tracemalloc.snapshot_filters',
    'cancel_tasks': 'tracemalloc.task',
    'clear_filters': 'tracemalloc.snapshot_filters',
    'get_filters': 'tracemalloc.snapshot_filters',
    'get_history': 'tracemalloc.history',
    'get_process_memory': 'tracemalloc.process',
    'get_tasks': 'tracemalloc.task',
    'set_traceback_limit': 'tracemalloc.switch',
    'start_history': 'tracemalloc.history',
    'start_timer': 'tracemalloc.timer',
    'stop_history': 'tracemalloc.history',
    'stop_timer': 'tracemalloc.timer',
}
# The rest of pytracemalloc 0.9.1 is imported all at once, when the first name
# is used.  That is enable(), and imports after it would be traced.
_LEGACY = {
    'DisplayGarbage': 'tracemalloctext.display_garbage',
    'DisplayTop': 'tracemalloctext.display_top_091',
    'TakeSnapshot': 'tracemalloctext.take_snapshot_091',
    'disable': 'tracemalloc.switch',
    'enable': 'tracemalloc.switch',
    'is_enabled': 'tracemalloc.switch',
}
# What Snapshot.holders() and why() return, what rss() does, and what native
# memory does not show.
_ANSWERS = {
    **dict.fromkeys(('Holder', 'RootPath', 'Why'), 'tracemalloc.holders'),
    **dict.fromkeys(('ArenaUse', 'ResidentMemory', 'ResidentRow', 'rss'),
                    'tracemalloc.resident'),
    **dict.fromkeys(('UnseenAllocator', 'get_unseen_allocators'),
                    'tracemalloc.unseen'),
}
# Pickles name it.
_HIDDEN = {'_Traces': 'tracemalloc.traces'}
# The servers of a running program.
_MODULES = {'control': 'pytracemalloc.control', 'http': 'pytracemalloc.http'}

__all__ = [
    'NATIVE_DOMAIN', 'BaseFilter', 'CallTree', 'DomainFilter', 'Filter',
    'Frame', 'Snapshot', 'Statistic', 'StatisticDiff', 'Trace', 'Traceback',
    'clear_traces', 'get_arena_stats', 'get_freelist_stats',
    'get_native_memory', 'get_object_traceback', 'get_traceback_limit',
    'get_traced_memory', 'get_tracemalloc_memory', 'get_tracer_stats',
    'get_unicode_interned', 'is_tracing', 'measure', 'reset_peak', 'start',
    'stop', 'take_snapshot', *_LATER, *_ANSWERS, *_LEGACY]


@_hidden
def __getattr__(name):
    if name in (modules := _LATER | _ANSWERS | _HIDDEN):
        globals()[name] = getattr(_import(modules[name]), name)
    elif name in _LEGACY:
        globals().update({legacy: getattr(_import(module), legacy)
                          for legacy, module in _LEGACY.items()})
    elif name in _MODULES:
        globals()[name] = _import(_MODULES[name])
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


@_hidden
def _prepare():
    """Import what a program may use while it is traced: the import would
    be traced, too."""
    load_files()
    globals().update({name: getattr(_import(module), name)
                      for name, module in _LATER.items()})


def _import(name):
    return __import__(name, fromlist=['*'])


def __dir__():
    return [*__all__, *_MODULES, '__version__', '__doc__', '__name__',
            '__file__', '__path__']


@functools.wraps(_tracemalloc.start)
def start(*args, **kwargs):       # as it says itself what is wrong with them
    # Not in other threads: a child that is forked while one of them imports
    # would wait forever for the lock of the module.
    if _thread.get_ident() == _thread._get_main_thread_ident():
        _prepare()
    _tracemalloc.start(*args, **kwargs)


if is_tracing():
    load_files()


@_hidden
def get_object_traceback(obj):
    """Get the Traceback where the Python object *obj* was allocated.

    Return None if tracemalloc is not tracing or did not trace the allocation.
    """
    frames = _get_object_traceback(obj)
    return None if frames is None else Traceback(frames)


def _get_traces(blocks=True, references=0):
    return load_traces().get_traces(blocks, references)


@_hidden
def take_snapshot(traces=True, references=False, keys=False, pause=None):
    """Take a Snapshot of the memory blocks allocated by Python.

    With *traces* false it holds the sums of each call site, but no single
    blocks, and is taken in a time that does not depend on their number.
    With *references* it also records which objects refer to which; with
    *keys*, the keys of all dictionaries as text, which may be data of the
    program.  If *pause* is false, a child process records them, while the
    program goes on; if it is None, one does so if the process is small.
    """
    return Snapshot._take(traces, is_tracing, _get_traces,
                          get_traceback_limit, references, keys, pause)
