"""Read the snapshot files of a command line."""

from pytracemalloc.files import load_snapshot
from pytracemalloc.terminal import say


def read_snapshots(filenames):
    """Yield (filename, snapshot) for each file, in order.

    Say on stderr if the snapshots do not compare well.  Raise CommandError
    for a file that cannot be read.
    """
    first = None
    for filename in filenames:
        snapshot = load_snapshot(filename)
        if first is None:
            first = snapshot
        else:
            _warn(filenames[0], first, filename, snapshot)
        yield filename, snapshot


def _warn(first_name, first, filename, snapshot):
    names = "%s and %s" % (first_name, filename)
    if None not in (first.pid, snapshot.pid) and first.pid != snapshot.pid:
        say("%s are of different processes (%s and %s): differences between "
            "them mean little" % (names, first.pid, snapshot.pid), "warning")
    if first.traceback_limit != snapshot.traceback_limit:
        say("%s have different traceback limits (%s and %s): take both with "
            "the same limit to compare tracebacks"
            % (names, first.traceback_limit, snapshot.traceback_limit),
            "warning")
