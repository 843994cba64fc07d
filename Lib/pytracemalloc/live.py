"""The live view: what `pytracemalloc top` shows and the keys it obeys."""

import os
import sys
import time
from collections import deque, namedtuple

from pytracemalloc import documents
from pytracemalloc.errors import CommandError
from pytracemalloc.measures import BLOCK_KEYS, find_key
from pytracemalloc.targets import write_snapshot
from pytracemalloc.terminal import can_encode, shorten, sparkline
from pytracemalloc.units import format_count, format_frames
from tracemalloc import native
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

_GROUPS = ('line', 'file', 'function', 'module', 'type', 'native')
# Name -> order of statistics(); growth is sorted here.
_ORDERS = {'size': 'size', 'count': 'count', 'total': 'total_size',
           'peak': 'peak_size', 'growth': 'size'}
_COLUMNS = ('name', 'size', 'count', 'total_size', 'total_count', 'peak_size')
_KEPT_ROWS = 1000                 # requested, to sort them by growth
_HISTORY = 600
_SELDOM = 10                      # seconds between looks at all blocks
_FIGURES = 46                     # columns before a sparkline
_SHOWN_WORKERS = 8                # on a terminal
_FOLDED = {'unfold': False, 'my_code': False, 'mine': []}
_HELP = 's sort  g group  f unfold  c my code  / filter  p pause  r peak  ' \
        'w write  t trace  q quit'


# Rows at a moment: complete if there are no others.
_Sample = namedtuple('_Sample', 'subject time sizes complete')


class View:
    """State of the view; refresh() asks the program, page() lays it out."""

    def __init__(self, client, interval, view=_FOLDED, group='line'):
        self.client = client
        self.view = view          # arguments of views.view_of()
        self.interval = interval
        self.group = group
        self.order = 'size'
        self.filter = ''
        self.paused = False
        self.message = ''
        self.status = None
        self._changed = True      # refresh, even if paused
        self.rows = []
        self.groups = 0
        # Of a single program; when they were last requested.
        self.arenas = self.moments = self._asked_at = None
        self.history = {name: deque(maxlen=_HISTORY)
                        for name in ('current', 'process')}
        self.titles = 0           # number of the line with the titles
        self.rates = {}
        self._recorded = None     # time of the last entry of the history
        self._samples = deque(maxlen=2)

    def refresh(self):
        """Ask for new figures, unless paused."""
        if self.paused and not self._changed:
            return
        self._changed = False
        self.status = self.client.ask('status')
        self._record()
        if not self.status['tracing']:
            self.rows, self.groups = [], 0
            self.arenas = self.moments = None
            return
        self._ask_seldom()
        answer = self._ask_rows()
        self.status = {key: answer[key] for key in self.status}
        self.groups = answer['groups']
        self.rows = answer['rows']
        self._set_rates(answer['time'])
        if self.shown_order() == 'growth':
            self.rows.sort(key=lambda row: -self.rates.get(row[0], 0))

    def _ask_rows(self):
        what = {'limit': _KEPT_ROWS, 'order': _ORDERS[self.shown_order()],
                'include': [f'*{self.filter}*'] if self.filter else [],
                **self.view}
        if self.group == 'native':
            return self.client.ask('native', **what)
        return self.client.ask('statistics', key=find_key(self.group)[0],
                               **what)

    def _ask_seldom(self):
        now = self.status['time']
        if 'workers' not in self.status and (
                self._asked_at is None or now - self._asked_at >= _SELDOM):
            self._asked_at = now
            self.arenas = self.client.ask('arenas', **self.view)
            self.moments = self.client.ask('peaks', **self.view)['next']

    def shown_order(self):
        """Return the order in use: of some groups, only live blocks are
        known."""
        if self.group in BLOCK_KEYS and self.order in ('total', 'peak'):
            return 'size'
        return self.order

    def _is_due(self, before):
        """Return whether an interval is over: keys ask for figures, too."""
        return (before is None
                or self.status['time'] - before >= 0.9 * self.interval)

    def _record(self):
        if self._is_due(self._recorded):
            self._recorded = self.status['time']
            for name, values in self.history.items():
                values.append(self.status[name] or 0)

    def _set_rates(self, now):
        """Compare with the rows from at least one interval ago."""
        samples = self._samples
        subject = self.group, self.order, self.filter, *self.view.values()
        if samples and samples[-1].subject != subject:
            samples.clear()
        sizes = {row[0]: row[1] for row in self.rows}
        before = None
        if not samples or self._is_due(samples[-1].time):
            before = samples[-1] if samples else None
            samples.append(_Sample(subject, now, sizes,
                                   self.groups == len(sizes)))
        elif len(samples) == 2:
            before = samples[0]
        self.rates = {}
        if before is not None:
            seconds = max(now - before.time, 0.001)
            # The rate of a row that was not among the largest is unknown.
            self.rates = {name: (size - before.sizes.get(name, 0)) / seconds
                          for name, size in sizes.items()
                          if name in before.sizes or before.complete}

    def document(self):
        """Return what was found, for JSON."""
        arenas = self.arenas and {**self.arenas, 'lines': [
            {'name': name, 'kept': kept}
            for name, kept in self.arenas['lines']]}
        return documents.make(
            'top', **documents.status_fields(self.status),
            processes=[documents.status_fields(worker)
                       for worker in self.status.get('workers', ())],
            view=documents.name_view(self.view), by=self.group,
            groups=self.groups, arenas=arenas, next_peaks=self.moments and [
                {'timestamp': documents.local_time(timestamp),
                 'traced_memory': size,
                 'more': [dict(zip(('name', 'size_diff'), line))
                          for line in more]}
                for timestamp, size, more in self.moments],
            statistics=[dict(zip(_COLUMNS, row)) for row in self.rows])

    def page(self, width, height):
        """Return the lines of one page; None: no limit."""
        lines = self._head(width)
        self.titles = len(lines)
        # The titles and the help take a line each.
        room = 40 if height is None else max(0, height - len(lines) - 2)
        lines += self._table(width, room)
        if height is not None:
            lines = lines[:height - 1]
            lines.append(self.message or _HELP)
        return [printable(line)[:width] for line in lines]

    def _head(self, width):
        status = self.status
        lines = [*_name_programs(status, width),
                 *self._meter('current', 'traced', 'peak', width),
                 *self._meter('process', 'process', 'tracer', width)]
        noun = find_key(self.group)[1]
        if self.groups == 1:
            noun = 'C function' if self.group == 'native' else self.group
        state = f'{self.groups:,} {noun} by {self.shown_order()}'
        state += (f', {format_frames(status["traceback_limit"])}'
                  if status['tracing'] else ', not tracing: press t')
        if self.view['my_code']:
            state += ', my code'
        elif self.view['unfold']:
            state += ', unfolded'
        if self.filter:
            state += f', files like *{self.filter}*'
        if self.paused:
            state += ', paused'
        return [*lines, state, *self._keepers(), *self._next_peaks(width),
                *self._faults(width)]

    def _meter(self, name, title, other, width):
        """Return the figure with a sparkline and, after it, another one."""
        value = self.status[name]
        shown = 'unknown' if value is None else format_size(value)
        first = f'{title:8}{shown:>10}'
        second = f'{other:6} {format_size(self.status[other]):>10}'
        if width is not None and width < len(first) + len(second) + 3:
            return [first, second]
        line = f'{first}   {second}'
        if width is not None:
            line = line.ljust(_FIGURES) + sparkline(
                self.history[name], max(0, width - _FIGURES),
                can_encode(sys.stdout, '▁█'))
        return [line.rstrip()]

    def _keepers(self):
        """Say what the arenas hold, and which line keeps most of them."""
        if self.arenas is None or not self.arenas['size']:
            return
        line = (f'{"arenas":8}{format_size(self.arenas["size"]):>10}   '
                f'{"used":6} {format_size(self.arenas["used"]):>10}')
        if self.arenas['lines']:
            name, kept = self.arenas['lines'][0]
            line += f'   {format_size(kept)} kept by {name}'
        yield line

    def _next_peaks(self, width):
        """Say when memory was next highest, and what held more then than at
        the peak; on a terminal, only for the first such moment."""
        moments = self.moments or []
        for timestamp, size, more in moments[:None if width is None else 1]:
            line = (f'{"next":8}{format_size(size):>10} at '
                    f'{self._time_of_day(timestamp)}')
            if more:
                name, difference = more[0]
                line += f', {format_size(difference, sign=True)} at {name}'
            yield line

    def _faults(self, width):
        """Say why C functions have no names; on a terminal, once."""
        faults = native.find_faults() if self.group == 'native' else []
        return faults[:None if width is None else 1]

    def _time_of_day(self, timestamp):
        now, then = map(time.localtime, (self.status['time'], timestamp))
        return time.strftime('%H:%M:%S' if now[:3] == then[:3] else
                             '%Y-%m-%d %H:%M:%S', then)

    def _table(self, width, room):
        titles = ['size', 'rate/s', 'count', 'total', 'peak']
        table = [(titles, '')]
        shown = self.rows[:room]
        rest = len(shown) < self.groups or bool(self.filter)
        if len(shown) == room:
            shown = shown[:room - rest]
        for name, size, count, total, _, peak in shown:
            rate = round(self.rates.get(name, 0))
            cells = [format_size(size),
                     format_size(rate, sign=True) if rate else '',
                     format_count(count),
                     '' if total is None else format_size(total),
                     '' if peak is None else format_size(peak)]
            table.append((cells, printable(name)))
        if rest and self.status['tracing']:
            table.append(([format_size(self.status['current']
                                       - sum(row[1] for row in shown))],
                          'all others'))
        # A narrow terminal has fewer columns, so that names have room.
        columns = len(titles)
        if width is not None:
            columns = max(1, min(columns, (width - 24) // 14))
        for cells, name in table:
            cells += [''] * (columns - len(cells))
            line = ' '.join(cell.rjust(10) for cell in cells[:columns])
            if width is not None:
                name = shorten(name, max(1, width - len(line) - 2))
            yield f'{line}  {name}'.rstrip()

    def obey(self, key, ask):
        """Do what a key says; *ask* reads a line.  False: quit."""
        self.message = ''
        if key in ('q', '\x03', '\x04'):
            return False
        if key in 'sgfc/rt':
            self._changed = True
        if key in 'fcr':
            self._asked_at = None
        if key == 's':
            self.order = _next(tuple(_ORDERS), self.order)
        elif key == 'g':
            self.group = _next(_GROUPS, self.group)
        elif key in 'fc':
            self._change_view('unfold' if key == 'f' else 'my_code')
        elif key == '/':
            self.filter = ask('filter: ')
        elif key == 'p':
            self.paused = not self.paused
        elif key == 'r':
            self.client.ask('reset_peak')
        elif key == 'w':
            self._write()
        elif key == 't':
            tracing = self.status['tracing']
            self.client.ask('stop' if tracing else 'start')
        elif key in ('?', 'h'):
            self.message = _HELP
        return True

    def _change_view(self, name):
        if name == 'my_code' and self.group == 'task':
            self.message = ('my code has no frames of the event loop, by which '
                            'tasks are found; press g first')
            return
        self.view = {**self.view, 'unfold': False, 'my_code': False,
                     name: not self.view[name]}

    def _write(self):
        try:
            written = [write_snapshot(client, worker['pid'])
                       for client, worker in zip(
                           self.client.each(),
                           self.status.get('workers', [self.status]))]
        except CommandError as exc:
            self.message = str(exc)
            return
        self.message = 'wrote ' + ', '.join(
            f'{path}, {format_size(size)}' for path, size in written)


def _name_programs(status, width):
    """Return a line for the program, or for all and for each of them."""
    def name(program):
        interpreter, *arguments = program['argv'] or ['']
        return ' '.join([os.path.basename(interpreter), *arguments])

    workers = status.get('workers')
    if workers is None:
        return [f'{status["pid"]}  {name(status)}']
    noun = 'process' if len(workers) == 1 else 'processes'
    lines = [f'{len(workers)} {noun}, the largest first',
             f'{"pid":>10} {"traced":>10} {"peak":>10} {"process":>10}']
    largest = sorted(workers, key=lambda worker: -worker['current'])
    for worker in largest[:None if width is None else _SHOWN_WORKERS]:
        process = worker['process']
        process = 'unknown' if process is None else format_size(process)
        traced = (format_size(worker['current']) if worker['tracing']
                  else 'off')
        lines.append(f'{worker["pid"]:>10} {traced:>10} '
                     f'{format_size(worker["peak"]):>10} {process:>10}  '
                     f'{name(worker)}')
    hidden = len(workers) + 2 - len(lines)
    return lines + [f'{hidden:>10} more'] * bool(hidden)


def _next(choices, current):
    if current not in choices:
        return choices[0]
    return choices[(choices.index(current) + 1) % len(choices)]


_BOLD, _FAINT, _REVERSE = (f'\x1b[{number}m' for number in (1, 2, 7))


def watch(view, interval):
    """Show the View on the terminal until q."""
    from pytracemalloc.screen import RESIZED, Screen
    with Screen() as screen:
        view.refresh()
        while True:
            lines = view.page(*screen.size())
            screen.draw(lines, {0: _BOLD, view.titles: _REVERSE,
                                len(lines) - 1: _FAINT})
            key = screen.read_key(interval)
            if key == RESIZED:
                continue
            if key and not view.obey(
                    key, lambda prompt: screen.ask(prompt, printable)):
                return
            view.refresh()
