"""Read the snapshot files of a command line."""

import sys

from tracemalloc import Snapshot
from tracemalloc.printable import printable
from tracemalloctext.progress import Progress


class Failure(Exception):
    """One line for the user: what, where and what to do."""


def read_snapshots(filenames):
    """Yield (filename, snapshot) for each file, in order.

    Say on stderr if the snapshots do not compare well.  Raise Failure for a
    file that cannot be read.
    """
    first = None
    for number, filename in enumerate(filenames, 1):
        message = "loading %s (%s of %s)" % (filename, number, len(filenames))
        with Progress(message):
            snapshot = _load(filename)
        if first is None:
            first = snapshot
        else:
            _warn(filenames[0], first, filename, snapshot)
        yield filename, snapshot


def _load(filename):
    try:
        return Snapshot.load(filename)
    except OSError as exc:
        raise Failure("%s: %s; give the name of a snapshot file" % (
            filename, exc.strerror or exc)) from None
    except ValueError as exc:
        raise Failure(str(exc)) from None
    except MemoryError:
        raise Failure("%s: not enough memory to load it; close other programs"
                      % filename) from None


def _warn(first_name, first, filename, snapshot):
    if None not in (first.pid, snapshot.pid) and first.pid != snapshot.pid:
        _say("%s and %s are of different processes (%s and %s): differences "
             "between them mean little"
             % (first_name, filename, first.pid, snapshot.pid))
    if first.traceback_limit != snapshot.traceback_limit:
        _say("%s and %s have different traceback limits (%s and %s): take "
             "both with the same limit to compare tracebacks"
             % (first_name, filename, first.traceback_limit,
                snapshot.traceback_limit))


def _say(text):
    print("warning: " + printable(text), file=sys.stderr)
