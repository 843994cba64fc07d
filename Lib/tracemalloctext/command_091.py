"""The command python -m tracemalloc of pytracemalloc 0.9.1.

Errors as in python -m tracemalloctext, which does more.
"""

import argparse

from pytracemalloc.errors import CommandError
from tracemalloctext.command_line import Parser, add_display_options, run
from tracemalloctext.display_top_091 import DisplayTop
from tracemalloctext.reader import read_snapshots

_EXAMPLES = """\
examples:
  python -m tracemalloc trace1.pickle
      the 10 files that hold the most memory
  python -m tracemalloc -l --exclude '*/lib/python*' a.pickle b.pickle
      lines of your own code, with the differences between two snapshots
"""


def main(argv=None):
    """Run the command; return the exit status."""
    options = _make_parser().parse_args(argv)
    return run(lambda: _display(options))


def _display(options):
    display_top = DisplayTop(options.number)
    if options.color is not None:
        display_top.color = options.color
    display_top.compare_with_previous = not options.first
    display_top.filename_parts = options.filename_parts
    display_top.show_average = not options.hide_average
    display_top.show_count = not options.hide_count
    display_top.show_lineno = options.line_number
    display_top.show_size = not options.hide_size
    pids = set()
    for filename, snapshot in read_snapshots(options.filenames):
        pids.add(snapshot.pid)
        try:
            if options.include:
                snapshot.filter_filenames(options.include, True)
            if options.exclude:
                snapshot.filter_filenames(options.exclude, False)
            snapshot.display(display_top, show_pid=len(pids) > 1)
        except ValueError as exc:
            raise CommandError("%s: %s" % (filename, exc)) from None


def _make_parser():
    parser = Parser(
        prog="python -m tracemalloc",
        description="Display and compare snapshots of memory allocations by "
                    "file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filenames", nargs="+", metavar="SNAPSHOT",
                        help="snapshot file")
    parser.add_argument("-l", "--line-number", action="store_true",
                        help="group by line, not only by file")
    parser.add_argument("--include", action="append", default=[],
                        metavar="MATCH",
                        help="keep only files that match the pattern MATCH; "
                             "may be given several times")
    parser.add_argument("--exclude", action="append", default=[],
                        metavar="MATCH",
                        help="leave out files that match the pattern MATCH; "
                             "may be given several times")
    add_display_options(parser)
    return parser
