"""The next highest moments: when memory was nearly at its peak for another
reason, and which lines held more at that time."""

from collections import namedtuple
from datetime import datetime

from pytracemalloc.terminal import shorten
from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

_SITES = 3
_LEAST = .01                      # of the moment, for a line

# timestamp: when it was; size: traced memory; part: of the peak; more: lines
# that held more than at the peak, as StatisticDiff, the largest first.
_Moment = namedtuple('_Moment', 'timestamp size part more')


def find(snapshot):
    """Return the next highest moments of a snapshot, the highest first."""
    # Not snapshot.peaks, which has a tree of each.
    (_, highest), *others = snapshot._peaks or [(None, None)]
    return [_Moment(datetime.fromtimestamp(timestamp), size,
                    size / max(1, highest), more)
            for (timestamp, size), more
            in zip(others, snapshot._more_than_at_peak())]


def lines(snapshot, width=None):
    """Show them, as lines; none if there are none."""
    try:
        moments = find(snapshot)
    except MemoryError:
        return []
    if not moments:
        return []
    found = ['Next highest moments, and what held more than at the peak:']
    for moment in moments:
        found.append(f'{format_size(moment.size):>10} at '
                     f'{_format_time(moment, snapshot)}, '
                     f'{_format_part(moment.part)} of the peak')
        found += [_line(stat, width) for stat in moment.more[:_SITES]
                  if stat.size_diff >= _LEAST * moment.size]
    return found


def brief(moment, snapshot):
    """Say it in one line."""
    text = (f'{format_size(moment.size)} at {_format_time(moment, snapshot)}')
    if moment.more:
        stat = moment.more[0]
        text += f', {format_size(stat.size_diff, sign=True)} at {_place(stat)}'
    return text


def _format_part(part):
    return f'{100 * part:.0f} %'


def _format_time(moment, snapshot):
    taken = snapshot.timestamp
    same = taken is not None and taken.date() == moment.timestamp.date()
    return moment.timestamp.strftime('%H:%M:%S' if same else
                                     '%Y-%m-%d %H:%M:%S')


def _place(stat):
    frame = stat.traceback[-1]
    return printable(name_place(frame.filename, frame.lineno, frame.function))


def _line(stat, width):
    figures = f'{format_size(stat.size_diff, sign=True):>21}  '
    place = _place(stat)
    if width is not None:
        place = shorten(place, max(1, width - len(figures)))
    return figures + place
