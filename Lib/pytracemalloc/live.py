"""The live view: what `pytracemalloc top` shows and the keys it obeys."""

import codecs
import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections import deque

from pytracemalloc.errors import CommandError
from pytracemalloc.measures import find_key
from pytracemalloc.reporters import plain_name
from pytracemalloc.terminal import can_encode, shorten, sparkline
from pytracemalloc.units import format_count, format_size

_GROUPS = ('line', 'file', 'function', 'module', 'type')
# Name -> order of statistics(); growth is sorted here.
_ORDERS = {'size': 'size', 'count': 'count', 'total': 'total_size',
           'peak': 'peak_size', 'growth': 'size'}
_KEPT_ROWS = 1000                 # asked for, so that growth can be sorted
_HISTORY = 600
_FIGURES = 46                     # columns before a sparkline
_HELP = 's sort  g group  / filter  p pause  r reset peak  w snapshot  ' \
        't trace  q quit'


class View:
    """State of the view; page() asks the program and lays out the text."""

    def __init__(self, client):
        self.client = client
        self.group = 'line'
        self.order = 'size'
        self.filter = ''
        self.paused = False
        self.message = ''
        self.status = None
        self.rows = []
        self.groups = 0
        self.history = {name: deque(maxlen=_HISTORY)
                        for name in ('current', 'process')}
        self.titles = 0           # which line has the titles of the table
        self._before = None       # (group, time, {name: size})
        self.rates = {}

    def refresh(self):
        """Ask for new figures, unless paused."""
        if self.paused and self.status:
            return
        self.status = self.client.ask('status')
        for name, values in self.history.items():
            values.append(self.status[name] or 0)
        if not self.status['tracing']:
            self.rows, self.groups = [], 0
            return
        order = _ORDERS[self.order]
        if self.group == 'type' and order != 'count':
            order = 'size'        # what else is not known of types
        answer = self.client.ask(
            'statistics', key=find_key(self.group)[0], limit=_KEPT_ROWS,
            order=order,
            include=[f'*{self.filter}*'] if self.filter else [])
        self.status = {key: answer[key] for key in self.status}
        self.groups = answer['groups']
        self._set_rows(answer['rows'], answer['time'])

    def _set_rows(self, rows, now):
        sizes = {row[0]: row[1] for row in rows}
        self.rates = {}
        if self._before and self._before[0] == (self.group, self.filter):
            _, then, before = self._before
            seconds = max(now - then, 0.001)
            self.rates = {name: (size - before.get(name, 0)) / seconds
                          for name, size in sizes.items()}
        self._before = (self.group, self.filter), now, sizes
        if self.order == 'growth':
            rows.sort(key=lambda row: -self.rates.get(row[0], 0))
        self.rows = rows

    def page(self, width, height):
        """Return the lines of one page; None: no limit."""
        self.refresh()
        lines = self._head(width)
        self.titles = len(lines)
        room = 40 if height is None else max(0, height - len(lines) - 1)
        lines += self._table(width, room)
        if height is not None:
            lines = lines[:height - 1]
            lines.append(self.message or _HELP)
        return [line if width is None else line[:width] for line in lines]

    def _head(self, width):
        status = self.status
        program = plain_name(' '.join(status['argv']))
        lines = [f'{status["pid"]}  {program}',
                 *self._meter('current', 'traced', 'peak', width),
                 *self._meter('process', 'process', 'tracer', width)]
        state = f'{self.groups:,} {find_key(self.group)[1]} by {self.order}'
        state += (f', {status["traceback_limit"]} frames'
                  if status['tracing'] else ', not tracing: press t')
        if self.filter:
            state += f', files like *{plain_name(self.filter)}*'
        if self.paused:
            state += ', paused'
        lines.append(state)
        return lines

    def _meter(self, name, title, other, width):
        """Return the figure with a sparkline and, after it, another one."""
        value = self.status[name]
        first = f'{title:8}{format_size(value) if value else "unknown":>10}'
        second = f'{other:6} {format_size(self.status[other]):>10}'
        if width is not None and width < len(first) + len(second) + 3:
            return [first, second]
        line = f'{first}   {second}'
        if width is not None:
            line = line.ljust(_FIGURES) + sparkline(
                self.history[name], max(0, width - _FIGURES),
                can_encode(sys.stdout, '▁█'))
        return [line.rstrip()]

    def _table(self, width, room):
        titles = ['size', 'rate/s', 'count', 'total', 'peak']
        table = [(titles, '')]
        for name, size, count, total, _, peak in self.rows[:room]:
            rate = round(self.rates.get(name, 0))
            cells = [format_size(size),
                     format_size(rate, sign=True) if rate else '',
                     format_count(count),
                     '' if total is None else format_size(total),
                     '' if peak is None else format_size(peak)]
            table.append((cells, plain_name(name)))
        # The name has 40 columns or more, or else most of the width.
        shown = len(titles)
        if width is not None:
            shown = max(1, min(shown, (width - 24) // 14))
        for cells, name in table:
            line = ' '.join(cell.rjust(10) for cell in cells[:shown])
            if width is not None:
                name = shorten(name, max(1, width - len(line) - 2))
            yield f'{line}  {name}'.rstrip()

    def obey(self, key, ask):
        """Do what a key says; *ask* reads a line.  False: quit."""
        self.message = ''
        if key in ('q', '\x03', '\x04'):
            return False
        if key == 's':
            self.order = _next(tuple(_ORDERS), self.order)
        elif key == 'g':
            self.group = _next(_GROUPS, self.group)
        elif key == '/':
            self.filter = ask('filter: ')
        elif key == 'p':
            self.paused = not self.paused
        elif key == 'r':
            self.client.ask('reset_peak')
        elif key == 'w':
            self._write()
        elif key == 't':
            tracing = self.status and self.status['tracing']
            self.client.ask('stop' if tracing else 'start')
        elif key in ('?', 'h'):
            self.message = _HELP
        return True

    def _write(self):
        pid = self.status['pid']
        stamp = time.strftime('%Y%m%d-%H%M%S')
        path = os.path.abspath(f'{pid}-{stamp}.tracemalloc')
        try:
            answer = self.client.ask('snapshot', path=path)
        except CommandError as exc:
            self.message = str(exc)
            return
        self.message = f'wrote {path}, {format_size(answer["size"])}'


def _next(choices, current):
    return choices[(choices.index(current) + 1) % len(choices)]


_PLAIN, _BOLD, _FAINT, _REVERSE = (f'\x1b[{n}m' for n in (0, 1, 2, 7))


def watch(client, interval):
    """Show the view on the terminal until q."""
    view = View(client)
    with _screen():
        while True:
            _draw(view)
            key = _read_key(interval)
            if key and not view.obey(key, _ask):
                return


@contextlib.contextmanager
def _screen():
    """The alternate screen, with keys read one by one and not echoed."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        sys.stdout.write('\x1b[?1049h\x1b[?25l')
        yield
    finally:
        sys.stdout.write('\x1b[?25h\x1b[?1049l')
        sys.stdout.flush()
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _draw(view):
    size = shutil.get_terminal_size()
    lines = view.page(size.columns, size.lines)
    encoding = sys.stdout.encoding or 'ascii'
    styles = {0: _BOLD, view.titles: _REVERSE, len(lines) - 1: _FAINT}
    for number, style in styles.items():
        if 0 <= number < len(lines):
            lines[number] = (f'{style}{lines[number]:{size.columns}}'
                             f'{_PLAIN}')
    text = '\x1b[H' + '\r\n'.join(line + '\x1b[K' for line in lines)
    sys.stdout.write(text.encode(encoding, 'replace').decode(encoding)
                     + '\x1b[J')
    sys.stdout.flush()


def _read_key(seconds):
    """Return a key, 'q' at the end of the input, None if none is typed."""
    number = sys.stdin.fileno()
    if not select.select([number], [], [], seconds)[0]:
        return None
    return os.read(number, 1).decode('ascii', 'replace') or 'q'


def _ask(prompt):
    """Read a line at the bottom of the screen; Escape: nothing."""
    text = ''
    decoder = codecs.getincrementaldecoder('utf-8')('replace')
    while True:
        rows = shutil.get_terminal_size().lines
        sys.stdout.write(f'\x1b[{rows};1H{prompt}{plain_name(text)}\x1b[K')
        sys.stdout.flush()
        byte = os.read(sys.stdin.fileno(), 1)
        key = decoder.decode(byte)
        if key in ('\r', '\n'):
            return text
        if key == '\x1b' or not byte:
            return ''
        text = text[:-1] if key in ('\x7f', '\b') else text + key
