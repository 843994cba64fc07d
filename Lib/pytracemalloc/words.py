"""Explanations in reports: of names that are not files or types, and of what
the tracer has left out."""

import itertools
from os.path import basename

from pytracemalloc.units import format_count
from tracemalloc import unseen
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

_PAGE = 'More on these words: man pytracemalloc, Names in reports'

LOSSES = {
    'untraced': 'there was no memory to trace them; they are in no row',
    'folded': 'deep recursion, charged to the nearest frame of that line',
    'pruned': 'totals stay with the line alone',
}
_UNITS = {'untraced': 'blocks', 'folded': 'frames',
          'pruned': 'stacks without live blocks'}

_TYPES = {
    '<memory>': 'not an object, and the owner is not known',
    '<raw>': 'not an object, from the allocators that need no GIL',
    '<domain ': 'not an object, registered by an extension',
    '<native>': 'taken from malloc() or mmap() by C code',
    '<dict keys>': 'of a dictionary, beside the object itself',
    '<dict values>': 'of the attributes of an object',
    '<list items>': 'of a list, beside the object itself',
    '<set table>': 'of a set, beside the object itself',
    '<bytearray buffer>': 'of a bytearray, beside the object itself',
}
_STACKS = {
    '<not native>': 'the blocks of the interpreter',
    '<no C frames>': 'native memory of which no C frame was recorded',
}
_PLACES = {
    'interpreter, no Python frame':
        'allocated at start-up, or by C code that no Python code has called',
}


def format_native(snapshot):
    """Return what native memory there was, as lines."""
    figures = [snapshot.metadata.get(name)
               for name in ('native_memory', 'native_peak')]
    if not all(isinstance(figure, int) and figure >= 0 for figure in figures):
        return []
    current, peak = map(format_size, figures)
    return [f'Native memory: {current}, peak {peak}, beside traced memory',
            *_format_unseen(snapshot)]


def _format_unseen(snapshot):
    """Return what native memory does not show, a line for each library."""
    found = unseen.check(snapshot.metadata.get(unseen.KEY, ()))
    resident = {row.name: row.size for row
                in (snapshot.rss.rows if snapshot.rss else ())
                if row.owner == 'mapping'}
    for path, rows in itertools.groupby(found, lambda row: row.library):
        names = [row.name if row.live is None else
                 f'{row.name}, {format_size(row.live)} live' for row in rows]
        line = (f'Not seen inside {printable(basename(path))}: '
                + '; '.join(names))
        if size := resident.get(path):
            line += f'; {format_size(size)} resident'
        yield line


def format_losses(snapshot):
    """Return what the tracer had to leave out, as lines."""
    lines = [f'{name.capitalize()}: {format_count(number)} {_UNITS[name]}; '
             f'{text}' for name, text in LOSSES.items()
             if isinstance(number := snapshot.metadata.get(name), int)
             and number]
    return [*lines, _PAGE] if lines else []


def explain(names, by):
    """Return lines that explain some of the *names* of rows; *by*: the key of
    the rows."""
    words = (_TYPES if by in ('type', 'type+line') else
             _STACKS if by == 'native' else _PLACES)
    lines = []
    for word, text in words.items():
        for name in names:
            if name.startswith(word):
                shown = word if word[-1] != ' ' else f'{word}N>'
                lines.append(f'{shown}: {text}')
                break
    return [*lines, _PAGE] if lines else []
