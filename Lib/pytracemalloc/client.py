"""The other end of tracemalloc.control's socket."""

import contextlib
import errno
import json
import os
import socket
import stat
import time

from pytracemalloc.errors import CommandError, UsageError

_TIMEOUT = 60.0
_OPT_IN = ('start it with -X tracemalloc_control=PATH or '
           'PYTRACEMALLOC_CONTROL=PATH')


class Client:
    """A connection; a context manager.  Raises CommandError."""

    def __init__(self, path, root=''):
        """*root*: of the program, as its files are named from here."""
        self.path = path
        self.root = root
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT)
        try:
            self._connect(path)
        except OSError as exc:
            self._socket.close()
            raise CommandError(f'{path}: {_reason(exc, path)}') from None
        self._lines = self._socket.makefile('rb')

    @classmethod
    def of(cls, target):
        """Connect to a process id or the path of a socket."""
        if not (target.isascii() and target.isdigit()) or \
                os.path.exists(target):
            if not target:
                raise UsageError('give a process id or the path of a socket')
            return cls(target)
        client = cls(*find_socket(target))
        pid = client.ask('status')['pid']
        if pid != _pid_inside(target):
            client.__exit__()
            raise CommandError(f'process {target} has no control socket of '
                               f'its own; {client.path} is that of process '
                               f'{pid}')
        return client

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


def _reason(exc, path):
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        return 'not a socket; give a process id or the path of a socket'
    if exc.errno == errno.ECONNREFUSED:
        return 'nobody listens; the program that made this socket has ended'
    if exc.errno == errno.ENOENT:
        return f'no such socket; is the program running? {_OPT_IN}'
    if exc.errno == errno.EACCES:
        return 'permission denied: it is the socket of another user'
    return exc.strerror or str(exc)


def find_socket(pid):
    """Return (path of the socket of a process, its root as seen from here).

    The process may be in a container: there it has another root, and another
    process id.
    """
    try:
        path = _option_of(pid) or _variable_of(pid)
        root = f'/proc/{pid}/root'
        if os.path.samefile(root, '/') and os.path.samefile(
                f'/proc/{pid}/ns/mnt', '/proc/self/ns/mnt'):
            root = ''
    except FileNotFoundError:
        raise CommandError(f'there is no process {pid}') from None
    except PermissionError:
        raise CommandError(f'process {pid} belongs to another user; be that '
                           f'user or root') from None
    if path is None:
        raise CommandError(f'process {pid} has no control socket; {_OPT_IN}')
    if os.path.isabs(path):
        path = root + path
    else:
        link = f'/proc/{pid}/cwd'
        path = os.path.join(link if root else os.readlink(link), path)
    if os.path.isdir(path):
        path = os.path.join(path, f'{_pid_inside(pid)}.sock')
    return path, root


def _pid_inside(pid):
    """Return the process id that a process has for itself."""
    try:
        with open(f'/proc/{pid}/status', encoding='utf-8') as file:
            for line in file:
                if line.startswith('NSpid:'):
                    return int(line.split()[-1])
    except OSError:
        pass
    return int(pid)


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
