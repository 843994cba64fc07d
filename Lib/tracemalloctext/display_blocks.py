"""Display single memory blocks with the tracebacks of their allocation."""

from _tracemalloc_snapshot import _find_block, _get_biggest_blocks
from tracemalloc import Traceback
from tracemalloc.printable import printable
from tracemalloc.source_lines import read_lines
from tracemalloctext.text import format_date, format_size, write_line


def display_block(snapshot, address, file):
    """Display the memory block at an address; return False if there is
    none."""
    block = _find_block(snapshot.traces._traces, address)
    if block is None:
        return False
    write_line(file, "%s, memory block 0x%x: %s" % (
        format_date(snapshot.timestamp), address, format_size(block[1])))
    for line in _traceback_lines(block[2], _sources_of([block])):
        write_line(file, line)
    return True


def display_blocks(snapshot, count, look, file):
    """Display the *count* biggest memory blocks of a snapshot."""
    number, total, blocks = _get_biggest_blocks(
        snapshot.traces._traces, count)
    write_line(file, look.palette.title(
        "%s: Tracebacks of the top %s allocations per address"
        % (format_date(snapshot.timestamp), count)))
    sources = _sources_of(blocks)
    for rank, (address, size, frames) in enumerate(blocks, 1):
        write_line(file, "#%s: %s: %s" % (
            rank, look.palette.name(look.name("address", address)),
            look.figures((0, size, 0, 1), False, single=True)))
        for line in _traceback_lines(frames, sources):
            write_line(file, line)
        write_line(file)
    left = number - len(blocks)
    if left:
        size = total - sum(block[1] for block in blocks)
        write_line(file, "%s more: %s" % (
            left, look.figures((0, size, 0, left), False)))
    file.flush()


def _sources_of(blocks):
    return read_lines(frame[:2] for block in blocks for frame in block[2])


def _traceback_lines(frames, sources):
    yield "Traceback (most recent call first):"
    for frame in reversed(Traceback(frames)):
        line = '  File "%s", line %s' % (frame.filename, frame.lineno or "?")
        if frame.function:
            line += ", in " + frame.function
        yield printable(line)
        source = sources.get((frame.filename, frame.lineno))
        if source:
            yield "    " + printable(source)
