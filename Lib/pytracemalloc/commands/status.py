"""pytracemalloc status: say whether a program is traced, and what it has."""

import os.path

from pytracemalloc import documents
from pytracemalloc.options import add_json, add_target
from pytracemalloc.targets import each_of
from pytracemalloc.units import format_frames
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

HELP = 'say whether a program is traced, and how much memory it uses'
DESCRIPTION = """\
Say whether a running program is traced, with how many frames, and how much
memory it uses. It is reached as by `pytracemalloc start`.
"""
EPILOG = """\
examples:
  %(prog)s 1234
  %(prog)s /run/app.sock --json
  %(prog)s /run/shop                  each process with a socket
"""


def add_arguments(parser):
    add_target(parser)
    add_json(parser)


def run(args):
    for client in each_of(args):
        status = client.ask('status')
        if args.json:
            documents.show_status(status)
            continue
        for line in _describe(status):
            print(printable(line))


def _describe(status):
    interpreter, *arguments = status['argv'] or ['']
    command = ' '.join([os.path.basename(interpreter), *arguments])
    yield f'Process {status["pid"]}: {command}'
    if status['tracing']:
        frames = format_frames(status['traceback_limit'])
        if status['traceback_limit'] == 1:
            frames += ' (all: -X tracemalloc=full)'
        yield (f'Traced: {format_size(status["current"])} live, '
               f'{format_size(status["peak"])} at the peak, {frames}')
    else:
        yield (f'Not traced; start it with: pytracemalloc start '
               f'{status["pid"]}')
    process = status['process']
    yield (f'Process memory: '
           f'{"unknown" if process is None else format_size(process)}, '
           f'tracer: {format_size(status["tracer"])}')
