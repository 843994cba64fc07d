"""Memory blocks of a snapshot grouped by one of their properties."""

from tracemalloc.stats_diff import StatsDiff

# Name here -> (key type of Snapshot.statistics(), words of the title,
#               may be cumulative, needs the traces).
GROUPS = {
    "filename": ("filename", "filename", True, False),
    "line": ("lineno", "filename and line number", True, False),
    "address": ("address", "address", False, True),
    "traceback": ("traceback", "traceback", False, False),
    "function": ("function", "function", True, False),
    "module": ("module", "module", True, False),
    "domain": ("domain", "domain", False, True),
    "type": ("type", "type", False, True),
    "type+line": ("type+lineno", "type and line number", False, True),
}


def check_group(group_by):
    """Raise ValueError if there is no such group."""
    if group_by not in GROUPS:
        raise ValueError("unknown group %r: use one of %s"
                         % (group_by, ", ".join(GROUPS)))


def needs_traces(group_by):
    """True if the group is made of single blocks."""
    check_group(group_by)
    return GROUPS[group_by][3]


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
        old = old_stats.stats
        differences = []
        for key, (size, count) in self.stats.items():
            old_size, old_count = old.get(key, (0, 0))
            differences.append((size - old_size, size,
                                count - old_count, count, key))
        for key in old.keys() - self.stats.keys():
            old_size, old_count = old[key]
            differences.append((-old_size, 0, -old_count, 0, key))
        return StatsDiff(differences, old_stats, self)
