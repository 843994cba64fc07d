"""pytracemalloc recover: make a snapshot of a call tree that was kept."""

import os.path

from pytracemalloc import documents, failed, kept
from pytracemalloc.files import check_output
from pytracemalloc.options import add_json
from pytracemalloc.terminal import Progress
from pytracemalloc.units import format_count
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

HELP = 'make a snapshot of what a process that was killed has left'
DESCRIPTION = """\
Make a snapshot from the call tree that a traced process kept in a file: what
was live when it ended, whatever ended it. `pytracemalloc run` does this by
itself, unless it was killed, too. The command also reads the tree that a
process wrote when a request for memory failed, and shows the size and the
stack of that request.
"""
EPILOG = """\
examples:
  %(prog)s killed.kept
  %(prog)s killed.kept -f -o app.tracemalloc
  %(prog)s app.oom                    of -X tracemalloc_oom=app.oom, or run
"""


def add_arguments(parser):
    parser.add_argument('file', metavar='FILE', help='the tree, as -X '
                        'tracemalloc_file, -X tracemalloc_oom or '
                        '`pytracemalloc run` has left it')
    parser.add_argument('-o', '--output', metavar='FILE', help='the snapshot '
                        '(default: FILE, ending in .tracemalloc)')
    parser.add_argument('-f', '--force', action='store_true',
                        help='overwrite the snapshot if it exists')
    add_json(parser)


def run(args):
    output = args.output or _name_snapshot(args.file)
    with Progress(f'Reading {os.path.basename(args.file)}'):
        snapshot, known = kept.load(args.file)
    check_output(output, args.force)
    snapshot.dump(output)
    blocks = sum(stat.count for stat in snapshot.statistics('filename'))
    if args.json:
        current, peak = snapshot.traced_memory
        documents.show([documents.make(
            'recover', pid=known['pid'], command=kept.name_command(known),
            runs=known['runs'], file=output, traced_memory=current,
            peak_memory=peak, blocks=blocks, replaced=known['replaced'],
            incomplete=bool(known['incomplete']), missing=known['missing'],
            failed_request=snapshot.metadata.get(failed.KEY))])
        return
    for line in _describe(snapshot, known, blocks):
        print(line)
    print(f'Wrote {printable(output)}')


def _name_snapshot(path):
    stem = path.removesuffix(kept.KEPT)
    return stem if stem.endswith('.tracemalloc') else f'{stem}.tracemalloc'


def _describe(snapshot, known, blocks):
    live, peak = map(format_size, snapshot.traced_memory)
    if known['failure'] is not None:
        yield failed.line(snapshot)
        yield from failed.stack(snapshot)
    state = ('still runs' if known['runs'] else
             f'has {kept.REPLACED}' if known['replaced'] else 'has ended')
    yield (f'Process {known["pid"]} ({kept.name_command(known)}) {state}: '
           f'{live} in {format_count(blocks)} blocks live'
           f'{" then" if known["failure"] else ""}, {peak} at the peak')
    yield from kept.describe_losses(known)
