"""A table for the terminal, as wide as the terminal."""

import itertools

from pytracemalloc import arenas, curve, failed, moments, suspects
from pytracemalloc.measures import compare, find_key
from pytracemalloc.reporters import Reporter
from pytracemalloc.reporters.rows import key_text
from pytracemalloc.series import add_up
from pytracemalloc.terminal import shorten, sparkline
from pytracemalloc.units import format_count, format_frames
from pytracemalloc.words import explain, format_losses, format_native
from tracemalloc import native
from tracemalloc.places import NO_TASK, NOT_MINE, name_origin, name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size
from tracemalloc.source_lines import read_lines

_LEFT_OUT = 'left out by the filters'
_ALL_FRAMES = 65535
_ALL = 'record all with -X tracemalloc=full'
_MUCH = .1
_MOST_BLOCKS = 40                 # of a sparkline
_NARROW = 50                      # below it only the first column is left


class TextReporter(Reporter):
    def write(self, subject, file):
        narrow = subject.width is not None and subject.width < _NARROW
        rows, columns = (_difference_rows(subject) if subject.old is not None
                         else live_rows(subject) if subject.series is None
                         else _series_rows(subject))
        lines = table(rows, columns[:1] if narrow else columns, subject.width)
        if subject.by == 'traceback':
            lines = _tracebacks(lines, rows)
        words = explain([text for _, text, _ in rows], subject.by)
        for line in itertools.chain(heading(subject), lines, words,
                                    _moments(subject), _arenas(subject),
                                    _suspects(subject), _failed(subject)):
            file.write(printable(line)[:subject.width] + '\n')


def heading(subject):
    _, plural = find_key(subject.by)
    if subject.title:
        yield subject.title
    snapshot = subject.new
    current, peak = snapshot.traced_memory
    if subject.old is not None:
        before, _ = subject.old.traced_memory
        yield (f'Traced memory: {format_size(current)} '
               f'({format_size(current - before, sign=True)}), '
               f'peak {format_size(peak)}')
        yield from filter(None, [subject.note])
        yield from _view(subject)
        yield (f'Top {subject.count} {plural} by change of '
               f'{_what(subject)}:')
        return
    yield (f'Traced memory: {format_size(current)}, '
           f'peak {format_size(peak)}')
    yield from format_native(snapshot)
    if request := failed.line(snapshot):
        yield request
    for moment in moments.find(subject.shown()):
        yield f'Next highest: {moments.brief(moment, snapshot)}'
    parked = sum(size for _, size in snapshot.freelists.values())
    if parked:
        yield f'On free lists: {format_size(parked)}'
    yield from format_losses(snapshot)
    yield from curve.lines(snapshot, subject.width, subject.unicode)
    yield from filter(None, [subject.note])
    yield from _view(subject)
    if subject.series is not None:
        yield (f'Top {subject.count} {plural} by growth of '
               f'{_what(subject)}:')
        return
    yield f'Top {subject.count} {plural} by {_what(subject)}:'


def _view(subject):
    """Say what is charged to another line than its own, and how to see it."""
    if subject.view.get('my_code'):
        yield 'Charged to the innermost line of my code'
        yield from _few_frames(subject, 'line of my code', NOT_MINE)
        return
    if subject.new.traceback_limit == 1 and (subject.by == 'traceback'
                                             or subject.cumulative):
        yield f'Each traceback has 1 frame; {_ALL}'
    if subject.by == 'task':
        yield from _few_frames(subject, 'task', NO_TASK)
    if subject.by == 'native':
        # Known once the groups have names.
        subject.new.statistics('native')
        yield from native.find_faults()
    if not subject.view.get('unfold', True):
        yield 'Imports are charged to the importing line; --unfold shows them'


def _few_frames(subject, what, rest):
    """Say so if much is of the file *rest*, which more frames may change."""
    limit = subject.new.traceback_limit
    if limit >= _ALL_FRAMES:
        return
    stats = subject.whole.statistics('task' if rest == NO_TASK else 'filename')
    size = sum(stat.size for stat in stats
               if stat.traceback[-1].filename == rest)
    if size > _MUCH * sum(stat.size for stat in stats):
        yield (f'Much of the memory has no {what} in its '
               f'{format_frames(limit)}; {_ALL}')


def _moments(subject):
    """With a report of the peak, the next highest moments."""
    if subject.old is not None or subject.measure.name != 'peak':
        return []
    return moments.lines(subject.shown(), subject.width)


def _failed(subject):
    """Of a tree that was written then, what the failed request was."""
    return [] if subject.old is not None else failed.stack(subject.new)


def _arenas(subject):
    """Of live memory, who owns what is resident."""
    if (subject.old is not None or subject.series is not None
            or subject.measure.name != 'size'):
        return []
    return arenas.lines(subject.whole)


def _suspects(subject):
    """Of several snapshots, where the report is of live memory."""
    if subject.measure.name != 'size':
        return []
    if subject.series is not None:
        pair = subject.series.last, subject.series.first
        new, old = (loaded.passing if subject.is_filtered else loaded.unfolded
                    for loaded in pair)
    elif subject.old is None:
        return []
    elif not subject.is_filtered and subject.unfolded is not None:
        new, old = subject.unfolded, subject.unfolded_old
    else:
        new, old = subject.new, subject.old
    return suspects.lines(new, subject.count, subject.width, old)


def _what(subject):
    callees = ', with callees' if subject.cumulative else ''
    return subject.measure.title + callees


def _text(stat, subject):
    # A traceback has lines of its own.
    return ('' if subject.by == 'traceback'
            else printable(key_text(stat, subject.by) + name_origin(stat)))


def live_rows(subject):
    """Return ([(cells, text, stat)], column titles)."""
    stats = subject.statistics()
    measure = subject.measure
    shown = stats[:subject.count]

    def row(size, count, text, stat=None):
        average = format_size(round(size / count)) if count else '-'
        cells = (format_size(size), format_count(count), average)
        if measure.order == measure.count:
            cells = (cells[1], cells[0], cells[2])
        return cells, text, stat

    rows = [row(getattr(stat, measure.size), getattr(stat, measure.count),
                _text(stat, subject), stat) for stat in shown]
    if not subject.cumulative:
        # By address there are millions, and each would have to be made.
        everything = (subject.new.statistics('domain')
                      if subject.by == 'address' else stats)
        size, count = _sums(everything, measure)
        if len(stats) > len(shown):
            size_shown, count_shown = _sums(shown, measure)
            rows.append(row(size - size_shown, count - count_shown,
                            f'{len(stats) - len(shown):,} more'))
        if subject.is_filtered:
            whole = _sums(subject.whole.statistics(
                'filename', order=measure.order), measure)
            rows.append(row(whole[0] - size, whole[1] - count, _LEFT_OUT))
            size, count = whole
        rows.append(row(size, count, 'total'))
    columns = ['size', 'count', 'average']
    if measure.order == measure.count:
        columns[:2] = 'count', 'size'
    return rows, columns


def _sums(stats, measure):
    return [sum(getattr(stat, name) for stat in stats)
            for name in (measure.size, measure.count)]


def _difference_rows(subject):
    stats = subject.statistics()
    by_count = subject.measure.order == subject.measure.count

    def row(change, size, count_change, count, text, stat=None):
        cells = (format_size(change, sign=True), format_size(size),
                 format_count(count_change, sign=True), format_count(count))
        return cells[2:] + cells[:2] if by_count else cells, text, stat

    def values(stat):
        return stat.size_diff, stat.size, stat.count_diff, stat.count

    def total(stats):
        return map(sum, zip(*map(values, stats)) if stats else [()] * 4)

    changed = [stat for stat in stats[:subject.count]
               if stat.size_diff or stat.count_diff]
    rows = [row(*values(stat), _text(stat, subject), stat)
            for stat in changed]
    if not subject.cumulative:
        others = stats[len(changed):]
        if others:
            rows.append(row(*total(others), f'{len(others):,} more'))
        sums = [*total(stats)]
        if subject.is_filtered:
            whole = [*total(compare(subject.whole_old, subject.whole,
                                    'filename', False, subject.measure))]
            rows.append(row(*map(int.__sub__, whole, sums), _LEFT_OUT))
            sums = whole
        rows.append(row(*sums, 'total'))
    columns = ['change', 'size', 'change', 'count']
    return rows, columns[2:] + columns[:2] if by_count else columns


def _series_rows(subject):
    measure = subject.measure
    by_count = measure.order == measure.count
    format_ = format_count if by_count else format_size
    every = subject.series.rows(measure)
    columns = min(_MOST_BLOCKS, len(subject.series.taken))

    def row(sums, text, stat=None):
        values = sums.counts if by_count else sums.sizes
        cells = (format_(values[-1] - values[0], sign=True),
                 format_(values[-1]),
                 sparkline(_thin(values, columns), columns, subject.unicode))
        return cells, text, stat

    shown = every[:subject.count]
    rows = [row(each, _text(each.stat, subject), each.stat) for each in shown]
    if not subject.cumulative and every:
        if others := every[len(shown):]:
            rows.append(row(add_up(others), f'{len(others):,} more'))
        total = add_up(every)
        if whole := subject.series.whole():
            left = total._replace(**{
                name: [*map(int.__sub__, both, getattr(total, name))]
                for name, both in zip(('sizes', 'counts'), whole)})
            rows.append(row(left, _LEFT_OUT))
            total = add_up([total, left])
        rows.append(row(total, 'total'))
    return rows, ['change', 'count' if by_count else 'size', 'over time']


def _thin(values, columns):
    """Return the highest of each of so many parts of the list."""
    bounds = [len(values) * number // columns for number in range(columns + 1)]
    return [max(values[begin:end]) for begin, end in zip(bounds, bounds[1:])]


def table(rows, titles, width):
    """Return the lines: a title line, then one a row."""
    cells = [titles] + [row[:len(titles)] for row, _, _ in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    texts = [''] + [text for _, text, _ in rows]
    lines = []
    for row, text in zip(cells, texts):
        line = '  '.join(cell.rjust(size) for cell, size in zip(row, widths))
        if width is not None:
            text = shorten(text, max(1, width - len(line) - 2))
        lines.append(f'{line}  {text}'.rstrip())
    return lines


def _tracebacks(lines, rows):
    """Put each traceback, most recent call last, under its figures."""
    sources = read_lines((frame.filename, frame.lineno)
                         for _, _, stat in rows for frame in _frames(stat))
    yield lines[0]
    for line, (_, _, stat) in zip(lines[1:], rows):
        yield line
        for frame in _frames(stat):
            where = name_place(frame.filename, frame.lineno, frame.function)
            yield f'    {where}'
            source = sources.get((frame.filename, frame.lineno))
            if source:
                yield f'        {source}'


def _frames(stat):
    """Return the frames of a traceback; of my code, and who allocated."""
    if stat is None:
        return ()
    return (*stat.traceback, *((stat.origin,) if stat.origin else ()))
