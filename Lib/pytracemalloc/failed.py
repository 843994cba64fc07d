"""The request for memory that failed, where a tree was written at one: in
words.

A file may say anything of it: what cannot be read is not told.
"""

from collections import namedtuple

from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

KEY = 'failed_request'            # in the metadata of a snapshot
_DOMAINS = 'object', 'memory', 'raw', 'external'
_REASONS = None, 'address limit', 'data limit', 'machine'
_LIMITS = {'address limit': ('address_limit', 'address space'),
           'data limit': ('data_limit', 'data')}
_NO_LIMIT = 2 ** 64 - 1
_MOST_FRAMES = 10

# stack: (filename, lineno, function), oldest first; depth: frames that it had.
_Request = namedtuple('_Request', 'size reason limits stack depth')


def describe(failure, time):
    """Return what a file says of a request, as plain data."""
    frames = reversed(failure['stack'])
    stack = [{'filename': frame.filename, 'lineno': frame.lineno,
              'function': frame.function} for frame in frames]
    limits = {name: None if failure[name] == _NO_LIMIT else failure[name]
              for name in ('address_limit', 'data_limit')}
    return {'time': time, 'number': failure['number'],
            'size': failure['size'], 'reason': _REASONS[failure['reason']],
            'domain': _DOMAINS[failure['kind'] % len(_DOMAINS)], **limits,
            'address_space': failure['address_space'],
            'data': failure['data'], 'machine': failure['machine'],
            'depth': failure['depth'], 'stack': stack}


def line(snapshot):
    """Return a line on the request that failed, '' if none did."""
    request = _find(snapshot)
    if request is None:
        return ''
    place = ''
    if request.stack:
        place = f' at {name_place(*request.stack[-1])}'
    if not request.size:
        return printable(f'MemoryError raised{place} (no request to an '
                         f'allocator of Python has failed)')
    return printable(f'MemoryError: {format_size(request.size)} could not be '
                     f'allocated{place} ({_reason(request)})')


def stack(snapshot):
    """Return the newest frames of its stack, as lines."""
    request = _find(snapshot)
    if request is None or len(request.stack) < 2:
        return []
    shown = request.stack[-_MOST_FRAMES:]
    lines = ['Stack of the request that failed, most recent call last:']
    if left := request.depth - len(shown):
        lines.append(f'  {left:,} older frame{"s" if left != 1 else ""}')
    return lines + [printable(f'  {name_place(*frame)}') for frame in shown]


def _reason(request):
    if request.reason == 'machine':
        return (f'the machine has {format_size(request.limits["machine"])} '
                f'with swap')
    if request.reason not in _LIMITS:
        return 'no limit that the process can see'
    name, what = _LIMITS[request.reason]
    limit = request.limits[name]
    verb = 'is less' if request.size > limit else 'reached'
    return f'limit of {what} {format_size(limit)} {verb}'


def _find(snapshot):
    try:
        found = snapshot.metadata[KEY]
        stack = [(_text(frame['filename']), _number(frame['lineno']),
                  _text(frame['function'] or '')) for frame in found['stack']]
        reason = found['reason']
        names = [_LIMITS[reason][0]] if reason in _LIMITS else (
            ['machine'] if reason == 'machine' else [])
        limits = {name: _number(found[name]) for name in names}
        return _Request(_number(found['size']), reason, limits, stack,
                        max(_number(found['depth']), len(stack)))
    except (KeyError, TypeError, AttributeError):
        return None


def _number(value):
    if type(value) is not int or value < 0:
        raise TypeError('not a number')
    return value


def _text(value):
    if type(value) is not str:
        raise TypeError('not a text')
    return value
