"""How a Statistic's group is named, in one string or in fields, and its
values."""

from pytracemalloc.measures import COLUMNS


def key_text(stat, by):
    """Return the names as they are: one line, if they are of one."""
    if by in ('line', 'traceback'):
        # Oldest first, as a traceback is read.
        return ' > '.join(_frame_text(frame) for frame in stat.traceback)
    if by == 'file':
        return stat.traceback[-1].filename
    if by == 'address':
        return f'0x{stat.key:x}'
    if by == 'function':
        filename, function, lineno = stat.key
        return f'{filename}:{lineno} in {function}'
    key = stat.key if isinstance(stat.key, tuple) else (stat.key,)
    return ':'.join(map(str, key))


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


def _frame_text(frame):
    text = f'{frame.filename}:{frame.lineno}'
    if frame.function:
        text += f' in {frame.function}'
    return text


def value_columns(subject):
    """Return (names for the output, attributes) of all the values."""
    if subject.old is None:
        return COLUMNS, COLUMNS
    size, count = subject.measure.size, subject.measure.count
    return ((size, f'{size}_diff', count, f'{count}_diff'),
            ('size', 'size_diff', 'count', 'count_diff'))
