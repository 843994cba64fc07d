"""Dominators and retained sizes of graphs, against what can be seen by taking
each object away."""
import random
import struct
import unittest
from array import array

from test.test_pytracemalloc import made_graphs
from test.test_pytracemalloc.made_graphs import (
    IMMORTAL, NONE, PLAIN, ROOT, UNCOUNTED, Graph)


def reach(edges, without=None):
    """The objects that can be reached from the root."""
    seen = {ROOT}
    stack = [ROOT]
    while stack:
        for target in edges[stack.pop()]:
            if target not in seen and target != without:
                seen.add(target)
                stack.append(target)
    return seen


def oracle(edges, sizes):
    """Return ({object: closest dominator}, {object: retained})."""
    reached = reach(edges)
    lost = {node: reached - reach(edges, node) for node in reached - {ROOT}}
    dominators = {ROOT: ROOT}
    for node in reached - {ROOT}:
        above = [other for other in lost
                 if other != node and node in lost[other]]
        # The closest one is held by all others.
        dominators[node] = min(above, key=lambda other: len(lost[other]),
                               default=ROOT)
    retained = {node: sum(sizes[other] for other in lost[node])
                for node in lost}
    retained[ROOT] = sum(sizes[node] for node in reached)
    return dominators, retained


def measured(traces):
    dominators, retained = traces._dominators()
    return array('I', dominators), array('Q', retained)


def random_graph(rng):
    graph = Graph()
    n = rng.randrange(1, 40)
    made = [graph.add(PLAIN, size=rng.choice((0, 1, 16, 100, 5000)))
            for _ in range(n)]
    numbers = [*range(4), *(node.number for node in made)]
    density = rng.choice((1, 1, 2, 4))
    for node in graph.objects[1:]:
        for _ in range(rng.randrange(2 * density + 1)):
            target = rng.choice(numbers)
            # 0 is a NULL; the first ones are the root's alone.
            node.references.append(target if target > 3 else None)
    for node in made:
        node.surplus = rng.choice((0, 0, 0, 0, 1, 3, IMMORTAL, UNCOUNTED))
        node.buffers = rng.randrange(3) == 0
        if node.buffers:
            graph.buffers.append((graph.block(rng.randrange(1, 9000)),
                                  node.number))
    return graph


def edges_of(graph):
    edges = {node.number: [getattr(target, 'number', target)
                           for target in node.references
                           if target is not None]
             for node in graph.objects}
    referred = {target for targets in edges.values() for target in targets}
    edges[ROOT] = [1, 2, 3, *(
        node.number for node in graph.objects
        if node.surplus not in (0, UNCOUNTED)
        or node.surplus == UNCOUNTED and node.number not in referred)]
    return edges


def sizes_of(graph):
    sizes = dict.fromkeys(range(len(graph.objects)), 0)
    buffers = dict(graph.buffers)
    for address, size, *_ in graph.blocks:
        owner = buffers.get(address)
        if owner is None:
            owner, = (node.number for node in graph.objects
                      if address <= node.address < address + size)
        sizes[owner] += size
    return sizes


class DominatorsTest(unittest.TestCase):
    def check(self, graph):
        dominators, retained = measured(graph.traces())
        expected, bytes_ = oracle(edges_of(graph), sizes_of(graph))
        for node in graph.objects:
            number = node.number
            self.assertEqual(dominators[number], expected.get(number, NONE),
                             number)
            if number in expected:
                self.assertEqual(retained[number], bytes_[number], number)

    def test_random_graphs(self):
        for seed in range(600):
            with self.subTest(seed=seed):
                self.check(random_graph(random.Random(seed)))

    def test_addresses_in_any_order(self):
        for seed in range(40):
            with self.subTest(seed=seed):
                rng = random.Random(seed)
                graph = random_graph(rng)
                rng.shuffle(graph.blocks)
                self.check(graph)

    def test_a_block_counts_once(self):
        graph = Graph()
        first = graph.add(size=100, surplus=1)
        second = graph.add(surplus=1)
        second.address = first.address + 8
        _, retained = measured(graph.traces())
        self.assertEqual(retained[first.number], 100)
        self.assertEqual(retained[second.number], 0)
        self.assertEqual(retained[ROOT], 100)

    def test_an_object_just_behind_a_block_is_not_in_it(self):
        graph = Graph()
        graph.block(32)
        made = graph.add(surplus=1)
        made.address = graph.blocks[0][0] + 32
        _, retained = measured(graph.traces())
        self.assertEqual(retained[made.number], 0)

    def test_chain(self):
        # Each object holds the next one, and the last one the first.
        n = 1_000_000
        first = made_graphs.THREADS + 1
        arrays = Graph().arrays()
        fixed = arrays['objects'][:first * 32]
        object_ = struct.Struct('=QQIIII')
        arrays['objects'] = fixed + b''.join(
            object_.pack(0, i, 0, PLAIN, i == 0, NONE) for i in range(n + 1))
        arrays['references'] = array(
            'I', [*range(first + 1, first + n), first]).tobytes()
        dominators, _ = measured(made_graphs.adopt(arrays))
        self.assertEqual(dominators[first], ROOT)
        self.assertEqual(dominators[first + 1:],
                         array('I', range(first, first + n - 1)))

    def test_wide_and_deep(self):
        # A ladder with rungs both ways is the worst for simple methods.
        graph = Graph()
        sides = [[graph.add(size=16) for _ in range(60)] for _ in range(2)]
        graph.objects[1].references = [sides[0][0], sides[1][0]]
        for i in range(59):
            for side in 0, 1:
                sides[side][i].references = [sides[side][i + 1],
                                             sides[1 - side][i + 1]]
        sides[0][59].references = [sides[0][0], sides[1][30]]
        self.check(graph)

    def test_no_references(self):
        import tracemalloc
        snapshot = tracemalloc.Snapshot([], 1)
        with self.assertRaisesRegex(ValueError, 'has no references'):
            snapshot.traces._traces._dominators()


if __name__ == '__main__':
    unittest.main()
