"""The summary at the end of a run: large sites, the peak, cyclic garbage,
suspected leaks."""

from pytracemalloc import curve, failed, moments, suspects
from pytracemalloc.terminal import shorten
from pytracemalloc.units import format_count
from pytracemalloc.words import format_losses, format_native
from tracemalloc.places import name_origin, name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size
from tracemalloc.views import view_of

# For a site to be listed, the collector must free most of what it allocates.
_MIN_COUNT = 50
_MIN_SHARE = 0.01                 # of the live memory
_MIN_GARBAGE = 0.5


def make(snapshot, count, output, width=None, view={}, unicode=True):
    """Return the summary of a snapshot, as lines.

    *output*: the file of the snapshot, None for no file.
    *width*: columns of the terminal, None for no terminal.
    *view*: arguments of views.view_of(), for the lists.
    *unicode*: the output can show more than ASCII.
    """
    shown = view_of(snapshot, **view)
    lines = [f'pytracemalloc: {_figures(snapshot)}']
    lines += format_native(snapshot)
    lines += format_losses(snapshot)
    lines += curve.lines(snapshot, width, unicode)
    lines += _top('Live at the end:', shown.statistics('lineno'), 'size',
                  'count', count, width)
    lines += _top('At the peak:', shown.statistics('lineno',
                                                   order='peak_size'),
                  'peak_size', 'peak_count', count, width)
    lines += moments.lines(shown, width)
    if cycles := _find_cycles(shown)[:count]:
        lines += _top('Freed by the cyclic collector:', cycles,
                      'garbage_size', 'garbage_count', count, width)
    lines += suspects.lines(snapshot, count, width)
    lines = [line[:width] for line in lines]
    if output:
        lines.append(f'Snapshot: {output}')
    return lines


def make_short(snapshot, count, output):
    """Return the summary of a child process, as lines: its figures and
    suspected leaks.  Each line names the process, as others write at the same
    time."""
    name = f'pytracemalloc: process {snapshot.pid}'
    figures = f'{name}: {_figures(snapshot)}'
    lines = [f'{figures}; {output}' if output else figures]
    for suspect in suspects.find(snapshot)[:count]:
        lines.append(f'{name}: suspected leak: '
                     f'{suspects.name_suspect(suspect)}')
        if holder := suspects.name_holder(suspect, snapshot):
            lines[-1] += f', held by {holder}'
    return lines


def make_failed(snapshot, count, name, is_child, width=None, view={}):
    """Return what was live when a request for memory failed, as lines: one for
    a child process.

    *snapshot*: of the tree that was written then, in the file *name*.
    """
    request = failed.line(snapshot)
    if is_child:
        return [f'pytracemalloc: process {snapshot.pid}: {request}; {name}']
    live, _ = snapshot.traced_memory
    shown = view_of(snapshot, **view)
    lines = [request, *_top(f'Live then, {format_size(live)}:',
                            shown.statistics('lineno'), 'size', 'count',
                            count, width)]
    return [*(line[:width] for line in lines), f'Memory then: {name}']


def _find_cycles(snapshot):
    stats = snapshot.statistics('lineno', order='garbage_size')
    least = _MIN_SHARE * snapshot.traced_memory[0]
    return [stat for stat in stats if stat.garbage_count >= _MIN_COUNT
            and stat.garbage_size > max(least,
                                        _MIN_GARBAGE * stat.total_size)]


def _figures(snapshot):
    current, peak = snapshot.traced_memory
    allocated = sum(stat.total_count for stat in snapshot.statistics(
        'lineno', order='total_count'))
    return (f'{format_size(current)} live, {format_size(peak)} at the peak, '
            f'{format_count(allocated)} blocks allocated')


def _top(title, stats, size, count, number, width):
    """Return the largest lines, and one for all others."""
    values = [(getattr(stat, size), getattr(stat, count)) for stat in stats]
    lines = [_line(stat, *pair, width)
             for stat, pair in zip(stats[:number], values)]
    if others := values[number:]:
        figures = _write_figures(*map(sum, zip(*others)))
        lines.append(f'{figures}{len(others):,} more')
    return [title, *lines]


def _write_figures(size, count):
    return f'{format_size(size):>10} {format_count(count):>10}  '


def _line(stat, size, count, width):
    figures = _write_figures(size, count)
    frame = stat.traceback[-1]
    where = printable(name_place(frame.filename, frame.lineno,
                                 frame.function) + name_origin(stat))
    if width is not None:
        where = shorten(where, max(1, width - len(figures)))
    return figures + where
