"""pprof's HTTP endpoint: /debug/pprof/heap and /debug/pprof/allocs.

The profiles are those of `pytracemalloc report --format pprof`; go tool
pprof and the collectors of fleets read them as they read a Go program's.
"""

import gc
import http.server
import os
import threading
import time
import urllib.parse
import weakref

import tracemalloc

_MAX_SECONDS = 600
_PROFILES = {'heap': ('inuse_space', 'live memory'),
             'allocs': ('alloc_space', 'all memory ever allocated')}


class Server(http.server.ThreadingHTTPServer):
    """A server that runs in a daemon thread of its own until close()."""

    daemon_threads = True

    def __init__(self, port, host):
        if ':' in host:
            import socket
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self.host, self.port = self.server_address[:2]
        name = f'[{self.host}]' if ':' in self.host else self.host
        self.url = f'http://{name}:{self.port}/'
        self._thread = threading.Thread(target=self.serve_forever,
                                        daemon=True, name='tracemalloc-http')
        self._thread.start()
        _servers.add(self)

    def close(self):
        """Stop serving; return when the port is free."""
        if self._thread.is_alive():         # not in the child of a fork
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that goes away is no event of the program."""


_servers = weakref.WeakSet()


def _close_in_child():
    """Leave the port to the parent: no thread serves it here."""
    for server in _servers:
        server.socket.close()


os.register_at_fork(after_in_child=_close_in_child)


def serve(port=0, host='127.0.0.1'):
    """Serve profiles of this process from a thread; return the Server.

    Port 0 is any free port: see the attributes `port` and `url`.  Only this
    machine can connect unless *host* says otherwise, '' being all addresses;
    there is no password.  Raise OSError if the port is taken.
    The child of a fork does not serve; it can call this for a port of its
    own.
    """
    return Server(port, host)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version = 'pytracemalloc'
    sys_version = ''
    timeout = 60

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        name = url.path.rstrip('/').removeprefix('/debug/pprof').strip('/')
        if not name:
            self._answer(200, 'text/html; charset=utf-8', _INDEX.encode())
        elif name not in _PROFILES:
            self._problem(404, f'no profile here; try /debug/pprof/'
                               f'{" or /debug/pprof/".join(_PROFILES)}')
        elif not tracemalloc.is_tracing():
            self._problem(503, 'tracemalloc is not tracing; call '
                               'tracemalloc.start() in the program')
        else:
            self._profile(name, query)

    do_HEAD = do_GET

    def _profile(self, name, query):
        try:
            seconds = _seconds(query)
        except ValueError as exc:
            self._problem(400, str(exc))
            return
        try:
            data = _encode(_PROFILES[name][0], seconds,
                           'gc' in query and query['gc'] != ['0'])
        except MemoryError:
            self._problem(503, 'not enough memory for the profile')
            return
        self._answer(200, 'application/octet-stream', data,
                     f'attachment; filename="{name}.pb.gz"')

    def _problem(self, status, text):
        self._answer(status, 'text/plain; charset=utf-8',
                     f'{text}\n'.encode())

    def _answer(self, status, kind, body, disposition=None):
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('X-Content-Type-Options', 'nosniff')
        if disposition:
            self.send_header('Content-Disposition', disposition)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def log_message(self, format, *args):
        """Keep out of the program's stderr."""


_INDEX = ('<!DOCTYPE html><title>pprof</title><h1>Profiles</h1><ul>'
          + ''.join(f'<li><a href="/debug/pprof/{name}">{name}</a>: {text}'
                    for name, (_, text) in _PROFILES.items())
          + '</ul><p>With ?seconds=N: the difference over N seconds. With '
            '?gc=1: after a garbage collection.')


def _seconds(query):
    text = query.get('seconds', ['0'])[-1]
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_SECONDS:
        raise ValueError(f'seconds={text!a}: give a whole number from 1 to '
                         f'{_MAX_SECONDS}')
    return int(text)


def _encode(default, seconds, collect):
    from pytracemalloc.reporters.pprof import encode
    from pytracemalloc.tree import Tree
    old = None
    if seconds:
        old = _snapshot(collect)
        time.sleep(seconds)
    # Types are known of what is alive, not of what has changed.
    new = _snapshot(collect, traces=not seconds)
    tree = Tree.from_difference(old, new) if old else Tree.from_snapshot(new)
    return encode(tree, default, new.timestamp, seconds,
                  subtract=old is not None)


def _snapshot(collect, traces=False):
    if collect:
        gc.collect()
    return tracemalloc.take_snapshot(traces=traces)
