"""pytracemalloc run: run a program under the tracer."""

import itertools
import os
import re

from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.files import check_absent, check_output
from pytracemalloc.kept import KEPT
from pytracemalloc.arguments import positive
from pytracemalloc.options import (add_kind, add_native, add_view,
                                   kind_options, native_option, view_options)
from pytracemalloc.program import (add_program_arguments, check_program,
                                   execute)
from pytracemalloc.recording import MEMORY, numbered
from pytracemalloc.terminal import say
from pytracemalloc.units import parse_frames, size_option
from tracemalloc.whole_file import is_special

HELP = 'run a program, print a summary, write a snapshot'
DESCRIPTION = """\
Run a Python program under the tracer. When it ends, even by an exception,
Control-C, os._exit(), SIGTERM or SIGHUP, a summary goes to standard error and
a snapshot to a file. When it is killed or crashes, both are made from the call
tree that it leaves behind.
"""
EPILOG = """\
examples:
  %(prog)s app.py --port 80           what follows the script is the script's
  %(prog)s -n 25 -o app.tracemalloc -m app
  %(prog)s --every 60 server.py       also a snapshot each minute
  %(prog)s --on-growth '100 MiB' server.py
  %(prog)s --warn-at 90% server.py    before the cgroup's limit ends it
  (ulimit -v 2000000; %(prog)s app.py)         what was live at a MemoryError
  %(prog)s --follow -m pytest         a file for each child process
  %(prog)s --native app.py            also the memory of C libraries
  %(prog)s --references app.py        for: pytracemalloc why
  %(prog)s -c 'import json'
"""


def add_arguments(parser):
    parser.add_argument('-n', metavar='N|full', dest='frames',
                        type=frames_option, default='full', help='frames to '
                        'keep of each traceback (default: full, all of them)')
    add_native(parser)
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
    parser.add_argument('--warn-at', metavar='PERCENT', type=_share,
                        help='also take a snapshot when the cgroup uses '
                             'PERCENT (90%%) of its memory limit, or is under '
                             'memory pressure')
    parser.add_argument('--keep', metavar='N', type=positive,
                        help='keep the N newest of the numbered snapshots, '
                             'and remove the others')
    parser.add_argument('--no-history', dest='history', action='store_false',
                        help='do not record memory over time (a separate '
                             'thread does so ten times a second)')
    oom = parser.add_mutually_exclusive_group()
    oom.add_argument('--on-oom', dest='oom', action='store_true', default=None,
                     help='write what was live when a request for memory '
                          'fails (the default), to FILE with the suffix .oom')
    oom.add_argument('--no-oom', dest='oom', action='store_false',
                     default=None, help='do not write it')
    parser.add_argument('--top', metavar='N', type=positive, default=5,
                        help='sites in each list of the summary (default: 5)')
    parser.add_argument('--follow', action='store_true',
                        help='follow child processes: multiprocessing, '
                             'os.fork and Pythons started by subprocess; each '
                             'has a file with its process id in the name')
    tree = parser.add_mutually_exclusive_group()
    tree.add_argument('--keep-tree', metavar='TREE', nargs='?', const='',
                      help='keep the call tree in a file, which remains '
                           'even if this command is killed (default: '
                           'FILE.kept)')
    tree.add_argument('--no-keep-tree', action='store_true',
                      help='become the program instead of waiting for it: '
                           'if it is killed, there is no snapshot')
    add_kind(parser)
    parser.add_argument('-q', '--quiet', action='store_true',
                        help='print no summary')
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
    if args.warn_at and not args.history:
        raise UsageError('--warn-at needs the thread that --no-history turns '
                         'off; leave one out')
    if args.every or args.on_growth or args.warn_at:
        if is_special(output):
            raise UsageError('--every, --on-growth and --warn-at need a file '
                             'for their names; give one with -o')
        _remove_numbered(output, args.force)
    elif args.keep:
        raise UsageError('--keep applies to the files of --every, --on-growth '
                         'and --warn-at; add one of them')
    if args.oom and is_special(output) and (
            not os.environ.get('PYTRACEMALLOC_OOM')):
        raise UsageError('--on-oom needs a file for its name; give one with '
                         '-o')
    tree = _find_tree(args, output)
    if tree is None:
        start = execute
    else:
        from pytracemalloc.keeping import hold as start
    start(args.command_line, {
        'frames': args.frames, 'native': native_option(args),
        'output': os.path.abspath(output),
        'name': output, 'every': args.every, 'growth': args.on_growth,
        'warn_at': args.warn_at, 'keep': args.keep, 'history': args.history,
        'oom': args.oom is not False and not is_special(output)
        and not os.environ.get('PYTRACEMALLOC_OOM'),
        'top': args.top, 'follow': args.follow, 'kind': kind,
        'quiet': args.quiet, 'view': view, 'keep_tree': tree})


def _find_tree(args, output):
    """Return where the call tree is kept: a file, MEMORY, None: nowhere."""
    if args.no_keep_tree:
        return None
    if args.keep_tree is not None:
        if is_special(output):
            raise UsageError('--keep-tree needs a file for the snapshot; '
                             'give one with -o')
        return os.path.abspath(args.keep_tree or output + KEPT)
    if 'NOTIFY_SOCKET' in os.environ:
        # Its answers are taken from this process alone.
        say('NOTIFY_SOCKET: the program is the main process of a service: '
            'its call tree is not kept (--keep-tree keeps it)')
        return None
    return None if is_special(output) else MEMORY


def _remove_numbered(output, force):
    """Remove the files of a run before: this one may write others."""
    try:
        for path in _numbered_files(output):
            check_absent(path, force)
            os.unlink(path)
    except OSError as exc:
        raise CommandError(f'{exc.filename}: {exc.strerror}; choose another '
                           f'place with -o') from None


def _numbered_files(output):
    """Return the names of numbered files that are there.

    A number without a zero in front may be a process id; but those that come
    right after the last one with a zero are numbers.
    """
    directory, name = os.path.split(numbered(output, 0))
    before, _, after = name.rpartition('0000')
    number = re.compile(rf'{re.escape(before)}(0\d{{3}}){re.escape(after)}')
    found = sorted(filter(number.fullmatch,
                          os.listdir(directory or os.curdir)))
    paths = [os.path.join(directory, name) for name in found]
    if paths and paths[-1] == numbered(output, 999):
        for following in itertools.count(1000):
            if not os.path.lexists(path := numbered(output, following)):
                break
            paths.append(path)
    return paths


def frames_option(text):
    try:
        return parse_frames(text)
    except ValueError as exc:
        raise UsageError(f'-n {exc}') from None


def _growth(text):
    size = size_option(text)
    if not 1 <= size <= 1 << 60:
        raise UsageError(f'--on-growth {text}: give a size from 1 B to 1 EiB')
    return size


def _share(text):
    try:
        share = float(text.removesuffix('%')) / 100
    except ValueError:
        share = 0
    if not (text.endswith('%') and 0 < share < 1):
        raise UsageError(f'--warn-at {text}: give a part of the limit, such '
                         f'as 90%')
    return share


def _seconds(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= 1e9:
        raise UsageError(f'--every {text}: give a number of seconds, 1 or '
                         f'more')
    return seconds
