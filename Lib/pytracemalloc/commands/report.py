"""pytracemalloc report: show one snapshot."""

from pytracemalloc import holding
from pytracemalloc.files import load_view, write_report
from pytracemalloc.options import add_report_options, make_subject

HELP = 'show a snapshot: text, HTML, flame graph, pprof and more'
DESCRIPTION = """\
Show what a snapshot holds. HTML, flame graphs, pprof and speedscope files are
written beside it unless -o says where.
"""
EPILOG = """\
examples:
  %(prog)s app.tracemalloc
  %(prog)s app.tracemalloc --by type --what count --top 30
  %(prog)s app.tracemalloc --by traceback --include '*/shop/*'
  %(prog)s app.tracemalloc --by holder --top 50
  %(prog)s app.tracemalloc --by type --what retained
  %(prog)s app.tracemalloc -o app.html
  %(prog)s app.tracemalloc --format flamegraph --what peak
  %(prog)s app.tracemalloc -o heap.pb.gz && go tool pprof -http : heap.pb.gz
  %(prog)s app.tracemalloc --format collapsed | flamegraph.pl > app.svg
  %(prog)s app.tracemalloc --format heapsnapshot
  %(prog)s app.tracemalloc --format dot | dot -Tsvg -o app-holders.svg
"""


def add_arguments(parser):
    parser.add_argument('file', metavar='FILE',
                        help='a snapshot, of `pytracemalloc run` or of '
                             'Snapshot.dump(); pickles of stock Python too')
    add_report_options(parser)


def run(args):
    if holding.is_asked(args):
        holding.write(args)
        return
    subject, reporter = make_subject(args)
    subject.load(load_view(args.file, args))
    if holding.draws_graph(args):
        holding.check_references(args.file, subject.new)
    subject.title = subject.title or args.file
    write_report(subject, reporter, args, args.file)
