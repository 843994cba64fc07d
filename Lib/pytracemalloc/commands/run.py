"""pytracemalloc run: run a program under the tracer."""

import itertools
import os

from pytracemalloc.errors import UsageError
from pytracemalloc.files import check_absent, check_output
from pytracemalloc.arguments import positive
from pytracemalloc.options import (add_kind, add_view, kind_options,
                                   view_options)
from pytracemalloc.program import (add_program_arguments, check_program,
                                   execute)
from pytracemalloc.recording import numbered
from pytracemalloc.units import size_option
from tracemalloc.whole_file import is_special

HELP = 'run a program, print a summary, write a snapshot'
DESCRIPTION = """\
Run a Python program under the tracer. When it ends, by an exception,
Control-C, os._exit(), SIGTERM or SIGHUP too, a summary goes to standard error
and a snapshot to a file.
"""
EPILOG = """\
examples:
  %(prog)s app.py --port 80           what follows the script is the script's
  %(prog)s -n full -o app.tracemalloc -m app
  %(prog)s --every 60 server.py       a snapshot a minute as well
  %(prog)s --on-growth '100 MiB' server.py
  %(prog)s --follow -m pytest         child processes too, a file each
  %(prog)s --references app.py        for: pytracemalloc why
  %(prog)s -c 'import json'
"""


def add_arguments(parser):
    parser.add_argument('-n', metavar='N|full', dest='frames',
                        type=frames_option, default=10, help='frames of each '
                        'traceback that are kept, or full for all '
                        '(default: 10)')
    parser.add_argument('-o', '--output', metavar='FILE',
                        help='the snapshot (default: NAME.PID.tracemalloc)')
    parser.add_argument('-f', '--force', action='store_true',
                        help='overwrite FILE if it exists')
    parser.add_argument('--every', metavar='S', type=_seconds,
                        help='also take a snapshot every S seconds, in files '
                             'numbered from 0001')
    parser.add_argument('--on-growth', metavar='SIZE', type=_growth,
                        help='also take a snapshot whenever the traced '
                             'memory has grown by SIZE')
    parser.add_argument('--top', metavar='N', type=positive, default=5,
                        help='sites in each list of the summary (default: 5)')
    parser.add_argument('--follow', action='store_true',
                        help='follow child processes: multiprocessing, '
                             'os.fork and Pythons started by subprocess; a '
                             'file each, with the process id in its name')
    add_kind(parser)
    parser.add_argument('-q', '--quiet', action='store_true',
                        help='no summary')
    add_view(parser)
    add_program_arguments(parser)


def run(args):
    view = view_options(args)
    kind = kind_options(args)
    name = check_program(args.command_line)
    output = args.output
    if output is None:
        output = f'{name}.{os.getpid()}.tracemalloc'
    check_output(output, args.force)
    if args.every or args.on_growth:
        if is_special(output):
            raise UsageError('--every and --on-growth need a file for their '
                             'names; give one with -o')
        check_absent(numbered(output, 1), args.force)
        _remove_numbered(output)
    execute(args.command_line, {
        'frames': args.frames, 'output': os.path.abspath(output),
        'name': output, 'every': args.every, 'growth': args.on_growth,
        'top': args.top, 'follow': args.follow, 'kind': kind,
        'quiet': args.quiet, 'view': view})


def _remove_numbered(output):
    """Remove the files of a run before: this one may write fewer."""
    for number in itertools.count(1):
        try:
            os.unlink(numbered(output, number))
        except OSError:
            return


def frames_option(text):
    if text == 'full':
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise UsageError(f'-n {text}: give a number from 1 to 65535, or full')


def _growth(text):
    size = size_option(text)
    if not 1 <= size <= 1 << 60:
        raise UsageError(f'--on-growth {text}: give a size from 1 B to 1 EiB')
    return size


def _seconds(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= 1e9:
        raise UsageError(f'--every {text}: give a number of seconds, 1 or '
                         f'more')
    return seconds
