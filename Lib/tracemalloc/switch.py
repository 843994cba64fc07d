"""Turn tracing on and off by the names of pytracemalloc 0.9.1."""

import atexit

from _tracemalloc import get_traceback_limit, is_tracing, start, stop
from tracemalloc.snapshot import load_traces
from tracemalloc.task import cancel_tasks

_nframe = 1

load_traces()                     # after enable() the import would be traced


def enable():
    """Start tracing Python memory allocations.

    Do nothing if they are traced already.  Tracing ends at exit.
    """
    atexit.unregister(disable)
    atexit.register(disable)
    if not is_tracing():
        start(_nframe)


def disable():
    """Stop tracing, forget the traces, cancel all tasks and the timer."""
    cancel_tasks()
    stop()


def is_enabled():
    """True if Python memory allocations are traced."""
    return is_tracing()


def set_traceback_limit(nframe):
    """Store at most *nframe* frames in the traceback of a trace.

    enable() will use this limit.  If tracing is on with another limit, it is
    restarted, which forgets the traces: tracebacks with different limits
    cannot be compared.
    """
    global _nframe
    if not isinstance(nframe, int):
        raise TypeError("the number of frames must be an integer, not %s"
                        % type(nframe).__name__)
    if not 1 <= nframe <= 65535:
        raise ValueError("the number of frames must be in range [1; 65535], "
                         "not %s" % nframe)
    if is_tracing() and get_traceback_limit() != nframe:
        stop()
        start(nframe)
    _nframe = nframe
