"""Filters on the traces of a snapshot."""

from collections.abc import Iterable
import fnmatch
import os.path


def _normalize_filename(filename):
    filename = os.path.normcase(filename)
    if filename.endswith('.pyc'):
        filename = filename[:-1]
    return filename


class BaseFilter:
    """A filter; subclasses of one's own define _match(trace)."""
    __module__ = 'tracemalloc'

    def __init__(self, inclusive):
        self.inclusive = inclusive

    def _match(self, trace):
        raise NotImplementedError


class Filter(BaseFilter):
    """Filter by file name pattern and, if given, line and domain."""
    __module__ = 'tracemalloc'

    def __init__(self, inclusive, filename_pattern,
                 lineno=None, all_frames=False, domain=None):
        super().__init__(inclusive)
        self._filename_pattern = _normalize_filename(filename_pattern)
        self.lineno = lineno
        self.all_frames = all_frames
        self.domain = domain

    @property
    def filename_pattern(self):
        return self._filename_pattern

    def _match_filename(self, filename):
        return fnmatch.fnmatch(_normalize_filename(filename),
                               self._filename_pattern)

    def _match_frame_impl(self, filename, lineno):
        return (self._match_filename(filename)
                and (self.lineno is None or lineno == self.lineno))

    def _match_frame(self, filename, lineno):
        return self._match_frame_impl(filename, lineno) ^ (not self.inclusive)

    def _match_traceback(self, traceback):
        frames = traceback if self.all_frames else traceback[:1]
        found = any(self._match_frame_impl(filename, lineno)
                    for filename, lineno in frames)
        return found ^ (not self.inclusive)

    def _match(self, trace):
        domain, size, traceback, total_nframe = trace
        res = self._match_traceback(traceback)
        if self.domain is not None:
            if self.inclusive:
                return res and domain == self.domain
            return res or domain != self.domain
        return res


class DomainFilter(BaseFilter):
    """Filter by the domain of the blocks."""
    __module__ = 'tracemalloc'

    def __init__(self, inclusive, domain):
        super().__init__(inclusive)
        self._domain = domain

    @property
    def domain(self):
        return self._domain

    def _match(self, trace):
        domain, size, traceback, total_nframe = trace
        return (domain == self.domain) ^ (not self.inclusive)


def _native(filter, filenames):
    """The filter as arguments of Traces._filter(), or None."""
    if type(filter) is DomainFilter:
        domain = filter.domain
        if isinstance(domain, int) and domain >= 0:
            return bool(filter.inclusive), None, -1, False, domain
    elif type(filter) is Filter:
        lineno, domain = filter.lineno, filter.domain
        if ((lineno is None or isinstance(lineno, int))
                and (domain is None
                     or isinstance(domain, int) and domain >= 0)):
            possible = lineno is None or 0 <= lineno < 2**31
            matches = bytes([possible and name is not None
                             and filter._match_filename(name)
                             for name in filenames])
            return (bool(filter.inclusive), matches,
                    lineno if possible and lineno is not None else -1,
                    bool(filter.all_frames), domain)
    return None


def _passes(filters, trace):
    include = [f._match(trace) for f in filters if f.inclusive]
    if include and not any(include):
        return False
    return all([f._match(trace) for f in filters if not f.inclusive])


def _listed(filters):
    if not isinstance(filters, Iterable):
        raise TypeError("filters must be a list of filters, not %s"
                        % type(filters).__name__)
    return list(filters)


def divide(traces, filters):
    """Return (filters of blocks, the lines that filters of lines let pass).

    A filter of lines looks at one file and line.  Where a block is
    charged to each line of its traceback, these filters say to which lines.
    The second item is an argument of Traces._group(), or None if there are
    no such filters.
    """
    filenames = traces._filenames()
    blocks, lines = [], []
    for filter in _listed(filters):
        native = _native(filter, filenames)
        by_line = (native is not None and native[1] is not None
                   and not native[3] and native[4] is None)
        (lines if by_line else blocks).append(native if by_line else filter)
    return blocks, traces._filter_lines(lines) if lines else None


def filter_traces(traces, filters):
    """Filter a _tracemalloc_snapshot.Traces."""
    filters = _listed(filters)
    if not filters:
        return traces.copy()
    filenames = traces._filenames()
    native = [_native(f, filenames) for f in filters]
    by_block = None in native or any([f[4] is not None for f in native])
    if by_block and not traces._has_blocks:
        raise ValueError("the snapshot has no traces: filters by domain and "
                         "filters of your own need take_snapshot(traces=True)")
    if None in native:
        return traces._select(bytes([_passes(filters, trace)
                                     for trace in traces]))
    return traces._filter(native)
