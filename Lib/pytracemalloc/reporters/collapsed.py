"""Collapsed stacks: 'oldest;...;most recent bytes' lines for flame graphs.

A frame is FILE:FUNCTION:LINE, without the directory, as CPython's sampling
profiler writes it from 3.15 on.  So memory and time can be compared.
"""

import os

from pytracemalloc.reporters import Reporter
from tracemalloc.places import name_parts
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
    parts = os.path.basename(file), name, str(lineno) if lineno else None
    text = ':'.join(filter(None, parts))
    return printable(text).replace(';', ',')
