"""A call tree as columns.  All graphs are made from it, and nothing else is.

The tree of one snapshot has its values in `values`; the tree of a difference
also has the old snapshot's in `old`.  The values of a node do not include its
callees.  A parent comes before its children.
"""

import os

from tracemalloc.statistic import MEASURES
from tracemalloc.views import RUNNERS, is_event_loop

_MAIN = 'MainThread'
_STARTING = object()              # in threading, before the thread's function
_NATIVE = '<native>'
_LIVE = ('size', 'total_size'), ('count', 'total_count')
_THREADING = os.sep + 'threading.py'


class Tree:
    """Columns, one item a node:

    parents: index of the caller's node, -1 at the oldest frame
    frames: index into frame_table of (filename, lineno, function,
            first_lineno)
    values, old: column name -> list of bytes or blocks; old may be None
    types, old_types: lists of (node, type name, size, count) of live
        blocks, or None
    native: index of a frame of C code -> a NativeFrame of that function; such
        frames have no line
    limit: most frames that a path can have; a path of that length may lack
        older frames
    """

    def __init__(self):
        self.parents = []
        self.frames = []
        self.frame_table = []
        self.values = {column: [] for column in MEASURES}
        self.old = None
        self.types = self.old_types = None
        self.native = {}
        self.limit = None
        self._frame_index = {}
        self._node_index = {}

    @classmethod
    def from_snapshot(cls, snapshot, track=iter):
        tree = cls()
        tree.limit = snapshot.traceback_limit
        tree.types = tree._add(snapshot.call_tree(), tree.values, track)
        return tree

    @classmethod
    def from_difference(cls, old, new, track=iter):
        """Merge two snapshots' trees by path."""
        tree = cls.from_snapshot(new, track)
        tree.old = {column: [0] * len(tree.parents) for column in MEASURES}
        tree.old_types = tree._add(old.call_tree(), tree.old, track)
        missing = len(tree.parents) - len(tree.values[MEASURES[0]])
        for values in tree.values.values():
            values.extend([0] * missing)
        return tree

    def _add(self, call_tree, values, track):
        """Add a snapshot's tree; return its types, of our nodes."""
        nodes = []
        columns = [values[name] for name in MEASURES]
        for parent, filename, lineno, function, first, *row \
                in track(call_tree.nodes):
            node = self._node(nodes[parent] if parent >= 0 else -1,
                              (filename, lineno, function, first))
            nodes.append(node)
            for column, value in zip(columns, row):
                if node == len(column):
                    column.append(value)
                else:
                    column[node] += value
        types = {}
        for node, kind, *row in call_tree.by_type() or ():
            _move(row, types, (nodes[node], kind))
        for node, stack, *row in call_tree.by_native():
            self._add_native(nodes[node], stack, row, values, types)
        return [(*key, *row) for key, row in types.items()] or None

    def _add_native(self, caller, stack, row, values, types):
        """Move native memory from the Python frame to its C frames."""
        node = caller
        for frame in stack:
            name = frame.function or f'0x{frame.offset:x}'
            node = self._node(node, (frame.module, 0, name, 0))
            self.native.setdefault(self.frames[node], frame)
        for column in values.values():
            column.extend([0] * (len(self.parents) - len(column)))
        for number, value in enumerate(row):
            for name in _LIVE[number]:
                values[name][caller] -= value
                values[name][node] += value
        _move([-value for value in row], types, (caller, _NATIVE))
        _move(row, types, (node, _NATIVE))

    def _node(self, parent, frame):
        index = self._frame_index.setdefault(frame, len(self.frame_table))
        if index == len(self.frame_table):
            self.frame_table.append(frame)
        node = self._node_index.setdefault((parent, index),
                                           len(self.parents))
        if node == len(self.parents):
            self.parents.append(parent)
            self.frames.append(index)
        return node

    def path(self, node):
        """Return the indices of the node's frames, most recent first."""
        frames = []
        while node >= 0:
            frames.append(self.frames[node])
            node = self.parents[node]
        return frames

    def threads(self):
        """Return, for each node, what its thread runs.

        'MainThread', or the name of the function that a threading.Thread
        runs; None where the path does not reach back to the thread's start.
        """
        threads, depths = [], []
        for node, parent in enumerate(self.parents):
            filename, _, function, _ = self.frame_table[self.frames[node]]
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
            if parent < 0:
                threads.append(_thread_of(filename, function))
            elif threads[parent] == _STARTING and \
                    not filename.endswith(_THREADING):
                threads.append(function or filename)
            else:
                threads.append(threads[parent])
        return [None if thread == _STARTING
                or thread == _MAIN and depth == self.limit else thread
                for thread, depth in zip(threads, depths)]

    def tasks(self):
        """Return, for each node, what an event loop runs, by the rule of
        statistics('task'): the name of a coroutine function or of a callback;
        None outside of loops."""
        loops = [is_event_loop(filename)
                 for filename, _, _, _ in self.frame_table]
        tasks, searched = [], []
        for frame, parent in zip(self.frames, self.parents):
            task = tasks[parent] if parent >= 0 else None
            searching = parent >= 0 and searched[parent]
            function = self.frame_table[frame][2]
            if loops[frame] and function in RUNNERS:
                task, searching = None, True
            elif searching:
                searching = loops[frame]
                if not searching or task is None:
                    task = function
            tasks.append(task)
            searched.append(searching)
        return tasks

    def cumulative(self, column, values=None):
        """Return the column with each node's callees added to it."""
        sums = list((values or self.values)[column])
        for node in range(len(sums) - 1, -1, -1):
            parent = self.parents[node]
            if parent >= 0:
                sums[parent] += sums[node]
        return sums


def _move(row, types, key):
    """Add (size, count) to those of a node and type."""
    types[key] = [*map(int.__add__, types.pop(key, (0, 0)), row)]
    if not any(types[key]):
        del types[key]


def _thread_of(filename, function):
    """What the oldest frame of a path says about its thread."""
    if filename.endswith(_THREADING) and function == 'Thread._bootstrap':
        return _STARTING
    if function == '<module>' or filename.startswith('<frozen'):
        return _MAIN
    return None
