"""The output formats: one file each, behind the class Reporter."""

import abc
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.measures import (BLOCK_KEYS, MEASURES, Measure, compare,
                                    find_key)


@dataclass
class Subject:
    """What to show: a snapshot or, with `old`, what has changed since."""

    new: object
    old: object = None
    title: str = ''
    by: str = 'line'
    measure: Measure = field(default=MEASURES['size'])
    count: int = 10
    cumulative: bool = False
    filters: list = ()            # as those of Snapshot.statistics()
    view: dict = field(default_factory=dict)      # of views.view_of()
    whole: object = None          # new and old before filters left blocks
    whole_old: object = None      #   out; they are the same if there were none
    unfolded: object = None       # the same before they were folded
    unfolded_old: object = None
    width: int | None = None      # columns of the terminal, if it is one
    unicode: bool = True          # can what it is for show more than ASCII?
    note: str = ''                # what the reader of a comparison must know
    series: object = None         # of several snapshots; `new` is the last one
    track: Callable = iter        # yields the items of a list, shows how far

    def load(self, new, old=None):
        """Take over what has been loaded from files."""
        self.unfolded, self.whole, self.new = new
        if old is not None:
            self.unfolded_old, self.whole_old, self.old = old

    @property
    def is_filtered(self):
        return bool(self.filters) or self.whole not in (None, self.new)

    def shown(self):
        """Return the new snapshot, filtered."""
        return self._filtered(self.new)

    def tree(self):
        return self._tree(self.new, self.old)

    def unfolded_tree(self):
        """Return the tree with all frames, for a reporter that folds by
        itself.  With filters the tree is folded: filters apply to folded
        snapshots."""
        if self.is_filtered or self.unfolded is None:
            return self.tree()
        return self._tree(self.unfolded, self.unfolded_old)

    def _tree(self, new, old):
        from pytracemalloc.tree import Tree
        if old is not None:
            return Tree.from_difference(self._filtered(old),
                                        self._filtered(new), self.track)
        return Tree.from_snapshot(self._filtered(new), self.track)

    def _filtered(self, snapshot):
        """Return the snapshot of only the blocks in the rows of
        statistics()."""
        if not self.filters:
            return snapshot
        return (snapshot._reached(self.filters) if self.cumulative
                else snapshot.filter_traces(self.filters))

    def statistics(self, every=False):
        """Group, largest first: Statistic, or StatisticDiff if `old`.

        The sizes and counts of a StatisticDiff are those of the measure.
        *every*: groups whose blocks do not count by the measure, too.
        """
        key_type, _ = find_key(self.by)
        order = self.measure.order
        try:
            if self.old is not None:
                return compare(self.old, self.new, key_type, self.cumulative,
                               self.measure, self.filters)
            if not every or self.by in BLOCK_KEYS:
                return self.new.statistics(key_type, self.cumulative, order,
                                           self.filters)
            groups = self.new.statistics(key_type, self.cumulative,
                                         'total_size', self.filters)
        except ValueError as exc:
            raise CommandError(f'{self.title}: {exc}') from None
        groups.sort(key=attrgetter(order), reverse=True)
        return groups


class Reporter(abc.ABC):
    """Writes a Subject in one format; has no state."""

    suffix = '.txt'
    binary = False                # write() takes a file of bytes
    beside = False                # by default goes beside the snapshot

    def check(self):
        """Raise CommandError if the format cannot be written here."""

    @abc.abstractmethod
    def write(self, subject, file):
        """Write the whole report to an open file."""


# Format -> class.  The modules are imported when they are asked for.
_REPORTERS = {'text': 'TextReporter', 'html': 'HtmlReporter',
              'flamegraph': 'FlameGraphReporter', 'pprof': 'PprofReporter',
              'otlp': 'OtlpReporter', 'speedscope': 'SpeedscopeReporter',
              'collapsed': 'CollapsedReporter', 'csv': 'CsvReporter',
              'json': 'JsonReporter', 'heapsnapshot': 'HeapSnapshotReporter',
              'dot': 'DotReporter'}
# Of several snapshots.
SERIES_FORMATS = 'text', 'html', 'json'
# Of one snapshot that has references.
GRAPH_FORMATS = 'heapsnapshot', 'dot'
ALL_FORMATS = tuple(_REPORTERS)
FORMATS = tuple(name for name in ALL_FORMATS if name not in GRAPH_FORMATS)


def find_reporter(name):
    """Return a reporter for the format called *name*."""
    if name not in _REPORTERS:
        raise UsageError(f'unknown format {name!r}; choose one of '
                         f'{", ".join(ALL_FORMATS)}')
    module = importlib.import_module(f'{__name__}.{name}')
    return getattr(module, _REPORTERS[name])()
