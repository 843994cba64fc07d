"""Snapshots of programs that the interpreter of pytracemalloc has traced.

    from pytracemalloc.tracemalloc import Snapshot
    snapshot = Snapshot.load('monday.tracemalloc')

The classes are those of its module tracemalloc, whose reference describes
them; the standard library's module of that name is another one.
"""

from .filters import BaseFilter, DomainFilter, Filter
from .frames import Frame, Trace, Traceback
from .snapshot import CallTree, Snapshot
from .statistic import Statistic, StatisticDiff

__all__ = ['BaseFilter', 'CallTree', 'DomainFilter', 'Filter', 'Frame',
           'Snapshot', 'Statistic', 'StatisticDiff', 'Trace', 'Traceback']
