"""Collapsed stacks: 'oldest;...;most recent bytes' lines for flame graphs."""

from pytracemalloc.reporters import Reporter
from tracemalloc.places import name_line, name_parts
from tracemalloc.printable import printable


class CollapsedReporter(Reporter):
    suffix = '.collapsed'

    def write(self, subject, file):
        tree = subject.tree()
        labels = [_label(*frame[:3]) for frame in tree.frame_table]
        column = subject.measure.order
        old = tree.old[column] if tree.old else None
        stacks = [''] * len(tree.parents)
        for node, parent in enumerate(subject.track(tree.parents)):
            label = labels[tree.frames[node]]
            stack = f'{stacks[parent]};{label}' if parent >= 0 else label
            stacks[node] = stack
            value = tree.values[column][node]
            if old is not None:
                # Two columns, as the tools for differences read them.
                if value or old[node]:
                    file.write(f'{stack} {old[node]} {value}\n')
            elif value:
                file.write(f'{stack} {value}\n')


def _label(filename, lineno, function):
    file, name = name_parts(filename, lineno, function)
    where = name_line(file, lineno)
    text = f'{name} ({where})' if name else where
    return printable(text).replace(';', ',')
