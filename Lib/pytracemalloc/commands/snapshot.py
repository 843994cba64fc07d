"""pytracemalloc snapshot: take a snapshot of a program that runs."""

from pytracemalloc import documents
from pytracemalloc.errors import UsageError
from pytracemalloc.files import check_absent
from pytracemalloc.options import (add_json, add_kind, add_target,
                                   kind_options)
from pytracemalloc.targets import check_tracing, reach, write_snapshot
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

HELP = 'take a snapshot of a running program'
DESCRIPTION = """\
Make a running program, which must be traced, write a snapshot of its memory.
The program needs no control socket if it and this command run on Python 3.14
or later: sys.remote_exec() reaches it, if it belongs to the same user and may
be debugged.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s 1234 -o noon.tracemalloc
  %(prog)s --references 1234          for: pytracemalloc why
  %(prog)s /run/shop                  one file for each process
"""


def add_arguments(parser):
    add_target(parser)
    parser.add_argument('-o', '--output', metavar='FILE',
                        help='the snapshot, which the program writes '
                             '(default: PID-DATE-TIME.tracemalloc)')
    parser.add_argument('-f', '--force', action='store_true',
                        help='overwrite FILE if it exists')
    add_kind(parser)
    parser.add_argument('--pause', action='store_true',
                        help='with --references: the program waits while '
                             'they are recorded; by default, a forked child '
                             'records them')
    add_json(parser)


def run(args):
    kind = kind_options(args)
    if args.pause:
        if not args.references:
            raise UsageError('--pause is for references; add --references')
        kind['pause'] = True
    with reach(args.target, args.wait) as clients:
        each = clients.each()
        if args.output is not None and len(each) > 1:
            raise UsageError('-o is for one process; leave it out, and each '
                             'has a file')
        for client in each:
            _take(client, args, kind)


def _take(client, args, kind):
    status = client.ask('status')
    check_tracing(status)
    if args.output is not None and not client.root:
        check_absent(args.output, args.force)
    path, size = write_snapshot(client, status['pid'], args.output,
                                args.force, **kind)
    if args.json:
        documents.show([documents.make('snapshot', pid=status['pid'],
                                       file=path, size=size)])
    else:
        print(f'Wrote {printable(path)}, {format_size(size)}')
