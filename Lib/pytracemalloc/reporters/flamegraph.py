"""A flame graph as one SVG image without scripts, to embed anywhere."""

from operator import itemgetter
from xml.sax.saxutils import escape

from pytracemalloc.reporters import Reporter
from pytracemalloc.sources import short_names
from pytracemalloc.units import format_count
from tracemalloc.places import name_line, name_parts
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size
from tracemalloc.views import Files

_WIDTH = 1200
_ROW = 17
_HUE, _HUE_OF_C = 15, 190         # degrees, and up to 40 more
_MIN_WIDTH = 0.3                  # narrower boxes, and those on them: left out
_CHAR = 6.6                       # width of one character at font-size 11
_HEAD = 30

_STYLE = '''
text { font: 11px monospace; fill: #1b1b1b }
.title { font: 15px sans-serif; fill: #1b1b1b }
rect { stroke: #fff; stroke-width: .5 }
rect.back { stroke: none; fill: #fff }
@media (prefers-color-scheme: dark) {
  rect.back { fill: #16181d } .title { fill: #e6e6e6 }
  rect { stroke: #16181d } }
'''


class FlameGraphReporter(Reporter):
    suffix = '.svg'
    beside = True

    def write(self, subject, file):
        tree = subject.tree()
        boxes = _layout(tree, subject.measure.order)
        rows = max((box[2] for box in boxes), default=0) + 1
        height = _HEAD + rows * _ROW + 6
        show = (format_count if subject.measure.name == 'count'
                else format_size)
        total = boxes[0][4] if boxes else 0
        file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n'
                   f'<svg xmlns="http://www.w3.org/2000/svg" '
                   f'viewBox="0 0 {_WIDTH} {height}">\n'
                   f'<style>{_STYLE}</style>\n'
                   f'<rect class="back" width="100%" height="100%"/>\n')
        title = printable(f'{subject.title}: {subject.measure.title}')
        file.write(f'<text class="title" x="6" y="20">{escape(title)}'
                   f'</text>\n')
        labels = _labels(tree, Files(subject.new.program))
        for box in boxes:
            file.write(_box(tree, box, labels, height, show, total))
        file.write('</svg>\n')


def _layout(tree, column):
    """Return boxes (x, width, level, node, value, change); node -1: root.

    x and width are pixels.  In a difference a box is as wide as the larger
    of the old and the new value, and change is new minus old.
    """
    new = tree.values[column]
    old = tree.old[column] if tree.old else None
    # The maximum at each node, so that callees never exceed their caller.
    wide = list(map(max, new, old)) if old else new
    width = tree.cumulative(column, {column: wide})
    change = (tree.cumulative(column, {column: list(map(int.__sub__, new,
                                                        old))})
              if old else None)
    children = {}
    for node, parent in enumerate(tree.parents):
        children.setdefault(parent, []).append(node)
    total = sum(wide)
    if not total:
        return []
    scale = _WIDTH / total
    boxes = []
    todo = [(-1, 0.0, 0)]
    while todo:
        node, x, level = todo.pop()
        value = total if node < 0 else width[node]
        delta = change and (sum(change[child] for child in children[-1])
                            if node < 0 else change[node])
        boxes.append((x, value * scale, level, node, value, delta))
        for child in sorted(children.get(node, ()), key=width.__getitem__,
                            reverse=True):
            if width[child] * scale < _MIN_WIDTH:
                break
            todo.append((child, x, level + 1))
            x += width[child] * scale
    return boxes


def _labels(tree, files):
    """Return (label of the box, whole name) of each frame."""
    names = list(map(itemgetter(0), tree.frame_table))
    labels = []
    for short, frame in zip(short_names(names, files), tree.frame_table):
        filename, lineno, function, _ = frame
        file, name = name_parts(filename, lineno, function)
        where = name_line(short if file == filename else file, lineno)
        # Every module's code has one name: its file tells more.
        label = f'{name} {where}' if name not in (None, '<module>') else where
        whole = name_line(file, lineno)
        labels.append((label, f'{name} {whole}' if name else whole))
    return labels


def _box(tree, box, labels, height, show, total):
    x, width, level, node, value, change = box
    label, whole = (('all', 'all') if node < 0
                    else labels[tree.frames[node]])
    text = f'{whole}: {show(value)}, {100 * value / total:.1f} %'
    if change is not None:
        text += f', {show(change, sign=True)}'
    y = height - 6 - (level + 1) * _ROW
    room = int((width - 4) / _CHAR)
    hue = _HUE_OF_C if node >= 0 and tree.frames[node] in tree.native else _HUE
    shown = (label if len(label) <= room else label[:room - 1] + '…')
    caption = (f'<text x="{x + 3:.1f}" y="{y + 12}">'
               f'{escape(printable(shown))}</text>' if room >= 3 else '')
    return (f'<g><title>{escape(printable(text))}</title>'
            f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" '
            f'height="{_ROW}" fill="{_color(whole, value, change, hue)}"/>'
            f'{caption}</g>\n')


def _color(label, value, change, hue):
    if change is not None:
        if not change:
            return '#d8d8d8'
        # Pale where little changed, red where it grew, blue where it shrank.
        rest = round(215 * (1 - min(1, abs(change) / max(1, value))))
        return (f'#ff{rest:02x}{rest:02x}' if change > 0
                else f'#{rest:02x}{rest:02x}ff')
    name = label.rpartition(' ')[0] or label
    seed = sum(ord(char) * 31 ** (index % 5)
               for index, char in enumerate(name[:32]))
    return f'hsl({hue + seed % 40},85%,{62 + seed // 40 % 12}%)'
