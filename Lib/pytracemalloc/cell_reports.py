"""What the magics of IPython show: what a cell did, what the kernel holds."""

import glob
import html
import io

from pytracemalloc.measures import find_key
from pytracemalloc.reporters import Subject
from pytracemalloc.reporters.html import HtmlReporter
from pytracemalloc.reporters.rows import key_text
from pytracemalloc.reporters.text import heading, live_rows
from pytracemalloc.table import Row, Table
from pytracemalloc.units import format_count, format_frames
from tracemalloc.places import NOT_MINE, name_origin
from tracemalloc.sizes import format_size
from tracemalloc.source_lines import read_lines
import tracemalloc

_ALL_FRAMES = 65535
_MUCH = .1
_PAGE_HEIGHT = 600                # pixels


class Group:
    """How a group of a cell's blocks has grown."""

    size = count = peak = 0
    stat = None


def kernel_report(by, top, cells):
    """Return a Table of what lines of my code hold, cells among it."""
    snapshot = tracemalloc.take_snapshot(traces=by == 'type')
    view = snapshot.my_code()
    subject = Subject(new=view, whole=view, by=by, count=top,
                      view={'my_code': True})
    found, columns = live_rows(subject)
    sources = _sources([stat for _, _, stat in found if stat], by)
    rows = [Row(figures, text, '') if stat is None else
            Row(figures, cells.name(text, stat, view.program),
                sources.get(stat.key, '')) for figures, text, stat in found]
    return Table([cells.say(line, view) for line in heading(subject)],
                 columns, rows)


def cell_report(span, by, top, cells, filename):
    """Return a Table of what happened in the cell that is this file."""
    label = cells.label(filename)
    groups = _groups(span, by, filename)
    has_peaks = any(group.peak for group in groups)
    shown, others = groups[:top], groups[top:]
    sources = _sources([group.stat for group in shown], by)
    program = span.collected.program
    rows = [Row(_figures(group, has_peaks),
                cells.name(_name(group.stat, by, label), group.stat, program),
                sources.get(group.stat.key, '')) for group in shown]
    if others:
        rows.append(Row(_figures(_sum(others), has_peaks),
                        f'{len(others):,} more', ''))
    columns = ['left behind', 'blocks', 'at the peak']
    return Table(_lines(span, label, groups), columns[:2 + has_peaks], rows)


def _sum(groups):
    whole = Group()
    for name in 'size', 'count', 'peak':
        setattr(whole, name, sum(getattr(group, name) for group in groups))
    return whole


def _groups(span, by, filename):
    """Return a list of Group, what was largest first."""
    before, after, collected = [
        _view(snapshot, by, filename)
        for snapshot in (span.before, span.after, span.collected)]
    key_type, _ = find_key(by)
    groups = {}
    for diff in collected.compare_to(before, key_type):
        group = groups[diff.key] = Group()
        group.stat = diff
        group.size, group.count = diff.size_diff, diff.count_diff
    if span.is_highest and by != 'type':
        old = {stat.key: stat.size for stat in before.statistics(key_type)}
        for stat in after.statistics(key_type, order='peak_size'):
            group = groups.setdefault(stat.key, Group())
            group.stat = group.stat or stat
            group.peak = max(0, stat.peak_size - old.get(stat.key, 0))
    return sorted((group for group in groups.values()
                   if group.size or group.count or group.peak),
                  key=lambda group: -max(abs(group.size), group.peak))


def _view(snapshot, by, filename):
    if by == 'line':
        # What the cell has called is charged to its lines.
        return snapshot.my_code(('!*', glob.escape(filename)))
    return snapshot.fold_imports()


def _figures(group, has_peaks):
    figures = (format_size(group.size), format_count(group.count),
               format_size(group.peak))
    return figures[:2 + has_peaks]


def _name(stat, by, label):
    if by == 'line' and stat.key[0] == NOT_MINE:
        return f'no line of {label}{name_origin(stat)}'
    return key_text(stat, by) + name_origin(stat)


def _lines(span, label, groups):
    left = (f'{format_size(span.current)} left behind' if span.current >= 0
            else f'{format_size(-span.current)} less than before')
    yield (f'{label}: {format_size(span.peak)} at the peak, {left}, '
           f'{format_count(span.count)} allocations')
    if span.has_started:
        yield ("Tracing was on for this cell only; tracemalloc.start('full') "
               "starts it for the cells that follow")
    elif not span.is_highest:
        yield ('What was live at its peak is not known: traced memory was '
               'higher before')
    limit = span.before.traceback_limit
    total = sum(abs(group.size) for group in groups)
    if limit < _ALL_FRAMES and total and any(
            abs(group.size) > _MUCH * total for group in groups
            if group.stat.key == (NOT_MINE, 0)):
        yield (f'Much has no line of the cell in its {format_frames(limit)}; '
               f"tracemalloc.start('full') records all")


def _sources(stats, by):
    """Return {key: source} of groups that are lines."""
    return read_lines(stat.key for stat in stats) if by == 'line' else {}


class Page:
    """The page of the HTML report, of the kernel or of what a cell changed."""

    def __init__(self, cells, new, old=None):
        title = 'Memory of the kernel' if old is None else 'Memory of a cell'
        # The frames of IPython would be the most of it.
        subject = Subject(new=cells.rename(new), old=old and cells.rename(old),
                          title=title, view={'my_code': True})
        text = io.StringIO()
        HtmlReporter().write(subject, text)
        self._text = text.getvalue()

    def __repr__(self):
        return ('The page is shown in a notebook; elsewhere leave out --html, '
                'or write a snapshot by tracemalloc.take_snapshot().dump()')

    def _repr_html_(self):
        # With a script of its own, which is none of the notebook's.
        return (f'<iframe srcdoc="{html.escape(self._text)}" style="width: '
                f'100%; height: {_PAGE_HEIGHT}px; border: 0"></iframe>')
