"""How a group is named, in one string or in fields, and its values.

The fields are those of JSON, and the columns of CSV, in this order.
"""

from pytracemalloc.measures import KEYS
from tracemalloc.places import name_group
from tracemalloc.statistic import MEASURES

_FRAME = ('filename', 'lineno', 'function')
_FIELDS = {'line': _FRAME, 'file': ('filename',),
           'function': ('filename', 'function', 'first_lineno'),
           'task': ('filename', 'function', 'first_lineno'),
           'type+line': ('type', 'filename', 'lineno')}
_ORIGIN = tuple(f'origin_{name}' for name in _FRAME)


def key_text(stat, by):
    """Return the name of the group as text: one line, or the lines of a
    traceback."""
    return name_group(stat, KEYS[by])


def key_fields(subject):
    """Return the names of the fields."""
    fields = _FIELDS.get(subject.by, (subject.by,))
    return (*fields, *_ORIGIN) if subject.view.get('my_code') else fields


def key_values(stat, subject):
    """Return the values of the fields, as JSON can hold them."""
    values = _key_values(stat, subject.by)
    if not subject.view.get('my_code'):
        return values
    return (*values, *(_frame(stat.origin) if stat.origin else
                       [None] * len(_ORIGIN)))


def _key_values(stat, by):
    if by == 'line':
        return _frame(stat.traceback[-1])
    if by == 'traceback':
        return ([dict(zip(_FRAME, _frame(frame)))
                 for frame in stat.traceback],)
    return (stat.key if by in ('function', 'task', 'type+line')
            else (stat.key,))


def _frame(frame):
    return frame.filename, frame.lineno, frame.function


def value_columns(subject):
    """Return (names for the output, attributes) of all the values."""
    if subject.old is None:
        return MEASURES, MEASURES
    size, count = subject.measure.size, subject.measure.count
    return ((size, f'{size}_diff', count, f'{count}_diff'),
            ('size', 'size_diff', 'count', 'count_diff'))
