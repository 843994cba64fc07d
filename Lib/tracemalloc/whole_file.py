"""Files that appear under their name only when they are complete: snapshots
and reports.

A file is written without a name, in the directory where it will be, so that
nothing stays behind if the process is killed.  Where the file system has no
such files, it is written under a unique name, which remove_abandoned() finds.
Then it is renamed.  Whatever is at its name is replaced, even a link: somebody
who can create a link in a shared directory must not decide which file is
overwritten.

Pipes and devices are written to, not replaced, if they belong to this user or
root; so is everything that names in /dev and /proc stand for, such as
/dev/stdout.  A pipe that belongs to somebody else could block for ever.
"""

import os
import re
import stat
from contextlib import contextmanager, suppress

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNNAMED = getattr(os, 'O_TMPFILE', 0)
_OPEN_FILES = '/proc/self/fd'
_TEMPORARY = re.compile(r'(.+)\.[0-9a-f]{16}\.tmp', re.DOTALL)
_DIRECTORY = getattr(os, 'O_PATH', os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def is_special(path):
    """True if it is written to instead of replaced; so is an open
    descriptor."""
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
        # Keep what an open file already holds.
        return os.dup(int(number))
    return os.open(path, flags)


@contextmanager
def create(path, replace=True):
    """Give a descriptor to write to.  When the statement ends, the file
    replaces what is at *path*; without *replace*, an existing *path* raises
    FileExistsError then.

    A file of the same user that is replaced passes on its mode; else the umask
    decides.
    """
    directory, name = os.path.split(os.fsdecode(path))
    folder = os.open(directory or os.curdir, _DIRECTORY)
    try:
        start = os.fsdecode(os.fsencode(name)[:200])
        temporary = f'{start}.{os.urandom(8).hex()}.tmp'
        number = _open_unnamed(folder)
        named = number is None
        if named:
            number = _open_named(temporary, folder)
        try:
            try:
                yield number
                _keep_mode(number, name, folder)
                os.fsync(number)
                if not named:
                    os.link(f'{_OPEN_FILES}/{number}', temporary,
                            dst_dir_fd=folder)
                    named = True
            finally:
                os.close(number)
            if not replace:       # nor a link that leads nowhere
                os.close(os.open(name, _NEW, dir_fd=folder))
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                if named:
                    os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _open_unnamed(folder):
    """Return a descriptor, or None where there are no files without a name."""
    if _UNNAMED and os.path.isdir(_OPEN_FILES):
        with suppress(OSError):
            return os.open('.', _UNNAMED | os.O_RDWR | os.O_CLOEXEC, 0o666,
                           dir_fd=folder)
    return None


def _open_named(temporary, folder):
    number = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    _lock(number)
    return number


def _lock(number):
    """Return True if nobody else is writing to the file; None: not known."""
    try:
        import fcntl
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def remove_abandoned(path):
    """Remove what killed processes have left of *path*, or of any snapshot in
    its directory."""
    directory, name = os.path.split(os.fsdecode(path))
    with suppress(OSError):
        folder = os.open(directory or os.curdir, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for temporary in os.listdir(folder):
                match = _TEMPORARY.fullmatch(temporary)
                if match and (match[1] == name
                              or match[1].endswith('.tracemalloc')):
                    _remove_if_abandoned(temporary, folder)
        finally:
            os.close(folder)


def _remove_if_abandoned(temporary, folder):
    with suppress(OSError):
        number = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
                         | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(number)
            if (stat.S_ISREG(status.st_mode)
                    and status.st_uid == os.geteuid() and _lock(number)):
                os.unlink(temporary, dir_fd=folder)
        finally:
            os.close(number)


def _keep_mode(number, name, folder):
    with suppress(OSError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(old.st_mode) and old.st_uid == os.geteuid():
            os.fchmod(number, old.st_mode & 0o777)
