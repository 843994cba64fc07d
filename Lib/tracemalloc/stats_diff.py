"""Differences between two groupings of memory blocks."""

import heapq


class StatsDiff:
    """List of differences, (size_diff, size, count_diff, count, key) tuples.

    *old_stats* is None if nothing was compared; the differences of size and
    count are then 0.
    """

    def __init__(self, differences, old_stats, new_stats):
        self.differences = differences
        self.old_stats = old_stats
        self.new_stats = new_stats

    @staticmethod
    def differences_of(stats):
        """List a GroupedStats as differences, where there is no older one."""
        return [(0, size, 0, count, key)
                for key, (size, count) in stats.stats.items()]

    def __len__(self):
        return len(self.differences)

    def sort(self):
        """Sort by |size_diff|, size, |count_diff|, count and key, largest
        first."""
        self.differences.sort(key=_sort_key, reverse=True)

    def top(self, count):
        """Get the *count* first of what sort() would make."""
        return heapq.nlargest(count, self.differences, key=_sort_key)

    def total(self):
        """Sum size_diff, size, count_diff and count over all groups."""
        return add_up(self.differences)


def add_up(differences):
    """Sum size_diff, size, count_diff and count."""
    size_diff = size = count_diff = count = 0
    for row in differences:
        size_diff += row[0]
        size += row[1]
        count_diff += row[2]
        count += row[3]
    return size_diff, size, count_diff, count


class _Key:
    """Key of a group in an order that copes with None beside a name."""

    __slots__ = ("key",)

    def __init__(self, key):
        self.key = key

    def __lt__(self, other):
        try:
            return self.key < other.key
        except TypeError:
            return repr(self.key) < repr(other.key)

    def __eq__(self, other):
        return self.key == other.key


def _sort_key(difference):
    size_diff, size, count_diff, count, key = difference
    return abs(size_diff), size, abs(count_diff), count, _Key(key)
