"""How a Statistic's group is named, in one string or in fields, and its
values."""

from pytracemalloc.measures import KEYS
from tracemalloc.places import name_group
from tracemalloc.statistic import MEASURES


def key_text(stat, by):
    """Return the names as they are: one line, if they are of one."""
    return name_group(stat, KEYS[by])


def key_fields(stat, by):
    """Return a dict that JSON can hold."""
    if by == 'line':
        frame = stat.traceback[-1]
        return {'filename': frame.filename, 'lineno': frame.lineno,
                'function': frame.function}
    if by == 'traceback':
        return {'traceback': [
            {'filename': frame.filename, 'lineno': frame.lineno,
             'function': frame.function} for frame in stat.traceback]}
    if by == 'file':
        return {'filename': stat.traceback[-1].filename}
    return {by: stat.key}


def value_columns(subject):
    """Return (names for the output, attributes) of all the values."""
    if subject.old is None:
        return MEASURES, MEASURES
    size, count = subject.measure.size, subject.measure.count
    return ((size, f'{size}_diff', count, f'{count}_diff'),
            ('size', 'size_diff', 'count', 'count_diff'))
