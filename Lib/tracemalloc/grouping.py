"""Group the blocks of a snapshot, as Snapshot.top_by() does."""

from tracemalloc.block_stats import BlockStats
from tracemalloc.grouped_stats import GROUPS, GroupedStats, check_group


def group_snapshot(snapshot, group_by, cumulative=False, filters=()):
    """Group the blocks of a snapshot; return a GroupedStats.

    Only the most recent frame counts.  With *cumulative* all frames count, if
    the snapshot has them and the groups are places in the source.
    *filters*: as in Snapshot.statistics().
    """
    check_group(group_by)
    if group_by == "address":
        return BlockStats(snapshot.filter_traces(filters) if filters
                          else snapshot)
    key = GROUPS[group_by]
    cumulative = bool(cumulative and key.callers
                      and snapshot.traceback_limit > 1)
    stats = {stat.key: (stat.size, stat.count)
             for stat in snapshot.statistics(key.type, cumulative,
                                             filters=filters)}
    return GroupedStats(snapshot.timestamp, stats, group_by, cumulative,
                        snapshot.metrics)
