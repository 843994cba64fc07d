"""pytracemalloc rss: say who owns the resident memory of a process."""

import os

from pytracemalloc import arenas, documents
from pytracemalloc.errors import CommandError
from pytracemalloc.files import load_snapshot, show_text
from pytracemalloc.options import add_json, add_wait

_LINES = 10                       # that keep arenas

HELP = 'say who owns the resident memory of a process'
DESCRIPTION = """\
Say who owns the resident memory of a process: blocks of Python by what they
are used for, the heap of malloc(), stacks, code and data of each library, the
tracer. A running program is reached as by `pytracemalloc snapshot`, and need
not be traced; for other processes, the figures are those of smaps. A snapshot
says what was resident when it was taken, which lines keep the arenas and the
pools of small blocks, and how full the pools of each block size are.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s app.tracemalloc
  %(prog)s 1234 --all                 each library, not only the largest
  %(prog)s 1234 --json
"""


def add_arguments(parser):
    parser.add_argument('target', metavar='PID|SOCKET|DIRECTORY|FILE',
                        help='process id, path of a control socket or of a '
                             'directory with those of several processes, or '
                             'a snapshot')
    parser.add_argument('--all', action='store_true',
                        help='show all rows, not only the largest of each '
                             'owner')
    add_json(parser)
    add_wait(parser)


def run(args):
    if os.path.isfile(args.target):
        _show_file(args)
        return
    found = _of_processes(args.target, args.wait)
    if args.json:
        documents.show(_document(*each) for each in found)
        return
    show_text('\n'.join('\n'.join([
        *[f'Process {pid}:'] * (len(found) > 1), *_table(rss, args), ''])
        for pid, rss in found))


def _table(rss, args):
    return rss.format(None) if args.all else rss.format()


def _show_file(args):
    snapshot = load_snapshot(args.target)
    rss = snapshot.rss
    if rss is None:
        raise CommandError(f'{args.target}: no record of resident memory: '
                           f'the snapshot was taken without traces, or by '
                           f'an older version; take a new one')
    shown = None if args.all else _LINES
    if args.json:
        kept = arenas.document(snapshot.arena_use, shown)
        documents.show([_document(snapshot.pid, rss) | {'arenas': kept}])
        return
    lines = arenas.describe(snapshot.arena_use, shown)
    show_text('\n'.join([*_table(rss, args), *lines, '']))


def _of_processes(target, seconds):
    """Return a list of (process id, ResidentMemory)."""
    from pytracemalloc.targets import find_program, reach
    from pytracemalloc.client import NotTraceable
    try:
        with reach(target, seconds) as clients:
            return [_ask(client) for client in clients.each()]
    except NotTraceable as exc:
        from pytracemalloc.foreign import read_rss
        reason = str(exc).partition(';')[0]
        pid = int(find_program(target))
        return [(pid, read_rss(pid, f'{reason}, so this is what smaps alone '
                                    f'can tell'))]


def _ask(client):
    from tracemalloc.resident import ResidentMemory
    answer = client.ask('rss')
    return answer['pid'], ResidentMemory(answer['rows'], answer['total'],
                                         answer['notes'])


def _document(pid, rss):
    return documents.make('rss', pid=pid, **arenas.document_rss(rss))
