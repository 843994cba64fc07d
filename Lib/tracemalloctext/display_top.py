"""Display the top of allocated memory blocks."""

import sys

from _tracemalloc import _hidden, _shown
from tracemalloc.printable import printable
from tracemalloc import Snapshot
from tracemalloc.grouped_stats import GROUPS, comparable, needs_traces
from tracemalloc.grouping import group_snapshot
from tracemalloctext.look import Look
from tracemalloctext.text import (
    Palette, format_date, format_value, wants_color, write_line)


class DisplayTop:
    """Display the top of allocated memory blocks."""

    def __init__(self):
        self.size = True
        self.count = True
        self.average = True
        self.metrics = True
        self.filename_parts = 3
        self.color = None
        self.compare_to_previous = True
        self.previous_top_stats = None

    @_hidden
    def display(self, count=10, group_by="line", cumulative=False, file=None,
                callback=None):
        """Take a snapshot and display it; return the snapshot.

        callback(snapshot) may add metrics to it.
        """
        snapshot = Snapshot.create(traces=needs_traces(group_by),
                                   metrics=self.metrics)
        if callback is not None:
            _shown(callback)(snapshot)
        self.display_snapshot(snapshot, count, group_by, cumulative, file)
        return snapshot

    @_hidden
    def display_snapshot(self, snapshot, count=10, group_by="line",
                         cumulative=False, file=None):
        """Display the top *count* groups of a snapshot."""
        self.display_top_stats(group_snapshot(snapshot, group_by, cumulative),
                               count, file)

    @_hidden
    def display_top_stats(self, top_stats, count=10, file=None):
        """Display the top *count* groups of a GroupedStats.

        They are compared to the groups displayed before, if those are of the
        same kind.
        """
        if file is None:
            file = sys.stdout
        old_stats = self.previous_top_stats
        if old_stats is not None and not comparable(old_stats, top_stats):
            old_stats = None
        diff = top_stats.compare_to(old_stats)
        for line in self._lines(diff, count, file):
            write_line(file, line)
        file.flush()
        if old_stats is None or self.compare_to_previous:
            self.previous_top_stats = top_stats

    def _lines(self, diff, count, file):
        stats = diff.new_stats
        palette = Palette(wants_color(file, self.color))
        look = Look(palette, self.filename_parts, self.size, self.count,
                    self.average)
        yield palette.title(_title(diff, count))
        yield from look.top_lines(diff, count)
        if not stats.cumulative:
            yield "Traced Python memory: " + look.figures(
                diff.total(), diff.old_stats is not None)
        if self.metrics and stats.metrics:
            yield ""
            yield from _metric_lines(diff, palette)
            yield ""


def _title(diff, count):
    stats = diff.new_stats
    title = "%s: %s %s allocations per %s" % (
        format_date(stats.timestamp),
        "Cumulative top" if stats.cumulative else "Top", count,
        GROUPS[stats.group_by].title)
    if diff.old_stats is not None:
        title += " (compared to %s)" % format_date(diff.old_stats.timestamp)
    return title


def _metric_lines(diff, palette):
    metrics = diff.new_stats.metrics
    old = diff.old_stats.metrics if diff.old_stats is not None else {}
    for name in sorted(metrics):
        metric = metrics[name]
        text = palette.size(format_value(metric.value, metric.format))
        if name in old:
            text += " (%s)" % format_value(metric.value - old[name].value,
                                           metric.format, True)
        yield "%s: %s" % (printable(name), text)
