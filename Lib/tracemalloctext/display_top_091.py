"""Display the files that allocate the most memory: pytracemalloc 0.9.1."""

import sys

from _tracemalloc import _hidden
from tracemalloc import Snapshot
from tracemalloc.printable import printable
from tracemalloc.timer import start_timer, stop_timer
from tracemalloctext.look import Look
from tracemalloctext.text import (
    Palette, format_date, format_size, shorten_filename, wants_color,
    write_line)


class DisplayTop:
    """Display the *count* biggest memory allocations by file, or by file and
    line."""

    def __init__(self, count, file=None):
        self.top_count = count
        self.stream = sys.stdout if file is None else file
        self.color = wants_color(self.stream)
        self.compare_with_previous = True
        self.filename_parts = 3
        self.show_average = True
        self.show_count = True
        self.show_lineno = False
        self.show_size = True
        self.user_data_callback = None
        self._previous = None

    def start(self, delay):
        """Display the top every *delay* seconds."""
        start_timer(delay, self.display)

    def stop(self):
        """Stop what start() started."""
        stop_timer()

    def cleanup_filename(self, filename):
        """Name the source of a compiled file; keep the last parts."""
        if filename is not None and filename.endswith((".pyc", ".pyo")):
            filename = filename[:-1]
        return shorten_filename(filename, self.filename_parts)

    @_hidden
    def display(self):
        """Take a snapshot and display it."""
        self.display_snapshot(Snapshot.create(
            metrics=False, user_data_callback=self.user_data_callback))

    @_hidden
    def display_snapshot(self, snapshot, show_pid=False):
        """Display a snapshot, compared to the one displayed before."""
        old = self._previous
        group_by = "line" if self.show_lineno else "filename"
        new = _Displayed(snapshot, group_by, show_pid)
        if old is not None and old.stats.group_by != group_by:
            old = None
        for line in self._lines(new, old):
            write_line(self.stream, line)
        self.stream.flush()
        if old is None or self.compare_with_previous:
            self._previous = new

    def _lines(self, new, old):
        palette = Palette(self.color)
        look = Look(palette, self.filename_parts, self.show_size,
                    self.show_count, self.show_average)
        diff = new.stats.compare_to(None if old is None else old.stats)
        title = "%s: Top %s allocations per file%s" % (
            new.name, self.top_count, " and line" if self.show_lineno else "")
        if old is not None:
            title += " (compared to %s)" % old.name
        yield palette.title(title)
        yield from look.top_lines(diff, self.top_count)
        yield "Total Python memory: " + look.figures(diff.total(),
                                                     old is not None)
        yield from _memory_lines(look, new, old)


class _Displayed:
    """What is kept of a snapshot to display it and to compare with it."""

    def __init__(self, snapshot, group_by, show_pid):
        self.name = format_date(snapshot.timestamp)
        if show_pid:
            self.name += " [pid %s]" % snapshot.pid
        self.stats = snapshot.top_by(group_by)
        self.own_memory = snapshot._bytes("tracemalloc_memory") or 0
        self.sizes = {title: size for title, _, size
                      in snapshot.user_data or ()}
        if snapshot.process_memory is not None:
            self.sizes[_PROCESS] = snapshot.process_memory - self.own_memory


_PROCESS = "Total process memory"


def _memory_lines(look, new, old):
    for title, size in new.sizes.items():
        difference = None
        if old is not None and title in old.sizes:
            difference = size - old.sizes[title]
        line = "%s: %s" % (printable(title),
                           look.labelled_size(size, difference))
        if title is _PROCESS and new.own_memory:
            line += " (ignore tracemalloc: %s)" % format_size(new.own_memory)
        yield line
