"""The public names of pytracemalloc 0.9.1, and of what came between it and
PEP 454."""

from tracemalloc.display_garbage import DisplayGarbage
from tracemalloc.display_top import DisplayTop
from tracemalloc.process import get_process_memory
from tracemalloc.snapshot_files import TakeSnapshot
from tracemalloc.snapshot_filters import (
    add_exclude_filter, add_filter, add_include_filter, clear_filters,
    get_filters)
from tracemalloc.switch import (
    disable, enable, is_enabled, set_traceback_limit)
from tracemalloc.task import Task, cancel_tasks, get_tasks
from tracemalloc.timer import start_timer, stop_timer

__all__ = (
    "DisplayGarbage", "DisplayTop", "TakeSnapshot", "Task",
    "add_exclude_filter", "add_filter", "add_include_filter", "cancel_tasks",
    "clear_filters", "disable", "enable", "get_filters",
    "get_process_memory", "get_tasks", "is_enabled", "set_traceback_limit",
    "start_timer", "stop_timer", "__version__",
)

__version__ = "1.0.0"
