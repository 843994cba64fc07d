"""A Unix socket through which a running program is inspected and controlled.

One request a line, one answer a line, both JSON objects.  A request has
"command" and that command's arguments; an answer has "error", one line, or
the results.  One thread serves all clients, one request after the other.  The
socket is only for root and the user who runs the program: its mode is 0600,
and the user id of the process at the other end is checked.

The allocations of that thread are not traced.
"""

import atexit
import contextlib
import errno
import functools
import io
import os
import re
import socket
import stat
import sys
import time

from _tracemalloc import _hidden
import tracemalloc
from pytracemalloc import c_stacks, unix_socket
from pytracemalloc.errors import reason_of
from pytracemalloc.loop import Loop
from tracemalloc import files     # now: the thread that serves must not
from tracemalloc.places import name_group, name_origin, name_place
from tracemalloc.printable import printable
from tracemalloc.process import read_statm
from tracemalloc.views import view_of
from tracemalloc.whole_file import create

_LINK_TIME = 60.0                 # seconds to wait for a request
_MAX_ANSWER = 1 << 23             # bytes
_MAX_INTEGER = 1 << 31
_MAX_ROWS = 10_000
_MAX_KEEPERS = 10
_MAX_MORE = 3                     # lines of a moment
_LARGEST = 100                    # others held less than 1 % of it
_MAX_PATTERNS, _MAX_PATTERN = 64, 1024
_MAX_PROBLEM = 1000               # characters of an error
_MAX_NESTING = 8                  # of lists and objects in a request
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
SIGN = 'tracemalloc-control:'     # and the inode of the socket


class ControlServer(Loop):
    """Serves the socket at *path* until close()."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        listener, self._identity = unix_socket.listen(self.path,
                                                      self.max_clients)
        # Its name in /proc is how the socket is found, whoever has made it.
        self._sign = os.memfd_create(
            f'{SIGN}{os.fstat(listener.fileno()).st_ino}')
        try:
            super().__init__(listener, 'tracemalloc-control')
        except BaseException:
            os.close(self._sign)
            unix_socket.remove(self.path, self._identity)
            raise
        _servers[self.path] = self
        atexit.register(self.close)

    @_hidden
    def close(self):
        """Stop serving and remove the socket."""
        if self._closing:         # or this is the child of a fork
            return
        unix_socket.remove(self.path, self._identity)
        _servers.pop(self.path, None)
        os.close(self._sign)
        super().close()
        atexit.unregister(self.close)

    def refusal(self, connection):
        if unix_socket.is_peer(connection, os.geteuid()):
            return None
        return _encode({'error': f'the socket belongs to user {os.geteuid()}; '
                                 f'run this as that user or root'})

    def take_request(self, received):
        end = received.find(b'\n')
        if end < 0:
            return None
        line = bytes(received[:end])
        del received[:end + 1]
        return line

    def serve(self, client, request):
        self.answer(client, _answer_bytes(request))

    def problem(self, kind):
        return _encode({'error': {
            'long': f'bad request: longer than {self.max_request} bytes',
            'late': f'bad request: not complete after '
                    f'{self.request_time:.0f} s',
            'full': f'{self.max_clients} clients are connected; end one',
        }[kind]})


_servers = {}                     # of this process, by path
_leave = os._exit


@_hidden                          # and so is the thread that serves
def serve(path):
    """Serve a control socket at *path* from a thread; return its server.

    *path* may be a directory: then the socket is PID.sock in it.  If this
    process already serves that socket, return its server.  Dead sockets are
    removed.  Raise OSError if it cannot be made, as with too long a path.
    """
    if os.path.isdir(path):
        unix_socket.sweep(path)
        path = os.path.join(os.path.abspath(path), f'{os.getpid()}.sock')
        if path in _servers:
            return _servers[path]
    _watch_exit()
    return ControlServer(path)


def _watch_exit():
    """os._exit(), which ends many children, does not call atexit functions."""
    global _leave
    if os._exit is not _exit:
        _leave, os._exit = os._exit, _exit


def _exit(status):
    for server in list(_servers.values()):
        server.close()
    _leave(status)


@_hidden
def _leave_to_parent():
    """In the child of a fork: the sockets are those of the parent."""
    for server in _servers.values():
        os.close(server._sign)
    _servers.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def serve_at_startup(path):
    """serve(), but a problem is one line on stderr.

    Return None if an ancestor of this process has the socket: a *path* that is
    not a directory is meant for the first process.  In a directory, children
    that the program forks have sockets of their own, too.
    """
    if os.path.isdir(path):
        os.register_at_fork(after_in_child=functools.partial(
            _serve_or_say, os.path.abspath(path)))
    _serve_or_say(path)


def _serve_or_say(path):
    try:
        serve(path)
    except (OSError, ValueError, RuntimeError) as exc:
        if isinstance(exc, unix_socket.InUse):
            if exc.process in _ancestors():
                return
            exc.strerror += '; name a directory to have one for each'
        if sys.stderr is not None:
            print(printable(f'tracemalloc: no control socket at {path}: '
                            f'{reason_of(exc)}'), file=sys.stderr)


def _ancestors():
    """Yield the process ids of the parent, its parent and so on."""
    process = os.getppid()
    while process > 0:
        yield process
        try:
            with open(f'/proc/{process}/stat', 'rb') as file:
                process = int(file.read().rpartition(b')')[2].split()[1])
        except (OSError, ValueError, IndexError):
            return


# --- Commands

@_hidden
def answer_link(link):
    """Answer the client at the other end of a connection until it goes.

    *link*: a socket of the module `socket` or `_socket` that only this thread
    uses.
    """
    link.settimeout(_LINK_TIME)
    received = bytearray()
    with contextlib.suppress(OSError):        # it has gone, or sleeps
        while data := link.recv(1 << 16):
            received += data
            while (end := received.find(b'\n')) >= 0:
                line = bytes(received[:end])
                del received[:end + 1]
                link.sendall(_answer_bytes(line))
            if len(received) > Loop.max_request:
                return


def _answer_bytes(line):
    message = answer(line)
    try:
        return _encode(message)
    except Exception as exc:      # no memory, or values that are not ours
        return _encode({'error': _one_line(exc)})


def answer(line):
    """Return the answer to one request; never raise."""
    try:
        command, arguments = _parse(line)
        return command(**arguments)
    except MemoryError:
        return {'error': 'the program does not have enough memory for that'}
    except (OSError, RuntimeError) as exc:
        return {'error': _one_line(exc)}
    except Exception as exc:      # whatever it is, the program goes on
        return {'error': f'bad request: {_one_line(exc)}'}


def _one_line(exc):
    # An exception may have no text.
    return ' '.join(str(exc).split())[:_MAX_PROBLEM] or type(exc).__name__


def _encode(message):
    """Return the bytes of an answer."""
    # Not by the encoders in C: one may crash without memory, and the other if
    # the request is nested and the stack of threads is small.
    data = files._encode(message).encode() + b'\n'
    if len(data) > _MAX_ANSWER:
        return _encode({'error': f'the answer would be longer than '
                                 f'{_MAX_ANSWER} bytes; ask for fewer rows'})
    return data


def _check_nesting(line):
    """The decoder recurses on a stack whose size the program has chosen."""
    depth = 0
    for token in _NESTING.findall(line):
        depth += (token in b'[{') - (token in b']}')
        if depth > _MAX_NESTING:
            raise ValueError('nested too deeply')


def _parse(line):
    """Return (function, its arguments) of a request."""
    _check_nesting(line)
    request = files._decoder.decode(line.decode())
    if not isinstance(request, dict):
        raise ValueError('not a JSON object')
    name = request.pop('command', None)
    if not isinstance(name, str) or name not in COMMANDS:
        raise ValueError(f'unknown command; use one of {", ".join(COMMANDS)}')
    command, types = COMMANDS[name]
    for argument, value in request.items():
        if argument not in types:
            raise ValueError(f'{name} has no argument {argument!r}')
        if not _is_of(types[argument], value):
            raise ValueError(f'{argument} cannot be {_describe(value)}')
    return command, request


def _is_of(types, value):
    # True and False are of type int as well.
    if type(value) not in types:
        return False
    return not isinstance(value, int) or abs(value) < _MAX_INTEGER


def _describe(value):
    if isinstance(value, (list, dict)):
        return 'a list' if isinstance(value, list) else 'an object'
    return files._encode(value)


def _status():
    current, peak = tracemalloc.get_traced_memory()
    memory = read_statm()
    return {'pid': os.getpid(), 'argv': sys.orig_argv,
            'tracing': tracemalloc.is_tracing(),
            'traceback_limit': tracemalloc.get_traceback_limit(),
            'current': current, 'peak': peak,
            'tracer': tracemalloc.get_tracemalloc_memory(),
            'process': memory and memory[0], 'time': time.time()}


def _rss():
    rss = tracemalloc.rss()
    return {'pid': os.getpid(), **rss._plain()}


def _arenas(unfold=False, my_code=False, mine=()):
    """Which lines keep the arenas of small blocks."""
    _check_patterns('mine', mine)
    shown = view_of(tracemalloc.take_snapshot(), unfold, my_code, mine)
    use = shown.arena_use
    return {'size': use.size, 'used': use.used,
            'given_back': use.given_back,
            'lines': [[name_place(line.filename, line.lineno), line.kept]
                      for line in use.lines[:_MAX_KEEPERS]]}


def _peaks(unfold=False, my_code=False, mine=()):
    """The next highest moments, and which lines held more than at the peak."""
    _check_patterns('mine', mine)
    shown = view_of(tracemalloc.take_snapshot(traces=False), unfold, my_code,
                    mine)
    return {'next': [
        [timestamp, size, [[name_group(stat, 'lineno'), stat.size_diff]
                           for stat in more[:_MAX_MORE]]]
        for (timestamp, size), more in zip(
            shown._peaks[1:], shown._more_than_at_peak(_LARGEST))]}


def _start(frames='full', native=False):
    if native or not tracemalloc.is_tracing():
        tracemalloc.start(frames, native=native)
    return _status()


def _stop():
    tracemalloc.stop()
    return _status()


def _clear():
    tracemalloc.clear_traces()
    return _status()


def _reset_peak():
    tracemalloc.reset_peak()
    return _status()


def _serve(path=''):
    """Serve a control socket at *path*, an absolute name."""
    _check_absolute(path)
    return {'path': serve(path).path}


def _snapshot(path='', traces=True, force=False, references=False,
              keys=False, pause=False):
    """Write a snapshot to *path*, an absolute name."""
    _check_absolute(path)
    if not force and os.path.lexists(path):
        raise FileExistsError(f'{path} exists')
    # Where a child can record the references, the program goes on.
    pause = pause or not (references and sys.platform == 'linux')
    try:
        snapshot = tracemalloc.take_snapshot(
            traces=traces, references=references, keys=keys, pause=pause)
    except OSError as exc:
        raise OSError(f'{exc}; add --pause, which needs no child') from None
    return {'path': path, 'size': _write(snapshot, path, force)}


def _check_absolute(path):
    if not os.path.isabs(path):
        raise ValueError(f'{path!r} is not an absolute path')


def _write(snapshot, path, force):
    """Write a file, whole or not at all; return its size."""
    try:
        if force and not stat.S_ISREG(_mode_of(path)):
            raise OSError(errno.EEXIST, 'not a file')
        with create(path, replace=force) as number:
            files._write_native(io.FileIO(number, 'r+', closefd=False),
                                snapshot, files._describe(snapshot))
            return os.fstat(number).st_size
    except OSError as exc:
        raise OSError(f'{path}: {exc.strerror or exc}') from None


def _mode_of(path):
    """Only a regular file is replaced: a link, a FIFO or a device stays."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _statistics(key='lineno', order='size', limit=50, cumulative=False,
                include=(), unfold=False, my_code=False, mine=()):
    """Send the top of Snapshot.statistics(), and the status."""
    if key == 'native':
        # The names of its functions are not looked up in the program.
        raise ValueError('the request `native` has the C stacks')
    by_block = key in ('type', 'type+lineno', 'domain', 'address')
    status, shown, filters = _look(by_block, limit, include, unfold, my_code,
                                   mine)
    # No more objects than rows, so that none of the program's memory is taken
    # for good.
    groups, stats = shown._largest(key, cumulative, order, filters, limit)
    return status | {
        'groups': groups,
        'rows': [[name_group(stat, key) + name_origin(stat), stat.size,
                  stat.count, stat.total_size, stat.total_count,
                  stat.peak_size] for stat in stats]}


def _native(order='size', limit=50, include=(), unfold=False, my_code=False,
            mine=()):
    """Send the C stacks that have the most live memory, and the status."""
    status, shown, filters = _look(True, limit, include, unfold, my_code, mine)
    groups, rows = shown._c_stacks(order, filters, limit)
    return status | {'groups': groups} | c_stacks.pack(rows)


def _look(traces, limit, include, unfold, my_code, mine):
    """Return the status, a view of a snapshot, and filters for it."""
    if not 0 <= limit <= _MAX_ROWS:
        raise ValueError(f'limit must be a number from 0 to {_MAX_ROWS}')
    _check_patterns('include', include)
    _check_patterns('mine', mine)
    snapshot = tracemalloc.take_snapshot(traces=traces)
    # The rows add up to what was traced at the same moment.
    current, peak = snapshot.traced_memory
    current += snapshot.metadata.get('native_memory', 0)
    return (_status() | {'current': current, 'peak': peak},
            view_of(snapshot, unfold, my_code, mine),
            [tracemalloc.Filter(True, name) for name in include])


def _check_patterns(name, patterns):
    if len(patterns) > _MAX_PATTERNS or not all(
            isinstance(pattern, str) and len(pattern) <= _MAX_PATTERN
            for pattern in patterns):
        raise ValueError(f'{name} must be a list of up to {_MAX_PATTERNS} '
                         f'strings of up to {_MAX_PATTERN} characters')


# Name -> (function, types of its arguments).
COMMANDS = {
    'status': (_status, {}),
    'rss': (_rss, {}),
    'arenas': (_arenas, {'unfold': (bool,), 'my_code': (bool,),
                         'mine': (list,)}),
    'peaks': (_peaks, {'unfold': (bool,), 'my_code': (bool,),
                       'mine': (list,)}),
    'start': (_start, {'frames': (int, str), 'native': (bool, int)}),
    'stop': (_stop, {}),
    'clear': (_clear, {}),
    'reset_peak': (_reset_peak, {}),
    'serve': (_serve, {'path': (str,)}),
    'snapshot': (_snapshot, {'path': (str,), 'traces': (bool,),
                             'force': (bool,), 'references': (bool,),
                             'keys': (bool,), 'pause': (bool,)}),
    'statistics': (_statistics, {'key': (str,), 'order': (str,),
                                 'limit': (int,), 'cumulative': (bool,),
                                 'include': (list,), 'unfold': (bool,),
                                 'my_code': (bool,), 'mine': (list,)}),
    'native': (_native, {'order': (str,), 'limit': (int,),
                         'include': (list,), 'unfold': (bool,),
                         'my_code': (bool,), 'mine': (list,)}),
}
