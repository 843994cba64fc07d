"""A running program without a control socket, from 3.14 on: sys.remote_exec().

The program is made to run a script as soon as its main thread executes Python
code.  The script connects to a socket of this command, and a thread of the
program then answers on that connection as a control socket does.  If the
command has been killed meanwhile, the script removes the files of the request.

Script and socket are in a directory that both sides see under the same name,
and that only the program's user may enter.
"""

import contextlib
import mmap
import os
import re
import select
import socket
import sys
import tempfile
import time

from pytracemalloc.client import OPT_IN, Client, NotTraceable
from pytracemalloc.errors import CommandError
from pytracemalloc.processes import (describe_denial, read_entries, root_of,
                                     user_of)
from pytracemalloc.unix_socket import peer_of

_SCRIPT = 'tracemalloc-request.py'         # as tracer_hide.c knows it
_SOCKET = 'answer'
_MAX_SOCKET = 107                 # bytes of a socket's path
_OURS = re.compile(rb'pytracemalloc [0-9][^ ]* freelists=')

# The main thread may be inside an import, or about to end.  It must not wait
# for us, nor we for a lock that it holds.  So a thread answers.
_REQUEST = '''\
import _socket
import _thread

def answer(link):
    try:
        from pytracemalloc.control import answer_link
        answer_link(link)
    except BaseException as exc:
        link.send(b'{"error": "it cannot answer: %%b"}\\n'
                  %% type(exc).__name__.encode())
    finally:
        link.close()

try:
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    link.connect(%(socket)a)
    _thread.start_new_thread(answer, (link,))
except OSError:
    # Who asked was killed, and has left this here.
    import posix
    for path in %(files)a:
        try:
            posix.unlink(path)
        except OSError:
            pass
    try:
        posix.rmdir(%(directory)a)
    except OSError:
        pass
'''


def connect(pid, seconds):
    """Return a Client of a process of this user or, for root, of any user.
    The process has *seconds* to answer."""
    if not hasattr(sys, 'remote_exec'):
        raise NotTraceable(f'process {pid} has no control socket; {OPT_IN} '
                           f'(Python 3.14 and later are reached without one)')
    try:
        _check_interpreter(pid)
        with _Request(pid) as request:
            connection = request.send(seconds)
            return Client(f'process {pid}', root_of(pid), pid, connection)
    except (FileNotFoundError, ProcessLookupError):
        raise CommandError(f'process {pid} has ended') from None
    except PermissionError:
        raise CommandError(describe_denial(pid)) from None


def _check_interpreter(pid):
    """Check that the process can answer before a request is sent."""
    # sys.remote_exec() needs the right to write there; without it, its error
    # does not say so.
    os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR | os.O_CLOEXEC))
    root = root_of(pid)
    files = {line.split(maxsplit=5)[5]
             for line in read_entries(f'/proc/{pid}/maps', b'\n')
             if b'python' in os.path.basename(line)}
    if not files:
        raise NotTraceable(f'process {pid} does not run Python; give the '
                           f'process id of a Python program')
    if not any(_is_ours(os.fsencode(root) + path) for path in files):
        raise NotTraceable(f'process {pid} runs a Python without this tracer, '
                           f'{os.fsdecode(min(files))}; run the program with '
                           f'{sys.executable}')


def _is_ours(path):
    with contextlib.suppress(OSError, ValueError), \
            open(path, 'rb') as file, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        return _OURS.search(data) is not None
    return False


class _Request:
    """The files of a request; a context manager that removes them."""

    def __init__(self, pid):
        self.pid = pid
        self._files = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as files:
            self._listener = files.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self._process = os.pidfd_open(self.pid)
            files.callback(os.close, self._process)
            self._make(files)
            self._files = files.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._files.close()

    def _make(self, files):
        """Make the directory with script and socket."""
        directory = self._shared_directory(files)
        number = os.open(directory, os.O_DIRECTORY | os.O_NOFOLLOW
                         | os.O_CLOEXEC)
        files.callback(os.close, number)
        self.script = os.path.join(directory, _SCRIPT)
        path = os.path.join(directory, _SOCKET)
        self._write_script(number, directory)
        files.callback(_unlink, _SCRIPT, number)
        self._listener.bind(path)
        files.callback(_unlink, _SOCKET, number)
        self._listener.listen(1)
        user = user_of(self.pid)
        for name in _SCRIPT, _SOCKET:
            os.chown(name, user, -1, dir_fd=number, follow_symlinks=False)
        # From now on its user can move it; we use its descriptor.
        os.fchown(number, user, -1)

    def _shared_directory(self, files):
        """Return a new directory that both sides see under the same name."""
        for parent in (tempfile.gettempdir(), '/tmp', '/dev/shm', '/var/tmp',
                       f'/run/user/{os.geteuid()}', os.getcwd()):
            with contextlib.suppress(OSError), \
                    contextlib.ExitStack() as attempt:
                directory = tempfile.mkdtemp(prefix='tracemalloc-',
                                             dir=os.path.realpath(parent))
                attempt.callback(_remove_directory, directory)
                there = f'/proc/{self.pid}/root{directory}'
                socket_path = os.fsencode(os.path.join(directory, _SOCKET))
                if (len(socket_path) <= _MAX_SOCKET
                        and os.path.samefile(directory, there)):
                    files.push(attempt.pop_all())
                    return directory
        raise CommandError(
            f'process {self.pid} shares no directory with this command, '
            f'which has to leave a request there; run the command in the '
            f'container of the process, or {OPT_IN}')

    def _write_script(self, number, directory):
        script = os.open(_SCRIPT, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                         | os.O_CLOEXEC, 0o400, dir_fd=number)
        paths = [os.fsencode(os.path.join(directory, name))
                 for name in (_SOCKET, _SCRIPT)]
        text = _REQUEST % {'socket': paths[0], 'files': paths,
                           'directory': os.fsencode(directory)}
        with open(script, 'wb') as file:
            file.write(text.encode())

    def send(self, seconds):
        """Return the connection that the process makes."""
        try:
            sys.remote_exec(self.pid, self.script)
        except RuntimeError as exc:
            text = str(exc)
            raise CommandError(f'process {self.pid} cannot be reached: '
                               f'{text[:1].lower()}{text[1:]}; '
                               f'{OPT_IN}') from None
        try:
            return self._accept(time.monotonic() + seconds, seconds)
        except BaseException:
            # If the request is still read, the script is empty.
            with contextlib.suppress(OSError, RuntimeError):
                sys.remote_exec(self.pid, os.devnull)
            raise

    def _accept(self, end, seconds):
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._process, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = [number for number, _ in poll.poll(left * 1000)]
            if self._listener.fileno() in ready:
                connection, _ = self._listener.accept()
                if peer_of(connection)[0] == self.pid:
                    return connection
                connection.close()
            elif ready:
                raise ProcessLookupError
        raise CommandError(
            f'process {self.pid} has executed no Python code in its main '
            f'thread for {seconds:g} s, so the request was withdrawn; try '
            f'again with a longer --wait, or {OPT_IN}')


def _unlink(name, directory):
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)


def _remove_directory(path):
    with contextlib.suppress(OSError):
        os.rmdir(path)
