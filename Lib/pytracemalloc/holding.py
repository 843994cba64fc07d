"""Reports on who holds what: `report` and `diff --by holder`, `--what
retained`."""

import contextlib
import heapq
import json
import os.path
import sys

from pytracemalloc.errors import CommandError, UsageError
from pytracemalloc.files import create, load_view, note_empty, show_text
from pytracemalloc.measures import find_key, short_key
from pytracemalloc.options import format_of
from pytracemalloc.reporters import GRAPH_FORMATS
from pytracemalloc.terminal import Progress, shorten, width_of
from pytracemalloc.units import format_count
from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

HOLDER = 'holder'
RETAINED = 'retained'
# The keys of Snapshot.retained(), on the command line.
_KEYS = ('line', 'file', 'function', 'module', 'type', 'type+line')
# By holder, and by other keys: the page has the latter in its tables anyway.
_FORMATS = {True: 'text, json or html', False: 'text or json'}
_TOP = 30                         # rows of the tree
_FIGURES = 33                     # columns
_NONE = 'the snapshot has no references'
_RECORD = ('record them with `pytracemalloc run --references` or '
           '`pytracemalloc snapshot PID --references`')


@contextlib.contextmanager
def looking(path):
    """Ask a snapshot about holders; report an error if it cannot say."""
    try:
        with Progress('Looking for holders'):
            yield
    except ValueError as exc:
        reason = str(exc)
        if reason.startswith(_NONE):
            reason = f'{_NONE}: {_RECORD}'
        raise CommandError(f'{path}: {reason}') from None


def is_asked(args):
    """Does this module write the report?"""
    return ((args.by == HOLDER or args.what == RETAINED)
            and not needs_references(args))


def needs_references(args):
    """Is it a report of another module that shows references?"""
    return draws_graph(args) or (args.by == HOLDER
                                 and format_of(args) == 'html')


def draws_graph(args):
    """Does the format show references?"""
    return format_of(args) in GRAPH_FORMATS


def check_references(path, snapshot):
    if not snapshot.has_references:
        raise CommandError(f'{path}: {_NONE}: {_RECORD}')


def write(args):
    """Write the report that the arguments of `report` ask for."""
    _check(args)
    snapshot = load_view(args.file, args).passing
    with looking(args.file):
        found = (snapshot.holders() if args.by == HOLDER else
                 snapshot.retained(find_key(short_key(args.by))[0]))
    if args.format == 'json':
        _write_json(args, _document(args, snapshot, found))
    else:
        _write_lines(args, (_tree_lines if args.by == HOLDER else
                            _table_lines)(args, snapshot, found))


def write_difference(args):
    """Write the report that the arguments of `diff` ask for."""
    if args.by != HOLDER:
        raise UsageError('--what retained compares two snapshots only by '
                         'holder; add --by holder')
    _check(args)
    old, new = [load_view(path, args).passing
                for path in (args.old, args.new)]
    for path, snapshot in (args.old, old), (args.new, new):
        check_references(path, snapshot)
    with looking(args.new):
        root = new.compare_holders(old)
    if args.format == 'json':
        _write_json(args, {
            'traced_memory': new.traced_memory[0],
            'old_traced_memory': old.traced_memory[0],
            'holders': _flat(root, 'retained_diff', 'count_diff')})
    else:
        _write_lines(args, _difference_lines(args, old, new, root))


def _check(args):
    """Check the options."""
    what = '--by holder' if args.by == HOLDER else '--what retained'
    if args.format is None and str(args.output).endswith('.json'):
        args.format = 'json'
    if args.format not in (None, 'text', 'json'):
        raise UsageError(f'{what} is written as '
                         f'{_FORMATS[args.by == HOLDER]}, not {args.format}')
    if args.by == HOLDER and args.what not in ('size', RETAINED):
        raise UsageError(f'--by holder shows what is retained; leave out '
                         f'--what {args.what}')
    if args.by != HOLDER and short_key(args.by) not in _KEYS:
        raise UsageError(f'--what retained works only with --by '
                         f'{", ".join(_KEYS)} or holder')
    if args.cumulative:
        raise UsageError(f'{what} does not work with --cumulative; leave it '
                         f'out')


def _write_json(args, document):
    document = {'format': 'pytracemalloc holders', 'version': 1} | document
    _write(args, json.dumps(document, indent=1) + '\n')


def _write_lines(args, lines):
    width = None if args.output else width_of(sys.stdout)
    _write(args, ''.join(f'{_fit(printable(line), width)}\n'
                         for line in lines))


def _write(args, text):
    if args.output in (None, '-'):
        show_text(text)
    else:
        with create(args.output, args.force) as file:
            file.write(text)
    note_empty(args)


def _fit(line, width):
    """Shorten the names, not the figures."""
    if width is None or not line.startswith(' '):
        return line[:width]
    figures = line[:_FIGURES]
    return figures + shorten(line[_FIGURES:], max(1, width - len(figures)))


# --- Text


def _row(first, second, third, name):
    return f'{first:>9} {second:>10} {third:>10}  {name}'.rstrip()


def _heading(title, snapshot):
    yield title
    current, peak = snapshot.traced_memory
    yield (f'Traced memory: {format_size(current)}, '
           f'peak {format_size(peak)}')


def _tree_lines(args, snapshot, root):
    yield from _heading(args.title or args.file, snapshot)
    yield 'Holders by the memory that would go with them:'
    yield _row('retained', 'size', 'count', '')
    for holder, depth in walk(root, choose(root, args.top or _TOP,
                                             'retained')):
        yield _row(format_size(holder.retained), format_size(holder.size),
                   format_count(holder.count),
                   '  ' * (depth - 1) + str(holder))
    yield _row(format_size(root.retained), '', '', 'total')


def _difference_lines(args, old, new, root):
    yield args.title or (f'{os.path.basename(args.new)} compared to '
                         f'{os.path.basename(args.old)}')
    before, current = old.traced_memory[0], new.traced_memory[0]
    yield (f'Traced memory: {format_size(current)} '
           f'({format_size(current - before, sign=True)})')
    yield 'Holders by the change of the memory that would go with them:'
    yield _row('change', 'retained', 'change', '')
    for holder, depth in walk(root, choose(root, args.top or _TOP,
                                             'retained_diff')):
        yield _row(format_size(holder.retained_diff, sign=True),
                   format_size(holder.retained),
                   format_count(holder.count_diff, sign=True),
                   '  ' * (depth - 1) + str(holder))
    yield _row(format_size(root.retained_diff, sign=True),
               format_size(root.retained), '', 'total')


def choose(root, top, attribute):
    """Return the ids of the holders with the largest values, whose parents
    are among them."""
    chosen = set()
    heap = []
    parent = root
    while len(chosen) < top:
        for child in parent.children:
            value = abs(getattr(child, attribute))
            if value:
                heapq.heappush(heap, (-value, id(child), child))
        if not heap:
            break
        _, number, parent = heapq.heappop(heap)
        chosen.add(number)
    return chosen


def walk(root, chosen):
    """Yield (holder, depth) of those that are chosen."""
    stack = [(root, 0)]
    while stack:
        holder, depth = stack.pop()
        if depth:
            yield holder, depth
        stack += [(child, depth + 1) for child in reversed(holder.children)
                  if id(child) in chosen]


def _table_lines(args, snapshot, found):
    yield from _heading(args.title or args.file, snapshot)
    _, plural = find_key(short_key(args.by))
    top = args.top or 10
    yield f'Top {top} {plural} by what their objects retain:'
    yield _row('retained', 'size', 'count', '')
    for group in found[:top]:
        yield _row(format_size(group.retained), format_size(group.size),
                   format_count(group.count), _name(args.by, group.key))


def _name(by, key):
    if key is None:
        return 'unknown'
    by = short_key(by)
    if by == 'line':
        return name_place(key.filename, key.lineno, key.function)
    if by == 'function':
        filename, function, line = key
        return name_place(filename, line, function)
    if by == 'type+line':
        kind, frame = key
        return f'{kind}:{name_place(*frame) if frame else "unknown"}'
    return str(key)


# --- JSON


def _document(args, snapshot, found):
    document = {'traced_memory': snapshot.traced_memory[0]}
    if args.by == HOLDER:
        return document | {'holders': _flat(found)}
    by = short_key(args.by)
    return document | {'by': by, 'retained': [
        _fields(by, group.key) | {'count': group.count, 'size': group.size,
                                  'retained': group.retained}
        for group in found]}


def _flat(root, *more):
    """Return the tree as a list; each has the number of its parent."""
    rows = []
    stack = [(root, None)]
    while stack:
        holder, parent = stack.pop()
        number = len(rows)
        rows.append({
            'parent': parent, 'name': holder.name, 'what': holder.what,
            'type': holder.type, 'filename': holder.filename,
            'lineno': holder.lineno, 'repeats': holder.repeats,
            'count': holder.count, 'size': holder.size,
            'retained': holder.retained}
            | {name: getattr(holder, name) for name in more})
        stack += [(child, number) for child in reversed(holder.children)]
    return rows


def _fields(by, key):
    if by == 'line':
        return dict(zip(('filename', 'lineno', 'function'),
                        (key.filename, key.lineno, key.function)
                        if key else (None,) * 3))
    if by == 'function':
        return dict(zip(('filename', 'function', 'first_lineno'),
                        key or (None,) * 3))
    if by == 'type+line':
        kind, frame = key
        return {'type': kind} | dict(zip(('filename', 'lineno'),
                                         frame or (None, None)))
    return {by: key}
