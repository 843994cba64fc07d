"""The graph of references of a snapshot: in files, copies, filters."""

import os
import pickle
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest

import _testtracer
import tracemalloc
from test.support import threading_helper
from test.test_pytracemalloc.heap_graphs import (
    IMMORTAL, NFIXED, UNCOUNTED, get_graph, make_snapshot, random_graph)
from test.test_pytracemalloc.load_memory import check_memory, counts_memory
from test.test_pytracemalloc.snapshot_sections import (
    Reader, difference, join, number, number_of, read_texts, sections)
from tracemalloc import DomainFilter, Filter, Snapshot

# The root and the other three that are no objects; a type, an instance of a
# shape with two names, a list of a string and nothing else.
FIXED = [(0, 0, 0, 0, None, ()), (0, 0, 5, 0, None, (4,)),
         (0, 0, 0, 0, None, ()), (0, 0, 0, 0, None, ())]
SMALL = FIXED + [
    (0x1000, 4, 6, IMMORTAL, 'Basket', ()),
    (0x1040, 4, 7, 2, None, (6, 0, 5)),
    (0x1080, 4, 3, 0, None, (7, 7)),
    (0x10c8, 4, 0, UNCOUNTED, 'price', ())]
SHAPES = [(13, ('sys.modules',)), (7, ()), (0, ('.items', '__dict__'))]
BUFFERS = [(0x2000, 6), (0xf000, 5)]


class GraphCase(unittest.TestCase):

    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = os.path.join(folder, 'x.tracemalloc')

    def image(self, snapshot):
        snapshot.dump(self.path)
        with open(self.path, 'rb') as file:
            return file.read()

    def load(self, image):
        """Load it, and look at all of it."""
        with open(self.path, 'wb') as file:
            file.write(image)
        snapshot = Snapshot.load(self.path)
        snapshot._read_references()
        return snapshot

    def use(self, snapshot):
        """Work out all that can be, of a graph that may make no sense."""
        objects = get_graph(snapshot)[0]
        str(snapshot.holders(0))
        for address, _, _, _, text, _ in objects[-5:]:
            str(snapshot.why(address=max(1, address)))
            if text is not None:
                str(snapshot.why(type=text))
        str(snapshot.why(site='app.py:16'))
        for key in 'type', 'lineno', 'type+lineno', 'module':
            str(snapshot.retained(key))

    def small(self):
        return make_snapshot(SMALL, SHAPES, BUFFERS)


class FileTests(GraphCase):

    def check(self, *graph):
        snapshot = make_snapshot(*graph)
        self.assertEqual(get_graph(snapshot), graph)
        snapshot.dump(self.path)
        again = Snapshot.load(self.path)
        self.assertEqual(get_graph(again), graph)
        self.assertEqual(again.traces, snapshot.traces)

    def test_small(self):
        self.check(SMALL, SHAPES, BUFFERS, False)
        self.check(SMALL, SHAPES, BUFFERS, True)
        self.check(FIXED[:1] * NFIXED, [], [], False)

    def test_random(self):
        for seed in range(60):
            with self.subTest(seed):
                rng = random.Random(seed)
                self.check(*random_graph(rng, rng.randrange(NFIXED + 1, 300)))
                self.use(Snapshot.load(self.path))

    def test_larger_than_the_buffer_of_the_writer(self):
        rng = random.Random(7)
        self.check(*random_graph(rng, 60_000))
        self.assertGreater(os.path.getsize(self.path), 600_000)

    def test_extremes(self):
        top = 2 ** 64 - 1
        objects = FIXED[:1] * NFIXED + [
            (top, 7, 0, UNCOUNTED - 1, None, (7,) * 1000),
            (1, 0, 5, 0, None, (0,) * 300),
            (top - 1, 6, 5, IMMORTAL, 'x', (4,) * 300),
            (2 ** 63, 4, 0, 1, None, ())]
        self.check(objects, [(13, tuple(map(str, range(300))))],
                   [(top, 5), (0, 4), (1, 7)], True)

    def test_no_references(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for traces in True, False:
            snapshot = tracemalloc.take_snapshot(traces)
            found = dict(sections(self.image(snapshot)))
            self.assertEqual(found[b'HEAP'], b'\0')
            self.assertIsNone(get_graph(Snapshot.load(self.path)))

    def test_older_versions(self):
        snapshot = self.small()
        found = dict(sections(self.image(snapshot)))
        missing = [b'NEXT', b'HEAP', b'HIST', b'POOL', b'NATV']
        for version in 3, 4, 5, 6, 7:
            again = self.load(join([item for item in found.items()
                                    if item[0] not in missing], version))
            self.assertEqual(again.traces, snapshot.traces)
            self.assertEqual(get_graph(again) is None, version < 5)
            self.assertEqual(again.history, [])
            self.assertIsNone(again.arena_use.classes)
            del missing[0]
        with self.assertRaisesRegex(ValueError, "not the section"):
            self.load(join(found.items(), 4))

    def test_layout(self):
        """The section is as the documentation says."""
        snapshot = self.small()
        found = dict(sections(self.image(snapshot)))
        # Texts: an empty one, those of two objects, three names.
        self.assertEqual(found[b'HEAP'], b''.join([
            bytes([1, 3]),              # no keys, addresses / 8
            bytes([3, 3]),              # names, shapes
            bytes([13, 1]), difference(3),
            bytes([7, 0]),
            bytes([0, 2]), difference(1), difference(1),
            bytes([6, 8]),              # references, objects
            # The root; the interpreter of shape 5, without a type, with one
            # reference, 4 beyond 0; static types and threads without any.
            bytes([0, 0b11, 5, 1, 1, 2 + 2 * 4]),
            bytes([0b11, 0, 1, 0, 0]),
            # Its address is far.  Shape 6, of type 4, immortal, text.
            bytes([0b1101 | 15 << 4]), difference(0x1000 // 8),
            bytes([6, 2 + 2 * 4, 1, 1 + 2 * 1]),
            # 8 * 8 bytes further; 3 references, 2 of nobody, no text.
            bytes([0b1111 | 8 << 4, 7, 2 + 2 * 4, 3, 2 + 2, 0]),
            bytes([0, 1, 2 + 2 * 5]),   # to next, to none, 5 beyond 0
            bytes([0b111 | 8 << 4, 3, 2 + 2 * 4, 2, 2]),
            bytes([0, 2 + 2 * 7]),
            # Uncounted, with the text that is next.
            bytes([0b1111 | 9 << 4, 0, 2 + 2 * 4, 0, 0, 1]),
            # Buffers.
            bytes([2]), difference(6), difference((0x2000 - 0x1080) // 8),
            difference(-1), difference((0xf000 - 0x1040) // 8)]))


class DocumentedTests(GraphCase):
    """Another reader, written by the documentation, finds the same."""

    def check(self, snapshot):
        found = dict(sections(self.image(snapshot)))
        reader = Reader(found[b'HEAP'], read_texts(found[b'TEXT']))
        self.assertEqual(reader.graph(), get_graph(snapshot))

    def test_random(self):
        for seed in range(20):
            with self.subTest(seed):
                rng = random.Random(seed)
                self.check(make_snapshot(*random_graph(rng, 200)))

    def test_live(self):
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.check(tracemalloc.take_snapshot(references=True, keys=True))


class DamageTests(GraphCase):

    def replace(self, payload):
        """The small one with another section; its texts come last."""
        found = dict(sections(self.image(self.small())))
        found[b'HEAP'] = payload
        return join(found.items())

    def rejects(self, image, reason):
        with self.assertRaisesRegex(ValueError, reason + r".* at offset \d+$"):
            self.load(image)

    def heap(self):
        return dict(sections(self.image(self.small())))[b'HEAP']

    def test_truncated(self):
        whole = self.heap()
        for size in range(len(whole)):
            with self.subTest(size):
                self.rejects(self.replace(whole[:size]), '')
        self.rejects(self.replace(whole + b'x'), 'longer than its records')

    def test_bit_flips(self):
        """With the right checksum each is a graph, or refused."""
        whole = self.heap()
        outcomes = {True: 0, False: 0}
        for i in range(len(whole)):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[i] ^= 1 << bit
                try:
                    snapshot = self.load(self.replace(bytes(damaged)))
                except ValueError as error:
                    self.assertRegex(str(error), r'at offset \d+$')
                    outcomes[False] += 1
                else:
                    graph = get_graph(snapshot)
                    snapshot.dump(self.path)
                    self.assertEqual(get_graph(Snapshot.load(self.path)),
                                     graph)
                    self.use(snapshot)
                    outcomes[True] += 1
        self.assertGreater(min(outcomes.values()), 100)

    def test_hostile_records(self):
        huge = b'\xff\xff\xff\xff\xff\xff\xff\xff\xff\1'
        shapes = b'\1\0\0\0'         # addresses as they are, no shapes
        for payload, reason in (
            (b'', "section ends inside a number"),
            (b'\3', "none of 0, 1 and 2"),
            (b'\0\0', "longer than its records"),
            (b'\1\x11', "shifted too far"),
            (b'\1\0' + huge, "more records than"),
            (b'\1\0\0' + huge, "more records than"),
            (b'\1\0\0\1\x0f\0', "no such kind of object"),
            (b'\1\0\0\1\0\1', "more names than there are"),
            (b'\1\0\1\0\0', "names of no shape"),
            (b'\1\0\1\1\0\1\1\0', "no such text"),
            (shapes + huge, "more records than"),
            (shapes + b'\0' + huge, "more records than"),
            (shapes + b'\0\3\0\0\0', "too few or too many objects"),
            (shapes + b'\0\4\2\0\0\0', "section ends inside a record"),
            (shapes + b'\0\4\1\5\0\0\0', "no such shape"),
            (shapes + b'\0\4\1\0\x0a\0\0\0', "no such object"),
            (shapes + b'\0\4\1\0\3\0\0\0', "no such object"),
            (shapes + b'\0\4\1\0\2\0\0\0', "no such object"),
            (shapes + b'\0\4\2\1\0\0\0', "more references than there are"),
            (shapes + b'\0\4\2' + huge + b'\0\0\0', "more references than"),
            (shapes + b'\1\4\0\0\0\0\0', "references of no object"),
            (shapes + b'\1\4\2\1\4\2\0\0\0\0', "references of the root"),
            (shapes + b'\1\4\0\2\1\x0c\2\0\0\0', "no such object"),
            (shapes + b'\0\4\4' + huge + b'\0\0\0', "too many references"),
            (shapes + b'\0\4\x08' + huge + b'\0\0\0', "no such text"),
            (shapes + b'\0\4\xf0' + b'\xff' * 12, "number too large"),
            (b'\1\0\1\1\0\1\0\0\4\1\5\1\0\0\0',
             "fewer references than names"),
            (shapes + b'\0\4\0\0\0\0' + huge, "more records than"),
            (shapes + b'\0\4\0\0\0\0\1\x0a\0', "no such object"),
        ):
            with self.subTest(payload=payload, reason=reason):
                self.rejects(self.replace(payload), reason)

    def test_references_are_read_when_they_are_asked_for(self):
        image = self.replace(self.heap() + b'x')
        with open(self.path, 'wb') as file:
            file.write(image)
        snapshot = Snapshot.load(self.path)
        self.assertTrue(snapshot.has_references)
        self.assertTrue(snapshot.statistics('lineno'))
        less = snapshot.filter_traces([Filter(False, 'x.py')])
        other = os.path.join(os.path.dirname(self.path), 'other.tracemalloc')
        for snapshot in snapshot, less:
            for ask in (lambda: snapshot.holders(),
                        lambda: snapshot.retained('type'),
                        lambda: snapshot.why(type='int'),
                        lambda: snapshot.dump(other),
                        lambda: snapshot._write_heapsnapshot(None)):
                with self.assertRaisesRegex(
                        ValueError, r'^section is longer than its records '
                                    r'at offset \d+$'):
                    ask()
        self.assertFalse(os.path.exists(other))

    def test_references_are_read_by_threads(self):
        rng = random.Random(3)
        graph = random_graph(rng, 20_000)
        make_snapshot(*graph).dump(self.path)
        snapshot = Snapshot.load(self.path)
        copies = [snapshot.filter_traces([]) for _ in range(4)]
        found = []
        threads = [threading.Thread(target=lambda copy=copy: found.append(
            get_graph(copy) == graph)) for copy in copies]
        with threading_helper.start_threads(threads):
            pass
        self.assertEqual(found, [True] * 4)

    def test_text_after_the_last(self):
        """What follows the last text as the next one is none."""
        last = number_of(dict(sections(self.image(self.small())))[b'TEXT'])
        self.rejects(self.replace(
            b'\1\0\0\0\0\4\x08' + number(1 + 2 * (last - 1)) + b'\0\0\0'),
            "no such text")

    def test_references_without_traces(self):
        tracemalloc.start()
        snapshot = tracemalloc.take_snapshot(traces=False)
        tracemalloc.stop()
        found = dict(sections(self.image(snapshot)))
        found[b'HEAP'] = b'\1\0\0\0\0\4\0\0\0\0\0'
        self.rejects(join(found.items()), "references without traces")

    @counts_memory
    def test_memory_is_bounded_by_the_size(self):
        n = 1_000_000
        shapes = b'\1\0\0\0'
        for payload in (
            shapes + b'\0' + number(n) + bytes(n) + b'\0',
            shapes + number(n) + b'\4\0\2' + number(n) + b'\1' * n
            + b'\2\0\0\0',
            shapes + b'\0\4\0\0\0\0' + number(n) + bytes(2 * n),
            b'\1\0\0' + number(n) + bytes(2 * n) + b'\0\4\0\0\0\0\0',
            b'\1\0' + number(n) + b'\1\0' + number(n) + bytes(n)
            + b'\0\4\0\0\0\0\0',
        ):
            with self.subTest(payload=payload[:12]):
                image = self.replace(payload)
                self.assertIsNotNone(get_graph(self.load(image)))
                check_memory(self, self.path, 51 * len(image) + 4_000_000)


class CopyTests(GraphCase):
    """What is made of a snapshot has the graph, if it has blocks."""

    def test_what_keeps_it(self):
        snapshot = self.small()
        graph = get_graph(snapshot)
        self.assertIsNotNone(graph)
        traces = snapshot.traces._traces
        for name, copy in {
            'copy': traces.copy(),
            'no filters': snapshot.filter_traces([]),
            'filter': snapshot.filter_traces([Filter(False, __file__)]),
            'domain': snapshot.filter_traces([DomainFilter(True, 0)]),
            'select': traces._select(bytes(len(traces))),
            'fold': snapshot.fold_imports(),
            'my code': snapshot.my_code(),
            'folded twice': snapshot.my_code().fold_imports(),
        }.items():
            with self.subTest(name):
                copy = getattr(getattr(copy, 'traces', copy), '_traces', copy)
                self.assertEqual(_testtracer.get_graph(copy), graph)
        folded = snapshot.my_code()
        del snapshot, traces, copy
        folded.dump(self.path)
        self.assertEqual(get_graph(Snapshot.load(self.path)), graph)
        self.assertEqual(get_graph(folded), graph)

    def test_what_drops_it(self):
        snapshot = self.small()
        self.assertIsNone(get_graph(snapshot.peak))
        for peak in snapshot.peaks:
            self.assertIsNone(get_graph(peak))
        self.assertIsNone(get_graph(pickle.loads(pickle.dumps(snapshot))))
        snapshot.dump(self.path, format='pickle')
        self.assertIsNone(get_graph(Snapshot.load(self.path)))

    def test_statistics_are_as_without(self):
        with_graph = self.small()
        found = dict(sections(self.image(with_graph)))
        found[b'HEAP'] = b'\0'
        without = self.load(join(found.items()))
        for key in 'lineno', 'module', 'type', 'traceback', 'address':
            self.assertEqual(list(with_graph.statistics(key)),
                             list(without.statistics(key)))
        self.assertEqual(with_graph.call_tree().nodes,
                         without.call_tree().nodes)

    @counts_memory
    def test_it_goes_with_the_last_that_has_it(self):
        code = textwrap.dedent("""
            import random, sys
            from test.test_pytracemalloc.heap_graphs import *
            from tracemalloc import Filter, Snapshot
            def resident():
                with open('/proc/self/statm') as file:
                    return int(file.read().split()[1]) * 4096
            graph = random_graph(random.Random(1), 20_000)
            make_snapshot(*graph).dump(sys.argv[1])
            for i in range(120):
                if i == 20:
                    before = resident()
                snapshot = Snapshot.load(sys.argv[1])
                folded = snapshot.my_code()
                left = folded.filter_traces([Filter(False, 'x')])
                del snapshot, folded, left
            print(resident() - before)
        """)
        child = subprocess.run([sys.executable, '-c', code, self.path],
                               capture_output=True, text=True)
        self.assertEqual((child.returncode, child.stderr), (0, ''))
        # The graph takes a megabyte.
        self.assertLess(int(child.stdout), 20_000_000)


class Shop:
    pass


class RecordTests(GraphCase):
    """take_snapshot(references=True)"""

    def setUp(self):
        super().setUp()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.shop = Shop()
        self.shop.opening_hours = {'of a customer %d' % i: ('value', i)
                                   for i in range(50)}

    def texts(self, snapshot):
        objects, shapes, _, _ = get_graph(snapshot)
        return {text for *_, text, _ in objects}.union(
            *[names for _, names in shapes])

    def test_only_if_asked_for(self):
        for arguments in (), (True,), (False,), (True, False):
            snapshot = tracemalloc.take_snapshot(*arguments)
            self.assertIs(snapshot.has_references, False)
            self.assertIsNone(get_graph(snapshot))
        snapshot = tracemalloc.take_snapshot(references=True)
        self.assertIs(snapshot.has_references, True)
        self.assertIs(snapshot.filter_traces([]).has_references, True)
        self.assertIs(snapshot.peak.has_references, False)

    def test_bad_arguments(self):
        for arguments, reason in (
                ((False, True), 'references need traces'),
                ((True, False, True), 'add references=True'),
                ((False, False, True), 'add references=True')):
            with self.assertRaisesRegex(ValueError, reason):
                tracemalloc.take_snapshot(*arguments)
        tracemalloc.stop()
        with self.assertRaisesRegex(RuntimeError, 'must be tracing'):
            tracemalloc.take_snapshot(references=True)

    def test_keys(self):
        texts = self.texts(tracemalloc.take_snapshot(references=True))
        self.assertIn('RecordTests', texts)
        self.assertIn('.opening_hours', texts)
        self.assertNotIn('of a customer 7', texts)
        snapshot = tracemalloc.take_snapshot(references=True, keys=True)
        self.assertTrue(get_graph(snapshot)[3])
        self.assertIn('of a customer 7', self.texts(snapshot))

    def test_values_are_not_recorded(self):
        self.shop.opening_hours['x'] = 'a value ' + str(os.getpid())
        value = self.shop.opening_hours['x'].encode()
        for keys in False, True:
            image = self.image(tracemalloc.take_snapshot(True, True, keys))
            self.assertNotIn(value, image)
            self.assertEqual(b'of a customer 7' in image, keys)

    def test_round_trip(self):
        for keys, pause in (0, 1), (1, 1), (0, 0), (1, 0):
            if not pause and sys.platform != 'linux':
                continue
            snapshot = tracemalloc.take_snapshot(True, True, keys, pause)
            self.assertEqual(get_graph(snapshot)[3], bool(keys))
            self.image(snapshot)
            self.assertEqual(get_graph(Snapshot.load(self.path)),
                             get_graph(snapshot))

    def test_size(self):
        """At most 10 bytes an object and 3.5 a reference, with all texts."""
        self.shop.items = [[Shop(), str(i), (i, 'x')] for i in range(20_000)]
        for item in self.shop.items:
            item[0].item = item
        snapshot = tracemalloc.take_snapshot(references=True)
        found = dict(sections(self.image(snapshot)))
        objects = get_graph(snapshot)[0]
        self.assertGreater(len(objects), 100_000)
        nreferences = sum(len(references) for *_, references in objects)
        self.assertLess(len(found[b'HEAP']) + len(found[b'TEXT']),
                        10 * len(objects) + 3.5 * nreferences)

    def test_looking_changes_nothing(self):
        def change(*arguments):
            for _ in range(3):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.take_snapshot(*arguments)
                after = tracemalloc.get_traced_memory()[0]
            return after - before
        self.assertEqual(change(True, True, True), change(True, False, False))


if __name__ == '__main__':
    unittest.main()
