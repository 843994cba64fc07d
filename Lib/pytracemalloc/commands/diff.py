"""pytracemalloc diff: show what changed between two snapshots."""

import os.path

from pytracemalloc import holding
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.files import load_view, write_report
from pytracemalloc.options import (add_report_options, format_of,
                                   make_subject)

HELP = 'show what has grown between two snapshots'
DESCRIPTION = """\
Show what changed from one snapshot to another: as a table, as a flame graph
where red has grown and blue has shrunk, or as a pprof profile with a base.
"""
EPILOG = """\
examples:
  %(prog)s monday.tracemalloc friday.tracemalloc
  %(prog)s old.tracemalloc new.tracemalloc --by type
  %(prog)s old.tracemalloc new.tracemalloc --by holder
  %(prog)s old.tracemalloc new.tracemalloc --what total --include '*/shop/*'
  %(prog)s old.tracemalloc new.tracemalloc -o grown.html
  %(prog)s old.tracemalloc new.tracemalloc --format flamegraph
  %(prog)s old.tracemalloc new.tracemalloc -o grown.pb.gz
"""


def add_arguments(parser):
    parser.add_argument('old', metavar='OLD', help='the earlier snapshot')
    parser.add_argument('new', metavar='NEW', help='the later snapshot')
    add_report_options(parser)


def run(args):
    if holding.is_asked(args):
        holding.write_difference(args)
        return
    if holding.draws_graph(args):
        raise UsageError(f'{format_of(args)} shows one snapshot; use '
                         f'`pytracemalloc report`')
    subject, reporter = make_subject(args)
    subject.load(load_view(args.new, args), load_view(args.old, args))
    if holding.needs_references(args):
        holding.check_references(args.old, subject.old)
        holding.check_references(args.new, subject.new)
    limits = subject.old.traceback_limit, subject.new.traceback_limit
    if limits[0] != limits[1]:
        raise CommandError(
            f'{args.old} has tracebacks of up to {limits[0]} frames and '
            f'{args.new} of up to {limits[1]}; take both with the same -n')
    subject.title = (subject.title or
                     f'{os.path.basename(args.new)} compared to '
                     f'{os.path.basename(args.old)}')
    write_report(subject, reporter, args, args.new, '-diff')
