"""A Unix socket in the file system: making it, replacing a dead one, removing
it; and who is at the other end of a connection.

A socket that is in the way is dead if nobody is listening on it.  The kernel
says so: it refuses a non-blocking connect(), which never waits, even for a
program that is stopped.  A lock that is held while a program runs would say
the same.  But its file stays behind when a program is killed, and children
that C code has forked go on holding it.

Whoever makes or removes PATH holds PATH.lock meanwhile.  Otherwise two
programs that start at once find the same dead socket, and the second removes
the new socket of the first.
"""

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import struct
import time

_PEER = struct.Struct('iII')      # SO_PEERCRED: process, user, group
_LOCK_TIME = 2.0                  # seconds to wait for another program
_NAME = re.compile(r'[0-9]{1,10}\.sock')
_MOST_NAMES = 10_000              # of a directory that are looked at
# Follows no link, and waits for nobody to open a FIFO.
_NOTHING_ELSE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


class InUse(OSError):
    """Somebody is listening on the path; *process*: who, None if unknown."""

    def __init__(self, path, process=None):
        text = ('it is the socket of another program' if process is None
                else f'it is the socket of process {process}')
        super().__init__(errno.EADDRINUSE, text, path)
        self.process = process


def peer_of(connection):
    """Return (process, user) of the other end, as the kernel knows them.

    They are as of connect() or listen().  The process is 0 if it cannot be
    seen from here, as from inside a container.
    """
    process, user, _ = _PEER.unpack(connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return process, user


def is_peer(connection, user):
    """True if the other end is *user* or root.  Both ends check this."""
    return peer_of(connection)[1] in (0, user)


def listen(path, backlog):
    """Return (a socket that listens at *path*, its identity for remove()).

    A dead socket of the same user is replaced.  Raise OSError, or InUse.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(path):
            _make_way(path)
            # The mode before there is a name; bind() takes it from here.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(path)
            listener.listen(backlog)
            return listener, _identity(os.lstat(path))
    except OSError as exc:
        listener.close()
        if isinstance(exc, InUse):
            raise
        raise OSError(exc.errno, exc.strerror or str(exc), path) from None
    except BaseException:
        listener.close()
        raise


def remove(path, identity):
    """Remove the socket that listen() has made, if it is still there.

    Its listener must still be open, or another file may have its inode.
    """
    with contextlib.suppress(OSError), _locked(path):
        if _identity(os.lstat(path)) == identity:
            os.unlink(path)


def sweep(directory):
    """Remove this user's sockets PID.sock that nobody is listening on."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory)[:_MOST_NAMES]:
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    _sweep_away(os.path.join(directory, name))


def _sweep_away(path):
    lock = f'{path}.lock'
    number = _try_lock(lock)
    if number is None:            # somebody is just making or removing it
        return
    try:
        _make_way(path)
    finally:
        _unlock(lock, number)


def _identity(status):
    return status.st_dev, status.st_ino


def _make_way(path):
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, 'something other than a socket is there')
    if status.st_uid != os.geteuid():
        raise OSError(errno.EADDRINUSE,
                      f'it is the socket of user {status.st_uid}')
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:           # more wait to be accepted than may
            raise InUse(path) from None
        else:
            raise InUse(path, peer_of(probe)[0] or None)


@contextlib.contextmanager
def _locked(path):
    path = f'{path}.lock'
    end = time.monotonic() + _LOCK_TIME
    while (number := _try_lock(path)) is None:
        if time.monotonic() > end:
            raise OSError(errno.EADDRINUSE, f'{path} is held by another '
                                            f'program, which is stuck')
        time.sleep(0.01)
    try:
        yield
    finally:
        _unlock(path, number)


def _unlock(path, number):
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(number)


def _try_lock(path):
    """Return the descriptor of the file, or None if another has it."""
    number = os.open(path, _NOTHING_ELSE, 0o600)
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(errno.EEXIST, f'{path} is not a file of this user')
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed it after it was opened here.
        if _identity(os.lstat(path)) == _identity(status):
            held, number = number, None
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if number is not None:
            os.close(number)
    return None
