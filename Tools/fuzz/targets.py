"""The fuzz targets in Python, each a function of bytes.

    python Tools/fuzz/targets.py TARGET FILE...     tries the files, in order

A target raises for what must not happen: an undocumented exception, wrong
output, or access to something that it must not touch (opening a file for
writing, starting a program, compiling code).
An input that takes longer than SECONDS ends the process.
"""
import atexit
import contextlib
import faulthandler
import io
import json
import os
import pathlib
import re
import shutil
import socket
import sys
import tempfile
import tracemalloc
import urllib.parse

from pytracemalloc import cli
from pytracemalloc.errors import CommandError
from tracemalloc import Snapshot, control, http
from tracemalloc import __main__ as legacy_command
from tracemalloctext import command_line as text_command

SECONDS = 20
FILES = ('a.tracemalloc', 'b.tracemalloc', 'old.pickle')
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ('os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'os.kill',
             'subprocess.Popen', 'socket.connect', 'socket.bind', 'ctypes.')
PATHS = ('os.remove', 'os.rename', 'os.rmdir', 'os.mkdir', 'os.chmod',
         'os.chown', 'os.link', 'os.symlink', 'os.truncate')


samples = {}


class Finding(Exception):
    """Something that no input may cause."""


class Guard:
    """Notes what a target touches outside of a folder of its own.

    It sees what audit hooks see, and refuses it.
    """

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix='fuzz-')
        self.active = False
        self.found = []
        sys.addaudithook(self.hook)

    def hook(self, event, args):
        if not self.active:
            return
        if (event.startswith(FORBIDDEN)
                or event == 'open' and self.is_write(args)
                or event in PATHS and not self.is_inside(args[0])):
            self.found.append(f'{event} {args!r:.200}')
            raise PermissionError(f'{event} while fuzzing')

    def is_write(self, args):
        path, mode, flags = args
        return (isinstance(path, (str, bytes)) and flags & WRITES
                and path != os.devnull and not self.is_inside(path))

    def is_inside(self, path):
        if isinstance(path, int):
            return True             # a descriptor: checked when it was opened
        # The folder itself is opened for a file without a name.
        return os.path.join(os.path.realpath(os.fsdecode(path)),
                            '').startswith(self.folder + os.sep)

    def __enter__(self):
        self.found.clear()
        self.active = True

    def __exit__(self, *exc_info):
        self.active = False
        if self.found:
            raise Finding(f'it did {self.found}')


def prepare():
    """Make the folder with sample files, and work there."""
    global guard
    guard = Guard()
    # A module that is imported late would write its compiled code.
    sys.dont_write_bytecode = True
    atexit.register(shutil.rmtree, guard.folder)
    os.chdir(guard.folder)
    tracemalloc.start(5)
    kept = [[bytes(100), {i: i}] for i in range(50)]
    for name in FILES[:2]:
        tracemalloc.take_snapshot().dump(name)
        kept.append(bytearray(5000))
    tracemalloc.stop()
    Snapshot([(0, 9, (('a.py', 1), ('b.py', 2)), 2)], 2).dump(
        FILES[2], format='pickle')
    samples.update((name, pathlib.Path(name).read_bytes()) for name in FILES)
    # Imports on first use are no finding.
    command(b'report\0a.tracemalloc\0-o\0x.html\0-f\0\0')
    answer(b'{"command": "statistics"}')
    request(b'GET /debug/pprof/heap HTTP/1.0\r\n\r\n')


def pickles(data):
    """Snapshot.load(), and what is done with what it lets through."""
    with open('input', 'wb') as file:
        file.write(data)
    with guard, contextlib.suppress(ValueError, OSError, MemoryError):
        snapshot = Snapshot.load('input')
        for key in 'lineno', 'traceback', 'domain':
            snapshot.statistics(key)
        snapshot.compare_to(snapshot, 'filename')


def answer(data):
    """A line of the control socket: an answer, or one line of error."""
    # Snapshots are written where a client says: only in the folder here.
    with contextlib.suppress(ValueError, RecursionError):
        line = json.loads(data)
        if isinstance(line, dict) and isinstance(line.get('path'), str):
            line['path'] = f'{guard.folder}/{abs(hash(line["path"])) % 9}'
            data = json.dumps(line).encode()
    try:
        with guard:
            found = control.answer(data)
        json.dumps(found)
        if not isinstance(found, dict) or (
                'error' in found and len(found['error'].splitlines()) != 1):
            raise Finding(f'answer {found!r:.300}')
    finally:
        tracemalloc.stop()


def exchange(data):
    """Return all that the HTTP server sends to a client that sends this."""
    with socket.create_connection(('127.0.0.1', server.port)) as client, \
            guard, contextlib.suppress(ConnectionError):
        found = b''
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(1 << 16):
            found += more
    return found


def request(data):
    """What a client sends to the HTTP server, until it closes."""
    global server
    if server is None:
        server = http.serve()
        server._apart = False       # no input is to start a program
    if b'seconds' in urllib.parse.unquote_to_bytes(data):
        return                      # it takes as long as it asks for
    tracemalloc.start()
    try:
        found = exchange(data)
        if not GOOD_ANSWER.match(exchange(GOOD_REQUEST)):
            raise Finding('it does not answer any more')
    finally:
        tracemalloc.stop()
    if REQUEST.match(data) and not found:
        raise Finding('no answer')
    # No status line if the request has no version.
    if found.startswith(b'HTTP/1.'):
        head = found.partition(b'\r\n\r\n')[0]
        for line in head.split(b'\r\n')[1:]:
            if b':' not in line or b'\n' in line:
                raise Finding(f'header {line!r:.200}')


server = None
GOOD_REQUEST = b'GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n'
GOOD_ANSWER = re.compile(rb'HTTP/1\.[01] 200 ')
REQUEST = re.compile(rb'[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n'
                     rb'(?:[\w-]+: [ -~]*\r\n)*\r\n')


def call(main, arguments):
    """Return (exit status, standard output, error output) of a command."""
    output = io.TextIOWrapper(io.BytesIO(), 'utf-8')
    errors = io.TextIOWrapper(io.BytesIO(), 'utf-8', 'backslashreplace')
    with contextlib.redirect_stdout(output), \
            contextlib.redirect_stderr(errors):
        try:
            with guard:
                status = main(arguments)
        except SystemExit as exc:
            status = exc.code
    for stream in output, errors:
        stream.flush()
    return status, *(stream.buffer.getvalue().decode('utf-8', 'replace')
                     for stream in (output, errors))


def parse_only(arguments):
    """For commands that start programs and servers: parse the command line
    only."""
    try:
        cli.make_parser().parse_args(arguments)
    except CommandError as exc:
        print(f'pytracemalloc: {exc}', file=sys.stderr)
        return exc.status
    return 0


def command(data):
    """Words that end with NUL, an empty one, then what the file `input` holds.

    The first word is a subcommand of pytracemalloc, text or legacy.
    """
    words, _, content = data.partition(b'\0\0')
    # The last command may have written over them.
    for name, text in [*samples.items(), ('input', content)]:
        with open(name, 'wb') as file:
            file.write(text)
    words = words.decode('utf-8', 'surrogateescape').split('\0')
    if words[0] in ('run', 'serve', 'top'):
        main = parse_only
    elif words[0] in ('text', 'legacy'):
        main = {'text': text_command.main,
                'legacy': legacy_command.main}[words.pop(0)]
    else:
        main = cli.main
    status, output, errors = call(main, words)
    if status not in (0, 1, 2):
        raise Finding(f'{words}: status {status}')
    if 'Traceback' in errors:
        raise Finding(f'{words}: {errors}')
    lines = [line for line in errors.splitlines()
             if 'error: ' in line or line.startswith('pytracemalloc: ')]
    if status and len(lines) != 1:
        raise Finding(f'{words}: status {status}, {errors!r}')


TARGETS = {'pickle': pickles, 'control': answer, 'http': request,
           'command': command}


def run(target, data):
    """Try one input, within SECONDS."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        TARGETS[target](data)
    finally:
        faulthandler.cancel_dump_traceback_later()


def main():
    target, *files = sys.argv[1:]
    files = [pathlib.Path(name).resolve() for name in files]
    prepare()
    for path in files:
        print(path, flush=True)
        run(target, path.read_bytes())


if __name__ == '__main__':
    main()
