"""What a report can be about: live memory, its peak, everything ever."""

from collections import namedtuple
from operator import attrgetter

from pytracemalloc.errors import UsageError

# size, count: attributes of a Statistic and columns of a Tree;
# order: the one of the two that the report is sorted by.
Measure = namedtuple('Measure', 'name title size count order')

COLUMNS = ('size', 'count', 'total_size', 'total_count', 'peak_size',
           'peak_count', 'garbage_size', 'garbage_count')

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
KEYS = {'line': 'lineno', 'file': 'filename', 'function': 'function',
        'module': 'module', 'type': 'type', 'type+line': 'type+lineno',
        'traceback': 'traceback', 'address': 'address', 'domain': 'domain'}
# Keys of single blocks: only of live memory, and not of callers.
BLOCK_KEYS = ('type', 'type+line', 'address', 'domain')
_PLURALS = {'line': 'lines', 'file': 'files', 'function': 'functions',
            'module': 'modules', 'type': 'types',
            'type+line': 'types by line', 'traceback': 'tracebacks',
            'address': 'blocks', 'domain': 'domains'}


def short_key(name):
    """Return the key of a --by argument, which may be of statistics()."""
    for short, key_type in KEYS.items():
        if name in (short, key_type):
            return short
    raise UsageError(f'unknown key {name!r}; choose one of '
                     f'{", ".join(KEYS)}')


def find_key(name):
    """Return (key_type of statistics(), plural noun) of a key."""
    return KEYS[name], _PLURALS[name]


def find_measure(name):
    try:
        return MEASURES[name]
    except KeyError:
        raise UsageError(f'unknown value {name!r} of --what; choose one of '
                         f'{", ".join(MEASURES)}') from None


def compare(old, new, key_type, cumulative, measure):
    """Return the list of StatisticDiff of a measure, most changed first."""
    if measure.size == 'size':
        changes = new.compare_to(old, key_type, cumulative)
    else:
        changes = _changes(*(snapshot.statistics(key_type, cumulative,
                                                 order=measure.order)
                             for snapshot in (old, new)), measure)
    if measure.order == measure.count:
        changes.sort(key=lambda change: -abs(change.count_diff))
    return changes


def _changes(old, new, measure):
    """Compare the statistics of a measure that compare_to() does not know."""
    from tracemalloc import StatisticDiff
    before = {stat.key: stat for stat in old}
    values = attrgetter(measure.size, measure.count)
    changes = []
    for stat in new:
        size, count = values(stat)
        stat_before = before.pop(stat.key, None)
        size_before, count_before = (0, 0) if stat_before is None \
            else values(stat_before)
        changes.append(StatisticDiff(stat.traceback, size, size - size_before,
                                     count, count - count_before, stat.key))
    for stat in before.values():
        size, count = values(stat)
        changes.append(StatisticDiff(stat.traceback, 0, -size, 0, -count,
                                     stat.key))
    changes.sort(key=lambda change: (-abs(change.size_diff), -change.size,
                                     -abs(change.count_diff)))
    return changes
