"""The other end of pytracemalloc.control's socket.

Everything that arrives is checked before it is used.  The kernel says which
process is listening, and which user it belongs to; the length of an answer and
the time that it may take are limited; its values must have the right types.
"""

import contextlib
import errno
import json
import os
import socket
import stat
import time

from pytracemalloc import c_stacks
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.processes import (describe_denial, pid_inside,
                                     read_entries, root_of, user_of)
from pytracemalloc.unix_socket import is_peer, peer_of

_TIMEOUT = 60.0                   # seconds to connect, and for each answer
_MAX_ANSWER = 1 << 23             # bytes
_MAX_PROBLEM = 1000               # characters of an error that are shown
_MAX_LINKS = 40
_MAX_MOMENTS = 3                  # beside the peak
_SIGN = '/memfd:tracemalloc-control:'         # as control.py names it
OPT_IN = ('start it with -X tracemalloc_control=PATH or '
          'PYTRACEMALLOC_CONTROL=PATH')


class NoSocket(CommandError):
    """A process has no control socket of its own."""


class NotTraceable(CommandError):
    """A process cannot be asked: it does not run our interpreter, or one that
    can be reached only through a socket."""


class Client:
    """A connection; a context manager.  Raises CommandError."""

    def __init__(self, path, root='', process=None, connection=None):
        """*root*: the program's root directory, as seen from here.  *process*:
        its id; the socket must belong to this process.  *connection*: one that
        the process has made; *path* is its name."""
        self.path = path
        self.root = root
        self._received = bytearray()
        if connection is not None:
            self._socket, self.process = connection, process
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            owner = user_of(process) if process else _owner_of(path)
            self._connect(path)
            self.process, user = peer_of(self._socket)
            self._check_peer(process, user, owner)
        except OSError as exc:
            self._socket.close()
            kind = NoSocket if process and _is_gone(exc) else CommandError
            raise kind(f'{path}: {_reason(exc, path)}') from None
        except BaseException:
            self._socket.close()
            raise

    @classmethod
    def of(cls, target):
        """Connect to a process id or the path of a socket."""
        if not (target.isascii() and target.isdigit()) or \
                os.path.exists(target):
            if not target:
                raise UsageError('give a process id or the path of a socket')
            return cls(target)
        return cls(*find_socket(target), int(target))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.close()

    def each(self):
        """Return the clients that this one stands for."""
        return [self]

    def _error(self, text):
        return CommandError(f'{self.path}: {text}')

    def _connect(self, path):
        end = time.monotonic() + _TIMEOUT
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.connect(path)
                return
            except BlockingIOError:       # its queue is full
                if time.monotonic() > end:
                    raise TimeoutError(errno.ETIMEDOUT, 'the program is '
                                       'stuck or stopped') from None
                time.sleep(0.05)

    def _check_peer(self, process, user, owner):
        """Check who is listening before anything is sent: the path may lead to
        any service."""
        if process and self.process != process:
            other = (f'process {self.process}' if self.process
                     else 'a process that cannot be seen from here')
            raise NoSocket(f'process {process} has no control socket of '
                           f'its own; {self.path} is that of {other}')
        if not is_peer(self._socket, owner):
            raise self._error(f'the socket belongs to user {owner}, but '
                              f'user {user} is listening on it')

    def ask(self, command, **arguments):
        """Return the answer's dict."""
        request = json.dumps({'command': command, **arguments}).encode()
        end = time.monotonic() + _TIMEOUT
        try:
            line = self._exchange(request + b'\n', end)
        except TimeoutError:
            raise self._error(f'no answer in {_TIMEOUT:.0f} s; the program '
                              f'is stuck or stopped') from None
        except OSError:
            line = None
        if line is None:
            raise self._error('the program has ended')
        try:
            answer = json.loads(line, parse_constant=_refuse)
            problem = answer.get('error')
            _check(_ANSWERS[command] if problem is None else _PROBLEM, answer)
            if problem is None and command == 'native':
                c_stacks.check(answer)
        except (ValueError, AttributeError, RecursionError):
            raise self._error('not a tracemalloc control socket') from None
        if problem is not None:
            raise self._error(problem[:_MAX_PROBLEM])
        if self.process and 'pid' in answer:
            # A process in a container has another number for itself.
            answer['pid'] = self.process
        if command == 'native':
            return c_stacks.name(answer, self._root_of_files(),
                                 arguments.get('order'))
        return answer

    def _root_of_files(self):
        """Return where the files are that the program names."""
        with contextlib.suppress(OSError):
            return root_of(self.process)
        return self.root

    def _exchange(self, request, end):
        """Send a line and return the next that arrives, None at the end."""
        # A server that refuses us may have answered and closed already.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._limit(end)
            self._socket.sendall(request)
        seen = 0
        while (stop := self._received.find(b'\n', seen)) < 0:
            seen = len(self._received)
            if seen > _MAX_ANSWER:
                raise self._error(f'an answer of more than {_MAX_ANSWER} '
                                  f'bytes; not a tracemalloc control socket')
            self._limit(end)
            data = self._socket.recv(1 << 16)
            if not data:
                return None
            self._received += data
        line = bytes(self._received[:stop])
        del self._received[:stop + 1]
        return line

    def _limit(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


# --- What answers look like

def _is_count(value):
    return type(value) is int and 0 <= value < 1 << 63


def _is_known_count(value):
    return value is None or _is_count(value)


def _is_text(value):
    return isinstance(value, str)


def _is_flag(value):
    return isinstance(value, bool)


def _is_time(value):
    return isinstance(value, (int, float)) and 0 <= value < 1e12


def _is_argv(value):
    return isinstance(value, list) and all(map(_is_text, value))


_ROW = (_is_text, _is_count, _is_count, _is_known_count, _is_known_count,
        _is_known_count)


def _is_rows(value):
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(_ROW)
        and all(check(item) for check, item in zip(_ROW, row))
        for row in value)


_RESIDENT = (_is_text, _is_text, _is_text, _is_count, _is_count)


def _is_resident(value):
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(_RESIDENT)
        and all(check(item) for check, item in zip(_RESIDENT, row))
        for row in value)


def _is_lines(value):
    """A list of [name, bytes]."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and _is_text(row[0])
        and _is_count(row[1]) for row in value)


def _is_files(value):
    """A list of [path, build ID]."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and all(map(_is_text, row))
        for row in value)


def _is_places(value):
    """A list of [number of a file, address in it]."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 2 and all(map(_is_count, row))
        for row in value)


def _is_stacks(value):
    """A list of [numbers of places or None, bytes, blocks]."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == 3
        and (row[0] is None or isinstance(row[0], list)
             and all(map(_is_count, row[0])))
        and all(map(_is_count, row[1:])) for row in value)


def _is_moments(value):
    return isinstance(value, list) and len(value) <= _MAX_MOMENTS and all(
        isinstance(row, list) and len(row) == 3 and _is_time(row[0])
        and _is_count(row[1]) and _is_lines(row[2]) for row in value)


_STATUS = {'pid': _is_count, 'argv': _is_argv, 'tracing': _is_flag,
           'traceback_limit': _is_count, 'current': _is_count,
           'peak': _is_count, 'tracer': _is_count,
           'process': _is_known_count, 'time': _is_time}
_PROBLEM = {'error': _is_text}
_ANSWERS = dict.fromkeys(('status', 'start', 'stop', 'clear', 'reset_peak'),
                         _STATUS)
_ANSWERS |= {'snapshot': {'path': _is_text, 'size': _is_count},
             'serve': {'path': _is_text},
             'arenas': {'size': _is_count, 'used': _is_count,
                        'given_back': _is_known_count, 'lines': _is_lines},
             'peaks': {'next': _is_moments},
             'rss': {'pid': _is_count, 'total': _is_count,
                     'rows': _is_resident, 'notes': _is_argv},
             'statistics': _STATUS | {'groups': _is_count, 'rows': _is_rows},
             'native': _STATUS | {'groups': _is_count, 'files': _is_files,
                                  'places': _is_places,
                                  'stacks': _is_stacks}}


def _check(checks, answer):
    for name, check in checks.items():
        if name not in answer or not check(answer[name]):
            raise ValueError(name)


def _refuse(constant):
    raise ValueError(constant)


# --- Whose a socket is, and where

def _owner_of(path):
    """Return the user whose socket it is; raise if anybody may have put it
    there."""
    owner = os.stat(path).st_uid
    for _ in range(_MAX_LINKS):
        if not os.path.islink(path):
            break
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    directory = os.path.dirname(path) or '.'
    if (owner not in (0, os.geteuid())
            and os.stat(directory).st_mode & stat.S_IWOTH):
        raise PermissionError(errno.EPERM, (
            f'the socket belongs to user {owner}, in a directory that every '
            f'user can write to; run this as that user, or give the process '
            f'id'))
    return owner


def _is_gone(exc):
    return exc.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR)


def _reason(exc, path):
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        return 'not a socket; give a process id or the path of a socket'
    if exc.errno == errno.ECONNREFUSED:
        return 'nobody is listening; the program that made it has ended'
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return f'no such socket; is the program running? {OPT_IN}'
    if exc.errno == errno.EACCES:
        return 'permission denied: the socket belongs to another user'
    return exc.strerror or str(exc)


def find_socket(pid):
    """Return (path of the socket of a process, its root as seen from here).

    The process may be in a container, where it has another root and another
    process id.
    """
    try:
        path = _listens_at(pid) or _option_of(pid) or _variable_of(pid)
        root = root_of(pid)
    except FileNotFoundError:
        raise CommandError(f'there is no process {pid}') from None
    except PermissionError:
        raise CommandError(describe_denial(pid)) from None
    if path is None:
        raise NoSocket(f'process {pid} has no control socket; {OPT_IN}, '
                       f'or let it call pytracemalloc.control.serve()')
    if os.path.isabs(path):
        path = root + path
    else:
        link = f'/proc/{pid}/cwd'
        path = os.path.join(link if root else os.readlink(link), path)
    if os.path.isdir(path):
        path = os.path.join(path, f'{pid_inside(pid)}.sock')
    return path, root


def _listens_at(pid):
    """Return the path of a control socket that the process has open, None if
    there is none.  The name of another open file marks it as one."""
    links = []
    for number in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f'/proc/{pid}/fd/{number}'))
    signs = {link[len(_SIGN):].split()[0] for link in links
             if link.startswith(_SIGN)}
    # Num RefCount Protocol Flags Type St Inode Path
    for line in read_entries(f'/proc/{pid}/net/unix', b'\n'):
        words = line.split(maxsplit=7)
        if (len(words) == 8 and words[7].startswith(b'/')
                and words[6].decode() in signs
                and f'socket:[{words[6].decode()}]' in links):
            return os.fsdecode(words[7])
    return None


def _option_of(pid):
    prefix = b'tracemalloc_control='
    arguments = read_entries(f'/proc/{pid}/cmdline')
    for before, argument in zip([b'', *arguments], arguments):
        if argument.startswith(b'-X' + prefix):
            return os.fsdecode(argument[2 + len(prefix):])
        if before == b'-X' and argument.startswith(prefix):
            return os.fsdecode(argument[len(prefix):])
    return None


def _variable_of(pid):
    prefix = b'PYTRACEMALLOC_CONTROL='
    for entry in read_entries(f'/proc/{pid}/environ'):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix):])
    return None
