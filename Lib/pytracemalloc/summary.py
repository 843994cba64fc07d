"""The summary at the end of a run: large sites, the peak, suspected leaks."""

from pytracemalloc.terminal import shorten
from pytracemalloc.units import format_count, format_losses
from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

# A site is suspected if it still holds most of what it ever allocated, in
# many blocks that are worth a look together.
_MIN_COUNT = 50
_MIN_SHARE = 0.01                 # of the live memory
_MAX_FREED = 0.1                  # of the bytes allocated
_NEARLY_NONE = 0.05
_MAX_GARBAGE = 0.5


class Suspects:
    """Finds the sites that keep what they allocate.

    With several snapshots a site is suspected only if it grew each time.
    Code of modules and classes, which runs once, is not: what it holds is
    meant to stay.
    """

    def __init__(self):
        self._sizes = []          # {key: live size} of each snapshot

    def look_at(self, snapshot):
        # In this order lines of which nothing is left are here too.
        self._stats = snapshot.statistics('lineno', order='total_size')
        self._sizes.append({stat.key: stat.size for stat in self._stats})

    def find(self):
        """Return [(Statistic, bytes, blocks, reason)], largest first."""
        total = sum(stat.size for stat in self._stats)
        found = []
        for stat in self._stats:
            frame = stat.traceback[-1]
            if frame.filename.startswith('<frozen') or \
                    (frame.function or '').startswith('<module'):
                continue
            if self._makes_cycles(stat, total):
                found.append((stat, stat.garbage_size, stat.garbage_count,
                              'makes cycles: most was freed by the '
                              'collector'))
            elif reason := self._keeps(stat, total):
                found.append((stat, stat.size, stat.count, reason))
        found.sort(key=lambda suspect: -suspect[1])
        return found

    def _makes_cycles(self, stat, total):
        return (stat.garbage_size > _MAX_GARBAGE * stat.total_size
                and stat.garbage_size > _MIN_SHARE * total
                and stat.garbage_count >= _MIN_COUNT)

    def _keeps(self, stat, total):
        if stat.count < _MIN_COUNT or stat.size < _MIN_SHARE * total:
            return None
        # Bytes, not blocks: a call often makes a small temporary as well.
        freed = 1 - stat.size / stat.total_size
        if freed > _MAX_FREED or not self._grew(stat.key):
            return None
        return ('nearly nothing was freed' if freed < _NEARLY_NONE
                else f'only {freed:.0%} was freed')

    def _grew(self, key):
        sizes = [sizes.get(key, 0) for sizes in self._sizes]
        return all(before < after for before, after
                   in zip(sizes, sizes[1:]))


def make(snapshot, suspects, count, output, width=None):
    """Return the summary of a snapshot, as lines.

    *output*: the file that it has been dumped to, None for no file.
    *width*: columns of the terminal that it is for, None for no terminal.
    """
    stats = snapshot.statistics('lineno')
    lines = [f'pytracemalloc: {_figures(snapshot)}']
    lines += format_losses(snapshot)
    lines += _top('Live at the end:', stats[:count], 'size', 'count', width)
    at_peak = snapshot.statistics('lineno', order='peak_size')
    lines += _top('At the peak:', at_peak[:count], 'peak_size', 'peak_count',
                  width)
    found = suspects.find()[:count]
    if found:
        lines.append('Suspected leaks:')
        lines += [_line(stat, size, count, width, reason)
                  for stat, size, count, reason in found]
    lines = [line[:width] for line in lines]
    if output:
        lines.append(f'Snapshot: {output}')
    return lines


def make_line(snapshot, output):
    """Return the one line that the summary of a child process is."""
    line = f'pytracemalloc: process {snapshot.pid}: {_figures(snapshot)}'
    if output:
        line += f'; {output}'
    return line


def _figures(snapshot):
    current, peak = snapshot.traced_memory
    allocated = sum(stat.total_count for stat in snapshot.statistics(
        'lineno', order='total_count'))
    return (f'{format_size(current)} live, {format_size(peak)} at the peak, '
            f'{format_count(allocated)} blocks allocated')


def _top(title, stats, size, count, width):
    return [title] + [_line(stat, getattr(stat, size), getattr(stat, count),
                            width) for stat in stats]


def _line(stat, size, count, width, note=''):
    figures = f'{format_size(size):>10} {format_count(count):>10}  '
    frame = stat.traceback[-1]
    where = printable(name_place(frame.filename, frame.lineno,
                                 frame.function))
    if note:
        where += f' ({note})'
    if width is not None:
        where = shorten(where, max(1, width - len(figures)))
    return figures + where
