"""A call tree as columns: what every graph, and only a graph, is made from.

The tree of one snapshot has its values in `values`; the tree of a difference
has the old snapshot's in `old` as well.  Values are of the node itself,
without its callees; a parent comes before its children.
"""

from pytracemalloc.measures import COLUMNS


class Tree:
    """Columns, one item a node:

    parents: index of the caller's node, -1 at the oldest frame
    frames: index into frame_table of (filename, lineno, function,
            first_lineno)
    values, old: column name -> list of bytes or blocks; old may be None
    types: list of (node, type name, size, count) of live blocks, or None
    """

    def __init__(self):
        self.parents = []
        self.frames = []
        self.frame_table = []
        self.values = {column: [] for column in COLUMNS}
        self.old = None
        self.types = None
        self._frame_index = {}
        self._node_index = {}

    @classmethod
    def from_snapshot(cls, snapshot):
        tree = cls()
        call_tree = snapshot.call_tree()
        nodes = tree._add(call_tree, tree.values)
        types = call_tree.by_type()
        if types:
            tree.types = [(nodes[row[0]], *row[1:]) for row in types]
        return tree

    @classmethod
    def from_difference(cls, old, new):
        """Merge two snapshots' trees by path."""
        tree = cls.from_snapshot(new)
        tree.old = {column: [0] * len(tree.parents) for column in COLUMNS}
        tree._add(old.call_tree(), tree.old)
        missing = len(tree.parents) - len(tree.values[COLUMNS[0]])
        for values in tree.values.values():
            values.extend([0] * missing)
        return tree

    def _add(self, call_tree, values):
        nodes = []
        columns = [values[name] for name in COLUMNS]
        for parent, filename, lineno, function, first, *row in call_tree.nodes:
            node = self._node(nodes[parent] if parent >= 0 else -1,
                              (filename, lineno, function, first))
            nodes.append(node)
            for column, value in zip(columns, row):
                if node == len(column):
                    column.append(value)
                else:
                    column[node] += value
        return nodes

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

    def cumulative(self, column, values=None):
        """Return the column with each node's callees added to it."""
        sums = list((values or self.values)[column])
        for node in range(len(sums) - 1, -1, -1):
            parent = self.parents[node]
            if parent >= 0:
                sums[parent] += sums[node]
        return sums
