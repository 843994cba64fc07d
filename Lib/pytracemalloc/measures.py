"""What a report can be about: live memory, its peak, everything ever."""

from collections import namedtuple

from pytracemalloc.errors import UsageError
from tracemalloc import statistic

# size, count: attributes of a Statistic and columns of a Tree;
# order: the one of the two that the report is sorted by.
Measure = namedtuple('Measure', 'name title size count order')

MEASURES = {measure.name: measure for measure in (
    Measure('size', 'live memory', 'size', 'count', 'size'),
    Measure('count', 'live blocks', 'size', 'count', 'count'),
    Measure('peak', 'memory at the peak', 'peak_size', 'peak_count',
            'peak_size'),
    Measure('total', 'memory ever allocated', 'total_size', 'total_count',
            'total_size'),
    Measure('garbage', 'memory freed by the cyclic collector',
            'garbage_size', 'garbage_count', 'garbage_size'),
)}

# The name on the command line of each key that statistics() groups by.
KEYS = {key.name: key.type for key in statistic.KEYS.values()}
# Keys of single blocks: for live memory only, and never cumulative.
BLOCK_KEYS = tuple(key.name for key in statistic.KEYS.values() if key.single)


def short_key(name):
    """Return the key of a --by argument, which may also be the name that
    statistics() has for it."""
    for short, key_type in KEYS.items():
        if name in (short, key_type):
            return short
    raise UsageError(f'unknown key {name!r}; choose one of '
                     f'{", ".join(KEYS)}')


def find_key(name):
    """Return (key_type of statistics(), plural noun) of a key."""
    key = statistic.KEYS[KEYS[name]]
    return key.type, key.plural


def find_measure(name):
    try:
        return MEASURES[name]
    except KeyError:
        raise UsageError(f'unknown value {name!r} of --what; choose one of '
                         f'{", ".join(MEASURES)}') from None


def compare(old, new, key_type, cumulative, measure, filters=()):
    """Return the list of StatisticDiff of a measure, most changed first."""
    changes = new._compare_to(old, key_type, cumulative, measure.size,
                              filters)
    if measure.order == measure.count:
        changes.sort(key=lambda change: -abs(change.count_diff))
    return changes
