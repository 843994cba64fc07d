"""Memory between two moments of a program: of a test, of a notebook's cell.

Whoever uses a Span is hidden (see _tracemalloc._hidden) but for what is
measured, so that nothing else counts.
"""

import tracemalloc
from tracemalloc.process import collect_garbage


class Span:
    """What happens between start() and stop().

    current, peak: bytes at the end and at the most, above those of the start;
    count: blocks allocated.  before, after, collected: snapshots of the start,
    of the end, and of the garbage collection that follows it.
    """

    def __init__(self, frames, traces=False):
        """*frames*: to trace, if that is not done already; *traces*: of the
        snapshots."""
        self._frames = frames
        self._traces = traces

    def start(self):
        collect_garbage()
        self.has_started = not tracemalloc.is_tracing()
        if self.has_started:
            tracemalloc.start(self._frames)
        self.before = tracemalloc.take_snapshot(traces=self._traces)
        self._measure = tracemalloc.measure()
        self._measure.__enter__()

    def stop(self):
        """Return False if the program has stopped the tracing."""
        if not tracemalloc.is_tracing():
            return False
        self._measure.__exit__(None, None, None)
        self.after = tracemalloc.take_snapshot(traces=False)
        collect_garbage()
        self.collected = tracemalloc.take_snapshot(traces=self._traces)
        if self.has_started:
            tracemalloc.stop()
        self.peak = self._measure.peak
        self.count = self._measure.total_count
        self.current = (self.collected.traced_memory[0]
                        - self.before.traced_memory[0])
        return True

    @property
    def is_highest(self):
        """Is what was live at the peak known?  What is traced beside may have
        been higher before."""
        return self.before.traced_memory[1] < self.after.traced_memory[1]
