"""Several snapshots, one after the other: what each group had at each of them.

There may be many snapshots, so they are loaded one at a time, and only their
sums are kept.
"""

from collections import namedtuple

from pytracemalloc.units import format_frames

# traced, peak: bytes; sums: key of a group -> (size, count); whole: the same
# of all groups, with those that filters leave out.
_Taken = namedtuple('_Taken', 'path timestamp pid traced peak sums whole')
# A group: its latest Statistic, and lists of its values, an item for each
# snapshot.
Row = namedtuple('Row', 'stat sizes counts')


class Series:
    """What Subject.series is; add() the snapshots in any order."""

    def __init__(self):
        self.taken = []
        self.first = self.last = None     # Loaded
        self._stats = {}          # key -> (timestamp, Statistic)

    def add(self, path, loaded, subject):
        subject.load(loaded)
        snapshot = loaded.passing
        measure = subject.measure
        sums = {}
        for stat in subject.statistics():
            sums[stat.key] = (getattr(stat, measure.size),
                              getattr(stat, measure.count))
            known = self._stats.get(stat.key)
            if known is None or not _is_later(known[0], snapshot.timestamp):
                self._stats[stat.key] = snapshot.timestamp, stat
        whole = None
        if subject.is_filtered and not subject.cumulative:
            stats = subject.whole.statistics('filename', order=measure.order)
            whole = [sum(getattr(stat, name) for stat in stats)
                     for name in (measure.size, measure.count)]
        self.taken.append(_Taken(path, snapshot.timestamp, snapshot.pid,
                                 *snapshot.traced_memory, sums, whole))
        if self.first is None or _is_later(self.first.passing.timestamp,
                                           snapshot.timestamp):
            self.first = loaded
        if self.last is None or not _is_later(self.last.passing.timestamp,
                                              snapshot.timestamp):
            self.last = loaded

    def finish(self, subject):
        """Put the snapshots in order of time; the subject is the last one."""
        if all(taken.timestamp is not None for taken in self.taken):
            self.taken.sort(key=lambda taken: taken.timestamp)
        subject.load(self.last)
        subject.series = self

    def rows(self, measure):
        """Return the Rows, those that grew most first."""
        rows = []
        for key, (_, stat) in self._stats.items():
            values = [taken.sums.get(key, (0, 0)) for taken in self.taken]
            rows.append(Row(stat, *map(list, zip(*values))))
        by_count = measure.order == measure.count

        def order(row):
            values = row.counts if by_count else row.sizes
            return values[0] - values[-1], -max(values)

        rows.sort(key=order)
        return rows

    def whole(self):
        """Return (sizes, counts) with what filters leave out, or None."""
        if self.taken[0].whole is None:
            return None
        return tuple(map(list, zip(*(taken.whole for taken in self.taken))))


def note_limits(paths, limits):
    """Return what a comparison of snapshots with different limits says."""
    lowest = min(limits)
    if lowest == max(limits):
        return ''
    return (f'Compared at {format_frames(lowest)}, all that '
            f'{paths[limits.index(lowest)]} has')


def _is_later(timestamp, other):
    return (timestamp is not None and other is not None
            and timestamp > other)


def add_up(rows):
    """Return the Row of all of them together."""
    return Row(None, *([sum(values) for values in zip(*column)]
                       for column in (zip(*(row[1:] for row in rows))
                                      if rows else ((), ()))))
