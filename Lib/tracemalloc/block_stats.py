"""Single memory blocks of a snapshot, grouped by nothing but their address.

There may be millions of blocks.  Python objects are made only for the few that
are shown, and for all blocks only when two snapshots are compared.
"""

from functools import cached_property

from _tracemalloc_snapshot import _get_biggest_blocks, _get_block_sizes
from tracemalloc.grouped_stats import GroupedStats
from tracemalloc.stats_diff import StatsDiff


class BlockStats(GroupedStats):
    """The GroupedStats of the group 'address'."""

    def __init__(self, snapshot):
        self.timestamp = snapshot.timestamp
        self.group_by = "address"
        self.cumulative = False
        self.metrics = snapshot.metrics
        self.traces = snapshot.traces._traces
        self.number, self.size, _ = _get_biggest_blocks(
            self.traces, 0)

    @cached_property
    def stats(self):
        return _get_block_sizes(self.traces)

    def compare_to(self, old_stats=None):
        if old_stats is None:
            return _Blocks(self)
        return super().compare_to(old_stats)


class _Blocks(StatsDiff):
    """The blocks of one snapshot, compared to nothing."""

    def __init__(self, new_stats):
        self.old_stats = None
        self.new_stats = new_stats

    @cached_property
    def differences(self):
        return StatsDiff.differences_of(self.new_stats)

    def __len__(self):
        return self.new_stats.number

    def total(self):
        return 0, self.new_stats.size, 0, self.new_stats.number

    def top(self, count):
        _, _, blocks = _get_biggest_blocks(self.new_stats.traces,
                                                        count)
        return [(0, size, 0, 1, address) for address, size, _ in blocks]
