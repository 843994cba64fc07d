"""Options that commands share."""

import os
import sys

from pytracemalloc.arguments import (MINE_HELP, MY_CODE_HELP, c_frames,
                                     place, positive)
from pytracemalloc.errors import UsageError
from pytracemalloc.measures import (BLOCK_KEYS, KEYS, find_measure,
                                    short_key)
from pytracemalloc.reporters import (ALL_FORMATS, GRAPH_FORMATS, Subject,
                                     find_reporter)
from pytracemalloc.terminal import can_encode, width_of


def add_report_options(parser):
    keys = *KEYS, 'holder'
    parser.add_argument('--by', metavar='KEY', default='line',
                        help=f'group by {", ".join(keys)} (default: line)')
    parser.add_argument('--format', metavar='FORMAT',
                        help=f'{", ".join(ALL_FORMATS)} (default: by the '
                             f'suffix of -o, or text)')
    parser.add_argument('--json', dest='format', action='store_const',
                        const='json', help='the same as --format json')
    parser.add_argument('--what', metavar='VALUE', default='size',
                        help='size or count of live blocks, peak, total '
                             '(ever allocated) or garbage (freed by the '
                             'cyclic collector); with some keys, retained '
                             '(what would be freed with them) (default: '
                             'size)')
    parser.add_argument('--top', metavar='N', type=positive,
                        help='number of rows of the text (default: 10)')
    parser.add_argument('--cumulative', action='store_true',
                        help='count a block for every line of its traceback')
    add_view(parser)
    add_filters(parser)
    parser.add_argument('--debuginfod', action='store_true',
                        help='ask the servers of DEBUGINFOD_URLS for the names '
                             'of C functions')
    parser.add_argument('--title', help='heading of the report')
    parser.add_argument('-o', '--output', metavar='OUT',
                        help='write to this file, - for standard output')
    parser.add_argument('-f', '--force', action='store_true',
                        help='overwrite OUT if it exists')


def add_target(parser):
    parser.add_argument('target', metavar='PID|SOCKET|DIRECTORY',
                        help='process id, path of the control socket, or of '
                             'a directory with those of several processes')
    add_wait(parser)


def add_json(parser):
    parser.add_argument('--json', action='store_true',
                        help='write JSON, one object for each line')


def add_native(parser):
    parser.add_argument('--native', action='store_true',
                        help='also trace what C code takes from malloc() and '
                             'mmap()')
    parser.add_argument('--native-frames', metavar='N', type=c_frames,
                        help='the same, with up to N C frames of each block, '
                             'which --by native shows')


def native_option(args):
    """Return what start() gets for native memory."""
    return args.native_frames or args.native


def add_wait(parser):
    parser.add_argument('--wait', metavar='S', type=positive, default=10,
                        help='seconds to wait for the answer of a program '
                             'without a socket (default: 10)')


def add_kind(parser):
    parser.add_argument('--no-traces', dest='traces', action='store_false',
                        help='a smaller snapshot: only the call tree, '
                             'without addresses and types')
    parser.add_argument('--references', action='store_true',
                        help='also record which objects refer to which')
    parser.add_argument('--keys', action='store_true',
                        help='with --references: also record the keys of all '
                             'dictionaries as text, which may be secret')


def kind_options(args):
    """Return the arguments of take_snapshot() that are asked for."""
    if args.references and not args.traces:
        raise UsageError('--references needs the traces; leave out '
                         '--no-traces')
    if args.keys and not args.references:
        raise UsageError('--keys needs references; add --references')
    kind = {}
    if not args.traces:
        kind['traces'] = False
    if args.references:
        kind['references'] = True
    if args.keys:
        kind['keys'] = True
    return kind


def add_view(parser):
    parser.add_argument('--unfold', action='store_true',
                        help='show the import system and the interpreter, '
                             'instead of charging imports to the line that '
                             'imports')
    parser.add_argument('--my-code', action='store_true',
                        help=MY_CODE_HELP)
    parser.add_argument('--mine', metavar='PATTERN', default=[],
                        action='append', help=MINE_HELP)


def view_options(args):
    """Return the arguments of views.view_of(), plain data."""
    if args.unfold and (args.my_code or args.mine):
        raise UsageError('--unfold shows what --my-code and --mine fold; '
                         'leave one out')
    return {'unfold': args.unfold, 'my_code': args.my_code or bool(args.mine),
            'mine': args.mine}


def check_tasks(by, view):
    """Refuse groups by task in a view that has no tasks."""
    if by == 'task' and view['my_code']:
        raise UsageError('--by task needs the frames of the event loop, '
                         'which --my-code hides; leave out one')


def add_filters(parser):
    parser.set_defaults(empty=())         # snapshots that these leave empty
    parser.add_argument('--include', metavar='PATTERN[:LINE]', default=[],
                        action='append', type=place,
                        help='only blocks allocated in files that match this '
                             'shell pattern, or with --cumulative only the '
                             'lines there; may be repeated')
    parser.add_argument('--exclude', metavar='PATTERN[:LINE]', default=[],
                        action='append', type=place,
                        help='leave out blocks of files that match')
    parser.add_argument('--all-frames', action='store_true',
                        help='filters look at every line of a traceback, '
                             'not only at the most recent')


def make_filters(args):
    """Return the list of tracemalloc.Filter that the options ask for."""
    import tracemalloc
    return [tracemalloc.Filter(inclusive, pattern, line, args.all_frames)
            for inclusive, places in ((True, args.include),
                                      (False, args.exclude))
            for pattern, line in places]


def line_filters(args):
    """Return the filters that pick lines, not blocks: a line that passes also
    counts the blocks of its callees, wherever they were allocated."""
    return (make_filters(args) if args.cumulative and not args.all_frames
            else [])


def make_subject(args):
    """Return (Subject without snapshots, reporter), from the options alone."""
    name = format_of(args)
    reporter = find_reporter(name)
    reporter.check()
    if args.debuginfod:
        if not os.environ.get('DEBUGINFOD_URLS'):
            raise UsageError('--debuginfod asks the servers of '
                             'DEBUGINFOD_URLS; set this variable')
        from tracemalloc.native import ask_servers
        ask_servers()
    if name in GRAPH_FORMATS or (name == 'html' and args.by == 'holder'):
        return _graph_subject(args, name), reporter
    by = short_key(args.by)
    measure = find_measure(args.what)
    if name in ('text', 'csv', 'json'):
        if by in BLOCK_KEYS and measure.name not in ('size', 'count'):
            raise UsageError(f'--by {by} covers live memory only; leave out '
                             f'--what {measure.name}')
        if by in (*BLOCK_KEYS, 'traceback', 'task') and args.cumulative:
            raise UsageError(f'--by {by} does not work with --cumulative; '
                             f'leave it out')
        check_tasks(by, view_options(args))
    subject = Subject(None, title=args.title or '', by=by,
                      measure=measure, count=args.top or 10,
                      cumulative=args.cumulative, filters=line_filters(args),
                      view=view_options(args),
                      width=None if args.output else width_of(sys.stdout),
                      unicode=bool(args.output)
                      or can_encode(sys.stdout, '▁█'))
    return subject, reporter


def _graph_subject(args, name):
    if (args.by not in ('line', 'holder')
            or args.what not in ('size', 'retained') or args.cumulative):
        by = '--by, ' if name in GRAPH_FORMATS else ''
        raise UsageError(f'{name} shows who holds what is live; leave out '
                         f'{by}--what and --cumulative')
    return Subject(None, title=args.title or '', by=args.by,
                   count=args.top or 30, view=view_options(args))


def uses_references(args):
    """Does the command use references, if there are any?"""
    # A comparison says who holds the suspected leaks.
    return (hasattr(args, 'old') or not hasattr(args, 'by')
            or args.by == 'holder' or args.what == 'retained'
            or format_of(args) in ('html', *GRAPH_FORMATS))


def format_of(args):
    """Return the name of the format that is asked for."""
    return args.format or _format_of(args.output) or 'text'


def _format_of(output):
    if output is None:
        return None
    suffixes = {find_reporter(name).suffix: name for name in ALL_FORMATS}
    # Longest first: .speedscope.json before .json.
    for suffix in sorted(suffixes, key=len, reverse=True):
        if output.endswith(suffix):
            return suffixes[suffix]
    return {'pb': 'pprof', 'pprof': 'pprof', 'htm': 'html'}.get(
        output.rpartition('.')[2])
