"""Heap snapshots of V8's, read as its tools read them."""
import io
import json
from collections import namedtuple

NODE = ('type', 'name', 'id', 'self_size', 'edge_count', 'trace_node_id',
        'detachedness')
EDGE = 'type', 'name_or_index', 'to_node'
Node = namedtuple('Node', 'number type name id size trace edges')
Edge = namedtuple('Edge', 'type name node')
Call = namedtuple('Call', 'name file line column count size caller')


class HeapFile:
    """What a file says; its laws are checked."""

    def __init__(self, snapshot):
        out = io.BytesIO()
        snapshot._write_heapsnapshot(out.write)
        self.text = out.getvalue().decode('ascii')
        self.document = json.loads(self.text)
        self._check_meta(self.document['snapshot'])
        self.strings = self.document['strings']
        assert len(set(self.strings)) == len(self.strings)
        self.nodes = [self._node(*row) for row in enumerate(
            self._rows('nodes', NODE))]
        self._take_edges()
        self._take_calls()
        ids = [node.id for node in self.nodes]
        assert len(set(ids)) == len(ids) and max(ids) < 2 ** 32
        assert all(node.trace == 0 or node.trace in self.calls
                   for node in self.nodes)

    def _check_meta(self, snapshot):
        self.meta = snapshot['meta']
        assert tuple(self.meta['node_fields']) == NODE
        assert tuple(self.meta['edge_fields']) == EDGE
        for name, fields in ('node', NODE), ('edge', EDGE):
            assert len(self.meta[f'{name}_types']) == len(fields)
        for name, fields, count in (
                ('nodes', NODE, 'node_count'), ('edges', EDGE, 'edge_count'),
                ('trace_function_infos',
                 self.meta['trace_function_info_fields'],
                 'trace_function_count')):
            assert len(self.document[name]) == (len(fields)
                                                * snapshot[count]), name
        # DevTools reads them in this order.
        assert list(self.document) == [
            'snapshot', 'nodes', 'edges', 'trace_function_infos',
            'trace_tree', 'samples', 'locations', 'strings']

    def _rows(self, name, fields):
        return zip(*[iter(self.document[name])] * len(fields))

    def _node(self, number, row):
        kind, name, id_, size, edges, trace, _ = row
        return Node(number, self.meta['node_types'][0][kind],
                    self.strings[name], id_, size, trace, [None] * edges)

    def _take_edges(self):
        kinds = self.meta['edge_types'][0]
        rows = self._rows('edges', EDGE)
        for node in self.nodes:
            for i in range(len(node.edges)):
                kind, name, target = next(rows)
                assert target % len(NODE) == 0
                if kinds[kind] not in ('element', 'hidden'):
                    name = self.strings[name]
                node.edges[i] = Edge(kinds[kind], name,
                                     self.nodes[target // len(NODE)])
        assert next(rows, None) is None

    def _take_calls(self):
        infos = list(self._rows('trace_function_infos', range(6)))
        self.calls = {}
        todo = [(self.document['trace_tree'], None)]
        while todo:
            (number, info, count, size, children), caller = todo.pop()
            _, name, file, _, line, column = infos[info]
            assert number not in self.calls
            self.calls[number] = Call(self.strings[name], self.strings[file],
                                      line, column, count, size, caller)
            while children:
                todo.append((children[:5], number))
                children = children[5:]

    def find(self, name):
        """Return the only node of a name."""
        found, = [node for node in self.nodes if node.name == name]
        return found

    def follow(self, node, *names):
        for name in names:
            node, = [edge.node for edge in node.edges if edge.name == name]
        return node

    def place(self, node):
        call = self.calls[node.trace]
        return call.file, call.line
