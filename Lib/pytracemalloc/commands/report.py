"""pytracemalloc report: show one snapshot, or how several grew."""

from pytracemalloc import holding
from pytracemalloc.errors import UsageError
from pytracemalloc.files import (load_snapshot, load_view, make_view,
                                 write_report)
from pytracemalloc.options import (add_report_options, format_of,
                                   make_subject, uses_references)
from pytracemalloc.reporters import SERIES_FORMATS
from pytracemalloc.series import Series, note_limits
from pytracemalloc.threshold import add_threshold, check_options, judge

HELP = 'show a snapshot: text, HTML, flame graph, pprof and more'
DESCRIPTION = """\
Show what a snapshot holds, or which lines grew when in several snapshots.
HTML, flame graphs, pprof and speedscope files are written beside the snapshot
unless -o says where.
"""
EPILOG = """\
examples:
  %(prog)s app.tracemalloc
  %(prog)s app.*.tracemalloc         which lines grew when
  %(prog)s app.tracemalloc --by type --what count --top 30
  %(prog)s app.tracemalloc --by traceback --include '*/shop/*'
  %(prog)s app.tracemalloc --by holder --top 50
  %(prog)s app.tracemalloc --by type --what retained
  %(prog)s app.tracemalloc -o app.html
  %(prog)s app.tracemalloc --by holder -o held.html
  %(prog)s app.tracemalloc --format flamegraph --what peak
  %(prog)s app.tracemalloc -o heap.pb.gz && go tool pprof -http : heap.pb.gz
  %(prog)s app.tracemalloc --format collapsed | flamegraph.pl > app.svg
  %(prog)s app.tracemalloc --format heapsnapshot
  %(prog)s app.tracemalloc --what peak --fail-above 100MiB
  %(prog)s app.tracemalloc --format dot | dot -Tsvg -o app-holders.svg
"""


def add_arguments(parser):
    parser.add_argument('files', metavar='FILE', nargs='+',
                        help='a snapshot, written by `pytracemalloc run` or '
                             'Snapshot.dump(), or a pickle of stock Python; '
                             'or several, such as those of --every')
    add_report_options(parser)
    add_threshold(parser, 'SIZE', 'the sum is above SIZE, such as 100MiB')


def run(args):
    check_options(args)
    if len(args.files) > 1:
        _show_series(args)
        return
    args.file, = args.files
    if holding.is_asked(args):
        holding.write(args)
        return
    subject, reporter = make_subject(args)
    subject.load(load_view(args.file, args))
    if holding.needs_references(args):
        holding.check_references(args.file, subject.new)
    subject.title = subject.title or args.file
    write_report(subject, reporter, args, args.file)
    return judge(subject, args.fail_above)


def _show_series(args):
    if args.fail_above is not None:
        raise UsageError('--fail-above applies to one snapshot; compare two '
                         'with `pytracemalloc diff`')
    if (args.by in ('holder', 'address') or args.what == 'retained'
            or format_of(args) not in SERIES_FORMATS):
        raise UsageError('several snapshots can be shown only as '
                         f'{", ".join(SERIES_FORMATS)}; give one snapshot '
                         'for other formats, --by holder, --by address and '
                         '--what retained')
    subject, reporter = make_subject(args)
    series = _load(args, subject)
    series.finish(subject)
    last = series.taken[-1].path
    subject.title = (subject.title
                     or f'{len(args.files)} snapshots, the last one {last}')
    write_report(subject, reporter, args, last, '-series')


def _load(args, subject):
    """Return the Series: loaded twice, if the frames that all of them have
    are known at the end only."""
    lowest = None
    while True:
        series, limits = Series(), []
        for path in args.files:
            snapshot = load_snapshot(path, uses_references(args))
            limits.append(snapshot.traceback_limit)
            if lowest is not None:
                snapshot = snapshot._cut(lowest)
            series.add(path, make_view(path, snapshot, args), subject)
        if lowest is not None or min(limits) == max(limits):
            subject.note = note_limits(args.files, limits)
            return series
        lowest = min(limits)
