"""The traces of a snapshot: arrays that the C module works on, and a view of
them.

This module loads the C module for snapshots.  It is itself imported when the
first snapshot is made, or before tracing begins.
"""

from collections.abc import Sequence

from _tracemalloc import _take_snapshot
from _tracemalloc_snapshot import Traces, _adopt
from tracemalloc.frames import Trace
from tracemalloc.growth import unpack as unpack_growth


def get_traces(blocks=True, references=0):
    """Take a snapshot: return Traces, empty if tracing is off.

    Without *blocks*, only the sums of the call sites are taken.
    *references* are flags: 1, record which objects refer to which; 2, with the
    texts of all keys; 4, in a child process; 8, in one if this one is small.
    """
    return _adopt(*_take_snapshot(blocks, references))


class _Traces(Sequence):
    """Traces of a snapshot, each made when it is accessed."""
    __module__ = 'tracemalloc'

    def __init__(self, traces):
        Sequence.__init__(self)
        self._traces = traces if isinstance(traces, Traces) else Traces(traces)

    def __len__(self):
        return len(self._traces)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(map(Trace, self._traces[index]))
        return Trace(self._traces[index])

    def __iter__(self):
        return map(Trace, self._traces)

    def __contains__(self, trace):
        return trace._trace in self._traces

    def __eq__(self, other):
        if not isinstance(other, _Traces):
            return NotImplemented
        return self._traces == other._traces

    def __repr__(self):
        return "<Traces len=%s>" % len(self)

    # Pickled as in the standard library: a list of tuples.

    def __getstate__(self):
        plain = {}
        traces = []
        for domain, size, frames, total_nframe, *_ in self._traces:
            shared = plain.get(id(frames))
            if shared is None:
                shared = plain[id(frames)] = tuple(map(tuple, frames))
            traces.append((domain, size, shared, total_nframe))
        return {'_traces': traces}

    def __setstate__(self, state):
        self._traces = Traces(state['_traces'])
