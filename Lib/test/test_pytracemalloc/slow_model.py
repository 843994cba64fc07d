"""What a report must show, worked out block by block from the call tree.

Nothing is shared with the code under test but the rows of the call tree, whose
live values are compared with the traces first: a row is a path of frames, the
most recent first, with eight values.
"""

import collections
import fnmatch
import re

from tracemalloc.modules import module_of
from tracemalloc.statistic import MEASURES

Frame = collections.namedtuple('Frame', 'filename lineno function first')
Row = collections.namedtuple('Row', 'path values types')


def rows_of(snapshot):
    """Return the Rows of a snapshot with traces; check them by these."""
    tree = snapshot.call_tree()
    types = collections.defaultdict(list)
    for node, name, size, count in tree.by_type():
        types[node].append((name, size, count))
    paths, rows = [], []
    for node, (parent, *frame, _, _, _, _, _, _, _, _) in \
            enumerate(tree.nodes):
        paths.append((Frame(*frame), *(paths[parent] if parent >= 0 else ())))
        rows.append(Row(paths[-1], tree.nodes[node][5:], types[node]))
    live = collections.Counter()
    for trace in snapshot.traces:
        key = tuple((frame.filename, frame.lineno)
                    for frame in reversed(trace.traceback))
        live[key, 'size'] += trace.size
        live[key, 'count'] += 1
    for row in rows:
        key = tuple(frame[:2] for frame in row.path)
        live[key, 'size'] -= row.values[0]
        live[key, 'count'] -= row.values[1]
    assert not any(live.values())
    return rows


def fold(rows, kind_of, rest):
    """Return Rows without the frames of which kind_of(file name) is 'hidden'
    or, unless it is the outermost, 'made'."""
    folded = []
    for path, values, types in rows:
        shown = []
        for place, frame in enumerate(path[::-1]):
            kind = kind_of(frame.filename)
            if kind == 'shown' or (kind == 'made' and not place):
                shown.insert(0, frame)
        folded.append(Row(tuple(shown) or (Frame(rest, 0, None, 0),), values,
                          types))
    return folded


class Filters:
    """Patterns as of the command line: (pattern, line or None)."""

    def __init__(self, include=(), exclude=(), all_frames=False):
        self.include, self.exclude = include, exclude
        self.all_frames = all_frames

    def pass_frame(self, frame):
        return ((not self.include or _matches(frame, self.include))
                and not _matches(frame, self.exclude))

    def pass_block(self, path):
        """Is a block shown, where it is charged to one line?"""
        if not self.all_frames:
            return self.pass_frame(path[0])
        return ((not self.include
                 or any(_matches(frame, self.include) for frame in path))
                and not any(_matches(frame, self.exclude) for frame in path))

    def reach_block(self, path, cumulative):
        """Is a block shown at all?"""
        if not cumulative or self.all_frames:
            return self.pass_block(path)
        return any(self.pass_frame(frame) for frame in path)

    def lines(self, path, cumulative):
        """Return the frames that count a block of the path."""
        if not self.reach_block(path, cumulative):
            return []
        if not cumulative:
            return path[:1]
        return [frame for frame in path
                if self.all_frames or self.pass_frame(frame)]


def _matches(frame, places):
    return any(fnmatch.fnmatch(frame.filename, pattern)
               and line in (None, frame.lineno) for pattern, line in places)


KEYS = {
    'line': lambda frame: frame[:2],
    'file': lambda frame: frame[:1],
    'function': lambda frame: (frame.filename, frame.function,
                               max(frame.first, 0)),
}


_LOOP = re.compile(r'[/\\](asyncio|uvloop|anyio|trio)[/\\]')


def task_of(path):
    """The first frame that an event loop has called, and that is none of its
    own unless all are."""
    task, searching = None, False
    for frame in reversed(path):
        loop = bool(_LOOP.search(frame.filename))
        if loop and frame.function in ('Handle._run', 'Runner.run',
                                       'unrolled_run'):
            task, searching = None, True
        elif searching and (task is None or not loop):
            task, searching = frame, loop
    return ('<no task>', None, 0) if task is None else KEYS['function'](task)


def group(rows, by, cumulative, filters, program):
    """Return {key: [eight values]}, those of types: [size, count]; *program*
    as of a snapshot."""
    keys = KEYS | {
        'module': lambda frame: (module_of(frame.filename, program),)}
    groups = collections.defaultdict(lambda: [0] * len(MEASURES))
    for path, values, types in rows:
        lines = filters.lines(path, cumulative)
        if by in keys:
            for key in {keys[by](frame) for frame in lines}:
                _add(groups[key], values)
        elif by == 'task':
            if lines:
                _add(groups[task_of(path)], values)
        elif by == 'traceback':
            if lines:
                _add(groups[tuple(frame[:2] for frame in path[::-1])], values)
        elif lines:
            for name, size, count in types:
                key = ((name,) if by == 'type'
                       else (name, *path[0][:2]) if by == 'type+line' else ())
                _add(groups[key], (size, count))
    return {key: values for key, values in groups.items() if any(values)}


def stacks(rows, cumulative, filters):
    """Return {path, most recent first: [eight values]}."""
    found = collections.defaultdict(lambda: [0] * len(MEASURES))
    for path, values, _ in rows:
        if filters.reach_block(path, cumulative):
            _add(found[path], values)
    return {path: values for path, values in found.items() if any(values)}


def _add(to, values):
    for index, value in enumerate(values):
        to[index] += value
