"""The figures as one SVG: a strip of dots per mode, time above memory.

Each dot is a workload, on a logarithmic axis of ratios to the base; the bar
is the geometric mean, also given on the right.  Hovering over a dot names the
workload.  The file needs nothing beside it: no script, no style sheet, no
font.
"""

import html
import math

import modes

WIDTH = 760
LEFT = 110          # room for the names of the modes
RIGHT = 60          # and for the means
ROW = 56            # height of one strip
DOT = 2.4
COLOURS = {'stock': '#b5533c', 'ours': '#2f6f9f', 'other': '#6d6875'}
# Those in front are drawn first; where there is no room, a tick is left out.
TICKS = (1, 10, 100, 2, 5, 20, 50, 200, 500, 0.5, 1.5, 3, 1.2, 0.8, 1.1, 1.35,
         0.9, 1.75)
TICK_ROOM = 34


class Axis:
    """A logarithmic axis that covers the values and 1."""

    def __init__(self, values):
        self.low = min(0.95, min(values) / 1.03)
        self.high = max(2.0, max(values) * 1.08)

    def x(self, value):
        share = (math.log(value / self.low)
                 / math.log(self.high / self.low))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        """Return the ticks in range that have room beside each other."""
        found = []
        for tick in TICKS:
            if (self.low <= tick <= self.high
                    and all(abs(self.x(tick) - self.x(other)) > TICK_ROOM
                            for other in found)):
                found.append(tick)
        return found


def text(x, y, content, anchor='middle', size=12, weight='normal'):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'font-size="{size}" font-weight="{weight}">'
            f'{html.escape(content)}</text>')


def beeswarm(points, axis):
    """Yield (name, value, x, offset): dots that would overlap are moved.

    The offset alternates up and down from the middle of the strip.
    """
    placed = []
    for name, value in sorted(points, key=lambda point: point[1]):
        x = axis.x(value)
        for step in range(2 * int(ROW / DOT / 4) + 1):
            offset = (step + 1) // 2 * 2 * DOT * (1 if step % 2 else -1)
            if all((x - px) ** 2 + (offset - py) ** 2 >= (2 * DOT) ** 2
                   for px, py in placed):
                break
        placed.append((x, offset))
        yield name, value, x, offset


def family(mode):
    """Return whose mode it is: a key of COLOURS."""
    if mode in dict(modes.OURS):
        return 'ours'
    return 'stock' if mode in dict(modes.STOCK) else 'other'


def strip(mode, points, mean, axis, middle):
    """Return the SVG of one mode's dots, bar and labels."""
    colour = COLOURS[family(mode)]
    parts = [text(LEFT - 12, middle + 4, mode, 'end')]
    for name, value, x, offset in beeswarm(points, axis):
        parts.append(
            f'<circle cx="{x:.1f}" cy="{middle + offset:.1f}" r="{DOT}" '
            f'fill="{colour}" fill-opacity="0.55">'
            f'<title>{html.escape(name)}: {value:.2f}</title></circle>')
    x = axis.x(mean)
    parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 24}" '
                 f'y2="{middle + 24}" stroke="#111" stroke-width="2"/>')
    parts.append(text(WIDTH - 12, middle + 4, f'{mean:.2f}', 'end',
                      weight='bold'))
    return parts


def panel(part, title, base, top):
    """Return (SVG parts, height) of one panel: all modes but the base."""
    strips = {}
    for mode, overview in part['modes'].items():
        if mode != base and overview:
            points = [(name, row[mode]['median'])
                      for name, row in part['workloads'].items()
                      if row[mode]]
            strips[mode] = (points, overview['mean'])
    if not strips:
        return [], 0
    axis = Axis([value for points, _ in strips.values()
                 for _, value in points])
    bottom = top + 34 + ROW * len(strips)
    parts = [text(LEFT, top + 12, f'{title}, ratio to {base}', 'start', 13,
                  'bold'),
             text(WIDTH - 12, top + 12, 'mean', 'end', 13, 'bold')]
    for tick in axis.ticks():
        x = axis.x(tick)
        colour = '#777' if tick == 1 else '#ddd'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 24}" '
                     f'y2="{bottom}" stroke="{colour}"/>')
        parts.append(text(x, bottom + 15, f'{tick:g}', size=11))
    for row, (mode, (points, mean)) in enumerate(strips.items()):
        middle = top + 34 + ROW * row + ROW / 2
        parts += strip(mode, points, mean, axis, middle)
    return parts, bottom + 34 - top


def draw(summary):
    """Return the SVG, a string, of what summary.summarise() returns."""
    parts = []
    height = 10
    clock = {'cpu': 'Processor time', 'wall': 'Time'}[summary['clock']]
    for key, title in (('time', clock), ('memory', 'Peak resident memory')):
        drawn, used = panel(summary[key], title, summary['base'], height)
        parts += drawn
        height += used
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
        f'height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" fill="#111">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *parts, '</svg>', ''])
