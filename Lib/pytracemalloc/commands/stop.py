"""pytracemalloc stop: stop tracing in a running program."""

from pytracemalloc import documents
from pytracemalloc.options import add_json, add_target
from pytracemalloc.targets import each_of
from tracemalloc.sizes import format_size

HELP = 'stop tracing in a running program'
DESCRIPTION = """\
Stop tracing in a running program. The program forgets all traces, so take a
snapshot first. It is reached as by `pytracemalloc start`.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s /run/app.sock
"""


def add_arguments(parser):
    add_target(parser)
    add_json(parser)


def run(args):
    for client in each_of(args):
        _stop(client, args)


def _stop(client, args):
    before = client.ask('status')
    after = client.ask('stop')
    if args.json:
        documents.show_status(after)
    elif before['tracing']:
        print(f'Process {after["pid"]} is not traced any more; it had '
              f'{format_size(before["current"])} live, '
              f'{format_size(before["peak"])} at the peak')
    else:
        print(f'Process {after["pid"]} was not traced')
