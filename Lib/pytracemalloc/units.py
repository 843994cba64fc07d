"""Sizes and counts, read and written as people do."""

import re

from pytracemalloc.errors import UsageError

_ALL_FRAMES = 65535
_SIZE = re.compile(r'\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*', re.IGNORECASE)


def parse_size(text):
    """Return the bytes of '300', '24 MB', '1.5GiB'.

    The prefixes are powers of 1024, with or without the i.
    Raise ValueError for anything else.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f'{text!r} is not a size; write it as 500 KiB, '
                         f'24 MiB or 1.5 GiB')
    power = 'KMGT'.find(match[2].upper()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024 ** power)


def size_option(text):
    """parse_size() for an option of the command line."""
    try:
        return parse_size(text)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def parse_frames(text):
    """Return the argument of tracemalloc.start() for '25', 'full'.

    Raise ValueError for anything else.
    """
    if text == 'full':
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _ALL_FRAMES:
        return int(text)
    raise ValueError(f'{text}: give a number from 1 to {_ALL_FRAMES}, or full')


def format_count(count, sign=False):
    """Return '12,345'; with *sign*, '+12,345'."""
    return f'{count:{"+" if sign else ""},d}'


def format_duration(seconds):
    """Return '12.3 s', '4 min 3 s', '2 h 30 min', '5 d 4 h'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, seconds = divmod(int(seconds), 60)
    if minutes < 60:
        return f'{minutes} min {seconds} s'
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f'{hours} h {minutes} min'
    return f'{hours // 24} d {hours % 24} h'


def format_frames(limit):
    """Return '1 frame', '25 frames', 'all frames' of a traceback limit."""
    if limit == _ALL_FRAMES:
        return 'all frames'
    return f'{limit:,} frame{"s" if limit != 1 else ""}'
