"""Suspected leaks: sites that grow with the work and do not stop.

The tracer notes what each site holds at moments that are spread evenly over
the work of the program (Python/tracer_growth.c).  The work is measured by the
bytes that were ever allocated.  A site is suspected if, after the start of the
run,

- it has a trend: among all pairs of moments, growth outnumbers shrinkage by
  more than chance would cause once in a thousand sites (the Mann-Kendall test,
  which makes no assumption about the size of temporary blocks);
- it goes on: the median of the last third is higher than that of the second
  third, by at least a quarter of the difference between the first two thirds;
- it does not come back: it never fell by more than half of its growth;
- it matters: it grew by a hundredth of the program's memory.

Growth by imports, tables and a cache that fills up ends; a queue or a pool
shrinks again; temporary blocks have no trend.  Data that a program builds
until it ends grows like a leak: nothing shows that it is needed.  The title
says so.
"""

import math
import time
from bisect import bisect_left, bisect_right
from collections import Counter, namedtuple

from pytracemalloc.terminal import shorten
from pytracemalloc.units import format_count
from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size
from tracemalloc.views import PROGRAM, Files

_START = 1 / 3                    # of the work: imports, tables, warming up
_MOST_INTERVALS = 12
_MOST_MOMENTS = 100               # the tracer notes 33
_LEAST_Z = 3.0                    # once in about a thousand
_LEAST_SHARE = 0.01               # of traced memory at its highest
_LEAST_GROWTH = 4096              # bytes
_GOES_ON = 0.25
_COMES_BACK = 0.5
_IMPORT = '<frozen importlib'
_FIGURES = 23                     # columns
_TITLE = 'Suspected leaks (or data still being built):'

_Moment = namedtuple('_Moment', 'time traced blocks bytes')
_Growth = namedtuple('_Growth', 'grown intervals growing since until')


class Suspect:
    """A line that is suspected.

    place: (filename, lineno, function); caller: the same for the program's own
    line that called the library, or None; size, count: live blocks.
    """

    def __init__(self, place, growth):
        self.place = place
        self.growth = growth
        self.caller = None
        self.size = self.count = 0

    def explain(self):
        grown, intervals, growing, since, until = self.growth
        each = 'each' if growing == intervals else growing
        rate = grown / max(until - since, 0.001)
        rate = (f'{format_size(round(60 * rate))} a minute'
                if until - since >= 60
                else f'{format_size(round(rate))} a second')
        return (f'grew in {each} of {intervals} intervals, {rate}, since '
                f'{_format_time(since, until)}')


def _format_time(since, until):
    form = ('%H:%M:%S' if until - since < 60 else
            '%H:%M' if until - since < 86400 else '%Y-%m-%d %H:%M')
    try:
        return time.strftime(form, time.localtime(since))
    except (OverflowError, OSError, ValueError):
        return 'an unknown time'


def find(snapshot, earlier=None):
    """Return the suspects of a snapshot, those that grew most first.

    *earlier*: another snapshot.  If it is from the same process, consider only
    the time after it; else only sites that held less in it.
    """
    if not _is_growth(snapshot.growth):
        return []
    moments, sites = snapshot.growth
    moments = [_Moment(*moment) for moment in moments]
    same = (earlier is not None and earlier.timestamp is not None
            and earlier.pid == snapshot.pid)
    chosen = _choose(moments, earlier.timestamp.timestamp() if same else None)
    times = [moments[index].time for index in chosen]
    traced = max(moments[index].traced for index in chosen)
    least = max(_LEAST_GROWTH, _LEAST_SHARE * traced)
    found = []
    files = Files(snapshot.program)
    for filename, lineno, function, *sizes in _by_line(sites):
        sizes = [sizes[index] for index in chosen]
        if _is_suspect(sizes, least) and not files.is_import_system(filename):
            found.append(Suspect((filename, lineno, function),
                                 _describe(sizes, times)))
    if found:
        found = _look_at_blocks(found, snapshot, earlier, files)
    return sorted(found, key=lambda suspect: -suspect.growth.grown)


def _is_growth(growth):
    """Check the form: it may come from a file, which may hold anything."""
    try:
        moments, sites = growth
        return (0 < len(moments) <= _MOST_MOMENTS and all(
                    len(moment) == 4 and all(map(_is_number, moment))
                    for moment in moments)
                and all(isinstance(filename, str) and _is_number(lineno)
                        and isinstance(function, str)
                        and len(sizes) == len(moments)
                        and all(map(_is_number, sizes))
                        for filename, lineno, function, *sizes in sites))
    except (TypeError, ValueError, LookupError):
        return False


def _is_number(value):
    return type(value) in (int, float) and 0 <= value < 1 << 62


def _look_at_blocks(found, snapshot, earlier, files):
    """Leave out sites that belong to imports, are filtered out or were as
    large in another run; describe the rest."""
    before = {} if earlier is None else {
        stat.key: stat.size for stat in earlier.statistics('lineno')}
    stats = {stat.key: stat for stat in snapshot.statistics(
        'lineno', order='total_size')}
    suspects = []
    for suspect in found:
        stat = stats.get(suspect.place[:2])
        if stat and (earlier is None or stat.size > before.get(stat.key, 0)):
            suspect.size, suspect.count = stat.size, stat.count
            suspects.append(suspect)
    nodes = snapshot.call_tree().nodes
    imports = _under_imports(nodes)
    callers = {suspect.place[:2]: Counter() for suspect in suspects}
    for index, node in enumerate(nodes):
        place = node[1:3]
        if place in callers and node[5]:
            caller = None if imports[index] else _program_line(
                files, nodes, index)
            callers[place][imports[index], caller] += node[5]
    kept = []
    for suspect in suspects:
        of_blocks = callers[suspect.place[:2]].most_common(1)
        imported, caller = of_blocks[0][0] if of_blocks else (False, None)
        if not imported:
            suspect.caller = caller
            kept.append(suspect)
    return kept


def _under_imports(nodes):
    """Return for each node whether it is below an import."""
    found = []
    for parent, filename, *_ in nodes:
        found.append(filename.startswith(_IMPORT)
                     or parent >= 0 and found[parent])
    return found


def _program_line(files, nodes, index):
    """Return the line of the program that called the library of a node; None
    for a node of the program."""
    if files.category(nodes[index][1]) == PROGRAM:
        return None
    while index >= 0:
        parent, filename, lineno, function, *_ = nodes[index]
        if files.category(filename) == PROGRAM:
            return filename, lineno, function
        index = parent
    return None


def _by_line(sites):
    """Add up the sites of a line, which may be of several functions."""
    lines = {}
    for site in sites:
        filename, lineno, _, *sizes = site
        line = lines.setdefault((filename, lineno), site)
        if line is not site:
            lines[filename, lineno] = [*line[:3],
                                       *map(sum, zip(line[3:], sizes))]
    return lines.values()


def _choose(moments, begin):
    """Return the indexes of the moments that end intervals of about equal
    work, after the time *begin* or after the start."""
    end = moments[-1]
    work = [moment.blocks / (end.blocks + 1) + moment.bytes / (end.bytes + 1)
            for moment in moments]
    if begin is None:
        first = bisect_left(work, work[-1] * _START)
    else:
        first = min(bisect_left([moment.time for moment in moments], begin),
                    len(work) - 1)
    # The end of a program, where its memory is freed, does not count; but a
    # long time without any moment does.
    interval = (work[-1] - work[first]) / _MOST_INTERVALS
    last = max(first, bisect_right(work, work[-1] - interval / 2) - 1)
    if last + 1 < len(work) and work[last + 1] - work[last] > interval:
        last += 1
    chosen = {first, last}
    for number in range(1, _MOST_INTERVALS):
        goal = work[first] + (work[last] - work[first]) * (
            number / _MOST_INTERVALS)
        chosen.add(min(range(first, last + 1),
                       key=lambda index: abs(work[index] - goal)))
    return sorted(chosen)


def _is_suspect(sizes, least):
    grown = sizes[-1] - sizes[0]
    return (grown >= least and _trend(sizes) >= _LEAST_Z and _goes_on(sizes)
            and _fall(sizes) <= _COMES_BACK * grown)


def _describe(sizes, times):
    """Return a _Growth, of the time since it began to grow."""
    start = max(index for index, size in enumerate(sizes)
                if size <= sizes[0])
    sizes, times = sizes[start:], times[start:]
    changes = [after - before for before, after in zip(sizes, sizes[1:])]
    return _Growth(sizes[-1] - sizes[0], len(changes),
                   sum(change > 0 for change in changes), times[0], times[-1])


def _trend(sizes):
    """Return Mann and Kendall's Z."""
    count = len(sizes)
    score = sum((after > before) - (after < before)
                for index, after in enumerate(sizes)
                for before in sizes[:index])
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return (score - (score > 0)) / deviation


def _goes_on(sizes):
    if len(sizes) < 6:
        return False
    third = len(sizes) / 3
    first, second, last = (
        _middle(sizes[round(number * third):round((number + 1) * third)])
        for number in range(3))
    return last > second and last - second >= _GOES_ON * (second - first)


def _middle(sizes):
    return sorted(sizes)[len(sizes) // 2]


def _fall(sizes):
    """Return how far the sizes fell from the highest before."""
    highest = fall = 0
    for size in sizes:
        highest = max(highest, size)
        fall = max(fall, highest - size)
    return fall


def lines(snapshot, count, width=None, earlier=None):
    """Return the suspects as lines with a title, none if there are none.

    *width*: columns of the terminal that they are for, None for no terminal.
    """
    found = find(snapshot, earlier)[:count]
    lines = [_TITLE] * bool(found)
    for suspect in found:
        lines.append(_line(suspect, width))
        if holder := name_holder(suspect, snapshot):
            holder = f'{" " * _FIGURES}held by {holder}'
            lines.append(holder[:width])
    return lines


def _line(suspect, width):
    size = suspect.size or suspect.growth.grown
    count = format_count(suspect.count) if suspect.count else '-'
    figures = f'{format_size(size):>10} {count:>10}'.ljust(_FIGURES)
    where = name_suspect(suspect)
    if width is not None:
        where = shorten(where, max(1, width - len(figures)))
    return figures + where


def name_suspect(suspect):
    """Return place and reason, as a text."""
    where = printable(name_place(*suspect.place))
    if suspect.caller:
        where += f' for {printable(name_place(*suspect.caller))}'
    return f'{where} ({suspect.explain()})'


def name_holder(suspect, snapshot):
    """Return the path that leads to most of what the line allocated, as a
    text; '' if the snapshot has no references, or nobody holds it."""
    if not snapshot.has_references:
        return ''
    filename, lineno, _ = suspect.place
    # Not by re.sub(): a program may have another copy of re than this one.
    pattern = ''.join(f'[{char}]' if char in '*?[' else char
                      for char in filename)
    paths = snapshot.why(site=(pattern, lineno), most=1).paths
    return printable(str(paths[0])) if paths else ''
