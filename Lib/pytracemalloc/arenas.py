"""What reports say about resident memory: who owns it, and which lines keep
the arenas of the allocator."""

from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.resident import OWNERS
from tracemalloc.sizes import format_size

_SHOWN = 3
_MUCH = 32 << 20                  # bytes that a short report mentions
_PART = .25                       # of the arenas, which may be given back
_FILLS = 'under 25%', 'under 50%', 'under 75%', 'under 100%', 'full'


def sum_owners(rss):
    """Return [(what, bytes)] of the owners, the largest first; the last one is
    what is unexplained."""
    sums = [(what, rss.sum(owner)) for owner, what in OWNERS.items()
            if owner != 'unexplained']
    return [*sorted(((what, size) for what, size in sums if size),
                    key=lambda pair: -pair[1]),
            (OWNERS['unexplained'], rss.unexplained)]


def brief_rss(rss):
    """Say in one line who owns most."""
    *owners, (unexplained, rest) = sum_owners(rss)
    parts = [f'{what} {format_size(size)}' for what, size in owners[:_SHOWN]]
    share = rest / rss.total if rss.total else 0
    return (f'{format_size(rss.total)}: {", ".join(parts)}; '
            f'{unexplained} {share:.1%}')


def brief_arenas(use):
    """Say in one line what the arenas are for."""
    text = f'{format_size(use.size)}, {format_size(use.used)} in blocks'
    if use.given_back is not None:
        text += (f'; {format_size(use.given_back)} and {use.spare_pools:,} '
                 f'of {_count(use.pools, "pool")} could be given back if '
                 f'these lay side by side')
    return text


def _count(number, noun):
    return f'{number:,} {noun}' + 's' * (number != 1)


def name_line(line):
    """Say what a line keeps."""
    text = (f'{_name(line)}, with {format_size(line.size)} in '
            f'{_count(line.arenas, "arena")}')
    if line.sparse_pools:
        text += (f'; {_count(line.sparse_pools, "pool")} less than a quarter '
                 f'full, {format_size(line.sparse_kept)}')
    return text


def _name(line):
    return printable(name_place(line.filename, line.lineno))


def lines(snapshot):
    """Return what a short report says, as lines: nothing, if there is little
    resident memory."""
    rss = snapshot.rss
    if rss is None or rss.total < _MUCH:
        return []
    found = [f'Resident: {brief_rss(rss)}']
    use = snapshot.arena_use
    if use.given_back and use.given_back >= _PART * use.size:
        found.append(f'Arenas: {brief_arenas(use)}; kept by:')
        found += keepers(use)
    return found


def keepers(use, shown=_SHOWN):
    """Return a line for each of the lines of code that keep most."""
    return [f'{format_size(line.kept):>10}  {name_line(line)}'
            for line in use.lines[:shown]]


def describe(use, shown=10):
    """Return all that is known of the arenas, as lines."""
    if not use.count:
        return []
    found = [f'Arenas: {brief_arenas(use)}.']
    if use.lines:
        found += ['Lines that keep them:', *keepers(use, shown)]
    wasted = [row for row in use.classes or () if row.free_blocks]
    if wasted:
        found.append('Sizes of blocks, what is free in their pools, and how '
                     'full these are:')
        found += map(_describe_class, wasted[:shown])
    return found


def _describe_class(row):
    free = row.block_size * row.free_blocks
    whole = row.block_size * (row.free_blocks + row.used_blocks)
    fills = ', '.join(f'{fill.pools:,} {name}'
                      for fill, name in zip(row.fills, _FILLS) if fill.pools)
    return (f'{format_size(free):>10}  {free / whole:6.1%}  '
            f'{row.block_size} B, in {_count(row.pools, "pool")}: {fills}')


def document_rss(rss):
    """Return what JSON has of resident memory."""
    return {'total': rss.total, 'unexplained': rss.unexplained,
            'notes': rss.notes, 'rows': [row._asdict() for row in rss.rows]}


def document(use, count):
    """Return what JSON has of arenas, or None if little is known."""
    if use.classes is None:
        return None
    return {**use._asdict(),
            'lines': [line._asdict() for line in use.lines[:count]],
            'classes': [row._asdict()
                        | {'fills': [fill._asdict() for fill in row.fills]}
                        for row in use.classes]}
