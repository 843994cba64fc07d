"""Say what tracemalloc makes of bad input, one line each.

test_tracer_arguments.py runs this under a stock interpreter as well, so it
imports nothing of ours.
"""
import sys
import tracemalloc

import _testcapi
import _testinternalcapi


class Index:
    def __index__(self):
        return 3


class Fails:
    def __index__(self):
        raise KeyError('no')


class Type(type):
    pass


def say(function, *args, **kwargs):
    try:
        result = function(*args, **kwargs)
    except Exception as exc:
        result = f'{type(exc).__name__}: {exc}'
    if not isinstance(result, (str, int, tuple, type(None))):
        result = type(result).__name__
    args = [arg if isinstance(arg, (int, str, bytes, type(None)))
            else type(arg).__name__ for arg in args]
    print(function.__name__, args, kwargs, result)


def while_off():
    for name in ('stop', 'clear_traces', 'reset_peak', 'get_traced_memory',
                 'get_tracemalloc_memory', 'is_tracing',
                 'get_traceback_limit', 'get_object_traceback'):
        function = getattr(tracemalloc, name)
        say(function)
        say(function, 1)
        say(function, 1, 2)
        say(function, unknown=1)
    say(tracemalloc.take_snapshot)
    say(_testcapi.tracemalloc_track, 5, 1, 1)
    say(_testcapi.tracemalloc_untrack, 5, 1)
    say(_testinternalcapi._PyTraceMalloc_GetTraceback, 5, 1)


def start():
    for value in (0, -1, 65536, 70_000, 2**31 - 1, 2**31, -2**31, -2**31 - 1,
                  2**70, 1.5, None, b'full', True, False, [], Index(),
                  Fails(), (), ...):
        say(tracemalloc.start, value)
        print(tracemalloc.is_tracing(), tracemalloc.get_traceback_limit())
        tracemalloc.stop()
    say(tracemalloc.start, 1, 2)
    say(tracemalloc.start, nframe=1)
    tracemalloc.start(2)
    for value in 5, 0, 70_000:
        say(tracemalloc.start, value)
        print(tracemalloc.get_traceback_limit())


def tracebacks():
    made = object(), Index(), bytearray(9), Type('T', (), {})
    for anything in (None, 1, -5, 1 << 99, 'x', (), type, len, sys,
                     int.__add__, ..., NotImplemented, int, Type, start,
                     *made):
        print(type(anything).__name__,
              tracemalloc.get_object_traceback(anything))


def tracked():
    print(sorted((trace.domain, trace.size)
                 for trace in tracemalloc.take_snapshot().traces
                 if trace.domain))


def track():
    for args in ((5, 0x1234, 100), (5, 0x1234, 30), (5, 0x1234, 0),
                 (6, 0x1234, 1), (5, 0, 7), (2**32 - 1, 2**64 - 1, 2**62),
                 (5, 0x1234, -1), (-1, 1, 1), (1, 2, 3, 1)):
        say(_testcapi.tracemalloc_track, *args)
        tracked()
    for args in ((5, 0x1234), (5, 0x1234), (7, 1), (6, 0x1234), (5, 0),
                 (2**32 - 1, 2**64 - 1), (1, 2)):
        say(_testcapi.tracemalloc_untrack, *args)
        tracked()


def snapshots():
    snapshot = tracemalloc.take_snapshot()
    for args in (), ('bad',), (None,), ('traceback', True):
        say(snapshot.statistics, *args)
        say(snapshot.compare_to, snapshot, *args)
    for filters in None, 3, [3], 'x', [None]:
        say(snapshot.filter_traces, filters)
    for args in (), (1,), (True, 3), (True, 'x', 1, 2, 3, 4):
        say(tracemalloc.Filter, *args)
    say(tracemalloc.DomainFilter)
    say(tracemalloc.Snapshot.load, '/nonexistent')


if __name__ == '__main__':
    while_off()
    start()
    tracebacks()
    track()
    snapshots()
    tracemalloc.stop()
    tracemalloc.stop()
    while_off()
