"""Task that writes snapshots into files."""

from _tracemalloc import _hidden, _shown
from tracemalloc import Snapshot
from tracemalloc.task import Task
from tracemalloctext.filename_template import fill_template


class TakeSnapshotTask(Task):
    """Task taking snapshots of Python memory allocations and writing them
    into files."""

    def __init__(self, filename_template="tracemalloc-$counter.pickle",
                 traces=False, metrics=True, callback=None):
        super().__init__(self.take_snapshot)
        self.filename_template = filename_template
        self.traces = traces
        self.metrics = metrics
        self.callback = callback
        self.counter = 1

    def create_filename(self, snapshot):
        """Name the next file: fill the template."""
        return fill_template(self.filename_template, snapshot, self.counter)

    @_hidden
    def take_snapshot(self):
        """Take a snapshot, write it; return (snapshot, filename)."""
        snapshot = Snapshot.create(traces=self.traces, metrics=self.metrics)
        if self.callback is not None:
            _shown(self.callback)(snapshot)
        filename = self.create_filename(snapshot)
        snapshot.write(filename)
        self.counter += 1
        return snapshot, filename
