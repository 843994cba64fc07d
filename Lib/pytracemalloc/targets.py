"""Running programs, as a command line names them."""

import os
import time

from pytracemalloc.client import Client, NoSocket
from pytracemalloc.errors import CommandError
from pytracemalloc.processes import program_of
from pytracemalloc.workers import Workers


def connect(target):
    """Connect to a process id, the path of a socket or a directory of them."""
    return (Workers(target) if os.path.isdir(target)
            else Client.of(find_program(target)))


def find_program(target):
    """Return the target; if it is the process that waits for a program, the
    process id of that."""
    if target.isascii() and target.isdigit() and not os.path.exists(target):
        return str(program_of(int(target)))
    return target


def reach(target, seconds):
    """connect(), or without a socket through sys.remote_exec()."""
    try:
        return connect(target)
    except NoSocket:
        from pytracemalloc import remote
        return remote.connect(int(find_program(target)), seconds)


def each_of(args):
    """Yield a client for each process that the arguments name."""
    with reach(args.target, args.wait) as clients:
        yield from clients.each()


def check_tracing(status):
    if not status['tracing']:
        raise CommandError(f'process {status["pid"]} is not traced; start it '
                           f'with: pytracemalloc start {status["pid"]}')


def write_snapshot(client, pid, path=None, force=False, **kind):
    """Have a program write a snapshot; return (its name from here, size).

    *kind*: arguments of its take_snapshot().
    """
    if path is None:
        stamp = time.strftime('%Y%m%d-%H%M%S')
        # The program writes the file.  With another root it may share only our
        # /tmp, where other users could take a name that they foresee.
        if client.root:
            path = f'/tmp/{pid}-{stamp}-{os.urandom(4).hex()}.tracemalloc'
        else:
            path = _new_name(f'{pid}-{stamp}', '.tracemalloc')
    if not client.root:
        path = os.path.abspath(path)
    answer = client.ask('snapshot', path=path, force=force, **kind)
    return client.root + path, answer['size']


def _new_name(stem, suffix):
    """Return an unused name: two snapshots may be of the same second."""
    path, number = stem + suffix, 1
    while os.path.lexists(path):
        number += 1
        path = f'{stem}-{number}{suffix}'
    return path
