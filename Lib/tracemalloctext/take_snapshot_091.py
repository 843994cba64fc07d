"""Write snapshots into files from time to time: pytracemalloc 0.9.1."""

from _tracemalloc import _hidden
from tracemalloc import Snapshot
from tracemalloc.timer import start_timer, stop_timer
from tracemalloctext.filename_template import fill_template


class TakeSnapshot:
    """Take snapshots of Python memory allocations, write them into files."""

    def __init__(self):
        self.filename_template = "tracemalloc-$counter.pickle"
        self.counter = 1
        self.user_data_callback = None

    def start(self, delay):
        """Take a snapshot every *delay* seconds."""
        start_timer(delay, self.take_snapshot)

    def stop(self):
        """Stop what start() started."""
        stop_timer()

    @_hidden
    def take_snapshot(self):
        """Take a snapshot, write it; return (snapshot, filename)."""
        snapshot = Snapshot.create(
            metrics=False, user_data_callback=self.user_data_callback)
        filename = fill_template(self.filename_template, snapshot,
                                 self.counter)
        snapshot.write(filename)
        self.counter += 1
        return snapshot, filename
