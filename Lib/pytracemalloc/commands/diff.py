"""pytracemalloc diff: show what changed between two snapshots."""

import os.path

from pytracemalloc import holding
from pytracemalloc.errors import UsageError
from pytracemalloc.files import load_snapshot, make_view, write_report
from pytracemalloc.options import (add_report_options, format_of,
                                   make_subject, uses_references)
from pytracemalloc.series import note_limits
from pytracemalloc.threshold import add_threshold, check_options, judge
from tracemalloc.snapshot import cut_to_lowest

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
  %(prog)s old.tracemalloc new.tracemalloc --what peak --fail-above 5%
"""


def add_arguments(parser):
    parser.add_argument('old', metavar='OLD', help='the earlier snapshot')
    parser.add_argument('new', metavar='NEW', help='the later snapshot')
    add_report_options(parser)
    add_threshold(parser, 'SHARE|SIZE', 'the sum has grown by more, such as '
                  '5%% or 1MiB')


def run(args):
    check_options(args)
    if holding.is_asked(args):
        holding.write_difference(args)
        return
    if holding.draws_graph(args):
        raise UsageError(f'{format_of(args)} shows one snapshot; use '
                         f'`pytracemalloc report`')
    subject, reporter = make_subject(args)
    paths = args.old, args.new
    snapshots = [load_snapshot(path, uses_references(args)) for path in paths]
    subject.note = note_limits(paths, [snapshot.traceback_limit
                                       for snapshot in snapshots])
    old, new = [make_view(path, snapshot, args) for path, snapshot
                in zip(paths, cut_to_lowest(snapshots))]
    subject.load(new, old)
    if holding.needs_references(args):
        holding.check_references(args.old, subject.old)
        holding.check_references(args.new, subject.new)
    subject.title = (subject.title or
                     f'{os.path.basename(args.new)} compared to '
                     f'{os.path.basename(args.old)}')
    write_report(subject, reporter, args, args.new, '-diff')
    return judge(subject, args.fail_above)
