"""Draw the files of the tracer and of Lib as a map of their layers.

    map.py > map.svg

Each layer of layers.py is a row, and each file a box in it. The lines right of
the rows show who uses whom: the line of a layer leads down past the layers
below, with a dot at each layer from which it includes or imports something.
Titles, which a
browser shows under the pointer, name the files and count the uses.

The drawing takes the colour of the text around it, light or dark, and needs
nothing beside it. Doc/conf.py puts it into the page of the source.
"""

import html
import math
import sys
from typing import NamedTuple

import layers

WIDTH = 724
LEFT = 26               # room for the names of the languages
LANE = 12               # from wire to wire
ADVANCE = 6.63          # of a character of a box
BOX, LINE = 19, 24      # height of a box, and of a line of boxes
GAP, PAD = 5, 10        # between boxes, and around them
HEAD = 26               # the title of a row
SPACE = 8               # between rows
USED, USES = 13, 27     # where wires come in and go out, below a row's top
STYLE = '''
.map text { fill: currentColor }
.map .file, .map .room { font: 11px ui-monospace, monospace }
.map .name { font-size: 13px; font-weight: 600 }
.map .says { font-size: 12px; font-weight: 400 }
.map .says, .map .room { fill-opacity: .75 }
.map .python { fill: #3f7fcf; stroke: #3f7fcf }
.map .module { fill: #a868c8; stroke: #a868c8 }
.map .tracer { fill: #2f9a72; stroke: #2f9a72 }
.map .row { fill-opacity: .07; stroke-opacity: .4 }
.map .box { fill-opacity: .17; stroke: none }
.map .wire { fill: none; stroke-width: 1.3 }
.map .into { stroke: currentColor; stroke-opacity: .35 }
.map .tip { fill: currentColor; fill-opacity: .5 }
'''


class Box(NamedTuple):
    """A file, or a .c file and its header."""
    key: tuple          # whose it is, and its name
    label: str
    room: str           # folder in the package
    paths: list


class Row(NamedTuple):
    """A layer."""
    kind: str
    name: str
    says: str
    boxes: list


def python_rows(library):
    """Yield a row for each package."""
    found = layers.modules(library)
    for layer, says in layers.LAYERS.items():
        boxes = []
        for name, path in found.items():
            package, *folders, _ = path.relative_to(library).parts
            if package == layer:
                room = ''.join(f'{folder}/' for folder in folders)
                boxes.append(Box(('python', name), path.stem, room, [path]))
        boxes.sort(key=lambda box: (box.room, box.label))
        yield Row('python', layer, says, boxes)


def module_rows(top):
    """Yield a row for each extension module."""
    for name, pattern in layers.MODULES.items():
        parts = {}
        for path in sorted(top.glob(pattern)):
            parts.setdefault(path.stem, []).append(path)
        yield Row('module', name, pattern, [
            Box(('module', stem), stem, '', paths)
            for stem, paths in parts.items()])


def tracer_rows(top):
    """Yield a row for each layer of the tracer."""
    found = layers.sources(top)
    for says, names in layers.TRACER.items():
        yield Row('tracer', '', says, [
            Box(('tracer', name), name or 'tracer', '', found[name])
            for name in names if name in found])


def read_uses(rows, top):
    """Return {key: keys} of what the files of each box use."""
    modules = {name: ('module', name) for name in layers.MODULES}
    uses = {('python', name): {modules.get(target, ('python', target))
                               for _, target in targets}
            for name, targets in layers.import_graph(top).items()}
    for row in rows:
        if row.kind != 'python':
            for box in row.boxes:
                uses[box.key] = {('tracer', target) for path in box.paths
                                 for _, target in layers.includes(path)}
    return {key: targets - {key} for key, targets in uses.items()}


def text(kind, x, y, content, more=''):
    return (f'<text class="{kind}" x="{x:g}" y="{y:g}"{more}>'
            f'{html.escape(content)}</text>')


def heading(x, y, row):
    says = html.escape(row.says)
    if row.name:
        says = f'{row.name}<tspan class="says" dx="10">{says}</tspan>'
    return f'<text class="name" x="{x}" y="{y}">{says}</text>'


def names(keys):
    return ', '.join(sorted(name or 'tracer' for _, name in keys)) or 'nothing'


class Drawing:
    """The map of the files below *top*, the highest layer first."""

    def __init__(self, top):
        self.top = top
        self.rows = [*tracer_rows(top), *module_rows(top),
                     *python_rows(top / 'Lib')][::-1]
        self.uses = read_uses(self.rows, top)
        self.row_of = {box.key: number for number, row in enumerate(self.rows)
                       for box in row.boxes}
        # What is imported of a module of C is the module.
        self.row_of |= {(row.kind, row.name): number
                        for number, row in enumerate(self.rows)
                        if row.kind == 'module'}
        lost = set().union(*self.uses.values()) - {*self.row_of}
        if lost:
            sys.exit(f'map.py: {names(lost)}: in no layer; put it into one of '
                     f'layers.py')
        self.right = WIDTH - LANE * len(self.rows) - 8
        self.parts = []

    def draw(self):
        """Return the SVG, a string."""
        tops, y = [], 4
        for row in self.rows:
            tops.append(y)
            y = self.draw_row(row, y) + SPACE
        self.draw_languages(tops, y - SPACE)
        for number in range(len(self.rows)):
            self.draw_uses(number, tops)
        return '\n'.join([
            f'<svg xmlns="http://www.w3.org/2000/svg" class="map" '
            f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            f'font-family="sans-serif" role="group" '
            f'aria-label="The layers of the source, and who uses whom">',
            f'<style>{STYLE}</style>', *self.parts, '</svg>', ''])

    def draw_row(self, row, top):
        """Draw a row and return where it ends."""
        place = len(self.parts)
        self.parts.append(heading(LEFT + PAD, top + 18, row))
        x, y, room = LEFT + PAD, top + HEAD, ''
        for box in row.boxes:
            width = ADVANCE * len(box.label) + 10
            if box.room != room or x + width > self.right - PAD:
                x, y = LEFT + PAD, y + LINE
            if box.room != room:
                room = box.room
                self.parts.append(text('room', x, y + 13, room))
                x += ADVANCE * len(room) + 6
            self.draw_box(box, x, y, width)
            x += width + GAP
        bottom = y + LINE + 3
        self.parts.insert(place, (
            f'<rect class="row {row.kind}" x="{LEFT}" y="{top}" rx="6" '
            f'width="{self.right - LEFT}" height="{bottom - top}"/>'))
        return bottom

    def draw_box(self, box, x, y, width):
        paths = ', '.join(path.relative_to(self.top).as_posix()
                          for path in box.paths)
        users = {key for key, keys in self.uses.items() if box.key in keys}
        self.parts.append(
            f'<g><title>{html.escape(paths)}\n'
            f'uses {names(self.uses[box.key])}\nused by {names(users)}'
            f'</title><rect class="box {box.key[0]}" x="{x:g}" y="{y}" rx="3" '
            f'width="{width:g}" height="{BOX}"/>'
            + text('file', x + 5, y + 13, box.label) + '</g>')

    def draw_languages(self, tops, bottom):
        """Write which rows are Python and which are C, left of them."""
        first = [row.kind != 'python' for row in self.rows].index(True)
        for name, top, end in (('Python', tops[0], tops[first] - SPACE),
                               ('C', tops[first], bottom)):
            middle = (top + end) / 2
            self.parts.append(text(
                'name', 0, 0, name, ' text-anchor="middle" '
                f'transform="translate(16 {middle:g}) rotate(-90)"'))
            self.parts.append(f'<path class="wire into" d="M{LEFT - 4} {top}'
                              f'V{end}"/>')

    def draw_uses(self, number, tops):
        """Draw what row *number* uses, and the line of those that use it."""
        count = [0] * len(self.rows)
        users = set()
        for key, keys in self.uses.items():
            for used in keys:
                if self.row_of[key] == number:
                    count[self.row_of[used]] += 1
                if self.row_of[used] == number > self.row_of[key]:
                    users.add(self.row_of[key])
        if users:
            y, end = tops[number] + USED, self.lane(min(users))
            self.parts.append(
                f'<path class="wire into" d="M{end:g} {y}H{self.right + 6}"/>'
                f'<path class="tip" d="M{self.right} {y}l8 -4v8z"/>')
        below = [other for other in range(number + 1, len(self.rows))
                 if count[other]]
        if not below:
            return
        kind, x, y = self.rows[number].kind, self.lane(number), tops[number]
        self.parts.append(
            f'<path class="wire {kind}" d="M{self.right} {y + USES}H{x - 5}'
            f'q5 0 5 5V{tops[below[-1]] + USED}"/>')
        for other in below:
            radius = min(1.6 + 0.5 * math.sqrt(count[other]), 4.5)
            self.parts.append(
                f'<circle class="{kind}" cx="{x}" cy="{tops[other] + USED}" '
                f'r="{radius:.1f}"><title>'
                f'{html.escape(self.title(number))} uses '
                f'{html.escape(self.title(other))}: {count[other]} times'
                f'</title></circle>')

    def lane(self, number):
        return WIDTH - 6 - LANE * number

    def title(self, number):
        return self.rows[number].name or self.rows[number].says


if __name__ == '__main__':
    sys.stdout.write(Drawing(layers.TOP).draw())
