"""Display objects in gc.garbage with their source: pytracemalloc 0.9.1."""

import gc
import reprlib
import sys

from _tracemalloc import _get_object_trace, _hidden
from tracemalloc.printable import printable
from tracemalloc.switch import enable
from tracemalloctext.text import (
    Palette, format_size, wants_color, write_line)


class DisplayGarbage:
    """Display new objects added to gc.garbage.

    These are the uncollectable ones; after gc.set_debug(gc.DEBUG_SAVEALL), all
    that the cyclic collector finds.
    """

    def __init__(self, file=None):
        self.stream = sys.stdout if file is None else file
        self.color = wants_color(self.stream)
        self.cumulative = False
        self.format_object = reprlib.repr
        self._seen = set()
        enable()
        gc.collect()

    @_hidden
    def display(self):
        """Display objects added to gc.garbage since the last call."""
        gc.collect()
        palette = Palette(self.color)
        garbage = list(gc.garbage)
        for obj in garbage:
            if self.cumulative or id(obj) not in self._seen:
                write_line(self.stream, self._line(obj, palette))
        self._seen = {id(obj) for obj in garbage}
        self.stream.flush()

    def _line(self, obj, palette):
        source = size = "?"
        trace = _get_object_trace(obj)
        if trace is not None:
            filename, lineno = trace[2][0][:2]
            source = "%s:%s" % (filename, lineno)
            size = format_size(trace[0])
        return "%s: %s: [id 0x%x] %s (%s)" % (
            palette.title("UNCOLLECTABLE OBJECT"),
            palette.name(printable(source)), id(obj),
            printable(self.format_object(obj)), palette.size(size))
