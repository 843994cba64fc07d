"""Who owns the resident memory of the process: what rss() returns."""

from collections import namedtuple

import _tracemalloc
from _tracemalloc import _hidden
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

ResidentRow = namedtuple('ResidentRow', 'owner name state count size')

# A line of code; size and count of its blocks; how many arenas have some, and
# the bytes of these that it keeps; the same of sparse pools, which are less
# than a quarter full.
ArenaLine = namedtuple('ArenaLine', 'filename lineno size count arenas kept '
                                    'sparse_pools sparse_kept')
# Pools for blocks of one size; fills: a Fill of those that are less than a
# quarter full, less than half, less than three quarters, less than full, full.
SizeClass = namedtuple('SizeClass',
                       'block_size pools used_blocks free_blocks fills')
Fill = namedtuple('Fill', 'pools free_blocks')
# count, size: of the arenas; used: bytes of the blocks in them; given_back:
# bytes that would be given back if the blocks lay side by side; pools: those
# with blocks; spare_pools: how many of these would then have none; lines and
# classes: those that keep most come first.  None: not known.
ArenaUse = namedtuple('ArenaUse', 'count size used given_back pools '
                                  'spare_pools lines classes')
for _kind in ResidentRow, ArenaLine, SizeClass, Fill, ArenaUse:
    _kind.__module__ = 'tracemalloc'

# Owners and states in words; owners in the order of reports.
OWNERS = {
    'pymalloc': "pymalloc's arenas",
    'mimalloc': "CPython's mimalloc",
    'malloc': 'malloc()',
    'mapping': 'mappings that a library points to',
    'stack': 'stacks of threads',
    'data': 'data of the program and libraries',
    'code': 'code of the program and libraries',
    'file': 'mapped files',
    'shared': 'shared memory',
    'tracer': 'the tracer',
    'kernel': 'the kernel',
    'unexplained': 'unexplained',
}
_STATES = {
    'live': 'live blocks',
    'parked': 'blocks on free lists',
    'free': 'free blocks',
    'never used': 'never used',
    'overhead': 'headers and remainders of pools',
    'slack': 'not in use',
}
SHOWN = 5                         # names of an owner, in a text
_RECORDED = 12                    # names of an owner, in a snapshot
_MOST_ROWS = 1000                 # of a file

_NOTES = {
    _tracemalloc._RSS_NO_SMAPS:
        'smaps cannot be read: only what Python has mapped is known, and the '
        'total is that of statm',
    _tracemalloc._RSS_NO_PAGEMAP:
        'pagemap cannot be read: pages of zeros that were only read may be '
        'counted with a wrong owner of the same mapping',
    _tracemalloc._RSS_NO_MEMORY_FILE:
        '/proc/self/mem cannot be read: stacks of threads, and what malloc() '
        'and libraries have mapped, are unexplained',
    _tracemalloc._RSS_TOO_MANY:
        'there are too many mappings: some are unexplained',
    _tracemalloc._RSS_NOTHING:
        'there is no /proc: only what Python has mapped is known and is in '
        'the total',
}
_UNTRACED = ('tracing is off: blocks on free lists are counted as live')


class ResidentMemory:
    """The resident memory of the process, by owner.

    rows: list of ResidentRow (owner, name, state, count, size), the largest
    first; total: the kernel's own figure in bytes, to which the rows add up;
    unexplained: bytes of it whose owner is not known; notes: what could not be
    looked at, a sentence each.  str() is a table.
    """
    __module__ = 'tracemalloc'

    def __init__(self, rows, total, notes=()):
        self.rows = sorted((ResidentRow(*row) for row in rows),
                           key=lambda row: (-row.size, row))
        self.total = total
        self.notes = list(notes)

    @property
    def unexplained(self):
        return self.sum('unexplained')

    def sum(self, owner, state=None):
        """Bytes of the rows of an owner, of one *state* or of all."""
        return sum(row.size for row in self.rows if row.owner == owner
                   and state in (None, row.state))

    def _plain(self):
        """As JSON has it."""
        return {'rows': [[*row] for row in self.rows], 'total': self.total,
                'notes': self.notes}

    def __repr__(self):
        return (f'<ResidentMemory total={self.total} '
                f'unexplained={self.unexplained}>')

    def __str__(self):
        return '\n'.join(self.format())

    def format(self, shown=SHOWN):
        """Lines of a table, with the *shown* largest rows of each owner, or
        all if it is None."""
        lines = [f'{format_size(self.total):>10}         resident memory']
        for owner, what in OWNERS.items():
            rows = [row for row in self.rows if row.owner == owner]
            if rows:
                lines.append(self._line(sum(row.size for row in rows), what))
                lines.extend(self._details(rows, shown))
        return lines + [f'Note: {printable(note)}.' for note in self.notes]

    def _line(self, size, text):
        share = size / self.total if self.total else 0
        return f'{format_size(size):>10}  {share:6.1%}  {text}'

    def _details(self, rows, shown):
        if len(rows) == 1 and not describe(rows[0]):
            return
        if shown is None or len(rows) == shown + 1:
            shown = len(rows)     # a line for the last one instead
        for row in rows[:shown]:
            yield self._line(row.size, f'  {describe(row)}')
        if rest := rows[shown:]:
            yield self._line(sum(row.size for row in rest),
                             f'  {len(rest)} others')


def arena_use(snapshot):
    """Who keeps the arenas, of a snapshot with traces."""
    (count, size, used, pool_size, lines,
     sizes) = snapshot.traces._traces._arena_use()
    lines = [ArenaLine(frame[0], frame[1], *figures, round(kept), pools,
                       round(pools_kept))
             for frame, *figures, kept, pools, pools_kept in lines]
    lines.sort(key=lambda line: (-line.kept, line))
    if not pool_size:             # of an older file, or without traces
        return ArenaUse(count, size, used, None, None, None, lines, None)
    classes = [_size_class(*row) for row in sizes]
    classes.sort(key=lambda row: -row.block_size * row.free_blocks)
    pools = sum(row.pools for row in classes)
    needed = sum(-(-sum(used for _, used in fills) // room)
                 for _, room, fills in sizes)
    given_back = 0
    if count:
        # An arena begins with a page, not with a pool, which costs one.
        room = max(1, size // count // pool_size - 1)
        given_back = max(0, count - -(-needed // room)) * (size // count)
    return ArenaUse(count, size, used, given_back, pools, pools - needed,
                    lines, classes)


def _size_class(block_size, room, fills):
    fills = tuple([Fill(pools, pools * room - used) for pools, used in fills])
    pools = sum(fill.pools for fill in fills)
    free = sum(fill.free_blocks for fill in fills)
    return SizeClass(block_size, pools, pools * room - free, free, fills)


def _fold(rows, most):
    """The *most* largest rows of each owner, and one for its others."""
    folded = []
    others = {}
    counts = dict.fromkeys(OWNERS, 0)
    for row in sorted(rows, key=lambda row: -row[4]):
        owner, name, state, count, size = row
        counts[owner] += 1
        if counts[owner] <= most:
            folded.append(row)
        else:
            before = others.get(owner, (0, 0))
            others[owner] = before[0] + count, before[1] + size
    return folded + [(owner, 'others', '', *figures)
                     for owner, figures in others.items()]


def record():
    """What a snapshot records; None, if there is no address space to look."""
    looked = _look()
    if looked is None:
        return None
    rows, total, notes = looked
    return {'rows': _fold(rows, _RECORDED), 'total': total, 'notes': notes}


def check(recorded):
    """Return what a file has of record(); ValueError if it cannot be that."""
    if recorded is None:
        return None
    rows = recorded['rows']
    if not all(isinstance(part, list) for part in (rows, recorded['notes'])) \
            or len(rows) > _MOST_ROWS or len(recorded['notes']) > len(_NOTES):
        raise ValueError("resident memory of another form")
    if not all(isinstance(text, str) for text in recorded['notes']):
        raise ValueError("a note of resident memory is no text")
    return {'rows': [_check_row(*row) for row in rows],
            'total': _check_count(recorded['total']),
            'notes': recorded['notes']}


def _check_row(owner, name, state, count, size):
    if owner not in OWNERS or not (isinstance(name, str)
                                   and isinstance(state, str)):
        raise ValueError("an owner of resident memory is of another form")
    return owner, name, state, _check_count(count), _check_count(size)


def _check_count(value):
    if type(value) is not int or not 0 <= value < 2 ** 64:
        raise ValueError("a figure of resident memory is no number")
    return value


def describe(row):
    """What a row is, without its owner; '' if there is no more to say."""
    name = printable(row.name)
    state = _STATES.get(row.state, printable(row.state))
    if row.owner == 'stack' and row.count > 1:
        name += f' ({row.count})'
    return ': '.join(filter(None, (name, state)))


@_hidden
def rss():
    """Get who owns the resident memory of this process: a ResidentMemory.

    Sizes are in bytes, and each resident page has one owner; a page of an
    arena is divided among its blocks.  The rows add up to what the kernel
    counts in smaps.  If tracing is off, blocks on free lists are counted as
    live.

    It takes 20 to 30 ms for each GiB.  Other threads run meanwhile, but for
    the time in which the arenas are listed and examined.  Memory of the
    program is neither changed nor allocated until the rows are complete.
    """
    looked = _look()
    if looked is None:
        raise MemoryError('no address space to look at resident memory')
    return ResidentMemory(*looked)


def _look(proc='/proc/self'):
    looked = _tracemalloc._rss(proc)
    if looked is None:
        return None
    rows, total, _own, lacks, traced = looked
    notes = [note for bit, note in _NOTES.items() if lacks & bit]
    if not traced and any(row[0] == 'pymalloc' for row in rows):
        notes.append(_UNTRACED)
    return rows, total, notes
