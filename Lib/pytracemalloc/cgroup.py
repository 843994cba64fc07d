"""The memory limit of the cgroup that a process is in, versions 1 and 2."""

from collections import namedtuple
import contextlib
import os

from tracemalloc.sizes import format_size

# directory: of the cgroup; limit: bytes; the rest are names of files.
Limit = namedtuple('Limit', 'directory limit usage_file events_file '
                   'pressure_file control_file')

# What the kernel writes where there is no limit, about 2 ** 63.
_NO_LIMIT = 1 << 60
# Files of each version: limit, usage, events, memory pressure, and the one to
# register for events.
_FILES = {2: ('memory.max', 'memory.current', 'memory.events',
              'memory.pressure', None),
          1: ('memory.limit_in_bytes', 'memory.usage_in_bytes', None, None,
              'cgroup.event_control')}


def find_limit(proc='/proc/self', kills=False):
    """Return the lowest Limit that this process is under, of its own cgroup or
    one above; None: there is none, or it cannot be seen.

    *kills*: not those where the kernel only slows the processes down.
    """
    found = []
    for version, directory, top in _directories(proc):
        while True:
            found += _read_limits(version, directory, kills)
            if directory == top or os.path.dirname(directory) == directory:
                break
            directory = os.path.dirname(directory)
    return min(found, key=lambda limit: limit.limit, default=None)


class Kills:
    """Watches whether the kernel kills a process for lack of memory, from now
    on, or since these counts were taken."""

    def __init__(self, counts=None):
        self.counts = _count_kills() if counts is None else counts

    def evidence(self):
        """Return in words that it has killed in this cgroup; None: it has not,
        or this cannot be seen."""
        for path, count in _count_kills().items():
            if count > self.counts.get(path, count):
                limit = find_limit(kills=True)
                return 'out of memory' + (
                    f': cgroup limit {format_size(limit.limit)} reached'
                    if limit else '')
        return None


def _count_kills():
    counts = {}
    for version, directory, _ in _directories('/proc/self'):
        path = os.path.join(directory, 'memory.events' if version == 2
                            else 'memory.oom_control')
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                if line.startswith('oom_kill '):
                    counts[path] = int(line.split()[1])
    return counts


def read_number(path):
    """Return the number in a file; None: there is none."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _read_limits(version, directory, kills):
    limit, usage, *others = (
        name and os.path.join(directory, name) for name in _FILES[version])
    if read_number(usage) is None:
        return
    slows = [os.path.join(directory, 'memory.high')] if not kills else []
    for path in [limit, *slows]:
        number = read_number(path)
        if number is not None and 0 < number < _NO_LIMIT:
            yield Limit(directory, number, usage, *others)


def _directories(proc):
    """Yield (version, the directory of the process, the mount point)."""
    try:
        with open(os.path.join(proc, 'cgroup')) as file:
            groups = [line.rstrip('\n').split(':', 2) for line in file]
        with open(os.path.join(proc, 'mountinfo')) as file:
            mounts = [line.split() for line in file]
    except (OSError, UnicodeDecodeError):
        return
    paths = {}
    for group in groups:
        if len(group) == 3 and group[2].startswith('/'):
            _, controllers, path = group
            if not controllers:
                paths[2] = path
            elif 'memory' in controllers.split(','):
                paths[1] = path
    for fields in mounts:
        version, top, root = _memory_mount(fields)
        if version in paths:
            path = paths[version]
            # In a cgroup namespace only the top is visible.
            below = (os.path.relpath(path, root)
                     if os.path.commonpath([path, root]) == root
                     and '..' not in path.split('/') else '.')
            yield version, os.path.normpath(os.path.join(top, below)), top


def _memory_mount(fields):
    """Return (version, mount point, root of the mount) of a line."""
    try:
        kind, _, options = fields[fields.index('-', 6) + 1:][:3]
        root, top = map(_unescape, fields[3:5])
    except (ValueError, IndexError):
        return None, None, None
    if kind == 'cgroup2':
        return 2, top, root
    if kind == 'cgroup' and 'memory' in options.split(','):
        return 1, top, root
    return None, None, None


def _unescape(text):
    """Spaces and the like are octal numbers there."""
    parts = text.split('\\')
    return parts[0] + ''.join(chr(int(part[:3], 8)) + part[3:]
                              for part in parts[1:])
