"""Files that appear whole, for snapshots and reports.

A file is written under a name that nobody else has, in the directory of its
own, and renamed.  What is at its name is replaced, be it a link: who can make
one in a directory for everybody must not decide which file is overwritten.

Written to, not replaced, is what is no file: a pipe or device of one's own or
of root, and all that names in /dev and /proc stand for, such as /dev/stdout.
On a pipe of somebody else one could wait for ever.
"""

import os
import stat
from contextlib import contextmanager, suppress

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = getattr(os, 'O_PATH', os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def is_special(path):
    """True if it is written to; so is an open descriptor."""
    if isinstance(path, int):
        return True
    path = os.fsdecode(path)
    if _stands_for_another(path):
        return os.path.exists(path) and not os.path.isdir(path)
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return (status.st_uid in (0, os.geteuid())
            and stat.S_IFMT(status.st_mode) not in (stat.S_IFREG,
                                                    stat.S_IFLNK,
                                                    stat.S_IFDIR))


def _directory_of(path):
    return os.path.realpath(os.path.dirname(path) or os.curdir)


def _stands_for_another(path):
    try:
        directory = _directory_of(path)
    except (OSError, ValueError):
        return False              # where we are is gone
    return directory == '/dev' or directory.startswith('/proc/')


def open_special(path):
    """Return a descriptor to write to what is_special()."""
    if isinstance(path, int):
        return os.dup(path)
    path = os.fsdecode(path)
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
    if not _stands_for_another(path):
        # What was a pipe can be a link by now.
        return os.open(path, flags | os.O_NOFOLLOW)
    if _directory_of(path) == '/dev' and os.path.islink(path):
        path = os.path.join('/dev', os.readlink(path))
    number = os.path.basename(path)
    if number.isdecimal() and _directory_of(path) == f'/proc/{os.getpid()}/fd':
        # As it was opened: a file may have something in it already.
        return os.dup(int(number))
    return os.open(path, flags)


@contextmanager
def create(path, replace=True):
    """Give a descriptor to write to; what is at *path* is replaced when the
    statement ends, or, without *replace*, is a FileExistsError then.

    The file's mode is that of a file of one's own that it replaces, else that
    of the umask.
    """
    directory, name = os.path.split(os.fsdecode(path))
    folder = os.open(directory or os.curdir, _DIRECTORY)
    try:
        start = os.fsdecode(os.fsencode(name)[:200])
        temporary = f'{start}.{os.urandom(8).hex()}.tmp'
        number = os.open(temporary, _NEW, 0o666, dir_fd=folder)
        try:
            try:
                yield number
                _keep_mode(number, name, folder)
                os.fsync(number)
            finally:
                os.close(number)
            if not replace:       # nor a link that leads nowhere
                os.close(os.open(name, _NEW, dir_fd=folder))
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _keep_mode(number, name, folder):
    with suppress(OSError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(old.st_mode) and old.st_uid == os.geteuid():
            os.fchmod(number, old.st_mode & 0o777)
