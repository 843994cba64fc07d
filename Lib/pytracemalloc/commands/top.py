"""pytracemalloc top: watch a running program."""

import sys

from pytracemalloc import documents
from pytracemalloc.arguments import positive
from pytracemalloc.measures import KEYS, short_key
from pytracemalloc.options import add_view, check_tasks, view_options
from pytracemalloc.targets import connect

HELP = 'watch the memory of a running program'
DESCRIPTION = """\
Watch the memory of a program that was started with a control socket, by
-X tracemalloc_control=PATH or PYTRACEMALLOC_CONTROL=PATH, or that has called
pytracemalloc.control.serve(PATH). With a directory, watch all programs that
have a socket there.
"""
EPILOG = """\
keys:
  s  sort: size, count, total, peak, growth    g  group: line, file, ...
  f  unfold imports and interpreter            c  my code
  /  filter by file name                       p  pause      r  reset the peak
  w  write a snapshot                          t  start or stop tracing
  q  quit

examples:
  PYTRACEMALLOC_CONTROL=/run/app.sock python app.py
  %(prog)s /run/app.sock
  %(prog)s 1234 --interval 5
  %(prog)s 1234 --once | head -20
  %(prog)s 1234 --json
  %(prog)s 1234 --by native           C functions, with native memory
  %(prog)s /run/shop                  all processes with a socket there
"""


def add_arguments(parser):
    parser.add_argument('target', metavar='PID|SOCKET|DIRECTORY',
                        help='process id, path of the control socket, or of '
                             'a directory with those of several processes')
    parser.add_argument('--by', metavar='KEY', default='line',
                        help=f'group by {", ".join(KEYS)} (default: line)')
    parser.add_argument('--interval', metavar='S', type=positive, default=2,
                        help='refresh interval in seconds (default: 2)')
    parser.add_argument('--once', action='store_true',
                        help='print one page and exit; the default if the '
                             'output is not a terminal')
    parser.add_argument('--json', action='store_true',
                        help='print one page as JSON, with up to 1,000 rows')
    add_view(parser)


def run(args):
    shown, by = view_options(args), short_key(args.by)
    check_tasks(by, shown)
    with connect(args.target) as client:
        from pytracemalloc import live
        view = live.View(client, args.interval, shown, by)
        if args.json or args.once or not (sys.stdout.isatty()
                                          and sys.stdin.isatty()):
            view.refresh()
            if args.json:
                documents.show([view.document()])
                return
            # At once, or "| head" is gone before the last line is written.
            sys.stdout.write('\n'.join([*view.page(None, None), '']))
            return
        live.watch(view, args.interval)
