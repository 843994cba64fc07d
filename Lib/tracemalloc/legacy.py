"""Snapshot methods of pytracemalloc 0.9.1 and of the tracemalloctext document.

LegacyMethods is a base of tracemalloc.Snapshot.  These generations add
metrics, process memory and user data to a snapshot.  All of that is kept in
the metadata of the snapshot as plain lists and numbers, and so is written with
it.
"""

from _tracemalloc import (
    _hidden, _shown, get_traceback_limit, get_tracemalloc_memory, is_tracing)
from tracemalloc.filters import Filter


def _damaged(what):
    return ValueError("damaged snapshot: its %s cannot be read; load another "
                      "file" % what)


class LegacyMethods:
    """Methods that Snapshot has from earlier generations of its API."""

    @classmethod
    @_hidden
    def create(cls, traces=False, metrics=True, *, user_data_callback=None):
        """Take a snapshot.

        With *traces*, it holds each memory block.  *user_data_callback*, which
        may also be the first argument, returns a list of (title, 'size',
        value) tuples.
        """
        from tracemalloc.process import get_process_memory
        from tracemalloc.snapshot_filters import get_filters
        from tracemalloc.traces import get_traces
        if callable(traces):
            user_data_callback, traces = traces, False
        snapshot = cls._take(bool(traces), is_tracing, get_traces,
                             get_traceback_limit)
        filters = get_filters()
        if filters:
            snapshot.apply_filters(filters)
        metadata = snapshot.metadata
        metadata["process_memory"] = get_process_memory()
        metadata["tracemalloc_memory"] = get_tracemalloc_memory()
        if user_data_callback is not None:
            metadata["user_data"] = _check_user_data(
                _shown(user_data_callback)())
        if metrics:
            from tracemalloc.metrics import add_metrics
            add_metrics(snapshot)
        return snapshot

    def write(self, filename):
        """Write the snapshot into a file, whole or not at all."""
        self.dump(filename)

    # --- 0.9.1

    @property
    @_hidden
    def stats(self):
        """Statistics as {filename: {lineno: (size, count)}}."""
        stats = {}
        for stat in self.statistics("lineno"):
            frame = stat.traceback[0]
            lines = stats.setdefault(frame.filename, {})
            lines[frame.lineno or None] = (stat.size, stat.count)
        return stats

    @property
    def process_memory(self):
        """Resident memory of the process in bytes, or None."""
        return self._bytes("process_memory")

    def _bytes(self, name):
        value = self.metadata.get(name)
        if value is not None and not isinstance(value, int):
            raise _damaged(name.replace("_", " "))
        return value

    @property
    def user_data(self):
        """List of (title, format, value), or None."""
        rows = self.metadata.get("user_data")
        if rows is None:
            return None
        try:
            return _check_user_data(rows)
        except (TypeError, ValueError):
            raise _damaged("user data") from None

    def filter_filenames(self, patterns, include):
        """Keep (or, if *include* is false, drop) what matches a pattern."""
        if isinstance(patterns, str):
            patterns = [patterns]
        self.apply_filters([Filter(bool(include), pattern)
                            for pattern in patterns])

    @_hidden
    def display(self, display_top, show_pid=False):
        """Display the snapshot as *display_top*, a DisplayTop, says."""
        display_top.display_snapshot(self, show_pid=show_pid)

    # --- tracemalloctext

    def apply_filters(self, filters):
        """Remove the blocks that the filters drop, in this snapshot."""
        self._replace_with(self.filter_traces(filters))

    def add_metric(self, name, value, format):
        """Add a metric; *format* is 'int', 'percent' (1.0 is 100 %) or
        'size' (bytes).  Return the Metric."""
        from tracemalloc.metric import Metric
        metric = Metric(name, value, format)
        rows = self.metadata.setdefault("metrics", {})
        if name in rows:
            raise ValueError("metric %r is in the snapshot already" % name)
        rows[name] = [metric.value, metric.format]
        return metric

    def get_metric(self, name, default=None):
        """Get the value of a metric."""
        metric = self.metrics.get(name)
        return default if metric is None else metric.value

    @property
    @_hidden
    def metrics(self):
        """Metrics as {name: Metric}, in the order of their names."""
        from tracemalloc.metric import Metric
        rows = self.metadata.get("metrics") or {}
        try:
            return {name: Metric(name, *rows[name]) for name in sorted(rows)}
        except (TypeError, ValueError, LookupError, AttributeError,
                OverflowError):
            raise _damaged("metrics") from None

    @_hidden
    def top_by(self, group_by, cumulative=False):
        """Group the blocks; return a GroupedStats.

        *group_by* is 'filename', 'line', 'address', 'traceback' or another key
        type of statistics().
        """
        from tracemalloc.grouping import group_snapshot
        return group_snapshot(self, group_by, cumulative)


def _check_user_data(rows):
    checked = []
    for row in rows:
        title, format, value = row
        if format != "size":
            raise ValueError("the format of user data must be 'size', not %r"
                             % (format,))
        if not isinstance(title, str) or not isinstance(value, int):
            raise TypeError("user data must be (str, 'size', int), not %r"
                            % (row,))
        checked.append((title, format, value))
    return checked
