"""Making profiles in another process, so that the memory this takes is not the
program's.

The program writes the snapshot into a file without a name, and a Python of the
same installation makes a profile of it.  The program's wait() does not see
that process.  Where there can be no such process, encode() says so, and the
profile is made here.
"""

import contextlib
import io
import os
import re
import sys

from _tracemalloc import _run_apart

_SECONDS = 60                     # it may take
_PYTHON = re.compile(r'python[\d.]*t?')
_CODE = 'from pytracemalloc.apart import main; main()'
_GZIP = b'\x1f\x8b'


def is_possible():
    """Is there a Python to run?  A program that embeds one does not count."""
    return (sys.platform == 'linux' and bool(sys.executable)
            and _PYTHON.fullmatch(os.path.basename(sys.executable)) is not None
            and os.access(sys.executable, os.X_OK))


def encode(new, old, default, seconds):
    """Return the profile of a snapshot, or of the difference of two; None if
    there is no process that makes it.  The arguments are those of
    pprof.encode(), as far as they are needed."""
    with contextlib.ExitStack() as stack:
        try:
            answer = _new_file(stack)
            files = [_store(snapshot, stack) for snapshot in (new, old)
                     if snapshot is not None]
            argv = (sys.executable, '-I', '-S', '-c', _CODE, default,
                    str(seconds))
            sys.audit('os.posix_spawn', sys.executable, argv, None)
            status = _run_apart(
                tuple(map(os.fsencode, argv)),
                (files[0].fileno(), answer.fileno(),
                 *(file.fileno() for file in files[1:])))
        except (OSError, RuntimeError):
            return None
        answer.seek(0)
        profile = answer.read()
        return profile if status == 0 and profile.startswith(_GZIP) else None


def _new_file(stack):
    number = os.memfd_create('tracemalloc', os.MFD_CLOEXEC)
    file = io.FileIO(number, 'r+')
    # enter_context() would import inspect in 3.15, and leave it behind.
    stack.callback(file.close)
    return file


def _store(snapshot, stack):
    from tracemalloc import files
    file = _new_file(stack)
    files._write_native(file, snapshot, files._describe(snapshot))
    return file


def main():
    """What the other process does.  It reads a snapshot from standard input
    and, for a difference, another from file 2, and writes the profile to
    standard output."""
    import signal
    signal.alarm(_SECONDS)
    default, seconds = sys.argv[1], int(sys.argv[2])
    from pytracemalloc.reporters import pprof
    from pytracemalloc.tree import Tree
    from tracemalloc import Snapshot
    new = Snapshot.load(0)
    old = Snapshot.load(2) if seconds else None
    tree = Tree.from_difference(old, new) if old else Tree.from_snapshot(new)
    profile = pprof.encode(tree, default, new.timestamp, seconds,
                           subtract=old is not None)
    with io.FileIO(1, 'w') as file:
        while profile:
            profile = profile[file.write(profile):]
