"""Filters of every new snapshot that Snapshot.create() makes.

The tracer traces all blocks, so a filter may be added at any time and loses
nothing: it is applied to the copy.
"""

from tracemalloc.filters import Filter

_filters = []


def add_filter(filter):
    """Add a Filter or DomainFilter."""
    if not hasattr(filter, "inclusive"):
        raise TypeError("filter must be a Filter or a DomainFilter, not %s"
                        % type(filter).__name__)
    _filters.append(filter)


def add_include_filter(filename, lineno=None, traceback=False):
    """Keep only blocks allocated in files that match *filename*.

    *filename* is a pattern as in fnmatch.  With *lineno*, only that line; with
    *traceback*, any frame may match, not only the most recent one.  A block is
    kept if any inclusive filter matches it and no exclusive one.
    """
    _filters.append(_make_filter(True, filename, lineno, traceback))


def add_exclude_filter(filename, lineno=None, traceback=False):
    """Leave out blocks allocated in files that match *filename*.

    See add_include_filter() for the arguments.
    """
    _filters.append(_make_filter(False, filename, lineno, traceback))


def get_filters():
    """Get the list of filters."""
    return list(_filters)


def clear_filters():
    """Remove all filters."""
    _filters.clear()


def _make_filter(inclusive, filename, lineno, traceback):
    if not isinstance(filename, str):
        raise TypeError("filename must be a str, not %s"
                        % type(filename).__name__)
    if lineno is not None and lineno < 1:
        lineno = None
    return Filter(inclusive, filename, lineno=lineno, all_frames=traceback)
