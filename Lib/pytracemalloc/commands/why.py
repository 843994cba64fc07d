"""pytracemalloc why: say who holds the objects of a line, a type, an address.
"""

import argparse
import json

from pytracemalloc.arguments import place, positive
from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.files import load_snapshot, show_text
from pytracemalloc.holding import looking
from pytracemalloc.reporters.dot import draw_paths
from tracemalloc.printable import printable

HELP = 'say who keeps objects alive, by line, type or address'
DESCRIPTION = """\
Say why objects are alive: who holds those that a line allocated, those of a
type, or the one at an address, and what would be freed with them. The snapshot
needs references: record them with `pytracemalloc run --references` or
`pytracemalloc snapshot PID --references`.
"""
EPILOG = """\
examples:
  %(prog)s app.tracemalloc app.py:4
  %(prog)s app.tracemalloc bytes --most 10
  %(prog)s app.tracemalloc Cache --json
  %(prog)s app.tracemalloc app.py:4 --dot | dot -Tsvg -o why.svg
"""


def add_arguments(parser):
    parser.add_argument('file', metavar='FILE',
                        help='a snapshot with references')
    parser.add_argument('what', metavar='SITE|TYPE|ADDRESS',
                        help='FILE:LINE, where FILE may be a pattern as for '
                             '--include; the name of a type, with or without '
                             'its module; or an address in hex, such as '
                             '0x7f00')
    parser.add_argument('--most', metavar='N', type=positive, default=3,
                        help='paths to show, the most common first (default: '
                             '3)')
    parser.add_argument('--all-frames', action='store_true',
                        help='FILE:LINE may be any line of a traceback, not '
                             'only the most recent')
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true',
                      help='write a JSON object')
    form.add_argument('--dot', action='store_true',
                      help='write the paths as a graph for Graphviz')


def run(args):
    question = _question(args.what)
    snapshot = load_snapshot(args.file, references=True)
    with looking(args.file):
        why = _ask(snapshot, question, args)
    if not (why.count or why.blocks):
        raise CommandError(f'{args.file}: {_nothing(args.what, question)}')
    if args.json:
        text = json.dumps(_document(args.what, why), indent=1) + '\n'
    elif args.dot:
        text = draw_paths(f'{args.file}: {args.what}', why)
    else:
        text = ''.join(f'{printable(line)}\n' for line in why.lines())
    show_text(text)


def _question(what):
    """Return the argument of Snapshot.why() and its value."""
    if what[:2] in ('0x', '0X'):
        try:
            return 'address', int(what, 16)
        except ValueError:
            raise UsageError(f'bad address {what!r}: give hex digits, as '
                             f'0x7f00') from None
    if ':' not in what:
        return 'type', what
    try:
        pattern, line = place(what)
    except argparse.ArgumentTypeError as exc:
        raise UsageError(str(exc)) from None
    return 'site', (pattern, line)


def _ask(snapshot, question, args):
    name, value = question
    why = snapshot.why(**{name: value}, most=args.most,
                       all_frames=args.all_frames)
    if name == 'site' and not (why.count or why.blocks):
        # `shop.py:26` matches in any directory.
        pattern, line = value
        why = snapshot.why(site=(f'*/{pattern}', line), most=args.most,
                           all_frames=args.all_frames)
    return why


def _nothing(what, question):
    return {'site': f'nothing that was allocated at {what} is live',
            'type': f'no live object has the type {what!r}; for a line, give '
                    f'FILE:LINE',
            'address': f'no traced object is at {what}'}[question[0]]


def _document(what, why):
    return {
        'format': 'pytracemalloc why', 'version': 1, 'what': what,
        'count': why.count, 'size': why.size, 'retained': why.retained,
        'unreached': why.unreached, 'blocks': why.blocks,
        'block_size': why.block_size, 'shapes': why.shapes,
        'types': [kind._asdict() for kind in why.types],
        'paths': [{'text': path.text, 'count': path.count,
                  'behind': path.behind, 'size': path.size,
                  'steps': [dict(zip(('name', 'what', 'filename', 'lineno'),
                                     step)) for step in path.steps]}
                 for path in why.paths]}
