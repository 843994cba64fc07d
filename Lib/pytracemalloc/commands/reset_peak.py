"""pytracemalloc reset-peak: reset the peak of a running program."""

from pytracemalloc import documents
from pytracemalloc.options import add_json, add_target
from pytracemalloc.targets import check_tracing, each_of
from tracemalloc.sizes import format_size

HELP = 'reset the peak of a running program'
DESCRIPTION = """\
Set the peak of a running program, which must be traced, to its live memory.
The next snapshot then has the peak since this moment. The program is reached
as by `pytracemalloc start`.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s 1234 && sleep 1 && pytracemalloc status 1234
"""


def add_arguments(parser):
    add_target(parser)
    add_json(parser)


def run(args):
    for client in each_of(args):
        _reset(client, args)


def _reset(client, args):
    before = client.ask('status')
    check_tracing(before)
    after = client.ask('reset_peak')
    if args.json:
        documents.show_status(after)
    else:
        print(f'Process {after["pid"]}: the peak was '
              f'{format_size(before["peak"])}, and begins again at '
              f'{format_size(after["peak"])}')
