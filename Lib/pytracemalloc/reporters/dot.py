"""Pictures for Graphviz: the tree of holders, and paths to objects."""

from pytracemalloc.holding import choose, walk
from pytracemalloc.reporters import Reporter
from pytracemalloc.units import format_count
from tracemalloc.places import name_place
from tracemalloc.printable import printable
from tracemalloc.sizes import format_size

_HEAD = '''\
digraph holders {
    graph [rankdir=LR, labelloc=t, fontname="sans-serif"];
    node [shape=box, style=filled, fontname="sans-serif", fontsize=10];
    edge [fontname="sans-serif", fontsize=9];
'''
_LONGEST = 80                     # characters of a line


class DotReporter(Reporter):
    suffix = '.dot'

    def write(self, subject, file):
        root = subject.new.holders()
        shown = [root]
        shown += [holder for holder, _ in walk(root, choose(
            root, subject.count, 'retained'))]
        numbers = {id(holder): i for i, holder in enumerate(shown)}
        file.write(_head(subject.title))
        for i, holder in enumerate(shown):
            file.write(_node(i, _lines(holder),
                             holder.retained / (root.retained or 1)))
            for child in holder.children:
                if id(child) in numbers:
                    file.write(_edge(i, numbers[id(child)], child.name))
        file.write('}\n')


def draw_paths(title, why):
    """Return the picture of a Why: its paths as one tree."""
    steps = {}                    # (number of the one before, step) -> number
    ends = {}                     # number -> paths
    for path in why.paths:
        node = None
        for step in path.steps:
            node = steps.setdefault((node, step), len(steps))
        ends.setdefault(node, []).append(path)
    parts = [_head(title)]
    for (before, (name, what, filename, lineno)), node in steps.items():
        lines = [what or name]
        if filename is not None:
            lines.append(name_place(filename, lineno))
        size = 0
        for path in ends.get(node, ()):
            size += path.size
            behind = (f' and {format_count(path.behind)} behind'
                      if path.behind else '')
            lines.append(f'{format_count(path.count)}{behind}, '
                         f'{format_size(path.size)}')
        parts.append(_node(node, lines, size / (why.size or 1)))
        if before is not None:
            parts.append(_edge(before, node, name))
    return ''.join(parts) + '}\n'


def _lines(holder):
    lines = [holder.what + (', and so on' if holder.repeats else '')]
    if holder.filename is not None:
        lines.append(name_place(holder.filename, holder.lineno))
    count = (f', {format_count(holder.count)} of {format_size(holder.size)}'
             if holder.count else '')
    return lines + [f'{format_size(holder.retained)} retained{count}']


def _head(title):
    return f'{_HEAD}    label={_quote([title])};\n'


def _node(number, lines, share):
    # From white to orange.
    return (f'    n{number} [label={_quote(lines)}, '
            f'fillcolor="0.08 {min(1, share):.3f} 1.0"];\n')


def _edge(before, after, name):
    label = f' [label={_quote([name])}]' if name else ''
    return f'    n{before} -> n{after}{label};\n'


def _quote(lines):
    """Return a label: a backslash begins an escape there, & an entity."""
    return '"' + '\\n'.join(
        _shorten(printable(line)).replace('\\', '\\\\').replace('"', '\\"')
        .replace('&', '&amp;') for line in lines) + '"'


def _shorten(text):
    # The most telling part is the start of a name, and the end of a path.
    half = _LONGEST // 2
    return (text if len(text) <= _LONGEST
            else f'{text[:half]}…{text[1 - half:]}')
