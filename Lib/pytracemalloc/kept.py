"""Snapshots of call trees that a process has left.

A traced process may keep its tree in a file that the kernel writes: whatever
ends the process, the file says what was live.  It may also write the tree when
a request for memory fails.  Neither has single blocks.
"""

import contextlib
import datetime
import fcntl
import os
import stat

from pytracemalloc import failed
from pytracemalloc.errors import CommandError
from tracemalloc.printable import printable

KEPT = '.kept'                    # behind the name of the snapshot
OOM = '.oom'                      # in place of its suffix
_MAGIC = b'\x89TRK\r\n\x1a\n'
_GIVE = ('give a file that -X tracemalloc_file or `pytracemalloc run` has '
         'left')
REPLACED = 'ended as another program (os.execv)'
_TRIES = 5                        # while the process runs and changes the file
_FULL = 65535


def is_kept(path):
    """Is the file a kept tree?"""
    with open(path, 'rb', buffering=0) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load(path):
    """Return the snapshot of a kept tree, and what is known of its process.

    Raise CommandError if the file is not a kept tree, or is damaged.
    """
    try:
        with open(path, 'rb', buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise CommandError(f'{path}: not a file; {_GIVE}')
            if not os.fstat(file.fileno()).st_size:
                raise CommandError(f'{path}: the file is empty: no request '
                                   f'for memory has failed; {_GIVE}')
            runs = _is_in_use(file)
            traces, known = _read(file, _TRIES if runs else 1)
    except OSError as exc:
        raise CommandError(f"{path or repr('')}: {exc.strerror or exc}; "
                           f"{_GIVE}") from None
    except ValueError as exc:
        raise CommandError(f'{path}: not a whole call tree: {exc}; '
                           f'{_GIVE}') from None
    known['runs'] = runs
    return _make_snapshot(traces, known), known


def _is_in_use(file):
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _read(file, tries):
    from _tracemalloc_snapshot import _read_kept
    while True:
        file.seek(0)
        image = file.readall()
        tries -= 1
        try:
            return _read_kept(image)
        except ValueError:
            if not tries:
                raise


def _make_snapshot(traces, known):
    from tracemalloc import Snapshot
    snapshot = Snapshot(traces, min(known['limit'], _FULL))
    stats = snapshot.statistics('filename')
    peaks = snapshot.statistics('filename', order='peak_size')
    snapshot.traced_memory = (sum(stat.size for stat in stats),
                              sum(stat.peak_size for stat in peaks))
    snapshot.pid = known['pid']
    with contextlib.suppress(ValueError, OverflowError, OSError):
        snapshot.timestamp = datetime.datetime.fromtimestamp(
            (known['began'] + known['ran']) / 1e9)
    snapshot.metadata = {name: known[name] for name in
                         ('untraced', 'folded', 'pruned') if known[name]}
    snapshot.metadata['recovered'] = {
        'python': known['python'], 'command': name_command(known),
        'incomplete': known['incomplete'], 'missing': known['missing']}
    if known['failure'] is not None:
        time = snapshot.timestamp
        snapshot.metadata[failed.KEY] = failed.describe(
            known['failure'], time and time.isoformat())
    return snapshot


def name_command(known):
    """Return the command line of the process, as text."""
    words = known['command'].rstrip(b'\0').split(b'\0')
    return printable(' '.join(word.decode('utf-8', 'replace')
                              for word in words))


def describe_losses(known):
    """Return what the file lacks, as lines."""
    if not known['incomplete']:
        return []
    missing = known['missing']
    what = f'{missing:,} call paths are' if missing else 'some paths may be'
    return [f'Incomplete: the file could not grow, {what} missing']
