"""How a group is named, in one string or in fields, and its values.

The fields are those of JSON, and the columns of CSV, in this order.
"""

from pytracemalloc.measures import KEYS
from tracemalloc.places import name_group
from tracemalloc.statistic import MEASURES

_FRAME = ('filename', 'lineno', 'function')
_FIELDS = {'line': _FRAME, 'file': ('filename',),
           'function': ('filename', 'function', 'first_lineno'),
           'type+line': ('type', 'filename', 'lineno')}


def key_text(stat, by):
    """Return the names as they are: one line, if they are of one."""
    return name_group(stat, KEYS[by])


def key_fields(by):
    """Return the names of the fields."""
    return _FIELDS.get(by, (by,))


def key_values(stat, by):
    """Return the values of the fields, as JSON can hold them."""
    if by == 'line':
        return _frame(stat.traceback[-1])
    if by == 'traceback':
        return ([dict(zip(_FRAME, _frame(frame)))
                 for frame in stat.traceback],)
    return stat.key if by in ('function', 'type+line') else (stat.key,)


def _frame(frame):
    return frame.filename, frame.lineno, frame.function


def value_columns(subject):
    """Return (names for the output, attributes) of all the values."""
    if subject.old is None:
        return MEASURES, MEASURES
    size, count = subject.measure.size, subject.measure.count
    return ((size, f'{size}_diff', count, f'{count}_diff'),
            ('size', 'size_diff', 'count', 'count_diff'))
