"""Sizes as people read them: one function, in the styles of three interfaces.
"""

from collections import namedtuple

_EXACT = 2 ** 53                  # of a float
_UNITS = ('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')

# limit: of the number, from which the next unit is taken; last: the greatest
# unit; whole: rounded towards zero, else '1.5 KiB' up to 100.
Style = namedtuple('Style', 'limit last whole')
REPORT = Style(1000, 'EiB', False)
STOCK = Style(10 * 1024, 'TiB', False)     # the standard library's tracemalloc
TEXT = Style(5 * 1024, 'TiB', True)        # tracemalloctext


def format_size(size, sign=False, style=REPORT):
    """Return '812 B', '1.5 KiB', '-3.0 MiB'; with *sign*, '+' if positive."""
    for unit in _UNITS:
        if abs(size) < style.limit or unit == style.last:
            break
        # A size in a file may be more than a float can be.
        size = size // 1024 if abs(size) > _EXACT else size / 1024
    if style.whole:
        size = int(size)
    fraction = unit != 'B' and abs(size) < 100
    digits = '' if isinstance(size, int) else f'.{fraction:d}f'
    return f'{size:{"+" if sign else ""}{digits}} {unit}'
