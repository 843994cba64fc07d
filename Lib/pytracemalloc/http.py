"""pprof's HTTP endpoint: /debug/pprof/heap and /debug/pprof/allocs.

The profiles are those of `pytracemalloc report --format pprof`; go tool
pprof and the collectors of fleets read them as they read a Go program's.

A page in a browser of this machine can make its own host name resolve to this
address, and the browser would then let it read the answer (DNS rebinding).  So
a request is answered only if it names a host that this server goes by.

Allocations of the serving threads are not traced, and most of the work is done
in another process: see apart.py.
"""

import email.utils
import http
import ipaddress
import re
import socket
import threading
import urllib.parse

from _tracemalloc import _hidden
import tracemalloc
from pytracemalloc import apart
from pytracemalloc.loop import Loop
from tracemalloc.process import collect_garbage

_MAX_SECONDS = 600
_MAX_PROFILES = 8                 # made at once, and as many differences
_RETRY_AFTER = 10                 # seconds
_MAX_LINE = 4096                  # bytes of the first line of a request
_SHOWN = 100                      # characters of it in an answer
_PROFILES = {'heap': ('inuse_space', 'live memory'),
             'allocs': ('alloc_space', 'all memory ever allocated')}
_HEAD_END = re.compile(rb'\r?\n\r?\n')
_REQUEST = re.compile(r'([A-Z]{1,20}) (\S+) HTTP/1\.([01])')
_HOST = re.compile(r'(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]*)?', re.ASCII)


class Problem(Exception):
    """An answer other than a profile."""

    def __init__(self, status, text, **headers):
        super().__init__(text)
        self.status = status
        self.headers = headers


class Server(Loop):
    """A server that runs in a daemon thread of its own until close()."""

    max_request = 1 << 14         # bytes of the first line and the headers
    answer_time = 60.0
    idle_time = 1.0
    asks_at_once = True

    def __init__(self, port, host, hosts=()):
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(1024)
            self.host, self.port = listener.getsockname()[:2]
        except BaseException:
            listener.close()
            raise
        name = f'[{self.host}]' if ':' in self.host else self.host
        self.url = f'http://{name}:{self.port}/'
        self._names = {_plain(each) for each in (host, *hosts) if each}
        self._counts = {False: 0, True: 0}    # profiles, differences
        self._making = threading.Lock()
        self._apart = apart.is_possible()
        super().__init__(listener, 'tracemalloc-http')

    @_hidden
    def close(self):
        """Stop serving; return when the port is free."""
        super().close()
        if self._thread.is_alive():           # not in the child of a fork
            self._thread.join()

    # --- Called by the loop

    def take_request(self, received):
        end = _HEAD_END.search(received)
        if end is None:
            return None
        head = bytes(received[:end.start()])
        received.clear()          # one request a connection
        return head

    def problem(self, kind):
        return _response(*{
            'long': (431, f'longer than {self.max_request} bytes'),
            'late': (408, f'not complete after {self.request_time:.0f} s'),
            'full': (503, f'{self.max_clients} clients are connected'),
        }[kind], {'Retry-After': _RETRY_AFTER} if kind == 'full' else {})

    def serve(self, client, request):
        try:
            profile = self._understand(request)
            if isinstance(profile, bytes):
                self.answer(client, profile, last=True)
            else:
                self._start(client, *profile)
        except Problem as exc:
            self.answer(client, _problem(exc, request.startswith(b'HEAD ')),
                        last=True)

    # --- A request

    def _understand(self, head):
        """Return an answer, or the arguments of _start().

        Raise Problem if there is no profile to give.
        """
        first, *lines = re.split(r'\r?\n', head.decode('latin-1'))
        if len(first) > _MAX_LINE:
            raise Problem(414, f'first line longer than {_MAX_LINE} bytes')
        match = _REQUEST.fullmatch(first)
        if match is None:
            raise Problem(400, 'not a request of HTTP/1.0 or HTTP/1.1')
        method, target, minor = match.groups()
        hosts = _values(lines, 'host')
        if len(hosts) > 1 or not hosts and minor == '1':
            raise Problem(400, 'there must be exactly one Host header')
        if not target.startswith('/'):
            target, host = _split(target)
            hosts.append(host)
        for host in hosts:
            self._check_host(host.strip())
        if method not in ('GET', 'HEAD'):
            raise Problem(405, 'GET or HEAD only', Allow='GET, HEAD')
        return _find(target, method == 'HEAD')

    def _check_host(self, host):
        match = _HOST.fullmatch(host)
        if match is None or not self._is_ours(_plain(match[1])):
            raise Problem(403, f'{host[:_SHOWN]!a} is not a name of this '
                               f'host; allow it with --allow-host or '
                               f'serve(hosts=...)')

    def _is_ours(self, name):
        if name in self._names or name == 'localhost' or '*' in self._names:
            return True
        try:
            # An address belongs to no site but itself.
            return (ipaddress.ip_address(name).is_loopback
                    or not ipaddress.ip_address(self.host).is_loopback)
        except ValueError:
            return False

    # --- Profiles, each made by a thread

    def _start(self, client, name, seconds, collect, only_head):
        differs = seconds > 0
        if self._counts[differs] == _MAX_PROFILES:
            what = 'differences' if differs else 'profiles'
            raise Problem(503, f'{_MAX_PROFILES} {what} are already being '
                               f'made; try again later',
                          Retry_After=_RETRY_AFTER)
        gone = threading.Event()
        thread = threading.Thread(
            target=self._make, name='tracemalloc-profile', daemon=True,
            args=(client, name, seconds, collect, only_head, gone))
        try:
            thread.start()
        except RuntimeError as exc:
            raise Problem(503, str(exc), Retry_After=_RETRY_AFTER) from None
        self._counts[differs] += 1
        self.hold(client, gone.set if differs else None)

    def _make(self, client, name, seconds, collect, only_head, gone):
        """Make a profile and hand it to the loop."""
        answer = b''
        try:
            body = self._encode(name, seconds, collect, gone)
            if body is not None:
                answer = _response(200, body, {
                    'Content-Type': 'application/octet-stream',
                    'Content-Disposition':
                        f'attachment; filename="{name}.pb.gz"'}, only_head)
        except MemoryError:
            answer = _response(503, 'not enough memory for the profile')
        except RuntimeError as exc:           # tracing has ended
            answer = _response(503, str(exc))
        except Exception as exc:
            answer = _response(500, f'{type(exc).__name__}: {exc}')
        finally:
            self.hand_over(self._finish, client, seconds > 0, answer)

    def _finish(self, client, differs, answer):
        self._counts[differs] -= 1
        self.deliver(client, answer)

    def _encode(self, name, seconds, collect, gone):
        """Return a profile; None if the client goes first."""
        from pytracemalloc.reporters.pprof import encode
        from pytracemalloc.tree import Tree
        default, _ = _PROFILES[name]
        old = None
        if seconds:
            with self._making:
                old = _snapshot(collect)
            if gone.wait(seconds):
                return None
        with self._making:        # one at a time: they take memory
            # Types are known of live memory, not of differences.
            new = _snapshot(collect, traces=not seconds)
            if self._apart:
                profile = apart.encode(new, old, default, seconds)
                if profile is not None:
                    return profile
                self._apart = False           # and will not be later
            tree = (Tree.from_difference(old, new) if old
                    else Tree.from_snapshot(new))
            return encode(tree, default, new.timestamp, seconds,
                          subtract=old is not None)


@_hidden                          # and so are the threads that serve
def serve(port=0, host='127.0.0.1', hosts=()):
    """Serve profiles of this process from a thread; return the Server.

    Port 0 is any free port: see the attributes `port` and `url`.  Only this
    machine can connect unless *host* says otherwise, '' being all addresses;
    there is no password.  *hosts*: names of this host, beside *host* and
    localhost, that requests may give; '*' is any.  Raise OSError if the port
    is taken.
    The child of a fork does not serve; it can call this for a port of its
    own.
    """
    if isinstance(hosts, str):
        raise TypeError('hosts must be a list of names, not one')
    # Import it now: a request must not leave modules behind.
    import pytracemalloc.reporters.pprof
    import pytracemalloc.tree
    import tracemalloc.files
    return Server(port, host, hosts)


def _plain(name):
    return name.strip('[]').rstrip('.').lower()


def _values(lines, wanted):
    """Return the values of one header."""
    pairs = [line.partition(':') for line in lines]
    return [value for name, _, value in pairs if name.lower() == wanted]


def _split(target):
    """Return (path and query, host) of a target that is a whole URL."""
    try:
        url = urllib.parse.urlsplit(target)
    except ValueError:
        url = None
    if url is None or url.scheme != 'http' or not url.netloc:
        raise Problem(400, f'{target[:_SHOWN]!a} is not a path')
    return f'{url.path}?{url.query}', url.netloc


def _find(target, only_head):
    """Return the index, or what is asked for as arguments of _start()."""
    path, _, query = target.partition('?')
    try:
        query = urllib.parse.parse_qs(query, max_num_fields=20)
    except ValueError:
        raise Problem(400, 'too many parameters') from None
    name = path.rstrip('/').removeprefix('/debug/pprof').strip('/')
    if not name:
        return _response(200, _INDEX.encode(),
                         {'Content-Type': 'text/html; charset=utf-8'},
                         only_head)
    if name not in _PROFILES:
        raise Problem(404, f'no profile here; try /debug/pprof/'
                           f'{" or /debug/pprof/".join(_PROFILES)}')
    if not tracemalloc.is_tracing():
        raise Problem(503, 'tracemalloc is not tracing; call '
                           'tracemalloc.start() in the program')
    return (name, _seconds(query), 'gc' in query and query['gc'] != ['0'],
            only_head)


def _seconds(query):
    text = query.get('seconds', ['0'])[-1]
    digits = text.isascii() and text.isdigit() and len(text) <= 9
    if not digits or int(text) > _MAX_SECONDS:
        raise Problem(400, f'seconds={text[:_SHOWN]!a}: give a whole number '
                           f'from 1 to {_MAX_SECONDS}')
    return int(text)


def _problem(exc, only_head):
    return _response(exc.status, str(exc),
                     {name.replace('_', '-'): value
                      for name, value in exc.headers.items()}, only_head)


def _response(status, body, headers={}, only_head=False):
    """Return the bytes of an answer; text becomes one line."""
    if isinstance(body, str):
        body = f'{" ".join(body.split())}\n'.encode(errors='replace')
        headers = {'Content-Type': 'text/plain; charset=utf-8', **headers}
    headers = {'Server': 'pytracemalloc',
               'Date': email.utils.formatdate(usegmt=True),
               'Content-Length': len(body),
               'X-Content-Type-Options': 'nosniff', 'Connection': 'close',
               **headers}
    lines = [f'HTTP/1.1 {status} {http.HTTPStatus(status).phrase}']
    lines += [f'{name}: {value}' for name, value in headers.items()]
    head = '\r\n'.join([*lines, '', '']).encode('latin-1')
    return head if only_head else head + body


_INDEX = ('<!DOCTYPE html><title>pprof</title><h1>Profiles</h1><ul>'
          + ''.join(f'<li><a href="/debug/pprof/{name}">{name}</a>: {text}'
                    for name, (_, text) in _PROFILES.items())
          + '</ul><p>With ?seconds=N: the difference over N seconds. With '
            '?gc=1: after a garbage collection.')


def _snapshot(collect, traces=False):
    if collect:
        collect_garbage()
    return tracemalloc.take_snapshot(traces=traces)
