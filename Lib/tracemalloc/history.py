"""Memory over time: notes that a thread of the tracer makes, without a GIL."""

from collections import namedtuple
import os
import struct
import sys

from _tracemalloc import (_get_history, _hidden, _history_interval,
                          _start_history, stop_history)

_NOTE = struct.Struct('=7q4I')
_LEAST, _MOST = 1e-3, 1e6         # seconds

# What the process had at one moment, or at several that were merged: then
# most_traced and most_rss are the maximum of all, and the rest is of one.
Note = namedtuple('Note', 'time traced most_traced peak rss most_rss blocks '
                  'collections snapshots')
Note.__module__ = 'tracemalloc'

_watches_forks = False


def unpack(packed):
    """Return the list of Note that C has packed into one object."""
    notes = []
    for (time, traced, most_traced, peak, rss, most_rss, blocks,
         *collections, snapshots) in _NOTE.iter_unpack(packed):
        # 0 means not known: no process has as little.
        known = (rss, most_rss) if rss else (None, most_rss or None)
        notes.append(Note(time / 1e6, traced, most_traced, peak, *known,
                          blocks, tuple(collections), snapshots))
    return notes


@_hidden
def start_history(interval=0.1):
    """Record the memory of the process every *interval* seconds from now on.

    Earlier notes are forgotten.  A child of a fork starts without notes.
    """
    global _watches_forks
    if not _LEAST <= interval <= _MOST:
        raise ValueError("interval must be from 1 ms to 1,000,000 s")
    _start_history(round(interval * 1e9))
    if not _watches_forks:
        _watches_forks = True
        os.register_at_fork(after_in_child=_in_child)


@_hidden
def get_history():
    """Get the notes: a list of Note, the oldest first.

    As long as more are being made, the last one is of this moment.
    """
    return unpack(_get_history())


@_hidden
def start_at_startup(text):
    """start_history() as -X tracemalloc_history says; never raise."""
    try:
        start_history(0.1 if text is True or not text else float(text))
    except (ValueError, OSError) as error:
        _say(f"cannot note memory over time: {text}: "
             f"{getattr(error, 'strerror', None) or error}")


def _say(text):
    if sys.stderr is not None:
        print(f"tracemalloc: {text}", file=sys.stderr)


@_hidden
def _in_child():
    if interval := _history_interval():
        try:
            _start_history(interval)
        except OSError as error:
            _say(f"no memory over time in process {os.getpid()}: "
                 f"{error.strerror}")
