"""Memory over time: notes of a history as a curve, in text or for the page.

A note stands for all of the time since the note before.  The highest value of
that time is the most that was noted or, if the peak of the run has risen
meanwhile, that peak.  So the highest point of the curve is exactly the peak.
"""

from bisect import bisect_left
from collections import namedtuple

from pytracemalloc.terminal import sparkline
from pytracemalloc.units import format_duration
from tracemalloc.sizes import format_size

COLUMNS = 40
_LEAST = 1                        # seconds; a shorter run has no curve
_FIGURES = 44                     # columns beside those of the curve

# highs: the highest traced memory in the time of each note.
Curve = namedtuple('Curve', 'notes highs')


def curve_of(snapshot):
    """Return the Curve of a snapshot; None if it covers only a moment."""
    # The time of a snapshot that is not from a file is unknown.
    notes = getattr(snapshot, 'history', None)
    if not notes or notes[-1].time - notes[0].time < _LEAST:
        return None
    highs = [notes[0].most_traced]
    for before, note in zip(notes, notes[1:]):
        rose = note.peak > before.peak
        highs.append(max(note.most_traced, note.peak if rose else 0))
    return Curve(notes, highs)


def lines(snapshot, width=None, unicode=True):
    """Draw it, as lines; none if there is none.

    *width*: columns of the terminal, None for no terminal.
    """
    curve = curve_of(snapshot)
    if curve is None:
        return []
    notes = curve.notes
    columns = COLUMNS if width is None else min(COLUMNS, width - _FIGURES)
    if columns < 5:
        return []
    resident = [note.most_rss or 0 for note in notes]
    span = notes[-1].time - notes[0].time
    drawn = [f'Memory over time, {format_duration(span)}:',
             _row('traced', curve.highs, notes[-1].traced, notes, columns,
                  unicode)]
    if any(resident):
        drawn.append(_row('resident', resident, notes[-1].rss or 0, notes,
                          columns, unicode))
    if marks := _marks(notes, columns):
        drawn.append(f'{"snapshots":>10}  {marks}')
    return drawn


def _row(title, values, end, notes, columns, unicode):
    drawn = sparkline(spread(values, notes, columns), columns, unicode)
    return (f'{title:>10}  {drawn}  {format_size(end)}, '
            f'at most {format_size(max(values))}')


def spread(values, notes, columns):
    """Return the highest value in each of so many equal parts of the time."""
    times = [note.time for note in notes]
    step = (times[-1] - times[0]) / columns
    highest = []
    for column in range(columns):
        # A note covers the time before it, so the first one after the part
        # counts, too.
        first = bisect_left(times, times[0] + column * step)
        end = bisect_left(times, times[0] + (column + 1) * step)
        highest.append(max(values[first:end + 1] or values[-1:]))
    return highest


def _marks(notes, columns):
    """Return ^ below each snapshot but the last one, which is the end."""
    begin, end = notes[0].time, notes[-1].time
    marks = [' '] * columns
    for note in notes[:-1]:
        if note.snapshots:
            part = (note.time - begin) / (end - begin)
            marks[min(columns - 1, int(part * columns))] = '^'
    return ''.join(marks).rstrip()


def columns_of(snapshot):
    """Return what the page draws and JSON reports have; None: nothing."""
    curve = curve_of(snapshot)
    if curve is None:
        return None
    notes = curve.notes
    return {'time': [round(note.time, 3) for note in notes],
            'traced': [note.traced for note in notes],
            'highest_traced': curve.highs,
            'resident': [note.rss for note in notes],
            'highest_resident': [note.most_rss for note in notes],
            'blocks': [note.blocks for note in notes],
            'collections': [list(note.collections) for note in notes],
            'snapshots': [note.snapshots for note in notes]}
