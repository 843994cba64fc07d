"""Memory blocks of a snapshot grouped by one of their properties."""

from tracemalloc.statistic import KEYS, paired
from tracemalloc.stats_diff import StatsDiff

# In this interface, files are called filenames.
GROUPS = {key.title if key.name == "file" else key.name: key
          for key in KEYS.values()}


def check_group(group_by):
    """Raise ValueError if there is no such group."""
    if group_by not in GROUPS:
        raise ValueError("unknown group %r: use one of %s"
                         % (group_by, ", ".join(GROUPS)))


def needs_traces(group_by):
    """True if the group is made of single blocks."""
    check_group(group_by)
    return GROUPS[group_by].single


def comparable(stats, other):
    """True if two GroupedStats are grouped in the same way."""
    return (stats.group_by == other.group_by
            and stats.cumulative == other.cumulative)


class GroupedStats:
    """Size and number of memory blocks by group.

    *stats* maps the key of a group to (size, count).  The key is a filename
    for the group 'filename', (filename, lineno) for 'line', an address for
    'address'.
    """

    def __init__(self, timestamp, stats, group_by, cumulative=False,
                 metrics=None):
        check_group(group_by)
        self.timestamp = timestamp
        self.stats = stats
        self.group_by = group_by
        self.cumulative = cumulative
        self.metrics = {} if metrics is None else metrics

    def compare_to(self, old_stats=None):
        """Compute the differences from *old_stats*; return a StatsDiff."""
        if old_stats is None:
            return StatsDiff(StatsDiff.differences_of(self), None, self)
        if not comparable(old_stats, self):
            raise ValueError("groups by %s do not compare to groups by %s"
                             % (self.group_by, old_stats.group_by))
        differences = []
        for key, old, new in paired(old_stats.stats, self.stats):
            old_size, old_count = old or (0, 0)
            size, count = new or (0, 0)
            differences.append((size - old_size, size,
                                count - old_count, count, key))
        return StatsDiff(differences, old_stats, self)
