"""A table that a notebook shows as HTML, and a terminal as text."""

import html
import sys
from collections import namedtuple

from pytracemalloc.reporters.text import table
from pytracemalloc.terminal import width_of
from tracemalloc.printable import printable

_RIGHT, _LEFT = (f' style="text-align: {side}; white-space: {wrap}"'
                 for side, wrap in (('right', 'nowrap'), ('left', 'normal')))

# cells: figures as text, in columns; name: of a group; source: of its line.
Row = namedtuple('Row', 'cells name source')


class Table:
    """Lines of text and, below them, rows."""

    def __init__(self, lines, columns, rows):
        self._lines = [printable(line) for line in lines]
        self._columns = columns
        self._rows = [Row(row.cells, printable(row.name),
                          printable(row.source)) for row in rows]

    def __repr__(self):
        rows = [(row.cells, f'{row.name}  {row.source}'.rstrip(), None)
                for row in self._rows]
        width = width_of(sys.stdout)
        lines = table(rows, self._columns, None) if rows else []
        return '\n'.join(line[:width] for line in (*self._lines, *lines))

    def _repr_html_(self):
        parts = [f'<div>{html.escape(line)}</div>' for line in self._lines]
        if self._rows:
            head = ''.join(f'<th{_RIGHT}>{html.escape(title)}</th>'
                           for title in self._columns)
            parts += ['<table>', f'<tr>{head}<th></th><th></th></tr>',
                      *map(_html_row, self._rows), '</table>']
        return '\n'.join(parts)


def _html_row(row):
    figures = ''.join(f'<td{_RIGHT}>{html.escape(cell)}</td>'
                      for cell in row.cells)
    return (f'<tr>{figures}<td{_LEFT}>{html.escape(row.name)}</td>'
            f'<td{_LEFT}><code>{html.escape(row.source)}</code></td></tr>')
