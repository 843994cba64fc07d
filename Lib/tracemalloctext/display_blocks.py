"""Display single memory blocks with the tracebacks of their allocation."""

import linecache
import os

from tracemalloctext.text import (
    format_date, format_size, printable, write_line)


def display_block(snapshot, block, file):
    """Display one memory block, a Statistic of the group 'address'."""
    write_line(file, "%s, memory block 0x%x: %s" % (
        format_date(snapshot.timestamp), block.key, format_size(block.size)))
    for line in _traceback_lines(block.traceback):
        write_line(file, line)


def display_blocks(snapshot, count, look, file):
    """Display the *count* biggest memory blocks of a snapshot."""
    blocks = snapshot.statistics("address")
    write_line(file, look.palette.title(
        "%s: Tracebacks of the top %s allocations per address"
        % (format_date(snapshot.timestamp), count)))
    for rank, block in enumerate(blocks[:count], 1):
        write_line(file, "#%s: %s: %s" % (
            rank, look.palette.name(look.name("address", block.key)),
            look.figures((0, block.size, 0, 1), False, single=True)))
        for line in _traceback_lines(block.traceback):
            write_line(file, line)
        write_line(file)
    rest = blocks[count:]
    if rest:
        row = (0, sum(block.size for block in rest), 0, len(rest))
        write_line(file, "%s more: %s" % (len(rest),
                                          look.figures(row, False)))
    file.flush()


def _traceback_lines(traceback):
    yield "Traceback (most recent call first):"
    for frame in reversed(traceback):
        line = '  File "%s", line %s' % (frame.filename, frame.lineno or "?")
        if frame.function:
            line += ", in " + frame.function
        yield printable(line)
        source = _source_line(frame.filename, frame.lineno)
        if source:
            yield "    " + printable(source)


def _source_line(filename, lineno):
    """Get a line of a Python file.  Names come from the snapshot, so nothing
    else is opened: a device or a pipe could block."""
    if not filename.endswith(".py") or not os.path.isfile(filename):
        return ""
    return linecache.getline(filename, lineno).strip()
