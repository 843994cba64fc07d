"""Any graph gets an answer, and an end: kinds, names and types that make no
sense; and without memory there is a MemoryError."""
import random
import subprocess
import sys
import textwrap
import unittest

from test import support
from test.support import import_helper
from test.test_pytracemalloc import heap_graphs
from test.test_pytracemalloc.helpers import (
    CRASHES_WITHOUT_MEMORY, FLAVOUR, SANITIZED)
from test.test_pytracemalloc.made_graphs import TYPE
from test.test_pytracemalloc.test_graph_why import SITE, catalogue

_testcapi = import_helper.import_module('_testcapi')
KEYS = 'type', 'lineno', 'type+lineno', 'function', 'filename', 'module'
# Names that kinds of objects have, wherever they stand.
NAMES = ('__dict__', '__name__', '__qualname__', '__module__', '__code__',
         '__closure__', '__func__', '__self__', 'code', 'co_filename',
         'co_qualname', 'sys.modules', 'local x', 'closure y', '.a', '')


def questions(snapshot):
    """Yield functions that ask."""
    yield lambda: snapshot.holders(least=0)
    yield snapshot.holders
    for key in KEYS:
        yield lambda key=key: snapshot.retained(key)
    yield lambda: snapshot._write_heapsnapshot(len)
    yield lambda: snapshot.why(site=SITE)
    yield lambda: snapshot.why(site=('*', None), all_frames=True)
    for number, name in snapshot.traces._traces._graph_types()[:20]:
        if name is not None:
            yield lambda name=name: snapshot.why(type=name, most=50)


def rename(rng, shapes):
    """Give shapes other names; no two are equal."""
    renamed = []
    for kind, names in shapes:
        while (shape := (kind, tuple(rng.choice(NAMES) for _ in names))) in (
                renamed):
            kind = rng.randrange(heap_graphs.NKINDS)
        renamed.append(shape)
    return renamed


class HostileTest(unittest.TestCase):
    def ask(self, snapshot, addresses=()):
        for ask in questions(snapshot):
            answer = ask()
            self.assertIsInstance(str(answer), str)
        for address in addresses:
            self.assertIsInstance(str(snapshot.why(address=address)), str)
        stack = [snapshot.holders(least=0)]
        while stack:
            holder = stack.pop()
            self.assertIsInstance(str(holder), str)
            self.assertEqual(holder.retained, holder.size + sum(
                child.retained for child in holder.children))
            stack += holder.children

    def test_random_graphs(self):
        for seed in range(40):
            with self.subTest(seed=seed):
                rng = random.Random(seed)
                objects, shapes, buffers, keys = heap_graphs.random_graph(
                    rng, rng.randrange(5, 300))
                shapes = rename(rng, shapes)
                snapshot = heap_graphs.make_snapshot(objects, shapes, buffers,
                                                     keys)
                self.ask(snapshot, [address for address, *_ in objects[4:9]
                                    if address])

    def test_addresses_and_types_at_random(self):
        # Of objects that have blocks, some of them the same.
        for seed in range(20):
            with self.subTest(seed=seed):
                rng = random.Random(seed)
                graph = catalogue(10)
                addresses = [made.address for made in graph.objects[4:]]
                for made in graph.objects[4:]:
                    made.address = rng.choice(addresses)
                    made.type = rng.randrange(len(graph.objects))
                rng.shuffle(graph.blocks)
                self.ask(graph.snapshot(), addresses[:3])

    def test_types_with_a_large_dictionary(self):
        # Each would be looked through for the name of the module.
        graph = catalogue(1)
        names = [graph.name(f'n{i}') for i in range(20_000)]
        namespace = graph.namespace()
        namespace.references = [name for name in names for _ in range(2)]
        for _ in range(20_000):
            graph.add(TYPE, __dict__=namespace, __name__=names[0], surplus=1)
        snapshot = graph.snapshot()
        self.assertEqual(snapshot.why(type='Basket').count, 1)
        self.assertTrue(snapshot.retained('type'))


class PressureTest(unittest.TestCase):
    @unittest.skipIf(support.Py_DEBUG or FLAVOUR == 'disable',
                     "CPython's own dicts need memory here")
    @unittest.skipIf(CRASHES_WITHOUT_MEMORY, 'CPython 3.15.0rc1 crashes there')
    def test_python_objects(self):
        traces = catalogue(20).traces()
        types = [number for number, _ in traces._graph_types()]
        expected = [traces._holders(0), traces._retained('lineno', None),
                    traces._why(types, False, 3)]
        asked = (lambda: traces._holders(0),
                 lambda: traces._retained('lineno', None),
                 lambda: traces._why(types, False, 3))
        for ask, answer in zip(asked, expected):
            failures = 0
            for n in range(1, 20_000):
                _testcapi.set_nomemory(n, n + 1)
                try:
                    result = ask()
                except MemoryError:
                    failures += 1
                    continue
                finally:
                    _testcapi.remove_mem_hooks()
                self.assertEqual(result, answer)
                if n > failures + 50:
                    break
            self.assertGreater(failures, 3)

    @unittest.skipIf(support.Py_DEBUG or FLAVOUR == 'disable',
                     "CPython's own dicts need memory here")
    @unittest.skipIf(CRASHES_WITHOUT_MEMORY, 'CPython 3.15.0rc1 crashes there')
    def test_heapsnapshot(self):
        traces = catalogue(2000).traces()
        expected = []
        traces._write_heapsnapshot(expected.append)
        self.assertGreater(len(expected), 3)
        failures = 0
        for n in range(1, 200):
            written = []
            _testcapi.set_nomemory(n, n + 1)
            try:
                traces._write_heapsnapshot(written.append)
            except MemoryError:
                failures += 1
                continue
            finally:
                _testcapi.remove_mem_hooks()
            self.assertEqual(written, expected)
        self.assertGreater(failures, 3)

    @unittest.skipIf(SANITIZED, 'a sanitizer needs the address space')
    def test_address_space(self):
        process = subprocess.run([sys.executable, '-c', textwrap.dedent('''
            import resource
            from test.test_pytracemalloc.test_graph_why import catalogue
            arrays = catalogue(30_000).arrays()
            from test.test_pytracemalloc.made_graphs import adopt
            from tracemalloc import Snapshot

            def ask():
                snapshot = Snapshot(adopt(arrays), 1)
                return (snapshot.holders().retained,
                        snapshot.retained('type')[0].retained,
                        snapshot.why(type='Basket').retained)

            expected = ask()
            def mapped():
                with open('/proc/self/statm') as file:
                    return int(file.read().split()[0]) * resource.getpagesize()
            failures = 0
            for room in range(0, 1 << 28, 1 << 17):
                resource.setrlimit(resource.RLIMIT_AS, (
                    mapped() + room, resource.RLIM_INFINITY))
                try:
                    answer = ask()
                except MemoryError:
                    failures += 1
                    continue
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, (
                        resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                assert answer == expected, answer
                break
            print(failures)
            ''')], capture_output=True, text=True)
        self.assertEqual((process.returncode, process.stderr), (0, ''))
        self.assertGreater(int(process.stdout), 10)


if __name__ == '__main__':
    unittest.main()
