"""A Unix socket through which a running program is looked at and steered.

One request a line, one answer a line, both JSON objects.  A request has
"command" and that command's arguments; an answer has "error", one line, or
the results.  One thread serves all clients, one request after the other.  The
socket is only for the user who runs the program: its mode is 0600, and the
user id of the process at the other end is checked.

The thread's own memory is left out of the statistics that it sends.
"""

import fnmatch
import json
import os
import select
import socket
import stat
import struct
import sys
import threading
import time

import tracemalloc

_MAX_REQUEST = 1 << 16            # bytes of a line
_MAX_CLIENTS = 128
_PATIENCE = 10.0                  # seconds for a client to take its answer
_PEER = struct.Struct('3i')       # SO_PEERCRED: pid, uid, gid
_OWN_FILES = (os.path.dirname(__file__) + '/*', json.__path__[0] + '/*',
              socket.__file__, threading.__file__, fnmatch.__file__)


class ControlServer:
    """Serves the socket at *path* until close()."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self._listener = _listen(self.path)
        self._clients = {}        # by file descriptor
        self._thread = threading.Thread(target=self._serve, daemon=True,
                                        name='tracemalloc-control')
        self._thread.start()
        os.register_at_fork(after_in_child=self._forked)

    def close(self):
        """Stop serving and remove the socket."""
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                os.unlink(self.path)
            except OSError:
                pass
            try:
                # Wakes the thread, which close() alone does not.
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()

    def _forked(self):
        # The path is the parent's; only the descriptors are the child's.
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for client in self._clients.values():
            client.socket.close()

    def _serve(self):
        listener = self._listener
        if listener is None:
            return
        number = listener.fileno()
        poll = select.poll()
        poll.register(number, select.POLLIN)
        while self._listener is not None:
            for ready, _ in poll.poll():
                if ready == number:
                    self._accept(listener, poll)
                elif not self._clients[ready].serve():
                    poll.unregister(ready)
                    self._clients.pop(ready).socket.close()
        for client in self._clients.values():
            client.socket.close()

    def _accept(self, listener, poll):
        try:
            connection, _ = listener.accept()
        except OSError:
            if self._listener is not None:
                time.sleep(1)     # out of file descriptors, say
            return
        client = _Client(connection)
        problem = None
        if not _is_allowed(connection):
            problem = f'{self.path} is for user {os.geteuid()} alone'
        elif len(self._clients) == _MAX_CLIENTS:
            problem = f'{_MAX_CLIENTS} clients are connected; end one'
        if problem:
            client.send({'error': problem})
            connection.close()
            return
        self._clients[connection.fileno()] = client
        poll.register(connection, select.POLLIN)


class _Client:
    """A connection and what has come of its next request."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.settimeout(_PATIENCE)
        self._data = b''

    def serve(self):
        """Answer the lines that have come; False: the client is done."""
        try:
            data = self.socket.recv(_MAX_REQUEST)
        except OSError:
            return False
        *lines, self._data = (self._data + data).split(b'\n')
        if len(self._data) > _MAX_REQUEST:
            self.send({'error': f'bad request: longer than {_MAX_REQUEST} '
                                f'bytes'})
            return False
        return bool(data) and all(self.send(answer(line)) for line in lines)

    def send(self, message):
        """Return False if the client does not take it."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b'\n')
        except OSError:
            return False
        return True


def serve(path):
    """Serve a control socket at *path* from a thread; return its server.

    *path* may be a directory: then the socket is PID.sock in it.  Raise
    OSError if it cannot be made, as with too long a path.
    """
    if os.path.isdir(path):
        path = os.path.join(path, f'{os.getpid()}.sock')
    return ControlServer(path)


def serve_at_startup(path):
    """serve(), but a problem is one line on stderr."""
    import atexit
    try:
        server = serve(path)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, 'strerror', None) or exc
        print(f'tracemalloc: no control socket at {path}: {reason}',
              file=sys.stderr)
        return
    pid = os.getpid()
    atexit.register(lambda: server.close() if os.getpid() == pid else None)


def _listen(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            _bind(listener, path)
        except OSError as exc:
            if not _is_dead_socket(path):
                raise OSError(exc.errno, exc.strerror or str(exc),
                              path) from None
            os.unlink(path)
            _bind(listener, path)
        listener.listen(_MAX_CLIENTS)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(listener, path):
    # The mode before it has a name, so that nobody can connect in between.
    os.fchmod(listener.fileno(), 0o600)
    listener.bind(path)
    os.chmod(path, 0o600)


def _is_dead_socket(path):
    """True if the socket of a program that has ended is in the way."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _is_allowed(client):
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED,
                             _PEER.size)
    _, user, _ = _PEER.unpack(data)
    return user in (0, os.geteuid())


# --- Commands

def answer(line):
    """Return the answer to one request; never raise."""
    try:
        command, arguments = _parse(line)
        return command(**arguments)
    except MemoryError:
        return {'error': 'the program has not enough memory for that'}
    except (OSError, RuntimeError) as exc:
        return {'error': ' '.join(str(exc).split())}
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        return {'error': f'bad request: {" ".join(str(exc).split())}'}


def _parse(line):
    """Return (function, its arguments) of a request."""
    request = json.loads(line)
    if not isinstance(request, dict):
        raise ValueError('not a JSON object')
    name = request.pop('command', None)
    if not isinstance(name, str) or name not in COMMANDS:
        raise ValueError(f'unknown command; one of {", ".join(COMMANDS)}')
    command, types = COMMANDS[name]
    for argument, value in request.items():
        if argument not in types:
            raise ValueError(f'{name} has no argument {argument!r}')
        if not isinstance(value, types[argument]):
            raise ValueError(f'{argument} cannot be {json.dumps(value)}')
    return command, request


def _status():
    current, peak = tracemalloc.get_traced_memory()
    return {'pid': os.getpid(), 'argv': sys.orig_argv,
            'tracing': tracemalloc.is_tracing(),
            'traceback_limit': tracemalloc.get_traceback_limit(),
            'current': current, 'peak': peak,
            'tracer': tracemalloc.get_tracemalloc_memory(),
            'process': _process_memory(), 'time': time.time()}


def _process_memory():
    """Return the resident size of this process in bytes, None if unknown."""
    try:
        with open('/proc/self/statm', 'rb') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError, IndexError):
        return None


def _start(frames=1):
    if not tracemalloc.is_tracing():
        tracemalloc.start(frames)
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


def _snapshot(path='', traces=True, force=False):
    """Write a snapshot to *path*, an absolute name."""
    if not os.path.isabs(path):
        raise ValueError(f'{path!r} is not an absolute path')
    if not force and os.path.lexists(path):
        raise ValueError(f'{path} exists')
    snapshot = tracemalloc.take_snapshot(traces=traces)
    snapshot.dump(path)
    return {'path': path, 'size': os.path.getsize(path)}


def _statistics(key='lineno', order='size', limit=50, cumulative=False,
                include=()):
    """Send the top of Snapshot.statistics(), and the status."""
    if limit < 0:
        raise ValueError('limit must be 0 or more')
    by_block = key in ('type', 'type+lineno', 'domain', 'address')
    snapshot = tracemalloc.take_snapshot(traces=by_block)
    filters = [tracemalloc.Filter(False, name) for name in _OWN_FILES]
    filters += [tracemalloc.Filter(True, name) for name in include]
    stats = snapshot.filter_traces(filters).statistics(key, cumulative,
                                                       order=order)
    return _status() | {
        'groups': len(stats),
        'rows': [[_name(stat, key), stat.size, stat.count, stat.total_size,
                  stat.total_count, stat.peak_size]
                 for stat in stats[:limit]]}


def _name(stat, key):
    frame = stat.traceback[-1] if stat.traceback else None
    if key == 'filename':
        return frame.filename
    if key in ('lineno', 'traceback'):
        name = f'{frame.filename}:{frame.lineno}'
        return f'{name} in {frame.function}' if frame.function else name
    if key == 'function':
        filename, function, lineno = stat.key
        return f'{filename}:{lineno} in {function}'
    if isinstance(stat.key, tuple):
        return ':'.join(map(str, stat.key))
    return f'0x{stat.key:x}' if key == 'address' else stat.key


# Name -> (function, types of its arguments).
COMMANDS = {
    'status': (_status, {}),
    'start': (_start, {'frames': (int, str)}),
    'stop': (_stop, {}),
    'clear': (_clear, {}),
    'reset_peak': (_reset_peak, {}),
    'snapshot': (_snapshot, {'path': str, 'traces': bool, 'force': bool}),
    'statistics': (_statistics, {'key': str, 'order': str, 'limit': int,
                                 'cumulative': bool, 'include': list}),
}
