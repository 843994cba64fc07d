"""Text interface of the tracemalloc module.

DisplayTop shows the biggest allocations of a snapshot; tasks show them, or
write snapshots, while the program runs; python -m tracemalloctext shows and
compares snapshot files.
"""

from tracemalloc import (
    Snapshot, Task, add_exclude_filter, add_filter, add_include_filter,
    cancel_tasks, clear_filters, get_filters, get_tasks, set_traceback_limit)
from tracemalloctext.display_top import DisplayTop
from tracemalloctext.display_top_task import DisplayTopTask
from tracemalloc.grouped_stats import GroupedStats
from tracemalloc.metric import Metric
from tracemalloc.metrics import (
    add_gc_metrics, add_metrics, add_process_memory_metrics,
    add_pymalloc_metrics, add_tracemalloc_metrics, add_unicode_metrics)
from tracemalloc.stats_diff import StatsDiff
from tracemalloctext.take_snapshot_task import TakeSnapshotTask

__all__ = (
    "DisplayTop", "DisplayTopTask", "GroupedStats", "Metric", "Snapshot",
    "StatsDiff", "TakeSnapshotTask", "Task", "add_exclude_filter",
    "add_filter", "add_gc_metrics", "add_include_filter", "add_metrics",
    "add_process_memory_metrics", "add_pymalloc_metrics",
    "add_tracemalloc_metrics", "add_unicode_metrics", "cancel_tasks",
    "clear_filters", "get_filters", "get_tasks", "set_traceback_limit",
)
