"""pytracemalloc start: trace a program that runs already."""

import os

from pytracemalloc import documents
from pytracemalloc.commands.run import frames_option
from pytracemalloc.errors import UsageError
from pytracemalloc.options import (add_json, add_native, add_target,
                                   native_option)
from pytracemalloc.targets import reach
from pytracemalloc.units import format_frames
from tracemalloc.printable import printable

HELP = 'start tracing in a running program'
DESCRIPTION = """\
Start tracing in a running program. The program needs no control socket if it
and this command run on Python 3.14 or later: sys.remote_exec() reaches it, if
it belongs to the same user and may be debugged.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s 1234 -n 25
  %(prog)s 1234 --socket /run/late.sock    then: pytracemalloc top 1234
"""


def add_arguments(parser):
    add_target(parser)
    parser.add_argument('-n', metavar='N|full', dest='frames',
                        type=frames_option, default='full', help='frames to '
                        'keep of each traceback (default: full, all of them)')
    add_native(parser)
    parser.add_argument('--socket', metavar='PATH',
                        help='let the program serve a control socket there, '
                             'for top and others')
    add_json(parser)


def run(args):
    with reach(args.target, args.wait) as clients:
        each = clients.each()
        if args.socket is not None and len(each) > 1:
            raise UsageError('--socket is for one process; they have theirs')
        for client in each:
            _start(client, args)


def _start(client, args):
    before = client.ask('status')
    after = client.ask('start', frames=args.frames,
                       native=native_option(args))
    served = None
    if args.socket is not None:
        path = os.path.abspath(args.socket)
        served = client.root + client.ask('serve', path=path)['path']
    if args.json:
        documents.show_status(after, **({} if served is None else
                                        {'socket': served}))
        return
    verb = 'was traced already' if before['tracing'] else 'is traced now'
    print(f'Process {after["pid"]} {verb}, '
          f'{format_frames(after["traceback_limit"])}')
    if served is not None:
        print(f'It serves {printable(served)}')
