"""V8's heap snapshots: what they say; memlab and DevTools open them."""
import io
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import tracemalloc
import unittest

from test.test_pytracemalloc import fetched, heap_graphs
from test.test_pytracemalloc.browser import EXECUTABLE, Browser
from test.test_pytracemalloc.command_case import CommandCase
from test.test_pytracemalloc.heap_files import HeapFile
from test.test_pytracemalloc.helpers import Tracing
from test.test_pytracemalloc.made_graphs import (
    CELL, DICT, IMMORTAL, PLAIN, SEQUENCE, SET, Graph)
from test.test_pytracemalloc.test_cli_why import take
from test.test_pytracemalloc.test_graph_why import SITE, catalogue

FIRST = 4                         # nodes before those of objects, less one

# argv: a file. Prints what each node is and retains.
_MEMLAB = '''
const { analysis, utils } = require('@memlab/core');
(async () => {
  const heap = await utils.getSnapshotFromFile(process.argv[1], {});
  analysis.preparePathFinder(heap);
  const rows = [];
  heap.nodes.forEach(node => rows.push(
    [node.id, node.type, node.name, node.self_size, node.retainedSize]));
  let node = heap.nodes.get(0), path = [];
  heap.nodes.forEach(one => { if (one.name === process.argv[2]) node = one; });
  for (; node.pathEdge; node = node.pathEdge.fromNode) {
    path.push(String(node.pathEdge.name_or_index));
  }
  require('fs').writeFileSync(process.argv[1] + '.json',
                              JSON.stringify({ rows, path }));
})();
'''

# What the panel Memory loads and asks a file with; it is a part of Chromium.
_DEVTOOLS = 'devtools://devtools/bundled/'
_WORKER = 'entrypoints/heap_snapshot_worker/heap_snapshot_worker.js'
_OPEN = '''(async text => {
    const { HeapSnapshot, HeapSnapshotLoader } = await import(WORKER);
    const loader = new HeapSnapshotLoader.HeapSnapshotLoader(
        { sendEvent() {} });
    for (let i = 0; i < text.length; i += 1000) {
        loader.write(text.slice(i, i + 1000)); }
    loader.close();
    const channel = new MessageChannel();
    new HeapSnapshot.SecondaryInitManager(channel.port2);
    globalThis.heap = await loader.buildSnapshot(channel.port1);
    const node = heap.createNode(0);
    return Array.from({ length: heap.nodeCount }, (_, i) => {
        node.nodeIndex = i * %d;
        return [node.id(), node.type(), node.rawName(), node.selfSize(),
                node.retainedSize(), node.distance()]; }); })'''


def memlab(snapshot, name=''):
    """Return (rows, names of the path to a node) as memlab sees them."""
    modules = fetched.memlab()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'x.heapsnapshot')
        with open(path, 'wb') as file:
            snapshot._write_heapsnapshot(file.write)
        done = subprocess.run(
            ['node', '-e', _MEMLAB, path, name], capture_output=True,
            text=True, timeout=fetched.SECONDS, cwd=modules.parent)
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        with open(path + '.json') as answer:
            document = json.load(answer)
    return document['rows'], document['path']


def retained(snapshot):
    _, sizes = snapshot.traces._traces._dominators()
    return [size for size, in struct.iter_unpack('=Q', sizes)]


class FileTest(unittest.TestCase):
    def total(self, snapshot):
        return sum(trace.size for trace in snapshot.traces)

    def test_catalogue(self):
        snapshot = catalogue(10).snapshot()
        file = HeapFile(snapshot)
        self.assertEqual(sum(node.size for node in file.nodes),
                         self.total(snapshot))
        module = file.find('module catalogue')
        listeners = file.follow(module, '__dict__', 'CATALOGUE', 'listeners')
        self.assertEqual((len(listeners.edges), listeners.size), (10, 8056))
        self.assertEqual([edge[:2] for edge in listeners.edges],
                         [('element', i) for i in range(10)])
        method = listeners.edges[3].node
        self.assertEqual((method.type, method.name),
                         ('object', 'bound method Basket.refresh'))
        basket = file.follow(method, '__self__')
        self.assertEqual((basket.type, basket.name, basket.size,
                          file.place(basket)),
                         ('object', 'shop.Basket', 160, SITE))
        self.assertEqual([edge[:2] for edge in basket.edges],
                         [('property', 'items')])
        function = file.follow(method, '__func__')
        self.assertEqual((function.type, function.name),
                         ('closure', 'shop.Basket.refresh'))
        self.assertEqual(file.follow(function, '__code__').type, 'code')
        self.assertEqual(file.find('class shop.Basket').type, 'object')

    def test_fields_are_those_of_v8(self):
        node = shutil.which('node')
        if node is None:
            self.skipTest('needs node')
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, 'v8.heapsnapshot')
            subprocess.run([node, '-e', 'require("v8").writeHeapSnapshot('
                            'process.argv[1])', path], check=True)
            with open(path) as file:
                meta = json.load(file)['snapshot']['meta']
        ours = HeapFile(catalogue(1).snapshot()).meta
        for name, fields in ours.items():
            if name.endswith('_types'):
                # Later ones have more types.
                count = len(fields[0])
                self.assertEqual([meta[name][0][:count], *meta[name][1:]],
                                 fields)
            else:
                self.assertEqual(meta[name], fields)

    def test_kinds_of_edges(self):
        graph = Graph()
        value = graph.add()
        graph.cls('str', 'builtins')
        key = graph.add(text='secret')
        graph.add(DICT, key, value, surplus=1)
        graph.add(SET, value, surplus=1)
        graph.add(CELL, value, surplus=1)
        graph.add(SEQUENCE, None, value, surplus=1)
        graph.thread(graph.frame('f', 7, x=value))
        for keys in False, True:
            graph.has_keys = keys
            file = HeapFile(graph.snapshot())
            held = [node.edges for node in
                    [edge.node for edge in
                     file.find('(held by C code)').edges]]
            self.assertEqual([[edge[:2] for edge in edges] for edges in held],
                             [[('internal', 'key'), ('property', 'secret')
                               if keys else ('element', 0)],
                              [('element', 0)], [('context', 'content')],
                              [('element', 1)]])
            self.assertEqual('secret' in file.text, keys)
            frame = file.find('frame of f')
            self.assertEqual((frame.type, frame.edges[1][:2]),
                             ('native', ('context', 'x')))

    def test_types_of_nodes(self):
        graph = Graph()
        for name in 'str', 'int', 'Mine':
            kind = graph.cls(name, 'builtins' if name != 'Mine' else 'm')
            graph.add(PLAIN, type=kind, surplus=IMMORTAL)
        file = HeapFile(graph.snapshot())
        self.assertEqual([(edge.node.type, edge.node.name)
                          for edge in file.find('(immortal)').edges],
                         [('string', 'str'), ('number', 'int'),
                          ('object', 'm.Mine')])

    def test_what_nobody_holds(self):
        graph = Graph()
        one = graph.add(PLAIN, size=100, place=('a.py', 1))
        one.references = [graph.add(PLAIN, one, size=50)]
        graph.block(30, ('b.py', 2), '<memory>')
        graph.block(12, ('b.py', 2), '<memory>')
        snapshot = graph.snapshot()
        file = HeapFile(snapshot)
        self.assertEqual([edge.node.size for edge in
                          file.find('(held by nobody)').edges], [100, 50])
        block, = file.find('(blocks of no known object)').edges
        self.assertEqual((block.node.name, block.node.size,
                          file.place(block.node)),
                         ('<memory>', 42, ('b.py', 2)))

    def test_random_graphs(self):
        for seed in range(30):
            with self.subTest(seed=seed):
                rng = random.Random(seed)
                snapshot = heap_graphs.make_snapshot(
                    *heap_graphs.random_graph(rng, rng.randrange(5, 300)))
                file = HeapFile(snapshot)
                self.assertEqual(sum(node.size for node in file.nodes),
                                 self.total(snapshot))

    def test_ids_stay(self):
        # Tools tell by them what is new.
        graph = catalogue(5)
        before = HeapFile(graph.snapshot())
        graph.add(PLAIN, size=20, surplus=1)
        after = HeapFile(graph.snapshot())
        self.assertEqual([node.id for node in after.nodes
                          if node.name != 'object'],
                         [node.id for node in before.nodes
                          if node.name != 'object'])

    def test_hostile_names(self):
        for name in ('"\\', 'a\ud800', '\0\x1b\x7f', '\u2028\U0001f40d é',
                     'x' * 300):
            graph = Graph()
            kind = graph.cls(name, name)
            graph.add_named(PLAIN, {f'.{name}': kind}, type=kind, surplus=1)
            file = HeapFile(graph.snapshot())
            cut = name[:256]
            made = file.find('(held by C code)').edges[0].node
            self.assertEqual((made.name, made.edges[0].name),
                             (f'{cut}.{cut}', name))

    def test_calls(self):
        def build(depth):
            return build(depth - 1) if depth else [bytes(5000)]

        with Tracing(20):
            kept = build(3)
            snapshot = tracemalloc.take_snapshot(references=True)
        file = HeapFile(snapshot)
        made, = [node for node in file.nodes if node.size >= 5000
                 and node.name == 'bytes']
        line = build.__code__.co_firstlineno + 1
        number, lines = made.trace, []
        while number is not None:
            call = file.calls[number]
            lines.append((call.name.rpartition('.')[2], call.line))
            number = call.caller
        self.assertEqual(lines[:4], [('build', line)] * 4)
        self.assertEqual(lines[-1], ('(root)', 0))
        self.assertEqual(sum(node.size for node in file.nodes),
                         self.total(snapshot))
        del kept

    def test_a_write_that_fails(self):
        class Full(Exception):
            pass

        calls = []

        def write(data):
            calls.append(len(data))
            raise Full

        with self.assertRaises(Full):
            catalogue(20_000).snapshot()._write_heapsnapshot(write)
        self.assertEqual(len(calls), 1)


class Opened:
    """What another program makes of a file."""

    def check(self, snapshot, graph_size):
        rows = self.rows_of(snapshot)
        file = HeapFile(snapshot)
        self.assertEqual([row[:4] for row in rows],
                         [[node.id, node.type, node.name, node.size]
                          for node in file.nodes])
        # It works out dominators by itself.
        held = retained(snapshot)
        lonely = set(id(edge.node) for edge in
                     file.find('(held by nobody)').edges)
        self.assertEqual(len(held), graph_size)
        for number in range(1, graph_size):
            node = file.nodes[number + FIRST]
            if id(node) not in lonely:
                self.assertEqual(rows[number + FIRST][4], held[number],
                                 node)
        self.assertEqual(rows[0][4], sum(node.size for node in file.nodes))

    def test_catalogue(self):
        graph = catalogue(50)
        self.check(graph.snapshot(), len(graph.objects))

    def test_random_graphs(self):
        for seed in range(3):
            with self.subTest(seed=seed):
                rng = random.Random(seed)
                made = heap_graphs.random_graph(rng, 200)
                self.check(heap_graphs.make_snapshot(*made), len(made[0]))


class MemlabTest(Opened, unittest.TestCase):
    def rows_of(self, snapshot):
        return memlab(snapshot)[0]

    def test_way(self):
        _, path = memlab(catalogue(3).snapshot(), 'bound method '
                                                  'Basket.refresh')
        self.assertEqual(path[1:4], ['listeners', 'CATALOGUE', '__dict__'])


@unittest.skipUnless(EXECUTABLE, 'needs chromium')
class DevToolsTest(Opened, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.__exit__)
        cls.browser.send('Page.navigate', url=_DEVTOOLS + 'devtools_app.html')
        cls.browser.run('''new Promise(done => {
            document.readyState === 'complete' ? done()
                : addEventListener('load', done); }).then(() => 1)''')
        try:
            cls.browser.run(f"import('{_DEVTOOLS}{_WORKER}').then(() => 1)")
        except RuntimeError as exc:
            raise unittest.SkipTest(f'this Chromium has no DevTools: {exc}')

    def rows_of(self, snapshot):
        out = io.BytesIO()
        snapshot._write_heapsnapshot(out.write)
        worker = _OPEN.replace('WORKER', repr(_DEVTOOLS + _WORKER)) % 7
        return self.browser.run(
            f'{worker}({json.dumps(out.getvalue().decode())})')

    def test_all_are_reached(self):
        rows = self.rows_of(catalogue(10).snapshot())
        # By objects, not by what the root alone holds.
        self.assertLess(max(distance for *_, distance in rows[1:]), 20)
        basket, = {tuple(row[1:]) for row in rows if row[2] == 'shop.Basket'}
        self.assertEqual(basket[:4], ('object', 'shop.Basket', 160, 2560))

    def test_stack(self):
        rows = self.rows_of(catalogue(1).snapshot())
        number, = [i for i, row in enumerate(rows) if row[2] == 'shop.Basket']
        frame, *_ = self.browser.run(f'heap.allocationStack({number} * 7)')
        self.assertEqual((frame['scriptName'], frame['line']), SITE)


class CommandTest(CommandCase):
    def test_report(self):
        take('shop.tracemalloc')
        self.assertEqual(
            self.ok('report', 'shop.tracemalloc', '--format', 'heapsnapshot'),
            'Wrote shop.heapsnapshot\n')
        with open('shop.heapsnapshot', 'rb') as file:
            data = file.read()
        self.assertIn('shop.Basket', json.loads(data)['strings'])
        self.ok('report', 'shop.tracemalloc', '-o', 'other.heapsnapshot',
                '--by', 'holder')
        with open('other.heapsnapshot', 'rb') as file:
            self.assertEqual(file.read(), data)

    def test_filters(self):
        take('shop.tracemalloc')
        self.ok('report', 'shop.tracemalloc', '-o', 'x.heapsnapshot',
                '--include', '*/shop.py:17')
        with open('x.heapsnapshot', 'rb') as file:
            sizes = json.load(file)['nodes'][3::7]
        why = tracemalloc.Snapshot.load('shop.tracemalloc').why(
            site='*/shop.py:17')
        self.assertEqual((sum(sizes), sum(map(bool, sizes))),
                         (why.size, 1000))

    def test_refused(self):
        take('shop.tracemalloc')
        take('none.tracemalloc', references=False)
        for status, pattern, *args in (
                (1, 'none.tracemalloc: the snapshot has no references: '
                    'record', 'report', 'none.tracemalloc'),
                (2, 'heapsnapshot shows one snapshot; use', 'diff',
                 'shop.tracemalloc', 'shop.tracemalloc'),
                (2, 'shows who holds what is live; leave out', 'report',
                 'shop.tracemalloc', '--what', 'total'),
                (2, 'shows who holds what is live; leave out', 'report',
                 'shop.tracemalloc', '--by', 'type')):
            with self.subTest(pattern):
                self.refused(status, pattern, *args, '--format',
                             'heapsnapshot')


if __name__ == '__main__':
    unittest.main()
