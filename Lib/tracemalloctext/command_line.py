"""The command python -m tracemalloctext.

Exit status: 0, or 1 for a file that cannot be read, or 2 for wrong usage.
Either error is one line on stderr.
"""

import argparse
import functools
import sys

from pytracemalloc import command
from pytracemalloc.arguments import place, positive
from pytracemalloc.errors import CommandError
from pytracemalloc.terminal import say
from tracemalloc import Filter
from tracemalloc.printable import printable
from tracemalloctext.display_blocks import display_block, display_blocks
from tracemalloctext.display_top import DisplayTop
from tracemalloc.grouped_stats import GROUPS
from tracemalloc.grouping import group_snapshot
from tracemalloctext.look import Look
from tracemalloctext.reader import read_snapshots
from tracemalloctext.text import Palette, wants_color

_EXAMPLES = """\
examples:
  python -m tracemalloctext snapshot.pickle
      the 10 lines that hold the most memory
  python -m tracemalloctext -f -n 25 before.pickle after.pickle
      25 files, with the differences between two snapshots
  python -m tracemalloctext -x '*/lib/python*' -c snapshot.pickle
      your own code, with all that it calls
  python -m tracemalloctext -t -n 3 snapshot.pickle
      the 3 biggest memory blocks and where they were allocated
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message):
        self.exit(2, "%s: error: %s; see %s --help\n"
                  % (self.prog, printable(message), self.prog))


def run(display):
    """Run display(); return the exit status."""
    return command.run(display, functools.partial(say, title="error"))


def main(argv=None):
    """Run the command; return the exit status."""
    options = _make_parser().parse_args(argv)
    return run(lambda: _display(options))


def _display(options):
    filters = _make_filters(options)
    display_top = _make_display_top(options)
    found = False
    for filename, snapshot in read_snapshots(options.filenames):
        try:
            single = options.block is not None or options.traceback
            if filters and single:
                snapshot.apply_filters(filters)
            if options.block is not None:
                found |= display_block(snapshot, options.block,
                                       sys.stdout)
            elif options.traceback:
                display_blocks(snapshot, options.number,
                               _make_look(display_top), sys.stdout)
            else:
                display_top.display_top_stats(
                    group_snapshot(snapshot, options.group_by,
                                   options.cumulative, filters),
                    options.number)
        except ValueError as exc:
            raise CommandError("%s: %s" % (filename, exc)) from None
    if options.block is not None and not found:
        raise CommandError("no memory block at address 0x%x; list addresses "
                           "with --address" % options.block)
    if len(options.filenames) > 1:
        print("%s snapshots" % len(options.filenames))


def _make_display_top(options):
    display_top = DisplayTop()
    display_top.compare_to_previous = not options.first
    display_top.size = not options.hide_size
    display_top.count = not options.hide_count
    display_top.average = not options.hide_average
    display_top.metrics = not options.hide_metrics
    display_top.filename_parts = options.filename_parts
    display_top.color = options.color
    return display_top


def _make_look(display_top):
    palette = Palette(wants_color(sys.stdout, display_top.color))
    return Look(palette, display_top.filename_parts, display_top.size,
                display_top.count, display_top.average)


def _make_filters(options):
    return [Filter(inclusive, pattern, lineno=lineno, all_frames=all_frames)
            for values, inclusive, all_frames in (
                (options.include, True, False),
                (options.include_traceback, True, True),
                (options.exclude, False, False),
                (options.exclude_traceback, False, True))
            for pattern, lineno in values]


def address_argument(text):
    """Parse an address: hexadecimal after 0x, else decimal."""
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address < 2 ** 64:
        raise argparse.ArgumentTypeError(
            "bad address %r: give a number such as 0x7f1c0de4" % text)
    return address


def add_display_options(parser):
    """Add the options that this command shares with python -m tracemalloc."""
    parser.add_argument(
        "-n", "--number", type=positive, default=10,
        metavar="NUMBER", help="display the NUMBER biggest (default: 10)")
    parser.add_argument(
        "--first", action="store_true",
        help="compare with the first snapshot, not with the previous one")
    parser.add_argument("-S", "--hide-size", action="store_true",
                        help="hide the size of allocations")
    parser.add_argument("-C", "--hide-count", action="store_true",
                        help="hide the number of allocations")
    parser.add_argument("-A", "--hide-average", action="store_true",
                        help="hide the average size of allocations")
    parser.add_argument(
        "-P", "--filename-parts", type=positive, default=3,
        metavar="PARTS", help="keep the last PARTS parts of filenames "
                              "(default: 3)")
    color = parser.add_mutually_exclusive_group()
    color.add_argument("--color", action="store_true", default=None,
                       help="always use colors")
    color.add_argument("--no-color", dest="color", action="store_false",
                       help="never use colors")


def _make_parser():
    parser = Parser(
        prog="python -m tracemalloctext",
        description="Display and compare snapshots of memory allocations.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filenames", nargs="+", metavar="SNAPSHOT",
                        help="snapshot file: native, or a pickle of stock "
                             "Python or of pytracemalloc 0.9.1")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-a", "--address", dest="group_by",
                       action="store_const", const="address",
                       help="group by address, not by line")
    group.add_argument("-f", "--file", dest="group_by",
                       action="store_const", const="filename",
                       help="group by filename, not by line")
    group.add_argument("-g", "--group-by", choices=GROUPS, metavar="GROUP",
                       help="group by GROUP: " + ", ".join(GROUPS))
    group.add_argument("-b", "--block", type=address_argument,
                       metavar="ADDRESS",
                       help="display the memory block at ADDRESS: its size "
                            "and the traceback of its allocation")
    group.add_argument("-t", "--traceback", action="store_true",
                       help="display the NUMBER biggest memory blocks with "
                            "the tracebacks of their allocation")
    parser.set_defaults(group_by="line")
    parser.add_argument("-c", "--cumulative", action="store_true",
                        help="cumulate over all frames of each traceback")
    for letter, name, words in (
            ("i", "include", "keep only what was allocated at"),
            ("I", "include-traceback", "keep only what has a frame at"),
            ("x", "exclude", "leave out what was allocated at"),
            ("X", "exclude-traceback", "leave out what has a frame at")):
        parser.add_argument(
            "-" + letter, "--" + name, type=place, default=[],
            action="append", metavar="FILENAME[:LINENO]",
            help=words + " files that match the pattern FILENAME; may be "
                         "given several times")
    parser.add_argument("-M", "--hide-metrics", action="store_true",
                        help="hide the metrics")
    add_display_options(parser)
    return parser
