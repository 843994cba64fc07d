"""The other end of tracemalloc.control's socket."""

import contextlib
import errno
import json
import os
import socket
import time

from pytracemalloc.errors import CommandError, UsageError

_TIMEOUT = 60.0
_OPT_IN = ('start it with -X tracemalloc_control=PATH or '
           'PYTRACEMALLOC_CONTROL=PATH')


class Client:
    """A connection; a context manager.  Raises CommandError."""

    def __init__(self, path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT)
        try:
            self._connect(path)
        except OSError as exc:
            self._socket.close()
            raise CommandError(f'{path}: {_reason(exc)}') from None
        self._lines = self._socket.makefile('rb')

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._lines.close()
        self._socket.close()

    def _connect(self, path):
        end = time.monotonic() + _TIMEOUT
        while True:
            try:
                self._socket.connect(path)
                return
            except BlockingIOError:       # many want to connect
                if time.monotonic() > end:
                    raise TimeoutError(errno.ETIMEDOUT, 'the program is '
                                       'stuck or stopped') from None
                time.sleep(0.05)

    def ask(self, command, **arguments):
        """Return the answer's dict."""
        request = json.dumps({'command': command, **arguments}).encode()
        try:
            # A server that refuses may have answered and closed already.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(request + b'\n')
            line = self._lines.readline()
        except TimeoutError:
            raise CommandError(f'{self.path}: no answer in {_TIMEOUT:.0f} s; '
                               f'the program is stuck or stopped') from None
        except OSError:
            line = b''
        if not line:
            raise CommandError(f'{self.path}: the program has ended')
        try:
            answer = json.loads(line)
            problem = answer.get('error')
        except (ValueError, AttributeError):
            raise CommandError(f'{self.path}: not a tracemalloc control '
                               f'socket') from None
        if problem:
            raise CommandError(f'{self.path}: {problem}')
        return answer


def _reason(exc):
    if exc.errno == errno.ECONNREFUSED:
        return 'nobody listens; the program that made this socket has ended'
    if exc.errno == errno.ENOENT:
        return f'no such socket; is the program running? {_OPT_IN}'
    if exc.errno == errno.EACCES:
        return 'permission denied: it is the socket of another user'
    return exc.strerror or str(exc)


def find_socket(target):
    """Return the path of the socket for a process id or a path."""
    if not (target.isascii() and target.isdigit()) or os.path.exists(target):
        if not target:
            raise UsageError('give a process id or the path of a socket')
        return target
    try:
        path = _option_of(target) or _variable_of(target)
        directory = os.readlink(f'/proc/{target}/cwd')
    except FileNotFoundError:
        raise CommandError(f'there is no process {target}') from None
    except PermissionError:
        raise CommandError(f'process {target} belongs to another user'
                           ) from None
    if path is None:
        raise CommandError(f'process {target} has no control socket; '
                           f'{_OPT_IN}')
    path = os.path.join(directory, path)
    return (os.path.join(path, f'{target}.sock') if os.path.isdir(path)
            else path)


def _option_of(pid):
    prefix = b'tracemalloc_control='
    arguments = _read(f'/proc/{pid}/cmdline')
    for before, argument in zip([b'', *arguments], arguments):
        if argument.startswith(b'-X' + prefix):
            return os.fsdecode(argument[2 + len(prefix):])
        if before == b'-X' and argument.startswith(prefix):
            return os.fsdecode(argument[len(prefix):])
    return None


def _variable_of(pid):
    prefix = b'PYTRACEMALLOC_CONTROL='
    for entry in _read(f'/proc/{pid}/environ'):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix):])
    return None


def _read(path):
    with open(path, 'rb') as file:
        return file.read().split(b'\0')
