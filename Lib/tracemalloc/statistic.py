"""Statistics of groups of memory blocks, and their differences."""

from collections import namedtuple
from collections.abc import Sequence

from tracemalloc.frames import Frame, Traceback, _format_size

# In the order of the rows of Traces._group().
MEASURES = ('size', 'count', 'total_size', 'total_count',
            'peak_size', 'peak_count', 'garbage_size', 'garbage_count')

# What blocks are grouped by.  type: of Snapshot.statistics(); name: of a
# command's option; title: in words; callers: a block may be charged to the
# callers too; single: groups are made of single blocks, which a snapshot may
# lack.
Key = namedtuple('Key', 'type name plural title callers single')
KEYS = {key.type: key for key in (
    Key('lineno', 'line', 'lines', 'filename and line number', True, False),
    Key('filename', 'file', 'files', 'filename', True, False),
    Key('function', 'function', 'functions', 'function', True, False),
    Key('module', 'module', 'modules', 'module', True, False),
    Key('task', 'task', 'tasks', 'task', False, False),
    Key('type', 'type', 'types', 'type', False, True),
    Key('type+lineno', 'type+line', 'types by line', 'type and line number',
        False, True),
    Key('traceback', 'traceback', 'tracebacks', 'traceback', False, False),
    Key('address', 'address', 'blocks', 'address', False, True),
    Key('domain', 'domain', 'domains', 'domain', False, True),
    Key('native', 'native', 'C functions', 'C function', False, True),
)}


def _average(stat):
    if not stat.count:
        return ""
    return ", average=%s" % _format_size(stat.size / stat.count, False)


class _NamedGroup(Traceback):
    """Traceback of a group whose name is more than a line."""
    __slots__ = ('_name',)

    def __init__(self, frames, name):
        super().__init__(frames)
        self._name = name

    def __str__(self):
        return self._name


class Statistic:
    """Memory allocations of one group.

    size, count: live blocks; total_size, total_count: ever allocated;
    peak_size, peak_count: live at the peak of traced memory; garbage_size,
    garbage_count: freed by the cyclic collector.  None: not known.
    origin: in a snapshot of Snapshot.my_code(), the Frame that allocated most
    of the group, or None if that frame belongs to the group.
    """
    __module__ = 'tracemalloc'
    __slots__ = ('traceback', 'key', 'origin') + MEASURES

    def __init__(self, traceback, size, count, total_size=None,
                 total_count=None, peak_size=None, peak_count=None,
                 garbage_size=None, garbage_count=None, key=None,
                 origin=None):
        self.traceback = traceback
        self.size = size
        self.count = count
        self.total_size = total_size
        self.total_count = total_count
        self.peak_size = peak_size
        self.peak_count = peak_count
        self.garbage_size = garbage_size
        self.garbage_count = garbage_count
        self.key = traceback if key is None else key
        self.origin = origin

    def __hash__(self):
        return hash((self.traceback, self.size, self.count))

    def __eq__(self, other):
        if not isinstance(other, Statistic):
            return NotImplemented
        return (self.traceback == other.traceback
                and self.size == other.size
                and self.count == other.count)

    def __str__(self):
        return ("%s: size=%s, count=%i%s"
                % (self.traceback, _format_size(self.size, False), self.count,
                   _average(self)))

    def __repr__(self):
        return ('<Statistic traceback=%r size=%i count=%i>'
                % (self.traceback, self.size, self.count))

    def _sort_key(self):
        return self.size, self.count, self.traceback._frames


class BlockStatistics(Sequence):
    """A Statistic for each block, largest first, made when asked for."""

    def __init__(self, traces):
        self._traces = traces
        self._order = memoryview(traces._order_blocks()).cast('I')

    def __len__(self):
        return len(self._order)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._make(number) for number in self._order[index]]
        return self._make(self._order[index])

    def __iter__(self):
        return map(self._make, self._order)

    def __eq__(self, other):
        if not isinstance(other, (list, BlockStatistics)):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self):
        return "<BlockStatistics len=%s>" % len(self)

    def __reduce__(self):
        return list, (list(self),)

    def _make(self, number):
        address, frames, size, origin = self._traces._block(number)
        return Statistic(Traceback(frames), size, 1, key=address,
                         origin=_frame(origin))


class StatisticDiff:
    """Difference of the live blocks of one group in two snapshots.

    origin: as in Statistic, but the Frame that has changed most.
    """
    __module__ = 'tracemalloc'
    __slots__ = ('traceback', 'size', 'size_diff', 'count', 'count_diff',
                 'key', 'origin')

    def __init__(self, traceback, size, size_diff, count, count_diff,
                 key=None, origin=None):
        self.traceback = traceback
        self.size = size
        self.size_diff = size_diff
        self.count = count
        self.count_diff = count_diff
        self.key = traceback if key is None else key
        self.origin = origin

    def __hash__(self):
        return hash((self.traceback, self.size, self.size_diff,
                     self.count, self.count_diff))

    def __eq__(self, other):
        if not isinstance(other, StatisticDiff):
            return NotImplemented
        return (self.traceback == other.traceback
                and self.size == other.size
                and self.size_diff == other.size_diff
                and self.count == other.count
                and self.count_diff == other.count_diff)

    def __str__(self):
        return ("%s: size=%s (%s), count=%i (%+i)%s"
                % (self.traceback,
                   _format_size(self.size, False),
                   _format_size(self.size_diff, True),
                   self.count, self.count_diff, _average(self)))

    def __repr__(self):
        return ('<StatisticDiff traceback=%r size=%i (%+i) count=%i (%+i)>'
                % (self.traceback, self.size, self.size_diff,
                   self.count, self.count_diff))

    def _sort_key(self):
        return (abs(self.size_diff), self.size,
                abs(self.count_diff), self.count, self.traceback._frames)


def _frame(frame):
    return None if frame is None else Frame(frame)


def _describe(key_type, key, frames):
    """The traceback and the key of a group."""
    if key_type in ('type', 'domain', 'module', 'native'):
        return _NamedGroup(frames, key), key
    if key_type == 'type+lineno':
        return _NamedGroup(frames, "%s at %s:%s" % key), key
    if key_type == 'traceback':
        traceback = Traceback(frames)
        return traceback, traceback
    return Traceback(frames), key


def statistics(key_type, rows):
    """Make Statistics of rows of Traces._group()."""
    stats = []
    for key, frames, *measures, origin in rows:
        traceback, key = _describe(key_type, key, frames)
        stats.append(Statistic(traceback, *measures, key, _frame(origin)))
    return stats


def paired(old, new):
    """Yield (key, old value, new value) of two dictionaries, with None for a
    missing value."""
    for key, value in new.items():
        yield key, old.get(key), value
    for key, value in old.items():
        if key not in new:
            yield key, value, None


def changed_most(order, old_rows, new_rows):
    """Return {key: origin}, where origin is of the row that has changed most
    in the direction of the whole key; *rows*: by key and origin."""
    place = 2 + MEASURES.index(order)
    changes = {}
    for sign, rows in (-1, old_rows), (1, new_rows):
        for row in rows:
            change = changes.setdefault(row[0], {})
            origin = row[-1]
            change[origin] = change.get(origin, 0) + sign * row[place]
    return {key: (min if sum(change.values()) < 0 else max)(
                change, key=change.get) for key, change in changes.items()}


def compare(key_type, old_rows, new_rows, order='size', origins={}):
    """Make the StatisticDiffs of two lists of rows, largest first.

    *order*: one of MEASURES, the size to compare, with its count.
    *origins*: from changed_most().
    """
    place = 2 + MEASURES.index(order)
    diffs = []
    for key, old, new in paired({row[0]: row for row in old_rows},
                                {row[0]: row for row in new_rows}):
        old_size, old_count = old[place:place + 2] if old else (0, 0)
        size, count = new[place:place + 2] if new else (0, 0)
        traceback, key = _describe(key_type, key, (new or old)[1])
        diffs.append(StatisticDiff(traceback, size, size - old_size,
                                   count, count - old_count, key,
                                   _frame(origins.get(key))))
    diffs.sort(reverse=True, key=StatisticDiff._sort_key)
    return diffs
